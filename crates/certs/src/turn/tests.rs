//! Tests of whose turn it is: the order as such, and thirteen months of several renewers that nobody looks after.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sovereign_model::{AuthorityName, DnsName};

use super::*;
use crate::choice::{Failed, Next, Trouble, begin, forget, next, remember};
use crate::renewal::{due, is_late};
use crate::state::{AuthorityState, Held, NameState};

const DAY: u64 = 86_400;
const BEGAN: Moment = Moment::at(1_800_000_000);
/// What one gets, the others see so much later.
const SEEN_AFTER: Duration = Duration::from_secs(120);

fn certificate(number: u64, from: Moment, life: Duration) -> Held {
    Held {
        number,
        authority: "ca".parse().unwrap(),
        stored: from,
        not_before: from,
        not_after: from.after(life),
        id: Some(format!("a.{number}")),
        window: None,
        ask: Moment::LONG_AGO,
        revoked: false,
        elsewhere: false,
        handed: false,
    }
}

proptest! {
    #[test]
    fn everybody_has_a_turn_in_order_and_the_last_before_the_last_days(life in 3600..400 * DAY, all in 1_u32..40) {
        let held = certificate(1, BEGAN, Duration::from_secs(life));
        let due = due(&"www.example.org".parse().unwrap(), &held);
        let turns: Vec<Moment> =
            (0..all).map(|before| Turn::after(before, all, BEGAN).to_renew(due, held.not_after)).collect();
        prop_assert_eq!(turns[0], due);
        prop_assert!(turns.windows(2).all(|two| two[0] <= two[1]));
        prop_assert!(turns.iter().all(|turn| !is_late(&held, *turn)), "{:?}", turns);
        // Where there is time, nobody comes upon the heels of the one before.
        if life > 30 * DAY && all <= 5 {
            prop_assert!(turns.windows(2).all(|two| two[1].since(two[0]) == STEP));
        }
    }
}

#[test]
fn a_name_without_a_certificate_is_left_to_whoever_deploys_it_at_first() {
    assert_eq!(Turn::FIRST.to_begin(), Moment::LONG_AGO);
    assert_eq!(Turn::after(2, 3, BEGAN).to_begin(), BEGAN.after(STEP * 2));
}

/// Who lives, who sees the others, and whether the authority answers, for a twentieth of a certificate's life.
#[derive(Debug, Clone)]
struct Span {
    lives: Vec<bool>,
    is_cut_off: Vec<bool>,
    authority: bool,
}

/// A host with its renewer and its edge.
struct Host {
    turn: Turn,
    state: NameState,
    authority: BTreeMap<AuthorityName, AuthorityState>,
    wakes: Moment,
    /// Since when it lives without a break.
    lives_since: Option<Moment>,
}

impl Host {
    fn shown(&self) -> &Held {
        self.state.held.as_ref().unwrap()
    }
}

/// The authority's side of a story.
#[derive(Debug, Default)]
struct Told {
    /// When it issued, and to whom.
    issued: Vec<(Moment, usize)>,
    /// Who issued anything.
    by: BTreeSet<usize>,
}

struct Story {
    domain: DnsName,
    preferred: Vec<AuthorityName>,
    life: Duration,
    hosts: Vec<Host>,
    /// All that was issued: when, to whom, and what.
    issued: Vec<(Moment, usize, Held)>,
}

impl Story {
    /// The management machine got one, and went away.
    fn new(hosts: usize, life: Duration) -> Self {
        let authority: AuthorityName = "ca".parse().unwrap();
        let name: DnsName = "www.example.org".parse().unwrap();
        let all = u32::try_from(hosts + 1).unwrap();
        let hosts = (1..all).map(|before| {
            let mut state = NameState::new(name.clone());
            state.held = Some(certificate(0, BEGAN, life));
            let authority = (authority.clone(), AuthorityState::new(String::new()));
            let turn = Turn::after(before, all, BEGAN);
            Host { turn, state, authority: BTreeMap::from([authority]), wakes: BEGAN, lives_since: None }
        });
        let (hosts, domain) = (hosts.collect(), "example.org".parse().unwrap());
        Self { domain, preferred: vec![authority], life, hosts, issued: Vec::new() }
    }

