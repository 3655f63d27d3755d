//! `up` is killed at every step it begins and at every step it ends, and the next `up` finishes each time.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use support::leaf::operator_with_site;

/// The whole lines of a run in the journal.
fn lines(run: &Path) -> usize {
    fs::read(run).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

#[test]
#[expect(clippy::print_stderr, reason = "how finely the kills told steps apart is worth knowing")]
fn killed_at_every_line_of_its_journal_a_run_is_finished_by_the_next() {
    let mut hit = BTreeSet::new();
    for line in 1.. {
        let operator = operator_with_site();
        let journal = operator.state().join("journal/00000001.jsonl");
        let quiet = Stdio::null;
        let mut run = operator.command(&["up", "--yes"]).stdout(quiet()).stderr(quiet()).spawn().unwrap();
        // No pause between looks: the kill shall come before the next line does.
        let ended = loop {
            if let Some(status) = run.try_wait().unwrap() {
                break Some(status);
            }
            if lines(&journal) >= line {
                run.kill().unwrap();
                run.wait().unwrap();
                break None;
            }
        };
        hit.insert(lines(&journal));
        if let Some(status) = ended {
            assert!(status.success(), "the run that nobody killed");
            break;
        }
        operator.up();
        operator.run(&["plan"]).success();
        operator.run(&["status"]).success();
        let name = format!("leaf.localhost:{}", operator.home_port);
        for port in [operator.home_port, operator.office_port] {
            operator.curl(&name, port, "/about.html", &[]).ok();
        }
        operator.run(&["down", "--purge", "--with-archive", "--yes"]).success();
        assert_eq!(operator.processes(), BTreeSet::new(), "killed at line {line}");
        assert!(!operator.state().exists(), "killed at line {line}: state left behind");
    }
    eprintln!("killed with these numbers of lines written: {hit:?}");
    assert!(hit.len() > 10, "most kills came too late to tell steps apart: {hit:?}");
}
