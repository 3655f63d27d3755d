//! Exit codes: an interface that scripts rely on. Add, never renumber.

use std::process::ExitCode;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, and all is well.
    Done = 0,
    /// Something failed; stderr says what, and what to do.
    Failed = 1,
    /// The command line or the stack file is wrong.
    Usage = 2,
    /// `plan`: changes are pending. `status`, `audit`, `dns drift`, `dns adopt`, `cert`: not all is well.
    Attention = 3,
    /// The plan was made against an observation that is no longer true.
    PlanStale = 4,
    /// Stopped by Ctrl-C or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    /// Every code, in order: what `--help` and the documentation list.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] =
        [Self::Done, Self::Failed, Self::Usage, Self::Attention, Self::PlanStale, Self::Interrupted];

    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn codes_are_never_renumbered() {
        let codes: Vec<_> = Exit::ALL.iter().map(|exit| (format!("{exit:?}"), exit.code())).collect();
        insta::assert_compact_debug_snapshot!(codes, @r#"[("Done", 0), ("Failed", 1), ("Usage", 2), ("Attention", 3), ("PlanStale", 4), ("Interrupted", 130)]"#);
    }
}
