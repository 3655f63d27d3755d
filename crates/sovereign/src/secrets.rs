//! The stack's secrets as commands use them: the root seed is opened only when working keys are missing.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sovereign_engine::state::Lock;
use sovereign_hosts::ready::Authorized;
use sovereign_keys::{
    Epochs, Fingerprint, Owner, Passphrase, Purpose, RootSeed, SeedError, SeedFile, SshKey, TransferKey, WorkingKeys,
};
use sovereign_model::layout::StateFolder;
use sovereign_model::secondary::Secondary;
use sovereign_model::stack::{App, Datacenter, Domain};
use sovereign_model::{Stack, StackName};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::environment::names;
use crate::failure::{Failure, Reason};
use crate::world::unix_seconds;
use crate::zone_keys;

/// Every secret that the declared stack uses.
pub(crate) fn purposes(stack: &Stack) -> Vec<Purpose> {
    let sites = stack.sites.values().filter(|site| site.app == App::Ghost).map(|site| &site.name);
    let of_sites = sites.flat_map(|site| [Purpose::OwnerPassword(site.clone()), Purpose::Webhook(site.clone())]);
    let links = stack.datacenters.values().flat_map(Datacenter::edges).map(Purpose::Link);
    let on_hosts = stack.sites.values().filter(|site| site.app == App::Ghost && site.host(stack).is_some());
    let databases = on_hosts.map(|site| Purpose::Database(site.name.clone()));
    let zones = zones(stack).map(|domain| Purpose::Zone(domain.name.clone()));
    let transfers = transfers(stack).map(|secondary| Purpose::Transfer(secondary.name.clone()));
    let renewers = stack.renewers().map(Purpose::Renewer);
    let of_stack = [Purpose::Ca, Purpose::ConfigSigning, Purpose::Archive].into_iter();
    of_stack.chain(links).chain(of_sites).chain(databases).chain(zones).chain(transfers).chain(renewers).collect()
}

/// The domains whose zones name servers of the stack sign.
pub(crate) fn zones(stack: &Stack) -> impl Iterator<Item = &Domain> {
    let is_answered = stack.name_servers().next().is_some();
    own_domains(stack).filter(move |_| is_answered)
}

/// The domains that no provider answers for: the stack has their keys, whether name servers run already or not.
pub(crate) fn own_domains(stack: &Stack) -> impl Iterator<Item = &Domain> {
    stack.domains.values().filter(|domain| domain.provider.is_none())
}

/// The secondaries that get zones from name servers of the stack.
pub(crate) fn transfers(stack: &Stack) -> impl Iterator<Item = &Secondary> {
    let is_answered = stack.name_servers().next().is_some();
    stack.secondaries.iter().filter(move |_| is_answered)
}

/// Where the stack's root seed lies.
pub(crate) fn seed_file(stack: &Stack, state: &StateFolder) -> SeedFile {
    SeedFile::at(&state.seed(), stack.name.clone())
}

/// The format of the file that says so.
const WORDS_SEEN_VERSION: u32 = 1;

/// When somebody brought the words of a root seed from where they are kept.
#[derive(Debug, Serialize, Deserialize)]
struct WordsSeen {
    version: u32,
    /// Which seed's.
    fingerprint: String,
    unix: u64,
}

/// Writes down that somebody brought the words of this stack's root seed.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn note_words_seen(state: &StateFolder, fingerprint: &Fingerprint) -> Result<(), WordsNotNoted> {
    let unix = unix_seconds(SystemTime::now());
    let seen = WordsSeen { version: WORDS_SEEN_VERSION, fingerprint: fingerprint.to_string(), unix };
    let path = state.words_seen();
    let failed = |source| WordsNotNoted { path: path.clone(), source };
    let text = serde_json::to_vec_pretty(&seen).map_err(|error| failed(io::Error::other(error)))?;
    sovereign_runtime::file::replace(&path, &text, 0o600).map_err(|error| failed(error.source))
}

