//! The key of a machine that is reached by SSH for the first time: it is shown, and a person compares it, or a fingerprint
//! that they have from the machine itself.

use std::time::Duration;

use sovereign_hosts::{choose, scan};
use sovereign_model::ssh::{Fingerprint, HostKey, SshAddress};

use crate::failure::{Failure, Reason};
use crate::output::Output;

/// The key is not known to be the machine's.
#[derive(Debug, thiserror::Error)]
#[error("nothing was done: the key was not confirmed")]
struct NotConfirmed;

impl Reason for NotConfirmed {
    fn help(&self) -> Option<String> {
        let command = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub";
        Some(format!("compare it with what `{command}` says on the host's console"))
    }
}

/// A key that somebody compared.
///
/// # Errors
/// When the machine does not answer, shows another key, or nobody trusts it.
pub(crate) async fn pinned(
    output: &Output,
    address: &SshAddress,
    expected: Option<&Fingerprint>,
    patience: Duration,
) -> Result<HostKey, Failure> {
    let shown = scan(address, patience).await?;
    if let Some(expected) = expected {
        return Ok(choose(address, shown, expected)?);
    }
    let key = shown.into_iter().next().ok_or(NotConfirmed)?;
    let fingerprint = key.fingerprint();
    output.say(format!("{address} shows the key {fingerprint} ({}).", key.kind()));
    let question = "Is that what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the host's console? \
                    Type yes to trust it from now on: ";
    let instead = format!("`--fingerprint {fingerprint}` answers it, if that is what the host itself says");
    let answer = output.ask(question, &instead)?;
    if answer.trim() == "yes" { Ok(key) } else { Err(NotConfirmed.into()) }
}
