//! What has to be known of a certificate to renew it, read off its DER (RFC 5280 section 4.1).
//!
//! What the certificate is worth is judged elsewhere ([`crate::check`]); bytes that are none give `None`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::moment::Moment;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
/// `[0] EXPLICIT`: the version.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT`: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[0] IMPLICIT`: in an authority key identifier, the identifier itself.
const KEY_IDENTIFIER: u8 = 0x80;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `id-ce-authorityKeyIdentifier`, 2.5.29.35.
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

const FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day][hour][minute][second]Z");

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Valid from.
    pub not_before: Moment,
    /// Valid until.
    pub not_after: Moment,
    /// What its authority knows it by when it is asked for renewal information (RFC 9773 section 4.1); `None` when it does
    /// not name its issuer's key.
    pub id: Option<String>,
}

/// What the certificate `der` says; `None` when it is none.
pub fn facts(der: &[u8]) -> Option<Facts> {
    let (certificate, _) = taken(der, SEQUENCE)?;
    let (mut rest, _) = taken(certificate, SEQUENCE)?;
    if let Some((_, after)) = taken(rest, VERSION) {
        rest = after;
    }
    let (serial, rest) = taken(rest, INTEGER)?;
    // Signature algorithm, issuer.
    let (_, rest) = taken(rest, SEQUENCE)?;
    let (_, rest) = taken(rest, SEQUENCE)?;
    let (validity, rest) = taken(rest, SEQUENCE)?;
    let (not_before, after) = moment(validity)?;
    let (not_after, _) = moment(after)?;
    // Subject, its key; then what few have, up to the extensions.
    let (_, rest) = taken(rest, SEQUENCE)?;
    let (_, mut rest) = taken(rest, SEQUENCE)?;
    let mut extensions = None;
    while let Some(tag) = rest.first() {
        let (content, after) = taken(rest, *tag)?;
        if *tag == EXTENSIONS {
            extensions = taken(content, SEQUENCE).map(|(all, _)| all);
        }
        rest = after;
    }
    let id = extensions.and_then(authority_key).map(|key| {
        let [key, serial] = [key, serial].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        format!("{key}.{serial}")
    });
    Some(Facts { not_before, not_after, id })
}

/// The identifier of the issuer's key, among extensions.
fn authority_key(mut extensions: &[u8]) -> Option<&[u8]> {
    while let Some((extension, after)) = taken(extensions, SEQUENCE) {
        extensions = after;
        let (oid, mut rest) = taken(extension, OID)?;
        if oid != AUTHORITY_KEY_IDENTIFIER {
            continue;
        }
        if let Some((_critical, after)) = taken(rest, BOOLEAN) {
            rest = after;
        }
        let (value, _) = taken(rest, OCTETS)?;
        let (value, _) = taken(value, SEQUENCE)?;
        return taken(value, KEY_IDENTIFIER).map(|(key, _)| key);
    }
    None
}

/// The moment that `der` begins with, and what follows.
fn moment(der: &[u8]) -> Option<(Moment, &[u8])> {
    let ((text, century), rest) = match taken(der, UTC_TIME) {
        // RFC 5280 section 4.1.2.5.1: two digits from 50 on are of the last century.
        Some((text, rest)) => ((text, Some(if text.first()? >= &b'5' { "19" } else { "20" })), rest),
        None => taken(der, GENERALIZED_TIME).map(|(text, rest)| ((text, None), rest))?,
    };
    let text = format!("{}{}", century.unwrap_or_default(), std::str::from_utf8(text).ok()?);
    let time: OffsetDateTime = PrimitiveDateTime::parse(&text, FORMAT).ok()?.assume_utc();
    Some((time.into(), rest))
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
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair, SerialNumber};
    use time::macros::datetime;

    use super::*;

    fn issued(named: bool) -> Vec<u8> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // The example of RFC 9773 section 4.1.
        let key = [
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01,
            0xc8, 0xd4,
        ];
        authority.key_identifier_method = KeyIdMethod::PreSpecified(key.to_vec());
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["blog.example".to_owned()]).unwrap();
        params.not_before = datetime!(2026-11-01 0:00 UTC);
        params.not_after = datetime!(2051-01-31 10:55:32 UTC);
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        params.use_authority_key_identifier_extension = named;
        params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_is_known_by_its_issuers_key_and_its_number() {
        let facts = facts(&issued(true)).unwrap();
        assert_eq!(facts.not_before, datetime!(2026-11-01 0:00 UTC).into());
        assert_eq!(facts.not_after, datetime!(2051-01-31 10:55:32 UTC).into());
        assert_eq!(facts.id.unwrap(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        assert_eq!(super::facts(&issued(false)).unwrap().id, None);
    }

    #[test]
    fn half_a_certificate_says_nothing() {
        let whole = issued(true);
        assert!((0..whole.len()).all(|length| facts(&whole[..length]).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            facts(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_read_without_harm(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut der = issued(true);
            let at = at.index(der.len());
            der[at] = byte;
            facts(&der);
        }
    }
}
