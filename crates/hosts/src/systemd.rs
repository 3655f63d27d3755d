//! A unit of the data plane as systemd has it (systemd.service(5), systemd.socket(5), systemd.exec(5)).
//!
//! ```text
//!  sovereign-shop.edge.home.https.socket      listening sockets, one file for each name: they outlive every service
//!        │ handed to whichever runs
//!  sovereign-shop.edge.home.1f0c….service     one description, named by its digest: the next one starts beside it
//!        ▲ alias
//!  sovereign-shop.edge.home.service           the one that starts at boot
//! ```
//!
//! Promise: the same description gives the same texts, and another one another service, so that the old one's file stays
//! until the old one has drained. Nobody on the host can change what it runs, and it sees of the state only what its
//! description names. Texts are pure; [`replace`](fn@replace) has a host's systemd change from one to the next.

mod account;
mod guard;
pub mod once;
mod replace;

use std::fmt::Write as _;

use sovereign_model::unit::{Replace, UnitSpec};
use sovereign_model::{StackName, UnitName};

pub use account::Account;
pub use guard::{GuardError, Guarded};
pub use replace::{Answer, Host, ReplaceError, Replaced, remove, replace};

/// A file for `/etc/systemd/system`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// The names of a unit's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    base: String,
    digest: String,
}

impl Names {
    /// Those of a unit of this stack.
    pub fn of(stack: &StackName, unit: &UnitSpec) -> Self {
        Self { digest: unit.digest().hex()[..12].to_owned(), ..Self::of_any(stack, &unit.name) }
    }

    /// Those of a unit of this stack of which no description is known: it has no service.
    pub fn of_any(stack: &StackName, unit: &UnitName) -> Self {
        Self { base: Self::base(stack, unit), digest: String::new() }
    }

    /// How the names of a unit's files begin.
    pub fn base(stack: &StackName, unit: &UnitName) -> String {
        // An instance of a template is what systemd would take an `@` for. No name has a dot in it.
        format!("sovereign-{stack}.{}", unit.as_str().replace('@', "."))
    }

    /// The service of this very description.
    pub fn service(&self) -> String {
        format!("{}.{}.service", self.base, self.digest)
    }

    /// The service that starts at boot, whichever description it has.
    pub fn alias(&self) -> String {
        format!("{}.service", self.base)
    }

    /// The sockets of a name.
    pub fn socket(&self, name: &str) -> String {
        format!("{}.{name}.socket", self.base)
    }

