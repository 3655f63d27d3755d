//! Instances, what runs in them, files in them.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sovereign_incus::exec::Command;
use sovereign_incus::file::{Content, Owned};
use sovereign_incus::instance::{Status, Stop};
use sovereign_incus::{Devices, IncusError, Patience};

use crate::world::{World, config};

pub(crate) fn life(world: &World) {
    world.run(async {
        let client = &world.client;
        let mut new = world.small("life");
        new.config = config(&[("user.site", "blog")]);
        client.create_instance(&new).await.unwrap();
        let error = client.create_instance(&new).await.unwrap_err();
        assert!(error.is_already_there(), "{error:?}");
        assert_eq!(client.instance_state(&new.name).await.unwrap().status, Status::Stopped);
        client.start(&new.name).await.unwrap();
        let state = client.instance_state(&new.name).await.unwrap();
        assert_eq!(state.status, Status::Running);
        assert!(state.pid > 0);
        assert!(state.network.contains_key("lo"), "{state:?}");
        let listed = client.instances().await.unwrap();
        let mine = listed.iter().find(|instance| instance.name == new.name).unwrap();
        assert_eq!((mine.status.clone(), mine.project.as_str()), (Status::Running, "sov"));
        let error = client.delete_instance(&new.name).await.unwrap_err();
        assert!(matches!(&error, IncusError::Refused { message, .. } if message.contains("running")), "{error}");
        client.freeze(&new.name).await.unwrap();
        assert_eq!(client.instance_state(&new.name).await.unwrap().status, Status::Frozen);
        client.unfreeze(&new.name).await.unwrap();
        client.stop(&new.name, Stop::AtOnce).await.unwrap();
        client.delete_instance(&new.name).await.unwrap();
        assert!(client.instance(&new.name).await.unwrap_err().is_not_found());
        assert!(client.start(&new.name).await.unwrap_err().is_not_found());
    });
}

pub(crate) fn round_trip(world: &World) {
    world.run(async {
        let client = &world.client;
        let new = world.small("kept");
        client.create_instance(&new).await.unwrap();
        let mut kept = client.instance(&new.name).await.unwrap();
        assert!(kept.value.config.contains_key("volatile.uuid"), "the server's own keys come along");
        kept.value.description = "changed".to_owned();
        kept.value.config.insert("limits.processes".to_owned(), "100".to_owned());
        client.update_instance(&kept).await.unwrap();
        let again = client.instance(&new.name).await.unwrap();
        assert_eq!(again.value.config, kept.value.config);
        assert_eq!(again.value.devices, new.devices);
        assert_eq!(again.value.description, "changed");
        let error = client.update_instance(&kept).await.unwrap_err();
        assert!(matches!(error, IncusError::Changed { .. }), "{error}");
        client.patch_instance(&new.name, &config(&[("user.a", "1")]), &Devices::new()).await.unwrap();
        let patched = client.instance(&new.name).await.unwrap();
        assert_eq!(patched.value.config.get("user.a").map(String::as_str), Some("1"));
        assert_eq!(patched.value.config.get("limits.processes").map(String::as_str), Some("100"));
        client.delete_instance(&new.name).await.unwrap();
    });
}

pub(crate) fn exec(world: &World) {
    world.run(async {
        let client = &world.client;
        let name = world.running("exec").await;
        let script = "echo out; echo err >&2; echo $WHO in $PWD; exit 3";
        let mut command = Command::new(["/bin/sh", "-c", script]);
        command.environment = config(&[("WHO", "me")]);
        command.folder = Some("/srv".to_owned());
        let ran = client.exec(&name, &command).await.unwrap();
        assert_eq!((ran.code, ran.is_cut), (3, false));
        assert_eq!(ran.stdout, b"out\nme in /srv\n");
        assert_eq!(ran.stderr, b"err\n");

        let mut command = Command::new(["/bin/id", "-u"]);
        (command.user, command.group) = (33, 33);
        assert_eq!(client.exec(&name, &command).await.unwrap().stdout, b"33\n");

        let mut command = Command::new(["/bin/sh", "-c", "yes | head -c 100000"]);
        command.most_output = 1000;
        let ran = client.exec(&name, &command).await.unwrap();
        assert_eq!((ran.code, ran.stdout.len(), ran.is_cut), (0, 1000, true));

        let gone = client.exec(&name, &Command::new(["/no/such/program"])).await;
        assert!(gone.as_ref().is_ok_and(|ran| ran.code != 0) || gone.is_err(), "{gone:?}");
        // What was fetched is removed at the server.
        let kept = world.incusd.file("logs/sov_exec/exec-output");
        let left = std::fs::read_dir(&kept).map(|files| files.flatten().map(|file| file.path()).collect::<Vec<_>>());
        assert!(left.as_ref().is_ok_and(Vec::is_empty) || left.is_err(), "{left:?}");
        world.end(&name).await;
    });
}