    /// A host sees the newest that those show whom it sees.
    fn look(&mut self, index: usize, span: &Span, now: Moment) {
        if span.is_cut_off[index] {
            return;
        }
        let seen = self.issued.iter().filter(|(at, by, _)| {
            *by == index || (at.after(SEEN_AFTER) <= now && span.lives[*by] && !span.is_cut_off[*by])
        });
        // An edge that lives may show what it has from one that lives no more.
        let others = self.hosts.iter().enumerate().filter(|(other, _)| span.lives[*other] && !span.is_cut_off[*other]);
        let seen = seen.map(|(_, _, held)| held);
        let shown = others.map(|(_, host)| host.shown()).filter(|held| held.not_before.after(SEEN_AFTER) <= now);
        let newest = seen.chain(shown).max_by_key(|held| held.not_before).cloned();
        let host = &mut self.hosts[index];
        if let Some(newest) = newest.filter(|newest| host.state.is_older_than(newest.not_before)) {
            host.state.settled();
            host.state.held = Some(Held { elsewhere: true, ..newest });
        }
    }

    /// What a host does when it wakes; when it wakes again.
    fn act(&mut self, index: usize, span: &Span, now: Moment) -> Moment {
        self.look(index, span, now);
        let number = self.issued.len() as u64 + 1;
        let host = &mut self.hosts[index];
        match next(&host.state, &self.domain, &self.preferred, &host.authority, host.turn, now) {
            Next::Well(until) | Next::Wait(until) => until.max(now.after(Duration::from_secs(60))),
            Next::Order(authority) | Next::GoOn(authority) => {
                begin(&mut host.state, &authority, now);
                let known = host.authority.get_mut(&authority).unwrap();
                if span.authority {
                    forget(&mut host.state, known, &self.domain);
                    let held = certificate(number, now, self.life);
                    host.state.held = Some(held.clone());
                    self.issued.push((now, index, held));
                } else {
                    let failed = Failed { trouble: Trouble::Away, retry_after: None, why: "away".into() };
                    remember(&mut host.state, &authority, known, &self.domain, &failed, (now, 1.0));
                }
                now.after(Duration::from_secs(60))
            }
        }
    }

    /// Lets it go on until everything was told; what was wrong.
    fn tell(&mut self, spans: &[Span]) -> Result<Told, String> {
        let length = self.life / 20;
        let mut begins = BEGAN;
        for span in spans {
            let ends = begins.after(length);
            for (host, lives) in self.hosts.iter_mut().zip(&span.lives) {
                host.lives_since = lives.then(|| host.lives_since.unwrap_or(begins));
                // Who comes back, and who sees others again, looks.
                host.wakes = begins;
            }
            loop {
                let awake = self.hosts.iter().enumerate().filter(|(index, _)| span.lives[*index]);
                let Some((index, now)) = awake.map(|(index, host)| (index, host.wakes)).min_by_key(|(_, at)| *at)
                else {
                    break;
                };
                let now = now.min(ends);
                self.judge(span, now)?;
                if now >= ends {
                    break;
                }
                self.hosts[index].wakes = self.act(index, span, now);
            }
            begins = ends;
        }
        let issued: Vec<(Moment, usize)> = self.issued.iter().map(|(at, by, _)| (*at, *by)).collect();
        let by = issued.iter().map(|(_, by)| *by).collect();
        Ok(Told { issued, by })
    }

    /// Nobody who has lived for two spans shows one that is over.
    fn judge(&self, span: &Span, now: Moment) -> Result<(), String> {
        for (index, host) in self.hosts.iter().enumerate().filter(|(index, _)| span.lives[*index]) {
            let settled = host.lives_since.is_some_and(|since| now.since(since) > self.life / 10);
            if settled && host.shown().not_after <= now {
                let day = now.since(BEGAN).as_secs() / DAY;
                return Err(format!("host {index} shows one that has ended on day {day}"));
            }
        }
        Ok(())
    }
}

