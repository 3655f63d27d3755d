//! What authorities and name servers say when certificates are asked for.

use sovereign_certs::{ask, x509};

/// Whatever passes for a certificate: what its authority is asked by fits into an address.
pub(crate) fn certificate(data: &[u8]) {
    let Some(facts) = x509::facts(data) else { return };
    if let Some(id) = facts.id {
        let (key, serial) = id.split_once('.').expect("it has two parts");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        assert!(key.chars().chain(serial.chars()).all(is_plain), "{id}");
    }
}

/// An answer of a name server.
pub(crate) fn answer(data: &[u8]) {
    ask::stranger::look_at(data);
}
