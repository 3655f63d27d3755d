//! A Ghost in an instance of its own, with its database in another: both described whole, with the files that each
//! finds when it starts.
//!
//! ```text
//!  host's edge ── :2368 ──► Ghost ── :3306 ──► MariaDB ──► volume data
//!       ▲                     ├──► volume content
//!       └── webhooks, TLS ────┘    everything else refused → run/outgoing.log
//! ```
//!
//! What is in `/srv/site` goes with the instance; only what people upload is on a volume, since two Ghosts share that for
//! some seconds while one replaces the other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use serde_json::json;
use sovereign_model::Digest;
use sovereign_model::instance::users::GHOST;
use sovereign_model::instance::{InstanceFile, InstanceHealth, InstanceSpec, Limits, VolumeSpec};
use sovereign_model::name::{DatacenterName, HostName, ImageName, InvalidName, UnitName};
use sovereign_model::stack::Site;
use sovereign_model::unit::Replace;

use super::files::{GUARD, OPERATOR, PREPARE, SCHEDULING, scheduling, whole};
use super::setup::webhook_url_at;
use crate::secret::Secret;

/// The TCP port Ghost listens on in its instance, plain HTTP/1.1.
pub const PORT: u16 = 2368;

/// The TCP port of a database.
pub const DATABASE_PORT: u16 = 3306;

/// Where the image has its own file system's part of a site.
const SITE: &str = "/srv/site";

/// Where people's uploads are mounted.
const DATA: &str = "/srv/data";

/// Where the guard of a Ghost writes in its instance what Ghost was refused: for [`refused_in`](super::refused_in).
pub const OUTGOING_LOG: &str = "/srv/site/run/outgoing.log";

/// Where Ghost has in its instance what people uploaded, on the volume [`CONTENT_VOLUME`].
pub const CONTENT: &str = "/srv/data/content";

/// Ghost's configuration.
pub(super) const CONFIGURATION: &str = "/srv/site/config.production.json";

/// Ghost itself, in the image.
pub(super) const APP: &str = "/opt/ghost/app";

/// The program that runs Ghost there.
pub(super) const NODE: &str = "/opt/ghost/node/bin/node";

/// What Ghost runs as in its instance (the image's role `site`).
pub const SERVICE: &str = "ghost.service";

/// What MariaDB runs as in its instance (the image's role `database`).
pub const DATABASE_SERVICE: &str = "database.service";

const DOOR: &str = include_str!("assets/door.cjs");

/// The name of the volume with what people uploaded, at a Ghost.
pub const CONTENT_VOLUME: &str = "content";

/// The name of the volume with the tables, at a database.
pub const DATABASE_VOLUME: &str = "data";

/// Ghost's heap has half a gibibyte at most (`ghost.service`), and there are its code, its threads, and pictures that are
/// made smaller.
const GHOST_LIMITS: Limits = Limits { memory: 1 << 30, processes: 512 };

/// MariaDB holds 64 MiB of pages (`sovereign.cnf`) and some for each of at most 50 connections.
const DATABASE_LIMITS: Limits = Limits { memory: 512 << 20, processes: 256 };

/// systemd in the instance gives Ghost 20 s, and then ends the rest.
const GHOST_GRACE_SECONDS: u32 = 30;

/// InnoDB writes out what is in memory; `database.service` gives it 300 s.
const DATABASE_GRACE_SECONDS: u32 = 310;

/// An image as an Incus knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What it is called.
    pub name: ImageName,
    /// The digest that the Incus knows it by.
    pub fingerprint: Digest,
}

/// A site on a host, and what decides how it runs there.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The site.
    pub site: &'a Site,
    /// The data center it runs at.
    pub datacenter: &'a DatacenterName,
    /// The host there.
    pub host: &'a HostName,
    /// What Ghost's instance is made from: the role `site`.
    pub site_image: &'a Image,
    /// What the database's is: the role `database`.
    pub database_image: &'a Image,
    /// The version of the Ghost in that image.
    pub ghost_version: &'a str,
    /// The certificate of the internal CA, PEM: what webhooks over TLS are checked against.
    pub ca_certificate: &'a str,
    /// What opens the database: A-Z, a-z, 0-9 and `. _ ~ -`.
    pub database_password: &'a Secret,
    /// Where the host's edge takes webhooks, on the bridge.
    pub edge: SocketAddrV4,
}

impl Placed<'_> {
    /// The address that webhooks of this site go to.
    pub fn webhook_url(&self) -> String {
        webhook_url_at(self.site, self.edge)
    }
}

