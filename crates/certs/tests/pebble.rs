//! Certificates of a real authority, Debian's pebble, proven by a real name server, Debian's Knot; judged by OpenSSL.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stderr, reason = "figures")]

mod world;

use std::time::{Duration, Instant};

use sovereign_certs::ask::texts;
use sovereign_certs::{Outcome, RevocationReason};
use time::OffsetDateTime;
use world::front::{CHALLENGE, Front, NEW_ACCOUNT, NEW_ORDER};
use world::{
    Clock, Knot, PATIENCE, Pebble, Servers, Trust, access, failed, free_port, issued, named, openssl, renewer, served,
    with_profile,
};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_certificate_is_issued_renewed_in_its_last_third_or_when_its_authority_says_and_revoked() {
    let (trust, servers, clock) = (Trust::new(), Servers::start().await, Clock::default());
    let knot = servers.knot.lock().await.listen;
    let pebble = Pebble::start(&trust, knot);
    let front = Front::start(&trust, pebble.place).await;
    let (folder, root) = (tempfile::tempdir().unwrap(), pebble.root());
    let ca = || vec![access("ca", front.place, &[&trust.root, &root])];
    let (name, wanted) = ("www.example.org", named(&["www.example.org"]));
    let renewing = renewer(folder.path(), ca(), &servers, &clock);
    let pass = renewing.pass(&wanted).await;
    assert_eq!(issued(&pass, name), "ca", "{}", pebble.log());

    // As others see it.
    let (chain, key) = served(&renewing, name);
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let root_file = folder.path().join("root.pem");
    std::fs::write(&root_file, &root).unwrap();
    let verified = openssl(&["verify", "-CAfile", root_file.to_str().unwrap(), "-untrusted", chain, chain]);
    assert!(verified.ends_with(": OK\n"), "{verified}");
    let host = openssl(&["x509", "-noout", "-in", chain, "-checkhost", name]);
    assert!(host.contains("does match"), "{host}");
    let described = openssl(&["pkey", "-noout", "-text", "-in", key]);
    assert!(described.contains("prime256v1"), "{described}");
    assert_eq!(openssl(&["pkey", "-pubout", "-in", key]), openssl(&["x509", "-noout", "-pubkey", "-in", chain]));
    // Nothing of the challenge is left.
    assert!(texts(knot, &name.parse().unwrap()).await.unwrap().is_empty());

    // This authority knows nothing of windows: asked once a day whether it does, and else left alone.
    let orders = || front.seen(|seen| seen.count(NEW_ORDER));
    let until_third = |days: u32| clock.advance(DAY * days);
    for _ in 0..3 {
        assert!(matches!(renewing.pass(&wanted).await.outcomes[&name.parse().unwrap()], Outcome::Well { .. }));
    }
    until_third(59);
    assert!(matches!(renewing.pass(&wanted).await.outcomes[&name.parse().unwrap()], Outcome::Well { .. }));
    assert_eq!(orders(), 1);
    until_third(9);
    assert_eq!(issued(&renewing.pass(&wanted).await, name), "ca");
    assert_eq!((orders(), front.seen(|seen| seen.count(NEW_ACCOUNT))), (2, 1));
    assert_eq!(front.seen(|seen| seen.replaces.clone()), [None, None]);

    // Now it suggests windows: next week, and then, because it must take the certificate back, now.
    let now = OffsetDateTime::now_utc() + 68 * DAY;
    front.rule(|rules| rules.window = Some((now + 5 * DAY, now + 6 * DAY)));
    let mut short = ca();
    short[0] = with_profile("ca", front.place, &[&trust.root, &root], "shortlived");
    let renewing = renewer(folder.path(), short, &servers, &clock);
    clock.advance(DAY + DAY / 24);
    let pass = renewing.pass(&wanted).await;
    let Outcome::Well { due } = pass.outcomes[&name.parse().unwrap()] else { panic!("{pass:?}") };
    let window = [now + 5 * DAY, now + 6 * DAY].map(sovereign_certs::Moment::from);
    assert!((window[0]..=window[1]).contains(&due) && pass.again < due);
    front.rule(|rules| rules.window = Some((now - DAY, now)));
    assert!(matches!(renewing.pass(&wanted).await.outcomes[&name.parse().unwrap()], Outcome::Well { .. }));
    clock.advance(DAY / 4);
    let before = renewing.store().state(&name.parse().unwrap()).unwrap().held.unwrap();
    assert_eq!(issued(&renewing.pass(&wanted).await, name), "ca");
    assert_eq!(front.seen(|seen| seen.replaces.last().cloned().unwrap()), before.id);
    assert_eq!(front.seen(|seen| seen.profiles.last().cloned().unwrap()).as_deref(), Some("shortlived"));
    let after = renewing.store().state(&name.parse().unwrap()).unwrap();
    assert_eq!(after.previous.unwrap().id, before.id);

    // Somebody has replaced it already, says the authority: then it is a new one.
    front.rule(|rules| rules.replaced = true);
    assert_eq!(issued(&renewing.pass(&wanted).await, name), "ca");
    let replaces = front.seen(|seen| seen.replaces.clone());
    assert!(replaces[3].is_some() && replaces[4].is_none() && replaces.len() == 5, "{replaces:?}");

    // Revoked, and replaced at once; what the authority says of the old one.
    front.rule(|rules| rules.window = Some((now + 8 * DAY, now + 9 * DAY)));
    let (chain, _) = served(&renewing, name);
    let serial = openssl(&["x509", "-noout", "-serial", "-in", chain.to_str().unwrap()]);
    let serial = serial.trim().trim_start_matches("serial=").to_lowercase();
    assert!(renewing.revoke(&name.parse().unwrap(), RevocationReason::KeyCompromise).await.unwrap());
    let status = pebble.manage(&format!("/cert-status-by-serial/{serial}"));
    assert!(status.contains("\"Revoked\""), "{status}");
    assert_eq!(issued(&renewing.pass(&wanted).await, name), "ca");
    assert!(matches!(renewing.pass(&wanted).await.outcomes[&name.parse().unwrap()], Outcome::Well { .. }));
    assert!(!renewing.revoke(&"other.example.org".parse().unwrap(), RevocationReason::Unspecified).await.unwrap());
}

