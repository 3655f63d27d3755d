//! What is backed up, and what is due by the clock: decided from the stack, the record of proofs and the hour. Pure.

use sovereign_archive::Subject;
use sovereign_model::stack::Site;
use sovereign_model::{Interval, Stack};

use super::Record;

/// A subject, and the site that it is.
pub(crate) type Of<'s> = (Subject, Option<&'s Site>);

/// All of a stack that is backed up.
pub(crate) fn subjects(stack: &Stack) -> Vec<Of<'_>> {
    let sites = stack.sites.values().filter(|site| site.is_backed_up());
    let sites = sites.map(|site| (Subject::Site(site.name.clone()), Some(site)));
    let images = stack.archive.images.then_some((Subject::Images, None));
    sites.chain([(Subject::State, None)]).chain(images).collect()
}

/// What a backup is due of. `now` is in seconds since 1970, here and below.
pub(crate) fn backups<'s>(stack: &'s Stack, record: &Record, now: u64) -> Vec<Of<'s>> {
    let last = |subject: &Subject| record.proofs.get(&subject.to_string()).map(|proof| proof.verified_unix);
    let mut of = subjects(stack);
    of.retain(|(subject, _)| stack.archive.every.is_due(last(subject), now));
    of
}

/// What has to be restored and compared as a whole.
pub(crate) fn proofs<'s>(stack: &'s Stack, record: &Record, now: u64) -> Vec<Of<'s>> {
    let is_due = |subject: &Subject| {
        let proof = record.proofs.get(&subject.to_string());
        proof.is_some_and(|proof| stack.archive.prove.is_due(proof.whole_unix, now))
    };
    let mut of = subjects(stack);
    of.retain(|(subject, _)| is_due(subject));
    of
}

/// Seconds until the first of both is due; `None` when nothing is done by the clock.
pub(crate) fn next_in(stack: &Stack, record: &Record, now: u64) -> Option<u64> {
    let left = |last: Option<u64>, interval: Interval| {
        let every = interval.duration()?.as_secs();
        Some(last.map_or(0, |last| last.saturating_add(every).saturating_sub(now)))
    };
    let first = |(subject, _): &Of<'_>| {
        let proof = record.proofs.get(&subject.to_string());
        let backup = left(proof.map(|proof| proof.verified_unix), stack.archive.every);
        let whole = proof.and_then(|proof| left(proof.whole_unix, stack.archive.prove));
        backup.into_iter().chain(whole).min()
    };
    subjects(stack).iter().filter_map(first).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::tests::{proven, stack};

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn names(of: &[Of<'_>]) -> Vec<String> {
        of.iter().map(|(subject, _)| subject.to_string()).collect()
    }

    #[test]
    fn what_is_due_follows_from_what_was_proven_when() {
        let stack = stack();
        let nothing = Record::default();
        assert_eq!(names(&backups(&stack, &nothing, NOW)), ["blog", "(state)"]);
        assert_eq!(names(&proofs(&stack, &nothing, NOW)), Vec::<String>::new(), "of what, as yet");
        assert_eq!(next_in(&stack, &nothing, NOW), Some(0));

        let mut record = proven(&stack, NOW);
        assert_eq!(next_in(&stack, &record, NOW + HOUR), Some(5 * HOUR));
        assert_eq!(names(&backups(&stack, &record, NOW + 6 * HOUR - 1)), Vec::<String>::new());
        assert_eq!(names(&backups(&stack, &record, NOW + 6 * HOUR)), ["blog", "(state)"]);
        assert_eq!(names(&proofs(&stack, &record, NOW + 7 * 24 * HOUR)), ["blog", "(state)"]);
        record.proofs.get_mut("blog").unwrap().whole_unix = None;
        assert_eq!(names(&proofs(&stack, &record, NOW)), ["blog"]);

        let mut by_hand = stack;
        (by_hand.archive.every, by_hand.archive.prove) = (Interval::NEVER, Interval::NEVER);
        assert_eq!((names(&backups(&by_hand, &nothing, NOW)), next_in(&by_hand, &record, NOW)), (Vec::new(), None));
        by_hand.archive.images = true;
        assert_eq!(names(&subjects(&by_hand)), ["blog", "(state)", "(images)"]);
    }
}
