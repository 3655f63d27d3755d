//! The layout of a stack's state folder: which file lies where, said once.
//!
//! Paths only: nothing is created or read. The folders of applications, data and keys are 0700, files with secrets 0600;
//! whoever writes them sees to it.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::edge_name::EdgeName;
use crate::name::{DatacenterName, DnsName, HostName, ProviderName, SecondaryName, SiteName, UnitName};

/// The folder of a stack's state, as an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// The state folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Format version and epochs.
    pub fn state_file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// How often each site has got another primary while its old one did not answer.
    pub fn primaries(&self) -> PathBuf {
        self.0.join("primaries.json")
    }

    /// What operators decided of data centers beside the stack file.
    pub fn datacenters(&self) -> PathBuf {
        self.0.join("datacenters.json")
    }

    /// How far zones are whose keys are exchanged.
    pub fn zone_keys(&self) -> PathBuf {
        self.0.join("zone-keys.json")
    }

    /// What the stack's domains published before they were taken over.
    pub fn adopted(&self) -> PathBuf {
        self.0.join("adopted.json")
    }

    /// The lock: one `sovereign` works on a stack at a time.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Steps begun and finished.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// The root seed.
    pub fn seed(&self) -> PathBuf {
        self.0.join("seed")
    }

    /// That somebody brought the words of the root seed from where they are kept.
    pub fn words_seen(&self) -> PathBuf {
        self.seed().join("words-seen.json")
    }

    /// Working keys, so that daily runs ask for nothing.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// The private key that opens hosts, in the form that SSH reads.
    pub fn hosts_identity(&self) -> PathBuf {
        self.keys().join("hosts.ssh")
    }

    /// The public key that the words alone lead to, which hosts let in too.
    pub fn hosts_recovery(&self) -> PathBuf {
        self.hosts().join("recovery.json")
    }

    /// What is known of hosts that are reached over SSH.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// Which hosts there are, and their pinned keys.
    pub fn hosts_record(&self) -> PathBuf {
        self.hosts().join("hosts.json")
    }

    /// What belongs to one host.
    pub fn host(&self, datacenter: &DatacenterName, host: &HostName) -> PathBuf {
        self.hosts().join(datacenter.as_str()).join(host.as_str())
    }

    /// Which configurations this machine wrote to a host.
    pub fn written(&self, datacenter: &DatacenterName, host: &HostName) -> PathBuf {
        self.host(datacenter, host).join("written.json")
    }

    /// What is in files of static sites, as far as they were read already.
    pub fn files_read(&self) -> PathBuf {
        self.0.join("files-read.json")
    }

    /// The internal certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// The certificate of the internal authority, PEM: what readers and applications trust. No secret.
    pub fn ca_certificate(&self) -> PathBuf {
        self.ca().join("ca.pem")
    }

    /// Certificates of public authorities, their keys and accounts, and what was tried for them.
    pub fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// What providers of DNS gave the stack to prove itself with.
    pub fn providers(&self) -> PathBuf {
        self.0.join("providers")
    }

    /// What one of them gave.
    pub fn provider_secret(&self, provider: &ProviderName) -> PathBuf {
        self.providers().join(format!("{provider}.secret"))
    }

    /// Copies of the program, each in a folder named by its digest.
    pub fn programs(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// Everything of the backup archive: the repository, unless it lies elsewhere, and what is known of it.
    pub fn archive(&self) -> PathBuf {
        self.0.join("archive")
    }

    /// Where the archive of a stack that was here before is kept, whose root seed was another one.
    pub fn archive_of_before(&self, unix: u64) -> PathBuf {
        self.0.join(format!("archive-before-{unix}"))
    }

    /// Whether `path` is the archive's folder or that of an archive of before.
    pub fn is_archive(&self, path: &Path) -> bool {
        let before = |name: &str| name.starts_with("archive-before-");
        let is_before = path.file_name().and_then(|name| name.to_str()).is_some_and(before);
        path == self.archive() || (is_before && path.parent() == Some(self.path()))
    }

    /// Sockets and memory of the supervisor.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The log folder of a unit.
    pub fn logs(&self, unit: &UnitName) -> PathBuf {
        self.0.join("logs").join(unit.as_str())
    }

    /// All that belongs to a data center.
    pub fn datacenter(&self, datacenter: &DatacenterName) -> PathBuf {
        self.0.join("dc").join(datacenter.as_str())
    }

    /// The copy of the archive at a data center.
    pub fn archive_copy(&self, datacenter: &DatacenterName) -> PathBuf {
        self.datacenter(datacenter).join("archive")
    }

    /// All that belongs to the edge of a data center.
    pub fn edge(&self, datacenter: &DatacenterName) -> EdgeFolder {
        EdgeFolder(self.datacenter(datacenter).join("edge"))
    }

    /// All that belongs to the agent at a data center.
    pub fn agent(&self, datacenter: &DatacenterName) -> AgentFolder {
        AgentFolder(self.datacenter(datacenter).join("agent"))
    }

    /// All that belongs to the name server at a data center.
    pub fn name_server(&self, datacenter: &DatacenterName) -> NameServerFolder {
        NameServerFolder(self.datacenter(datacenter).join("name-server"))
    }

    /// All that belongs to the renewer at a data center.
    pub fn renewer(&self, datacenter: &DatacenterName) -> RenewerFolder {
        RenewerFolder(self.datacenter(datacenter).join("renewer"))
    }

    /// The certificate of an edge as this machine keeps it, and its key: what was issued for a host is kept here too.
    pub fn certificate(&self, edge: &EdgeName) -> (PathBuf, PathBuf) {
        let here = self.edge(&edge.datacenter);
        match &edge.host {
            None => (here.chain(), here.key()),
            Some(host) => {
                let there = EdgeFolder(self.host(&edge.datacenter, host));
                (there.chain(), there.key())
            }
        }
    }

    /// What the engine remembers of a site that was set up; where the application does not write.
    pub fn set_up(&self, at: &EdgeName, site: &SiteName) -> PathBuf {
        let folder = match &at.host {
            None => self.datacenter(&at.datacenter),
            Some(host) => self.host(&at.datacenter, host),
        };
        folder.join("set-up").join(format!("{site}.json"))
    }

    /// The same of a site whose data was taken along to another place: what lies there still is not in use.
    pub fn moved_away(&self, at: &EdgeName, site: &SiteName) -> PathBuf {
        self.set_up(at, site).with_extension("moved.json")
    }

    /// What takes a site's place at a data center, and what had it before.
    pub fn restore(&self, datacenter: &DatacenterName, site: &SiteName) -> RestoreFolder {
        RestoreFolder(self.datacenter(datacenter).join("restore").join(site.as_str()))
    }

    /// All that belongs to a site at a data center.
    pub fn site(&self, datacenter: &DatacenterName, site: &SiteName) -> SiteFolder {
        SiteFolder(self.datacenter(datacenter).join("sites").join(site.as_str()))
    }
}

