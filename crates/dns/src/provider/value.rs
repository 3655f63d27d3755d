//! What records say: from zone files to the words of the crate that tells providers, and back.
//!
//! Promise: what comes back is in one form, so that two values that mean the same are equal, however a provider writes them.
//!
//! Left out: types that nobody needs at a provider, and texts that are no UTF-8, which the crate cannot say.

use dns_update::{CAARecord, DnsRecord, DnsRecordType, KeyValue, MXRecord, SRVRecord};

/// Why a record cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// The crate does not know its type.
    #[error("there are no words for records of this type")]
    Type,
    /// The crate knows its type, and not this.
    #[error("there are no words for what it says")]
    Value,
}

/// The type in the crate's words.
///
/// # Errors
/// When it has none.
pub fn kind_of(kind: &str) -> Result<DnsRecordType, NotTold> {
    Ok(match kind {
        "A" => DnsRecordType::A,
        "AAAA" => DnsRecordType::AAAA,
        "CNAME" => DnsRecordType::CNAME,
        "NS" => DnsRecordType::NS,
        "MX" => DnsRecordType::MX,
        "TXT" => DnsRecordType::TXT,
        "SRV" => DnsRecordType::SRV,
        "CAA" => DnsRecordType::CAA,
        _ => return Err(NotTold::Type),
    })
}

/// What a record of a zone file says, in the form in which values are compared.
///
/// # Errors
/// When it cannot be told.
pub fn canonical(kind: &str, data: &str) -> Result<String, NotTold> {
    text(&record(kind, data)?)
}

/// A record in the crate's words.
///
/// # Errors
/// When it has none for it.
pub fn record(kind: &str, data: &str) -> Result<DnsRecord, NotTold> {
    let not = |_| NotTold::Value;
    let words: Vec<&str> = data.split_whitespace().collect();
    Ok(match (kind_of(kind)?, words.as_slice()) {
        (DnsRecordType::A, [address]) => DnsRecord::A(address.parse().map_err(not)?),
        (DnsRecordType::AAAA, [address]) => DnsRecord::AAAA(address.parse().map_err(|_| NotTold::Value)?),
        (DnsRecordType::CNAME, [name]) => DnsRecord::CNAME(plain(name)?),
        (DnsRecordType::NS, [name]) => DnsRecord::NS(plain(name)?),
        (DnsRecordType::MX, [priority, name]) => {
            DnsRecord::MX(MXRecord { priority: number(priority)?, exchange: plain(name)? })
        }
        (DnsRecordType::SRV, [priority, weight, port, name]) => DnsRecord::SRV(SRVRecord {
            priority: number(priority)?,
            weight: number(weight)?,
            port: number(port)?,
            target: plain(name)?,
        }),
        (DnsRecordType::TXT, [_, ..]) => DnsRecord::TXT(strings(data)?.concat()),
        (DnsRecordType::CAA, [flags, tag, _, ..]) => {
            let value = strings(data)?.pop().ok_or(NotTold::Value)?;
            DnsRecord::CAA(pinned(flags, tag, value)?)
        }
        _ => return Err(NotTold::Value),
    })
}

/// What a record says, in the form in which values are compared.
///
/// # Errors
/// When it is of a type that is never told.
pub fn text(record: &DnsRecord) -> Result<String, NotTold> {
    Ok(match record {
        DnsRecord::A(address) => address.to_string(),
        DnsRecord::AAAA(address) => address.to_string(),
        DnsRecord::CNAME(name) | DnsRecord::NS(name) => absolute(name),
        DnsRecord::MX(MXRecord { priority, exchange }) => format!("{priority} {}", absolute(exchange)),
        DnsRecord::SRV(SRVRecord { priority, weight, port, target }) => {
            format!("{priority} {weight} {port} {}", absolute(target))
        }
        DnsRecord::TXT(text) => quoted(text),
        DnsRecord::CAA(caa) => {
            let (flags, tag, value) = caa.clone().decompose();
            format!("{flags} {tag} {}", quoted(&value))
        }
        _ => return Err(NotTold::Type),
    })
}