#[tokio::test]
async fn the_next_authority_issues_when_one_is_away_refuses_or_is_asked_too_often() {
    let (trust, servers, clock) = (Trust::new(), Servers::start().await, Clock::default());
    let pebble = Pebble::start(&trust, servers.knot.lock().await.listen);
    let front = Front::start(&trust, pebble.place).await;
    let root = pebble.root();
    let folder = tempfile::tempdir().unwrap();
    let with = |first| {
        vec![access("first", first, &[&trust.root, &root]), access("second", pebble.place, &[&trust.root, &root])]
    };

    // Nobody listens there: one name finds out, and the next is not sent there.
    let wanted = named(&["a.example.org"]);
    let pass = renewer(folder.path(), with(free_port()), &servers, &clock).pass(&wanted).await;
    assert_eq!(issued(&pass, "a.example.org"), "second");
    let Outcome::Issued { failures, .. } = &pass.outcomes[&"a.example.org".parse().unwrap()] else { panic!() };
    assert_eq!(failures[0].to_string(), "authority first cannot be reached");
    assert!(failures[0].help().is_some());

    // Somebody listens, and never says a word: the first to wait for it does so for all.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let names = ["s.example.org", "t.example.org", "u.example.org", "v.example.net"];
    clock.advance(DAY);
    let began = Instant::now();
    let pass = renewer(folder.path(), with(silent.local_addr().unwrap()), &servers, &clock).pass(&named(&names)).await;
    assert!(names.iter().all(|name| issued(&pass, name) == "second"));
    assert!(began.elapsed() < PATIENCE * 3, "they waited one after the other");

    let renewing = renewer(folder.path(), with(front.place), &servers, &clock);
    let orders = || front.seen(|seen| seen.count(NEW_ORDER));
    // Asked too often: for this domain until it says, for another one not at all.
    front.rule(|rules| rules.refuse = Some((429, "rateLimited", Some(7200))));
    assert_eq!(issued(&renewing.pass(&named(&["b.example.org"])).await, "b.example.org"), "second");
    assert_eq!(issued(&renewing.pass(&named(&["c.example.org"])).await, "c.example.org"), "second");
    assert_eq!(orders(), 1, "it is left alone");
    clock.advance(Duration::from_secs(7000));
    assert_eq!(issued(&renewing.pass(&named(&["d.example.org"])).await, "d.example.org"), "second");
    assert_eq!(orders(), 1, "not before it said");
    front.rule(|rules| rules.refuse = None);
    assert_eq!(issued(&renewing.pass(&named(&["d.example.net"])).await, "d.example.net"), "first");
    clock.advance(Duration::from_secs(300));
    assert_eq!(issued(&renewing.pass(&named(&["e.example.org"])).await, "e.example.org"), "first");

    // A page instead of an answer; a refusal; an error of its own.
    front.rule(|rules| rules.page = true);
    assert_eq!(issued(&renewing.pass(&named(&["f.example.org"])).await, "f.example.org"), "second");
    front.rule(|rules| rules.page = false);
    clock.advance(Duration::from_secs(2 * 3600));
    for (name, refusal) in [
        ("g.example.org", (403, "rejectedIdentifier", None)),
        ("h.example.org", (500, "serverInternal", None)),
        ("i.example.org", (400, "invalidProfile", None)),
    ] {
        front.rule(|rules| rules.refuse = Some(refusal));
        let pass = renewing.pass(&named(&[name])).await;
        assert_eq!(issued(&pass, name), "second");
        let Outcome::Issued { failures, .. } = &pass.outcomes[&name.parse().unwrap()] else { panic!() };
        assert!(failures.len() == 1 && failures[0].help().is_some(), "{failures:?}");
        clock.advance(Duration::from_secs(2 * 3600));
    }

    // All of them: it says until when it waits, and does.
    clock.advance(DAY);
    let alone = renewer(folder.path(), vec![access("first", front.place, &[&trust.root, &root])], &servers, &clock);
    let before = orders();
    for _ in 0..5 {
        let pass = alone.pass(&named(&["k.example.org"])).await;
        let Outcome::Waits { until, .. } = pass.outcomes[&"k.example.org".parse().unwrap()] else { panic!("{pass:?}") };
        assert_eq!(until, pass.again);
    }
    assert_eq!(orders(), before + 1);
}