    /// Whether a file is a socket of this unit.
    pub fn is_socket(&self, file: &str) -> bool {
        let name = file.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".socket"));
        name.is_some_and(|name| !name.contains('.'))
    }

    /// Whether a file is a service of this unit, of whichever description.
    pub fn is_service(&self, file: &str) -> bool {
        let digest = file.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".service"));
        digest.is_some_and(|digest| digest.len() == 12 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// What keeps a service from everything that it does not need. Its memory may not be written and run, because none of
/// ours compiles while it runs. `RestrictSUIDSGID` is not among it: it takes openat2(2) away, by which an edge stays within a
/// folder of files, and gains nothing where no privileges can be had anyway. Knot runs with all of it: what it would rather do and may
/// not (choose its processors) it goes on without.
const HARDENING: &[&str] = &[
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "UMask=0077",
];

/// Connections of readers, and what is fetched for them.
const OPEN_FILES: u32 = 1 << 20;

/// The files of a unit: its service first, then its sockets.
pub fn files(stack: &StackName, unit: &UnitSpec, account: Account<'_>) -> Vec<UnitFile> {
    let names = Names::of(stack, unit);
    let service = UnitFile { name: names.service(), text: service(stack, unit, &names, account) };
    std::iter::once(service).chain(sockets(stack, unit, &names)).collect()
}

/// The names of a unit's sockets, each once, in the order of the description.
fn socket_names(unit: &UnitSpec) -> Vec<&str> {
    let mut each: Vec<&str> = Vec::new();
    for socket in &unit.sockets {
        if !each.contains(&socket.name.as_str()) {
            each.push(&socket.name);
        }
    }
    each
}

fn sockets(stack: &StackName, unit: &UnitSpec, names: &Names) -> Vec<UnitFile> {
    let file = |name: &str| {
        let mut text = Text::default();
        text.line("[Unit]");
        text.entry("Description", &format!("Where {} of the sovereign stack {stack} listens: {name}", unit.name));
        text.line("\n[Socket]");
        for socket in unit.sockets.iter().filter(|socket| socket.name == name) {
            text.entry("ListenStream", &socket.address.to_string());
        }
        text.entry("FileDescriptorName", name);
        text.entry("Service", &names.alias());
        // An address of IPv6 means that one alone; another socket has the one of IPv4.
        text.entry("BindIPv6Only", "ipv6-only");
        // The host may get the address later than this socket.
        text.entry("FreeBind", "yes");
        text.entry("Backlog", "4096");
        text.line("\n[Install]");
        text.entry("WantedBy", "sockets.target");
        UnitFile { name: names.socket(name), text: text.0 }
    };
    socket_names(unit).into_iter().map(file).collect()
}

fn service(stack: &StackName, unit: &UnitSpec, names: &Names, account: Account<'_>) -> String {
    let sockets: Vec<String> = socket_names(unit).into_iter().map(|name| names.socket(name)).collect();
    let sockets = sockets.join(" ");
    let mut text = Text::default();
    text.line("[Unit]");
    text.entry("Description", &format!("{} of the sovereign stack {stack}", unit.name));
    text.entry("After", "network.target");
    if !sockets.is_empty() {
        text.entry("Requires", &sockets);
        text.entry("After", &sockets);
    }
    // It is started again for ever: a host that nobody looks at must not give up.
    text.entry("StartLimitIntervalSec", "0");
    text.line("\n[Service]");
    text.entry("Type", "notify");
    text.entry(
        "ExecStart",
        &words(std::iter::once(unit.program.to_string_lossy().as_ref()).chain(unit.args.iter().map(String::as_str))),
    );
    for (name, value) in &unit.env {
        text.entry("Environment", &word(&format!("{name}={value}")));
    }
    text.entry("WorkingDirectory", &specifiers(&unit.working_dir.to_string_lossy()));
    if !sockets.is_empty() {
        text.entry("Sockets", &sockets);
    }
    text.entry("User", account.user);
    text.entry("Group", account.user);
    if let Some(group) = account.asks {
        text.entry("SupplementaryGroups", group);
    }
    text.entry("Restart", "always");
    text.entry("RestartSec", "1");
    text.entry("LimitNOFILE", &OPEN_FILES.to_string());
    text.entry("TimeoutStopSec", &unit.stop_grace_seconds.to_string());
    if unit.replace == Replace::Beside {
        // What takes the old one's place has begun already, so a stop is always the end of a drain.
        text.entry("KillMode", "mixed");
    }
    text.entry("TemporaryFileSystem", &format!("{}:ro", specifiers(&account.state.to_string_lossy())));
    for (setting, paths) in [("BindReadOnlyPaths", &unit.confinement.read), ("BindPaths", &unit.confinement.write)] {
        for path in paths {
            text.entry(setting, &word(&path.to_string_lossy()));
        }
    }
    for line in HARDENING {
        text.line(line);
    }
    // No right of root's, but for the one right to listen where names are asked for.
    let rights = if unit.confinement.low_ports { "CAP_NET_BIND_SERVICE" } else { "" };
    text.entry("CapabilityBoundingSet", rights);
    text.entry("AmbientCapabilities", rights);
    if unit.confinement.low_ports {
        // What begins Knot sets its rights to those that it has: more are not to be had.
        text.entry("SystemCallFilter", "capset");
    }
    text.line("\n[Install]");
    text.entry("WantedBy", "multi-user.target");
    text.entry("Alias", &names.alias());
    text.0
}

/// The text of a file.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("writing to a string does not fail");
    }

    fn entry(&mut self, name: &str, value: &str) {
        self.line(&format!("{name}={value}"));
    }
}

/// Words of a command line, taken apart again by systemd into just these: nothing in them is a variable or a specifier.
pub fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().map(|text| word(text).replace('$', "$$")).collect::<Vec<_>>().join(" ")
}

