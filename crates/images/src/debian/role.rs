//! Roles as data: what a root file system is for, so which packages of Debian are in it and which files of ours.
//!
//! This and the suites are all that the source code says about Debian. Versions are the operator's, in a
//! [`Lock`](super::Lock).

use std::path::PathBuf;

use serde::Serialize;
use sovereign_model::instance::users::{GHOST, MYSQL};
use sovereign_model::{Digest, ImageName};

use super::DebianError;
use super::names::{InvalidText, SuiteName};

/// What images of Debian are called before the role's own name.
pub(super) const PREFIX: &str = "debian-";

/// Counts changes of how a root file system is made
/// that show in no file of it and in no package.
const RECIPE: u32 = 1;

/// The release of Debian, and whose word is taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Base {
    /// The release.
    pub codename: SuiteName,
    /// The suites packages may come from.
    pub suites: Vec<SuiteName>,
    /// The components.
    pub components: Vec<SuiteName>,
    /// The keys that its archive is signed with.
    pub keyring: PathBuf,
}

impl Base {
    /// Debian 12 with its updates, free software only.
    pub fn bookworm() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| name.parse()).collect::<Result<Vec<_>, InvalidText>>();
        let constant = "names of Debian's suites are names";
        Self {
            codename: "bookworm".parse().expect(constant),
            suites: names(&["bookworm", "bookworm-updates", "bookworm-security"]).expect(constant),
            components: names(&["main"]).expect(constant),
            keyring: "/usr/share/keyrings/debian-archive-keyring.gpg".into(),
        }
    }
}

/// What a root file system is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Role {
    /// What its images are called.
    pub name: ImageName,
    /// What it is for, in a few words.
    pub purpose: String,
    /// Which Debian.
    pub base: Base,
    /// Packages beside Debian's essential ones, which are always there. What they depend on comes with them, what they
    /// recommend does not.
    pub packages: Vec<String>,
    /// Users that own data: their numbers never change, since they are written on volumes that outlive an image.
    pub users: Vec<User>,
    /// Files of ours.
    pub files: Vec<File>,
    /// Symbolic links of ours, as path and target: units that start, units that must not.
    pub links: Vec<(String, String)>,
    /// Folders that packages fill when they are installed, and that must be empty: a volume is put there.
    pub emptied: Vec<String>,
    /// Images of other kinds that are put inside, whole.
    pub layers: Vec<Layer>,
}

/// A user of a root file system, with a group of the same name and number, without a shell or a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub id: u32,
    /// The home folder.
    pub home: String,
}

/// A file of ours in a root file system, or a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct File {
    /// Where, without a slash at the beginning; with one at its end it is a folder.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// The number of the user and group that own it.
    pub owner: u32,
    /// What is in it.
    pub text: String,
}

/// An image that is put into a root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// Which.
    pub image: ImageName,
    /// Where its root goes.
    pub at: String,
}

/// In every role: an init system that configures the network.
const SYSTEM: &[&str] = &["dbus", "iproute2", "systemd", "systemd-sysv", "udev"];

/// Timers and services that look after a machine whose packages are upgraded in place, or that is no container. In an
/// instance, which is replaced instead, they fail or make load.
const NOT_IN_INSTANCES: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "console-getty.service",
];

impl Role {
    /// All roles, by the names the command line has.
    pub fn all() -> [Self; 3] {
        [Self::host(), Self::site(), Self::database()]
    }

    /// Their names.
    pub fn names() -> Vec<String> {
        Self::all().iter().map(|role| role.short().to_owned()).collect()
    }

