//! `sovereign open`.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde::Serialize;
use sovereign_model::stack::EngineKind;

use crate::cli::OpenArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::environment::names;
use crate::failure::Failure;
use crate::output::{Page, Report};

use super::site;

/// Where a site is read.
#[derive(Debug, Serialize)]
pub(crate) struct Address {
    url: String,
    /// Whether a browser was started.
    opened: bool,
    /// What shows the site on another machine; `None` where that needs nothing, as with a host's edge.
    tunnel: Option<String>,
}

impl Report for Address {
    fn show(&self, page: &mut Page) {
        page.line(&self.url);
        if let Some(tunnel) = &self.tunnel {
            page.line(format_args!("From another machine: {tunnel}"));
        }
    }
}

/// Starts the browser where there is a screen, and always says the address.
pub(crate) fn run(context: &Context, args: &OpenArgs) -> Result<Address, Failure> {
    let declared = Declared::load(context)?;
    let site = site::find(&declared.stack, args.site.as_ref())?;
    let url = format!("{}/", site.canonical);
    let opened = has_screen(context) && start_browser(&url);
    let is_here = declared.stack.datacenters[&site.primary].engine == EngineKind::Embedded;
    let tunnel = (!opened && is_here).then(|| tunnel(context, [(site.canonical.port(), site.edge_port)]));
    Ok(Address { url, opened, tunnel })
}

/// The line that brings edges of this machine to the one it is typed on: pairs of the port that is part of a site's
/// address, and the one that its edge listens on. The machine is named as the operator reached it, where they came in by ssh.
pub(crate) fn tunnel(context: &Context, ports: impl IntoIterator<Item = (u16, u16)>) -> String {
    let ports: BTreeSet<_> = ports.into_iter().collect();
    let forwards: Vec<_> = ports.iter().map(|(port, edge)| format!("-L {port}:127.0.0.1:{edge}")).collect();
    let connection = context.environment.get(names::SSH_CONNECTION).map(|fields| fields.to_string_lossy().into_owned());
    let reached = connection.as_deref().and_then(|fields| fields.split_whitespace().nth(2));
    let host = reached.map_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned(), str::to_owned);
    format!("ssh {} {host}", forwards.join(" "))
}

/// Whether a browser can be shown here.
pub(crate) fn has_screen(context: &Context) -> bool {
    [names::DISPLAY, names::WAYLAND_DISPLAY].iter().any(|name| context.environment.get(name).is_some())
}

fn start_browser(url: &str) -> bool {
    let quiet =
        Command::new("xdg-open").arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}
