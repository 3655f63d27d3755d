//! Takes in a certificate that somebody else has got: what a site had before it came to the stack, so that readers notice
//! nothing, or what an authority gave by another way than ACME. Or what another renewer of the stack has got meanwhile.
//!
//! Promise: it is held to the same as one that was issued here, and renewed like one. A newer one is never given up for it.

use sovereign_model::{AuthorityName, DnsName};
use sovereign_runtime::certificate;
use tracing::info;

use crate::challenges::Challenges;
use crate::check::{Misfit, certificates};
use crate::moment::Moment;
use crate::renewer::Renewer;
use crate::state::Held;
use crate::store::StoreError;
use crate::x509;

/// Why a certificate is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No such authority is declared.
    #[error("no authority is declared that is called {0}")]
    Unknown(AuthorityName),
    /// It does not fit.
    #[error("it does not fit {name}")]
    Misfit {
        /// For what.
        name: DnsName,
        /// Why.
        source: Misfit,
    },
    /// What is in force was issued later.
    #[error("the certificate for {0} that is in force was issued later")]
    Older(DnsName),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("[[authority]] in the stack file declares one".into()),
            Self::Misfit { source: Misfit::Unreadable, .. } => Some(
                "the chain is PEM: the certificate first, then those that it was issued by, and nothing else".into(),
            ),
            Self::Misfit { source, .. } => source.help(),
            Self::Older(name) => Some(format!("`sovereign cert renew {name}` gets another one, whatever there is")),
            Self::Store(error) => error.help(),
        }
    }
}

impl<C: Challenges> Renewer<C> {
    /// Takes in a certificate for `name` with its key (PEM both), as if `authority` had issued it here; when it ends.
    ///
    /// # Errors
    /// When it does not fit, or cannot be stored. What was there is as it was.
    pub fn import(
        &self,
        name: &DnsName,
        authority: &AuthorityName,
        chain: &str,
        key: &str,
    ) -> Result<Moment, ImportError> {
        let access = self.access(authority).ok_or_else(|| ImportError::Unknown(authority.clone()))?;
        let fits = access.check().fits(chain, key, name, self.now());
        let facts = fits.map_err(|source| ImportError::Misfit { name: name.clone(), source })?;
        let mut state = self.store().state(name)?;
        if let Some(held) = &state.held
            && certificate::is_newer(held.not_before.into(), facts.not_before.into())
        {
            return Err(ImportError::Older(name.clone()));
        }
        let ends = facts.not_after;
        self.store().keep(&mut state, Held::new(authority.clone(), facts, self.now()), chain, key)?;
        info!(%name, %authority, "a certificate was taken in");
        Ok(ends)
    }

    /// Takes over what another renewer of the stack has got for `name` and an edge shows, when it is newer than what is
    /// known here; with its key, where the edge has told it. When it ends, or `None` when there was nothing to take.
    ///
    /// Who issued it is not written anywhere: it counts as from the authority of the one before when its issuer has the same
    /// key, else as from the preferred one of those whose roots it begins from.
    ///
    /// # Errors
    /// When it does not fit, or cannot be stored. What was there is as it was.
    pub fn take_over(&self, name: &DnsName, chain: &str, key: Option<&str>) -> Result<Option<Moment>, ImportError> {
        let mut state = self.store().state(name)?;
        let misfit = |source| ImportError::Misfit { name: name.clone(), source };
        let leaf = certificates(chain).and_then(|all| x509::facts(all.first()?));
        let leaf = leaf.ok_or_else(|| misfit(Misfit::Unreadable))?;
        if !state.is_older_than(leaf.not_before) {
            return Ok(None);
        }
        let before = state.held.as_ref().filter(|held| issuer(held.id.as_deref()) == issuer(leaf.id.as_deref()));
        let before = before.and_then(|held| self.access(&held.authority));
        let mut refused = Misfit::Unreadable;
        for access in before.into_iter().chain(self.preferred()) {
            let check = access.check();
            let fits = match key {
                Some(key) => check.fits(chain, key, name, self.now()),
                None => check.believes(chain, name, self.now()),
            };
            match fits {
                Ok(facts) => {
                    let (authority, ends) = (access.authority.name.clone(), facts.not_after);
                    info!(%name, %authority, "a newer certificate was taken over");
                    self.store().take_over(&mut state, Held::new(authority, facts, self.now()), chain, key)?;
                    return Ok(Some(ends));
                }
                Err(misfit) => refused = misfit,
            }
        }
        Err(misfit(refused))
    }
}

