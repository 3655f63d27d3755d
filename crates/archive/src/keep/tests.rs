use proptest::prelude::*;

use super::*;

const RULES: KeepRules = KeepRules { last: 2, hourly: 3, daily: 3, weekly: 2, monthly: 2, yearly: 2 };

fn site(name: &str) -> Option<Subject> {
    Some(Subject::Site(name.parse().expect("a name")))
}

fn moment(text: &str) -> Moment {
    let at: Timestamp = format!("{text}Z").parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    Moment { seconds: at.as_second(), nanoseconds: 0 }
}

fn dated(text: &str) -> Dated {
    Dated { id: text.to_owned(), subject: site("blog"), taken: moment(text), proven: false }
}

/// A line for each snapshot: what is kept by which rules.
fn told(snapshots: &[Dated], rules: &KeepRules, now: &str) -> Vec<String> {
    let verdicts = decide(snapshots, rules, moment(now));
    let line = |(snapshot, verdict): (&Dated, Verdict)| {
        let reasons: Vec<_> = verdict.reasons.iter().map(|reason| format!("{reason:?}")).collect();
        format!("{} {}", snapshot.id, reasons.join(" ")).trim_end().to_owned()
    };
    snapshots.iter().zip(verdicts).map(line).collect()
}

#[test]
fn each_rule_keeps_the_newest_of_its_periods() {
    let mut snapshots = [
        "2023-06-01T00:00:00",
        "2024-12-30T10:00:00", // the Monday of the week that ISO calls the first of 2025
        "2024-12-31T23:59:59",
        "2025-01-05T23:59:59", // its Sunday
        "2025-01-06T00:00:00",
        "2025-01-08T09:00:00",
        "2025-01-08T09:59:59",
        "2025-01-08T10:00:00",
        "2025-01-08T12:30:00",
        "2025-01-08T12:45:00",
    ]
    .map(dated);
    snapshots[9].proven = true;
    assert_eq!(
        told(&snapshots, &RULES, "2025-01-08T13:00:00"),
        [
            "2023-06-01T00:00:00",
            "2024-12-30T10:00:00",
            "2024-12-31T23:59:59 Monthly Yearly",
            "2025-01-05T23:59:59 Daily Weekly",
            "2025-01-06T00:00:00 Daily",
            "2025-01-08T09:00:00",
            "2025-01-08T09:59:59 Hourly",
            "2025-01-08T10:00:00 Hourly",
            "2025-01-08T12:30:00 Last",
            "2025-01-08T12:45:00 Newest NewestProven Last Hourly Daily Weekly Monthly Yearly",
        ]
    );
}

#[test]
fn what_is_never_forgotten() {
    let mut snapshots = [
        "2025-01-01T10:00:00",
        "2025-01-02T10:00:00",
        "2025-01-03T10:00:00",
        "2025-01-04T10:00:00",
        "2025-01-05T10:00:00",
        "2099-01-01T00:00:00",
    ]
    .map(dated);
    snapshots[0].subject = None;
    snapshots[1].proven = true;
    snapshots[2].proven = true;
    snapshots[3].subject = Some(Subject::State);
    let one = KeepRules { last: 1, ..KeepRules::NOTHING };
    assert_eq!(
        told(&snapshots, &one, "2025-02-01T00:00:00"),
        [
            "2025-01-01T10:00:00 AnotherProgram",
            "2025-01-02T10:00:00",
            "2025-01-03T10:00:00 NewestProven",
            "2025-01-04T10:00:00 Newest NoneProven Last",
            "2025-01-05T10:00:00 Newest Last",
            "2099-01-01T00:00:00 Future",
        ]
    );
    let none = told(&snapshots, &KeepRules::NOTHING, "2025-02-01T00:00:00");
    assert_eq!(none[4], "2025-01-05T10:00:00 Newest", "whatever the rules say");
}

#[test]
fn where_none_is_known_to_be_proven_none_is_forgotten() {
    let mut snapshots = ["2025-01-01T10:00:00", "2025-01-02T10:00:00", "2025-01-03T10:00:00"].map(dated);
    let one = KeepRules { last: 1, ..KeepRules::NOTHING };
    let all = ["2025-01-01T10:00:00 NoneProven", "2025-01-02T10:00:00 NoneProven"];
    assert_eq!(told(&snapshots, &one, "2025-02-01T00:00:00")[..2], all);
    // One of another subject is no help, and one that is from the future says that a clock is wrong.
    snapshots[2] = Dated { subject: Some(Subject::State), proven: true, ..dated("2025-01-03T10:00:00") };
    assert_eq!(told(&snapshots, &one, "2025-02-01T00:00:00")[0], all[0]);
    snapshots[2] = Dated { proven: true, ..dated("2099-01-03T10:00:00") };
    assert_eq!(told(&snapshots, &one, "2025-02-01T00:00:00")[0], all[0]);
    snapshots[2] = Dated { proven: true, ..dated("2025-01-03T10:00:00") };
    assert_eq!(told(&snapshots, &one, "2025-02-01T00:00:00")[0], "2025-01-01T10:00:00");
}

#[test]
fn any_moment_has_its_periods() {
    for seconds in [i64::MIN, -1, 0, i64::MAX - 3] {
        let at = Dated { taken: Moment { seconds, nanoseconds: 0 }, ..dated("2025-01-01T00:00:00") };
        assert!(!decide(&[at], &RULES, Moment { seconds: i64::MAX, nanoseconds: 0 })[0].is_forgotten());
    }
}

