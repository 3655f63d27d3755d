//! What `sovereign restore` into the running site says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sovereign_model::{DatacenterName, EdgeName, SiteName};

use crate::commands::backup::short;
use crate::failure::Reason;
use crate::output::{Page, Report, StageTime, figures};

/// What took the place of a site's data.
#[derive(Debug, Serialize)]
pub(super) struct InPlace {
    pub(super) site: SiteName,
    pub(super) datacenter: DatacenterName,
    /// Which snapshot; `None` for what a restore before had replaced.
    pub(super) snapshot: Option<String>,
    pub(super) taken_unix: Option<i64>,
    /// The number of the restore that had replaced it.
    pub(super) undone: Option<u32>,
    /// Begun by a run that was cut off.
    pub(super) resumed: bool,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// How much of what was written last is not in it any more.
    pub(super) lost_seconds: Option<u64>,
    /// The snapshot that has what was live before.
    pub(super) backed_up: Option<String>,
    pub(super) examined: Option<String>,
    /// Where what was live before is kept.
    pub(super) kept: String,
    /// Whether its application runs, and was asked.
    pub(super) runs: bool,
    /// Edges that show what is live now.
    pub(super) shown: Vec<EdgeName>,
    /// Those that do not yet, and why.
    pub(super) behind: BTreeMap<EdgeName, String>,
    pub(super) remarks: Vec<String>,
    pub(super) stages: Vec<StageTime>,
    pub(super) seconds: f64,
    #[serde(skip)]
    pub(super) now_unix: u64,
}

impl Report for InPlace {
    fn show(&self, page: &mut Page) {
        let site = &self.site;
        let took = figures::duration(Duration::from_secs_f64(self.seconds));
        match (&self.snapshot, self.undone) {
            (Some(snapshot), _) => {
                let taken = u64::try_from(self.taken_unix.unwrap_or_default()).unwrap_or_default();
                let ago = figures::seconds(self.now_unix.saturating_sub(taken));
                page.line(format_args!(
                    "site {site} has the data of snapshot {}, taken {ago} ago; {took}",
                    short(snapshot)
                ));
            }
            (None, _) => page.line(format_args!("site {site} has the data again that was replaced last; {took}")),
        }
        if self.resumed {
            page.line("begun by an earlier run, which was cut off; run the command again for another");
        }
        if let Some(examined) = &self.examined {
            page.line(examined);
        }
        if !self.runs {
            page.line("its application does not run, so it was not asked: `sovereign up`");
        }
        if !self.shown.is_empty() {
            let shown: Vec<_> = self.shown.iter().map(ToString::to_string).collect();
            page.line(format_args!("shown at {}", shown.join(", ")));
        }
        let warning = page.theme().warning;
        for (edge, why) in &self.behind {
            page.line(format_args!("{warning}{edge}{warning:#} does not show all of it yet: {why}"));
        }
        for remark in &self.remarks {
            page.line(format_args!("remark: {remark}"));
        }
        if let Some(lost) = self.lost_seconds.map(figures::seconds) {
            page.line(format_args!("what was written in the {lost} after it is not in it"));
        }
        let also = self
            .backed_up
            .as_ref()
            .map_or(String::new(), |backed_up| format!(", and in snapshot {}", short(backed_up)));
        page.line(format_args!("what was live before is in {}{also}", self.kept));
        page.help(format_args!("`sovereign restore {site} --undo` swaps both; `--discard` removes what is kept"));
    }
}

/// The new data was no good, and the old is back.
#[derive(Debug, thiserror::Error)]
#[error("site {site} did not come to life with that data, so what was live before is live again: {why}")]
pub(super) struct PutBack {
    pub(super) site: SiteName,
    pub(super) why: String,
    pub(super) unwell: Option<String>,
}

impl Reason for PutBack {
    fn help(&self) -> Option<String> {
        Some(match &self.unwell {
            Some(unwell) => format!("it is not well with that either: {unwell}"),
            None => "nothing was changed; `sovereign archive list` names other snapshots".to_owned(),
        })
    }
}

/// A swap that could not be brought to its end.
#[derive(Debug, thiserror::Error)]
#[error("the restore of site {site} is not at its end: {why}")]
pub(super) struct Unfinished {
    pub(super) site: SiteName,
    pub(super) why: String,
    pub(super) help: Option<String>,
}

impl Reason for Unfinished {
    fn help(&self) -> Option<String> {
        let again = format!("`sovereign restore {}` or `sovereign up` goes on from here", self.site);
        Some(self.help.as_ref().map_or(again.clone(), |help| format!("{help}; then {again}")))
    }
}

/// What was removed.
#[derive(Debug, Serialize)]
pub(super) struct Discarded {
    pub(super) site: SiteName,
    pub(super) removed: Vec<String>,
}

impl Report for Discarded {
    fn show(&self, page: &mut Page) {
        if self.removed.is_empty() {
            page.line(format_args!("nothing is kept that restores of site {} have replaced", self.site));
        }
        for removed in &self.removed {
            page.line(format_args!("removed {}", removed));
        }
    }
}