/// The part of a certificate's identifier that names its issuer's key (RFC 9773 section 4.1).
fn issuer(id: Option<&str>) -> Option<&str> {
    Some(id?.split_once('.')?.0)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use sovereign_model::authority::Authority;
    use tempfile::TempDir;
    use time::OffsetDateTime;

    use super::*;
    use crate::challenges::PublishError;
    use crate::pass::Options;
    use crate::session::Access;
    use crate::turn::Turn;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    /// Nothing is published: nobody is asked for anything.
    struct Nowhere;

    impl Challenges for Nowhere {
        async fn publish(&self, _: &DnsName, _: &[String]) -> Result<(), PublishError> {
            Err("nowhere".into())
        }

        async fn withdraw(&self, _: &DnsName) -> Result<(), PublishError> {
            Ok(())
        }

        fn servers(&self, _: &DnsName) -> Vec<SocketAddr> {
            Vec::new()
        }
    }

    struct Issuer(CertifiedIssuer<'static, KeyPair>);

    impl Issuer {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        /// Chain and key of a certificate that was issued so many days ago, and is good for ninety.
        fn issued(&self, days: u64) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["www.example.org".to_owned()]).unwrap();
            let at = |unix: u64| OffsetDateTime::from_unix_timestamp(unix as i64).unwrap();
            (params.not_before, params.not_after) = (at(NOW - days * DAY), at(NOW + (90 - days) * DAY));
            params.use_authority_key_identifier_extension = true;
            (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
        }

        fn access(&self, name: &str) -> Access {
            let authority = Authority {
                name: name.parse().unwrap(),
                directory: format!("https://{name}.example/dir").parse().unwrap(),
                roots: None,
                profile: None,
                caa: None,
            };
            Access::new(authority, Some(&self.0.pem())).unwrap()
        }
    }

    fn renewer(authorities: Vec<Access>) -> (TempDir, Renewer<Nowhere>) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            folder: folder.path().join("certs"),
            authorities,
            patience: Duration::from_secs(1),
            turn: Turn::FIRST,
        };
        let clock = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
        (folder, Renewer::new(options, Nowhere, clock).unwrap())
    }

    #[test]
    fn what_another_has_got_is_taken_over_when_it_is_newer_and_fits() {
        let (first, second) = (Issuer::new("first"), Issuer::new("second"));
        let (_folder, renewer) = renewer(vec![first.access("first"), second.access("second")]);
        let name: DnsName = "www.example.org".parse().unwrap();
        let held = || renewer.store().state(&name).unwrap().held.unwrap();
        let take = |(chain, key): &(String, String)| renewer.take_over(&name, chain, Some(key)).unwrap().is_some();

        let older = second.issued(30);
        assert!(take(&older), "there was none");
        assert_eq!(held().authority.as_str(), "second", "its root says whose it is");
        let newer = second.issued(10);
        assert!(take(&newer) && !take(&newer) && !take(&older), "only what is newer");
        let bundle = renewer.store().bundle(&name, &held()).unwrap().unwrap();
        let (key, chain) = crate::store::parts(&bundle).unwrap();
        assert_eq!((key, chain), (newer.1.as_str(), newer.0.as_str()));

        // Where its key is not told, its chain is known, and edges are brought nothing.
        let theirs = first.issued(5);
        assert!(renewer.take_over(&name, &theirs.0, None).unwrap().is_some());
        assert!(held().elsewhere && held().authority.as_str() == "first");
        assert!(renewer.store().bundle(&name, &held()).unwrap().is_none());

        // What does not fit leaves everything as it was.
        let (foreign, other) = (Issuer::new("foreign").issued(1), second.issued(1));
        for (chain, key) in [(&foreign.0, &foreign.1), (&other.0, &foreign.1), (&String::new(), &other.1)] {
            let refused = renewer.take_over(&name, chain, Some(key)).unwrap_err();
            assert!(matches!(refused, ImportError::Misfit { .. }), "{refused:?}");
        }
        assert_eq!(held().not_before, Moment::at(NOW - 5 * DAY));
    }

    #[test]
    fn an_older_one_is_not_imported_over_a_newer_one() {
        let first = Issuer::new("first");
        let (_folder, renewer) = renewer(vec![first.access("first")]);
        let (name, authority) = ("www.example.org".parse().unwrap(), "first".parse().unwrap());
        let import = |(chain, key): (String, String)| renewer.import(&name, &authority, &chain, &key);
        import(first.issued(10)).unwrap();
        let refused = import(first.issued(20)).unwrap_err();
        assert!(matches!(refused, ImportError::Older(_)) && refused.help().is_some());
        import(first.issued(5)).unwrap();
    }
}