pub(crate) fn late(world: &World) {
    world.run(async {
        let name = world.running("late").await;
        let short = Patience { operation: Duration::from_secs(1), ..Patience::default() };
        let began = Instant::now();
        let error =
            world.client.with_patience(short).exec(&name, &Command::new(["/bin/sleep", "600"])).await.unwrap_err();
        assert!(matches!(error, IncusError::Late { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        world.end(&name).await;
    });
}

pub(crate) fn files(world: &World) {
    world.run(async {
        let client = &world.client;
        let new = world.small("files");
        // Not running yet, then running.
        client.create_instance(&new).await.unwrap();
        let owned = Owned { mode: 0o640, uid: 33, gid: 34 };
        client.make_folder(&new.name, Path::new("/srv/a b"), Owned::by_root(0o755)).await.unwrap();
        let path = Path::new("/srv/a b/secret&ü");
        client.push_file(&new.name, path, &Content::Bytes(b"one".to_vec()), owned).await.unwrap();
        client.start(&new.name).await.unwrap();
        let pulled = client.pull_file(&new.name, path, 100).await.unwrap();
        assert_eq!((pulled.content.as_slice(), pulled.owned), (b"one".as_slice(), owned));

        let big = world.incusd.file("big");
        std::fs::write(&big, vec![b'x'; 3 << 20]).unwrap();
        client.push_file(&new.name, path, &Content::File(big), Owned::by_root(0o600)).await.unwrap();
        let pulled = client.pull_file(&new.name, path, 4 << 20).await.unwrap();
        assert_eq!(pulled.content.len(), 3 << 20);
        let error = client.pull_file(&new.name, path, 1000).await.unwrap_err();
        assert!(matches!(error, IncusError::TooLong { .. }), "{error}");

        client.make_link(&new.name, Path::new("/srv/link"), Path::new("a b/secret&ü")).await.unwrap();
        let told = client.exec(&new.name, &Command::new(["/bin/stat", "-c", "%N %a", "/srv/link"])).await.unwrap();
        assert!(String::from_utf8_lossy(&told.stdout).contains("a b/secret"), "{told:?}");

        assert!(client.pull_file(&new.name, Path::new("/srv"), 1000).await.is_err(), "a folder is no file");
        assert!(client.pull_file(&new.name, Path::new("/gone"), 1000).await.unwrap_err().is_not_found());
        client.remove_file(&new.name, path).await.unwrap();
        assert!(client.pull_file(&new.name, path, 1000).await.unwrap_err().is_not_found());
        world.end(&new.name).await;
    });
}

pub(crate) fn restricted(world: &World) {
    world.run(async {
        let host = [("type", "disk"), ("source", "/"), ("path", "/host")];
        let mut with_host = world.small("host");
        with_host.devices.insert("host".to_owned(), config(&host));
        let mut nested = world.small("nested");
        nested.config = config(&[("security.nesting", "true")]);
        let mut privileged = world.small("privileged");
        privileged.config = config(&[("security.privileged", "true")]);
        for new in [with_host, nested, privileged] {
            let error = world.client.create_instance(&new).await.unwrap_err();
            let (IncusError::Refused { message, .. }
            | IncusError::Forbidden { message, .. }
            | IncusError::Failed { message, .. }) = &error
            else {
                panic!("{error:?}")
            };
            assert!(message.to_lowercase().contains("forbidden"), "{message}");
            assert!(world.client.instance(&new.name).await.unwrap_err().is_not_found());
        }
    });
}

pub(crate) fn hangs(world: &World) {
    world.run(async {
        let short = Patience { answer: Duration::from_secs(1), ..Patience::default() };
        let client = world.client.with_patience(short);
        world.incusd.signal(Signal::STOP);
        let began = Instant::now();
        let error = client.instances().await.unwrap_err();
        world.incusd.signal(Signal::CONT);
        assert!(matches!(error, IncusError::Late { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        world.client.instances().await.unwrap();
    });
}