/// Around a turn of years, dense enough that every rule has something to choose from.
fn any_snapshots() -> impl Strategy<Value = Vec<Dated>> {
    let span = prop_oneof![Just(7_200), Just(86_400 * 3), Just(86_400 * 40), Just(86_400 * 1200)];
    let one = (0..3u8, 0..i64::MAX, 0..2u32, any::<bool>());
    (span, proptest::collection::vec(one, 0..60)).prop_map(|(span, all)| {
        let snapshot = |(index, (of, ago, nanoseconds, proven)): (usize, (u8, i64, u32, bool))| Dated {
            id: format!("{index:04}"),
            subject: [None, site("blog"), Some(Subject::State)][usize::from(of)].clone(),
            taken: Moment { seconds: NOW.seconds + 600 - ago % span, nanoseconds },
            proven: proven && ago % 3 == 0,
        };
        all.into_iter().enumerate().map(snapshot).collect()
    })
}

fn any_rules() -> impl Strategy<Value = KeepRules> {
    [0..6u32, 0..6u32, 0..6u32, 0..6u32, 0..6u32, 0..6u32].prop_map(|[last, hourly, daily, weekly, monthly, yearly]| {
        KeepRules { last, hourly, daily, weekly, monthly, yearly }
    })
}

/// A Wednesday.
const NOW: Moment = Moment { seconds: 1_736_340_000, nanoseconds: 0 };

fn that_stay(snapshots: &[Dated], rules: &KeepRules) -> Vec<Dated> {
    let verdicts = decide(snapshots, rules, NOW);
    snapshots.iter().zip(verdicts).filter(|(_, verdict)| !verdict.is_forgotten()).map(|(one, _)| one.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deciding_again_forgets_nothing_more(snapshots in any_snapshots(), rules in any_rules()) {
        let stay = that_stay(&snapshots, &rules);
        prop_assert_eq!(that_stay(&stay, &rules), stay);
    }

    #[test]
    fn the_order_does_not_matter(snapshots in any_snapshots().prop_shuffle(), rules in any_rules()) {
        let mut sorted = snapshots.clone();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        let by_name = |snapshots: &[Dated]| -> BTreeMap<String, Verdict> {
            snapshots.iter().map(|one| one.id.clone()).zip(decide(snapshots, &rules, NOW)).collect()
        };
        prop_assert_eq!(by_name(&snapshots), by_name(&sorted));
    }

    /// As many as the rule says, or as many as there are periods; the newest periods, and of each its newest.
    #[test]
    fn each_rule_keeps_its_count(snapshots in any_snapshots(), rules in any_rules()) {
        let verdicts = decide(&snapshots, &rules, NOW);
        let of_the_past = |of: &Option<Subject>| -> Vec<(&Dated, &Verdict)> {
            let all = snapshots.iter().zip(&verdicts);
            all.filter(|(one, _)| one.subject == *of && one.taken <= NOW).collect()
        };
        for of in [site("blog"), Some(Subject::State)] {
            let of_it = of_the_past(&of);
            for (reason, count) in counts(&rules) {
                // Written another way than the code: with the calendar of the library.
                let name = |one: &Dated| {
                    let at = Offset::UTC.to_datetime(Timestamp::from_second(one.taken.seconds).expect("near now"));
                    match reason {
                        Reason::Hourly => at.strftime("%Y %m %d %H").to_string(),
                        Reason::Daily => at.strftime("%Y %m %d").to_string(),
                        Reason::Weekly => at.strftime("%G %V").to_string(),
                        Reason::Monthly => at.strftime("%Y %m").to_string(),
                        Reason::Yearly => at.strftime("%Y").to_string(),
                        _ => format!("{:?} {}", one.taken, one.id),
                    }
                };
                let mut newest: BTreeMap<String, (Moment, &str)> = BTreeMap::new();
                for (one, _) in &of_it {
                    let this = (one.taken, one.id.as_str());
                    let known = newest.entry(name(one)).or_insert(this);
                    *known = this.max(*known);
                }
                let mut newest: Vec<_> = newest.into_values().collect();
                newest.sort_unstable_by(|a, b| b.cmp(a));
                newest.truncate(count as usize);
                let mut kept: Vec<_> = of_it.iter().filter(|(_, verdict)| verdict.reasons.contains(&reason)).collect();
                kept.sort_unstable_by(|(a, _), (b, _)| (b.taken, &b.id).cmp(&(a.taken, &a.id)));
                let kept: Vec<_> = kept.into_iter().map(|(one, _)| (one.taken, one.id.as_str())).collect();
                prop_assert_eq!(kept, newest, "{:?}", reason);
            }
            let newest = of_it.iter().max_by_key(|(one, _)| (one.taken, &one.id));
            prop_assert!(newest.is_none_or(|(_, verdict)| verdict.reasons.contains(&Reason::Newest)));
            let proven = of_it.iter().filter(|(one, _)| one.proven).max_by_key(|(one, _)| (one.taken, &one.id));
            match proven {
                Some((_, verdict)) => prop_assert!(verdict.reasons.contains(&Reason::NewestProven)),
                None => prop_assert!(of_it.iter().all(|(_, verdict)| !verdict.is_forgotten())),
            }
        }
        for (one, verdict) in snapshots.iter().zip(&verdicts) {
            prop_assert!(one.subject.is_some() || !verdict.is_forgotten());
            prop_assert!(one.taken <= NOW || !verdict.is_forgotten());
        }
    }
}
