//! Whether the archive would outlive this machine: its copies, how old they are, and what went wrong with them.

use serde::Serialize;
use sovereign_model::archive_copy::CopyPlace;
use sovereign_model::{CopyName, Stack};

use super::archive::{is_late, lasting};
use super::{Problem, problem};
use crate::backup::Record;
use crate::backup::copies::Copies;
use crate::output::figures;

/// How long a disk may be in its drawer.
const DISK_WORRY_SECONDS: u64 = 31 * 86_400;

/// What is known of a copy.
#[derive(Debug, Serialize)]
pub(crate) struct CopyReport {
    /// Its name.
    pub(crate) name: CopyName,
    /// Where it is.
    pub(crate) at: String,
    /// Whether it lacks something that is proven.
    pub(crate) behind: bool,
    /// Seconds since it was found to be what the archive is, or made so.
    pub(crate) in_step_seconds: Option<u64>,
    /// Seconds since all of it was read and was what it should be.
    pub(crate) read_seconds: Option<u64>,
}

/// Judges. Nothing is said before there is an archive, but that it should have a copy.
pub(super) fn judge(
    stack: &Stack,
    record: &Record,
    copies: &Copies,
    now: u64,
    problems: &mut Vec<Problem>,
) -> Vec<CopyReport> {
    let archive = &stack.archive;
    if archive.every.duration().is_some() && archive.copies.is_empty() && !record.proofs.is_empty() {
        let message = "it exists in one place only: what takes or breaks that takes it along";
        let help = "declare a disk, a folder or a host with [[archive.copy]] in the stack file: docs/archive.md";
        problems.push(lasting(problem("archive", message, Some(help))));
    }
    let mut reports = Vec::new();
    for copy in &archive.copies {
        let at = copy.at.to_string();
        let known = copies.of(&copy.name, &at);
        let since = |unix: Option<u64>| unix.map(|unix| now.saturating_sub(unix));
        let in_step_seconds = since(known.and_then(|known| known.in_step_unix));
        // What has not changed since is still in step.
        let has = |snapshot: &String| known.is_some_and(|known| known.snapshots.contains(snapshot));
        let behind = in_step_seconds.is_none() || !record.proofs.values().all(|proof| has(&proof.snapshot));
        let subject = format!("copy {}", copy.name);
        let again = format!("sovereign archive copy {}", copy.name);
        if let Some(trouble) = known.and_then(|known| known.trouble.as_ref()) {
            let ago = figures::seconds(now.saturating_sub(trouble.unix));
            let message = format!("it could not be brought in step {ago} ago: {}", trouble.message);
            problems.push(lasting(problem(&subject, message, Some(&again))));
        } else if behind && !record.proofs.is_empty() {
            let late = match (&copy.at, in_step_seconds) {
                (_, None) => Some("it was never made".to_owned()),
                (CopyPlace::Disk { .. }, Some(seconds)) if seconds > DISK_WORRY_SECONDS => {
                    Some(format!("its disk was here last {} ago", figures::seconds(seconds)))
                }
                (CopyPlace::Disk { .. }, Some(_)) => None,
                (_, Some(seconds)) if is_late(seconds, archive.every) => {
                    Some(format!("it was in step last {} ago", figures::seconds(seconds)))
                }
                (_, Some(_)) => None,
            };
            problems.extend(late.map(|message| lasting(problem(&subject, message, Some(&again)))));
        }
        let read_seconds = since(known.and_then(|known| known.read_unix));
        reports.push(CopyReport { name: copy.name.clone(), at, behind, in_step_seconds, read_seconds });
    }
    reports
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sovereign_model::file;
    use sovereign_model::layout::StateFolder;
    use sovereign_model::stack::Stack;

    use super::super::tests::{proven, stack};
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn with_copies(text: &str) -> Stack {
        let text = format!("{}\n{text}", file::default_file());
        file::parse("stack.toml", &text, Path::new("/")).unwrap()
    }

    /// What is known, as the file says it.
    fn known(text: &str) -> Copies {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("archive")).unwrap();
        let text = format!("{{\"version\":1,\"copies\":{{{text}}}}}");
        std::fs::write(folder.path().join("archive/copies.json"), text).unwrap();
        let read = Copies::read(&StateFolder::new(folder.path()));
        assert!(!read.copies.is_empty());
        read
    }

    fn told(stack: &Stack, copies: &Copies) -> Vec<String> {
        let mut problems = Vec::new();
        judge(stack, &proven(stack, NOW), copies, NOW, &mut problems);
        assert!(problems.iter().all(|problem| problem.help.is_some() && problem.lasting));
        problems.into_iter().map(|Problem { subject, message, .. }| format!("{subject}: {message}")).collect()
    }

    #[test]
    fn one_place_is_not_enough() {
        let alone = with_copies("[archive]\ncopy = []");
        let nothing = Copies::default();
        assert_eq!(
            told(&alone, &nothing),
            ["archive: it exists in one place only: what takes or breaks that takes it along"]
        );
        let mut before_the_first = Vec::new();
        judge(&alone, &Record::default(), &nothing, NOW, &mut before_the_first);
        assert_eq!(before_the_first, []);
        assert_eq!(told(&stack(), &nothing), ["copy office: it was never made"], "the other data center's, by itself");
    }

    #[test]
    fn a_copy_that_does_not_follow_is_said() {
        let stack = with_copies(
            "[[archive.copy]]\nname = \"nas\"\nfolder = \"/nas\"\n\
             [[archive.copy]]\nname = \"drawer\"\ndisk = \"0a1b-2c3d\"\nfolder = \"copy\"",
        );
        let has_all =
            format!("\"nas\":{{\"at\":\"/nas\",\"in_step_unix\":1,\"snapshots\":[\"{}\"]}}", "5ab5".repeat(16));
        let drawer = "copy drawer: it was never made".to_owned();
        assert_eq!(told(&stack, &known(&has_all)), [drawer], "nothing has changed for years");
        let at = |unix: u64| {
            let disk = stack.archive.copies[1].at.to_string();
            format!(
                "\"nas\":{{\"at\":\"/nas\",\"in_step_unix\":{unix}}},\"drawer\":{{\"at\":\"{disk}\",\"in_step_unix\":{unix}}}"
            )
        };
        assert_eq!(told(&stack, &known(&at(NOW - 3600))), Vec::<String>::new());
        assert_eq!(told(&stack, &known(&at(NOW - 86_400))), ["copy nas: it was in step last 1 d 0 h ago"]);
        assert_eq!(
            told(&stack, &known(&at(NOW - 40 * 86_400))),
            ["copy nas: it was in step last 40 d 0 h ago", "copy drawer: its disk was here last 40 d 0 h ago",]
        );
        let trouble = format!(
            "{},\"nas\":{{\"at\":\"/nas\",\"in_step_unix\":{NOW},\"trouble\":{{\"unix\":{},\"message\":\"the disk is full\"}}}}",
            at(NOW),
            NOW - 60
        );
        let trouble = trouble.split_once(",\"drawer\"").map(|(_, rest)| format!("\"drawer\"{rest}")).unwrap();
        assert_eq!(
            told(&stack, &known(&trouble)),
            ["copy nas: it could not be brought in step 1 min 00 s ago: the disk is full"]
        );
    }
}