/// As many spans as there are in thirteen months.
fn spans(life: Duration) -> usize {
    usize::try_from(396 * DAY / (life.as_secs() / 20)).unwrap()
}

fn hosts_alive(hosts: usize, length: usize) -> impl Strategy<Value = Vec<Span>> {
    let span = (1_u32..1 << hosts, 0_u32..1 << hosts, any::<bool>());
    prop::collection::vec(span, length).prop_map(move |all| {
        let bits = |word: u32| (0..hosts).map(|host| word >> host & 1 == 1).collect::<Vec<bool>>();
        let mut authority_before = false;
        all.into_iter()
            .map(|(lives, cut_off, authority)| {
                // It is never away for two spans, which are a tenth of a certificate's life.
                authority_before = authority || !authority_before;
                Span { lives: bits(lives), is_cut_off: bits(cut_off), authority: authority_before }
            })
            .collect()
    })
}

fn worlds() -> impl Strategy<Value = (usize, Duration, Vec<Span>)> {
    let lives = prop::sample::select(vec![6 * DAY + 8 * 3600, 45 * DAY, 90 * DAY]);
    (1_usize..5, lives).prop_flat_map(|(hosts, life)| {
        let life = Duration::from_secs(life);
        (Just(hosts), Just(life), hosts_alive(hosts, spans(life)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn for_thirteen_months_nobody_who_lives_shows_what_is_over((hosts, life, spans) in worlds()) {
        let mut story = Story::new(hosts, life);
        let told = story.tell(&spans).map_err(TestCaseError::fail)?;
        // However it goes, no more are got than hosts could use each by itself.
        let lifetimes = usize::try_from(396 * DAY / life.as_secs()).unwrap() * 3 / 2 + 2;
        prop_assert!(told.issued.len() <= lifetimes * hosts, "{:?}", told);
        prop_assert!(told.issued.len() >= lifetimes / 2, "{:?}", told);
    }
}

fn steady(hosts: usize, life: Duration, lives: &[usize]) -> Vec<Span> {
    let span = Span {
        lives: (0..hosts).map(|host| lives.contains(&host)).collect(),
        is_cut_off: vec![false; hosts],
        authority: true,
    };
    vec![span; spans(life)]
}

#[test]
fn while_all_see_each_other_the_first_that_lives_renews_and_nobody_else() {
    for life in [6 * DAY + 8 * 3600, 45 * DAY, 90 * DAY].map(Duration::from_secs) {
        for lives in [vec![0, 1, 2, 3], vec![2], vec![3, 1]] {
            let told = Story::new(4, life).tell(&steady(4, life, &lives)).unwrap();
            assert_eq!(told.by.iter().copied().collect::<Vec<_>>(), [*lives.iter().min().unwrap()], "{lives:?}");
            let apart = |two: &[(Moment, usize)]| two[1].0.since(two[0].0) > life / 2;
            assert!(told.issued.windows(2).all(apart), "one for each time that one is due: {told:?}");
        }
    }
}

#[test]
fn the_next_in_order_takes_over_within_a_step_when_the_first_dies() {
    let life = Duration::from_secs(90 * DAY);
    let mut spans = steady(3, life, &[0, 1, 2]);
    let half = spans.len() / 2;
    spans[half..].iter_mut().for_each(|span| span.lives[0] = false);
    let told = Story::new(3, life).tell(&spans).unwrap();
    let by: Vec<usize> = told.issued.iter().map(|(_, by)| *by).collect();
    assert!(by.is_sorted() && by.first() == Some(&0) && by.last() == Some(&1), "{by:?}");
    // At due they wait for the management machine and for the first: two steps.
    let latest = told.issued.windows(2).map(|two| two[1].0.since(two[0].0)).max().unwrap();
    assert!(latest <= life * 3 / 4 + STEP * 2 + Duration::from_secs(3600), "{latest:?}");
}
