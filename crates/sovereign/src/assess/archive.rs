//! Whether what could be lost is backed up: by proofs, their age, and what went wrong since.

use serde::Serialize;
use sovereign_model::{Interval, Stack};

use super::{Problem, Said, problem};
use crate::backup::{Record, due};
use crate::output::figures;

/// What is due is looked for every quarter of an hour, and takes its time.
const SLACK_SECONDS: u64 = 3600;

/// What is known of the backups of a site, or of the stack's state.
#[derive(Debug, Serialize)]
pub(crate) struct Backed {
    /// Of what.
    pub(crate) of: String,
    /// The snapshot that was proven last.
    pub(crate) snapshot: String,
    /// Seconds since it was found to be what there is.
    pub(crate) verified_seconds: u64,
    /// Seconds since all of it was restored and compared.
    pub(crate) whole_seconds: Option<u64>,
}

/// Judges. All of it lasts: nothing is backed up by waiting.
pub(super) fn judge(stack: &Stack, record: &Record, now: u64, said: &mut Said) -> Vec<Backed> {
    let Said { problems, warnings } = said;
    for site in stack.sites.values().filter(|site| !site.is_backed_up()) {
        let help = "name a program that writes it out, as `dump` of the site: docs/services.md";
        warnings.push(problem(&site.name, "its data is not backed up: only you know it", Some(help)));
    }
    let mut backed = Vec::new();
    for (subject, _) in due::subjects(stack) {
        let of = subject.to_string();
        if let Some(trouble) = record.failures.get(&of) {
            let since = figures::seconds(now.saturating_sub(trouble.since_unix));
            let message = format!("its backup fails since {since}: {}", trouble.message);
            problems.push(lasting(problem(&of, message, trouble.help.as_deref())));
        }
        let Some(proof) = record.proofs.get(&of) else {
            if stack.archive.every.duration().is_some() && !record.failures.contains_key(&of) {
                problems.push(lasting(problem(&of, "no backup of it is proven", Some("sovereign backup"))));
            }
            continue;
        };
        let verified_seconds = now.saturating_sub(proof.verified_unix);
        let whole_seconds = proof.whole_unix.map(|whole| now.saturating_sub(whole));
        let archive = &stack.archive;
        if is_late(verified_seconds, archive.every) {
            let age = figures::seconds(verified_seconds);
            let message = format!("its newest proven backup is {age} old, and one is due every {}", archive.every);
            let help = "`sovereign backup` makes one; `sovereign tick --install` has it done by the clock";
            problems.push(lasting(problem(&of, message, Some(help))));
        }
        if is_late(whole_seconds.unwrap_or(u64::MAX / 2), archive.prove) {
            let message = match whole_seconds {
                Some(seconds) => format!("all of its backup was restored last {} ago", figures::seconds(seconds)),
                None => "all of its backup was never restored".to_owned(),
            };
            let message = format!("{message}, and that is due every {}", archive.prove);
            let help = "`sovereign tick` does it now; `sovereign tick --install` has it done by the clock";
            problems.push(lasting(problem(&of, message, Some(help))));
        }
        backed.push(Backed { of, snapshot: proof.snapshot.clone(), verified_seconds, whole_seconds });
    }
    backed
}

/// Whether something that was done so many seconds ago should have been done again for long.
pub(super) fn is_late(seconds: u64, interval: Interval) -> bool {
    interval.duration().is_some_and(|every| seconds > every.as_secs() + every.as_secs() / 2 + SLACK_SECONDS)
}

pub(super) fn lasting(problem: Problem) -> Problem {
    Problem { lasting: true, ..problem }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{proven, stack};
    use super::*;
    use crate::backup::Trouble;

    const NOW: u64 = 1_800_000_000;

    fn told(stack: &Stack, record: &Record) -> Vec<String> {
        let mut said = Said { problems: Vec::new(), warnings: Vec::new() };
        judge(stack, record, NOW, &mut said);
        let Said { problems, warnings } = said;
        assert_eq!(warnings, []);
        assert!(problems.iter().all(|problem| problem.help.is_some() && problem.lasting));
        problems.into_iter().map(|Problem { subject, message, .. }| format!("{subject}: {message}")).collect()
    }

    #[test]
    fn what_is_not_backed_up_is_said() {
        assert_eq!(
            told(&stack(), &Record::default()),
            ["blog: no backup of it is proven", "(state): no backup of it is proven"]
        );
        assert_eq!(told(&stack(), &proven(&stack(), NOW)), Vec::<String>::new());
        let mut by_hand = stack();
        by_hand.archive.every = Interval::NEVER;
        by_hand.archive.prove = Interval::NEVER;
        assert_eq!(told(&by_hand, &Record::default()), Vec::<String>::new());
        assert_eq!(told(&by_hand, &proven(&by_hand, 0)), Vec::<String>::new());
    }

    #[test]
    fn a_backup_is_late_when_the_next_one_should_have_been_there_for_long() {
        let stack = stack();
        let on_time = proven(&stack, NOW - 10 * 3600);
        assert_eq!(told(&stack, &on_time), Vec::<String>::new());
        assert_eq!(
            told(&stack, &proven(&stack, NOW - 10 * 3600 - 1)),
            [
                "blog: its newest proven backup is 10 h 00 min old, and one is due every 6h",
                "(state): its newest proven backup is 10 h 00 min old, and one is due every 6h",
            ]
        );
        let mut parts_only = proven(&stack, NOW);
        parts_only.proofs.get_mut("blog").unwrap().whole_unix = Some(NOW - 20 * 86_400);
        parts_only.proofs.get_mut("(state)").unwrap().whole_unix = None;
        assert_eq!(
            told(&stack, &parts_only),
            [
                "blog: all of its backup was restored last 20 d 0 h ago, and that is due every 1w",
                "(state): all of its backup was never restored, and that is due every 1w",
            ]
        );
    }

    #[test]
    fn what_failed_is_said_until_it_goes_well() {
        let mut record = proven(&stack(), NOW - 3600);
        let help = Some("free some space".to_owned());
        let trouble = Trouble { since_unix: NOW - 120, message: "the disk is full".to_owned(), help };
        record.failures.insert("blog".to_owned(), trouble);
        assert_eq!(told(&stack(), &record), ["blog: its backup fails since 2 min 00 s: the disk is full"]);
    }
}
