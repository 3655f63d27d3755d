//! Images.

use std::collections::BTreeMap;

use sovereign_incus::image::Source;
use sovereign_incus::{IncusError, Patience};
use sovereign_model::Digest;
use sovereign_testkit::dial::Breaking;

use crate::world::World;

pub(crate) fn uploaded(world: &World) {
    world.run(async {
        let client = &world.client;
        let properties = BTreeMap::from([("os".to_owned(), "busybox".to_owned())]);
        let source = Source::describe(&world.rootfs, "x86_64", &properties).await.unwrap();
        client.upload_image(&source).await.unwrap();
        assert!(client.upload_image(&source).await.unwrap_err().is_already_there());
        client.name_image(source.digest(), "small").await.unwrap();
        assert!(client.name_image(source.digest(), "small").await.unwrap_err().is_already_there());
        let image = client.image(source.digest()).await.unwrap();
        assert_eq!(image.digest(), Some(source.digest()));
        assert_eq!(image.aliases[0].name, "small");
        assert_eq!(image.properties.get("os").map(String::as_str), Some("busybox"));
        client.unname_image("small").await.unwrap();
        client.delete_image(source.digest()).await.unwrap();
        assert!(client.image(source.digest()).await.unwrap_err().is_not_found());
        assert!(client.delete_image(Digest::of("none")).await.unwrap_err().is_not_found());
    });
}

pub(crate) fn cut(world: &World) {
    world.run(async {
        let properties = BTreeMap::from([("cut".to_owned(), "true".to_owned())]);
        let source = Source::describe(&world.rootfs, "x86_64", &properties).await.unwrap();
        let before = world.client.images().await.unwrap();
        for after in [700, 300_000] {
            let bad = Breaking { socket: world.incusd.socket(), after };
            let error = world.over(bad, Patience::default()).await.upload_image(&source).await.unwrap_err();
            assert!(matches!(error, IncusError::Broken { .. }), "{error}");
        }
        assert_eq!(world.client.images().await.unwrap(), before);
        world.client.upload_image(&source).await.unwrap();
        world.client.delete_image(source.digest()).await.unwrap();
    });
}

pub(crate) fn other(world: &World) {
    world.run(async {
        let description = world.incusd.file("metadata.tar");
        std::fs::write(&description, "whatever it says").unwrap();
        let source = Source::described(&description, &world.rootfs, Digest::of("another")).await.unwrap();
        let before = world.client.images().await.unwrap();
        let error = world.client.upload_image(&source).await.unwrap_err();
        let (IncusError::Failed { message, .. } | IncusError::Refused { message, .. }) = &error else {
            panic!("{error:?}")
        };
        assert!(message.to_lowercase().contains("fingerprint"), "{message}");
        assert_eq!(world.client.images().await.unwrap(), before);
    });
}

pub(crate) fn refused(world: &World) {
    world.run(async {
        let junk = world.incusd.file("junk");
        std::fs::write(&junk, "no archive at all").unwrap();
        let source = Source::describe(&junk, "not-an-architecture", &BTreeMap::new()).await.unwrap();
        let error = world.client.upload_image(&source).await.unwrap_err();
        let (IncusError::Failed { message, .. } | IncusError::Refused { message, .. }) = &error else {
            panic!("{error:?}")
        };
        assert!(!message.is_empty());
        assert!(world.client.image(source.digest()).await.unwrap_err().is_not_found());
    });
}
