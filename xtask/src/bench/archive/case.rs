//! What is measured.

/// One measurement of each contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Case {
    /// The first backup, into an archive that is made for it.
    First,
    /// A day later: two per cent of the database, some pictures and pages are new, some pages are gone.
    Changed,
    /// Only the database has changed, as much again.
    Dump,
    /// Nothing has changed.
    Same,
    /// All of it, into an empty folder.
    Restore,
    /// One file of it.
    One,
    /// Whether the archive is sound, all data read.
    Check,
}

/// In the order in which they are measured: each stands on those before.
pub(super) const ALL: &[Case] =
    &[Case::First, Case::Changed, Case::Dump, Case::Same, Case::Restore, Case::One, Case::Check];

impl Case {
    /// What `--only` knows it by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Changed => "changed",
            Self::Dump => "dump",
            Self::Same => "same",
            Self::Restore => "restore",
            Self::One => "one",
            Self::Check => "check",
        }
    }

    /// What stands above its table.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::First => "the first backup",
            Self::Changed => "the second, a day later: 2 % changed",
            Self::Dump => "the third: only the database changed",
            Self::Same => "the fourth: nothing changed",
            Self::Restore => "a restore of everything",
            Self::One => "a restore of one file",
            Self::Check => "a check that reads all data",
        }
    }

    /// Whether it adds to the archive.
    pub(super) fn adds(self) -> bool {
        matches!(self, Self::First | Self::Changed | Self::Dump | Self::Same)
    }
}
