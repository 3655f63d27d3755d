//! A conversation with an authority about one name: account, order, challenge, certificate (RFC 8555).
//!
//! What is stored between two requests is for [`crate::renewer`] to see to; here nothing is remembered.

use std::future::Future;
use std::io;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error as AcmeError,
    Identifier, Key, NewOrder, Order, OrderStatus, RetryPolicy, RevocationReason, RevocationRequest,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sovereign_model::DnsName;
use sovereign_model::authority::Authority;
use tokio::time::timeout;
use tracing::warn;

use crate::ask;
use crate::challenges::{Challenges, PublishError};
use crate::check::{Check, RootsError, public_roots, roots_of};
use crate::failure::{Failure, Meaning, Said, meaning};
use crate::http::Https;
use crate::state::Window;

/// So long an authority may take to look at an answer, and to issue. Some look from several places, and take their time.
const DECIDES_WITHIN: Duration = Duration::from_secs(90);
/// It is asked so soon whether it has; then less and less often, or when it says.
const FIRST_LOOK: Duration = Duration::from_millis(150);

/// An authority, and what it is believed by.
#[derive(Debug)]
pub struct Access {
    pub(crate) authority: Authority,
    check: Check,
    roots: RootCertStore,
}

impl Access {
    /// `roots` is what the file says that the authority names, PEM.
    ///
    /// # Errors
    /// When there is no root to believe in.
    pub fn new(authority: Authority, roots: Option<&str>) -> Result<Self, RootsError> {
        let mut talk = public_roots();
        let check = match roots {
            Some(own) => {
                let own = roots_of(own)?;
                talk.extend(own.roots.iter().cloned());
                own
            }
            None => talk.clone(),
        };
        Ok(Self { authority, check: Check::new(check)?, roots: talk })
    }

    pub(crate) fn check(&self) -> &Check {
        &self.check
    }
}

/// Why a request led nowhere.
pub(crate) enum Stopped {
    /// Not even begun: somebody else has just found out that the authority is of no use at present.
    HeldOff,
    /// For good, this time.
    Failed(Failure),
    /// The authority has refused several nonces of its own in a row, which is no more than bad luck.
    Nonce,
    /// The authority does not know our account any more.
    NoAccount,
    /// It does not know the order any more.
    NotFound,
    /// It has an order for what was to be replaced already, or does not say that it replaces.
    NotReplaced,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The key of an account, as it is stored: PKCS#8, PEM.
pub(crate) fn new_key(name: &DnsName) -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(|source| Failure::Key { name: name.clone(), source })
}

/// An account at an authority, ready to be used for a name.
pub(crate) struct Session<'s> {
    access: &'s Access,
    name: &'s DnsName,
    account: Account,
    http: Https,
    patience: Duration,
}

