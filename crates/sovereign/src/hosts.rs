//! The hosts of a stack: which of them can be reached, and what runs on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;

use sovereign_engine::incus::instances::Contents;
use sovereign_engine::incus::{IncusEngineError, Reach, RootFiles};
use sovereign_hosts::ready::Openings;
use sovereign_hosts::record::{HostId, Known, Record, RecordError};
use sovereign_hosts::{Keys, Login};
use sovereign_images::Store;
use sovereign_keys::WorkingKeys;
use sovereign_model::archive_copy::SftpPlace;
use sovereign_model::instance::bridge;
use sovereign_model::layout::on_host;
use sovereign_model::observed::ImageSeen;
use sovereign_model::stack::{App, Site};
use sovereign_model::unit::Runs;
use sovereign_model::{DatacenterName, Digest, EdgeName, FileSet, ImageName, SiteName, Stack, StateFolder, UnitName};
use sovereign_plan::AppUnit;
use sovereign_services::ghost::{self, Placed};
use sovereign_services::secret::Secret;
use sovereign_services::static_site;
use tracing::debug;

use crate::declared::Declared;
use crate::failure::{Failure, Reason};
use crate::root_images::Wanted;
use crate::secrets;
use crate::world::ghost_image;

/// The way to each declared host that was made ready. Nothing is opened.
///
/// # Errors
/// When the record of hosts cannot be read, or a folder cannot be made.
pub(crate) fn reach(declared: &Declared) -> Result<Reach, Failure> {
    let record = Record::read(&declared.state.hosts_record())?;
    let mut logins = Vec::new();
    for edge in declared.stack.edges_on_hosts() {
        let Some(host) = edge.host.clone() else { continue };
        let id = HostId { datacenter: edge.datacenter.clone(), host };
        let Some(known) = record.hosts.get(&id) else { continue };
        logins.push((edge, login(&declared.state, &id, known)?));
    }
    Ok(to(declared, &record, logins))
}

/// What may come in on each host that was made ready, where that was written down.
///
/// # Errors
/// When the record of hosts cannot be read.
pub(crate) fn openings(declared: &Declared) -> Result<BTreeMap<EdgeName, Openings>, Failure> {
    let record = Record::read(&declared.state.hosts_record())?;
    let of = |(id, known): (&HostId, &Known)| {
        let openings = Openings { before: known.open_before.clone()?, peers: record.peers(id) };
        Some((EdgeName::on(&id.datacenter, &id.host), openings))
    };
    Ok(record.hosts.iter().filter_map(of).collect())
}

/// The ways to all hosts that are known, declared or not, and one that is not known yet.
///
/// # Errors
/// As [`reach`].
pub(crate) fn reach_known(declared: &Declared, newcomer: Option<(&HostId, Login)>) -> Result<Reach, Failure> {
    let edge = |id: &HostId| EdgeName::on(&id.datacenter, &id.host);
    let record = Record::read(&declared.state.hosts_record())?;
    let mut logins = Vec::new();
    for (id, known) in &record.hosts {
        logins.push((edge(id), login(&declared.state, id, known)?));
    }
    logins.extend(newcomer.map(|(id, login)| (edge(id), login)));
    Ok(to(declared, &record, logins))
}

/// How to log in to a host with the stack's own key.
///
/// # Errors
/// When a folder cannot be made.
pub(crate) fn login(state: &StateFolder, id: &HostId, known: &Known) -> Result<Login, Failure> {
    let folder = state.host(&id.datacenter, &id.host);
    secrets::private_folder(&folder)?;
    Ok(Login {
        address: known.address.clone(),
        host_key: known.host_key.clone(),
        keys: Keys { files: vec![state.hosts_identity()], agent: None },
        known_hosts: folder.join("known_hosts"),
    })
}

fn to(Declared { stack, places, .. }: &Declared, record: &Record, logins: Vec<(EdgeName, Login)>) -> Reach {
    let evacuated = record
        .hosts
        .iter()
        .filter_map(|(id, known)| Some((EdgeName::on(&id.datacenter, &id.host), known.evacuated.clone()?)));
    Reach::new(logins, places.sockets(), on_host::state(&stack.name)).with_evacuated(evacuated.collect())
}

