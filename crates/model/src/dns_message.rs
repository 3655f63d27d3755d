//! Questions to DNS servers and their answers, as bytes (RFC 1035 section 4): pure, and the same records as zone files.
//!
//! Promise: what a server sends is hostile. An answer is one only with the number and the question that were sent, names
//! compared without regard to case; a record in it has the normal form of [`DnsRecord`], so that it equals one that was
//! written into the stack file; nothing in it can steer a terminal.
//!
//! Left out: sockets and patience, which are for whoever asks; signatures, which are not asked for.

use std::fmt;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::name::{Name, ParsedName};
use domain::base::rdata::ComposeRecordData;
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt as _};
use domain::base::{Message, MessageBuilder};
use domain::rdata::AllRecordData;
use serde::Serialize;

use crate::dns_record::{DnsRecord, LONGEST_TTL, kind_name, owner_text};

/// How long an answer over UDP may be, in bytes: what passes every network in one piece (RFC 9715).
pub const UDP_ANSWER: u16 = 1232;

/// A question that nobody can be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody can be asked for {kind} of {owner:?}")]
pub struct NotAQuestion {
    owner: String,
    kind: String,
}

/// One question: the records of a name, of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    name: Name<Vec<u8>>,
    kind: Rtype,
}

impl Question {
    /// A question for the records of `owner`, as [`DnsRecord::owner`] has it (the root is empty), of type `kind`.
    ///
    /// # Errors
    /// When that is no name, or no type.
    pub fn new(owner: &str, kind: &str) -> Result<Self, NotAQuestion> {
        let not = || NotAQuestion { owner: owner.to_owned(), kind: kind.to_owned() };
        let name = if owner.is_empty() { Name::root_vec() } else { Name::vec_from_str(owner).map_err(|_| not())? };
        Ok(Self { name, kind: kind.parse().map_err(|_| not())? })
    }

    /// Whose records, as [`DnsRecord::owner`] has it.
    pub fn owner(&self) -> String {
        owner_text(&self.name)
    }

    /// Of which type.
    pub fn kind(&self) -> String {
        kind_name(self.kind)
    }

    /// The message that asks, without the length that precedes it over TCP.
    pub fn to_bytes(&self, id: u16) -> Vec<u8> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(id);
        let mut message = message.question();
        // A Vec takes everything, and there is room for a name and an option in a message.
        let asked = message.push((&self.name, self.kind));
        let mut message = message.additional();
        let sized = message.opt(|options| {
            options.set_udp_payload_size(UDP_ANSWER);
            Ok(())
        });
        debug_assert!(asked.is_ok() && sized.is_ok(), "a Vec takes any question");
        message.finish()
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.owner(), self.kind())
    }
}

/// What a server says first of all (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Here is what there is.
    NoError,
    /// The name is not there.
    NoSuchName,
    /// It cannot answer just now.
    ServerFailure,
    /// It does not answer that, or not to whoever asks.
    Refused,
    /// Something else.
    Other(u8),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoError => f.write_str("no error"),
            Self::NoSuchName => f.write_str("no such name"),
            Self::ServerFailure => f.write_str("server failure"),
            Self::Refused => f.write_str("refused"),
            Self::Other(code) => write!(f, "error {code}"),
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// How it went.
    pub code: Code,
    /// Whether the server says so of its own knowledge.
    pub authoritative: bool,
    /// Whether there was no room for all of it: then nothing of it is here.
    pub truncated: bool,
    /// What was asked for, and where other names for it lead.
    pub answer: Vec<DnsRecord>,
    /// Who knows, or the SOA of the zone in which it is not there.
    pub authority: Vec<DnsRecord>,
    /// Addresses of these.
    pub additional: Vec<DnsRecord>,
}

/// Bytes that are no answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAnswer {
    /// To another question, or none at all: somebody else's, or a late one.
    #[error("this is no answer to the question")]
    Stray,
    /// The server's, and not in the form of DNS.
    #[error("the answer is not in the form of DNS")]
    Malformed,
}

