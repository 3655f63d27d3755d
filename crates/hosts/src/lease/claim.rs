//! Who holds a lease, judged by what a host says and by its clock. Pure: what is asked of a host, and when, is the caller's.
//!
//! ```text
//!            swap n -> n+1                    swap n+1 -> n+2
//!  nobody ------------------> held until     ----------------> held until ... ---> nobody
//!     ^                       stamp + valid       renewed              released
//!     '---- the host's clock passes it, or the host starts anew ----'
//! ```
//!
//! Each arrow is one swap, which names the number that it replaces: of several who have seen the same number one wins.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The format of what lies on a host.
const VERSION: u32 = 1;

/// How long a lease lasts unless it is renewed. A connection that is silent for 45 s is given up by ssh; a holder that is
/// merely slow must not lose its lease before, and a holder that was killed is waited for no longer than this.
pub const VALID: Duration = Duration::from_secs(90);

/// What people read of a stranger is cut off there.
const LONGEST_WORD: usize = 64;

/// Who holds a lease, or wants to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    version: u32,
    /// The run, which no other run is called.
    pub run: String,
    /// Which management machine and which of its state folders. Whoever has the lock of that folder is its only run, so a
    /// lease with the same words is that of a run which ended without a word.
    pub machine: String,
    /// Who started it, like `anna@laptop`.
    pub who: String,
    /// What was asked for, `up` for instance.
    pub command: String,
    /// Its process.
    pub process: u32,
    /// When it took the lease, by the host's clock.
    #[serde(default)]
    since_seconds: u64,
}

impl Holder {
    /// A run that holds nothing yet.
    pub fn new(run: String, machine: String, who: String, command: String, process: u32) -> Self {
        Self { version: VERSION, run, machine, who, command, process, since_seconds: 0 }
    }

    /// Somebody of whom nothing can be read: of a newer program.
    fn unknown() -> Self {
        Self::new(String::new(), String::new(), "somebody with a newer sovereign".to_owned(), "?".to_owned(), 0)
    }

    /// The same with nothing in it that a terminal could take for something else.
    fn printable(self) -> Self {
        let word = |text: String| text.chars().filter(|c| !c.is_control()).take(LONGEST_WORD).collect();
        let Self { version, run, machine, who, command, process, since_seconds } = self;
        let (who, command) = (word(who), word(command));
        Self { version, run, machine, who, command, process, since_seconds }
    }
}

/// What lies on a host, as its script tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The host's clock: since it started.
    now: Duration,
    /// Which start of the host that is.
    boot: String,
    /// The number of the newest; 0 when there is none.
    pub number: u64,
    lies: Option<Lies>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Lies {
    stamp: Duration,
    boot: String,
    valid: Duration,
    /// `None` when it was released.
    holder: Option<Holder>,
}

/// A lease that somebody else holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holding {
    /// Who.
    #[serde(flatten)]
    pub holder: Holder,
    /// For how long.
    pub held_seconds: u64,
    /// When it runs out unless it is renewed.
    pub ends_in_seconds: u64,
}

impl Holding {
    /// For how long it is held.
    pub fn held(&self) -> Duration {
        Duration::from_secs(self.held_seconds)
    }
}

/// How a swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be swapped.
    Seen,
    /// What was sent lies there now.
    Won,
    /// Somebody else was faster.
    Lost,
}

/// Seconds with a fraction, as `/proc/uptime` has them.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// How long this machine runs, with the time it slept, as its kernel tells it.
pub fn uptime(text: &str) -> Option<Duration> {
    seconds(text.split_whitespace().next()?)
}

impl Seen {
    /// Reads what the script says; `None` for what it never says.
    pub fn parse(text: &str) -> Option<(Outcome, Self)> {
        let mut lines = text.lines();
        let mut head = lines.next()?.split(' ');
        let outcome = match head.next()? {
            "seen" => Outcome::Seen,
            "won" => Outcome::Won,
            "lost" => Outcome::Lost,
            _ => return None,
        };
        let (now, boot, number) = (seconds(head.next()?)?, head.next()?.to_owned(), head.next()?.parse().ok()?);
        let lies = if number == 0 { None } else { Lies::parse(lines) };
        Some((outcome, Self { now, boot, number, lies }))
    }

    /// What is on the way to the next swap, which would replace [`Seen::number`].
    pub fn wish(&self, us: &Holder) -> Holder {
        Holder { since_seconds: self.now.as_secs(), ..us.clone() }
    }

    /// Whose it is, unless it is nobody's: released, run out, of an earlier start of the host, or not understood.
    fn valid(&self) -> Option<(&Holder, Duration)> {
        let lies = self.lies.as_ref().filter(|lies| lies.boot == self.boot)?;
        // A stamp of a later time was not written since this clock began.
        let age = self.now.checked_sub(lies.stamp)?;
        let left = lies.valid.min(VALID).checked_sub(age).filter(|left| !left.is_zero())?;
        Some((lies.holder.as_ref()?, left))
    }

    /// Who stands in the way of `us`.
    pub fn held_from(&self, us: &Holder) -> Option<Holding> {
        self.held().filter(|holding| holding.holder.machine != us.machine)
    }

    /// Who holds it.
    pub fn held(&self) -> Option<Holding> {
        let (holder, left) = self.valid()?;
        Some(Holding {
            held_seconds: self.now.as_secs().saturating_sub(holder.since_seconds),
            ends_in_seconds: left.as_secs(),
            holder: holder.clone().printable(),
        })
    }
}

impl Lies {
    fn parse<'t>(mut lines: impl Iterator<Item = &'t str>) -> Option<Self> {
        let mut stamp = lines.next()?.split(' ');
        let (at, boot, valid) = (seconds(stamp.next()?)?, stamp.next()?.to_owned(), seconds(stamp.next()?)?);
        let holder = match lines.next()? {
            "free" => None,
            // What cannot be read is somebody's all the same, until it runs out.
            text => Some(serde_json::from_str(text).unwrap_or_else(|_| Holder::unknown())),
        };
        Some(Self { stamp: at, boot, valid, holder })
    }
}

/// What is sent to be laid there: a holder, or that there is none.
pub fn content(holder: Option<&Holder>) -> Vec<u8> {
    let text = holder.map(|holder| serde_json::to_string(holder).unwrap_or_default());
    format!("{}\n", text.as_deref().unwrap_or("free")).into_bytes()
}

/// A lease that we hold, by our own clock: it ends here no later than there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// What lies on the host.
    pub holder: Holder,
    /// Its number there.
    pub number: u64,
    /// Until when nobody else takes it, by the clock of this machine.
    pub until: Duration,
}

impl Tenure {
    /// After a swap that was won and whose question left here at `sent`: the host's stamp is later than that.
    pub fn begun(holder: Holder, number: u64, sent: Duration) -> Self {
        Self { holder, number, until: sent + VALID }
    }

    /// Whether it is ours for certain.
    pub fn is_certain(&self, now: Duration) -> bool {
        now < self.until
    }
}

#[cfg(test)]
#[path = "claim/tests.rs"]
mod tests;
