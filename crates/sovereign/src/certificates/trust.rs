//! Who is believed: the stack's own authority, those that it declares with roots of their own, and this machine's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use sovereign_certs::Access;
use sovereign_certs::check::{RootsError, public_roots};
use sovereign_keys::WorkingKeys;
use sovereign_model::{AuthorityName, Stack};

use super::Said;
use crate::failure::{Failure, Reason};
use crate::verify::Prober;

/// An authority cannot be asked, since it is not known by what to believe it.
#[derive(Debug, thiserror::Error)]
enum NoRoots {
    #[error("the roots of authority {authority} cannot be read from {}", path.display())]
    Read { authority: AuthorityName, path: PathBuf, source: io::Error },
    #[error("authority {authority} has no roots to be believed by")]
    Unusable { authority: AuthorityName, source: RootsError },
}

impl Reason for NoRoots {
    fn help(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("`roots` of [[authority]] names a file of this machine, PEM".to_owned()),
            Self::Unusable { source, .. } => source.help(),
        }
    }
}

/// The declared authorities, the preferred first; and what is wrong with those that cannot be asked.
pub(super) fn authorities(stack: &Stack) -> (Vec<Access>, Vec<Said>) {
    let (mut usable, mut said) = (Vec::new(), Vec::new());
    for authority in &stack.authorities {
        let access = declared_roots(&authority.name, authority.roots.as_ref()).and_then(|roots| {
            let unusable = |source| NoRoots::Unusable { authority: authority.name.clone(), source };
            Access::new(authority.clone(), roots.as_deref()).map_err(unusable)
        });
        match access {
            Ok(access) => usable.push(access),
            Err(error) => said.push(Said::of(&error.into())),
        }
    }
    (usable, said)
}

fn declared_roots(authority: &AuthorityName, path: Option<&PathBuf>) -> Result<Option<String>, NoRoots> {
    let Some(path) = path else { return Ok(None) };
    let read = fs::read_to_string(path);
    read.map(Some).map_err(|source| NoRoots::Read { authority: authority.clone(), path: path.clone(), source })
}

/// The certificates that whoever looks at an edge of this stack must believe in beside this machine's, PEM.
///
/// # Errors
/// When a key was not made ready, or the roots of an authority cannot be read.
pub(crate) fn believed(stack: &Stack, keys: &WorkingKeys) -> Result<String, Failure> {
    let mut pem = keys.ca()?.pem();
    if !pem.ends_with('\n') {
        pem.push('\n');
    }
    pem.push_str(&declared(stack)?);
    Ok(pem)
}

/// The roots of declared authorities that are not every machine's, PEM.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn declared(stack: &Stack) -> Result<String, Failure> {
    let of_each = declared_of_each(stack)?;
    // In the order of the stack file.
    let roots = stack.authorities.iter().filter_map(|authority| of_each.get(&authority.name));
    Ok(roots.flat_map(|roots| [roots.trim_end(), "\n"]).collect())
}

/// The same, of each authority.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn declared_of_each(stack: &Stack) -> Result<BTreeMap<AuthorityName, String>, Failure> {
    let mut all = BTreeMap::new();
    for authority in &stack.authorities {
        if let Some(roots) = declared_roots(&authority.name, authority.roots.as_ref())? {
            all.insert(authority.name.clone(), roots);
        }
    }
    Ok(all)
}

/// Asks edges of this stack as readers do.
///
/// # Errors
/// As [`believed`], or when one of the certificates cannot be used.
pub(crate) fn prober(stack: &Stack, keys: &WorkingKeys) -> Result<Prober, Failure> {
    let believed = believed(stack, keys)?;
    // Where no public authority is asked, none can have issued.
    let public = if stack.authorities.is_empty() { rustls::RootCertStore::empty() } else { public_roots() };
    Ok(Prober::trusting(believed.as_bytes(), public)?)
}
