//! The instances of a host: what there is, how one takes the place of another, how all of it goes.
//!
//! ```text
//!  ground ─▶ image ─▶ volumes ─▶ make ─▶ files ─▶ filter ─▶ start ─▶ well ─▶ the current one
//!  bridge                          │                                   │ no
//!                                  │                                   └▶ removed: the old one has run all along
//!                                  └▶ where two must not share their data, between filter and start:
//!                                     stop and park the old one ─▶ keep the data that is to be converted
//!                                                                      │ no
//!                                                  data back ◀─ stop ◀─┘  then the old one is started again
//! ```
//!
//! Promises: what runs goes on until the new one is well, or is brought back with its data when that does not happen.
//! A run that is cut anywhere is finished by the next one: what it left is told by keys of the instances themselves
//! (`listing`). Data is removed by [`Instances::purge`] and by nothing else. No packet passes that no description
//! names (`filter`). What is in the host's Incus and not ours is left alone.
//!
//! Left out: when anything of this is to be done (the plan), what applications need (services), how the edge is told of
//! addresses. Instances share one range of users: one of its own for each would have all data on a volume changed
//! hands at every replacement, and could not start beside its predecessor.

mod aside;
mod audit;
mod contents;
mod error;
mod filter;
mod generation;
mod ground;
mod health;
mod host;
mod listing;
mod look;
mod names;
mod retire;
mod run;
mod switch;

use std::time::Duration;

use sovereign_incus::{Client, MemberName};
use sovereign_model::StackName;
use tokio::sync::{Mutex, RwLock};

pub use audit::Audited;
pub use contents::Contents;
pub use error::InstancesError;
pub use filter::FILTER_UNIT;
pub use generation::OfUnit;
pub(super) use health::bounded;
pub use host::InstanceHost;
pub use look::{Condition, Current, Runs, Seen, Superseded};
pub use names::volume_folder;
pub use run::Ran;

use listing::Listing;

/// How long an instance may take to become well. A first start of an application makes its tables on a slow disk.
const WELL_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The instances of one stack on one host.
#[derive(Debug)]
pub struct Instances<'a, H> {
    /// Of its Incus, at its member.
    client: Client,
    /// Of the whole cluster.
    everywhere: Client,
    host: &'a H,
    stack: &'a StackName,
    member: Option<MemberName>,
    well_within: Duration,
    /// Whether what instances are made in was seen to be there.
    ground: Mutex<bool>,
    /// Held for reading while an image is there that no instance was made from yet.
    images: RwLock<()>,
    /// The rules that were loaded last.
    filter: Mutex<Option<String>>,
}

impl<'a, H: InstanceHost> Instances<'a, H> {
    /// Those of `stack` on `host`, whose Incus is `client`; in a cluster it is `member` of it.
    pub fn new(client: &Client, host: &'a H, stack: &'a StackName, member: Option<MemberName>) -> Self {
        let everywhere = client.in_project(names::project());
        let client = member.iter().fold(everywhere.clone(), |client, member| client.at(member.clone()));
        Self {
            client,
            everywhere,
            host,
            stack,
            member,
            well_within: WELL_WITHIN,
            ground: Mutex::default(),
            images: RwLock::default(),
            filter: Mutex::default(),
        }
    }

    /// The same with another limit to how long an instance may take to become well.
    #[must_use]
    pub fn well_within(self, well_within: Duration) -> Self {
        Self { well_within, ..self }
    }

    async fn list(&self) -> Result<Listing, InstancesError> {
        Listing::of(self.stack, self.member.as_ref(), &self.client.instances().await?)
    }

    /// Has the host let pass what the instances that there are now may send, and nothing else.
    async fn filter(&self) -> Result<(), InstancesError> {
        // One after the other, so that what is in effect is what was listed last.
        let mut loaded = self.filter.lock().await;
        let listing = self.list().await?;
        let text = filter::text(listing.connected());
        if loaded.as_ref() != Some(&text) {
            filter::load(self.host, &text).await?;
            *loaded = Some(text);
        }
        Ok(())
    }
}

impl<H: InstanceHost> Instances<'_, H> {
    /// Puts the rules for packets into effect again, whatever became of them. Where no instance is there are none.
    ///
    /// # Errors
    /// When the host does not obey.
    pub async fn filter_again(&self) -> Result<(), InstancesError> {
        if self.list().await?.ours.is_empty() {
            return Ok(());
        }
        *self.filter.lock().await = None;
        self.filter().await
    }
}

/// A description for tests.
#[cfg(test)]
fn sample(unit: &str, address: [u8; 4]) -> sovereign_model::instance::InstanceSpec {
    use sovereign_model::instance::{InstanceHealth, InstanceSpec, Limits};

    InstanceSpec {
        name: unit.parse().unwrap(),
        datacenter: "home".parse().unwrap(),
        host: "atlas".parse().unwrap(),
        image: "debian-site".parse().unwrap(),
        fingerprint: sovereign_model::Digest::of("image"),
        address: address.into(),
        volumes: Vec::new(),
        files: Vec::new(),
        reaches: Vec::new(),
        serves: Some(2368),
        limits: Limits { memory: 64 << 20, processes: 50 },
        health: InstanceHealth::Http { port: 2368, path: "/".to_owned(), host: "shop.example".to_owned() },
        after: Vec::new(),
        stop_grace_seconds: 10,
        replace: sovereign_model::unit::Replace::Beside,
        data_version: None,
        converts: Vec::new(),
        inputs: std::collections::BTreeMap::new(),
    }
}