/// Where things of a stack lie on a host of its own. The state folder there has the same form as the one here.
pub mod on_host {
    use super::{PathBuf, StateFolder};
    use crate::digest::Digest;
    use crate::name::StackName;

    /// Where programs lie, each in a folder named by its digest.
    pub const PROGRAMS: &str = "/opt/sovereign";

    /// Where state lies, a folder for each stack.
    pub const STATE: &str = "/var/lib/sovereign";

    /// Where leases lie, a folder for each stack: they do not outlive the clock that they are measured by, which begins
    /// anew with each start of the host.
    pub const LEASES: &str = "/run/sovereign/lease";

    /// The user that edges run as.
    pub const USER: &str = "sovereign";

    /// The user that agents run as: one reads no key of an edge's, nor a page that it keeps.
    pub const AGENT_USER: &str = "sovereign-agent";

    /// The user that name servers run as: nobody else reads the keys that sign zones.
    pub const NAME_SERVER_USER: &str = "sovereign-names";

    /// The user that renewers run as: one reads no key but of orders that are open, and of edges and name servers it reaches
    /// the sockets that are made for it.
    pub const RENEWER_USER: &str = "sovereign-renewer";

    /// The program with this digest.
    pub fn program(digest: &Digest) -> PathBuf {
        [PROGRAMS, &digest.hex(), "sovereign"].iter().collect()
    }

    /// The folder with the lease of whoever works on the host.
    pub fn lease(stack: &StackName) -> PathBuf {
        PathBuf::from(LEASES).join(stack.as_str())
    }

    /// The state folder of a stack.
    pub fn state(stack: &StackName) -> StateFolder {
        StateFolder::new(PathBuf::from(STATE).join(stack.as_str()))
    }
}

/// What the file with the certificate of a public authority for `name` is called: key and chain in one, so that the two
/// never change apart.
pub fn public_file(name: &DnsName) -> String {
    format!("{name}.pem")
}

/// The folder with certificates that other edges have passed on, each in a file of that kind: the edge's own, and so within
/// its store.
pub fn passed_on(store: &Path) -> PathBuf {
    store.join("certificates")
}

/// The folder of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeFolder(PathBuf);

impl EdgeFolder {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The signed configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// The certificate chain.
    pub fn chain(&self) -> PathBuf {
        self.0.join("chain.pem")
    }

    /// The certificate's key.
    pub fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    /// The certificates of public authorities, each with its key in one file ([`public_file`]).
    pub fn public_certificates(&self) -> PathBuf {
        self.0.join("public")
    }

    /// The identity on links whose public key is `public`, in hex. Another key has another name, so that a rotated key
    /// changes the configuration that names it.
    pub fn link_key(&self, public: &str) -> PathBuf {
        self.0.join(format!("link-{}.pem", public.get(..16).unwrap_or(public)))
    }

    /// The key of a site's publish notices, hex; only at the site's primary. Another key has another name, so that a
    /// rotated key changes the configuration that names it.
    pub fn webhook_key(&self, site: &SiteName, epoch: u32) -> PathBuf {
        self.0.join(format!("webhook-{site}-{epoch}.key"))
    }

    /// The files of a site that came here from the management machine, each set of them in a folder named by the digest
    /// of its list.
    pub fn files(&self, site: &SiteName) -> PathBuf {
        self.0.join("files").join(site.as_str())
    }

