//! `sovereign plan`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use sovereign_engine::apply::Engine as _;
use sovereign_keys::SeedError;
use sovereign_model::SiteName;
use sovereign_model::observed::Unrestored;
use sovereign_plan::Plan;

use super::backup::short;
use crate::adopted;
use crate::cli::PlanArgs;
use crate::context::Context;
use crate::datacenters::Datacenters;
use crate::declared::Declared;
use crate::deployment::Deployment;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::output::{Cell, Page, Report, Table, figures};
use crate::providers::{Providers, Tellings};
use crate::secrets;

/// A plan, to be looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// The plan itself.
    #[serde(flatten)]
    pub(crate) plan: Plan,
    /// What is decided of data centers beside the stack file.
    #[serde(skip_serializing_if = "Datacenters::are_as_declared")]
    decided: Datacenters,
    /// What providers of DNS would be told; `None` where none is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    providers: Option<Tellings>,
    /// The hour, in seconds since the Unix epoch.
    #[serde(skip)]
    now: u64,
    /// Where it was written.
    #[serde(skip)]
    written: Option<PathBuf>,
}

impl Shown {
    /// A plan of a deployment, written nowhere.
    ///
    /// # Errors
    /// When what is decided of data centers cannot be read.
    pub(crate) fn new(plan: Plan, deployment: &Deployment) -> Result<Self, Failure> {
        Ok(Self { plan, decided: deployment.decided()?, providers: None, now: deployment.hour(), written: None })
    }
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
        for line in self.decided.lines(self.now) {
            page.line(format_args!("as decided: {line}"));
        }
        show_unrestored(&plan.unrestored, page);
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
        if let Some(providers) = self.providers.as_ref().filter(|providers| !providers.is_quiet()) {
            page.title("To be told to providers of DNS");
            providers.show(page);
        }
        if let Some(path) = &self.written {
            page.help(format_args!("`sovereign up --plan {}` carries out this plan, or none", path.display()));
        }
    }

    fn exit(&self) -> Exit {
        let is_pending = self.providers.as_ref().is_some_and(Tellings::is_pending);
        match &self.plan {
            plan if !plan.obstacles.is_empty() || !plan.unrestored.is_empty() => Exit::Failed,
            plan if plan.is_empty() && plan.away.is_empty() && !is_pending => Exit::Done,
            _ => Exit::Attention,
        }
    }
}

/// Says which sites do not begin empty, and what to do.
pub(super) fn show_unrestored(unrestored: &BTreeMap<SiteName, Unrestored>, page: &mut Page) {
    let style = page.theme().error;
    for (site, Unrestored { snapshot, is_arriving }) in unrestored {
        let archived = match snapshot {
            Some(snapshot) => format!("the archive has it (snapshot {})", short(snapshot)),
            None => "what the archive has of it cannot be read now".to_owned(),
        };
        let found = if *is_arriving { "its restore was cut off" } else { "nothing of it is where it is declared" };
        page.line(format_args!("{style}left out{style:#}: site {site}: {found}, and {archived}"));
        page.help(format_args!(
            "`sovereign restore {site}` brings it there; to begin with an empty one, `sovereign up --begin-empty {site}`"
        ));
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
    let declared = Declared::load(context)?;
    adopted::nothing_vanishes(&declared)?;
    let mut deployment = Deployment::new(declared)?;
    let keys = match secrets::seed_file(&deployment.stack, &deployment.state).open() {
        Ok(_) => secrets::open(context, &deployment.stack, &deployment.state)?,
        Err(SeedError::Missing { .. }) if args.out.is_some() => return Err(PlanFileError::NoSeed.into()),
        Err(SeedError::Missing { .. }) => {
            // An archive that is there has other words: `up` sets it aside.
            let all: Vec<_> = deployment.stack.sites.keys().cloned().collect();
            deployment = deployment.beginning_empty(all);
            secrets::imagined(&deployment.stack)
        }
        Err(error) => return Err(error.into()),
    };
    let progress = context.output.progress();
    let (plan, providers) = interrupt::run(&context.output, |_| async {
        let joined = deployment.joined(&keys)?;
        let seen = deployment.engine(&keys, &joined, &progress).observe().await?;
        let (joined, _) = deployment.settled(&keys, joined, &seen)?;
        let providers = Providers { stack: &deployment.stack, state: &deployment.state, progress: &progress };
        Ok((sovereign_plan::plan(&joined.wanted, &seen), providers.look().await))
    })?;
    if let Some(path) = &args.out {
        let text = serde_json::to_vec_pretty(&plan).expect("a plan serializes to JSON");
        fs::write(path, text).map_err(|source| PlanFileError::Unwritable { path: path.clone(), source })?;
    }
    Ok(Shown { written: args.out.clone(), providers, ..Shown::new(plan, &deployment)? })
}
