//! A unit of a host's own: its program, and its service in the place of the one before.

use std::path::Path;
use std::time::{Duration, Instant};

use sovereign_hosts::systemd::{self, Account};
use sovereign_hosts::{Access, Run, SshError};
use sovereign_model::EdgeName;
use sovereign_model::layout::on_host;
use sovereign_model::unit::UnitSpec;

use super::reach::Link;
use super::{IncusEngine, IncusEngineError};
use crate::apply::{Progress, Receipt};
use crate::edge::{LOOK, is_well};

/// What a daemon needs until it is well: an edge reads what it keeps.
const WELL_WITHIN: Duration = Duration::from_secs(60);

impl IncusEngine<'_> {
    /// Has a unit run as it is described, in the place of the one before, until it says on its control
    /// socket that it is well.
    pub(super) async fn run_on_host(
        &self,
        host: &EdgeName,
        link: &Link,
        unit: &UnitSpec,
        account: Account<'_>,
        control: &Path,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Receipt, IncusEngineError> {
        let failed = |source| IncusEngineError::Host { host: host.clone(), source: Box::new(source) };
        let began = Instant::now();
        tell(Progress::Doing("sends the program".to_owned()));
        self.install(unit, link).await.map_err(failed)?;
        tell(Progress::Doing("takes over".to_owned()));
        systemd::replace(&link.connection, &self.parts.stack.name, unit, account)
            .await
            .map_err(|source| IncusEngineError::Unit { host: host.clone(), source: Box::new(source) })?;
        while !is_well(control).await {
            if began.elapsed() > WELL_WITHIN {
                return Err(IncusEngineError::NotWell { host: host.clone(), unit: unit.name.clone() });
            }
            tokio::time::sleep(LOOK).await;
        }
        let tidy = Run::script("remove older programs", include_str!("tidy.sh")).arg(on_host::PROGRAMS);
        link.connection.succeed(&tidy).await.map_err(failed)?;
        Ok(Receipt::note(format!("well after {:.1} s", began.elapsed().as_secs_f64())))
    }

    /// Puts this program on the host, under its digest.
    async fn install(&self, unit: &UnitSpec, link: &Link) -> Result<(), SshError> {
        let there = &unit.program;
        let has = Run::new("look for the program", "test").args(["-x"]).arg(there);
        if link.connection.run(&has).await?.code == 0 {
            return Ok(());
        }
        let folder = there.parent().unwrap_or(Path::new(on_host::PROGRAMS));
        let make = Run::new("make the program's folder", "install").args(["-d", "-m", "0755"]).arg(folder);
        link.connection.succeed(&make).await?;
        let access = Access { mode: 0o755, owner: "root:root" };
        link.connection.put_file(self.parts.program, there, access).await
    }
}

impl Link {
    /// The user of a unit and its folder, and in it those that are the unit's own, with their mode.
    pub(super) async fn prepare(&self, user: &str, folder: &Path, mode: &str, own: &[&str]) -> Result<(), SshError> {
        let run = Run::script("make a unit's folders", include_str!("prepare.sh"));
        let run = run.arg(user).arg(on_host::PROGRAMS).arg(on_host::STATE).arg(folder).arg(mode).args(own);
        self.connection.succeed(&run).await.map(drop)
    }
}
