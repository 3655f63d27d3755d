//! Certificates of public authorities, as two data centers pass them on to each other.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use sovereign_model::edge_config::{EdgeConfig, EdgeSite, PublicAuthorities, Source};
use sovereign_model::renewer_word::Word;
use sovereign_runtime::control::{self, Request};

use crate::common::{Lab, NAME, Origin, Place, Running, eventually};

const DAY: Duration = Duration::from_secs(86_400);

/// Has an edge know the lab's authority, and a folder that certificates are brought to.
async fn believing(lab: &Lab, place: &Place, peer: &Place, site: EdgeSite, edge: &Running) {
    let public = place.folder.join("public");
    std::fs::create_dir(&public).unwrap();
    let config = EdgeConfig {
        public_certificates: Some(public),
        public_authorities: Some(PublicAuthorities { roots: lab.authority.clone(), machine: false }),
        ..lab.config(place, vec![peer.as_peer()], site)
    };
    lab.seal(place, 2, &config);
    edge.ask(Request::new("reload")).await.unwrap();
}

/// Brings a certificate for `name` to an edge.
async fn bring(place: &Place, edge: &Running, name: &str, text: &str) {
    std::fs::write(place.folder.join("public").join(format!("{name}.pem")), text).unwrap();
    edge.ask(Request::new("reload")).await.unwrap();
}

/// Waits until an edge shows what another has; one that is told to read its configuration asks at once.
async fn comes(lab: &Lab, place: &Place, told: Option<&Running>, name: &str, leaf: &[u8]) {
    if let Some(edge) = told {
        edge.ask(Request::new("reload")).await.unwrap();
    }
    eventually("it shows what was brought elsewhere", async || {
        (lab.client.shown(place.address(), name).await == leaf).then_some(())
    })
    .await;
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_brought_to_one_place_reaches_the_other_and_only_what_is_newer_and_to_be_believed() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let (home, at_home, office, at_office) = lab.two(&origin).await;
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    let link = Source::Link("home".parse().unwrap());
    let mirror = EdgeSite { source: link, webhook_key: None, mirrors: Vec::new(), ..site.clone() };
    believing(&lab, &home, &office, site, &at_home).await;
    believing(&lab, &office, &home, mirror, &at_office).await;

    // From the primary to its mirror, where the edge alone reads it.
    let (first, first_leaf) = lab.issued(NAME, 10 * DAY);
    bring(&home, &at_home, NAME, &first).await;
    comes(&lab, &office, None, NAME, &first_leaf).await;
    let folder = office.folder.join("store/certificates");
    let file = folder.join(format!("{NAME}.pem"));
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);

    // And back, though the primary was brought an older one; whoever asks its edge is given what it shows.
    let (second, second_leaf) = lab.issued(NAME, 5 * DAY);
    bring(&office, &at_office, NAME, &second).await;
    comes(&lab, &home, Some(&at_home), NAME, &second_leaf).await;
    let asked = Request::new("certificate").with("name", NAME);
    assert_eq!(at_home.ask(asked).await.unwrap()["pem"], second.as_str());

    // An older one, and one of somebody's own, reach nobody. What comes after them does.
    let www = format!("www.{NAME}");
    let (older, _) = lab.issued(NAME, 8 * DAY);
    bring(&home, &at_home, NAME, &older).await;
    assert_eq!(lab.client.shown(home.address(), NAME).await, second_leaf, "the newer one is shown");
    let (foreign, _) = Lab::new().issued(NAME, DAY);
    bring(&home, &at_home, NAME, &foreign).await;
    let (other, other_leaf) = lab.issued(&www, 3 * DAY);
    bring(&home, &at_home, &www, &other).await;
    comes(&lab, &office, Some(&at_office), &www, &other_leaf).await;
    assert_eq!(lab.client.shown(office.address(), NAME).await, second_leaf);
    bring(&home, &at_home, NAME, &older).await;

    // The renewer beside an edge is told what that shows, and no key; it changes nothing else there.
    let ask = async |request: Request| {
        control::request_async(&office.renewal(), &request, Duration::from_secs(5)).await.map_err(|error| error.help())
    };
    let told = ask(Request::new("chain").with("name", &*www)).await.unwrap();
    assert_eq!(told["pem"], other[other.find("-----BEGIN CERTIFICATE").unwrap()..]);
    assert!(!told["pem"].as_str().unwrap().contains("PRIVATE KEY") && other.contains("PRIVATE KEY"));
    for not_there in ["certificate", "status", "reload", "fill"] {
        assert!(ask(Request::new(not_there).with("name", &*www)).await.is_err(), "{not_there}");
    }
    assert_eq!(mode(&office.renewal()), 0o660, "for its group too");

    // What one who renews beside an edge hands over goes the same way, and is held to the same.
    let (renewed, renewed_leaf) = lab.issued(NAME, DAY / 2);
    let take = |name: &str, text: &str| Request::new("take").with("name", name).with("pem", text);
    let refused = [(NAME, &*foreign), (&*www, &*renewed), ("www.example.org", &*renewed), (NAME, "")];
    for (name, text) in refused {
        assert!(at_office.ask(take(name, text)).await.is_err(), "{name}");
    }
    assert_eq!(at_office.ask(take(NAME, &renewed)).await.unwrap()["newer"], true);
    assert_eq!(at_office.ask(take(NAME, &second)).await.unwrap()["newer"], false);
    comes(&lab, &office, None, NAME, &renewed_leaf).await;
    comes(&lab, &home, Some(&at_home), NAME, &renewed_leaf).await;

    // So are words of one who renews: said at one edge they are heard at the other.
    let word = lab.word("office", 1);
    let say = |word: &Word| Request::new("say").with("word", serde_json::to_value(word).unwrap());
    at_office.ask(say(&word)).await.unwrap();
    assert!(at_office.ask(say(&word)).await.is_err() && at_home.ask(say(&lab.word("office", 2))).await.is_err());
    at_home.ask(Request::new("reload")).await.unwrap();
    let words = eventually("it is heard", async || {
        let heard = at_home.ask(Request::new("words")).await.unwrap()["words"].clone();
        heard.as_array().is_some_and(|words| !words.is_empty()).then_some(heard)
    })
    .await;
    assert_eq!(serde_json::from_value::<Vec<Word>>(words).unwrap(), [word]);

    // What was passed on is there for the next process, while nobody else is.
    at_home.stop().await;
    at_office.stop().await;
    let again = lab.start(&office).await;
    assert_eq!(lab.client.shown(office.address(), &www).await, other_leaf);
    again.stop().await;
}
