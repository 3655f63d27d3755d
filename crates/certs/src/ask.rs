//! Asks name servers directly whether they have an answer to a challenge, before an authority asks them.
//!
//! An authority counts a wrong answer against the name, and some look from several places at once. So it is told only
//! when no name server that answers has anything else. One that does not answer is passed over when another has it: a
//! data center that is away must not keep certificates from being renewed, and resolvers go to the others as well.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::Txt;
use futures_util::future::join_all;
use sovereign_model::DnsName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

/// A name server within reach answers in less.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// So long between two questions to all.
const BETWEEN: Duration = Duration::from_millis(100);

/// Name servers that do not have the answer.
#[derive(Debug, thiserror::Error)]
pub enum NotThere {
    /// One has something else.
    #[error("name server {server} {}", said(values))]
    Other {
        /// Which.
        server: SocketAddr,
        /// What it has.
        values: BTreeSet<String>,
    },
    /// None answers.
    #[error("no name server answers")]
    Silent(#[source] io::Error),
    /// There is none.
    #[error("there is no name server to ask")]
    Nobody,
}

fn said(values: &BTreeSet<String>) -> String {
    match values.iter().next() {
        None => "has no such record".to_owned(),
        Some(first) => {
            format!("has another one ({})", first.chars().filter(|c| c.is_ascii_graphic()).take(60).collect::<String>())
        }
    }
}

/// Where an answer to a challenge for a name is looked for (RFC 8555 section 8.4).
pub fn owner(name: &DnsName) -> String {
    format!("_acme-challenge.{name}")
}

/// Waits until every name server that answers has `value`, and one at least does.
///
/// # Errors
/// What is not so when the time is up.
pub async fn until_there(
    servers: &[SocketAddr],
    name: &DnsName,
    value: &str,
    patience: Duration,
) -> Result<(), NotThere> {
    let ends = Instant::now() + patience;
    loop {
        let answers = join_all(servers.iter().map(|server| texts(*server, name))).await;
        let (mut found, mut missing, mut silent) = (false, None, None);
        for (server, answer) in servers.iter().zip(answers) {
            match answer {
                Ok(values) if values.contains(value) => found = true,
                Ok(values) => missing = missing.or(Some(NotThere::Other { server: *server, values })),
                Err(error) => silent = silent.or(Some(NotThere::Silent(error))),
            }
        }
        if found && missing.is_none() {
            return Ok(());
        }
        if Instant::now() + BETWEEN > ends {
            return Err(missing.or(silent).unwrap_or(NotThere::Nobody));
        }
        sleep(BETWEEN).await;
    }
}

/// The texts that a server has for a name's challenge.
///
/// # Errors
/// When it does not answer so that it can be understood.
pub async fn texts(server: SocketAddr, name: &DnsName) -> io::Result<BTreeSet<String>> {
    let question = question(name).ok_or_else(|| io::Error::other("this name is too long to be asked for"))?;
    let told = async {
        let answer = over_udp(server, &question).await?;
        match read(&answer, &question)? {
            Some(values) => Ok(values),
            // It does not fit: the whole of it comes over TCP (RFC 7766).
            None => read(&over_tcp(server, &question).await?, &question)?
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it was cut off over TCP too")),
        }
    };
    timeout(ANSWERS_WITHIN, told).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn question(name: &DnsName) -> Option<Vec<u8>> {
    let owner = Name::vec_from_str(&owner(name)).ok()?;
    let mut message = MessageBuilder::new_vec();
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    message.header_mut().set_id(u16::from_be_bytes(id));
    let mut message = message.question();
    message.push((owner, Rtype::TXT)).ok()?;
    Some(message.finish())
}

async fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let mut answer = vec![0; 4096];
    // A packet can be lost.
    for wait in [ANSWERS_WITHIN / 4, ANSWERS_WITHIN] {
        socket.send(question).await?;
        let received = async {
            loop {
                let size = socket.recv(&mut answer).await?;
                // What answers another question is somebody else's.
                if answer.get(..2) == question.get(..2) {
                    return Ok::<_, io::Error>(size);
                }
            }
        };
        if let Ok(size) = timeout(wait, received).await {
            let size = size?;
            answer.truncate(size);
            return Ok(answer);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The texts in an answer; `None` when it was cut off.
fn read(answer: &[u8], question: &[u8]) -> io::Result<Option<BTreeSet<String>>> {
    let senseless = || io::Error::new(io::ErrorKind::InvalidData, "it says nothing that can be understood");
    let message = Message::from_octets(answer).map_err(|_| senseless())?;
    let asked = Message::from_octets(question).map_err(|_| senseless())?;
    if !message.is_answer(asked.for_slice()) {
        return Err(senseless());
    }
    if message.header().tc() {
        return Ok(None);
    }
    let rcode = message.header().rcode();
    if !matches!(rcode, domain::base::iana::Rcode::NOERROR | domain::base::iana::Rcode::NXDOMAIN) {
        return Err(io::Error::other(format!("it says {rcode}")));
    }
    let mut values = BTreeSet::new();
    for record in message.answer().map_err(|_| senseless())?.limit_to_in::<Txt<_>>() {
        let text: Vec<u8> = record.map_err(|_| senseless())?.data().text();
        values.extend(String::from_utf8(text));
    }
    Ok(Some(values))
}

/// What a name server, or whoever answers for it, may send.
#[doc(hidden)]
pub mod stranger {
    /// Reads any bytes as an answer.
    pub fn look_at(bytes: &[u8]) {
        let name = "example.org".parse().expect("this is a name");
        let question = super::question(&name).expect("it can be asked for");
        let _ = super::read(bytes, &question);
        // And what passes for an answer to it.
        let mut answer = question.clone();
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.extend_from_slice(bytes);
        let _ = super::read(&answer, &question);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A name server that says this of every name; `None` when it says nothing.
    async fn server(values: Option<Vec<&'static str>>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let place = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
                let Some(values) = &values else { continue };
                let asked = Message::from_octets(&buffer[..size]).unwrap();
                let mut answer =
                    MessageBuilder::new_vec().start_answer(&asked, domain::base::iana::Rcode::NOERROR).unwrap();
                let owner = asked.sole_question().unwrap().qname().to_owned();
                for value in values {
                    answer.push((&owner, 1, Txt::<Vec<u8>>::build_from_slice(value.as_bytes()).unwrap())).unwrap();
                }
                socket.send_to(&answer.finish(), from).await.unwrap();
            }
        });
        place
    }

    #[tokio::test]
    async fn it_is_there_when_all_that_answer_have_it_and_one_does() {
        let name: DnsName = "www.example.org".parse().unwrap();
        let patience = Duration::from_millis(300);
        let (good, both) = (server(Some(vec!["v"])).await, server(Some(vec!["w", "v"])).await);
        let (other, none, silent) = (server(Some(vec!["w"])).await, server(Some(vec![])).await, server(None).await);
        until_there(&[good, both], &name, "v", patience).await.unwrap();
        until_there(&[silent, good], &name, "v", patience).await.unwrap();
        let missing = until_there(&[good, other], &name, "v", patience).await.unwrap_err();
        assert_eq!(missing.to_string(), format!("name server {other} has another one (w)"));
        let missing = until_there(&[none, good], &name, "v", patience).await.unwrap_err();
        assert_eq!(missing.to_string(), format!("name server {none} has no such record"));
        assert!(matches!(until_there(&[silent], &name, "v", patience).await, Err(NotThere::Silent(_))));
        assert!(matches!(until_there(&[], &name, "v", patience).await, Err(NotThere::Nobody)));
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            stranger::look_at(&bytes);
        }
    }
}
