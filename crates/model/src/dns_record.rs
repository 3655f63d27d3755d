//! Records of a DNS zone, as text: what an operator writes into the stack file, and what a zone consists of.
//!
//! The form is the presentation format of zone files (RFC 1035 section 5.1), one record on one line, so that what another
//! provider exports can be pasted. A [`DnsRecord`] is in one normal form, so that two of the same are equal. Which records
//! a domain may have beside those of the stack is checked where the stack file is.

use std::fmt;

use domain::base::iana::{Class, Rtype};
use domain::base::zonefile_fmt::{DisplayKind, ZonefileFmt as _};
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, Zonefile};
use serde::{Deserialize, Serialize};

use crate::name::DnsName;

/// How long resolvers keep a record when its line says nothing, in seconds.
pub const DEFAULT_TTL: u32 = 3600;

/// The longest time to live (RFC 2181 section 8), in seconds.
pub const LONGEST_TTL: u32 = i32::MAX.cast_unsigned();

/// A text is not one record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARecord {
    /// It is not in the form of a zone file.
    #[error("this is not a record of a zone file: {0}")]
    Form(String),
    /// Nothing, or more than one record.
    #[error("this is {0} records, not one")]
    Count(usize),
    /// `$INCLUDE`, `$ORIGIN`, `$TTL`.
    #[error("this is not a record, but a directive of a zone file")]
    Directive,
    /// What follows an unquoted semicolon is a comment, so half a policy would pass for a whole one.
    #[error("what follows the `;` is a comment, and would be lost")]
    Comment,
    /// Not of the internet's class.
    #[error("class {0} is not the internet's, IN")]
    Class(String),
    /// It is a record, and not in its normal form.
    #[error("this record would be written `{0}`")]
    NotNormal(DnsRecord),
    /// A time to live that RFC 2181 section 8 does not allow.
    #[error("a record cannot live {0} s, at most {LONGEST_TTL}")]
    Ttl(u32),
}

/// A resource record of class IN (RFC 1035 section 3.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct DnsRecord {
    /// Whose it is: absolute, in lower case, without the dot at the end.
    pub owner: String,
    /// Its type, `TXT` for instance.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says, in the presentation format; names in it are absolute and end with a dot.
    pub data: String,
    /// How long resolvers may keep it, in seconds.
    pub ttl: u32,
}

/// A record as it is stored, before it was looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    owner: String,
    #[serde(rename = "type")]
    kind: String,
    data: String,
    ttl: u32,
}

impl TryFrom<Fields> for DnsRecord {
    type Error = NotARecord;

    fn try_from(Fields { owner, kind, data, ttl }: Fields) -> Result<Self, NotARecord> {
        let record = Self { owner, kind, data, ttl };
        // Its names are absolute, so it makes no difference what they would be relative to.
        let read = Self::read(&record.to_string(), ".")?;
        if read == record { Ok(record) } else { Err(NotARecord::NotNormal(read)) }
    }
}

impl DnsRecord {
    /// A record of the stack's own making.
    pub fn new(owner: &DnsName, ttl: u32, kind: &str, data: impl Into<String>) -> Self {
        Self { owner: owner.to_string(), kind: kind.to_owned(), data: data.into(), ttl }
    }

    /// Reads one line of a zone file whose names are relative to `origin`.
    pub fn parse(line: &str, origin: &DnsName) -> Result<Self, NotARecord> {
        Self::read(line, &format!("{origin}."))
    }

    fn read(line: &str, origin: &str) -> Result<Self, NotARecord> {
        if line.trim_start().starts_with('$') {
            return Err(NotARecord::Directive);
        }
        if has_comment(line) {
            return Err(NotARecord::Comment);
        }
        let mut records = read_zone(line, origin)?;
        match (records.pop(), records.len()) {
            (Some(record), 0) => Ok(record),
            (record, others) => Err(NotARecord::Count(others + usize::from(record.is_some()))),
        }
    }

    /// Whether it is a record of `origin` or of a name below it.
    pub fn is_within(&self, origin: &DnsName) -> bool {
        is_within(&self.owner, origin.as_str())
    }
}

/// All records of one owner and type, as an operator names them: `old TXT`, `@ MX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RecordSet {
    /// Whose they are, as [`DnsRecord::owner`].
    pub owner: String,
    /// Their type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A text does not name records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARecordSet {
    /// Not a name and a type.
    #[error("this is not a name and a type of records")]
    Form,
    /// The second word is no type.
    #[error("`{0}` is not a type of records")]
    Type(String),
}

