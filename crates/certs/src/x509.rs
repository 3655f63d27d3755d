//! What has to be known of a certificate to renew it. What the certificate is worth is judged elsewhere ([`crate::check`]).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sovereign_runtime::certificate;

use crate::moment::Moment;

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
    let certificate::Facts { not_before, not_after, serial, authority_key } = certificate::facts(der)?;
    let id = authority_key.map(|key| {
        let [key, serial] = [key, serial].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        format!("{key}.{serial}")
    });
    Some(Facts { not_before: not_before.into(), not_after: not_after.into(), id })
}

#[cfg(test)]
mod tests {
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
}