/// Forgets what is noted here of hosts that somebody else has brought back since: of those `looked` at, which are not
/// `evacuated` any more. A host that is silent is, as long as it is noted. The caller holds the stack's lock.
///
/// # Errors
/// When the record of hosts cannot be read or written.
pub(crate) fn forget_ended<'e>(
    state: &StateFolder,
    looked: impl Iterator<Item = &'e EdgeName>,
    evacuated: &BTreeMap<EdgeName, String>,
) -> Result<(), RecordError> {
    let back: BTreeSet<_> = looked.filter(|edge| !evacuated.contains_key(edge)).collect();
    let is_over = |(id, known): (&HostId, &Known)| {
        known.evacuated.is_some() && back.contains(&EdgeName::on(&id.datacenter, &id.host))
    };
    let path = state.hosts_record();
    if !Record::read(&path)?.hosts.iter().any(is_over) {
        return Ok(());
    }
    Record::change(&path, |record| {
        let over: Vec<_> = record.hosts.iter().filter(|known| is_over(*known)).map(|(id, _)| id.clone()).collect();
        for id in over {
            if let Some(known) = record.hosts.get_mut(&id) {
                known.evacuated = None;
            }
        }
    })
}

/// It is not known how to get to the host of a copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoArchivePlace {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0} was not made ready: `sovereign host add`")]
    NotReady(EdgeName),
    #[error("{0} cannot be the place of a copy")]
    Address(String),
}

/// Where the copy of the archive is that a data center with hosts has: on the first of them. `None` for one on this
/// machine.
pub(crate) fn archive_place(
    declared: &Declared,
    datacenter: &DatacenterName,
) -> Result<Option<SftpPlace>, NoArchivePlace> {
    let Declared { stack, state, .. } = declared;
    let Some(edge) = stack.edges_on_hosts().find(|edge| edge.datacenter == *datacenter) else { return Ok(None) };
    let Some(host) = edge.host.clone() else { return Ok(None) };
    let id = HostId { datacenter: edge.datacenter.clone(), host };
    let record = Record::read(&state.hosts_record())?;
    let known = record.hosts.get(&id).ok_or(NoArchivePlace::NotReady(edge))?;
    let folder = on_host::state(&stack.name).archive_copy(datacenter);
    let address = format!("{}{}", known.address, folder.display());
    let parsed = address.parse().map_err(|_| NoArchivePlace::Address(address));
    Ok(Some(SftpPlace { address: parsed?, key: state.hosts_identity(), host_key: known.host_key.clone() }))
}

/// The declared hosts that nobody has made ready.
pub(crate) fn not_ready(stack: &Stack, reach: &Reach) -> Vec<IncusEngineError> {
    let known: BTreeSet<&EdgeName> = reach.edges().collect();
    stack.edges_on_hosts().filter(|edge| !known.contains(edge)).map(|host| IncusEngineError::NoHost { host }).collect()
}

/// What is done to the data of a site on this machine, and of one on a host not.
#[derive(Debug, thiserror::Error)]
#[error("site {site} is on host {host}: its data cannot be {done} from here yet")]
pub(crate) struct DataOnHost {
    site: SiteName,
    host: EdgeName,
    done: &'static str,
    admin: String,
}

impl Reason for DataOnHost {
    fn help(&self) -> Option<String> {
        let Self { admin, .. } = self;
        Some(format!("Ghost exports what is written, and imports it: Settings, Import/Export at {admin}"))
    }
}

/// That a site's data is on this machine, where it can be `done` something with.
///
/// # Errors
/// When it is on a host.
pub(crate) fn data_is_here(stack: &Stack, site: &Site, done: &'static str) -> Result<(), DataOnHost> {
    let host = site.place(stack);
    if host.host.is_none() || site.app != App::Ghost {
        return Ok(());
    }
    Err(DataOnHost { site: site.name.clone(), host, done, admin: format!("{}/ghost/", site.canonical) })
}