impl<'s> Session<'s> {
    /// Uses the account with this key (PEM), as `known`; without that, the authority says which it is, or makes one. The
    /// second part is what it calls it.
    pub(crate) async fn open(
        access: &'s Access,
        name: &'s DnsName,
        key: &str,
        known: Option<&str>,
        patience: Duration,
    ) -> Result<(Self, String), Stopped> {
        let authority = &access.authority;
        let unusable = |_| {
            let source = Said { kind: String::new(), text: "the key of the account cannot be read".into() };
            Failure::Account { authority: authority.name.clone(), source }
        };
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|_| unusable(()))?;
        let http = Https::new(access.roots.clone(), patience).map_err(|error| Failure::Unwell {
            authority: authority.name.clone(),
            status: None,
            retry_after: None,
            source: Box::new(AcmeError::Other(Box::new(error))),
        })?;
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let directory = authority.directory.to_string();
        let opened = match known {
            Some(account) => builder.from_parts(account.to_owned(), key, directory).await,
            None => {
                let pair = Key::from_pkcs8_der(key.clone_key()).map_err(|_| unusable(()))?;
                let pair = (pair, PrivateKeyDer::Pkcs8(key));
                // What it gives back besides is the key that is stored already.
                builder.create_from_key(pair, directory).await.map(|(account, _)| account)
            }
        };
        match opened {
            Ok(account) => {
                let id = account.id().to_owned();
                Ok((Self { access, name, account, http, patience }, id))
            }
            // Without an account there is no name yet that is refused.
            Err(error) => Err(match stopped(access, name, &http, error) {
                Stopped::Failed(Failure::Refused { authority, source, .. }) => {
                    Failure::Account { authority, source }.into()
                }
                other => other,
            }),
        }
    }

    fn stopped(&self, error: AcmeError) -> Stopped {
        stopped(self.access, self.name, &self.http, error)
    }

    /// A new order, that says which certificate it replaces.
    pub(crate) async fn order(&self, replaces: Option<&str>) -> Result<Order, Stopped> {
        let identifiers = [Identifier::Dns(self.name.as_str().to_owned())];
        let mut order = NewOrder::new(&identifiers);
        if let Some(profile) = &self.access.authority.profile {
            order = order.profile(profile);
        }
        if let Some(id) = replaces.and_then(identifier) {
            order = order.replaces(id);
        }
        self.account.new_order(&order).await.map_err(|error| self.stopped(error))
    }

    /// An order that was made before.
    pub(crate) async fn resume(&self, url: &str) -> Result<Order, Stopped> {
        self.account.order(url.to_owned()).await.map_err(|error| self.stopped(error))
    }

    /// Takes an order from wherever it is to a certificate for `key`: the chain, PEM.
    pub(crate) async fn complete(
        &self,
        order: &mut Order,
        key: &KeyPair,
        challenges: &impl Challenges,
    ) -> Result<String, Stopped> {
        let policy = RetryPolicy::new().initial_delay(FIRST_LOOK).backoff(1.6).timeout(DECIDES_WITHIN);
        if order.state().status == OrderStatus::Pending {
            let proven = self.prove(order, challenges, &policy).await;
            if let Err(error) = self.in_time(challenges.withdraw(self.name)).await {
                warn!(name = %self.name, error, "the answer to a challenge stays published");
            }
            proven?;
        }
        if order.state().status == OrderStatus::Ready {
            let request = self.request(key)?;
            order.finalize_csr(&request).await.map_err(|error| self.stopped(error))?;
        }
        match order.state().status {
            OrderStatus::Processing => order.poll_certificate(&policy).await.map_err(|error| self.stopped(error)),
            OrderStatus::Valid => {
                let chain = order.certificate().await.map_err(|error| self.stopped(error))?;
                chain.ok_or_else(|| self.refused(Said { kind: String::new(), text: "it gives no certificate".into() }))
            }
            _ => Err(self.why_invalid(order).await),
        }
    }

    fn request(&self, key: &KeyPair) -> Result<Vec<u8>, Failure> {
        let made = || {
            let mut params = CertificateParams::new(vec![self.name.as_str().to_owned()])?;
            params.distinguished_name = DistinguishedName::new();
            Ok(params.serialize_request(key)?.der().to_vec())
        };
        made().map_err(|source| Failure::Key { name: self.name.clone(), source })
    }

    /// Publishes the answer to the challenge, makes sure that it is there, and has the authority look.
    async fn prove(
        &self,
        order: &mut Order,
        challenges: &impl Challenges,
        policy: &RetryPolicy,
    ) -> Result<(), Stopped> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.stopped(error))?;
            // It may remember that it has been proven lately, or have found the answer before we were stopped.
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let (authority, name) = (&self.access.authority.name, self.name);
            let Some(mut challenge) = authorization.challenge(ChallengeType::Dns01) else {
                return Err(Failure::NoDns { authority: authority.clone(), name: name.clone() }.into());
            };
            let value = challenge.key_authorization().dns_value();
            let published = self.in_time(challenges.publish(name, std::slice::from_ref(&value))).await;
            published.map_err(|source| Failure::Publish { name: name.clone(), source })?;
            let there = ask::until_there(&challenges.servers(name), name, &value, self.patience).await;
            there.map_err(|source| Failure::NotThere { name: name.clone(), source })?;
            if challenge.status == ChallengeStatus::Pending {
                challenge.set_ready().await.map_err(|error| self.stopped(error))?;
            }
        }
        match order.poll_ready(policy).await {
            Ok(OrderStatus::Invalid) => Err(self.why_invalid(order).await),
            Ok(_) => Ok(()),
            // Whoever was stopped after the last step goes on from there.
            Err(_) if matches!(order.state().status, OrderStatus::Processing | OrderStatus::Valid) => Ok(()),
            Err(_) if order.state().status == OrderStatus::Invalid => Err(self.why_invalid(order).await),
            Err(error) => Err(self.stopped(error)),
        }
    }

    /// Whoever brings answers to name servers may be stuck, and must not hold others up for ever.
    async fn in_time(&self, done: impl Future<Output = Result<(), PublishError>>) -> Result<(), PublishError> {
        timeout(self.patience, done).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// What was wrong with the challenge of an order that has failed.
    async fn why_invalid(&self, order: &mut Order) -> Stopped {
        let (authority, name) = (self.access.authority.name.clone(), self.name.clone());
        let of_order = order.state().error.as_ref().map(Said::of);
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if let Err(error) = authorization.refresh().await {
                return self.stopped(error);
            }
            if let Some(problem) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return Failure::Challenge { authority, name, source: Said::of(problem) }.into();
            }
        }
        self.refused(of_order.unwrap_or(Said { kind: String::new(), text: String::new() }))
    }

    fn refused(&self, source: Said) -> Stopped {
        let (authority, name) = (self.access.authority.name.clone(), self.name.clone());
        Failure::Refused { authority, name, retry_after: None, source }.into()
    }

    /// The window that the authority suggests for the renewal of a certificate, and how long that can be believed. `None`
    /// when it suggests none.
    pub(crate) async fn window(&self, id: &str) -> Result<Option<(Window, Duration)>, Stopped> {
        let Some(id) = identifier(id) else { return Ok(None) };
        match self.account.renewal_info(&id).await {
            Ok((info, wait)) => {
                let window = info.suggested_window;
                Ok(Some((Window { start: window.start.into(), end: window.end.into() }, wait)))
            }
            Err(AcmeError::Unsupported(_)) => Ok(None),
            Err(error) => Err(self.stopped(error)),
        }
    }

    /// Tells the authority, and so the world, that a certificate is not to be believed any more.
    pub(crate) async fn revoke(
        &self,
        certificate: &CertificateDer<'_>,
        reason: RevocationReason,
    ) -> Result<(), Stopped> {
        let request = RevocationRequest { certificate, reason: Some(reason) };
        match self.account.revoke(&request).await {
            Err(AcmeError::Api(problem)) if Said::of(&problem).kind == "alreadyRevoked" => Ok(()),
            revoked => revoked.map_err(|error| self.stopped(error)),
        }
    }
}

