//! Certificates, their keys, and what was tried for them, in a folder.
//!
//! ```text
//!  FOLDER/accounts/letsencrypt.pem       the key of the account
//!        /authorities/letsencrypt.json   what is known of the authority
//!        /names/blog.example.org/
//!              state.json                what is known of the name; it says which folder is served
//!              7/chain.pem 7/key.pem     what is served
//!              6/                        what was before
//!              next.pem                  the key of the order that is open
//! ```
//!
//! Promise: killed at any moment, what is served is whole, or is what was served before. A folder is written beside, made
//! durable and renamed before `state.json` leads to it, and is removed only when that leads to another. All of it is 0600
//! in folders of 0700. State that is damaged counts as none: what it forgets by that is asked for again.
//!
//! Left out: who may write here. One renewer works at a time; that there is one only is for whoever starts it to see to.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sovereign_model::{AuthorityName, DnsName};
use sovereign_runtime::file::{FileError, read_foreign, replace};
use tracing::warn;
use zeroize::Zeroizing;

use crate::check::{belongs, certificates};
use crate::state::{AuthorityState, Held, NameState, VERSION};
use crate::x509;

const PRIVATE: u32 = 0o600;
/// Chains of a few certificates have a few kilobytes.
const MOST: u64 = 1 << 20;

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be written; the one before is as it was.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A file or folder could not be used.
    #[error("cannot use {}", path.display())]
    Use {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer program wrote it.
    #[error("{} was written by a newer program", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
    },
}

impl StoreError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Write(error) => error.help(),
            Self::Use { path, .. } => Some(format!("make {} readable and writable for this user only", path.display())),
            Self::Newer { .. } => Some("use that program, or a newer one".into()),
        }
    }
}

