//! From what an agent tells to who is away, and whether this name server had better be silent. Pure: time comes in.
//!
//! ```text
//!  agent's status ──▶ Seen: which addresses of others are dead, is the own data center broken
//!                       ▲ │
//!      the one before ──┘ └─▶ believed for a while when the agent does not answer, then forgotten: all are counted on
//! ```
//!
//! Promise: a data center is away only by addresses that the agent watches, and never the own one: that one is judged by its
//! insides, and where they are all dead while somebody else lives, the name server falls silent, so that resolvers ask the
//! others. When the agent doubts itself, nobody is away and nothing is silent.
//!
//! An agent that was just started knows nothing for some seconds. What was dead before that is dead until it is seen
//! alive, or until [`REMEMBERED`] is over: readers must not be sent to the dead whenever an agent is replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sovereign_model::DatacenterName;
use sovereign_model::agent_status::{AgentStatus, Sight, Standing};

/// So long what was seen last is believed while the agent does not answer. It is replaced and started again within
/// seconds, so that what takes longer is a fault; and after five minutes a data center that was held for dead the longest
/// may be trusted again ([`Rules::longest_hold`](crate::health::Rules::longest_hold)), so that what is remembered says
/// nothing any more. The dead would be answered for as long, and who has died since is answered anyway.
pub const BELIEVED: Duration = Duration::from_secs(300);

/// So long what was dead stays dead while it is not known any more how it is: an agent that was started anew needs three
/// looks for it, 6.7 s, and many times as long on a machine that is overwhelmed.
pub const REMEMBERED: Duration = Duration::from_secs(60);

/// An address of a data center.
pub type Place = (DatacenterName, IpAddr);

/// What an agent told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When.
    at: Instant,
    /// Which addresses of others are dead, and when that was last told.
    dead: BTreeMap<Place, Instant>,
    /// Where uplinks of others are, and when that was last told.
    met: BTreeMap<(DatacenterName, String), (BTreeSet<IpAddr>, Instant)>,
    /// Since nothing of the own data center lived, and somebody else did: when that was last told.
    broken: Option<Instant>,
    fails_open: bool,
}

impl Seen {
    /// Of what an agent of the data center `own` tells; `before` is what was told before.
    pub fn new(own: &DatacenterName, status: &AgentStatus, before: Option<&Self>, now: Instant) -> Self {
        let fails_open = status.fails_open;
        let met = met(own, status, before, now);
        if fails_open {
            return Self { at: now, dead: BTreeMap::new(), met, broken: None, fails_open };
        }
        let recently = |when: Instant| (now.saturating_duration_since(when) < REMEMBERED).then_some(when);
        let (insides, others): (Vec<&Sight>, Vec<&Sight>) =
            status.watched.iter().partition(|sight| sight.datacenter == *own);

        let mut places: BTreeMap<Place, Vec<Standing>> = BTreeMap::new();
        for sight in &others {
            places.entry((sight.datacenter.clone(), sight.address.ip())).or_default().push(sight.standing);
        }
        // An address with several ports lives while any of them answers.
        let died = |(place, standings): (Place, Vec<Standing>)| {
            let when = match together(standings) {
                Standing::Alive => None,
                Standing::Dead => Some(now),
                Standing::Unknown => before.and_then(|before| before.dead.get(&place)).copied().and_then(recently),
            };
            Some((place, when?))
        };
        let dead = places.into_iter().filter_map(died).collect();

        let inside = together(insides.iter().map(|sight| sight.standing));
        let outside = together(others.iter().map(|sight| sight.standing));
        let before_broken = || before.and_then(|before| before.broken).and_then(recently);
        let broken = match (inside, outside) {
            (Standing::Dead, Standing::Alive) => Some(now),
            // Nobody is known to live any more, here or there; that may be because nothing is known yet.
            (Standing::Dead | Standing::Unknown, Standing::Unknown) | (Standing::Unknown, Standing::Alive) => {
                before_broken()
            }
            (Standing::Alive, _) | (_, Standing::Dead) => None,
        };
        Self { at: now, dead, met, broken, fails_open }
    }

