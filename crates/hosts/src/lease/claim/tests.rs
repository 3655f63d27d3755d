use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A host, as its script is: numbers, each given once.
#[derive(Debug, Default)]
struct Host {
    now: Duration,
    boot: u32,
    number: u64,
    text: String,
}

impl Host {
    fn say(&self, outcome: &str) -> Seen {
        let said = format!("{outcome} {} boot-{} {}\n{}", self.now.as_secs_f64(), self.boot, self.number, self.text);
        Seen::parse(&said).unwrap().1
    }

    fn swap(&mut self, number: u64, holder: Option<&Holder>) -> bool {
        let won = number == self.number;
        if won {
            self.number += 1;
            let content = String::from_utf8(content(holder)).unwrap();
            self.text = format!("{} boot-{} {}\n{content}", self.now.as_secs_f64(), self.boot, VALID.as_secs());
        }
        won
    }
}

/// A run on some machine, and what it knows.
#[derive(Debug)]
struct Operator {
    us: Holder,
    seen: Option<Seen>,
    tenure: Option<Tenure>,
    /// Swaps that are on their way, with when they were sent.
    sent: Vec<(Duration, u64, Option<Holder>)>,
    /// How far this machine's clock is ahead of the host's.
    ahead: Duration,
}

impl Operator {
    fn new(number: u32) -> Self {
        Self {
            us: Holder::new(format!("run-{number}"), format!("m-{number}"), "a@b".to_owned(), "up".to_owned(), number),
            seen: None,
            tenure: None,
            sent: Vec::new(),
            ahead: SECOND * (1000 * number),
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Look(usize),
    /// Sends what it would send by what it has seen last, however long ago that was.
    Take(usize),
    /// Looks, sends and hears without a pause.
    TakeAtOnce(usize),
    Renew(usize),
    Release(usize),
    /// What was sent arrives, and its answer comes back.
    Arrive(usize),
    /// The same, and the answer does not.
    ArriveUnheard(usize),
    Pass(u64),
    HostStartsAnew,
    Killed(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let who = 0..3_usize;
    let event = prop_oneof![
        3 => who.clone().prop_map(Event::Look),
        4 => who.clone().prop_map(Event::Take),
        3 => who.clone().prop_map(Event::Renew),
        1 => who.clone().prop_map(Event::Release),
        6 => who.clone().prop_map(Event::Arrive),
        1 => who.clone().prop_map(Event::ArriveUnheard),
        4 => (0..40_u64).prop_map(Event::Pass),
        // Around the end of a lease, since what goes wrong goes wrong there.
        4 => (84..96_u64).prop_map(Event::Pass),
        6 => who.clone().prop_map(Event::TakeAtOnce),
        1 => Just(Event::HostStartsAnew),
        1 => who.prop_map(Event::Killed),
    ];
    proptest::collection::vec(event, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Messages arrive late or are not heard, clocks differ, runs are killed and hosts start anew.
    #[test]
    fn two_runs_are_never_certain_of_one_host_at_once(events in events()) {
        let mut host = Host { now: SECOND * 50, ..Host::default() };
        let mut operators: Vec<Operator> = (0..3).map(Operator::new).collect();
        for event in events {
            match event {
                Event::Look(who) => operators[who].seen = Some(host.say("seen")),
                Event::Take(who) => {
                    let operator = &mut operators[who];
                    let free = operator.seen.as_ref().filter(|seen| seen.held_from(&operator.us).is_none());
                    if let Some(seen) = free {
                        let sent = (host.now + operator.ahead, seen.number, Some(seen.wish(&operator.us)));
                        operator.sent.push(sent);
                    }
                }
                Event::TakeAtOnce(who) => {
                    let operator = &mut operators[who];
                    let seen = host.say("seen");
                    if seen.held_from(&operator.us).is_none() {
                        let (wish, sent) = (seen.wish(&operator.us), host.now + operator.ahead);
                        assert!(host.swap(seen.number, Some(&wish)));
                        operator.tenure = Some(Tenure::begun(wish, seen.number + 1, sent));
                    }
                }
                Event::Renew(who) | Event::Release(who) => {
                    let operator = &mut operators[who];
                    let releases = matches!(event, Event::Release(_));
                    let Some(held) = operator.tenure.clone() else { continue };
                    if releases {
                        operator.tenure = None;
                    }
                    let holder = Some(held.holder).filter(|_| !releases);
                    operator.sent.push((host.now + operator.ahead, held.number, holder));
                }
                Event::Arrive(who) | Event::ArriveUnheard(who) => {
                    let operator = &mut operators[who];
                    let Some((sent, number, holder)) = operator.sent.pop() else { continue };
                    let won = host.swap(number, holder.as_ref());
                    if won && matches!(event, Event::Arrive(_)) {
                        operator.tenure = holder.map(|holder| Tenure::begun(holder, number + 1, sent));
                    }
                }
                Event::Pass(seconds) => host.now += SECOND * u32::try_from(seconds).unwrap(),
                Event::HostStartsAnew => {
                    // It takes its clock and all connections with it. What is on its way arrives nowhere.
                    for operator in &mut operators {
                        operator.ahead += host.now;
                        operator.seen = None;
                        operator.tenure = None;
                        operator.sent.clear();
                    }
                    host = Host { boot: host.boot + 1, ..Host::default() };
                }
                Event::Killed(who) => {
                    let number = u32::try_from(who).unwrap();
                    let sent = std::mem::take(&mut operators[who].sent);
                    let ahead = operators[who].ahead;
                    operators[who] = Operator { sent, ahead, ..Operator::new(number) };
                    // What a killed run sent arrives, and nobody hears of it.
                    for (_, number, holder) in std::mem::take(&mut operators[who].sent) {
                        host.swap(number, holder.as_ref());
                    }
                }
            }
            let certain: BTreeMap<&str, u64> = operators
                .iter()
                .filter_map(|operator| Some((operator.us.run.as_str(), operator.tenure.as_ref()?, operator.ahead)))
                .filter(|(_, held, ahead)| held.is_certain(host.now + *ahead))
                .map(|(run, held, _)| (run, held.number))
                .collect();
            prop_assert!(certain.len() <= 1, "{certain:?}");
        }
    }

    #[test]
    fn nonsense_is_nobodys_lease_and_breaks_nothing(text in "(seen|won|x) [0-9. a-z-]{0,40}(\n[^\u{0}]{0,60}){0,3}") {
        if let Some((_, seen)) = Seen::parse(&text) {
            let _ = seen.held();
        }
    }
}

fn us() -> Holder {
    Holder::new("run-1".to_owned(), "m-1".to_owned(), "anna@laptop".to_owned(), "up".to_owned(), 7)
}

fn them() -> Holder {
    Holder::new("run-2".to_owned(), "m-2".to_owned(), "ben\u{1b}[31m@desk".to_owned(), "down".to_owned(), 8)
}

#[test]
fn a_lease_is_held_until_it_runs_out_or_is_released_and_says_by_whom() {
    let mut host = Host { now: SECOND * 100, ..Host::default() };
    let seen = host.say("seen");
    assert_eq!((seen.number, seen.held()), (0, None));
    assert!(host.swap(0, Some(&seen.wish(&them()))));
    host.now += SECOND * 60;
    let holding = host.say("seen").held_from(&us()).unwrap();
    assert_eq!((holding.held_seconds, holding.ends_in_seconds), (60, 30));
    assert_eq!(holding.holder.who, "ben[31m@desk", "no stranger's word moves the cursor");
    // Renewed, it is held since the same time.
    let holder = host.say("seen").lies.unwrap().holder.unwrap();
    assert!(host.swap(1, Some(&holder)));
    assert!(!host.swap(1, Some(&us())), "a number is replaced once");
    host.now += SECOND * 89;
    assert_eq!(host.say("seen").held_from(&us()).unwrap().held_seconds, 149);
    host.now += SECOND;
    assert_eq!(host.say("seen").held_from(&us()), None, "it has run out");
    assert!(host.swap(2, None));
    assert_eq!(host.say("seen").held(), None);
}

#[test]
fn what_an_earlier_run_of_the_same_machine_left_is_in_nobodys_way() {
    let mut host = Host { now: SECOND, ..Host::default() };
    let killed = Holder { run: "run-0".to_owned(), ..us() };
    host.swap(0, Some(&killed));
    let seen = host.say("seen");
    assert!(seen.held().is_some());
    assert_eq!(seen.held_from(&us()), None);
}

#[test]
fn no_lease_outlives_a_start_of_its_host_and_none_is_longer_than_any_can_be() {
    let lies = |lies: &str| Seen::parse(&format!("seen 50.00 boot-1 3\n{lies}")).unwrap().1.held();
    let holder = serde_json::to_string(&them()).unwrap();
    assert!(lies(&format!("49.00 boot-1 90\n{holder}")).is_some());
    for (stamp, why) in [
        ("49.00 boot-0 90", "of another start"),
        ("51.00 boot-1 90", "of a time to come"),
        ("40.00 boot-1 9", "was said to be short"),
        ("-1 boot-1 90", "of no time"),
        ("49.00 boot-1", "for no time"),
    ] {
        assert_eq!(lies(&format!("{stamp}\n{holder}")), None, "{why}");
    }
    assert_eq!(lies(&format!("49.00 boot-1 999999999\n{holder}")).unwrap().ends_in_seconds, 89);
    // A newer program's words: somebody's, until they run out.
    assert!(lies("49.00 boot-1 90\n{\"version\":2}").unwrap().holder.who.contains("newer"));
}