impl RecordSet {
    /// Reads a name, relative to `origin`, and a type.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str, origin: &DnsName) -> Result<Self, NotARecordSet> {
        let mut words = text.split_whitespace();
        let (Some(owner), Some(kind), None) = (words.next(), words.next(), words.next()) else {
            return Err(NotARecordSet::Form);
        };
        let rtype: Rtype = kind.parse().map_err(|_| NotARecordSet::Type(kind.to_owned()))?;
        // Names are read where those of records are.
        let read = DnsRecord::parse(&format!("{owner} IN TYPE65400 \\# 0"), origin);
        let owner = read.map_err(|_| NotARecordSet::Form)?.owner;
        Ok(Self { owner, kind: kind_name(rtype) })
    }

    /// Whether a record is one of them.
    pub fn has(&self, record: &DnsRecord) -> bool {
        self.owner == record.owner && self.kind == record.kind
    }
}

impl fmt::Display for RecordSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.owner, self.kind)
    }
}

/// A name as it is written relative to `origin`: `@` for that itself, and with a dot at its end where it is not below it.
pub fn relative(owner: &str, origin: &DnsName) -> String {
    match owner.strip_suffix(origin.as_str()) {
        Some("") => "@".to_owned(),
        Some(before) if is_within(owner, origin.as_str()) => before.trim_end_matches('.').to_owned(),
        _ => format!("{owner}."),
    }
}

/// The number that a DS record calls a DNSKEY record by (RFC 4034 appendix B).
pub fn key_tag(record: &DnsRecord) -> Option<u16> {
    let mut file = Zonefile::new();
    file.extend_from_slice(format!("{record}\n").as_bytes());
    match file.next_entry() {
        Ok(Some(Entry::Record(record))) => match record.data() {
            ZoneRecordData::Dnskey(key) => Some(key.key_tag()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a name, absolute and in lower case, is another one or below it.
pub fn is_within(name: &str, other: &str) -> bool {
    name.strip_suffix(other).is_some_and(|before| {
        let label = before.strip_suffix('.');
        // A dot after an odd number of backslashes is one within a label.
        let escaped = |label: &str| label.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        before.is_empty() || label.is_some_and(|label| !escaped(label))
    })
}

/// Reads a zone file whose names are relative to `origin`, until it says otherwise.
///
/// # Errors
/// When it is not a zone file, includes another file, or has records of another class than the internet's.
pub fn parse_zone(text: &str, origin: &DnsName) -> Result<Vec<DnsRecord>, NotARecord> {
    read_zone(text, &format!("{origin}."))
}

fn read_zone(text: &str, origin: &str) -> Result<Vec<DnsRecord>, NotARecord> {
    let mut file = Zonefile::new();
    file.extend_from_slice(format!("$ORIGIN {origin}\n$TTL {DEFAULT_TTL}\n").as_bytes());
    file.extend_from_slice(text.as_bytes());
    file.extend_from_slice(b"\n");
    file.set_default_class(Class::IN);
    let mut records = Vec::new();
    while let Some(entry) = file.next_entry().map_err(|not| NotARecord::Form(without_place(&not.to_string())))? {
        let Entry::Record(record) = entry else { return Err(NotARecord::Directive) };
        if record.class() != Class::IN {
            return Err(NotARecord::Class(record.class().to_string()));
        }
        let ttl = record.ttl().as_secs();
        if ttl > LONGEST_TTL {
            return Err(NotARecord::Ttl(ttl));
        }
        records.push(DnsRecord {
            owner: owner_text(record.owner()),
            kind: kind_name(record.rtype()),
            data: record.data().display_zonefile(DisplayKind::Simple).to_string(),
            ttl,
        });
    }
    Ok(records)
}

/// A name as [`DnsRecord::owner`] has it; the root is empty.
pub(crate) fn owner_text(name: impl fmt::Display) -> String {
    let text = name.to_string();
    text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase()
}

pub(crate) fn kind_name(rtype: Rtype) -> String {
    rtype.to_mnemonic().and_then(|name| std::str::from_utf8(name).ok()).map_or_else(|| rtype.to_string(), str::to_owned)
}

fn has_comment(line: &str) -> bool {
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '"' => quoted = !quoted,
            ';' if !quoted => return true,
            _ => {}
        }
    }
    false
}

/// What a reader of zone files says, without the line and column of the text that was handed to it.
fn without_place(message: &str) -> String {
    message.splitn(3, ':').nth(2).unwrap_or(message).trim().to_owned()
}

impl fmt::Display for DnsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {} IN {} {}", self.owner, self.ttl, self.kind, self.data)
    }
}