/// Whether somebody did; `None` when there is no root seed yet.
pub(crate) fn words_seen(stack: &Stack, state: &StateFolder) -> Option<bool> {
    let stored = seed_file(stack, state).open().ok()?;
    let text = fs::read(state.words_seen()).unwrap_or_default();
    let seen = serde_json::from_slice::<WordsSeen>(&text).ok();
    let is_it =
        |seen: WordsSeen| seen.version == WORDS_SEEN_VERSION && seen.fingerprint == stored.fingerprint().to_string();
    Some(seen.is_some_and(is_it))
}

/// It could not be written down.
#[derive(Debug, thiserror::Error)]
#[error("the words are right, but that cannot be written to {path}", path = .path.display())]
pub(crate) struct WordsNotNoted {
    path: PathBuf,
    source: io::Error,
}

impl Reason for WordsNotNoted {}

/// Where the epochs of rotated secrets are kept.
pub(crate) fn epochs_file(state: &StateFolder) -> PathBuf {
    state.keys().join("epochs.json")
}

/// The working keys of a stack whose root seed exists, and where it has hosts, the key that opens them: a machine that came
/// back from the archive has none of them yet.
///
/// # Errors
/// When there is no seed, or it must be opened and cannot.
pub(crate) fn open(context: &Context, stack: &Stack, state: &StateFolder) -> Result<WorkingKeys, Failure> {
    let stored = seed_file(stack, state).open()?;
    if stack.edges_on_hosts().next().is_some() && !state.hosts_identity().exists() {
        hosts(context, stack, state)?;
    }
    ready(stack, state, stored.fingerprint().clone(), || stored.unlock(|| passphrase(context, None)))
}

