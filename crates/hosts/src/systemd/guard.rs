//! A dead man's switch for changes that can cut a host off: of its network, of its firewall.
//!
//! ```text
//!  undo script, timer ─▶ change ─▶ confirmed over a connection made afterwards ─▶ kept for good
//!                           └ not confirmed in time, or the host started anew ─▶ undone by the host itself
//! ```
//!
//! Promise: whatever becomes of the change, of the connection, of this machine or of the host's power, a change that nobody
//! confirmed is gone in the end. For that the change must not survive the host's start by itself: what makes it do so
//! (a file in `/etc`) is written by whoever confirmed.

use std::error::Error;
use std::time::Duration;

use super::replace::{Answer, Host, Said};

/// Where scripts lie that undo something: gone when the host starts anew, and so is what they undo.
const FOLDER: &str = "/run/sovereign";

/// What undoing answers when somebody else has taken it, and the change when it was undone before it began.
const NOTHING: i32 = 77;

/// Changes, unless it was undone already: a timer may be faster than whoever set it. Undoing waits while this is at work,
/// which is why it is ended when it takes longer than its confirmation may.
/// $1: the script that undoes it; $2: the change; $3: within how many seconds.
const CHANGE: &str = r#"exec 9>"$1.lock"; flock 9; test -e "$1" || exit 77; timeout -k 1 "$3" sh -c "$2" 9>&-"#;

/// What `timeout` answers for what it ended, kindly and not.
const ENDED: [i32; 2] = [124, 137];

/// A change that undoes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded<'a> {
    /// Tells it from others on the host: small letters, digits and `-`.
    pub name: &'a str,
    /// The change, as a script for `sh`.
    pub change: &'a str,
    /// What undoes it, as a script for `sh`. It may run when nothing was changed yet.
    pub undo: &'a str,
    /// Within which it must be confirmed; a change that takes longer is ended.
    pub within: Duration,
}

/// Why a change was not made, or is not there any more.
#[derive(Debug, thiserror::Error)]
pub enum GuardError<E: Error + 'static> {
    /// The host was not reached, or stopped answering.
    #[error("the host does not do what it is asked; what it was asked to change, it undoes by itself")]
    Host(#[source] E),
    /// Nothing was changed.
    #[error("nothing would undo it, so nothing was changed: {said}")]
    NoGuard {
        /// What the host said.
        said: String,
    },
    /// The change failed, and was undone.
    #[error("the change failed, and was undone: {said}")]
    Change {
        /// What the host said.
        said: String,
    },
    /// What undoes it fails.
    #[error("it cannot be undone: {said}")]
    Stuck {
        /// What the host said.
        said: String,
    },
    /// The confirmation came too late.
    #[error("it was not confirmed in time, and is undone")]
    Late,
}

impl<E: Error> GuardError<E> {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Host(_) => Some("wait until the host has undone it, then look at it again".to_owned()),
            Self::NoGuard { .. } | Self::Change { .. } => None,
            Self::Stuck { .. } => {
                Some("the host has to be looked at by hand; starting it anew undoes it, too".to_owned())
            }
            Self::Late => Some("run it again; is the way to the host slow?".to_owned()),
        }
    }
}

impl Guarded<'_> {
    fn unit(&self) -> String {
        format!("sovereign-undo-{}", self.name)
    }

    fn script(&self) -> String {
        format!("{FOLDER}/undo-{}.sh", self.name)
    }

    /// Runs what undoes it, for whoever takes it first, and one after the other: who finds that somebody else has taken it
    /// finds it undone. A change that is at work is waited for: undone before it ends, it would stay.
    fn undoing(&self) -> String {
        let script = self.script();
        format!(
            "test -d {FOLDER} || exit {NOTHING}; exec 9>{script}.lock; flock 9; \
             mv {script} {script}.taken 2>/dev/null || exit {NOTHING}; sh {script}.taken 9>&-; code=$?; rm {script}.taken; exit $code"
        )
    }

    /// Makes the change, which lasts until it is undone or [confirmed](Self::confirm). One of the same name that is waiting
    /// is undone first.
    ///
    /// # Errors
    /// When the host does not obey. Then the change was not made, or the host undoes it.
    pub async fn make<H: Host>(&self, host: &H) -> Result<(), GuardError<H::Error>> {
        self.undo(host).await?;
        let guard = |said: Answer| GuardError::NoGuard { said: Said(&said.stderr).to_string() };
        let made = host.run(&["mkdir", "-p", "-m", "0700", FOLDER]).await.map_err(GuardError::Host)?;
        if made.code != 0 {
            return Err(guard(made));
        }
        host.put(&self.script(), self.undo).await.map_err(GuardError::Host)?;
        let (unit, undoing) = (format!("--unit={}", self.unit()), self.undoing());
        let after = format!("--on-active={}ms", self.within.as_millis());
        let timer = ["systemd-run", "--quiet", "--collect", &unit, &after, "--timer-property=AccuracySec=100ms"];
        let timer = host.run(&[&timer[..], &["/bin/sh", "-c", &undoing]].concat()).await.map_err(GuardError::Host)?;
        if timer.code != 0 {
            return Err(guard(timer));
        }
        let seconds = self.within.as_secs_f64().to_string();
        let change = ["sh", "-c", CHANGE, "sovereign", &self.script(), self.change, &seconds];
        let change = host.run(&change).await.map_err(GuardError::Host)?;
        if change.code == 0 {
            return Ok(());
        }
        self.undo(host).await?;
        match change.code {
            NOTHING => Err(GuardError::Late),
            code if ENDED.contains(&code) => {
                let said = format!("it was not done within {seconds} s. {}", Said(&change.stderr));
                Err(GuardError::Change { said: said.trim_end().to_owned() })
            }
            _ => Err(GuardError::Change { said: Said(&change.stderr).to_string() }),
        }
    }

    /// Undoes it now. Nothing happens when nothing waits to be undone.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn undo<H: Host>(&self, host: &H) -> Result<(), GuardError<H::Error>> {
        let undone = host.run(&["sh", "-c", &self.undoing()]).await.map_err(GuardError::Host)?;
        if undone.code == NOTHING {
            return Ok(());
        }
        self.stop(host).await?;
        match undone.code {
            0 => Ok(()),
            _ => Err(GuardError::Stuck { said: Said(&undone.stderr).to_string() }),
        }
    }

    /// Says that the host was reached with the change in place: it stays. `host` must be a connection that was made since.
    ///
    /// # Errors
    /// When it is too late, or the host does not obey.
    pub async fn confirm<H: Host>(&self, host: &H) -> Result<(), GuardError<H::Error>> {
        let taken = host.run(&["rm", &self.script()]).await.map_err(GuardError::Host)?;
        if taken.code != 0 {
            return Err(GuardError::Late);
        }
        self.stop(host).await
    }

    /// Stops the timer, which has nothing left to do.
    async fn stop<H: Host>(&self, host: &H) -> Result<(), GuardError<H::Error>> {
        let timer = format!("{}.timer", self.unit());
        host.run(&["systemctl", "stop", &timer]).await.map_err(GuardError::Host).map(drop)
    }
}