impl fmt::Debug for DnsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> DnsName {
        "example.org".parse().unwrap()
    }

    fn one(line: &str) -> String {
        DnsRecord::parse(line, &origin()).map_or_else(|not| format!("not: {not}"), |record| record.to_string())
    }

    #[test]
    fn a_line_of_a_zone_file_is_a_record_in_its_normal_form() {
        for (line, record) in [
            ("@ 300 IN TXT \"v=spf1 -all\"", "example.org. 300 IN TXT \"v=spf1 -all\""),
            ("@ MX 10 mx1.Example.NET.", "example.org. 3600 IN MX 10 mx1.Example.NET."),
            ("Shop CNAME shops", "shop.example.org. 3600 IN CNAME shops.example.org."),
            ("_dmarc TXT v=DMARC1\\;p=reject", "_dmarc.example.org. 3600 IN TXT \"v=DMARC1;p=reject\""),
            ("a AAAA 2001:DB8:0::1", "a.example.org. 3600 IN AAAA 2001:db8::1"),
            (
                "_sip._tcp 60 SRV 0 5 5060 sip.example.com.",
                "_sip._tcp.example.org. 60 IN SRV 0 5 5060 sip.example.com.",
            ),
            ("www.example.net. A 192.0.2.1", "www.example.net. 3600 IN A 192.0.2.1"),
            ("@ CAA 0 issue \"letsencrypt.org\"", "example.org. 3600 IN CAA 0 issue \"letsencrypt.org\""),
            ("x TYPE65400 \\# 3 010203", "x.example.org. 3600 IN TYPE65400 \\# 3 01 02 03"),
        ] {
            assert_eq!(one(line), record, "{line}");
            assert_eq!(one(record), record, "the normal form is read as what it is");
        }
    }

    #[test]
    fn what_is_no_record_is_told_why() {
        insta::assert_snapshot!(
            ["", "_dmarc TXT v=DMARC1;p=reject", "@ TXT", "@ A 1.2.3", "a A 192.0.2.1\nb A 192.0.2.2", "$INCLUDE /etc/passwd", "$TTL 5",
             "@ CH TXT \"a\"", "@ 4294967295 A 192.0.2.1", "@ NOTATYPE x"].map(one).join("\n"),
            @r"
            not: this is 0 records, not one
            not: what follows the `;` is a comment, and would be lost
            not: this is not a record of a zone file: unexpected end of entry
            not: this is not a record of a zone file: expected IPv4 address
            not: this is 2 records, not one
            not: this is not a record, but a directive of a zone file
            not: this is not a record, but a directive of a zone file
            not: this is not a record of a zone file: different class: CH != IN
            not: a record cannot live 4294967295 s, at most 2147483647
            not: this is not a record of a zone file: expected rtype
            "
        );
    }

    #[test]
    fn what_is_within_a_domain_ends_at_a_dot() {
        assert!(is_within("example.org", "example.org") && is_within("a.b.example.org", "example.org"));
        assert!(!is_within("notexample.org", "example.org") && !is_within("org", "example.org"));
        assert!(!is_within("a\\.example.org", "example.org"), "a dot within a label");
        assert!(is_within("a\\\\.example.org", "example.org"), "a backslash at the end of one");
    }

    #[test]
    fn records_are_named_by_owner_and_type() {
        let named = |text: &str| RecordSet::parse(text, &origin());
        let old = named("Old txt").unwrap();
        assert_eq!(old.to_string(), "old.example.org. TXT");
        assert!(old.has(&DnsRecord::parse("old TXT x", &origin()).unwrap()));
        assert!(!old.has(&DnsRecord::parse("older TXT x", &origin()).unwrap()));
        assert_eq!(named("@ DS").unwrap().to_string(), "example.org. DS");
        assert_eq!(named("*.a MX").unwrap().owner, "*.a.example.org");
        assert_eq!(named("old"), Err(NotARecordSet::Form));
        assert_eq!(named("old TXT x"), Err(NotARecordSet::Form));
        assert_eq!(named("old NOTHING"), Err(NotARecordSet::Type("NOTHING".to_owned())));
        assert_eq!(named("a;b TXT"), Err(NotARecordSet::Form));
        for owner in ["example.org", "a.b.example.org", "example.net", "notexample.org", "*.example.org"] {
            let text = format!("{} TXT", relative(owner, &origin()));
            assert_eq!(named(&text).unwrap().owner, owner, "{text}");
        }
    }

    #[test]
    fn a_key_is_called_by_its_number() {
        // As `sovereign dns ds` and dnssec-dsfromkey have it.
        let key = "@ DNSKEY 257 3 13 /xGUKyg/9gowcO/R3Y4ScjhP7VuWS8MWZ6csnZm2mV5HqxC6MNNKPchxVSY0deqvww4+b8jJdN9fz2nhFCcUJw==";
        assert_eq!(key_tag(&DnsRecord::parse(key, &origin()).unwrap()), Some(19865));
        assert_eq!(key_tag(&DnsRecord::parse("@ TXT x", &origin()).unwrap()), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_fail_otherwise_than_by_saying_so(text in "\\PC{0,60}") {
            if let Ok(record) = DnsRecord::parse(&text, &origin()) {
                prop_assert_eq!(DnsRecord::parse(&record.to_string(), &origin()), Ok(record));
            }
        }
    }
}
