//! `sovereign rotate`.

use serde::Serialize;
use sovereign_keys::{Epochs, Owner, Purpose, WorkingKeys};

use crate::cli::RotateArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::{Page, Report};
use crate::secrets;

/// A secret that has a new value.
#[derive(Debug, Serialize)]
pub(crate) struct Rotated {
    secret: String,
    epoch: u32,
}

impl Report for Rotated {
    fn show(&self, page: &mut Page) {
        page.line(format_args!("{} is at epoch {} now", self.secret, self.epoch));
        page.help("`sovereign up` puts it to use");
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
    let ours = secrets::purposes(stack);
    let purpose = args.name.parse::<Purpose>().ok().filter(|purpose| ours.contains(purpose)).ok_or_else(|| {
        let names = ours.iter().filter(|purpose| is_rotated(purpose));
        NotOurs { name: args.name.clone(), ours: names.map(ToString::to_string).collect() }
    })?;
    match purpose {
        Purpose::OwnerPassword(_) => return Err(FirstPassword.into()),
        Purpose::Archive => return Err(OpensTheArchive.into()),
        Purpose::Zone(_) => return Err(BelievedByResolvers.into()),
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
    Ok(Rotated { secret: purpose.to_string(), epoch })
}

fn is_rotated(purpose: &Purpose) -> bool {
    !matches!(purpose, Purpose::OwnerPassword(_) | Purpose::Archive | Purpose::Zone(_))
}

/// Whoever checks signatures would believe none of the new key's.
#[derive(Debug, thiserror::Error)]
#[error("a zone's key is not exchanged at once: resolvers believe the old DS record for as long as they keep it")]
struct BelievedByResolvers;

impl Reason for BelievedByResolvers {
    fn exit(&self) -> Exit {
        Exit::Usage
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