/// What is in the files of an instance, by path. Some of it is secret: no `Debug` shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Contents(BTreeMap<PathBuf, Vec<u8>>);

impl Contents {
    /// What belongs into the file at `path`.
    pub fn get(&self, path: &Path) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }
}

impl<P: Into<PathBuf>, B: Into<Vec<u8>>> FromIterator<(P, B)> for Contents {
    fn from_iter<I: IntoIterator<Item = (P, B)>>(files: I) -> Self {
        Self(files.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect())
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// An instance, and what is in the files it finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The instance.
    pub spec: InstanceSpec,
    /// What is in each of its files.
    pub contents: Contents,
}

/// The instances of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instances {
    /// `database-<site>@<data center>`.
    pub database: Described,
    /// `ghost-<site>@<data center>`.
    pub ghost: Described,
}

/// The name of a site's database.
///
/// # Errors
/// When the site's name makes no unit's name; every site's name makes one.
pub fn database_unit(site: &Site, datacenter: &DatacenterName) -> Result<UnitName, InvalidName> {
    UnitName::at(&format!("database-{}", site.name), datacenter)
}

/// The name of a site's Ghost.
///
/// # Errors
/// When the site's name makes no unit's name; every site's name makes one.
pub fn ghost_unit(site: &Site, datacenter: &DatacenterName) -> Result<UnitName, InvalidName> {
    UnitName::at(&format!("ghost-{}", site.name), datacenter)
}

/// Both instances of a site.
///
/// # Errors
/// When the site's name makes no unit's name; every site's name makes one.
pub fn instances(placed: &Placed<'_>) -> Result<Instances, InvalidName> {
    let database = database(placed, database_unit(placed.site, placed.datacenter)?);
    let ghost = ghost(placed, &database.spec, ghost_unit(placed.site, placed.datacenter)?);
    Ok(Instances { database, ghost })
}

/// What brings data of a site beside the live one: a database and a Ghost with names, addresses and volumes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The database.
    pub database: Described,
    /// The Ghost before it has data: in its instance nothing runs, and its volume can be filled.
    pub ground: Described,
    /// The Ghost, of the same unit. It reaches its database and nothing else, and no edge knows of it.
    pub ghost: Described,
}

/// How the names of units begin that are beside the live ones for a while. No site's application is called so.
const BESIDE: &str = "beside";

/// Whether a unit is one of [`Beside`].
pub fn is_beside(unit: &UnitName) -> bool {
    unit.as_str().strip_prefix(BESIDE).is_some_and(|rest| rest.starts_with('-'))
}

/// The instances for data of a site beside the live one.
///
/// # Errors
/// When the site's name makes no unit's name; every site's name makes one.
pub fn beside(placed: &Placed<'_>) -> Result<Beside, InvalidName> {
    let unit = |of: &str| UnitName::at(&format!("{BESIDE}-{of}-{}", placed.site.name), placed.datacenter);
    let database = database(placed, unit("database")?);
    let mut ghost = ghost(placed, &database.spec, unit("ghost")?);
    // It is made for one version's data and goes with it: nothing is kept of before.
    let spec = InstanceSpec { data_version: None, converts: Vec::new(), ..ghost.spec };
    ghost.spec = InstanceSpec { reaches: spec.reaches.into_iter().take(1).collect(), ..spec }.addressed();
    let spec = InstanceSpec {
        files: Vec::new(),
        reaches: Vec::new(),
        serves: None,
        // Without its configuration Ghost does not start.
        health: InstanceHealth::Service { service: "multi-user.target".to_owned() },
        after: Vec::new(),
        ..ghost.spec.clone()
    };
    let ground = Described { spec: spec.addressed(), contents: Contents::default() };
    Ok(Beside { database, ground, ghost })
}

fn database(placed: &Placed<'_>, name: UnitName) -> Described {
    let files = Files::default().with(
        "/etc/sovereign/database-password",
        Owned { mode: 0o600, user: 0, group: 0 },
        placed.database_password.expose(),
    );
    let spec = InstanceSpec {
        name,
        datacenter: placed.datacenter.clone(),
        host: placed.host.clone(),
        image: placed.database_image.name.clone(),
        fingerprint: placed.database_image.fingerprint,
        address: Ipv4Addr::UNSPECIFIED,
        volumes: vec![VolumeSpec { name: DATABASE_VOLUME.to_owned(), path: "/var/lib/mysql".into() }],
        files: files.described,
        reaches: Vec::new(),
        serves: None,
        limits: DATABASE_LIMITS,
        health: InstanceHealth::Service { service: DATABASE_SERVICE.to_owned() },
        after: Vec::new(),
        stop_grace_seconds: DATABASE_GRACE_SECONDS,
        replace: Replace::StopFirst,
        data_version: None,
        converts: Vec::new(),
        inputs: BTreeMap::new(),
    };
    Described { spec: spec.addressed(), contents: files.contents }
}

