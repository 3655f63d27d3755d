//! The key of a zone is exchanged for the next one: what is awaited at each step, by what name servers and registry have.

use serde_json::Value;

use super::{DS, HOME, KEY, OFFICE, ROOT, World, delegated};

impl World {
    /// What is awaited of the exchange of the key, and all of it.
    fn exchange(&self) -> (String, Value) {
        let root = format!("{ROOT}:{}", self.port);
        let (code, stdout, stderr) = self.run(&["dns", "drift", "--root", &root, "--json"]);
        assert!(matches!(code, Some(0 | 3)), "{stderr}");
        let answer: Value = serde_json::from_str(&stdout).unwrap();
        let exchange = answer["domains"][0]["exchange"].clone();
        (exchange["awaits"].as_str().unwrap_or_default().to_owned(), exchange)
    }

    /// The key that is to come: its DS record, and its line of a zone file.
    fn coming(&self) -> (String, String) {
        let (code, stdout, stderr) = self.run(&["dns", "ds", "example.org", "--json"]);
        assert_eq!(code, Some(0), "{stderr}");
        let told: Value = serde_json::from_str(&stdout).unwrap();
        let record = |index: usize| told["domains"][0]["coming"]["records"][index].as_str().unwrap().to_owned();
        (record(0).split_once(" DS ").unwrap().1.to_owned(), record(1).replace(" IN ", " 60 IN "))
    }

    /// So much time goes by, as far as anything is written down of it.
    fn pass(&self, seconds: u64) {
        let path = self.home.path().join(".local/share/sovereign/demo/zone-keys.json");
        let mut kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (name, value) in kept["under-way"]["example.org"].as_object_mut().unwrap() {
            if let Some(unix) = value.as_u64().filter(|_| name.ends_with("-since-unix")) {
                *value = (unix - seconds).into();
            }
        }
        std::fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
    }
}

/// How long name servers are kept, how long a DS record here, and what is added to each.
const LONGEST: u64 = 86_400 + 300;
const LONGEST_DS: u64 = 60 + 300;

#[test]
fn the_key_of_a_zone_is_exchanged_and_nothing_goes_before_everybody_has_forgotten_it() {
    let world = World::new();
    let root = format!("{ROOT}:{}", world.port);
    let undo = ["rotate", "zone/example.org", "--undo", "--root", &root];
    let refused = |args: &[&str], with: i32, why: &str| {
        let (code, _, stderr) = world.run(args);
        assert!(code == Some(with) && stderr.contains(why), "{stderr}");
    };
    refused(&undo, 2, "is not being exchanged");
    refused(&["rotate", "ca", "--undo"], 2, "rotated at once");
    let zone = world.zone();
    let registry = world.registry(&delegated(DS));
    let (home, office) = (world.own(HOME, &zone), world.own(OFFICE, &zone));

    // Begun, and undone as long as the registry has nothing of it.
    let begin = || {
        let (code, stdout, stderr) = world.run(&["rotate", "zone/example.org"]);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    assert!(begin().contains("zone/example.org is being exchanged for the one of epoch 2"));
    refused(&["rotate", "zone/example.org"], 2, "is being exchanged: its next key is not seen at all name servers yet");
    let (awaits, exchange) = world.exchange();
    assert_eq!(awaits, "both-keys");
    let missing = "ns-home.example.org (127.0.0.111), ns-office.example.org (127.0.0.112)";
    assert!(exchange["message"].as_str().unwrap().ends_with(missing), "{exchange}");
    let second = world.coming();
    let (code, stdout, stderr) = world.run(&undo);
    assert!(code == Some(0) && stdout.contains("stays at epoch 1"), "{stdout}{stderr}");
    assert!(begin().contains("epoch 3"), "a key that was given up does not come again");
    let (new_ds, new_key) = world.coming();
    assert_ne!(second.0, new_ds);

    // Both keys, first at one of them, then at all.
    let both = format!("{zone}{new_key}\n");
    drop(home);
    let home = world.own(HOME, &both);
    assert_eq!(world.exchange().0, "both-keys");
    drop(office);
    let office = world.own(OFFICE, &both);
    assert_eq!(world.exchange().0, "one-key-forgotten");
    world.pass(LONGEST);
    assert_eq!(world.exchange().0, "new-digest");

    // Both DS records: that is no drift.
    drop(registry);
    let both_ds = format!("{}\nexample.org. 60 DS {new_ds}", delegated(DS));
    let registry = world.registry(&both_ds);
    assert_eq!(world.drift(), (Some(0), Vec::new()));
    assert_eq!(world.exchange().0, "old-alone-forgotten");
    refused(&undo, 1, "the registry has, or had, the DS record of the new key");
    world.pass(LONGEST_DS);
    assert_eq!(world.exchange().0, "old-digest-gone");

    // The old one goes, and nobody who is silent brings it to its end.
    drop(registry);
    let _registry = world.registry(&delegated(&new_ds));
    assert_eq!(world.exchange().0, "old-digest-forgotten");
    world.pass(LONGEST_DS);
    drop(office);
    let (awaits, exchange) = world.exchange();
    assert!(awaits == "last-look" && exchange["over"] == false, "{exchange}");
    assert!(exchange["message"].as_str().unwrap().ends_with("ns-office.example.org (127.0.0.112)"), "{exchange}");
    let _office = world.own(OFFICE, &both);
    let (_, exchange) = world.exchange();
    assert!(exchange["over"] == true && exchange["to"] == 3, "{exchange}");

    // From then on it is the key, for whoever asks: the old one is drift.
    let (_, text, _) = world.run(&["dns", "ds", "example.org"]);
    assert!(text.contains(&new_ds) && !text.contains(DS), "{text}");
    assert_eq!(world.exchange().0, "");
    drop(home);
    let alone: Vec<&str> = both.lines().filter(|line| !line.contains(KEY)).collect();
    let _home = world.own(HOME, &alone.join("\n"));
    assert_eq!(world.drift(), (Some(0), Vec::new()));
    assert!(begin().contains("epoch 4"));
}