fn identifier(id: &str) -> Option<CertificateIdentifier<'static>> {
    let (key, serial) = id.split_once('.')?;
    let (authority_key_identifier, serial) = (key.to_owned().into(), serial.to_owned().into());
    Some(CertificateIdentifier { authority_key_identifier, serial })
}

fn stopped(access: &Access, name: &DnsName, http: &Https, error: AcmeError) -> Stopped {
    let (authority, name, answered) = (access.authority.name.clone(), name.clone(), http.last());
    let retry_after = answered.and_then(|answered| answered.retry_after);
    Stopped::Failed(match meaning(error, answered) {
        Meaning::Unreachable(source) => Failure::Unreachable { authority, source },
        Meaning::Unwell(status, source) => Failure::Unwell { authority, status, retry_after, source },
        Meaning::Problem(source) => Failure::Refused { authority, name, retry_after, source },
        Meaning::Slow => Failure::Slow { authority, name },
        Meaning::Account(source) => Failure::Account { authority, source },
        Meaning::Limited(source) => Failure::Limited { authority, retry_after, source },
        Meaning::NotReplaced => return Stopped::NotReplaced,
        Meaning::Nonce => return Stopped::Nonce,
        Meaning::NoAccount => return Stopped::NoAccount,
        Meaning::NotFound => return Stopped::NotFound,
    })
}
