//! What a pass over all names is given, and what it came to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sovereign_model::{AuthorityName, DnsName};

use crate::failure::Failure;
use crate::moment::Moment;
use crate::session::Access;
use crate::store::StoreError;
use crate::turn::Turn;

/// What does not change while it works.
#[derive(Debug)]
pub struct Options {
    /// The folder of the store.
    pub folder: PathBuf,
    /// Whom to ask, the preferred first.
    pub authorities: Vec<Access>,
    /// So long name servers may take until they have what was published, and authorities until they answer a request.
    pub patience: Duration,
    /// Where it stands among all who renew for the stack.
    pub turn: Turn,
}

/// How a name stands after a pass.
#[derive(Debug)]
pub enum Outcome {
    /// Its certificate is good until it is due.
    Well {
        /// When it is to be renewed.
        due: Moment,
    },
    /// It has a new one.
    Issued {
        /// Who issued it.
        authority: AuthorityName,
        /// When it ends.
        not_after: Moment,
        /// What failed before, at authorities that are preferred.
        failures: Vec<Failure>,
    },
    /// It is tried again then; what it had is served on.
    Waits {
        /// When.
        until: Moment,
        /// What failed in this pass; nothing, when it waits because of an earlier one.
        failures: Vec<Failure>,
    },
    /// What is known of it cannot be read.
    Unknown(StoreError),
}

/// What a pass came to.
#[derive(Debug)]
pub struct Pass {
    /// How each name stands.
    pub outcomes: BTreeMap<DnsName, Outcome>,
    /// There is nothing to do before then.
    pub again: Moment,
}
