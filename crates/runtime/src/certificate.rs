//! What a certificate says of itself, read off its DER (RFC 5280 section 4.1): when it is valid, and what it is known by.
//! Which of two is the newer one, and what a machine believes in.
//!
//! What it is worth is for others to judge; bytes that are none give `None`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

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

/// Where machines keep the certificates of public authorities: Debian, Fedora, Alpine and the BSDs.
const PUBLIC_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Authorities date certificates back, so that readers whose clocks are late believe them: Let's Encrypt by an hour. Of two
/// that are dated closer than this nobody can tell which was issued later.
pub const DATED_BACK: Duration = Duration::from_secs(2 * 3600);

/// Whether a certificate that is valid from `one` was issued later than one that is valid from `than`, for certain. Everybody
/// who has both takes that one, whoever got it and whichever way it came.
pub fn is_newer(one: SystemTime, than: SystemTime) -> bool {
    one.duration_since(than).is_ok_and(|later| later > DATED_BACK)
}

/// The roots that this machine believes in, PEM; nothing when it has no such file.
pub fn public_roots() -> Vec<u8> {
    PUBLIC_ROOTS.iter().map(Path::new).find_map(|path| std::fs::read(path).ok()).unwrap_or_default()
}

/// What a certificate says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'c> {
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// Its number at its issuer's, as the octets of a signed integer.
    pub serial: &'c [u8],
    /// The identifier of its issuer's key; `None` when it does not name that.
    pub authority_key: Option<&'c [u8]>,
}

/// What the certificate `der` says; `None` when it is none.
pub fn facts(der: &[u8]) -> Option<Facts<'_>> {
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
    Some(Facts { not_before, not_after, serial, authority_key: extensions.and_then(authority_key) })
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
fn moment(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let ((text, century), rest) = match taken(der, UTC_TIME) {
        // RFC 5280 section 4.1.2.5.1: two digits from 50 on are of the last century.
        Some((text, rest)) => ((text, Some(if text.first()? >= &b'5' { "19" } else { "20" })), rest),
        None => taken(der, GENERALIZED_TIME).map(|(text, rest)| ((text, None), rest))?,
    };
    let text = format!("{}{}", century.unwrap_or_default(), std::str::from_utf8(text).ok()?);
    let time = PrimitiveDateTime::parse(&text, FORMAT).ok()?.assume_utc();
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
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;

    /// The example of RFC 9773 section 4.1.
    const KEY: [u8; 20] = [
        0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01,
        0xc8, 0xd4,
    ];

    fn issued(named: bool, not_after: OffsetDateTime) -> Vec<u8> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_identifier_method = KeyIdMethod::PreSpecified(KEY.to_vec());
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["blog.example".to_owned()]).unwrap();
        params.not_before = datetime!(2026-11-01 0:00 UTC);
        params.not_after = not_after;
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        params.use_authority_key_identifier_extension = named;
        params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap().der().to_vec()
    }

    fn any_issued() -> Vec<u8> {
        issued(true, datetime!(2051-01-31 10:55:32 UTC))
    }

    #[test]
    fn a_certificate_says_what_it_is_known_by() {
        let der = any_issued();
        let said = facts(&der).unwrap();
        assert_eq!(said.serial, [0, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(said.authority_key, Some(&KEY[..]));
        assert_eq!(facts(&issued(false, datetime!(2029-01-31 10:55:32 UTC))).unwrap().authority_key, None);
    }

    #[test]
    fn both_forms_of_a_moment_are_read() {
        for moment in
            [datetime!(2029-01-31 10:55:32 UTC), datetime!(2049-12-31 23:59:59 UTC), datetime!(2096-02-29 0:00 UTC)]
        {
            let der = issued(true, moment);
            let said = facts(&der).unwrap();
            assert_eq!((said.not_before, said.not_after), (datetime!(2026-11-01 0:00 UTC).into(), moment.into()));
        }
    }

    #[test]
    fn half_a_certificate_says_nothing() {
        let whole = any_issued();
        assert!((0..whole.len()).all(|length| facts(&whole[..length]).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            facts(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_read_without_harm(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut der = any_issued();
            let at = at.index(der.len());
            der[at] = byte;
            facts(&der);
        }
    }
}
