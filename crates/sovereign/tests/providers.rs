//! Domains whose DNS stays at a provider: told by `up`, `tick` and nobody else, what the stack wants there. One is told by dynamic
//! updates, Debian's Knot, which kdig judges; the others by deSEC's and Cloudflare's interfaces, as they are recorded. And what
//! these export, before a domain is taken over from them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "providers/cloudflare.rs"]
mod cloudflare;
#[path = "providers/desec.rs"]
mod desec;
#[path = "providers/front.rs"]
mod front;
// Also the one of the name system's own tests.
#[path = "../../dns/tests/provider/knot.rs"]
mod knot;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use cloudflare::Cloudflare;
use desec::Desec;
use front::Front;
use knot::{Knot, SECRET};
use serde_json::{Value, json};
use support::leaf::{self, operator_with_site};
use support::{Operator, Ran};

const TOKEN: &str = "i-T3b1h_OI-H9ab8tRS98stGtURe";
const OTHER_TOKEN: &str = "YQSn-xWAQiiEh9qM58wZNnyQS7FUdoqGIUAbrh7T";

fn run(operator: &Operator, front: &Front, args: &[&str]) -> Ran {
    let mut command = operator.command(args);
    command.env("HTTPS_PROXY", format!("http://{}", front.proxy));
    command.env("SSL_CERT_FILE", operator.home().join("authority.pem"));
    Ran { args: args.join(" "), output: command.output().unwrap() }
}