fn number(text: &str) -> Result<u16, NotTold> {
    text.parse().map_err(|_| NotTold::Value)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A name without escapes, as the crate compares it with what a provider says: without the dot at the end, unless it is the root.
fn plain(name: &str) -> Result<String, NotTold> {
    match name.trim_end_matches('.').to_ascii_lowercase() {
        escaped if escaped.contains('\\') => Err(NotTold::Value),
        root if root.is_empty() => Ok(".".to_owned()),
        name => Ok(name),
    }
}

fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

/// Authorities that may issue certificates. The crate says two flags and three tags.
fn pinned(flags: &str, tag: &str, value: String) -> Result<CAARecord, NotTold> {
    let issuer_critical = match flags {
        "0" => false,
        "128" => true,
        _ => return Err(NotTold::Value),
    };
    let mut parts = value.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty()).map(str::to_owned);
    let option = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        KeyValue { key: key.trim().to_owned(), value: value.trim().to_owned() }
    };
    let options = parts.filter(|part| !part.is_empty()).map(option).collect();
    Ok(match tag {
        "issue" => CAARecord::Issue { issuer_critical, name, options },
        "issuewild" => CAARecord::IssueWild { issuer_critical, name, options },
        "iodef" => CAARecord::Iodef { issuer_critical, url: value },
        _ => return Err(NotTold::Value),
    })
}

/// The strings in a zone file's text (RFC 1035 section 5.1), quoted or not.
fn strings(data: &str) -> Result<Vec<String>, NotTold> {
    let mut strings = Vec::new();
    let mut bytes = data.bytes().peekable();
    while let Some(first) = bytes.next() {
        if first.is_ascii_whitespace() {
            continue;
        }
        let quoted = first == b'"';
        let mut string = Vec::new();
        let mut next = if quoted { bytes.next() } else { Some(first) };
        loop {
            match next {
                Some(b'"') if quoted => break,
                Some(byte) if !quoted && byte.is_ascii_whitespace() => break,
                None if !quoted => break,
                None => return Err(NotTold::Value),
                Some(b'\\') => {
                    let escaped = bytes.next().ok_or(NotTold::Value)?;
                    if escaped.is_ascii_digit() {
                        let digits = [escaped, bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                        let digits = str::from_utf8(&digits).map_err(|_| NotTold::Value)?;
                        string.push(digits.parse().map_err(|_| NotTold::Value)?);
                    } else {
                        string.push(escaped);
                    }
                }
                Some(byte) => string.push(byte),
            }
            next = bytes.next();
        }
        strings.push(String::from_utf8(string).map_err(|_| NotTold::Value)?);
    }
    Ok(strings)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        for (kind, one, other) in [
            ("A", "192.0.2.1", "192.0.2.1"),
            ("AAAA", "2001:db8:0::1", "2001:db8::1"),
            ("CNAME", "Shops.Example.org.", "shops.example.org."),
            ("MX", "0 .", "0 ."),
            ("MX", "10 Mx.example.org.", "10 mx.example.org."),
            ("TXT", "\"a;b\" \"c\"", "\"a;bc\""),
            ("TXT", "plain", "\"plain\""),
            ("TXT", "\"\\\"\\092\\233\\065\"", "\"\\\"\\\\\\233\\065\""),
            ("SRV", "1 2 443 A.example.org.", "1 2 443 a.example.org."),
            ("CAA", "0 issue \"ca.example\"", "0 issue \"ca.example\""),
            ("CAA", "0 issuewild \";\"", "0 issuewild \"\""),
            (
                "CAA",
                "128 issue \"ca.example;validationmethods=dns-01\"",
                "128 issue \"ca.example; validationmethods=dns-01\"",
            ),
        ] {
            assert_eq!(canonical(kind, one), canonical(kind, other), "{one}");
        }
        assert_eq!(canonical("TXT", "\"\\\"\\092\\195\\169\"").as_deref(), Ok("\"\\\"\\\\é\""));
    }

    #[test]
    fn what_cannot_be_told_says_so() {
        assert_eq!(canonical("SSHFP", "4 2 00"), Err(NotTold::Type));
        for (kind, data) in [
            ("TXT", "\"\\233\""),
            ("TXT", "\"\\999\""),
            ("TXT", "\"open"),
            ("CAA", "1 issue \"ca.example\""),
            ("CAA", "0 issuemail \"ca.example\""),
            ("MX", "65536 a."),
            ("CNAME", "a\\.b.example."),
        ] {
            assert_eq!(canonical(kind, data), Err(NotTold::Value), "{data}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_told_and_comes_back(text in "\\PC{0,300}") {
            let said = super::text(&DnsRecord::TXT(text.clone())).unwrap();
            prop_assert_eq!(record("TXT", &said), Ok(DnsRecord::TXT(text)));
        }

        #[test]
        fn no_value_makes_the_reader_fail_otherwise_than_by_saying_so(
            kind in prop::sample::select(vec!["A", "AAAA", "CNAME", "NS", "MX", "TXT", "SRV", "CAA", "TLSA"]),
            data in "\\PC{0,60}",
        ) {
            if let Ok(value) = canonical(kind, &data) {
                prop_assert_eq!(canonical(kind, &value), Ok(value.clone()));
            }
        }
    }
}