#[tokio::test]
async fn one_bad_name_stops_no_other_and_a_wrong_answer_is_said_with_help() {
    let (trust, servers, clock) = (Trust::new(), Servers::start().await, Clock::default());
    let knot = servers.knot.lock().await.listen;
    let pebble = Pebble::start(&trust, knot);
    let front = Front::start(&trust, pebble.place).await;
    let root = pebble.root();
    let folder = tempfile::tempdir().unwrap();
    let renewing = renewer(folder.path(), vec![access("ca", front.place, &[&trust.root, &root])], &servers, &clock);
    let names = ["a.example.org", "blocked.org", "lapsed.example.com", "b.example.net", "example.org"];
    let pass = renewing.pass(&named(&names)).await;
    for good in ["a.example.org", "b.example.net", "example.org"] {
        assert_eq!(issued(&pass, good), "ca");
    }
    let blocked = failed(&pass, "blocked.org");
    assert_eq!(blocked.len(), 1);
    assert!(blocked[0].0.starts_with("authority ca refuses a certificate for blocked.org: "), "{blocked:?}");
    assert!(blocked[0].0.ends_with("(rejectedIdentifier)") && blocked[0].1.is_some(), "{blocked:?}");
    let lapsed = failed(&pass, "lapsed.example.com");
    let why = "the answer to the challenge for lapsed.example.com cannot be published: nobody answers for its domain";
    assert!(lapsed.len() == 1 && lapsed[0].0 == why && lapsed[0].1.is_some(), "{lapsed:?}");

    // Another answer than the right one: the authority is not even told to look.
    *servers.wrong.lock().unwrap() = Some("something-else".into());
    let told = || front.seen(|seen| seen.count(CHALLENGE));
    let before = told();
    let wrong = failed(&renewing.pass(&named(&["c.example.org"])).await, "c.example.org");
    let why = format!(
        "the answer to the challenge for c.example.org is not at the name servers: name server {knot} has another one \
         (something-else)"
    );
    assert!(wrong.len() == 1 && wrong[0].0 == why && wrong[0].1.is_some(), "{wrong:?}");
    assert_eq!(told(), before);
    // It goes on with the same order once the name servers are right.
    *servers.wrong.lock().unwrap() = None;
    let orders = front.seen(|seen| seen.count(NEW_ORDER));
    clock.advance(Duration::from_secs(600));
    assert_eq!(issued(&renewing.pass(&named(&["c.example.org"])).await, "c.example.org"), "ca");
    assert_eq!(front.seen(|seen| seen.count(NEW_ORDER)), orders);

    // What was issued cannot be stored: once it can be, it is fetched with the same order.
    let blocked = folder.path().join("certs/names/g.example.org/1");
    std::fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    std::fs::write(&blocked, "no folder").unwrap();
    let unstored = failed(&renewing.pass(&named(&["g.example.org"])).await, "g.example.org");
    assert!(unstored.len() == 1 && unstored[0].0.starts_with("cannot use ") && unstored[0].1.is_some(), "{unstored:?}");
    std::fs::remove_file(&blocked).unwrap();
    let orders = front.seen(|seen| seen.count(NEW_ORDER));
    clock.advance(Duration::from_secs(600));
    assert_eq!(issued(&renewing.pass(&named(&["g.example.org"])).await, "g.example.org"), "ca");
    assert_eq!(front.seen(|seen| seen.count(NEW_ORDER)), orders);

    // One name server is away: the other has it. One has not heard of it: nothing is begun.
    servers.asked.lock().unwrap().push(free_port());
    assert_eq!(issued(&renewing.pass(&named(&["d.example.org"])).await, "d.example.org"), "ca");
    let other = Knot::start().await;
    servers.asked.lock().unwrap().push(other.listen);
    let behind = failed(&renewing.pass(&named(&["e.example.org"])).await, "e.example.org");
    assert!(behind[0].0.ends_with(&format!("name server {} has no such record", other.listen)), "{behind:?}");

    // The registry leads the authority elsewhere than to whom we have asked.
    servers.asked.lock().unwrap().truncate(1);
    let elsewhere = Pebble::start(&trust, other.listen);
    let root = elsewhere.root();
    let lost = renewer(folder.path(), vec![access("other", elsewhere.place, &[&trust.root, &root])], &servers, &clock);
    let lost = failed(&lost.pass(&named(&["f.example.org"])).await, "f.example.org");
    assert_eq!(lost.len(), 1);
    assert!(
        lost[0].0.starts_with("authority other did not find the answer to its challenge for f.example.org: "),
        "{lost:?}"
    );
    assert!(lost[0].1.as_ref().is_some_and(|help| help.contains("kdig +trace _acme-challenge.f.example.org TXT")));
}

