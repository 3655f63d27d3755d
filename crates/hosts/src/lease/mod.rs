//! A lease on a host: one run at a time works there, from whichever management machine.
//!
//! It lies on the host, in a folder that is gone when the host starts anew, as is the clock that it is measured by: the
//! host's own, since it started. Nobody sets that clock, so a wrong hour here or there does no harm. A script looks and
//! swaps, and decides nothing; [`claim`] judges.
//!
//! Promise: of all who want a host's lease one has it, whoever is killed, cut off, asleep or slow; a holder knows by its
//! own clock when it is not certain of its lease any more, and that is before anybody else can have it.
//!
//! Left out: on which hosts a lease is taken, in which order, and what to do without one (the engine).

pub mod claim;

use std::path::Path;
use std::time::Duration;

pub use self::claim::{Holder, Holding, Seen, Tenure, VALID};

use self::claim::Outcome;
use crate::connection::Connection;
use crate::error::SshError;
use crate::run::Run;

/// How often a lease is renewed: four of five renewals may fail.
pub const RENEWED_EVERY: Duration = Duration::from_secs(18);

/// A host that takes longer to answer is one whose lease was not renewed this time.
const PATIENCE: Duration = Duration::from_secs(15);

/// Somebody was faster so many times.
const TRIES: usize = 5;

/// A lease and the name of who holds it are shorter.
const LONGEST: usize = 8 << 10;

const SCRIPT: &str = include_str!("lease.sh");

/// The clock of this machine that goes on while it sleeps, as the host's does.
pub fn here() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    // Without it nothing is certain.
    claim::uptime(&text).unwrap_or(Duration::MAX)
}

async fn ask(connection: &Connection, run: Run) -> Result<(Outcome, Seen), SshError> {
    let run = run.answers_at_most(LONGEST).within(PATIENCE).beside();
    let said = connection.succeed(&run).await?;
    Seen::parse(&String::from_utf8_lossy(&said)).ok_or_else(|| SshError::Nonsense {
        host: connection.address().clone(),
        why: "it has no word on who works on it".to_owned(),
    })
}

fn script(action: &str, folder: &Path) -> Run {
    Run::script(action, SCRIPT).arg(folder)
}

/// Who holds the lease that lies in `folder`. Changes nothing.
///
/// # Errors
/// When the host cannot say.
pub async fn look(connection: &Connection, folder: &Path) -> Result<Seen, SshError> {
    let (_, seen) = ask(connection, script("see who works on it", folder).arg("look")).await?;
    Ok(seen)
}

async fn swap(
    connection: &Connection,
    folder: &Path,
    number: u64,
    holder: Option<&Holder>,
) -> Result<(Outcome, Seen), SshError> {
    let run = script("write down who works on it", folder).arg("swap").arg(number.to_string());
    ask(connection, run.arg(VALID.as_secs().to_string()).input(claim::content(holder))).await
}

/// Whether it is ours now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is.
    Ours(Tenure),
    /// It is somebody else's.
    Theirs(Box<Holding>),
    /// Others write themselves down and give it back, again and again.
    Contested,
}

/// Takes the lease for `us`: from nobody, or from the run whose name `from` knows. `seen` is what was seen before.
///
/// # Errors
/// When the host cannot say.
pub async fn take(
    connection: &Connection,
    folder: &Path,
    us: &Holder,
    mut seen: Seen,
    from: impl Fn(&Holder) -> bool,
) -> Result<Taken, SshError> {
    for _ in 0..TRIES {
        if let Some(holding) = seen.held_from(us).filter(|holding| !from(&holding.holder)) {
            return Ok(Taken::Theirs(Box::new(holding)));
        }
        let (wish, sent) = (seen.wish(us), here());
        let (outcome, after) = swap(connection, folder, seen.number, Some(&wish)).await?;
        if outcome == Outcome::Won {
            return Ok(Taken::Ours(Tenure::begun(wish, seen.number + 1, sent)));
        }
        seen = after;
    }
    Ok(seen.held_from(us).map_or(Taken::Contested, |holding| Taken::Theirs(Box::new(holding))))
}

/// Goes on holding it. When somebody has taken it in between, that is told, if it can be told who.
///
/// # Errors
/// When the host cannot say.
pub async fn renew(connection: &Connection, folder: &Path, held: &Tenure) -> Result<Renewed, SshError> {
    let sent = here();
    let (outcome, seen) = swap(connection, folder, held.number, Some(&held.holder)).await?;
    let is_ours = |holding: &Holding| holding.holder.run == held.holder.run;
    Ok(match (outcome, seen.held()) {
        // The second: an answer was lost on its way, after what it told of was done.
        (Outcome::Won, _) => Renewed::Ours(Tenure::begun(held.holder.clone(), held.number + 1, sent)),
        (_, Some(holding)) if is_ours(&holding) => {
            // When that was is not known, so only the number is, and the next renewal makes it certain.
            Renewed::Ours(Tenure { number: seen.number, ..held.clone() })
        }
        (_, holding) => Renewed::Lost(holding.map(Box::new)),
    })
}

/// What became of a lease that was held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// It still is.
    Ours(Tenure),
    /// Somebody has taken it.
    Lost(Option<Box<Holding>>),
}

/// Gives it back. One that is somebody else's by now is left alone.
///
/// # Errors
/// When the host cannot say; then it runs out.
pub async fn release(connection: &Connection, folder: &Path, held: &Tenure) -> Result<(), SshError> {
    let mut number = held.number;
    for _ in 0..TRIES {
        let (outcome, seen) = swap(connection, folder, number, None).await?;
        // A renewal may have arrived of which nobody heard.
        let is_ours = seen.held().is_some_and(|holding| holding.holder.run == held.holder.run);
        if outcome == Outcome::Won || !is_ours {
            break;
        }
        number = seen.number;
    }
    Ok(())
}

/// Removes all that lies there of it, on a host that is nobody's any more.
///
/// # Errors
/// When the host cannot.
pub async fn remove(connection: &Connection, folder: &Path) -> Result<(), SshError> {
    // The folders above go with the last that is in them.
    let script = "rm -rf -- \"$1\"; above=${1%/*}; rmdir -- \"$above\" \"${above%/*}\" 2> /dev/null || :";
    let run = Run::script("forget who worked on it", script).arg(folder).within(PATIENCE).beside();
    connection.succeed(&run).await.map(drop)
}