/// The control socket of an edge, brought here when it is on a host.
///
/// # Errors
/// When the host is not reached.
pub(crate) async fn control(state: &StateFolder, reach: &Reach, edge: &EdgeName) -> Result<PathBuf, IncusEngineError> {
    if edge.host.is_none() {
        return Ok(state.edge(&edge.datacenter).control());
    }
    Ok(reach.link(edge).await?.control.clone())
}

/// The applications that run on hosts, and what they are made of.
#[derive(Debug, Default)]
pub(crate) struct OnHosts {
    /// Their descriptions.
    pub(crate) units: BTreeMap<UnitName, AppUnit>,
    /// What is in their files.
    pub(crate) contents: BTreeMap<UnitName, Contents>,
    /// What data of a site is brought beside the live one with.
    pub(crate) beside: BTreeMap<SiteName, ghost::Beside>,
    /// The images there are, by the digest that Incus knows each by.
    pub(crate) images: BTreeMap<Digest, RootFiles>,
    /// What decides what is in each image.
    pub(crate) locks: BTreeMap<ImageName, Digest>,
    /// The images as a look at the store sees them.
    pub(crate) seen: BTreeMap<ImageName, ImageSeen>,
    /// The files of static sites; none where one cannot be read.
    pub(crate) files: BTreeMap<SiteName, FileSet>,
}

impl OnHosts {
    /// Describes them.
    ///
    /// # Errors
    /// When a key was not made ready, or a lock or the image store cannot be read.
    pub(crate) fn gather(
        declared: &Declared,
        keys: &WorkingKeys,
        store: &Store,
        state: &StateFolder,
    ) -> Result<Self, Failure> {
        let stack = &declared.stack;
        // Who is about to send them says why they cannot be read.
        let files = static_files(stack, state).map(|(site, files)| (site, files.unwrap_or_default())).collect();
        let mut all = Self { files, ..Self::default() };
        let placed = stack.sites.values().filter(|site| site.app == App::Ghost);
        let placed: Vec<_> = placed.filter_map(|site| Some((site, site.host(stack)?))).collect();
        if placed.is_empty() {
            return Ok(all);
        }
        let ghost_lock = declared.ghost_lock()?;
        let mut images = Vec::new();
        for wanted in Wanted::on_hosts(&declared.file, &ghost_lock, store)? {
            all.locks.insert(wanted.name.clone(), wanted.lock);
            all.seen.extend(wanted.seen().map(|seen| (wanted.name.clone(), seen)));
            all.images.extend(wanted.built.clone());
            images.push(ghost::Image { name: wanted.name.clone(), fingerprint: wanted.fingerprint() });
        }
        let [site_image, database_image] = &images[..] else { unreachable!("there are two roles") };
        let ghost_version = sovereign_images::ghost::version(&ghost_lock);
        let authority = keys.ca()?.pem();
        for (site, host) in placed {
            let password = keys.database_password(&site.name)?;
            let password = Secret::new(password.expose());
            let placed = Placed {
                site,
                datacenter: &site.primary,
                host: &host.name,
                site_image,
                database_image,
                ghost_version,
                ca_certificate: &authority,
                database_password: &password,
                edge: SocketAddrV4::new(bridge::HOST, site.edge_port),
            };
            all.beside.insert(site.name.clone(), ghost::beside(&placed)?);
            let described = ghost::instances(&placed)?;
            let of_ghost = BTreeSet::from([site_image.name.clone(), ghost_image()]);
            let of_database = BTreeSet::from([database_image.name.clone()]);
            for (described, images) in [(described.ghost, of_ghost), (described.database, of_database)] {
                let name = described.spec.name.clone();
                let data_version = described.spec.data_version.clone();
                let unit =
                    AppUnit { site: site.name.clone(), runs: Runs::Instance(described.spec), images, data_version };
                all.units.insert(name.clone(), unit);
                all.contents.insert(name, described.contents);
            }
        }
        all.locks.insert(ghost_image(), ghost_lock.digest());
        Ok(all)
    }
}

