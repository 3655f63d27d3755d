//! What is known here of the certificates of public authorities: what is stored, when it is renewed, what is in the way.
//! Asks nobody.

use std::collections::BTreeMap;

use serde::Serialize;
use sovereign_certs::choice::in_the_way;
use sovereign_certs::state::{AuthorityState, NameState};
use sovereign_certs::wanted::{Wanted, Why};
use sovereign_certs::{Moment, Store, renewal};
use sovereign_model::layout::StateFolder;
use sovereign_model::{AuthorityName, Digest, DnsName, Stack};

use super::wanted;

/// All that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The names that authorities are asked for.
    pub(crate) names: BTreeMap<DnsName, KnownName>,
    /// Names of sites that none is asked for though one is declared.
    pub(crate) left: BTreeMap<DnsName, Why>,
}

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct KnownName {
    /// The certificate that is stored.
    pub(crate) certificate: Option<Stored>,
    /// Why there is none, or no newer one.
    pub(crate) waits: Option<Waits>,
    /// Why nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unreadable: Option<String>,
}

/// A certificate that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Stored {
    /// Who issued it.
    pub(crate) authority: AuthorityName,
    /// From when on it is valid, in seconds since 1970.
    #[serde(skip)]
    pub(crate) begins_unix: u64,
    /// When it ends, likewise.
    pub(crate) ends_unix: u64,
    /// When it is to be renewed, likewise.
    pub(crate) due_unix: u64,
    /// Whether it should have been by now, and has only days left.
    pub(crate) late: bool,
    /// What edges have of it is a file with this digest.
    #[serde(skip)]
    pub(crate) file: Option<Digest>,
}

/// Something is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Waits {
    /// When it is tried again, in seconds since 1970.
    pub(crate) until_unix: u64,
    /// What was said.
    pub(crate) why: Vec<String>,
}

impl Known {
    /// What is known of a stack's certificates at `now`.
    pub(crate) fn look(stack: &Stack, state: &StateFolder, now: Moment) -> Self {
        if stack.authorities.is_empty() {
            return Self::default();
        }
        let Wanted { names, left } = wanted(stack, state);
        let store = Store::look(state.certificates());
        // What cannot be read is not known, and stands in nobody's way.
        let authorities: BTreeMap<AuthorityName, AuthorityState> = stack
            .authorities
            .iter()
            .filter_map(|authority| {
                let known = store.authority_state(&authority.name, &authority.directory.to_string()).ok()?;
                Some((authority.name.clone(), known))
            })
            .collect();
        let known = names.iter().map(|(name, domain)| {
            let known = match store.state(name) {
                Ok(state) => look_at(&store, &state, domain, &authorities, now),
                Err(error) => KnownName { unreadable: Some(error.to_string()), ..KnownName::default() },
            };
            (name.clone(), known)
        });
        Self { names: known.collect(), left }
    }
}

fn look_at(
    store: &Store,
    state: &NameState,
    domain: &DnsName,
    authorities: &BTreeMap<AuthorityName, AuthorityState>,
    now: Moment,
) -> KnownName {
    let certificate = state.held.as_ref().map(|held| Stored {
        authority: held.authority.clone(),
        begins_unix: held.not_before.seconds(),
        ends_unix: held.not_after.seconds(),
        due_unix: renewal::due(&state.name, held).seconds(),
        late: renewal::is_late(held, now),
        file: store.bundle(&state.name, held).ok().flatten().map(|bundle| Digest::of(bundle.as_str())),
    });
    let is_due = certificate.as_ref().is_none_or(|stored| stored.due_unix <= now.seconds());
    let holds = in_the_way(state, domain, authorities);
    let waits = (is_due && !holds.is_empty()).then(|| Waits {
        until_unix: holds.iter().map(|hold| hold.until.seconds()).min().unwrap_or(0),
        why: holds.iter().map(|hold| hold.why.clone()).collect(),
    });
    KnownName { certificate, waits, unreadable: None }
}
