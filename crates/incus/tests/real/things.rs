//! Projects, pools, volumes and networks.

use std::sync::Arc;

use sovereign_incus::project::{Project, restricted};
use sovereign_incus::{Client, Config, IncusError, NetworkName, Patience, ProjectName, VolumeName};

use crate::world::{World, config, pool};

pub(crate) fn too_old(world: &World) {
    world.run(async {
        let wanted = ["projects", "an_extension_of_the_future"];
        let error = Client::connect(Arc::new(world.socket()), Patience::default(), &wanted).await.unwrap_err();
        let IncusError::TooOld { version, missing, .. } = &error else { panic!("{error}") };
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
        assert_eq!(missing, &["an_extension_of_the_future"]);
    });
}

pub(crate) fn projects(world: &World) {
    world.run(async {
        let name: ProjectName = "other".parse().unwrap();
        let project = Project { name: name.clone(), description: "one".to_owned(), config: restricted() };
        world.client.create_project(&project).await.unwrap();
        let error = world.client.create_project(&project).await.unwrap_err();
        assert!(error.is_already_there(), "{error:?}");
        let mut kept = world.client.project(&name).await.unwrap();
        assert_eq!(kept.value.config.get("restricted").map(String::as_str), Some("true"));
        kept.value.description = "two".to_owned();
        world.client.update_project(&kept).await.unwrap();
        let projects = world.client.projects().await.unwrap();
        assert!(projects.iter().any(|project| project.name == name && project.description == "two"));
        world.client.delete_project(&name).await.unwrap();
        assert!(world.client.project(&name).await.unwrap_err().is_not_found());
        assert!(world.client.delete_project(&name).await.unwrap_err().is_not_found());
    });
}

pub(crate) fn changed_meanwhile(world: &World) {
    world.run(async {
        let profile = "default".parse().unwrap();
        let mut mine = world.client.profile(&profile).await.unwrap();
        let mut theirs = mine.clone();
        theirs.value.description = "theirs".to_owned();
        world.client.update_profile(&theirs).await.unwrap();
        mine.value.description = "mine".to_owned();
        let error = world.client.update_profile(&mine).await.unwrap_err();
        assert!(matches!(error, IncusError::Changed { .. }), "{error}");
        assert_eq!(world.client.profile(&profile).await.unwrap().value.description, "theirs");
    });
}

pub(crate) fn volumes(world: &World) {
    world.run(async {
        let (client, pool) = (&world.client, pool());
        let volume: VolumeName = "data".parse().unwrap();
        client.create_volume(&pool, &volume, "of a site", &Config::new()).await.unwrap();
        assert!(client.create_volume(&pool, &volume, "", &Config::new()).await.unwrap_err().is_already_there());
        let mut kept = client.volume(&pool, &volume).await.unwrap();
        kept.value.config.insert("user.site".to_owned(), "blog".to_owned());
        client.update_volume(&pool, &kept).await.unwrap();
        let before = "before".parse().unwrap();
        client.snapshot_volume(&pool, &volume, &before).await.unwrap();
        let snapshots = client.volume_snapshots(&pool, &volume).await.unwrap();
        assert_eq!(snapshots.iter().map(|snapshot| snapshot.name.clone()).collect::<Vec<_>>(), [Some(before.clone())]);
        assert_eq!(client.volumes(&pool).await.unwrap().len(), 1, "a snapshot is no volume");
        client.restore_volume(&pool, &volume, &before).await.unwrap();
        client.delete_volume_snapshot(&pool, &volume, &before).await.unwrap();
        let volumes = client.volumes(&pool).await.unwrap();
        assert_eq!(volumes[0].config.get("user.site").map(String::as_str), Some("blog"));
        client.delete_volume(&pool, &volume).await.unwrap();
        assert!(client.volume(&pool, &volume).await.unwrap_err().is_not_found());
        assert!(client.pools().await.unwrap().iter().any(|each| each.name == pool && each.driver == "dir"));
    });
}

pub(crate) fn bridge(world: &World) {
    world.run(async {
        let client = &world.client;
        let name: NetworkName = "sovtest0".parse().unwrap();
        let none = config(&[("ipv4.address", "none"), ("ipv6.address", "none")]);
        client.create_bridge(&name, "for a test", &none).await.unwrap();
        assert!(client.create_bridge(&name, "", &none).await.unwrap_err().is_already_there());
        assert!(std::path::Path::new("/sys/class/net/sovtest0/bridge").exists());
        let mut kept = client.network(&name).await.unwrap();
        assert!(kept.value.managed && kept.value.kind == "bridge");
        kept.value.config.insert("user.note".to_owned(), "x".to_owned());
        client.update_network(&kept).await.unwrap();
        client.delete_network(&name).await.unwrap();
        assert!(client.networks().await.unwrap().iter().all(|network| network.name != name));
        assert!(!std::path::Path::new("/sys/class/net/sovtest0").exists());
    });
}
