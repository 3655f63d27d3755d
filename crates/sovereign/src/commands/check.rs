//! `sovereign check`.

use std::path::PathBuf;

use serde::Serialize;

use crate::adopted;
use crate::context::Context;
use crate::declared::Declared;
use crate::failure::Failure;
use crate::output::{Page, Report, figures};

/// A good stack file, counted.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    file: PathBuf,
    stack: String,
    datacenters: usize,
    domains: usize,
    sites: usize,
}

impl Report for Checked {
    fn show(&self, page: &mut Page) {
        let Self { file, stack, datacenters, domains, sites } = self;
        let good = page.theme().good;
        page.line(format_args!("{good}good{good:#}  {}", file.display()));
        page.line(format_args!(
            "stack {stack}: {}, {}, {}",
            figures::count(*datacenters as u64, "data center", "data centers"),
            figures::count(*domains as u64, "domain", "domains"),
            figures::count(*sites as u64, "site", "sites"),
        ));
    }
}

/// Parses the stack file, and counts what is in it. What its domains published before must not vanish unseen.
pub(crate) fn run(context: &Context) -> Result<Checked, Failure> {
    let declared = Declared::load(context)?;
    adopted::nothing_vanishes(&declared)?;
    let Declared { stack, file, .. } = declared;
    Ok(Checked {
        file,
        stack: stack.name.to_string(),
        datacenters: stack.datacenters.len(),
        domains: stack.domains.len(),
        sites: stack.sites.len(),
    })
}