#[test]
fn providers_are_told_what_is_wanted_and_nothing_that_is_there() {
    let desec = Arc::new(Desec::new("example.com", TOKEN));
    let cloudflare = Arc::new(Cloudflare::new("example.dev", OTHER_TOKEN));
    let hosts: [(_, Arc<dyn front::Interface>); 2] =
        [(desec::HOST, desec.clone()), (cloudflare::HOST, cloudflare.clone())];
    let front = Front::start(BTreeMap::from(hosts));
    let (knot, operator) = (Knot::start(Ipv4Addr::LOCALHOST.into(), "hmac-sha256"), operator_with_site());
    let names = "names = [\"www.example.net\", \"www.example.com\", \"example.com\", \"www.example.dev\"]";
    let stack = leaf::stack(&operator).replace("names = [\"other.localhost\"]", names)
        + &format!(
            "[[domain]]\nname = \"example.net\"\nregistrar = \"r\"\nprovider = \"knot\"\n\
             [[domain]]\nname = \"example.com\"\nregistrar = \"r\"\nprovider = \"desec\"\n\
             records = ['mine TXT \"one\"', 'key SSHFP 4 2 {}']\n\
             [[domain]]\nname = \"example.dev\"\nregistrar = \"r\"\nprovider = \"cloudflare\"\n\
             [[provider]]\nname = \"cloudflare\"\nkind = \"cloudflare\"\n\
             [[provider]]\nname = \"desec\"\nkind = \"desec\"\n\
             [[provider]]\nname = \"knot\"\nkind = \"rfc2136\"\nserver = \"{}\"\nkey = \"stack.example.net\"\n",
            "0".repeat(64),
            knot.at
        );
    operator.write("stack.toml", &stack);
    operator.write("authority.pem", &front.authority);
    let run = |args: &[&str]| run(&operator, &front, args);
    desec.set("", "TXT", &["\"theirs\""]);
    desec.set("www", "A", &["203.0.113.9"]);
    cloudflare.add("www.example.dev", "A", "203.0.113.9");
    cloudflare.add("example.dev", "TXT", "\"theirs\"");

    // Nothing was given: the run goes on, and says so.
    let first = run(&["up", "--yes"]).success();
    assert!(first.stdout().contains("nothing was given to prove the stack with at desec"), "{first:?}");
    assert_eq!(front.asked(), [""; 0]);
    let refused = run(&["dns", "login", "knott", "--secret-file", "authority.pem"]).exits(2);
    assert!(refused.stderr().contains("its providers are: cloudflare, desec, knot"), "{refused:?}");
    for (provider, secret) in [("desec", TOKEN), ("knot", SECRET), ("cloudflare", OTHER_TOKEN)] {
        operator.write("given", secret);
        let taken = run(&["dns", "login", provider, "--secret-file", "given"]).success();
        assert!(!format!("{taken:?}").contains(secret));
        let file = operator.state().join(format!("providers/{provider}.secret"));
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    let planned = run(&["plan"]).exits(3);
    assert!(planned.stdout().contains("desec (desec): www.example.com A  + 127.0.0.1  - 203.0.113.9"), "{planned:?}");
    assert!(front.asked().iter().all(|asked| asked.starts_with("GET ")), "a plan changes nothing");
    let told = run(&["up", "--yes"]).success();
    assert!(told.stdout().contains("knot (rfc2136): www.example.net A  + 127.0.0.1"), "{told:?}");
    assert!(told.stdout().contains("tell desec (desec) yourself: key.example.com"), "{told:?}");
    assert_eq!(
        (desec.has("www", "A"), desec.has("", "A")),
        (vec!["127.0.0.1".to_owned()], vec!["127.0.0.1".to_owned()])
    );
    assert_eq!(desec.has("", "TXT"), ["\"theirs\"", "\"v=spf1 -all\""]);
    assert_eq!((desec.has("", "MX"), desec.has("mine", "TXT")), (vec!["0 .".to_owned()], vec!["\"one\"".to_owned()]));
    assert_eq!(knot.kdig(&["+short", "www.example.net", "A"]), ["127.0.0.1"]);
    assert_eq!(knot.kdig(&["+short", "keep.example.net", "TXT"]), ["\"mine\""]);
    // Not less than a minute, which it would refuse.
    assert_eq!(cloudflare.has("www.example.dev", "A"), [("127.0.0.1".to_owned(), 60)]);
    let texts: Vec<String> = cloudflare.has("example.dev", "TXT").into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, ["\"theirs\"", "\"v=spf1 -all\""]);
    assert_eq!(cloudflare.has("example.dev", "MX"), [(".".to_owned(), 3600)]);
    // Not a name of a site's: theirs.
    assert_eq!(knot.kdig(&["+short", "example.net", "A"]), ["203.0.113.9"]);

    // Once is enough.
    front.asked();
    run(&["up", "--yes"]).success();
    let asked = front.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.starts_with("GET ")), "{asked:?}");

    // Somebody changes it there: the next tick puts it right.
    desec.set("www", "A", &["203.0.113.9", "127.0.0.1"]);
    let ticked = run(&["tick"]).success();
    assert!(ticked.stdout().contains("www.example.com A  - 203.0.113.9"), "{ticked:?}");
    assert_eq!(desec.has("www", "A"), ["127.0.0.1"]);

    // A provider that is away, and one that does not believe: no run fails, and the other one is told.
    desec.set("www", "A", &["203.0.113.9"]);
    front.is_away(true);
    let away = run(&["up", "--yes"]).success();
    assert!(away.stdout().contains("it is tried again by itself"), "{away:?}");
    front.is_away(false);
    operator.write("given", "another-token");
    for provider in ["desec", "cloudflare"] {
        run(&["dns", "login", provider, "--secret-file", "given"]).success();
    }
    let unproven = run(&["up", "--yes"]).success();
    for provider in ["desec", "cloudflare"] {
        let help = format!("give what it takes today: `sovereign dns login {provider}`");
        assert!(unproven.stdout().contains(&help), "{unproven:?}");
    }
    assert!(!format!("{unproven:?}").contains("another-token"));
    assert_eq!(desec.has("www", "A"), ["203.0.113.9"]);
    run(&["down"]).success();
}

/// Nobody listens there: no registry tells of these domains.
const NOBODY: &str = "127.0.0.1:9";