/// The same, making the root seed when there is none. Says whether it was made.
///
/// # Errors
/// As [`open`], or when the new seed cannot be kept.
pub(crate) fn open_or_create(
    context: &Context,
    stack: &Stack,
    state: &StateFolder,
) -> Result<(WorkingKeys, bool), Failure> {
    let file = seed_file(stack, state);
    match file.open() {
        Err(SeedError::Missing { .. }) => {
            let seed = file.create(new_passphrase(context, None)?.as_ref())?;
            let fingerprint = seed.fingerprint(&stack.name);
            Ok((ready(stack, state, fingerprint, || Ok(seed))?, true))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok((open(context, stack, state)?, false)),
    }
}

fn ready(
    stack: &Stack,
    state: &StateFolder,
    seed: Fingerprint,
    unlock: impl FnOnce() -> Result<RootSeed, SeedError>,
) -> Result<WorkingKeys, Failure> {
    let owner = Owner { stack: stack.name.clone(), seed };
    let (epochs, _) = zone_keys::read(state)?;
    Ok(WorkingKeys::ensure(&state.keys(), &owner, &purposes(stack), &epochs, unlock)?)
}

/// The keys that sign these domains' zones. Where no name server runs they are not among those that every run makes ready, so
/// that nobody is asked for the passphrase who does not need them.
///
/// # Errors
/// As [`open`].
pub(crate) fn zone_keys(
    context: &Context,
    stack: &Stack,
    state: &StateFolder,
    domains: &[&Domain],
) -> Result<WorkingKeys, Failure> {
    let purposes: Vec<Purpose> = domains.iter().map(|domain| Purpose::Zone(domain.name.clone())).collect();
    alone(context, stack, state, &purposes)
}

/// The key that a secondary gets zones with, likewise.
///
/// # Errors
/// As [`open`].
pub(crate) fn transfer_key(
    context: &Context,
    stack: &Stack,
    state: &StateFolder,
    secondary: &Secondary,
) -> Result<TransferKey, Failure> {
    let purposes = [Purpose::Transfer(secondary.name.clone())];
    Ok(alone(context, stack, state, &purposes)?.transfer_key(secondary)?)
}

/// Some working keys, without the others.
fn alone(context: &Context, stack: &Stack, state: &StateFolder, purposes: &[Purpose]) -> Result<WorkingKeys, Failure> {
    let stored = seed_file(stack, state).open()?;
    let owner = Owner { stack: stack.name.clone(), seed: stored.fingerprint().clone() };
    let (epochs, _) = zone_keys::read(state)?;
    let unlock = || stored.unlock(|| passphrase(context, None));
    Ok(WorkingKeys::ensure(&state.keys(), &owner, purposes, &epochs, unlock)?)
}

/// What opens the stack's hosts.
#[derive(Debug)]
pub(crate) struct HostKeys {
    /// The private key for daily work, as a file.
    pub(crate) identity: PathBuf,
    /// The public keys that hosts let in.
    pub(crate) authorized: Authorized,
    /// Whose keys they are.
    pub(crate) seed: Fingerprint,
}

/// The format of the file with the public key for recovery.
const RECOVERY_VERSION: u32 = 1;

/// The public key that hosts let in for whoever has the words only. The private one lies nowhere.
#[derive(Debug, Serialize, Deserialize)]
struct Recovery {
    version: u32,
    seed: String,
    public: String,
}

fn recovery_key(stack: &StackName, seed: &RootSeed) -> SshKey {
    let epoch = Epochs::default().of(&Purpose::HostsRecovery);
    let secret = seed.derive(stack, &Purpose::HostsRecovery, epoch);
    sovereign_keys::ssh_key(&secret, &format!("sovereign:{stack}:recovery"))
}

/// The keys of hosts, made ready when they are not. The root seed must exist.
///
/// # Errors
/// When the seed must be opened and cannot, or a file cannot be written.
pub(crate) fn hosts(context: &Context, stack: &Stack, state: &StateFolder) -> Result<HostKeys, Failure> {
    let stored = seed_file(stack, state).open()?;
    let fingerprint = stored.fingerprint().clone();
    let path = state.hosts_recovery();
    let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Recovery>(&text).ok());
    let known = known.filter(|known| known.version == RECOVERY_VERSION && known.seed == fingerprint.to_string());
    let purpose = [Purpose::Hosts];
    let owner = Owner { stack: stack.name.clone(), seed: fingerprint.clone() };
    let (epochs, _) = zone_keys::read(state)?;
    let unlock = || stored.unlock(|| passphrase(context, None));
    let (keys, recovery) = match known {
        Some(known) => (WorkingKeys::ensure(&state.keys(), &owner, &purpose, &epochs, unlock)?, known.public),
        None => {
            let seed = unlock()?;
            let public = recovery_key(&stack.name, &seed).public_line;
            let known = Recovery { version: RECOVERY_VERSION, seed: fingerprint.to_string(), public: public.clone() };
            keep(&path, &serde_json::to_vec_pretty(&known).unwrap_or_default())?;
            (WorkingKeys::ensure(&state.keys(), &owner, &purpose, &epochs, || Ok(seed))?, public)
        }
    };
    let management = keys.hosts_key()?;
    let identity = state.hosts_identity();
    keep(&identity, management.private_pem.expose().as_bytes())?;
    // For people: what a host must let in.
    keep(&identity.with_extension("ssh.pub"), format!("{}\n", management.public_line).as_bytes())?;
    let authorized = Authorized { management: management.public_line, recovery };
    Ok(HostKeys { identity, authorized, seed: fingerprint })
}

/// The private key that the words alone lead to, in a file that is there for as long as this lives.
pub(crate) struct RecoveryIdentity(PathBuf);

impl RecoveryIdentity {
    /// Opens the root seed, and writes the key.
    ///
    /// # Errors
    /// When the seed cannot be opened.
    pub(crate) fn open(context: &Context, stack: &Stack, state: &StateFolder) -> Result<Self, Failure> {
        let seed = seed_file(stack, state).open()?.unlock(|| passphrase(context, None))?;
        Self::of(&state.keys(), &stack.name, &seed)
    }

    /// Writes the key that these words lead to into a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn of(folder: &Path, stack: &StackName, seed: &RootSeed) -> Result<Self, Failure> {
        let file = Self(folder.join("hosts-recovery.ssh"));
        keep(&file.0, recovery_key(stack, seed).private_pem.expose().as_bytes())?;
        Ok(file)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RecoveryIdentity {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // written anew by the next one
    }
}

