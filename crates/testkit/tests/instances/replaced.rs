//! Instances that take each other's place.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sovereign_engine::apply::{Failure as _, Progress};
use sovereign_engine::incus::instances::{Condition, InstancesError, Ran};
use sovereign_incus::exec::Command;
use sovereign_incus::instance::{Instance, NewInstance, Stop};
use sovereign_incus::{Config, Devices, IncusError, UnixSocket};
use sovereign_model::instance::{InstanceHealth, InstanceSpec, bridge};
use sovereign_model::unit::Replace;
use sovereign_testkit::dial::{Breaking, Counting};

use crate::world::{New, World, cut_at, volume};

pub(crate) fn beside(world: &World) {
    world.run(async {
        let spec = InstanceSpec { volumes: vec![volume("content", "/srv/content")], ..world.spec("beside@home") };
        let [one, two, three] =
            ["one", "two", "three"].map(|text| New::of(spec.clone(), &[("/srv/page", text), ("/etc/a/b/key", "k")]));
        let unit = &one.spec.name;
        let told = Mutex::new(Vec::new());
        let tell = |progress| told.lock().unwrap().push(progress);
        world.instances().run(&one.spec, &one.contents(), &world.image, &tell).await.unwrap();
        assert_eq!(told.lock().unwrap().last(), Some(&Progress::Doing("health".to_owned())));
        assert_eq!(world.page(one.spec.address, "page").await.as_deref(), Some("one"));
        let name = world.of(unit).await[0].0.clone();
        let key = world.client.pull_file(&name, Path::new("/etc/a/b/key"), 100).await.unwrap();
        assert_eq!((key.content.as_slice(), key.owned.mode, key.owned.uid, key.owned.gid), (&b"k"[..], 0o640, 33, 34));
        let kept = world.client.instance(&name).await.unwrap().value.config;
        assert_eq!(kept.get("boot.autostart").map(String::as_str), Some("true"));
        assert_eq!(kept.get("limits.processes").map(String::as_str), Some("50"));
        assert_eq!(world.up(&one).await.unwrap(), Ran::Already);

        assert_eq!(world.up(&two).await.unwrap(), Ran::New { after_stop: false });
        // Both serve until the old one is retired, and the volume is one.
        assert_eq!(world.page(one.spec.address, "page").await.as_deref(), Some("one"));
        assert_eq!(world.page(two.spec.address, "page").await.as_deref(), Some("two"));
        let seen = world.instances().look().await.unwrap();
        let runs = &seen.units[unit];
        let current = runs.current.as_ref().unwrap();
        assert_eq!((current.digest, &current.condition), (two.spec.digest(), &Condition::Well));
        assert_eq!(current.spec, two.spec);
        assert!(runs.superseded.len() == 1 && runs.superseded[0].is_running && runs.unfinished.is_empty(), "{runs:?}");
        world.instances().retire(unit).await.unwrap();
        let runs = world.instances().look().await.unwrap().units.remove(unit).unwrap();
        assert!(!runs.superseded[0].is_running, "{runs:?}");

        world.up(&three).await.unwrap();
        world.instances().retire(unit).await.unwrap();
        let left = world.of(unit).await;
        assert_eq!(left.iter().filter(|(_, runs)| *runs).count(), 1, "{left:?}");
        assert_eq!(left.len(), 2, "the one before is kept, and none before that: {left:?}");
        // And back again, to what is parked.
        assert_eq!(world.up(&two).await.unwrap(), Ran::New { after_stop: false });
        assert_eq!(world.page(two.spec.address, "page").await.as_deref(), Some("two"));

        world.instances().stop(unit).await.unwrap();
        assert_eq!(world.of(unit).await, []);
        let volumes = world.client.volumes(&"sovereign".parse().unwrap()).await.unwrap();
        assert!(volumes.iter().any(|volume| volume.name.as_str() == "beside.home.content"), "data stays");
    });
}