/// The files of each static site that is on a host, or why they cannot be read.
pub(crate) fn static_files(
    stack: &Stack,
    state: &StateFolder,
) -> impl Iterator<Item = (SiteName, Result<FileSet, static_site::Problem>)> {
    let mut memory = static_site::Memory::open(&state.files_read());
    let on_hosts = stack.sites.values().filter(|site| site.host(stack).is_some());
    let read = on_hosts.filter_map(|site| match &site.app {
        App::Static { folder } => Some((site.name.clone(), static_site::files(folder, &mut memory))),
        App::Ghost | App::Upstream { .. } => None,
    });
    let read: Vec<_> = read.collect();
    if let Err(error) = memory.keep(&state.files_read()) {
        debug!(%error, "what was read of static sites is read again the next time");
    }
    read.into_iter()
}

/// The state folder that a data center's edges have.
pub(crate) fn state_of(stack: &Stack, here: &StateFolder, edge: &EdgeName) -> StateFolder {
    match edge.host {
        None => here.clone(),
        Some(_) => on_host::state(&stack.name),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sovereign_hosts::evacuation::Evacuation;
    use sovereign_model::file;

    use super::*;

    #[test]
    fn what_a_host_says_itself_ends_what_is_noted_here() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().to_owned());
        std::fs::create_dir_all(state.hosts_record().parent().unwrap()).unwrap();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0r1nq9FvKpkrV8c0M2xwJY1mB3mYd0q1q0y2z3q4r5";
        let known = |evacuated| Known {
            address: "root@192.0.2.8".parse().unwrap(),
            host_key: key.parse().unwrap(),
            network_address: None,
            disk: None,
            under_way: None,
            ready_unix: None,
            open_before: None,
            evacuated,
        };
        let ids: [HostId; 3] = ["home/atlas", "home/borea", "home/ceres"].map(|id| id.parse().unwrap());
        let note = || Some(Evacuation::by_hand());
        Record::change(&state.hosts_record(), |record| {
            record.hosts = ids.iter().map(|id| (id.clone(), known(note()))).collect();
        })
        .unwrap();
        // Atlas answers and has no note; borea has one, or is silent; nobody looked at ceres.
        let [atlas, borea, _] =
            ["home/atlas", "home/borea", "home/ceres"].map(|edge| edge.parse::<EdgeName>().unwrap());
        let evacuated = [(borea.clone(), "by ann".to_owned())].into();
        for _ in 0..2 {
            forget_ended(&state, [&atlas, &borea].into_iter(), &evacuated).unwrap();
            let noted = Record::read(&state.hosts_record()).unwrap().hosts.into_values();
            assert_eq!(noted.map(|known| known.evacuated.is_some()).collect::<Vec<_>>(), [false, true, true]);
        }
    }

    #[test]
    fn data_is_on_a_host_where_its_data_center_has_hosts() {
        let text = "version = 1\n[stack]\nname = \"demo\"\n[[datacenter]]\nname = \"home\"\nengine = \"incus\"\n\
                    [[datacenter.uplink]]\nname = \"isp\"\naddress = \"203.0.113.7\"\nport = 443\nhttp = 80\n\
                    [[datacenter.host]]\nname = \"atlas\"\naddress = \"192.0.2.8\"\n\
                    [[site]]\nname = \"blog\"\napp = \"ghost\"\ncanonical = \"blog.example\"\nprimary = \"home\"\n";
        let stack = file::parse("stack.toml", text, Path::new("/")).unwrap();
        let refused = data_is_here(&stack, &stack.sites[&"blog".parse().unwrap()], "restored").unwrap_err();
        assert_eq!(refused.to_string(), "site blog is on host home/atlas: its data cannot be restored from here yet");
        assert!(refused.help().unwrap().ends_with("https://blog.example/ghost/"));
        let stack = crate::assess::tests::stack();
        assert!(stack.sites.values().all(|site| data_is_here(&stack, site, "restored").is_ok()));
    }
}
