//! Asking name servers: one question to one server, and whole zones where a server hands them out.
//!
//! | module | what it gives |
//! |---|---|
//! | [`Asker`] | one question over UDP, and TCP where the answer is too long; a transfer |
//! | [`walk`] | from the root to who answers for a name, as resolvers go |
//!
//! Promise: nobody but the servers named is asked, so that nothing depends on a resolver or on what it keeps. What is read of
//! one server is bounded in size and in time; an answer counts only with its number and its question
//! ([`sovereign_model::dns_message`]).
//!
//! Left out: keeping answers, and signatures.

pub mod walk;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sovereign_model::dns_message::{Answer, Code, NotAnAnswer, Question};
use sovereign_model::{DnsName, DnsRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// The port of DNS.
pub const PORT: u16 = 53;

/// So much is read of a zone that a server hands out: hundreds of times what people's zones have.
const MOST_TRANSFERRED: usize = 4 << 20;

/// So long a zone may take.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(30);

/// So many datagrams are put aside that are no answer to the question.
const MOST_STRAYS: usize = 100;

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It says nothing.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// Nobody listens there, or there is no way there.
    #[error("no way there")]
    Unreachable(#[source] io::Error),
    /// It says something else.
    #[error("it speaks no DNS")]
    NotAnAnswer(#[source] NotAnAnswer),
}

/// Why a server did not hand a zone out.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// It was not had.
    #[error("cannot get the zone {domain} from {server}")]
    Ask {
        /// The zone.
        domain: DnsName,
        /// The server.
        server: SocketAddr,
        /// Why.
        source: AskError,
    },
    /// It does not do so, or not for whoever asks.
    #[error("{server} does not hand out the zone {domain}: {code}")]
    Refused {
        /// The zone.
        domain: DnsName,
        /// The server.
        server: SocketAddr,
        /// What it says.
        code: Code,
    },
    /// It began something that is no zone, or one without an end.
    #[error("what {server} hands out is not the whole zone {domain}")]
    NotAZone {
        /// The zone.
        domain: DnsName,
        /// The server.
        server: SocketAddr,
    },
}

impl TransferError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Ask { .. } => "name a server that answers for the domain: `--server ADDRESS`".to_owned(),
            Self::Refused { .. } => {
                "allow this machine a transfer (AXFR) there, or export the zone as a file and give that: `--zone-file FILE`"
                    .to_owned()
            }
            Self::NotAZone { .. } => "export the zone as a file and give that: `--zone-file FILE`".to_owned(),
        })
    }
}

/// Asks servers.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// How long an answer may take.
    pub patience: Duration,
    /// How often a server is asked that says nothing: datagrams get lost.
    pub tries: u32,
}

impl Default for Asker {
    fn default() -> Self {
        Self { patience: Duration::from_millis(1500), tries: 2 }
    }
}

impl Asker {
    /// Asks one server one question.
    ///
    /// # Errors
    /// When it gives no answer.
    pub async fn ask(&self, server: SocketAddr, question: &Question) -> Result<Answer, AskError> {
        let mut last = AskError::Silent(self.patience);
        for _ in 0..self.tries.max(1) {
            match timeout(self.patience, over_udp(server, question)).await {
                Ok(Ok(answer)) if answer.truncated => {
                    let over_tcp = timeout(self.patience, over_tcp(server, question)).await;
                    return over_tcp.unwrap_or(Err(AskError::Silent(self.patience)));
                }
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = AskError::Silent(self.patience),
            }
        }
        Err(last)
    }

    /// Asks over UDP alone.
    ///
    /// # Errors
    /// When the server gives no answer that way.
    pub(crate) async fn ask_over_udp(&self, server: SocketAddr, question: &Question) -> Result<Answer, AskError> {
        let mut last = AskError::Silent(self.patience);
        for _ in 0..self.tries.max(1) {
            match timeout(self.patience, over_udp(server, question)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = AskError::Silent(self.patience),
            }
        }
        Err(last)
    }

    /// Asks over TCP alone, once: what gets lost is sent again there.
    ///
    /// # Errors
    /// When the server gives no answer that way.
    pub(crate) async fn ask_over_tcp(&self, server: SocketAddr, question: &Question) -> Result<Answer, AskError> {
        let asked = timeout(self.patience, over_tcp(server, question)).await;
        asked.unwrap_or(Err(AskError::Silent(self.patience)))
    }