fn ghost(placed: &Placed<'_>, database: &InstanceSpec, name: UnitName) -> Described {
    let server = SocketAddrV4::new(database.address, DATABASE_PORT);
    // The database's password is in it.
    let secret = Owned { mode: 0o640, user: 0, group: GHOST };
    let public = Owned { mode: 0o644, user: 0, group: 0 };
    let files = Files::default()
        .with(CONFIGURATION, secret, &configuration_text(placed, server))
        .with("/srv/site/prepare.cjs", public, PREPARE)
        .with("/srv/site/guard.cjs", public, GUARD)
        .with("/srv/site/operator.cjs", public, OPERATOR)
        .with("/srv/site/door.cjs", public, DOOR)
        .with("/srv/site/adapters/scheduling/sovereign.js", public, SCHEDULING)
        .with("/srv/site/ca.pem", public, placed.ca_certificate);
    let spec = InstanceSpec {
        datacenter: placed.datacenter.clone(),
        host: placed.host.clone(),
        image: placed.site_image.name.clone(),
        fingerprint: placed.site_image.fingerprint,
        address: Ipv4Addr::UNSPECIFIED,
        volumes: vec![VolumeSpec { name: CONTENT_VOLUME.to_owned(), path: DATA.into() }],
        files: files.described,
        reaches: vec![server, placed.edge],
        serves: Some(PORT),
        limits: GHOST_LIMITS,
        health: InstanceHealth::Http {
            port: PORT,
            // Answers without rendering a page; 503 while Ghost boots or migrates its database.
            path: "/ghost/api/admin/site/".to_owned(),
            host: placed.site.canonical.authority(),
        },
        after: vec![database.name.clone()],
        stop_grace_seconds: GHOST_GRACE_SECONDS,
        replace: Replace::Beside,
        data_version: Some(placed.ghost_version.to_owned()),
        converts: vec![(database.name.clone(), DATABASE_VOLUME.to_owned()), (name.clone(), CONTENT_VOLUME.to_owned())],
        inputs: BTreeMap::new(),
        name,
    };
    Described { spec: spec.addressed(), contents: files.contents }
}

fn configuration_text(placed: &Placed<'_>, database: SocketAddrV4) -> String {
    let here = json!({
        // At every address, since its own follows from what is written here. Who may connect is the host's to say.
        "server": { "host": "0.0.0.0", "port": PORT, "shutdownTimeout": 5000 },
        "database": {
            "client": "mysql",
            "connection": {
                "host": database.ip(),
                "port": database.port(),
                "user": "ghost",
                "password": placed.database_password.expose(),
                "database": "ghost",
            },
        },
        "paths": {
            "contentPath": CONTENT,
            "installedAdaptersPath": format!("{SITE}/adapters"),
        },
        "adapters": scheduling("run/operator.sock"),
        // Read by our guard
        "sovereign": {
            "connect": [database.to_string(), placed.edge.to_string()],
            "names": [placed.site.canonical.host()],
            "here": placed.edge.ip(),
        },
    });
    format!("{:#}\n", whole(placed.site, here))
}

/// Whose a file is.
#[derive(Clone, Copy)]
struct Owned {
    mode: u32,
    user: u32,
    group: u32,
}

#[derive(Default)]
struct Files {
    described: Vec<InstanceFile>,
    contents: Contents,
}

impl Files {
    fn with(mut self, path: &str, Owned { mode, user, group }: Owned, text: &str) -> Self {
        let path = PathBuf::from(path);
        self.described.push(InstanceFile { path: path.clone(), mode, user, group, digest: Digest::of(text) });
        self.contents.0.insert(path, text.as_bytes().to_vec());
        self
    }
}