pub(crate) fn not_well(world: &World) {
    world.run(async {
        let spec = world.spec("unwell@home");
        let good = New::of(spec.clone(), &[("/srv/page", "good")]);
        world.up(&good).await.unwrap();
        let words = "fine so far\n\x1b[31mcannot open the database\x07\n";
        let spec = InstanceSpec { health: InstanceHealth::Service { service: "ghost.service".to_owned() }, ..spec };
        let bad = New::of(spec, &[("/srv/journal", words), ("/etc/broken", "")]);
        let impatient = world.instances().well_within(std::time::Duration::from_secs(2));
        let error = impatient
            .run(
                &bad.spec,
                &[("/srv/journal", words), ("/etc/broken", "")].into_iter().collect(),
                &world.image,
                &|_| (),
            )
            .await;
        let error = error.unwrap_err();
        let InstancesError::NotWell { problem, log, .. } = &error else { panic!("{error:?}") };
        assert_eq!(problem, "ghost.service is inactive");
        assert_eq!(log, "fine so far\n[31mcannot open the database");
        assert!(error.help().unwrap().contains("what ran before still does"), "{:?}", error.help());
        assert_eq!(world.page(good.spec.address, "page").await.as_deref(), Some("good"));
        let left = world.of(&good.spec.name).await;
        assert!(left.len() == 1 && left[0].1, "{left:?}");

        // It has ended when nobody looked.
        world.client.stop(&left[0].0, Stop::AtOnce).await.unwrap();
        let seen = world.instances().look().await.unwrap();
        assert_eq!(seen.units[&good.spec.name].current.as_ref().unwrap().condition, Condition::Stopped);
        assert_eq!(world.up(&good).await.unwrap(), Ran::Again);
        // It runs, and does not answer.
        world.client.exec(&left[0].0, &Command::new(["/bin/busybox", "killall", "httpd"])).await.unwrap();
        let runs = world.instances().look().await.unwrap().units.remove(&good.spec.name).unwrap();
        assert!(matches!(runs.current.unwrap().condition, Condition::Unwell(_)));
        let impatient = world.instances().well_within(std::time::Duration::from_secs(4));
        assert_eq!(impatient.run(&good.spec, &good.contents(), &world.image, &|_| ()).await.unwrap(), Ran::Again);
        world.instances().stop(&good.spec.name).await.unwrap();
    });
}

pub(crate) fn stop_first(world: &World) {
    world.run(async {
        let spec = InstanceSpec {
            replace: Replace::StopFirst,
            volumes: vec![volume("data", "/srv/data")],
            ..world.spec("database-stop@home")
        };
        let one = New::of(spec.clone(), &[("/srv/page", "one")]);
        let two = New::of(spec.clone(), &[("/srv/page", "two")]);
        let bad = New::of(spec, &[("/etc/ends", "")]);
        let unit = &one.spec.name;
        assert_eq!(one.spec.address, two.spec.address, "others know it by its address");
        world.up(&one).await.unwrap();
        assert_eq!(world.up(&two).await.unwrap(), Ran::New { after_stop: true });
        assert_eq!(world.page(two.spec.address, "page").await.as_deref(), Some("two"));
        assert_eq!(world.of(unit).await.iter().filter(|(_, runs)| *runs).count(), 1);
        let error = world.up(&bad).await.unwrap_err();
        let InstancesError::NotWell { problem, .. } = &error else { panic!("{error:?}") };
        assert_eq!(problem, "it has ended");
        assert_eq!(world.page(two.spec.address, "page").await.as_deref(), Some("two"), "it was brought back");
        // Nobody was there to bring it back.
        cut_at(world, &bad, "go back").await;
        assert_eq!(world.page(two.spec.address, "page").await, None);
        assert_eq!(world.up(&two).await.unwrap(), Ran::Again);
        assert_eq!(world.page(two.spec.address, "page").await.as_deref(), Some("two"));
        let runs = world.instances().look().await.unwrap().units.remove(unit).unwrap();
        assert_eq!(runs.current.unwrap().digest, two.spec.digest());
        let running: Vec<_> = world.of(unit).await.into_iter().filter(|(_, runs)| *runs).collect();
        let Instance { config, devices, .. } = world.client.instance(&running[0].0).await.unwrap().value;
        assert_eq!(devices["eth0"]["hwaddr"], bridge::hardware(one.spec.address), "its neighbours find it at once");
        assert_eq!(config.get("boot.autostart").map(String::as_str), Some("true"));
        world.instances().stop(unit).await.unwrap();
    });
}

pub(crate) fn cut(world: &World) {
    world.run(async {
        let one = New::of(world.spec("cut@home"), &[("/srv/page", "one")]);
        let two = New::of(world.spec("cut@home"), &[("/srv/page", "two")]);
        world.up(&one).await.unwrap();
        // Cut at each thing it does, then once more to the end.
        for at in ["create", "start", "health"] {
            cut_at(world, &two, at).await;
            assert_eq!(world.page(one.spec.address, "page").await.as_deref(), Some("one"), "cut at {at}");
            let runs = world.instances().look().await.unwrap().units.remove(&one.spec.name).unwrap();
            assert_eq!(runs.current.unwrap().digest, one.spec.digest());
        }
        world.up(&two).await.unwrap();
        assert_eq!(world.page(two.spec.address, "page").await.as_deref(), Some("two"));
        assert_eq!(world.of(&one.spec.name).await.len(), 2);
        world.instances().stop(&one.spec.name).await.unwrap();
    });
}

