//! Data that an application converts when it starts.

use sovereign_engine::incus::instances::{Condition, InstancesError, Ran};
use sovereign_incus::exec::Command;
use sovereign_incus::{SnapshotName, VolumeName};
use sovereign_model::UnitName;
use sovereign_model::instance::InstanceSpec;
use sovereign_model::unit::Replace;
use sovereign_plan::Obstacle;

use crate::world::{New, World, cut_at, volume};

/// An application and the database that it converts: here a file that it writes into a volume of both. It adds a line
/// each time it starts, as one that was converted twice would show.
struct Site {
    database: New,
    old: New,
    new: New,
    broken: New,
}

const CONVERT: &str = "echo converted >> /srv/content/version\n";

impl Site {
    fn of(world: &World, name: &str) -> Self {
        let database = InstanceSpec {
            replace: Replace::StopFirst,
            volumes: vec![volume("data", "/srv/data")],
            ..world.spec(&format!("database-{name}@home"))
        };
        let database = New::of(database, &[("/srv/page", "database")]);
        let app = |version: &str, files: &[(&str, &str)]| {
            let spec = InstanceSpec {
                volumes: vec![volume("content", "/srv/content")],
                data_version: Some(version.to_owned()),
                converts: vec![
                    (database.spec.name.clone(), "data".to_owned()),
                    (format!("app-{name}@home").parse().unwrap(), "content".to_owned()),
                ],
                ..world.spec(&format!("app-{name}@home"))
            };
            New::of(spec, files)
        };
        let old = app("1", &[("/srv/page", "old")]);
        let new = app("2", &[("/srv/page", "new"), ("/etc/convert", CONVERT)]);
        let broken = app("2", &[("/etc/convert", CONVERT), ("/etc/ends", "")]);
        Self { database, old, new, broken }
    }

    async fn begin(&self, world: &World) {
        world.up(&self.database).await.unwrap();
        world.up(&self.old).await.unwrap();
        let name = running(world, &self.old.spec.name).await;
        world.client.exec(&name, &shell("echo first > /srv/content/version")).await.unwrap();
    }

    async fn end(&self, world: &World) {
        for unit in [&self.old.spec.name, &self.database.spec.name] {
            world.instances().stop(unit).await.unwrap();
        }
    }
}

async fn running(world: &World, unit: &UnitName) -> sovereign_incus::InstanceName {
    world.of(unit).await.into_iter().find(|(_, runs)| *runs).unwrap().0
}

async fn version(world: &World, unit: &New) -> String {
    world.page(unit.spec.address, "content/version").await.unwrap()
}

fn shell(script: &str) -> Command {
    Command::new(["/bin/sh", "-c", script])
}

async fn snapshots(world: &World, volume: &str) -> Vec<SnapshotName> {
    let volume: VolumeName = volume.parse().unwrap();
    let all = world.client.volume_snapshots(&"sovereign".parse().unwrap(), &volume).await.unwrap();
    all.into_iter().filter_map(|snapshot| snapshot.name).collect()
}

pub(crate) fn back(world: &World) {
    world.run(async {
        let site = Site::of(world, "back");
        site.begin(world).await;
        let database = running(world, &site.database.spec.name).await;
        let error = world.up(&site.broken).await.unwrap_err();
        assert!(matches!(error, InstancesError::NotWell { .. }), "{error:?}");
        assert_eq!(version(world, &site.old).await, "first\n");
        assert_eq!(world.page(site.old.spec.address, "page").await.as_deref(), Some("old"));
        assert_eq!(running(world, &site.database.spec.name).await, database, "it was stopped and started");
        assert_eq!(world.page(site.database.spec.address, "page").await.as_deref(), Some("database"));

        // Once more, and cut before anything is kept: what was written since is not taken for converted.
        world
            .client
            .exec(&running(world, &site.old.spec.name).await, &shell("echo second >> /srv/content/version"))
            .await
            .unwrap();
        cut_at(world, &site.broken, "keep data").await;
        assert_eq!(world.up(&site.old).await.unwrap(), Ran::Again);
        assert_eq!(version(world, &site.old).await, "first\nsecond\n");

        assert_eq!(world.up(&site.new).await.unwrap(), Ran::New { after_stop: true });
        assert_eq!(version(world, &site.new).await, "first\nsecond\nconverted\n");
        let before: SnapshotName = format!("before-{}", site.new.spec.digest().short()).parse().unwrap();
        for volume in ["app-back.home.content", "database-back.home.data"] {
            assert_eq!(snapshots(world, volume).await, std::slice::from_ref(&before), "{volume}");
        }

        // What the older version would find is not its own: neither beside the newer one, nor when no instance says so.
        let is_refused = |refused| matches!(refused, Err(InstancesError::Obstacle(Obstacle::OlderVersion { .. })));
        assert!(is_refused(world.up(&site.old).await));
        assert_eq!(world.page(site.new.spec.address, "page").await.as_deref(), Some("new"));
        assert_eq!(world.of(&site.old.spec.name).await.len(), 2, "what was replaced is still there");
        site.end(world).await;
        world.up(&site.database).await.unwrap();
        assert!(is_refused(world.up(&site.old).await));
        assert_eq!(world.up(&site.new).await.unwrap(), Ran::New { after_stop: false });
        assert_eq!(version(world, &site.new).await, "first\nsecond\nconverted\nconverted\n", "its own again");
        site.end(world).await;
    });
}

pub(crate) fn cut(world: &World) {
    world.run(async {
        let site = Site::of(world, "cut");
        site.begin(world).await;
        // The new one converts the data and becomes well, and nobody is there any more to say so.
        cut_at(world, &site.new, "health").await;
        let unit = &site.old.spec.name;
        sovereign_testkit::wait::until("the conversion", || async {
            let page = world.page(site.new.spec.address, "content/version").await;
            (page.as_deref() == Some("first\nconverted\n")).then_some(())
        })
        .await;
        let runs = world.instances().look().await.unwrap().units.remove(unit).unwrap();
        assert_eq!(runs.current.unwrap().condition, Condition::Stopped);
        assert_eq!(runs.unfinished, [site.new.spec.digest()]);
        // The operator wants the old one back; or else the new one, which converts what was not converted yet.
        assert_eq!(world.up(&site.old).await.unwrap(), Ran::Again);
        assert_eq!(version(world, &site.old).await, "first\n");
        world.up(&site.new).await.unwrap();
        assert_eq!(version(world, &site.new).await, "first\nconverted\n");
        site.end(world).await;
    });
}