/// Where what is served lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The chain, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// The two parts of what edges are given ([`Store::bundle`]), key and chain; `None` when it is not of that form.
pub fn parts(bundle: &str) -> Option<(&str, &str)> {
    let (key, chain) = bundle.split_at(bundle.find("-----BEGIN CERTIFICATE-----")?);
    (!key.trim().is_empty()).then_some((key, chain))
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The one in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn open(folder: PathBuf) -> Result<Self, StoreError> {
        for part in [folder.clone(), folder.join("accounts"), folder.join("authorities"), folder.join("names")] {
            make(&part)?;
        }
        Ok(Self { folder })
    }

    /// The one in `folder`, to be read: nothing is made, and where there is none nothing is known.
    pub fn look(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn name(&self, name: &DnsName) -> PathBuf {
        self.folder.join("names").join(name.as_str())
    }

    /// What is known of a name. A certificate whose files are not whole is none.
    ///
    /// # Errors
    /// When it cannot be read, or a newer program wrote it.
    pub fn state(&self, name: &DnsName) -> Result<NameState, StoreError> {
        let path = self.name(name).join("state.json");
        let read: Option<NameState> = read_json(&path)?.filter(|state: &NameState| state.name == *name);
        let mut state = read.unwrap_or_else(|| NameState::new(name.clone()));
        for held in [&mut state.held, &mut state.previous] {
            if held.as_ref().is_some_and(|held| !self.is_whole(name, held)) {
                warn!(%name, "the certificate that was stored is damaged, and counts as none");
                *held = None;
            }
        }
        Ok(state)
    }

    fn is_whole(&self, name: &DnsName, held: &Held) -> bool {
        let Served { chain, key } = self.served(name, held);
        match (read_text(&chain), read_text(&key)) {
            (Ok(Some(chain)), _) if held.elsewhere || held.handed => {
                let leaf = certificates(&chain).and_then(|all| x509::facts(all.first()?));
                leaf.is_some_and(|facts| facts.not_after == held.not_after)
            }
            (Ok(Some(chain)), Ok(Some(key))) => {
                belongs(&chain, &key).is_ok_and(|facts| facts.not_after == held.not_after)
            }
            _ => false,
        }
    }

    /// Where a certificate lies.
    pub fn served(&self, name: &DnsName, held: &Held) -> Served {
        let folder = self.name(name).join(held.number.to_string());
        Served { chain: folder.join("chain.pem"), key: folder.join("key.pem") }
    }

    /// The chain of a certificate, PEM.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn chain(&self, name: &DnsName, held: &Held) -> Result<Option<Zeroizing<String>>, StoreError> {
        read_text(&self.served(name, held).chain)
    }

    /// A certificate as edges are given it: its key and its chain in one text, PEM; `None` where its key is not here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn bundle(&self, name: &DnsName, held: &Held) -> Result<Option<Zeroizing<String>>, StoreError> {
        let Served { chain, key } = self.served(name, held);
        let (Some(chain), Some(key)) = (read_text(&chain)?, read_text(&key)?) else { return Ok(None) };
        let mut text = Zeroizing::new(String::with_capacity(key.len() + chain.len() + 1));
        text.push_str(key.trim_end());
        text.push('\n');
        text.push_str(&chain);
        Ok(Some(text))
    }

    /// Writes down what is known of a name, and removes what nothing leads to any more.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, state: &NameState) -> Result<(), StoreError> {
        let folder = self.name(&state.name);
        make(&folder)?;
        write_json(&folder.join("state.json"), state)?;
        if state.order.is_none() {
            remove(&folder.join("next.pem"));
        }
        let kept: Vec<String> =
            [&state.held, &state.previous].into_iter().flatten().map(|held| held.number.to_string()).collect();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // What cannot be removed now is removed the next time.
            if is_folder && !kept.iter().any(|kept| name == kept.as_str()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// Takes a certificate and its key in, in the place of what is served. `state` is what is to be known then; the
    /// certificate's number is set.
    ///
    /// # Errors
    /// When it cannot be written; what was served is served on.
    pub fn keep(&self, state: &mut NameState, held: Held, chain: &str, key: &str) -> Result<(), StoreError> {
        self.put(state, held, chain, Some(key))
    }

    /// The same with one that another renewer has got and that edges have; with its key, where that is known here.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn take_over(
        &self,
        state: &mut NameState,
        held: Held,
        chain: &str,
        key: Option<&str>,
    ) -> Result<(), StoreError> {
        state.settled();
        self.put(state, Held { elsewhere: key.is_none(), ..held }, chain, key)
    }

    fn put(&self, state: &mut NameState, mut held: Held, chain: &str, key: Option<&str>) -> Result<(), StoreError> {
        let folder = self.name(&state.name);
        make(&folder)?;
        let taken = [&state.held, &state.previous].into_iter().flatten().map(|held| held.number).max().unwrap_or(0);
        held.number = taken + 1;
        let (place, beside) = (folder.join(held.number.to_string()), folder.join(format!(".{}.new", held.number)));
        // Left by a run that was killed before anything led there.
        for left in [&place, &beside] {
            match fs::remove_dir_all(left) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Use { path: left.clone(), source });
                }
                _ => {}
            }
        }
        make(&beside)?;
        replace(&beside.join("chain.pem"), chain.as_bytes(), PRIVATE)?;
        if let Some(key) = key {
            replace(&beside.join("key.pem"), key.as_bytes(), PRIVATE)?;
        }
        let durable = fs::rename(&beside, &place).and_then(|()| File::open(&folder)?.sync_all());
        durable.map_err(|source| StoreError::Use { path: place, source })?;
        state.previous = state.held.replace(held);
        self.save(state)
    }

    /// Forgets the keys of a name's certificates: whoever shows them has them.
    ///
    /// # Errors
    /// When that cannot be written down; the keys are there still then.
    pub fn handed(&self, state: &mut NameState) -> Result<(), StoreError> {
        for held in [&mut state.held, &mut state.previous].into_iter().flatten() {
            held.handed = true;
        }
        self.save(state)?;
        for held in [&state.held, &state.previous].into_iter().flatten() {
            remove(&self.served(&state.name, held).key);
        }
        Ok(())
    }

    /// The key of the order that is open for a name, PEM.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next_key(&self, name: &DnsName) -> Result<Option<Zeroizing<String>>, StoreError> {
        read_text(&self.name(name).join("next.pem"))
    }

    /// Keeps the key of the order that is open for a name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_next_key(&self, name: &DnsName, pem: &str) -> Result<(), StoreError> {
        make(&self.name(name))?;
        Ok(replace(&self.name(name).join("next.pem"), pem.as_bytes(), PRIVATE)?)
    }

    fn authority(&self, name: &AuthorityName) -> PathBuf {
        self.folder.join("authorities").join(format!("{name}.json"))
    }

    /// What is known of an authority at this directory.
    ///
    /// # Errors
    /// When it cannot be read, or a newer program wrote it.
    pub fn authority_state(&self, name: &AuthorityName, directory: &str) -> Result<AuthorityState, StoreError> {
        let read: Option<AuthorityState> = read_json(&self.authority(name))?;
        let same = read.filter(|state| state.directory == directory);
        Ok(same.unwrap_or_else(|| AuthorityState::new(directory.to_owned())))
    }

    /// Writes down what is known of an authority.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_authority(&self, name: &AuthorityName, state: &AuthorityState) -> Result<(), StoreError> {
        write_json(&self.authority(name), state)
    }

    /// The key of the account at an authority, PEM.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn account_key(&self, name: &AuthorityName) -> Result<Option<Zeroizing<String>>, StoreError> {
        read_text(&self.folder.join("accounts").join(format!("{name}.pem")))
    }

    /// Keeps the key of the account at an authority.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_account_key(&self, name: &AuthorityName, pem: &str) -> Result<(), StoreError> {
        Ok(replace(&self.folder.join("accounts").join(format!("{name}.pem")), pem.as_bytes(), PRIVATE)?)
    }
}

fn make(folder: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| StoreError::Use { path: folder.to_owned(), source })
}

fn remove(file: &Path) {
    // What cannot be removed now is removed, or replaced, the next time.
    let _ = fs::remove_file(file);
}

fn read_text(path: &Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    match read_foreign(path, MOST) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            Ok(std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Use { path: path.to_owned(), source }),
    }
}

/// `None` when there is no such file, or one that is damaged.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Some(text) = read_text(path)? else { return Ok(None) };
    match serde_json::from_str::<Versioned>(&text) {
        Ok(Versioned { version }) if version > VERSION => return Err(StoreError::Newer { path: path.to_owned() }),
        _ => {}
    }
    match serde_json::from_str(&text) {
        Ok(read) => Ok(Some(read)),
        Err(error) => {
            warn!(path = %path.display(), %error, "this file is damaged, and counts as none");
            Ok(None)
        }
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let unwritable = |error: serde_json::Error| StoreError::Use { path: path.to_owned(), source: error.into() };
    let mut text = serde_json::to_vec_pretty(value).map_err(unwritable)?;
    text.push(b'\n');
    Ok(replace(path, &text, PRIVATE)?)
}

#[cfg(test)]
mod tests;