/// Writes a file for this user alone, unless it says that already.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn keep(path: &Path, content: &[u8]) -> Result<(), NotKept> {
    let failed = |source| NotKept { path: path.to_owned(), source };
    private_folder(path.parent().unwrap_or(path))?;
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    sovereign_runtime::file::replace(path, content, 0o600).map_err(|error| failed(error.source))
}

/// Makes a folder that only this user can enter, and those above it.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn private_folder(path: &Path) -> Result<(), NotKept> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| NotKept { path: path.to_owned(), source })
}

/// A key could not be written down.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}", path = .path.display())]
pub(crate) struct NotKept {
    path: PathBuf,
    source: io::Error,
}

impl Reason for NotKept {}

/// Keys for a plan that is only looked at: of a seed that nobody keeps.
pub(crate) fn imagined(stack: &Stack) -> WorkingKeys {
    WorkingKeys::imagined(&stack.name, &purposes(stack), &RootSeed::generate())
}

/// The passphrase could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassphraseError {
    /// The file that was named cannot be read.
    #[error("cannot read the passphrase file {path}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its first line is empty.
    #[error("the passphrase file {path} begins with an empty line", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Nobody typed one.
    #[error("no passphrase was given")]
    NotGiven,
    /// There was a question and nobody to ask.
    #[error("{0}")]
    Unasked(String),
    /// The two times it was typed differ.
    #[error("the two passphrases differ")]
    Differ,
}

impl Reason for PassphraseError {}

/// The passphrase of an existing seed file: from `named`, the environment's file, or the terminal.
pub(crate) fn passphrase(context: &Context, named: Option<&Path>) -> Result<Passphrase, PassphraseError> {
    if let Some(path) = passphrase_file(context, named) {
        return read_passphrase(&path);
    }
    let typed = context
        .output
        .ask_secret("Passphrase of the root seed: ", "name a file with SOVEREIGN_PASSPHRASE_FILE")
        .map_err(|failure| PassphraseError::Unasked(failure.chain().join(": ")))?;
    Passphrase::new(typed.to_string()).ok_or(PassphraseError::NotGiven)
}

/// The passphrase for a new seed file; `None` when the operator wants none. Asked for only where a person sits.
pub(crate) fn new_passphrase(context: &Context, named: Option<&Path>) -> Result<Option<Passphrase>, PassphraseError> {
    if let Some(path) = passphrase_file(context, named) {
        return read_passphrase(&path).map(Some);
    }
    if !context.output.can_ask() {
        return Ok(None);
    }
    let ask = |question: &str| {
        context
            .output
            .ask_secret(question, "name a file with SOVEREIGN_PASSPHRASE_FILE")
            .map_err(|failure| PassphraseError::Unasked(failure.chain().join(": ")))
    };
    let first = ask("Passphrase to encrypt the root seed with (empty for none): ")?;
    if first.is_empty() {
        return Ok(None);
    }
    if *first != *ask("The same again: ")? {
        return Err(PassphraseError::Differ);
    }
    Ok(Passphrase::new(first.to_string()))
}

fn passphrase_file(context: &Context, named: Option<&Path>) -> Option<PathBuf> {
    named.map(Path::to_owned).or_else(|| context.environment.path(names::PASSPHRASE_FILE))
}

fn read_passphrase(path: &Path) -> Result<Passphrase, PassphraseError> {
    let text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| PassphraseError::File { path: path.to_owned(), source })?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    Passphrase::new(line).ok_or_else(|| PassphraseError::Empty { path: path.to_owned() })
}

/// The stack's lock, for a command that changes something. The state folder must exist.
///
/// # Errors
/// When another run holds it; the error names that run.
pub(crate) fn lock(state: &StateFolder, command: &str) -> Result<Lock, Failure> {
    Ok(Lock::take(state, command)?)
}
