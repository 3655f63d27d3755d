//! Whether an instance is well, asked over the protocol its users speak. What it says is a stranger's words.

use std::net::SocketAddrV4;
use std::time::Duration;

use sovereign_incus::exec::Command;
use sovereign_incus::instance::{State, Status};
use sovereign_incus::{Client, InstanceName};
use sovereign_model::instance::{InstanceHealth, InstanceSpec};
use tokio::time::{Instant, sleep, timeout};

use super::host::InstanceHost;
use crate::causes::with_causes;
use crate::embedded::health::ask_http_over;

/// For one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Between questions to one that is on its way, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Between questions to its systemd, whether a service of it ends again and again.
const ENDS: Duration = Duration::from_secs(5);
/// A service that was started anew so often will not come up by waiting. A database that comes back late costs some starts.
const MOST_RESTARTS: u32 = 5;
/// Lines of a journal that are told when an instance does not become well.
const LINES: usize = 20;

/// Asks once. `Err` says what is wrong, for people.
pub(super) async fn check<H: InstanceHost>(
    client: &Client,
    host: &H,
    name: &InstanceName,
    spec: &InstanceSpec,
) -> Result<(), String> {
    let asked = async {
        match &spec.health {
            InstanceHealth::Http { port, path, host: field } => {
                let stream = host.dial(SocketAddrV4::new(spec.address, *port)).await;
                let stream = stream.map_err(|error| with_causes(&error))?;
                ask_http_over(stream, path, field).await
            }
            InstanceHealth::Service { service } => {
                let ran = client.exec(name, &quiet(["systemctl", "is-active", service])).await;
                let ran = ran.map_err(|error| with_causes(&error))?;
                if ran.code == 0 { Ok(()) } else { Err(format!("{service} is {}", bounded(&ran.stdout, 1))) }
            }
        }
    };
    timeout(ANSWER, asked).await.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")))
}

/// Asks until it is well, for at most `within`, or until it has ended, or its service ends again and again.
pub(super) async fn become_well<H: InstanceHost>(
    client: &Client,
    host: &H,
    name: &InstanceName,
    spec: &InstanceSpec,
    within: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let (mut pause, longest) = PAUSES;
    let mut looked = Instant::now();
    loop {
        let problem = match client.instance_state(name).await {
            Ok(state) if state.status == Status::Stopped => return Err("it has ended".to_owned()),
            // Nor is it asked: the host would look for it once a second, and find it later than it is there.
            Ok(state) if !has_address(&state, spec) => format!("it has no address, and should have {}", spec.address),
            Ok(_) | Err(_) => match check(client, host, name, spec).await {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            },
        };
        if Instant::now() + pause > deadline {
            return Err(problem);
        }
        if looked.elapsed() > ENDS {
            let restarts = restarts(client, name).await;
            if restarts >= MOST_RESTARTS {
                return Err(format!("its service was started {restarts} times more, and ends each time"));
            }
            looked = Instant::now();
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// How often the service of an instance that was started most was started anew; 0 where nobody says.
async fn restarts(client: &Client, name: &InstanceName) -> u32 {
    let asked = quiet(["systemctl", "show", "--property=NRestarts", "--value", "*.service"]);
    match timeout(ANSWER, client.exec(name, &asked)).await {
        Ok(Ok(ran)) if ran.code == 0 => most(&String::from_utf8_lossy(&ran.stdout)),
        Ok(_) | Err(_) => 0,
    }
}

fn most(said: &str) -> u32 {
    said.lines().filter_map(|line| line.trim().parse().ok()).max().unwrap_or_default()
}

fn has_address(state: &State, spec: &InstanceSpec) -> bool {
    let mut addresses = state.network.values().flat_map(|interface| &interface.addresses);
    addresses.any(|has| has.address == spec.address)
}

/// The last lines of its journal, or nothing when it does not say.
pub(super) async fn journal(client: &Client, name: &InstanceName, spec: &InstanceSpec) -> String {
    let lines = format!("--lines={LINES}");
    let mut line = vec!["journalctl", "--no-pager", "--output=cat", &lines];
    if let InstanceHealth::Service { service } = &spec.health {
        line.extend(["--unit", service]);
    }
    let told = timeout(ANSWER, client.exec(name, &quiet(line))).await;
    match told {
        Ok(Ok(ran)) if ran.code == 0 => bounded(&ran.stdout, LINES),
        Ok(_) | Err(_) => String::new(),
    }
}

fn quiet<'w>(line: impl IntoIterator<Item = &'w str>) -> Command {
    Command { most_output: 64 << 10, ..Command::new(line) }
}

/// The last lines of what a stranger says: so many, none of them long, and nothing in them that a terminal obeys.
pub(in crate::incus) fn bounded(bytes: &[u8], lines: usize) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(bytes);
    let shown = text.lines().map(|line| line.chars().filter(|c| !c.is_control()).take(LONGEST).collect::<String>());
    let shown: Vec<String> = shown.filter(|line| !line.trim().is_empty()).collect();
    shown[shown.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_that_ends_most_counts() {
        assert_eq!(most("0\n\n7\n\n-1\nwhat\n2\n"), 7);
        assert_eq!(most(""), 0);
    }

    #[test]
    fn a_strangers_words_are_few_and_harmless() {
        let mut said = b"first\n\x1b[2J\x07alarm\xff\n\n".to_vec();
        said.extend([b'x'; 5000]);
        let shown = bounded(&said, 2);
        assert_eq!(shown.lines().next(), Some("[2Jalarm\u{fffd}"));
        assert_eq!(shown.lines().map(|line| line.chars().count()).collect::<Vec<_>>(), [9, 300]);
    }
}