#[tokio::test]
async fn what_an_authority_issues_from_a_new_root_is_not_used_until_that_is_believed_in() {
    let (trust, servers, clock) = (Trust::new(), Servers::start().await, Clock::default());
    let knot = servers.knot.lock().await.listen;
    let folder = tempfile::tempdir().unwrap();
    let wanted = named(&["a.example.org"]);
    let first = Pebble::start(&trust, knot);
    let front = Front::start(&trust, first.place).await;
    let old = first.root();
    let renewing = renewer(folder.path(), vec![access("ca", front.place, &[&trust.root, &old])], &servers, &clock);
    assert_eq!(issued(&renewing.pass(&wanted).await, "a.example.org"), "ca");
    let before = std::fs::read(served(&renewing, "a.example.org").0).unwrap();
    drop((first, front));

    // It starts anew, with another root, and has forgotten all its accounts.
    let second = Pebble::start(&trust, knot);
    let front = Front::start(&trust, second.place).await;
    let new = second.root();
    let at = front.place;
    // The address is the authority's; only its port is another here, so what is known of it is written over.
    let state = folder.path().join("certs/authorities/ca.json");
    let known = std::fs::read_to_string(&state).unwrap();
    let mut known: serde_json::Value = serde_json::from_str(&known).unwrap();
    known["directory"] = format!("https://127.0.0.1:{}/dir", at.port()).into();
    known["account"] = format!("https://127.0.0.1:{}/my-account/1", at.port()).into();
    std::fs::write(&state, known.to_string()).unwrap();
    let key = std::fs::read(folder.path().join("certs/accounts/ca.pem")).unwrap();

    clock.advance(80 * DAY);
    let unbelieving = renewer(folder.path(), vec![access("ca", at, &[&trust.root, &old])], &servers, &clock);
    let refused = failed(&unbelieving.pass(&wanted).await, "a.example.org");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].0.starts_with("what authority ca issued for a.example.org is not used: "), "{refused:?}");
    assert!(refused[0].1.as_ref().is_some_and(|help| help.contains("new root")), "{refused:?}");
    assert_eq!(std::fs::read(served(&unbelieving, "a.example.org").0).unwrap(), before, "what is served stays");

    // Two names that are issued for nothing would be two too many.
    let pass = unbelieving.pass(&named(&["a.example.org", "b.example.org"])).await;
    assert!(failed(&pass, "b.example.org").is_empty());
    // The first of these was with the account that it has forgotten.
    assert_eq!(front.seen(|seen| seen.count(NEW_ORDER)), 2);
    clock.advance(Duration::from_secs(2 * 3600));
    let believing = renewer(folder.path(), vec![access("ca", at, &[&trust.root, &old, &new])], &servers, &clock);
    let pass = believing.pass(&named(&["a.example.org", "b.example.org"])).await;
    assert_eq!((issued(&pass, "a.example.org"), issued(&pass, "b.example.org")), ("ca".into(), "ca".into()));
    assert_eq!(front.seen(|seen| seen.count(NEW_ACCOUNT)), 1);
    assert_eq!(std::fs::read(folder.path().join("certs/accounts/ca.pem")).unwrap(), key, "with the key it had");
}