    /// The kept pages.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// What is written down of requests.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The access log.
    pub fn access_log(&self) -> PathBuf {
        self.log().join("access.jsonl")
    }

    /// Sockets.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// The folder of the socket that the renewer beside it asks: its group may enter.
    pub fn renewal(&self) -> PathBuf {
        self.0.join("renewal")
    }

    /// That socket.
    pub fn renewal_control(&self) -> PathBuf {
        self.renewal().join("control.sock")
    }
}

/// The folder of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFolder(PathBuf);

impl AgentFolder {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The signed configuration with this digest. Another one has another name, so that the unit before, which names its
    /// own, can be gone back to.
    pub fn config(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("config-{}.json", digest.short()))
    }

    /// What the stack proves itself with at a provider, named by its digest for the same reason.
    pub fn provider_secret(&self, provider: &ProviderName, digest: &Digest) -> PathBuf {
        self.0.join(format!("provider-{provider}-{}.secret", digest.short()))
    }

    /// Sockets.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.run().join("control.sock")
    }
}

/// The folder of a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServerFolder(PathBuf);

impl NameServerFolder {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The signed configuration with this digest. Another one has another name, so that the unit before, which names its
    /// own, can be gone back to.
    pub fn config(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("config-{}.json", digest.short()))
    }

    /// The private key that a domain is signed with: PKCS#8, PEM. Another key has another tag, and so another name: the
    /// unit before finds its own.
    pub fn key(&self, domain: &DnsName, tag: u16) -> PathBuf {
        self.0.join(format!("key-{domain}-{tag}.pem"))
    }

    /// The key that a secondary's transfers are proven with, as a part of Knot's configuration: named by what is in it, for
    /// the same reason.
    pub fn transfer_key(&self, secondary: &SecondaryName, digest: &Digest) -> PathBuf {
        self.0.join(format!("transfer-{secondary}-{}.conf", digest.short()))
    }

    /// What is Knot's: each process of the name server has a folder in it, since two run beside each other while one
    /// replaces the other. Written by the unit alone.
    pub fn knot(&self) -> PathBuf {
        self.0.join("knot")
    }

    /// Sockets.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// The folder of the socket that the renewer beside it asks: its group may enter.
    pub fn renewal(&self) -> PathBuf {
        self.0.join("renewal")
    }

    /// That socket.
    pub fn renewal_control(&self) -> PathBuf {
        self.renewal().join("control.sock")
    }
}

/// The folder of a renewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewerFolder(PathBuf);

impl RenewerFolder {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The signed configuration with this digest. Another one has another name, so that the unit before, which names its
    /// own, can be gone back to.
    pub fn config(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("config-{}.json", digest.short()))
    }

    /// The key whose public part is `public`, in hex, that it signs with what it says: PKCS#8, PEM. Another key has another
    /// name, for the same reason.
    pub fn key(&self, public: &str) -> PathBuf {
        self.0.join(format!("key-{}.pem", public.get(..16).unwrap_or(public)))
    }

    /// Accounts, and what is known of certificates. Written by the unit alone.
    pub fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// Sockets.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.run().join("control.sock")
    }
}

/// The folder of a site at a data center.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFolder(PathBuf);

impl SiteFolder {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Sockets.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The folder with the dump of a `ghost` site's database.
    pub fn ghost_dump(&self) -> PathBuf {
        self.0.join("dump")
    }

    /// The socket that a `ghost` site listens on.
    pub fn ghost_socket(&self) -> PathBuf {
        self.run().join("ghost.sock")
    }
}

/// The folder beside a site's, on the same file system, that restored data comes from and replaced data goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreFolder(PathBuf);

impl RestoreFolder {
    /// How the names of folders with replaced data begin.
    const BEFORE: &str = "before-";

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// That the site is on its way here, and is not here yet.
    pub fn arriving(&self) -> PathBuf {
        self.0.join("arriving")
    }

    /// What is being done, while it is: read by a run that comes after one that was killed.
    pub fn intent(&self) -> PathBuf {
        self.0.join("intent.json")
    }

    /// What is to take the site's place.
    pub fn staged(&self) -> PathBuf {
        self.0.join("staged")
    }

    /// What the restore with this number replaced.
    pub fn before(&self, number: u32) -> PathBuf {
        self.0.join(format!("{}{number}", Self::BEFORE))
    }

    /// The number in the name of such a folder.
    pub fn number(name: &str) -> Option<u32> {
        let digits = name.strip_prefix(Self::BEFORE)?;
        let number: u32 = digits.parse().ok()?;
        (number.to_string() == digits && number > 0).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_was_written_and_in_no_other_way() {
        let restore = StateFolder::new("/s").restore(&"home".parse().unwrap(), &"blog".parse().unwrap());
        let name = restore.before(12).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!((name.as_str(), RestoreFolder::number(&name)), ("before-12", Some(12)));
        for other in ["before-", "before-0", "before-01", "before-+1", "before-1a", "before", "staged", "intent.json"] {
            assert_eq!(RestoreFolder::number(other), None, "{other}");
        }
    }
}
