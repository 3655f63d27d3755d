//! From outside: which ports of a host answer to this machine. TCP only.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Finding, Findings, Wanted};
use crate::facts::{Facts, Protocol};

const SUBJECT: &str = "from outside";
/// So many connections are tried at once, at all hosts together: a router remembers each for a while, and a process may not
/// have many more open.
pub const TRIED_AT_ONCE: usize = 256;
/// A filter that drops says nothing, so each of its ports takes this long.
const PATIENCE: Duration = Duration::from_millis(1500);
/// All of it; a thousand silent ports take some 7 s.
const WHOLE: Duration = Duration::from_secs(90);
/// Above the well-known ports: what databases, caches, proxies, consoles, and programs that manage others listen on.
const COMMON: [u16; 28] = [
    1433, 1521, 2049, 2368, 2375, 2376, 2379, 3000, 3306, 3389, 4444, 5000, 5432, 5672, 5900, 6379, 6443, 8000, 8080,
    8081, 8443, 8888, 9000, 9090, 9100, 9200, 10250, 27017,
];
/// What is open on every host, whoever listens.
const OPEN: [u16; 3] = [53, 80, 443];

/// Who answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answers {
    /// Ports that take connections.
    pub open: BTreeSet<u16>,
    /// How many were tried.
    pub tried: usize,
    /// How many of them could not be tried in time, or from this machine.
    pub untried: usize,
}

/// The ports to try: all well-known ones, common ones above, and all that listen inside.
pub fn ports(facts: &Facts, entry: u16) -> BTreeSet<u16> {
    let inside = facts.listeners.iter().flatten().filter(|listener| listener.protocol == Protocol::Tcp);
    (1..=1023).chain(COMMON).chain([entry]).chain(inside.map(|listener| listener.port)).collect()
}

/// Connects to each of these ports, and says nothing there. `turns` are shared by all hosts: [`TRIED_AT_ONCE`].
pub async fn scan(ip: IpAddr, ports: BTreeSet<u16>, turns: &Arc<Semaphore>) -> Answers {
    let deadline = Instant::now() + WHOLE;
    let mut answers = Answers { tried: ports.len(), untried: ports.len(), open: BTreeSet::new() };
    let mut all = JoinSet::new();
    for port in ports {
        let turns = Arc::clone(turns);
        all.spawn(async move {
            let _turn = turns.acquire().await; // never closed
            match timeout(PATIENCE, TcpStream::connect(SocketAddr::new(ip, port))).await {
                Ok(Ok(_)) => Some(Some(port)),
                Ok(Err(error)) if is_ours(&error) => None,
                Ok(Err(_)) | Err(_) => Some(None),
            }
        });
    }
    while let Ok(Some(tried)) = timeout_at(deadline, all.join_next()).await {
        if let Ok(Some(answer)) = tried {
            answers.untried -= 1;
            answers.open.extend(answer);
        }
    }
    answers
}

/// Whether it is this machine that cannot connect: nothing was said of the host then.
fn is_ours(error: &io::Error) -> bool {
    const MFILE: i32 = 24;
    const ADDRNOTAVAIL: i32 = 99;
    matches!(error.raw_os_error(), Some(MFILE | ADDRNOTAVAIL))
}

/// What answered beside what may. Pure. `entry` is the port that SSH is reached at from here.
pub fn outside(answers: &Answers, facts: &Facts, wanted: &Wanted, entry: u16) -> Vec<Finding> {
    let mut all = Findings::new();
    let before = wanted.open_before.iter().flatten().filter(|listener| listener.protocol == Protocol::Tcp);
    let may: BTreeSet<u16> =
        OPEN.into_iter().chain([entry]).chain(facts.ssh_port).chain(before.map(|listener| listener.port)).collect();
    for port in answers.open.difference(&may) {
        let help =
            format!("`ss -lntp 'sport = {port}'` on the host says who; if nobody, something before the host answers");
        all.drift(SUBJECT, format_args!("tcp {port} answers, and should not"), help);
    }
    if !answers.open.contains(&entry) {
        let sentence =
            format!("tcp {entry} does not answer, although SSH came in there: this machine sees no ports of it");
        all.unseen(SUBJECT, sentence, "look from a machine that connects to it directly");
    }
    if answers.untried > 0 {
        let sentence = format!("{} of {} ports were not tried in time", answers.untried, answers.tried);
        all.unseen(SUBJECT, sentence, "run it again, or from a machine nearer to it");
    }
    let silent = wanted.sockets.iter().filter(|socket| !socket.ip().is_loopback());
    let silent: BTreeSet<u16> = silent.map(SocketAddr::port).filter(|port| !answers.open.contains(port)).collect();
    for port in silent {
        let sentence = format!("tcp {port} of the edge does not answer to this machine");
        all.warn("reach", sentence, "something between this machine and the host may keep it closed");
    }
    let list: Vec<String> = answers.open.iter().map(u16::to_string).collect();
    all.else_fine(
        SUBJECT,
        format_args!("of {} tcp ports answer {}; udp was not tried", answers.tried, list.join(", ")),
    );
    all.into_all()
}