    /// Whether it is still to be believed.
    pub fn is_believed(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < BELIEVED
    }

    /// When it was told.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// The addresses of others that are dead.
    pub fn dead(&self) -> BTreeSet<Place> {
        self.dead.keys().cloned().collect()
    }

    /// Where uplinks of other data centers are, dead or alive.
    pub fn met(&self) -> impl Iterator<Item = (&(DatacenterName, String), &BTreeSet<IpAddr>)> {
        self.met.iter().map(|(uplink, (addresses, _))| (uplink, addresses))
    }

    /// Whether the own data center is broken, and another is not.
    pub fn is_broken_here(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether the agent doubts itself.
    pub fn fails_open(&self) -> bool {
        self.fails_open
    }
}

/// Where each uplink of others is. One that a new agent has not found yet is where it was, for a while.
fn met(
    own: &DatacenterName,
    status: &AgentStatus,
    before: Option<&Seen>,
    now: Instant,
) -> BTreeMap<(DatacenterName, String), (BTreeSet<IpAddr>, Instant)> {
    let mut met = BTreeMap::new();
    for sight in status.watched.iter().filter(|sight| sight.datacenter != *own) {
        let uplink = (sight.datacenter.clone(), sight.at.clone());
        let (addresses, _) = met.entry(uplink).or_insert_with(|| (BTreeSet::new(), now));
        addresses.insert(sight.address.ip());
    }
    let recent = |when: Instant| now.saturating_duration_since(when) < REMEMBERED;
    for (uplink, (addresses, when)) in before.into_iter().flat_map(|before| &before.met) {
        if recent(*when) {
            met.entry(uplink.clone()).or_insert_with(|| (addresses.clone(), *when));
        }
    }
    met
}

/// How all of them are together: alive when any is, dead when all are and there are any.
fn together(standings: impl IntoIterator<Item = Standing>) -> Standing {
    let mut together = None;
    for standing in standings {
        together = match (together, standing) {
            (_, Standing::Alive) => return Standing::Alive,
            (None | Some(Standing::Dead), Standing::Dead) => Some(Standing::Dead),
            _ => Some(Standing::Unknown),
        };
    }
    together.unwrap_or(Standing::Unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sovereign_model::Digest;

    use super::Standing::{Alive, Dead, Unknown};
    use super::*;

    const ADDRESSES: [(&str, &str); 6] = [
        ("home", "10.0.0.1:443"),
        ("home", "10.0.0.2:443"),
        ("office", "192.0.2.1:443"),
        ("office", "192.0.2.1:8443"),
        ("office", "[2001:db8::1]:443"),
        ("rack", "198.51.100.7:443"),
    ];

    fn status(standings: [Standing; 6], fails_open: bool) -> AgentStatus {
        let sight = |(datacenter, address): (&str, &str), standing| Sight {
            datacenter: datacenter.parse().unwrap(),
            at: "isp".to_owned(),
            address: address.parse().unwrap(),
            standing,
            counted_on: fails_open || standing != Dead,
            since_unix: 0,
            latency_us: None,
            clock_ahead_seconds: None,
            last_error: None,
            deaths: 0,
        };
        AgentStatus {
            healthy: true,
            draining: false,
            version: "0".to_owned(),
            process: 1,
            stack: "s".parse().unwrap(),
            datacenter: "home".parse().unwrap(),
            host: None,
            config_digest: Digest::of(""),
            fails_open,
            watched: ADDRESSES.into_iter().zip(standings).map(|(of, standing)| sight(of, standing)).collect(),
            providers: BTreeMap::new(),
        }
    }

    fn seen(standings: [Standing; 6], before: Option<&Seen>, now: Instant) -> Seen {
        let others = standings[2..].iter().copied();
        let open = crate::health::fails_open(others, standings[..2].iter().copied());
        Seen::new(&"home".parse().unwrap(), &status(standings, open), before, now)
    }

    fn dead(seen: &Seen) -> Vec<String> {
        seen.dead().iter().map(|(datacenter, address)| format!("{datacenter} {address}")).collect()
    }

    #[test]
    fn the_dead_of_other_data_centers_are_away_and_an_address_lives_by_any_port() {
        let now = Instant::now();
        let all = seen([Alive, Dead, Dead, Alive, Dead, Dead], None, now);
        assert_eq!(dead(&all), ["office 2001:db8::1", "rack 198.51.100.7"]);
        assert!(!all.is_broken_here(), "one edge of it lives");
        assert_eq!(dead(&seen([Alive; 6], Some(&all), now)), [""; 0]);
        assert_eq!(dead(&seen([Unknown; 6], None, now)), [""; 0]);
    }

    #[test]
    fn who_is_broken_is_silent_unless_nobody_else_lives() {
        let now = Instant::now();
        let broken = seen([Dead, Dead, Alive, Alive, Alive, Dead], None, now);
        assert!(broken.is_broken_here() && dead(&broken) == ["rack 198.51.100.7"]);
        assert!(!seen([Dead, Dead, Unknown, Unknown, Unknown, Dead], None, now).is_broken_here());
        let open = seen([Dead; 6], Some(&broken), now);
        assert!(!open.is_broken_here() && open.fails_open() && open.dead().is_empty());
        assert!(!seen([Alive, Dead, Alive, Alive, Alive, Dead], Some(&broken), now).is_broken_here());
    }

    #[test]
    fn an_agent_that_was_started_anew_changes_nothing_until_it_knows_or_takes_too_long() {
        let start = Instant::now();
        let before = seen([Dead, Dead, Dead, Dead, Alive, Alive], None, start);
        let mut now = start + Duration::from_secs(1);
        let anew = seen([Unknown; 6], Some(&before), now);
        assert!(anew.is_broken_here() && dead(&anew) == ["office 192.0.2.1"]);
        now += Duration::from_secs(5);
        let knows = seen([Unknown, Unknown, Alive, Unknown, Alive, Unknown], Some(&anew), now);
        assert!(knows.is_broken_here() && dead(&knows).is_empty());
        now = start + REMEMBERED;
        let late = seen([Unknown; 6], Some(&anew), now);
        assert!(!late.is_broken_here() && dead(&late).is_empty());
        assert!(late.is_believed(now + BELIEVED - Duration::from_millis(1)) && !late.is_believed(now + BELIEVED));
    }

    fn standings() -> impl Strategy<Value = [Standing; 6]> {
        prop::array::uniform6(prop::sample::select(vec![Unknown, Alive, Dead]))
    }

    proptest! {
        /// Whatever an agent tells, one time after the other.
        #[test]
        fn nobody_is_away_who_lives_and_the_own_never_is(told in prop::collection::vec((standings(), 0u64..90), 1..8)) {
            let mut now = Instant::now();
            let mut before: Option<Seen> = None;
            for (standings, seconds) in told {
                now += Duration::from_secs(seconds);
                let now_seen = seen(standings, before.as_ref(), now);
                let away = now_seen.dead();
                for ((datacenter, address), standing) in ADDRESSES.into_iter().zip(standings) {
                    let address: std::net::SocketAddr = address.parse().unwrap();
                    let place = (datacenter.parse().unwrap(), address.ip());
                    prop_assert!(datacenter != "home" || !away.contains(&place));
                    prop_assert!(standing != Alive || !away.contains(&place));
                    let same = ADDRESSES.into_iter().zip(standings).filter(|((_, other), _)| {
                        other.parse::<std::net::SocketAddr>().unwrap().ip() == address.ip()
                    });
                    let all_dead = same.map(|(_, standing)| standing).all(|standing| standing == Dead);
                    let must = datacenter != "home" && all_dead && !now_seen.fails_open();
                    prop_assert!(!must || away.contains(&place));
                }
                let inside_lives = standings[..2].contains(&Alive);
                let others_dead = standings[2..].iter().all(|standing| *standing == Dead);
                prop_assert!(!now_seen.is_broken_here() || !(inside_lives || others_dead || now_seen.fails_open()));
                let clear = standings[..2] == [Dead, Dead] && standings[2..].contains(&Alive);
                prop_assert!(!clear || now_seen.is_broken_here());
                prop_assert!(before.is_some() || clear == now_seen.is_broken_here());
                before = Some(now_seen);
            }
        }
    }
}
