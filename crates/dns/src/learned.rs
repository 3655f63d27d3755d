//! Where uplinks are whose provider changes their address, as far as the edges beside this agent know, and how they are seen
//! there.
//!
//! ```text
//!  edge of home ──link, its key shown──▶ edge here ──answer to the agent──▶ Learned ──▶ watched there, as any other
//! ```
//!
//! Promise: an address is watched as long as an edge here has a link from it; when none has any, the last ones are, since a
//! link may be away for other reasons than readers. That somebody dials from an address does not say that they can be
//! reached there: only a look does. So each is watched for each such uplink of the data center, and those that have never
//! answered are not told as theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use sovereign_model::agent_config::{Dynamic, Watched};
use sovereign_model::agent_status::{Sight, Standing};

use crate::away::Place;
use crate::view::View;

/// So many addresses of one uplink are watched: a provider changes one for another.
const MOST: usize = 4;

/// What is known of dynamic uplinks.
pub(crate) struct Learned {
    /// What each edge here has said last, by its place in the agent's configuration.
    told: BTreeMap<usize, BTreeSet<Place>>,
    uplinks: Vec<Found>,
}

/// An uplink, and how it is seen where it may be.
struct Found {
    dynamic: Dynamic,
    seen: BTreeMap<IpAddr, View>,
}

impl Learned {
    /// Of these uplinks, of which nothing is known yet.
    pub(crate) fn new(dynamic: &[Dynamic]) -> Self {
        let found = |dynamic: &Dynamic| Found { dynamic: dynamic.clone(), seen: BTreeMap::new() };
        Self { told: BTreeMap::new(), uplinks: dynamic.iter().map(found).collect() }
    }

    /// What the edge here at this place of the configuration says, each time that it answers.
    pub(crate) fn tell(&mut self, edge: usize, places: BTreeSet<Place>, now: Instant) {
        self.told.insert(edge, places);
        let places: BTreeSet<&Place> = self.told.values().flatten().collect();
        for Found { dynamic, seen } in &mut self.uplinks {
            let theirs = places.iter().filter(|(datacenter, _)| *datacenter == dynamic.datacenter);
            let addresses: BTreeSet<IpAddr> = theirs.map(|(_, address)| *address).take(MOST).collect();
            if !addresses.is_empty() {
                seen.retain(|address, _| addresses.contains(address));
            }
            for address in addresses {
                seen.entry(address).or_insert_with(|| View::new(now));
            }
        }
    }

    /// What of an uplink is to be looked at.
    pub(crate) fn watched(&self, uplink: usize) -> Vec<Watched> {
        let Some(Found { dynamic, seen }) = self.uplinks.get(uplink) else { return Vec::new() };
        seen.keys().map(|address| dynamic.at(*address)).collect()
    }

    /// How an uplink is seen at an address, while it is watched there.
    pub(crate) fn view(&mut self, uplink: usize, address: IpAddr) -> Option<&mut View> {
        self.uplinks.get_mut(uplink)?.seen.get_mut(&address)
    }

    /// How all of them stand.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.uplinks.iter().flat_map(|found| found.seen.values()).map(View::standing).collect()
    }

    /// As it is told.
    pub(crate) fn sights(&self, fails_open: bool) -> Vec<Sight> {
        let of = |Found { dynamic, seen }: &Found| -> Vec<Sight> {
            let ever = seen.iter().filter(|(_, view)| view.has_answered());
            ever.map(|(address, view)| view.sight(&dynamic.at(*address), fails_open)).collect()
        };
        self.uplinks.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::Rules;

    const QUICK: Duration = Duration::from_millis(1);

    fn places(all: &[&str]) -> BTreeSet<Place> {
        all.iter().map(|address| ("home".parse().unwrap(), address.parse().unwrap())).collect()
    }

    fn addresses(learned: &Learned) -> Vec<String> {
        learned.watched(0).iter().map(|watched| watched.address.to_string()).collect()
    }

    #[test]
    fn the_newest_addresses_are_watched_and_the_last_ones_while_nobody_knows_better() {
        let dynamic = Dynamic {
            datacenter: "home".parse().unwrap(),
            at: "cable".to_owned(),
            port: 8443,
            name: None,
            public: false,
        };
        let mut learned = Learned::new(&[dynamic]);
        let now = Instant::now();
        learned.tell(0, places(&[]), now);
        assert_eq!(addresses(&learned), [""; 0]);
        learned.tell(0, places(&["192.0.2.1"]), now);
        learned.tell(3, [("cabin".parse().unwrap(), "192.0.2.9".parse().unwrap())].into(), now);
        assert_eq!(addresses(&learned), ["192.0.2.1:8443"]);
        assert_eq!(learned.sights(false), [], "nobody has answered there yet");
        let at = |address: &str| address.parse::<IpAddr>().unwrap();
        learned.view(0, at("192.0.2.1")).unwrap().heard(Ok(QUICK), QUICK, &Rules::default(), now);
        assert_eq!(learned.sights(false).len(), 1);

        learned.tell(0, places(&[]), now);
        assert_eq!(addresses(&learned), ["192.0.2.1:8443"], "the link is away, and readers may not be");
        learned.tell(0, places(&["192.0.2.2"]), now);
        assert_eq!(addresses(&learned), ["192.0.2.2:8443"]);
        assert!(learned.view(0, at("192.0.2.1")).is_none());
        learned.tell(1, places(&["192.0.2.1"]), now);
        assert_eq!(addresses(&learned), ["192.0.2.1:8443", "192.0.2.2:8443"], "two edges here, two words");
        let many: Vec<String> = (10..99).map(|last| format!("192.0.2.{last}")).collect();
        learned.tell(0, places(&many.iter().map(String::as_str).collect::<Vec<_>>()), now);
        assert_eq!(addresses(&learned).len(), MOST);
    }
}
