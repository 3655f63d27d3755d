//! The process of a Ghost, described whole.

use std::collections::BTreeMap;
use std::path::Path;

use sovereign_model::Digest;
use sovereign_model::name::{InvalidName, UnitName};
use sovereign_model::unit::{Confinement, Health, Replace, UnitSpec};

use super::Home;
use super::files::{WRITABLE, layout};

/// The V8 heap at most, in mebibytes. Ghost idles at about 150; a leak ends in a restart instead of a full machine.
const HEAP_MEBIBYTES: u32 = 512;

/// Ghost closes idle connections within its `shutdownTimeout` of 5 s, then its database.
const STOP_GRACE_SECONDS: u32 = 20;

/// The unit `ghost-<site>@<data center>`.
///
/// # Errors
/// When the site's name makes no unit's name; every site's name makes one.
pub fn unit(home: &Home<'_>) -> Result<UnitSpec, InvalidName> {
    let text = |path: &Path| path.display().to_string();
    let inside = |path: &str| home.folder.join(path);
    Ok(UnitSpec {
        name: UnitName::at(&format!("ghost-{}", home.site.name), home.datacenter)?,
        datacenter: home.datacenter.clone(),
        host: None,
        program: home.image.join("node/bin/node"),
        args: vec![
            "--require".to_owned(),
            text(&inside("prepare.cjs")),
            "--require".to_owned(),
            text(&inside("guard.cjs")),
            format!("--max-old-space-size={HEAP_MEBIBYTES}"),
            "current/index.js".to_owned(),
        ],
        env: [
            ("HOME", text(&inside("tmp"))),
            ("LANG", "C.UTF-8".to_owned()),
            ("NODE_ENV", "production".to_owned()),
            ("NODE_EXTRA_CA_CERTS", text(home.ca_certificate)),
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("TMPDIR", text(&inside("tmp"))), // uploads land here: on the file system they are moved within
            ("TZ", "UTC".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        working_dir: home.folder.to_owned(),
        sockets: Vec::new(),
        confinement: Confinement {
            read: vec![home.image.to_owned(), home.ca_certificate.to_owned(), home.folder.to_owned()],
            write: WRITABLE.iter().map(|path| inside(path)).collect(),
            own_user: true,
            // Webhooks. The guard inside Ghost keeps the address too; this holds should the guard fail.
            connect: Some(vec![home.site.edge_port]),
            low_ports: false,
        },
        health: Health::HttpUnix {
            socket: home.socket(),
            // Answers without rendering a page; 503 while Ghost boots or migrates its database.
            path: "/ghost/api/admin/site/".to_owned(),
            host: home.site.canonical.authority(),
        },
        after: Vec::new(),
        stop_grace_seconds: STOP_GRACE_SECONDS,
        replace: Replace::StopFirst,
        inputs: inputs(home),
    })
}

/// The image, and every file of ours that Ghost reads at start.
fn inputs(home: &Home<'_>) -> BTreeMap<String, Digest> {
    let files = layout(home).files.into_iter().map(|file| {
        let name = file.path.strip_prefix(home.folder).unwrap_or(&file.path);
        (name.display().to_string(), file.digest())
    });
    files.chain([("image".to_owned(), home.image_digest)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ghost::sample;

    #[test]
    fn a_unit_is_described_whole() {
        sample::with_home(|home| {
            let mut unit = unit(home).unwrap();
            for digest in unit.inputs.values_mut() {
                *digest = Digest::of("changes with every file"); // only that it is there
            }
            insta::assert_json_snapshot!(unit);
        });
    }

    #[test]
    fn another_image_or_origin_is_another_unit() {
        sample::with_home(|home| {
            let digest = |home: &Home<'_>| unit(home).unwrap().digest();
            assert_eq!(digest(home), digest(home));
            assert_ne!(digest(home), digest(&Home { image_digest: Digest::of("newer"), ..*home }));
            let mut site = home.site.clone();
            site.canonical = "https://elsewhere.example".parse().unwrap();
            assert_ne!(digest(home), digest(&Home { site: &site, ..*home }));
            // Settings are applied to the running Ghost: no reason to stop it.
            let mut site = home.site.clone();
            site.settings.title = Some("Another title".to_owned());
            assert_eq!(digest(home), digest(&Home { site: &site, ..*home }));
        });
    }
}
