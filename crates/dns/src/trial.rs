//! Trying whether somebody answers at an address, once, in every way in which readers and resolvers knock there.
//!
//! Promise: what is sent is a question as readers and resolvers ask it, and nothing else; what comes back is bounded, and each
//! trial ends within [`PATIENCE`] for each of its two parts: the connection, and the answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use sovereign_model::agent_config::{HEALTH_PATH, Watched};
use sovereign_model::dns_message::{Answer, Code, Question};
use sovereign_model::trial::{Heard, Speech, Trial};
use sovereign_model::{DatacenterName, DnsName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ask::{AskError, Asker};
use crate::probe::{ProbeError, Prober};

/// A line that is busy takes a second or two; whoever waits for the verdict waits for the slowest.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The head of an answer over plain HTTP; a router's own page may be longer, and says no more.
const MOST_HEAD: u64 = 2048;

/// Tries once. `own` is where it is tried.
pub async fn attempt(prober: &Prober, own: &DatacenterName, trial: &Trial) -> Heard {
    match trial.speaks {
        Speech::Https => https(prober, own, trial).await,
        Speech::Http => http(trial).await,
        Speech::NamesUdp => names(trial, true).await,
        Speech::NamesTcp => names(trial, false).await,
    }
}

/// What an error says of the way there.
fn of_connection(error: &io::Error) -> Heard {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Heard::Refused,
        io::ErrorKind::NetworkUnreachable => Heard::NoWay,
        io::ErrorKind::HostUnreachable => Heard::Unreachable,
        io::ErrorKind::TimedOut => Heard::Silent,
        _ => Heard::Other(error.to_string()),
    }
}

async fn connect(at: SocketAddr) -> Result<TcpStream, Heard> {
    match timeout(PATIENCE, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(of_connection(&error)),
        Err(_) => Err(Heard::Silent),
    }
}

async fn https(prober: &Prober, own: &DatacenterName, trial: &Trial) -> Heard {
    // Whether anybody takes connections there is a question of its own: what hangs later is somebody.
    if let Err(heard) = connect(trial.at).await {
        return heard;
    }
    let Trial { at, name, public, .. } = trial;
    let watched =
        Watched { datacenter: own.clone(), at: String::new(), address: *at, name: name.clone(), public: *public };
    match prober.look(&watched).await {
        Ok(_) => Heard::Ours,
        Err(ProbeError::Connect(error)) => of_connection(&error),
        Err(error) => Heard::Other(in_full(&error)),
    }
}

async fn http(trial: &Trial) -> Heard {
    let mut stream = match connect(trial.at).await {
        Ok(stream) => stream,
        Err(heard) => return heard,
    };
    let host = trial.name.as_ref().map_or_else(|| trial.at.ip().to_string(), ToString::to_string);
    let question = format!("GET {HEALTH_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = async {
        stream.write_all(question.as_bytes()).await?;
        let mut head = Vec::new();
        let read = (&mut stream).take(MOST_HEAD).read_to_end(&mut head).await;
        // Who breaks off after some words has said them.
        if head.is_empty() { read.map(|_| head) } else { Ok(head) }
    };
    match timeout(PATIENCE, answer).await {
        Err(_) => Heard::Other("it takes a connection and says nothing".to_owned()),
        Ok(Err(error)) => Heard::Other(error.to_string()),
        Ok(Ok(head)) => judge_head(&head),
    }
}

/// What the beginning of an answer over plain HTTP says of who is there. Only an edge says that it is well by saying nothing.
pub fn judge_head(head: &[u8]) -> Heard {
    match status_of(head) {
        Some(204) => Heard::Ours,
        Some(status) => Heard::Other(format!("it answers {status}, not as an edge does")),
        None => Heard::Other("it speaks no HTTP".to_owned()),
    }
}

/// The status in a status line (RFC 9112 section 4).
fn status_of(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

async fn names(trial: &Trial, udp: bool) -> Heard {
    let name = trial.name.as_ref().map_or(".", DnsName::as_str);
    let Ok(question) = Question::new(name, "SOA") else {
        return Heard::Other("that name cannot be asked for".to_owned());
    };
    let asked = if udp {
        Asker { patience: PATIENCE / 2, tries: 2 }.ask_over_udp(trial.at, &question).await
    } else {
        Asker { patience: PATIENCE, tries: 1 }.ask_over_tcp(trial.at, &question).await
    };
    match asked {
        Ok(answer) => judge_answer(&answer, name),
        Err(AskError::Silent(_)) => Heard::Silent,
        Err(AskError::Unreachable(error)) => of_connection(&error),
        Err(error @ AskError::NotAnAnswer(_)) => Heard::Other(in_full(&error)),
    }
}

fn judge_answer(answer: &Answer, name: &str) -> Heard {
    let has_zone = answer.authoritative && answer.of(name, "SOA").next().is_some();
    match answer.code {
        Code::NoError if has_zone => Heard::Ours,
        Code::NoError => Heard::Other(format!("it does not answer for {name} of its own knowledge")),
        code => Heard::Other(format!("it says of {name}: {code}")),
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_edge_is_told_from_a_routers_own_page() {
        assert_eq!(judge_head(b"HTTP/1.1 204 No Content\r\n\r\n"), Heard::Ours);
        let Heard::Other(says) = judge_head(b"HTTP/1.0 200 OK\r\nserver: router\r\n\r\n<html>") else { panic!() };
        assert_eq!(says, "it answers 200, not as an edge does");
        assert_eq!(judge_head(b"SSH-2.0-OpenSSH_9.2\r\n"), Heard::Other("it speaks no HTTP".to_owned()));
        assert_eq!(judge_head(b""), Heard::Other("it speaks no HTTP".to_owned()));
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_says_is_heard(head: Vec<u8>) {
            let _ = judge_head(&head);
        }
    }
}
