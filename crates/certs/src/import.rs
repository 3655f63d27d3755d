//! Takes in a certificate that somebody else has got: what a site had before it came to the stack, so that readers notice
//! nothing, or what an authority gave by another way than ACME.
//!
//! Promise: it is held to the same as one that was issued here, and renewed like one. Its key is one that others know.

use sovereign_model::{AuthorityName, DnsName};
use tracing::info;

use crate::challenges::Challenges;
use crate::check::Misfit;
use crate::moment::Moment;
use crate::renewer::Renewer;
use crate::state::Held;
use crate::store::StoreError;

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
        let not_after = facts.not_after;
        let held = Held::new(authority.clone(), facts, self.now());
        self.store().keep(&mut state, held, chain, key)?;
        info!(%name, %authority, "a certificate was taken in");
        Ok(not_after)
    }
}
