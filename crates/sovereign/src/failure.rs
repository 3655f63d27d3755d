//! How a command fails: the error, the exit code that goes with it, and the way out.
//!
//! Libraries define errors with facts and help; this is the one place that gives each an exit code. An error type
//! becomes a [`Failure`] through `?` once it is a [`Reason`].

use std::error::Error;

use serde_json::Value;

use crate::exit::Exit;
use crate::output::Theme;

/// An error that can end a command.
pub(crate) trait Reason: Error + Send + Sync + 'static {
    /// The exit code.
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    /// What the operator can do about it.
    fn help(&self) -> Option<String> {
        None
    }

    /// A page to show instead of the sentence and its causes, when one sentence cannot say it (a bad stack file).
    fn page(&self, theme: Theme) -> Option<String> {
        let _ = theme;
        None
    }

    /// The same for machines: an array of problems.
    fn problems(&self) -> Option<Value> {
        None
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: Box<dyn Reason>,
    interrupted: bool,
}

impl<R: Reason> From<R> for Failure {
    fn from(reason: R) -> Self {
        Self { reason: Box::new(reason), interrupted: false }
    }
}

impl Failure {
    /// Whether another run works on the archive, so that waiting helps.
    pub(crate) fn is_busy(&self) -> bool {
        let reason: &(dyn Error + 'static) = &*self.reason;
        matches!(reason.downcast_ref(), Some(sovereign_archive::ArchiveError::Locked))
    }

    /// Whether a site does not run, since its host is evacuated on purpose.
    pub(crate) fn is_aside(&self) -> bool {
        let reason: &(dyn Error + 'static) = &*self.reason;
        reason.is::<crate::backup::Aside>()
    }

    /// The same failure as a consequence of Ctrl-C: the exit code says so, and no help is needed.
    pub(crate) fn interrupted(self) -> Self {
        Self { interrupted: true, ..self }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        if self.interrupted { Exit::Interrupted } else { self.reason.exit() }
    }

    /// What the operator can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        if self.interrupted { None } else { self.reason.help() }
    }

    /// See [`Reason::page`].
    pub(crate) fn page(&self, theme: Theme) -> Option<String> {
        self.reason.page(theme)
    }

    /// See [`Reason::problems`].
    pub(crate) fn problems(&self) -> Option<Value> {
        self.reason.problems()
    }

    /// The error's sentence, then its causes, outermost first.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.reason.to_string()];
        let mut cause = self.reason.source();
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        chain
    }
}

/// Errors whose library gives help through a method of its own; all end with [`Exit::Failed`].
macro_rules! reasons {
    ($($error:ty),* $(,)?) => {
        $(impl Reason for $error {
            fn help(&self) -> Option<String> {
                <$error>::help(self)
            }
        })*
    };
}

reasons! {
    crate::places::NoHome,
    crate::verify::ProbeError,
    sovereign_archive::ArchiveError,
    sovereign_archive::copy::CopyError,
    sovereign_certs::ImportError,
    sovereign_certs::daemon::RenewerError,
    sovereign_certs::store::StoreError,
    sovereign_dns::AgentError,
    sovereign_dns::NameServerError,
    sovereign_dns::adopt::usual::UsualError,
    sovereign_dns::ask::TransferError,
    sovereign_edge::EdgeError,
    sovereign_engine::embedded::ClientError,
    sovereign_engine::embedded::SuperviseError,
    sovereign_engine::embedded::shim::ShimError,
    sovereign_engine::preflight::Problem,
    sovereign_engine::state::LockError,
    sovereign_engine::state::StateError,
    sovereign_hosts::SshError,
    sovereign_hosts::ready::ReadyError,
    sovereign_hosts::record::RecordError,
    sovereign_images::ImageError,
    sovereign_incus::IncusError,
    sovereign_keys::FileError,
    sovereign_keys::KeysError,
    sovereign_runtime::file::FileError,
    sovereign_keys::SeedError,
    sovereign_lab::LabError,
    sovereign_runtime::signed::SignedError,
    sovereign_services::folder::WriteError,
    sovereign_services::ghost::OperatorError,
    sovereign_services::static_site::Problem,
}

impl Reason for sovereign_engine::record::RecordError {
    fn help(&self) -> Option<String> {
        self.help()
    }
}

impl Reason for sovereign_engine::incus::IncusEngineError {
    fn help(&self) -> Option<String> {
        sovereign_engine::apply::Failure::help(self)
    }
}

impl Reason for sovereign_engine::embedded::EmbeddedError {
    fn help(&self) -> Option<String> {
        sovereign_engine::apply::Failure::help(self)
    }
}

impl Reason for sovereign_engine::incus::beside::BesideError {
    fn help(&self) -> Option<String> {
        sovereign_engine::apply::Failure::help(self)
    }
}

impl Reason for sovereign_engine::incus::NewcomerError {
    fn help(&self) -> Option<String> {
        sovereign_engine::apply::Failure::help(self)
    }
}

impl<E: sovereign_engine::apply::Failure> Reason for sovereign_engine::apply::ApplyError<E> {
    fn exit(&self) -> Exit {
        match self {
            Self::Stale => Exit::PlanStale,
            Self::Interrupted { .. } => Exit::Interrupted,
            Self::Obstructed(_) | Self::Observe(_) | Self::Step { .. } | Self::Journal(_) => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Self::help(self)
    }
}

impl Reason for sovereign_archive::SourceError {}
impl Reason for sovereign_engine::embedded::once::OnceError {}
impl Reason for sovereign_incus::InvalidName {}
impl Reason for sovereign_model::InvalidName {}
impl Reason for sovereign_plan::IncompleteWorld {}
