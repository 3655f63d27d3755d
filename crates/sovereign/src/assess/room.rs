//! Whether a site has the room that it needs at an edge, judged by what it is known to need before that is there. Pure.
//!
//! | it is known to need | `keep = "all"` | `keep = "budget"` |
//! |---|---|---|
//! | less than [`AHEAD`] of its room | | |
//! | more than that | a warning | a warning |
//! | more than its budget | a problem | images and the like are left out, and that is said |
//! | pages alone more than its budget | a problem | a problem |
//! | more than the disk has, whatever the budget | a problem | a problem |

use serde::Serialize;
use sovereign_model::DatacenterName;
use sovereign_model::edge_rules::Keep;
use sovereign_model::edge_status::{RoomReport, SiteStatus};

use super::{Problem, problem};
use crate::output::figures::{bytes, count};

/// In hundredths. The rest is some months of a usual blog: time to buy a disk.
const AHEAD: u128 = 80;

/// How much room a copy has.
#[derive(Debug, Serialize)]
pub(crate) struct CopyRoom {
    /// What happens when it is used up.
    pub(crate) keep: Keep,
    /// The budget, in bytes.
    pub(crate) budget: Option<u64>,
    /// What it could take at most.
    pub(crate) limit: Option<u64>,
    /// Bytes of pages, without images and the like.
    pub(crate) page_bytes: u64,
    /// Pages passed through for want of room.
    pub(crate) left_out: usize,
    /// Their bytes.
    pub(crate) left_out_bytes: u64,
}

impl From<&RoomReport> for CopyRoom {
    fn from(report: &RoomReport) -> Self {
        let RoomReport { keep, budget, limit, page_bytes, left_out, left_out_bytes } = *report;
        Self { keep, budget, limit, page_bytes, left_out, left_out_bytes }
    }
}

impl CopyRoom {
    /// What a site with a budget does without, in a sentence.
    pub(crate) fn left_out_text(&self) -> Option<String> {
        (self.keep == Keep::Budget && self.left_out > 0).then(|| {
            let files = count(self.left_out as u64, "file", "files");
            format!("{files} ({}) left out, read least: passed through when asked for", bytes(self.left_out_bytes))
        })
    }
}

/// What is to be said of a copy's room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Well,
    /// It will not be well.
    Warning(Problem),
    Problem(Problem),
}

/// Judges the room of the copy at `place`.
pub(super) fn judge(subject: &str, place: &DatacenterName, status: &SiteStatus) -> Judgement {
    let Some((room, limit)) = status.room.as_ref().and_then(|room| Some((room, room.limit?))) else {
        return Judgement::Well;
    };
    let needs = status.bytes_known.max(status.bytes);
    let more = "raise its `budget` in the stack file";
    if let Some(budget) = room.budget.filter(|budget| room.page_bytes > *budget) {
        let message = format!("its pages alone take {}, and its budget is {}", bytes(room.page_bytes), bytes(budget));
        return Judgement::Problem(problem(subject, message, Some(more)));
    }
    let by_disk = room.budget.is_none_or(|budget| limit < budget);
    let disk = format!("make room on the disk that the store of edge@{place} lies on");
    let of = if by_disk { "the disk has room for" } else { "its budget is" };
    let message = format!("it needs {}, and {of} {}", bytes(needs), bytes(limit));
    let lets_go = "beyond it, images and the like that are read least are let go";
    match (by_disk, room.keep) {
        _ if u128::from(needs) * 100 < u128::from(limit) * AHEAD => Judgement::Well,
        (false, Keep::Budget) if needs >= limit => Judgement::Well,
        (false, Keep::Budget) => Judgement::Warning(problem(subject, format_args!("{message}: {lets_go}"), Some(more))),
        (true, _) if needs < limit => Judgement::Warning(problem(subject, message, Some(&disk))),
        (true, _) => {
            let passed = without(room, ": nothing new is kept");
            Judgement::Problem(problem(subject, format_args!("{message}{passed}"), Some(&disk)))
        }
        (false, Keep::All) => {
            let help = format!("{more}, or let what is read least go by itself: `keep = \"budget\"`");
            if needs < limit {
                return Judgement::Warning(problem(subject, message, Some(&help)));
            }
            let passed = without(room, ": no more images and the like are kept");
            Judgement::Problem(problem(subject, format_args!("{message}{passed}"), Some(&help)))
        }
    }
}