#[test]
fn what_a_provider_has_is_exported_whole_and_does_not_vanish_unseen() {
    let desec = Arc::new(Desec::new("example.com", TOKEN));
    let cloudflare = Arc::new(Cloudflare::new("example.dev", OTHER_TOKEN));
    let hosts: [(_, Arc<dyn front::Interface>); 2] =
        [(desec::HOST, desec.clone()), (cloudflare::HOST, cloudflare.clone())];
    let front = Front::start(BTreeMap::from(hosts));
    let operator = operator_with_site();
    let stack = |of_desec: &str, of_cloudflare: &str| {
        leaf::stack(&operator).replace("other.localhost", "www.example.com")
            + &format!(
                "[[domain]]\nname = \"example.com\"\nregistrar = \"r\"\nprovider = \"desec\"\n{of_desec}\n\
                 [[domain]]\nname = \"example.dev\"\nregistrar = \"r\"\nprovider = \"cloudflare\"\n{of_cloudflare}\n\
                 [[domain]]\nname = \"example.net\"\nregistrar = \"r\"\nprovider = \"knot\"\n\
                 [[provider]]\nname = \"cloudflare\"\nkind = \"cloudflare\"\n\
                 [[provider]]\nname = \"desec\"\nkind = \"desec\"\n\
                 [[provider]]\nname = \"knot\"\nkind = \"rfc2136\"\nserver = \"127.0.0.1:53\"\nkey = \"k.example\"\n"
            )
    };
    operator.write("stack.toml", &stack("", ""));
    operator.write("authority.pem", &front.authority);
    let run = |args: &[&str]| run(&operator, &front, args);
    let adopt = |domain: &str, provider: &str, more: &[&str]| {
        run(&[&["dns", "adopt", domain, "--provider", provider, "--root", NOBODY], more].concat())
    };
    // Of a name and a type that nobody asks for.
    let key = format!("4 2 {}", "0".repeat(64));
    desec.set("nobody-guesses-this", "SSHFP", &[&key]);
    desec.set("", "MX", &["10 mx.provider.example."]);
    desec.set("www", "A", &["203.0.113.9"]);
    cloudflare.add("example.dev", "A", "203.0.113.9");
    cloudflare.add("_proof.example.dev", "TXT", "\"theirs; and \" \"more\"");

    let first = adopt("example.com", "desec", &[]).exits(1);
    assert!(first.stderr().contains("sovereign dns login desec"), "{first:?}");
    for (provider, secret) in [("desec", TOKEN), ("cloudflare", TOKEN), ("knot", SECRET)] {
        operator.write("given", secret);
        run(&["dns", "login", provider, "--secret-file", "given"]).success();
    }
    for (domain, provider, code, why) in [
        ("example.com", "dsec", 2, "its providers are: cloudflare, desec, knot"),
        ("example.net", "knot", 2, "`--server 127.0.0.1:53`"),
        ("example.net", "desec", 1, "it has no domain example.net"),
        ("example.dev", "cloudflare", 1, "give what it takes today: `sovereign dns login cloudflare`"),
    ] {
        let refused = adopt(domain, provider, &[]).exits(code);
        assert!(refused.stderr().contains(why) && !format!("{refused:?}").contains(TOKEN), "{refused:?}");
    }
    front.is_away(true);
    let away = adopt("example.com", "desec", &[]).exits(1);
    assert!(away.stderr().contains("it cannot be asked") && away.stderr().contains("--zone-file"), "{away:?}");
    front.is_away(false);
    assert!(!operator.state().join("adopted.json").exists());

    let seen = |domain: &str, provider: &str| -> Value {
        serde_json::from_str(&adopt(domain, provider, &["--json"]).exits(3).stdout()).unwrap()
    };
    let of_desec = seen("example.com", "desec");
    assert_eq!(of_desec["source"], "what desec (desec) exports");
    assert_eq!(of_desec["drop"], json!(["@ MX", "nobody-guesses-this SSHFP"]));
    assert_eq!(of_desec["replaced"][0]["data"], "203.0.113.9");
    operator.write("given", OTHER_TOKEN);
    run(&["dns", "login", "cloudflare", "--secret-file", "given"]).success();
    let of_cloudflare = seen("example.dev", "cloudflare");
    assert_eq!(
        of_cloudflare["keep"],
        json!(["_proof 300 TXT \"theirs; and \" \"more\"", "@ 300 A 203.0.113.9"]),
        "as long as resolvers keep it"
    );

    let stopped = run(&["check"]).exits(2);
    assert!(stopped.stderr().contains("nobody-guesses-this.example.com. SSHFP would vanish"), "{stopped:?}");
    let (kept, dropped) = (&of_desec["keep"], &of_cloudflare["drop"]);
    operator.write("stack.toml", &stack(&format!("records = {kept}"), &format!("drop = {dropped}")));
    run(&["check"]).success();
    assert!(front.asked().iter().all(|asked| asked.starts_with("GET ")), "nothing was changed there");
}
