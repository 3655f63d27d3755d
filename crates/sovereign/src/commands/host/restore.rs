//! `sovereign host restore`.

use std::sync::Arc;

use serde::Serialize;
use sovereign_engine::incus::evacuated::evacuated;
use sovereign_hosts::record::HostId;
use sovereign_model::EdgeName;

use super::evacuate::{remember, told};
use crate::cli::HostRestoreArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::hosts;
use crate::interrupt;
use crate::lease;
use crate::output::{Page, Report, StageTime};
use crate::secrets;

/// A host is back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Restored {
    host: HostId,
    /// Whether there was anything to do.
    changed: bool,
    stages: Vec<StageTime>,
}

impl Report for Restored {
    fn show(&self, page: &mut Page) {
        if self.changed {
            page.line(format_args!("{} is back, and what ran on it is well", self.host));
            page.help("`sovereign up` does there what was declared meanwhile");
        } else {
            page.line(format_args!("{} is not evacuated; there was nothing to do", self.host));
        }
    }
}

/// Brings a host back.
pub(crate) fn run(context: &Context, args: &HostRestoreArgs) -> Result<Restored, Failure> {
    let declared = Declared::load(context)?;
    let (stack, id) = (&declared.stack, &args.host);
    super::known(&declared, id)?;
    let _lock = secrets::lock(&declared.state, "host restore")?;
    secrets::hosts(context, stack, &declared.state)?;
    let edge = EdgeName::on(&id.datacenter, &id.host);
    let reach = Arc::new(hosts::reach_known(&declared, None)?);
    let lease = lease::take(context, &declared, &reach, "host restore", &args.lease, args.yes)?;
    let progress = context.output.progress();
    let work = async {
        let link = reach.link(&edge).await?;
        let is_out = evacuated(&reach).await.contains_key(&edge);
        let is_out = is_out || link.is_emptied().await?;
        if is_out {
            let stage = progress.stage(format!("bring {id} back"));
            link.restore(&stack.name, &told(&stage)).await?;
            stage.finish();
        }
        remember(&declared, id, None)?;
        Ok(Restored { host: id.clone(), changed: is_out, stages: progress.times() })
    };
    interrupt::run(&context.output, |_| lease::under(&lease, work))
}