impl Answer {
    /// Reads the answer to a question that was sent with this number.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8], id: u16, question: &Question) -> Result<Self, NotAnAnswer> {
        let message = Message::from_slice(bytes).map_err(|_| NotAnAnswer::Stray)?;
        let header = message.header();
        if !header.qr() || header.id() != id {
            return Err(NotAnAnswer::Stray);
        }
        let code = code(header.rcode());
        match message.header_counts().qdcount() {
            // Who did not understand the question does not repeat it.
            0 if !matches!(code, Code::NoError | Code::NoSuchName) => {}
            1 if repeats(message, question) => {}
            _ => return Err(NotAnAnswer::Stray),
        }
        if header.tc() {
            let (answer, authority, additional) = Default::default();
            return Ok(Self { code, authoritative: header.aa(), truncated: true, answer, authority, additional });
        }
        let (_, answer, authority, additional) = message.sections().map_err(|_| NotAnAnswer::Malformed)?;
        Ok(Self {
            code,
            authoritative: header.aa(),
            truncated: false,
            answer: records(answer)?,
            authority: records(authority)?,
            additional: records(additional)?,
        })
    }

    /// Reads one message of a transfer (RFC 5936): those after the first need not repeat the question.
    ///
    /// # Errors
    /// When it is none.
    pub fn read_further(bytes: &[u8], id: u16, question: &Question) -> Result<Self, NotAnAnswer> {
        let message = Message::from_slice(bytes).map_err(|_| NotAnAnswer::Stray)?;
        if message.header_counts().qdcount() > 0 {
            return Self::read(bytes, id, question);
        }
        let header = message.header();
        if !header.qr() || header.id() != id {
            return Err(NotAnAnswer::Stray);
        }
        let section = message.answer().map_err(|_| NotAnAnswer::Malformed)?;
        Ok(Self {
            code: code(header.rcode()),
            authoritative: header.aa(),
            truncated: header.tc(),
            answer: records(section)?,
            authority: Vec::new(),
            additional: Vec::new(),
        })
    }

    /// The records of a name and type in its answer.
    pub fn of<'a>(&'a self, owner: &'a str, kind: &'a str) -> impl Iterator<Item = &'a DnsRecord> {
        self.answer.iter().filter(move |record| record.owner == owner && record.kind == kind)
    }
}

fn repeats(message: &Message<[u8]>, question: &Question) -> bool {
    message.sole_question().is_ok_and(|repeated| {
        repeated.qname() == &question.name && repeated.qtype() == question.kind && repeated.qclass() == Class::IN
    })
}

fn code(code: Rcode) -> Code {
    match code {
        Rcode::NOERROR => Code::NoError,
        Rcode::NXDOMAIN => Code::NoSuchName,
        Rcode::SERVFAIL => Code::ServerFailure,
        Rcode::REFUSED => Code::Refused,
        other => Code::Other(other.to_int()),
    }
}

fn records(section: RecordSection<'_, [u8]>) -> Result<Vec<DnsRecord>, NotAnAnswer> {
    let mut records = Vec::new();
    for record in section {
        let record = record.map_err(|_| NotAnAnswer::Malformed)?;
        // Options of EDNS are no records; nobody asks for another class.
        if record.rtype() == Rtype::OPT || record.class() != Class::IN {
            continue;
        }
        type Data<'a> = AllRecordData<&'a [u8], ParsedName<&'a [u8]>>;
        let data = record.to_any_record::<Data<'_>>().map_err(|_| NotAnAnswer::Malformed)?;
        let text = |data: String| DnsRecord {
            owner: owner_text(record.owner()),
            kind: kind_name(record.rtype()),
            data,
            // One that RFC 2181 section 8 does not allow counts as none.
            ttl: Some(record.ttl().as_secs()).filter(|ttl| *ttl <= LONGEST_TTL).unwrap_or_default(),
        };
        let usual = text(data.data().display_zonefile(DisplayKind::Simple).to_string());
        let sound = if is_sound(&usual) { Some(usual) } else { Some(text(as_bytes(data.data()))).filter(is_sound) };
        records.push(sound.ok_or(NotAnAnswer::Malformed)?);
    }
    Ok(records)
}

/// Whether a record is read as what it is: not every text that a stranger puts into one can be.
fn is_sound(record: &DnsRecord) -> bool {
    let line = record.to_string();
    let nowhere = "invalid".parse().ok();
    line.chars().all(|c| c.is_ascii() && !c.is_control())
        && nowhere.is_some_and(|origin| DnsRecord::parse(&line, &origin).as_ref() == Ok(record))
}

/// What a record says as bytes, for those that have no other form (RFC 3597 section 5).
fn as_bytes(data: &impl ComposeRecordData) -> String {
    let mut bytes = Vec::new();
    if data.compose_rdata(&mut bytes).is_err() {
        return String::new();
    }
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\\# {} {}", bytes.len(), hex.join(" "))
}

#[cfg(test)]
mod tests {
    use domain::base::Record;
    use proptest::prelude::*;

    use super::*;
    use crate::dns_record::parse_zone;
    use crate::name::DnsName;

    fn question(owner: &str, kind: &str) -> Question {
        Question::new(owner, kind).unwrap()
    }

    /// An answer with these records, as a server would write it.
    fn answer(id: u16, asked: &Question, zone: &str) -> Vec<u8> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(id);
        message.header_mut().set_qr(true);
        message.header_mut().set_aa(true);
        let mut message = message.question();
        message.push((&asked.name, asked.kind)).unwrap();
        let mut message = message.answer();
        let mut file = domain::zonefile::inplace::Zonefile::new();
        file.extend_from_slice(zone.as_bytes());
        file.extend_from_slice(b"\n");
        while let Some(entry) = file.next_entry().unwrap() {
            let domain::zonefile::inplace::Entry::Record(record) = entry else { continue };
            message.push(Record::new(record.owner(), record.class(), record.ttl(), record.data())).unwrap();
        }
        message.finish()
    }

    /// One of each kind that people have.
    const ZONE: &str = r#"Example.ORG. 300 IN SOA ns1.example.org. hostmaster.example.org. 7 3600 600 1209600 300
