//! When a certificate ends, read off its DER (RFC 5280 section 4.1). Nothing else of it is looked at: what the
//! certificate is worth is for readers to judge.

use std::time::SystemTime;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// `[0] EXPLICIT`: the version.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day][hour][minute][second]Z");

/// When the certificate `der` ends; `None` when it is none.
pub(crate) fn ends(der: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = taken(der, SEQUENCE)?;
    let (mut rest, _) = taken(certificate, SEQUENCE)?;
    if let Some((_, after)) = taken(rest, VERSION) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = taken(rest, tag)?.1;
    }
    let (validity, _) = taken(rest, SEQUENCE)?;
    let (_, not_after) = time(validity)?;
    time(not_after)?.0.map(SystemTime::from)
}

/// The moment that `der` begins with, if it is in range, and what follows.
fn time(der: &[u8]) -> Option<(Option<OffsetDateTime>, &[u8])> {
    let ((text, century), rest) = match taken(der, UTC_TIME) {
        // RFC 5280 section 4.1.2.5.1: two digits from 50 on are of the last century.
        Some((text, rest)) => ((text, Some(if text.first()? >= &b'5' { "19" } else { "20" })), rest),
        None => taken(der, GENERALIZED_TIME).map(|(text, rest)| ((text, None), rest))?,
    };
    let text = format!("{}{}", century.unwrap_or_default(), std::str::from_utf8(text).ok()?);
    Some((PrimitiveDateTime::parse(&text, FORMAT).ok().map(PrimitiveDateTime::assume_utc), rest))
}

/// The content of the value of type `tag` that `der` begins with, and what follows (X.690 sections 8.1 and 10.1).
fn taken(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (length, rest) = rest.split_first().filter(|_| *found == tag)?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};
    use time::macros::datetime;

    use super::*;

    fn certificate(ends: OffsetDateTime) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["blog.example".to_owned()]).unwrap();
        params.not_after = ends;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_a_moment_are_read() {
        for moment in
            [datetime!(2029-01-31 10:55:32 UTC), datetime!(2049-12-31 23:59:59 UTC), datetime!(2096-02-29 0:00 UTC)]
        {
            assert_eq!(ends(&certificate(moment)), Some(moment.into()));
        }
    }

    #[test]
    fn half_a_certificate_has_no_end() {
        let whole = certificate(datetime!(2029-01-31 10:55:32 UTC));
        assert!((0..whole.len()).all(|length| ends(&whole[..length]).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            ends(&bytes);
        }
    }
}