pub(crate) fn image_cut(world: &World) {
    world.run(async {
        let new = New::of(world.spec("image@home"), &[]);
        assert_eq!(world.client.images().await.unwrap(), [], "no instance, no image");
        // The longest of all that is sent.
        let bad = Breaking { socket: world.incusd.socket(), after: 300_000 };
        let bad = world.instances_over(bad).await;
        let error = bad.run(&new.spec, &new.contents(), &world.image, &|_| ()).await.unwrap_err();
        assert!(matches!(error, InstancesError::Incus(IncusError::Broken { .. })), "{error:?}");
        assert_eq!((world.client.images().await.unwrap(), world.of(&new.spec.name).await), (vec![], vec![]));
        let count = Arc::new(AtomicUsize::new(0));
        let asked = || count.swap(0, Ordering::Relaxed);
        let counting = Counting { socket: UnixSocket::new(world.incusd.socket()), count: Arc::clone(&count) };
        let counted = world.instances_over(counting).await;
        asked();
        assert_eq!(
            counted.run(&new.spec, &new.contents(), &world.image, &|_| ()).await.unwrap(),
            Ran::New { after_stop: false }
        );
        let first = asked();
        counted.look().await.unwrap();
        assert_eq!(asked(), 1, "for all instances whose health is asked over HTTP");
        counted.run(&new.spec, &new.contents(), &world.image, &|_| ()).await.unwrap();
        let again = asked();
        assert!(first <= 30 && again <= 3, "{first} requests for a first run, {again} for one that changes nothing");
        counted.stop(&new.spec.name).await.unwrap();
    });
}

pub(crate) fn foreign(world: &World) {
    world.run(async {
        let new = New::of(world.spec("foreign@home"), &[]);
        let name = format!("foreign-home-{}", new.spec.digest().short());
        let root = [("type", "disk"), ("path", "/"), ("pool", "sovereign")];
        let root: Config = root.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let instances = world.instances();
        // For the image.
        world.up(&New::of(world.spec("other@home"), &[])).await.unwrap();
        let theirs = NewInstance {
            name: name.parse().unwrap(),
            image: world.image.digest(),
            description: "somebody's".to_owned(),
            config: Config::new(),
            devices: Devices::from([("root".to_owned(), root)]),
            profiles: Vec::new(),
            ephemeral: false,
        };
        world.client.create_instance(&theirs).await.unwrap();
        let error = world.up(&new).await.unwrap_err();
        assert_eq!(error.to_string(), format!("there is an instance {name} on the host that is not ours"));
        assert!(error.help().unwrap().contains("rename or remove"), "{:?}", error.help());
        assert_eq!(instances.look().await.unwrap().foreign, std::slice::from_ref(&theirs.name));
        instances.stop(&new.spec.name).await.unwrap();
        assert_eq!(world.client.instance(&theirs.name).await.unwrap().value.description, "somebody's");
        world.client.delete_instance(&theirs.name).await.unwrap();
        instances.stop(&"other@home".parse().unwrap()).await.unwrap();
    });
}

pub(crate) fn clustered(_: &World) {
    let world = World::clustered();
    world.run(async {
        let spec = InstanceSpec { volumes: vec![volume("content", "/srv/content")], ..world.spec("member@home") };
        let [one, two] = ["one", "two"].map(|text| New::of(spec.clone(), &[("/srv/page", text)]));
        world.up(&one).await.unwrap();
        assert_eq!(world.up(&two).await.unwrap(), Ran::New { after_stop: false });
        assert_eq!(world.page(two.spec.address, "page").await.as_deref(), Some("two"));
        let seen = world.instances().look().await.unwrap();
        assert_eq!(seen.units[&two.spec.name].current.as_ref().unwrap().digest, two.spec.digest());
        world.instances().purge().await.unwrap();
        assert_eq!(world.client.instances().await.unwrap(), []);
        assert!(world.client.networks().await.unwrap().iter().all(|network| !network.managed));
    });
}

pub(crate) fn purged(world: &World) {
    world.run(async {
        let spec = InstanceSpec { volumes: vec![volume("content", "/srv/content")], ..world.spec("last@home") };
        world.up(&New::of(spec, &[])).await.unwrap();
        let enabled = world.host(&["systemctl", "is-enabled", "sovereign-instances.service"]).await;
        assert_eq!(enabled.stdout.trim(), "enabled");
        world.instances().purge().await.unwrap();
        world.instances().purge().await.unwrap();
        assert_eq!(world.client.instances().await.unwrap(), []);
        assert_eq!(world.client.images().await.unwrap(), []);
        assert_eq!(world.client.volumes(&"sovereign".parse().unwrap()).await.unwrap(), []);
        let left = world
            .host(&[
                "sh",
                "-c",
                "nft list tables; ls -A /etc/sovereign; ls /sys/class/net; ls /etc/systemd/system | grep sovereign",
            ])
            .await;
        assert_eq!(left.stdout.replace("table bridge incus\n", ""), "lo\n");
    });
}