    /// The role with a name, with or without `debian-` before it.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(name: &str) -> Result<Self, DebianError> {
        let found = Self::all().into_iter().find(|role| role.short() == name || role.name.as_str() == name);
        found.ok_or_else(|| DebianError::UnknownRole(name.chars().filter(|c| !c.is_control()).take(80).collect()))
    }

    /// Its name as the command line has it.
    pub fn short(&self) -> &str {
        self.name.as_str().strip_prefix(PREFIX).unwrap_or(self.name.as_str())
    }

    /// A bare Debian host as one finds it after an installation: SSH, and nothing of a data center yet.
    pub fn host() -> Self {
        let mut role =
            Self::new("host", "a bare Debian host, reached over SSH", &["apt", "ca-certificates", "openssh-server"]);
        role.packages.extend(["kmod", "procps"].map(str::to_owned));
        role.unit("ssh-keys.service", include_str!("../../roles/host/ssh-keys.service"));
        role.file("etc/ssh/sshd_config.d/keys-only.conf", 0o644, include_str!("../../roles/host/sshd.conf"));
        role.folder("root/.ssh/", 0o700, 0);
        role
    }

    /// What a site runs in: Ghost with its Node.js, as its own user. What people upload is on the volume `/srv/data`; all
    /// else in `/srv/site` goes with the instance, so that two can run beside each other on one volume.
    pub fn site() -> Self {
        let mut role = Self::new("site", "one site: Ghost and its Node.js", &["ca-certificates", "libstdc++6"]);
        role.instance();
        role.users.push(User { name: "ghost".to_owned(), id: GHOST, home: "/srv/data".to_owned() });
        role.unit("ghost.service", include_str!("../../roles/site/ghost.service"));
        role.file("usr/lib/tmpfiles.d/operator.conf", 0o644, include_str!("../../roles/site/operator.conf"));
        role.folder("srv/data/", 0o755, 0);
        role.folder("srv/site/", 0o755, 0);
        role.folder("srv/site/run/", 0o700, GHOST);
        role.links.push(("srv/site/current".to_owned(), "/opt/ghost/app".to_owned()));
        let image = "ghost".parse().expect("a constant");
        role.layers.push(Layer { image, at: "opt/ghost".to_owned() });
        role.folder("opt/ghost/", 0o755, 0);
        role
    }

    /// The database of one site: Debian's MariaDB, everything it writes on the volume `/var/lib/mysql`.
    pub fn database() -> Self {
        let mut role = Self::new("database", "the database of one site: MariaDB", &["mariadb-server"]);
        role.instance();
        role.users.push(User { name: "mysql".to_owned(), id: MYSQL, home: "/var/lib/mysql".to_owned() });
        role.unit("database.service", include_str!("../../roles/database/database.service"));
        role.mask(&["mariadb.service"]);
        role.emptied.push("var/lib/mysql".to_owned());
        for (name, text) in [
            ("database-prepare", include_str!("../../roles/database/database-prepare")),
            ("database-root", include_str!("../../roles/database/database-root")),
        ] {
            role.file(&format!("usr/lib/sovereign/{name}"), 0o755, text);
        }
        role.file(
            "etc/mysql/mariadb.conf.d/99-sovereign.cnf",
            0o644,
            include_str!("../../roles/database/sovereign.cnf"),
        );
        role
    }

    fn new(name: &str, purpose: &str, packages: &[&str]) -> Self {
        let mut role = Self {
            name: format!("{PREFIX}{name}").parse().expect("names of roles are names of images"),
            purpose: purpose.to_owned(),
            base: Base::bookworm(),
            packages: SYSTEM.iter().chain(packages).map(ToString::to_string).collect(),
            users: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            emptied: Vec::new(),
            layers: Vec::new(),
        };
        role.file("etc/systemd/network/80-eth0.network", 0o644, include_str!("../../roles/base/80-eth0.network"));
        role.file("etc/systemd/journald.conf.d/bounded.conf", 0o644, include_str!("../../roles/base/journald.conf"));
        role.start("systemd-networkd.service", "multi-user.target");
        role.start("systemd-networkd.socket", "sockets.target");
        role.start("systemd-networkd-wait-online.service", "network-online.target");
        role
    }

    /// What an instance of ours has and a host has not: nobody logs in, nothing upgrades itself.
    fn instance(&mut self) {
        self.mask(NOT_IN_INSTANCES);
        self.folder("etc/sovereign/", 0o700, 0);
    }

    fn file(&mut self, path: &str, mode: u32, text: &str) {
        self.files.push(File { path: path.to_owned(), mode, owner: 0, text: text.to_owned() });
    }

    fn folder(&mut self, path: &str, mode: u32, owner: u32) {
        self.files.push(File { path: path.to_owned(), mode, owner, text: String::new() });
    }

    /// A unit of ours, started with the system.
    fn unit(&mut self, name: &str, text: &str) {
        self.file(&format!("usr/lib/systemd/system/{name}"), 0o644, text);
        self.start(name, "multi-user.target");
    }

    fn start(&mut self, unit: &str, target: &str) {
        let path = format!("etc/systemd/system/{target}.wants/{unit}");
        self.links.push((path, format!("/usr/lib/systemd/system/{unit}")));
    }

    fn mask(&mut self, units: &[&str]) {
        self.links.extend(units.iter().map(|unit| (format!("etc/systemd/system/{unit}"), "/dev/null".to_owned())));
    }

    /// What tells how an image of this role is made: its data, and the steps of a build.
    pub(super) fn digest(&self) -> Digest {
        Digest::of_value(&(RECIPE, self, super::build::TRIM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_found_by_both_names() {
        assert_eq!(Role::find("host").unwrap(), Role::find("debian-host").unwrap());
        let error = Role::find("hots").unwrap_err();
        assert_eq!(error.help().as_deref(), Some("roles are host, site, database"));
    }

    #[test]
    fn no_two_things_are_put_in_one_place() {
        for role in Role::all() {
            let mut paths: Vec<_> = role.files.iter().map(|file| file.path.as_str()).collect();
            paths.extend(role.links.iter().map(|(path, _)| path.as_str()));
            let all = paths.len();
            paths.sort_unstable();
            paths.dedup();
            assert_eq!(paths.len(), all, "{}", role.name);
            assert!(paths.iter().all(|path| !path.starts_with('/')), "{}", role.name);
        }
    }

    #[test]
    fn no_secret_and_no_mirror_is_in_a_role() {
        for role in Role::all() {
            let text = serde_json::to_string(&role).unwrap();
            assert!(!text.contains("http"), "{text}");
        }
    }
}