    /// Gets a whole zone (RFC 5936).
    ///
    /// # Errors
    /// When the server does not hand it out, or not as a whole.
    pub async fn transfer(&self, server: SocketAddr, domain: &DnsName) -> Result<Vec<DnsRecord>, TransferError> {
        let failed = |source| TransferError::Ask { domain: domain.clone(), server, source };
        let stray = |_| failed(AskError::NotAnAnswer(NotAnAnswer::Stray));
        let question = Question::new(domain.as_str(), "AXFR").map_err(stray)?;
        let whole = async {
            let id = number();
            let connected = timeout(self.patience, TcpStream::connect(server)).await;
            let mut stream = connected
                .map_err(|_| failed(AskError::Silent(self.patience)))?
                .map_err(|error| failed(AskError::Unreachable(error)))?;
            send(&mut stream, &question.to_bytes(id)).await.map_err(&failed)?;
            let mut records = Vec::new();
            let mut read = 0;
            loop {
                let bytes = receive(&mut stream).await.map_err(&failed)?;
                read += bytes.len();
                let message = match records.is_empty() {
                    true => Answer::read(&bytes, id, &question),
                    false => Answer::read_further(&bytes, id, &question),
                };
                let message = message.map_err(|not| failed(AskError::NotAnAnswer(not)))?;
                if message.code != Code::NoError {
                    return Err(TransferError::Refused { domain: domain.clone(), server, code: message.code });
                }
                records.extend(message.answer);
                match is_whole(&records, domain) {
                    Some(true) => {
                        records.pop();
                        return Ok(records);
                    }
                    Some(false) if read <= MOST_TRANSFERRED => {}
                    _ => return Err(TransferError::NotAZone { domain: domain.clone(), server }),
                }
            }
        };
        timeout(TRANSFER_PATIENCE, whole).await.unwrap_or_else(|_| Err(failed(AskError::Silent(TRANSFER_PATIENCE))))
    }
}

/// Whether a zone that began with its SOA has come to it again; `None` when it did not begin so.
fn is_whole(records: &[DnsRecord], domain: &DnsName) -> Option<bool> {
    let first = records.first()?;
    let begins = first.kind == "SOA" && first.owner == domain.as_str();
    begins.then(|| records.len() > 1 && records.last() == Some(first))
}

async fn over_udp(server: SocketAddr, question: &Question) -> Result<Answer, AskError> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(AskError::Unreachable)?;
    // Connected, it takes nothing from others, and hears when nobody listens.
    socket.connect(server).await.map_err(AskError::Unreachable)?;
    let id = number();
    socket.send(&question.to_bytes(id)).await.map_err(AskError::Unreachable)?;
    let mut bytes = [0; u16::MAX as usize];
    for _ in 0..MOST_STRAYS {
        let size = socket.recv(&mut bytes).await.map_err(AskError::Unreachable)?;
        match Answer::read(&bytes[..size], id, question) {
            Err(NotAnAnswer::Stray) => {}
            read => return read.map_err(AskError::NotAnAnswer),
        }
    }
    Err(AskError::NotAnAnswer(NotAnAnswer::Stray))
}

async fn over_tcp(server: SocketAddr, question: &Question) -> Result<Answer, AskError> {
    let mut stream = TcpStream::connect(server).await.map_err(AskError::Unreachable)?;
    let id = number();
    send(&mut stream, &question.to_bytes(id)).await?;
    Answer::read(&receive(&mut stream).await?, id, question).map_err(AskError::NotAnAnswer)
}

/// A message over TCP has its length before it (RFC 1035 section 4.2.2).
async fn send(stream: &mut TcpStream, message: &[u8]) -> Result<(), AskError> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let whole = [&length.to_be_bytes(), message].concat();
    stream.write_all(&whole).await.map_err(AskError::Unreachable)
}

async fn receive(stream: &mut TcpStream) -> Result<Vec<u8>, AskError> {
    let length = stream.read_u16().await.map_err(AskError::Unreachable)?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await.map_err(AskError::Unreachable)?;
    Ok(message)
}

/// The number of a question, which nobody can guess. Without randomness it is one that can be guessed; who answers is
/// known by the address all the same.
fn number() -> u16 {
    let [high, low, ..] = getrandom::u32().unwrap_or_default().to_be_bytes();
    u16::from_be_bytes([high, low])
}
