//! The process environment, read once at the start and passed down as a value.
//!
//! Promise: no other module reads a variable, so the registry below is complete and a test can run any command in an
//! environment of its own making.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Every variable the program reads, with what it means.
pub(crate) mod names {
    /// The stack file, as `--stack`.
    pub(crate) const STACK: &str = "SOVEREIGN_STACK";
    /// The state folder, as `--state`.
    pub(crate) const STATE: &str = "SOVEREIGN_STATE";
    /// A file that holds the passphrase of the root seed. A file, because a variable is readable by other processes.
    pub(crate) const PASSPHRASE_FILE: &str = "SOVEREIGN_PASSPHRASE_FILE";
    /// Which log lines reach stderr, in the syntax of `tracing` directives; wins over `-v` and `-q`.
    pub(crate) const LOG: &str = "SOVEREIGN_LOG";
    /// When set and not empty: no colors (no-color.org).
    pub(crate) const NO_COLOR: &str = "NO_COLOR";
    /// `dumb` means: no colors, no moving bars.
    pub(crate) const TERM: &str = "TERM";
    /// The user's home folder, from which the XDG defaults follow.
    pub(crate) const HOME: &str = "HOME";
    /// Where configuration lies (XDG Base Directory Specification 0.8).
    pub(crate) const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
    /// Where data lies (same).
    pub(crate) const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
    /// Where caches lie (same).
    pub(crate) const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
    /// The X display: with `WAYLAND_DISPLAY`, how to tell that a browser can be opened here.
    pub(crate) const DISPLAY: &str = "DISPLAY";
    /// The Wayland display.
    pub(crate) const WAYLAND_DISPLAY: &str = "WAYLAND_DISPLAY";
    /// Set by sshd: the address of this machine that the session came in on, third of its four fields.
    pub(crate) const SSH_CONNECTION: &str = "SSH_CONNECTION";
    /// The socket of the operator's SSH agent. Asked when a host is logged in to that does not know the stack's key yet.
    pub(crate) const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";
    /// Where programs lie. Handed on to an operator's own, like the three below, and `HOME`.
    pub(crate) const PATH: &str = "PATH";
    /// The language and character set of texts.
    pub(crate) const LANG: &str = "LANG";
    /// The time zone.
    pub(crate) const TZ: &str = "TZ";
    /// Where temporary files lie.
    pub(crate) const TMPDIR: &str = "TMPDIR";

    /// All of the above.
    pub(super) const ALL: &[&str] = &[
        STACK,
        STATE,
        PASSPHRASE_FILE,
        LOG,
        NO_COLOR,
        TERM,
        HOME,
        XDG_CONFIG_HOME,
        XDG_DATA_HOME,
        XDG_CACHE_HOME,
        DISPLAY,
        WAYLAND_DISPLAY,
        SSH_CONNECTION,
        SSH_AUTH_SOCK,
        PATH,
        LANG,
        TZ,
        TMPDIR,
    ];
}

/// The variables of [`names`] that were set and not empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<&'static str, OsString>);

impl Environment {
    /// Reads the process environment.
    pub(crate) fn of_process() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Reads from `lookup`; an empty value counts as unset, as XDG and no-color.org want it.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = names::ALL.iter().filter_map(|&name| Some((name, lookup(name).filter(|value| !value.is_empty())?)));
        Self(set.collect())
    }

    /// The value of a registered name.
    pub(crate) fn get(&self, name: &'static str) -> Option<&OsStr> {
        debug_assert!(names::ALL.contains(&name), "{name} is not in the registry");
        self.0.get(name).map(OsString::as_os_str)
    }

    /// The value of a registered name as a path. XDG variables with a relative path are to be ignored, says the
    /// specification; so they are.
    pub(crate) fn path(&self, name: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.get(name)?);
        (!name.starts_with("XDG_") || path.is_absolute()).then_some(path)
    }

    /// Whether colors and moving bars are out of the question, terminal or not.
    pub(crate) fn forbids_color(&self) -> bool {
        self.get(names::NO_COLOR).is_some() || self.is_dumb_terminal()
    }

    /// Whether the terminal cannot move its cursor.
    pub(crate) fn is_dumb_terminal(&self) -> bool {
        self.get(names::TERM).is_some_and(|term| term == "dumb")
    }
}

#[cfg(test)]
impl Environment {
    /// An environment made of `pairs` only.
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self::from_lookup(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_means_unset() {
        let environment = Environment::of(&[("NO_COLOR", ""), ("HOME", "/home/ann")]);
        assert!(!environment.forbids_color());
        assert_eq!(environment.path(names::HOME), Some("/home/ann".into()));
    }

    #[test]
    fn relative_xdg_paths_are_ignored() {
        let environment = Environment::of(&[("XDG_DATA_HOME", "data"), ("SOVEREIGN_STATE", "state")]);
        assert_eq!(environment.path(names::XDG_DATA_HOME), None);
        assert_eq!(environment.path(names::STATE), Some("state".into()));
    }

    #[test]
    fn no_color_and_dumb_terminals_forbid_color() {
        assert!(Environment::of(&[("NO_COLOR", "1")]).forbids_color());
        assert!(Environment::of(&[("TERM", "dumb")]).forbids_color());
        assert!(!Environment::of(&[("TERM", "xterm")]).forbids_color());
    }
}
