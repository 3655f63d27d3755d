//! `sovereign plan`.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use sovereign_engine::apply::Engine as _;
use sovereign_keys::SeedError;
use sovereign_plan::Plan;

use crate::cli::PlanArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::output::{Cell, Page, Report, Table, figures};
use crate::secrets;

/// A plan, to be looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// The plan itself.
    #[serde(flatten)]
    pub(crate) plan: Plan,
    /// Where it was written.
    #[serde(skip)]
    pub(crate) written: Option<PathBuf>,
}

impl Report for Shown {
    fn show(&self, page: &mut Page) {
        let theme = page.theme();
        let plan = &self.plan;
        for obstacle in &plan.obstacles {
            let style = theme.error;
            page.line(format_args!("{style}obstacle{style:#}: {obstacle}"));
            if let Some(help) = obstacle.help() {
                page.help(help);
            }
        }
        for (host, why) in &plan.away {
            let style = theme.warning;
            page.line(format_args!("{style}left out{style:#}: {host}: {why}"));
        }
        super::host::show_evacuated(&plan.evacuated, page);
        if plan.is_empty() {
            page.line("nothing has to change");
            for line in plan.kept.lines() {
                page.line(format_args!("  {line}"));
            }
        } else if !plan.steps.is_empty() {
            page.title(figures::count(plan.steps.len() as u64, "step", "steps"));
            let mut table = Table::new([">", "STEP", "WHY"]);
            for (number, planned) in (1..).zip(&plan.steps) {
                table.row([
                    Cell::from(number),
                    planned.step.to_string().into(),
                    Cell::styled(planned.reason.to_string(), theme.faint),
                ]);
            }
            page.table(&table);
        }
        if let Some(path) = &self.written {
            page.help(format_args!("`sovereign up --plan {}` carries out this plan, or none", path.display()));
        }
    }

    fn exit(&self) -> Exit {
        match &self.plan {
            plan if !plan.obstacles.is_empty() => Exit::Failed,
            plan if plan.is_empty() && plan.away.is_empty() => Exit::Done,
            _ => Exit::Attention,
        }
    }
}

/// A plan cannot be kept.
#[derive(Debug, thiserror::Error)]
enum PlanFileError {
    #[error("there is no root seed yet, so this plan cannot be kept: it would name keys that nobody has")]
    NoSeed,
    #[error("cannot write the plan to {path}", path = .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

impl Reason for PlanFileError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoSeed => {
                Some("leave out `--out`, or bring a seed first: `sovereign up` or `sovereign seed restore`".to_owned())
            }
            Self::Unwritable { .. } => None,
        }
    }
}

/// Observes and plans. Changes nothing: before the first `up` it plans with keys that it makes up and forgets.
pub(crate) fn run(context: &Context, args: &PlanArgs) -> Result<Shown, Failure> {
    let deployment = Deployment::new(Declared::load(context)?)?;
    let keys = match secrets::seed_file(&deployment.stack, &deployment.state).open() {
        Ok(_) => secrets::open(context, &deployment.stack, &deployment.state)?,
        Err(SeedError::Missing { .. }) if args.out.is_some() => return Err(PlanFileError::NoSeed.into()),
        Err(SeedError::Missing { .. }) => secrets::imagined(&deployment.stack),
        Err(error) => return Err(error.into()),
    };
    let plan = interrupt::run(&context.output, |_| async {
        let joined = deployment.joined(&keys)?;
        let progress = context.output.progress();
        let seen = deployment.engine(&keys, &joined, &progress).observe().await?;
        let (joined, _) = deployment.settled(&keys, joined, &seen)?;
        Ok(sovereign_plan::plan(&joined.wanted, &seen))
    })?;
    if let Some(path) = &args.out {
        let text = serde_json::to_vec_pretty(&plan).expect("a plan serializes to JSON");
        fs::write(path, text).map_err(|source| PlanFileError::Unwritable { path: path.clone(), source })?;
    }
    Ok(Shown { plan, written: args.out.clone() })
}