/// The command line that posts what is in the file `request` to `path` at the operator's door of a Ghost, to be run in
/// its instance by root. It removes `request` and writes the file `answer`: the status in a line, then the body.
pub fn door_command(path: &str, request: &Path, answer: &Path) -> Vec<String> {
    let script = format!("{SITE}/door.cjs");
    let files = [request, answer].map(|file| file.display().to_string());
    [NODE.to_owned(), script, path.to_owned()].into_iter().chain(files).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ghost::sample;

    fn with_placed(test: impl FnOnce(&Placed<'_>)) {
        let image = |name: &str| Image { name: name.parse().unwrap(), fingerprint: Digest::of(name) };
        test(&Placed {
            site: &sample::site(),
            datacenter: &"home".parse().unwrap(),
            host: &"atlas".parse().unwrap(),
            site_image: &image("debian-site"),
            database_image: &image("debian-database"),
            ghost_version: "6.65.0",
            ca_certificate: "a certificate",
            database_password: &Secret::new("correct.horse"),
            edge: SocketAddrV4::new(sovereign_model::instance::bridge::HOST, 8443),
        });
    }

    #[test]
    fn instances_are_described_whole() {
        with_placed(|placed| {
            let mut both = instances(placed).unwrap();
            for file in both.database.spec.files.iter_mut().chain(&mut both.ghost.spec.files) {
                file.digest = Digest::of("changes with every file"); // only that it is there
            }
            both.ghost.spec.address = Ipv4Addr::UNSPECIFIED; // likewise
            insta::assert_json_snapshot!([both.database.spec, both.ghost.spec]);
        });
    }

    #[test]
    fn the_configuration_in_an_instance() {
        with_placed(|placed| {
            let both = instances(placed).unwrap();
            let text = both.ghost.contents.get(Path::new(CONFIGURATION)).unwrap();
            insta::assert_snapshot!(std::str::from_utf8(text).unwrap());
        });
    }

    #[test]
    fn what_is_beside_shares_nothing_with_what_is_live() {
        with_placed(|placed| {
            let Instances { database, ghost } = instances(placed).unwrap();
            let beside = beside(placed).unwrap();
            let [live, other] = [[&database.spec, &ghost.spec], [&beside.database.spec, &beside.ghost.spec]];
            for (one, two) in live.into_iter().zip(other) {
                assert!(one.name != two.name && one.address != two.address, "{one:?} {two:?}");
                assert!(is_beside(&two.name) && !is_beside(&one.name));
            }
            assert_eq!(beside.ghost.spec.reaches, [SocketAddrV4::new(beside.database.spec.address, DATABASE_PORT)]);
            assert!(beside.database.spec.reaches.is_empty() && beside.ground.spec.reaches.is_empty());
            let (ground, ghost) = (&beside.ground.spec, &beside.ghost.spec);
            assert_eq!((&ground.name, &ground.volumes, ground.files.len()), (&ghost.name, &ghost.volumes, 0));
            assert_ne!(ground.address, ghost.address);
        });
    }

    #[test]
    fn every_file_has_the_content_that_its_description_says() {
        with_placed(|placed| {
            let Instances { database, ghost } = instances(placed).unwrap();
            for Described { spec, contents } in [&database, &ghost] {
                assert_eq!(spec.files.len(), contents.0.len());
                for file in &spec.files {
                    assert_eq!(Digest::of(contents.get(&file.path).unwrap()), file.digest, "{}", file.path.display());
                    let on_volume = |volume: &VolumeSpec| file.path.starts_with(&volume.path);
                    assert!(!spec.volumes.iter().any(on_volume), "{} would be shared", file.path.display());
                }
            }
        });
    }

    #[test]
    fn the_password_is_for_those_only_who_need_it() {
        with_placed(|placed| {
            let Instances { database, ghost } = instances(placed).unwrap();
            let password = placed.database_password.expose().as_bytes();
            for Described { spec, contents } in [&database, &ghost] {
                let holds = |bytes: &[u8]| bytes.windows(password.len()).any(|window| window == password);
                let shown = format!("{spec:?} {contents:?}");
                assert!(!holds(shown.as_bytes()), "{shown}");
                let with: Vec<_> = spec.files.iter().filter(|file| holds(&contents.0[&file.path])).collect();
                assert_eq!(with.len(), 1);
                assert_eq!((with[0].user, with[0].mode & 0o137), (0, 0), "{with:?}");
            }
        });
    }

    #[test]
    fn what_replaces_a_ghost_has_an_address_of_its_own_and_a_database_keeps_its() {
        with_placed(|placed| {
            let before = instances(placed).unwrap();
            let other = Secret::new("another");
            let after = instances(&Placed { database_password: &other, ..*placed }).unwrap();
            assert_ne!(before.database.spec.digest(), after.database.spec.digest());
            assert_eq!(before.database.spec.address, after.database.spec.address);
            assert_ne!(before.ghost.spec.address, after.ghost.spec.address);
            // Settings are applied to the running Ghost: no reason to replace it.
            let mut site = placed.site.clone();
            site.settings.title = Some("Another title".to_owned());
            assert_eq!(instances(&Placed { site: &site, ..*placed }).unwrap(), before);
        });
    }
}