/// Killed at every request of an enrolment, before it arrives and after: nothing is asked for twice that was granted.
#[tokio::test]
async fn killed_at_any_request_the_next_goes_on_with_the_same_order() {
    let (trust, servers) = (Trust::new(), Servers::start().await);
    let pebble = Pebble::start(&trust, servers.knot.lock().await.listen);
    let root = pebble.root();
    let killed_all = |passed_on: bool| {
        let (trust, servers, root, place) = (&trust, &servers, &root, pebble.place);
        async move {
            for at in 1.. {
                let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::default());
                let front = Front::start(trust, place).await;
                let ca = || vec![access("ca", front.place, &[&trust.root, root])];
                let name = format!("k{at}-{passed_on}.example.org");
                let wanted = named(&[&name]);
                front.rule(|rules| rules.hang = Some((at, passed_on)));
                let first = renewer(folder.path(), ca(), servers, &clock);
                let finished = tokio::select! {
                    pass = first.pass(&wanted) => Some(pass),
                    () = front.hanging.notified() => None,
                };
                if let Some(pass) = finished {
                    assert_eq!(issued(&pass, &name), "ca");
                    assert!(at > 8, "{at} requests are too few");
                    return at - 1;
                }
                drop(first);
                let known = std::fs::read_to_string(folder.path().join(format!("certs/names/{name}/state.json")));
                let known = known.is_ok_and(|state| state.contains("\"url\""));
                // Whoever was killed without an order waits a quarter of an hour.
                if !known {
                    clock.advance(Duration::from_secs(901));
                }
                let second = renewer(folder.path(), ca(), servers, &clock);
                let pass = second.pass(&wanted).await;
                assert_eq!(
                    issued(&pass, &name),
                    "ca",
                    "killed at {at}: {:?}",
                    front.seen(|seen| seen.requests.clone())
                );
                let orders = front.seen(|seen| seen.count(NEW_ORDER));
                assert!(!known || orders == 1, "killed at {at}: {orders} orders");
                let (chain, key) = served(&second, &name);
                assert_eq!(
                    openssl(&["pkey", "-pubout", "-in", key.to_str().unwrap()]),
                    openssl(&["x509", "-noout", "-pubkey", "-in", chain.to_str().unwrap()])
                );
            }
            unreachable!("it finishes once there are fewer requests")
        }
    };
    let began = Instant::now();
    let (before, after) = tokio::join!(killed_all(false), killed_all(true));
    eprintln!("killed at {before} and {after} requests in {:.1} s", began.elapsed().as_secs_f32());
}

/// What is written down in docs/benchmarks.md.
#[tokio::test]
async fn a_hundred_names_are_issued_within_a_minute() {
    let (trust, servers, clock) = (Trust::new(), Servers::start().await, Clock::default());
    let pebble = Pebble::start(&trust, servers.knot.lock().await.listen);
    let root = pebble.root();
    let folder = tempfile::tempdir().unwrap();
    let renewing = renewer(folder.path(), vec![access("ca", pebble.place, &[&trust.root, &root])], &servers, &clock);
    let names: Vec<String> = (0..100).map(|index| format!("n{index}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wanted = named(&names);
    let began = Instant::now();
    let pass = renewing.pass(&wanted).await;
    let took = began.elapsed();
    for name in names {
        assert_eq!(issued(&pass, name), "ca");
    }
    eprintln!("100 names: {:.1} s", took.as_secs_f32());
    assert!(took < Duration::from_secs(60));
}