/// One word, quoted where it has to be, in which nothing is a specifier (systemd.syntax(7), "Quoting").
pub fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._:,@=+-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' => quoted.push_str("%%"),
            control if control.is_control() => {
                for byte in control.encode_utf8(&mut [0; 4]).bytes() {
                    write!(quoted, "\\x{byte:02x}").expect("writing to a string does not fail");
                }
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::Command;

    use sovereign_model::unit::{Confinement, Health, SocketSpec};

    use super::*;

    fn edge() -> UnitSpec {
        let socket =
            |name: &str, address: &str| SocketSpec { name: name.to_owned(), address: address.parse().unwrap() };
        UnitSpec {
            name: "edge@home".parse().unwrap(),
            datacenter: "home".parse().unwrap(),
            host: None,
            program: "/bin/true".into(),
            args: ["edge", "--control", "/var/lib/sovereign/shop/edge/run/100%/$x \"y\".sock"]
                .map(str::to_owned)
                .into(),
            env: BTreeMap::from([("GREETING".to_owned(), "a $1 note\n100%".to_owned())]),
            working_dir: "/var/lib/sovereign/shop/edge".into(),
            sockets: vec![
                socket("https", "0.0.0.0:443"),
                socket("http", "0.0.0.0:80"),
                socket("https", "[2001:db8::1]:443"),
            ],
            confinement: Confinement {
                read: vec!["/var/lib/sovereign/shop/edge".into()],
                write: vec!["/var/lib/sovereign/shop/edge/store".into()],
                own_user: false,
                connect: None,
                low_ports: false,
            },
            health: Health::Alive,
            after: Vec::new(),
            stop_grace_seconds: 30,
            replace: Replace::Beside,
            inputs: BTreeMap::new(),
        }
    }

    fn account() -> Account<'static> {
        Account { user: "sovereign-edge", state: Path::new("/var/lib/sovereign"), asks: None }
    }

    /// Who listens where names are asked for, and asks another daemon.
    fn name_server() -> (UnitSpec, Account<'static>) {
        let edge = edge();
        let confinement = Confinement { low_ports: true, ..edge.confinement.clone() };
        let unit = UnitSpec { name: "name-server@home".parse().unwrap(), sockets: Vec::new(), confinement, ..edge };
        (unit, Account { asks: Some("sovereign-agent"), ..account() })
    }

    fn written(unit: &UnitSpec) -> Vec<UnitFile> {
        files(&"shop".parse().unwrap(), unit, account())
    }

    #[test]
    fn a_unit_has_a_service_and_a_file_for_each_name_of_its_sockets() {
        let all: String = written(&edge()).iter().map(|file| format!("# {}\n{}\n", file.name, file.text)).collect();
        insta::assert_snapshot!(all);
    }

    #[test]
    fn one_that_listens_where_root_does_has_that_right_and_no_other() {
        let (unit, account) = name_server();
        let (written, edge) = (files(&"shop".parse().unwrap(), &unit, account), written(&edge()));
        let rights = |file: &UnitFile| -> Vec<String> {
            let lines = file.text.lines();
            let is_right =
                |line: &&str| ["Capab", "Ambient", "NoNew", "User=", "Supple"].iter().any(|of| line.starts_with(of));
            lines.filter(is_right).map(str::to_owned).collect()
        };
        let common = ["NoNewPrivileges=yes", "User=sovereign-edge"];
        let all = [rights(&written[0]), rights(&edge[0])];
        assert!(common.iter().all(|line| all.iter().all(|rights| rights.contains(&(*line).to_owned()))), "{all:?}");
        assert!(all[0].contains(&"SupplementaryGroups=sovereign-agent".to_owned()), "{all:?}");
        for of in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
            assert!(all[0].contains(&format!("{of}CAP_NET_BIND_SERVICE")), "{all:?}");
            assert!(all[1].contains(&of.to_owned()), "{all:?}");
        }
        let has_capset = |file: &UnitFile| file.text.contains("SystemCallFilter=capset\n");
        assert!(has_capset(&written[0]) && !has_capset(&edge[0]));
        assert_eq!((all[0].len(), all[1].len(), written.len()), (5, 4, 1));
    }

    #[test]
    fn another_description_is_another_service_on_the_same_sockets() {
        let (stack, before) = ("shop".parse().unwrap(), edge());
        let after = UnitSpec { args: vec!["edge".to_owned()], ..edge() };
        let names = [&before, &after].map(|unit| Names::of(&stack, unit));
        assert_ne!(names[0].service(), names[1].service());
        assert_eq!([names[0].alias(), names[0].socket("https")], [names[1].alias(), names[1].socket("https")]);
        assert_eq!(written(&before)[1..], written(&after)[1..]);
        assert!(names[0].is_service(&names[1].service()));
        for other in
            [names[0].alias(), names[0].socket("https"), "sovereign-shop.edge.office.0123456789ab.service".into()]
        {
            assert!(!names[0].is_service(&other), "{other}");
        }
    }

    /// What the machine's own systemd has to say. It knows every setting that is written, and finds nothing wrong.
    #[test]
    fn systemd_understands_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let stack = "shop".parse().unwrap();
        let mut all = Vec::new();
        for (unit, account) in [(edge(), account()), name_server()] {
            let written = files(&stack, &unit, account);
            all.push(UnitFile { name: Names::of(&stack, &unit).alias(), text: written[0].text.clone() });
            all.extend(written);
        }
        let written = all;
        for file in &written {
            std::fs::write(folder.path().join(&file.name), &file.text).unwrap();
        }
        let names: Vec<_> = written.iter().map(|file| folder.path().join(&file.name)).collect();
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&names).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        let ours: Vec<_> = said.lines().filter(|line| line.contains("sovereign-")).collect();
        assert!(ours.is_empty(), "{said}");
    }
}