fn without(room: &RoomReport, nothing_yet: &str) -> String {
    match room.left_out {
        0 => nothing_yet.to_owned(),
        left_out => {
            let files = count(left_out as u64, "file is", "files are");
            format!(": {files} passed through ({})", bytes(room.left_out_bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{site_at, stack, well};
    use super::*;

    const GB: u64 = 1_000_000_000;

    /// What is said of a site that has and needs so much.
    fn said(keep: Keep, budget: Option<u64>, limit: u64, kept: u64, needs: u64) -> String {
        let stack = stack();
        let mut gathered = well(&stack);
        let status = site_at(&mut gathered, "office");
        let left_out = usize::from(needs > limit) * 12;
        let left_out_bytes = needs.saturating_sub(kept);
        (status.bytes, status.bytes_known, status.complete) = (kept, needs, left_out == 0);
        status.room =
            Some(RoomReport { keep, budget, limit: Some(limit), page_bytes: GB / 10, left_out, left_out_bytes });
        match judge("blog at office", &"office".parse().unwrap(), status) {
            Judgement::Well => "well".to_owned(),
            Judgement::Warning(said) => format!("warning: {}; {}", said.message, said.help.unwrap()),
            Judgement::Problem(said) => format!("problem: {}; {}", said.message, said.help.unwrap()),
        }
    }

    #[test]
    fn an_operator_hears_of_it_well_ahead_and_what_to_do() {
        let all = [79, 80, 99, 100, 120].map(|needs| said(Keep::All, Some(10 * GB), 10 * GB, 7 * GB, needs * GB / 10));
        insta::assert_snapshot!(all.join("\n"), @r#"
        well
        warning: it needs 8.0 GB, and its budget is 10.0 GB; raise its `budget` in the stack file, or let what is read least go by itself: `keep = "budget"`
        warning: it needs 9.9 GB, and its budget is 10.0 GB; raise its `budget` in the stack file, or let what is read least go by itself: `keep = "budget"`
        problem: it needs 10.0 GB, and its budget is 10.0 GB: no more images and the like are kept; raise its `budget` in the stack file, or let what is read least go by itself: `keep = "budget"`
        problem: it needs 12.0 GB, and its budget is 10.0 GB: 12 files are passed through (5.0 GB); raise its `budget` in the stack file, or let what is read least go by itself: `keep = "budget"`
        "#);
        let budget =
            [79, 80, 99, 100, 120].map(|needs| said(Keep::Budget, Some(10 * GB), 10 * GB, 7 * GB, needs * GB / 10));
        insta::assert_snapshot!(budget.join("\n"), @r#"
        well
        warning: it needs 8.0 GB, and its budget is 10.0 GB: beyond it, images and the like that are read least are let go; raise its `budget` in the stack file
        warning: it needs 9.9 GB, and its budget is 10.0 GB: beyond it, images and the like that are read least are let go; raise its `budget` in the stack file
        well
        well
        "#);
        let disk = [79, 80, 100, 120].map(|needs| said(Keep::All, None, 10 * GB, 7 * GB, needs * GB / 10));
        insta::assert_snapshot!(disk.join("\n"), @r#"
        well
        warning: it needs 8.0 GB, and the disk has room for 10.0 GB; make room on the disk that the store of edge@office lies on
        problem: it needs 10.0 GB, and the disk has room for 10.0 GB: nothing new is kept; make room on the disk that the store of edge@office lies on
        problem: it needs 12.0 GB, and the disk has room for 10.0 GB: 12 files are passed through (5.0 GB); make room on the disk that the store of edge@office lies on
        "#);
        let smaller = [79, 80, 120].map(|needs| said(Keep::Budget, Some(20 * GB), 10 * GB, 7 * GB, needs * GB / 10));
        insta::assert_snapshot!(smaller.join("\n"), @r#"
        well
        warning: it needs 8.0 GB, and the disk has room for 10.0 GB; make room on the disk that the store of edge@office lies on
        problem: it needs 12.0 GB, and the disk has room for 10.0 GB: 12 files are passed through (5.0 GB); make room on the disk that the store of edge@office lies on
        "#);
        let pages = [Keep::All, Keep::Budget].map(|keep| said(keep, Some(GB / 20), GB / 20, GB / 10, GB / 10));
        insta::assert_snapshot!(pages.join("\n"), @r#"
        problem: its pages alone take 100 MB, and its budget is 50.0 MB; raise its `budget` in the stack file
        problem: its pages alone take 100 MB, and its budget is 50.0 MB; raise its `budget` in the stack file
        "#);
    }

    #[test]
    fn nothing_is_said_of_what_nobody_knows() {
        let stack = stack();
        let mut gathered = well(&stack);
        let status = site_at(&mut gathered, "office");
        status.bytes_known = u64::MAX;
        let place = "office".parse().unwrap();
        assert_eq!(judge("blog at office", &place, status), Judgement::Well, "an older edge");
        let (keep, budget, limit) = (Keep::All, None, None);
        status.room = Some(RoomReport { keep, budget, limit, page_bytes: 0, left_out: 0, left_out_bytes: 0 });
        assert_eq!(judge("blog at office", &place, status), Judgement::Well, "a file system that does not say");
    }
}
