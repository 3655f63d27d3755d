//! `sovereign rotate`.

use std::collections::BTreeSet;

use serde::Serialize;
use sovereign_keys::{Epochs, Owner, Purpose, WorkingKeys};

use super::rotate_zone;
use crate::cli::RotateArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::secrets;

/// A secret that has a new value, or is on its way to one.
#[derive(Debug, Serialize)]
pub(crate) struct Rotated {
    pub(super) secret: String,
    pub(super) epoch: u32,
    pub(super) done: Done,
}

/// What was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Done {
    /// It has the value of this epoch.
    Rotated,
    /// It is being exchanged for the one of this epoch.
    Begun,
    /// It keeps the one of this epoch.
    Undone,
}

impl Report for Rotated {
    fn show(&self, page: &mut Page) {
        let Self { secret, epoch, done } = self;
        match done {
            Done::Rotated => {
                page.line(format_args!("{secret} is at epoch {epoch} now"));
                page.help("`sovereign up` puts it to use");
            }
            Done::Begun => {
                page.line(format_args!("{secret} is being exchanged for the one of epoch {epoch}"));
                page.help("`sovereign up` has both keys sign; then `sovereign status` says what is awaited");
            }
            Done::Undone => {
                page.line(format_args!("{secret} stays at epoch {epoch}"));
                page.help("`sovereign up` takes the other key out of the zone");
            }
        }
    }
}

/// The declared stack has no such secret.
#[derive(Debug, thiserror::Error)]
#[error("this stack has no secret {name}")]
struct NotOurs {
    name: String,
    ours: Vec<String>,
}

impl Reason for NotOurs {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(format!("its secrets are: {}", self.ours.join(", ")))
    }
}

/// Raises the epoch of one secret. The new value is derived first, so that an epoch that cannot be used is never kept.
pub(crate) fn run(context: &Context, args: &RotateArgs) -> Result<Rotated, Failure> {
    let declared = Declared::load(context)?;
    let (stack, state) = (&declared.stack, &declared.state);
    let zones = secrets::own_domains(stack).map(|domain| Purpose::Zone(domain.name.clone()));
    // Those that name servers sign are among the others, too.
    let ours: BTreeSet<Purpose> = secrets::purposes(stack).into_iter().chain(zones).collect();
    let purpose = args.name.parse::<Purpose>().ok().filter(|purpose| ours.contains(purpose)).ok_or_else(|| {
        let names = ours.iter().filter(|purpose| is_rotated(purpose));
        NotOurs { name: args.name.clone(), ours: names.map(ToString::to_string).collect() }
    })?;
    match &purpose {
        Purpose::OwnerPassword(_) => return Err(FirstPassword.into()),
        Purpose::Archive => return Err(OpensTheArchive.into()),
        Purpose::Zone(domain) if args.undo => return rotate_zone::undo(context, &declared, domain, args),
        Purpose::Zone(domain) => return rotate_zone::begin(context, &declared, domain, args),
        _ if args.undo => return Err(AtOnce { name: args.name.clone() }.into()),
        _ => {}
    }
    let _lock = secrets::lock(state, "rotate")?;
    let file = secrets::epochs_file(state);
    let mut epochs = Epochs::read(&file)?;
    let epoch = epochs.rotate(&purpose);
    let stored = secrets::seed_file(stack, state).open()?;
    let owner = Owner { stack: stack.name.clone(), seed: stored.fingerprint().clone() };
    WorkingKeys::ensure(&state.keys(), &owner, [&purpose], &epochs, || {
        stored.unlock(|| secrets::passphrase(context, args.passphrase_file.as_deref()))
    })?;
    epochs.write(&file)?;
    Ok(Rotated { secret: purpose.to_string(), epoch, done: Done::Rotated })
}

fn is_rotated(purpose: &Purpose) -> bool {
    !matches!(purpose, Purpose::OwnerPassword(_) | Purpose::Archive)
}

/// What is exchanged at once is not on its way.
#[derive(Debug, thiserror::Error)]
#[error("{name} is rotated at once, so there is nothing under way to undo")]
struct AtOnce {
    name: String,
}

impl Reason for AtOnce {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("rotated once more, it has another value again".to_owned())
    }
}

/// An archive that exists is opened by the password it was made with.
#[derive(Debug, thiserror::Error)]
#[error("the archive's password opens every snapshot there is; another one would open none")]
struct OpensTheArchive;

impl Reason for OpensTheArchive {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Only the first password of an owner is the stack's to choose.
#[derive(Debug, thiserror::Error)]
#[error("an owner's password is derived once, when the site is set up; from then on it is the owner's own")]
struct FirstPassword;

impl Reason for FirstPassword {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("`sovereign site staff reset SITE ADDRESS` prints a link that sets another one".to_owned())
    }
}