example.org. 300 IN MX 10 Mx1.Example.net.
example.org. 300 IN TXT "v=spf1 include:_spf.example.net -all"
example.org. 300 IN TXT "a \"quoted\" \\ text; with everything" "and a second part"
example.org. 300 IN CAA 0 issue "letsencrypt.org"
www.example.org. 30 IN A 192.0.2.1
www.example.org. 30 IN AAAA 2001:db8::1
*.example.org. 30 IN CNAME www.example.org.
_sip._tcp.example.org. 60 IN SRV 0 5 5060 sip.example.com.
example.org. 3600 IN DS 19865 13 2 3B124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A
_443._tcp.example.org. 3600 IN TLSA 3 1 1 3B124A67F4FAF4AB84A639BCA6BCACF797DC7C02964A517CD53EA4A453A50A9A
example.org. 300 IN HTTPS 1 . alpn=h2
x.example.org. 3600 IN TYPE65400 \# 3 01 02 03"#;

    #[test]
    fn a_record_of_an_answer_is_the_same_as_in_a_zone_file() {
        let asked = question("example.org", "MX");
        let read = Answer::read(&answer(7, &asked, ZONE), 7, &asked).unwrap();
        let origin: DnsName = "example.org".parse().unwrap();
        assert_eq!(read.answer, parse_zone(ZONE, &origin).unwrap());
        assert!(read.authoritative && !read.truncated);
        assert_eq!(read.of("example.org", "MX").count(), 1);
        for record in read.answer {
            assert_eq!(DnsRecord::parse(&record.to_string(), &origin).as_ref(), Ok(&record));
        }
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let asked = question("example.org", "MX");
        let good = answer(7, &asked, ZONE);
        let stray = |bytes: &[u8], asked: &Question| Answer::read(bytes, 7, asked) == Err(NotAnAnswer::Stray);
        assert!(Answer::read(&good, 7, &question("EXAMPLE.org", "MX")).is_ok(), "names have no case");
        assert!(stray(&answer(8, &asked, ZONE), &asked), "another number");
        assert!(stray(&good, &question("example.net", "MX")), "another name");
        assert!(stray(&good, &question("example.org", "TXT")), "another type");
        assert!(stray(&asked.to_bytes(7), &asked), "the question itself");
        assert!(stray(b"", &asked));
        let mut cut = good.clone();
        cut.truncate(good.len() - 1);
        assert_eq!(Answer::read(&cut, 7, &asked), Err(NotAnAnswer::Malformed));
        // Without its question, only a complaint is believed.
        let mut bare = good[..12].to_vec();
        bare[4..12].fill(0);
        assert!(stray(&bare, &asked));
        bare[3] |= 5;
        assert_eq!(Answer::read(&bare, 7, &asked).unwrap().code, Code::Refused);
    }

    /// The names of protocols are written out as they are by who writes records out.
    #[test]
    fn what_a_stranger_writes_steers_no_terminal() {
        let asked = question("example.org", "HTTPS");
        let mut bytes = answer(7, &asked, "example.org. 300 IN HTTPS 1 . alpn=h2");
        let at = bytes.len() - 2;
        for wild in [*b"\x1bc", *b"\"\n", *b"h;"] {
            bytes[at..].copy_from_slice(&wild);
            match Answer::read(&bytes, 7, &asked) {
                Ok(read) => assert!(read.answer.iter().all(is_sound), "{:?}", read.answer),
                Err(not) => assert_eq!(not, NotAnAnswer::Malformed),
            }
        }
        bytes[at..].copy_from_slice(b"h3");
        assert_eq!(Answer::read(&bytes, 7, &asked).unwrap().answer[0].data, "1 . alpn=h3");
    }

    #[test]
    fn what_is_cut_short_is_not_used() {
        let asked = question("example.org", "MX");
        let mut bytes = answer(7, &asked, ZONE);
        bytes[2] |= 2;
        let read = Answer::read(&bytes, 7, &asked).unwrap();
        assert!(read.truncated && read.answer.is_empty());
    }

    #[test]
    fn a_question_says_whose_and_what() {
        assert_eq!(question("_dmarc.example.org", "TXT").to_string(), "_dmarc.example.org. TXT");
        assert_eq!(question("", "NS").owner(), "");
        assert!(Question::new("a..b", "A").is_err() && Question::new("a", "NO SUCH").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_saying_so(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let asked = question("example.org", "MX");
            let _ = Answer::read(&bytes, 7, &asked);
            let mut broken = answer(7, &asked, ZONE);
            *at.get_mut(&mut broken) = byte;
            let _ = Answer::read(&broken, 7, &asked);
            broken.append(&mut bytes);
            let _ = Answer::read_further(&broken, 7, &asked);
        }
    }
}
