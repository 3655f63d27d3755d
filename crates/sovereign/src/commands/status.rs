//! `sovereign status`.

use std::time::SystemTime;

use sovereign_engine::incus::lease::{held, list};
use sovereign_model::agent_status::Standing;
use sovereign_model::layout::on_host;
use sovereign_model::{DatacenterName, EdgeName, HostName};

use super::backup::short;
use crate::assess::{Assessment, CopyRoom, assess, word};
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::gather::{gather, refused_on_hosts};
use crate::hosts;
use crate::interrupt;
use crate::output::{Cell, Page, Report, Table, figures};
use crate::world::unix_seconds;

/// Asks everything that runs and judges the answers.
pub(crate) fn run(context: &Context) -> Result<Assessment, Failure> {
    let declared = Declared::load(context)?;
    sovereign_engine::state::read(&declared.state)?;
    let reach = hosts::reach(&declared)?;
    interrupt::run(&context.output, |_| async {
        let mut gathered = gather(&declared.stack, &declared.state, &reach).await?;
        let refused = refused_on_hosts(&declared.stack, &reach, &gathered).await;
        gathered.outgoing.extend(refused);
        let at_work = held(&reach, &on_host::lease(&declared.stack.name)).await;
        Ok(Assessment { at_work, ..assess(&declared.stack, &gathered, unix_seconds(SystemTime::now())) })
    })
}

impl Report for Assessment {
    fn show(&self, page: &mut Page) {
        let theme = page.theme();
        self.show_units(page);
        self.show_sights(page);
        self.show_name_servers(page);
        self.show_sites(page);
        self.show_certificates(page);
        self.show_archive(page);
        page.gap();
        for problem in &self.problems {
            let warning = theme.warning;
            page.line(format_args!("{warning}{}{warning:#}: {}", problem.subject, problem.message));
            if let Some(help) = &problem.help {
                page.help(help);
            }
        }
        for warning in &self.warnings {
            page.line(format_args!("{}: {}", warning.subject, warning.message));
            if let Some(help) = &warning.help {
                page.help(help);
            }
        }
        if !self.at_work.is_empty() {
            page.line(format_args!("at work: {}", list(&self.at_work)));
        }
        if self.well {
            let good = theme.good;
            page.line(format_args!("{good}all is well{good:#}"));
        }
        if let Some(limit) = &self.unattended_until {
            let left = figures::seconds(limit.unix.saturating_sub(unix_seconds(SystemTime::now())));
            page.line(format_args!("runs unattended for {left}: then {}", limit.because));
        }
    }

    fn exit(&self) -> Exit {
        if self.well { Exit::Done } else { Exit::Attention }
    }
}

/// What is kept, of what is known.
fn size(kept: u64, known: u64) -> String {
    if known > kept { format!("{} of {}", figures::bytes(kept), figures::bytes(known)) } else { figures::bytes(kept) }
}

/// A place in a column.
fn at(datacenter: &DatacenterName, host: Option<&HostName>) -> String {
    EdgeName { datacenter: datacenter.clone(), host: host.cloned() }.to_string()
}

impl Assessment {
    fn show_units(&self, page: &mut Page) {
        let theme = page.theme();
        page.title(format_args!("Stack {}", self.stack));
        let mut table = Table::new(["AT", "UNIT", "STATE", ">RUNNING", ">MEMORY", ">RESTARTS", "CONFINED BY"]);
        for datacenter in &self.datacenters {
            for unit in &datacenter.units {
                let style = if unit.problem.is_none() { theme.good } else { theme.warning };
                table.row([
                    at(&datacenter.name, unit.host.as_ref()).into(),
                    unit.name.as_str().into(),
                    Cell::styled(word(unit.state), style),
                    unit.running_seconds.map(figures::seconds).unwrap_or_default().into(),
                    unit.memory_bytes.map(figures::bytes).unwrap_or_default().into(),
                    unit.restarts.map(|times| times.to_string()).unwrap_or_default().into(),
                    unit.confinement.clone().unwrap_or_default().into(),
                ]);
            }
        }
        if let Some(supervisor) = &self.supervisor {
            table.row([
                Cell::from(""),
                "supervisor".into(),
                Cell::styled("running", theme.good),
                "".into(),
                figures::bytes(supervisor.memory_bytes).into(),
                "".into(),
                "".into(),
            ]);
        }
        if !table.is_empty() {
            page.table(&table);
        }
    }

    /// How the data centers see each other.
    fn show_sights(&self, page: &mut Page) {
        let theme = page.theme();
        let mut table = Table::new(["DATA CENTER", "UPLINK", "ADDRESS", "FROM", "IS", ">SINCE", ">ANSWERED IN"]);
        for datacenter in &self.datacenters {
            for sight in &datacenter.seen_by {
                let (word, style) = match sight.standing {
                    Standing::Alive => ("alive", theme.good),
                    Standing::Unknown => ("not known yet", theme.warning),
                    Standing::Dead => ("dead", theme.error),
                };
                let latency = sight.latency_us.filter(|_| sight.last_error.is_none());
                table.row([
                    Cell::from(datacenter.name.as_str()),
                    sight.uplink.as_str().into(),
                    sight.address.to_string().into(),
                    sight.by.to_string().into(),
                    Cell::styled(word, style),
                    figures::seconds(sight.since_seconds).into(),
                    latency.map(|latency| format!("{:.1} ms", latency as f64 / 1000.0)).unwrap_or_default().into(),
                ]);
            }
        }
        if !table.is_empty() {
            page.title("Data centers, from each other");
            page.table(&table);
        }
    }

    fn show_name_servers(&self, page: &mut Page) {
        let theme = page.theme();
        let mut table = Table::new(["NAME SERVER", "ANSWERS FOR", "LEAVES OUT", ">SIGNED", ">GEOGRAPHY OF"]);
        let ago = |seconds: u64| format!("{} ago", figures::seconds(seconds));
        for server in &self.name_servers {
            let domains: Vec<&str> = server.zones.iter().map(|zone| zone.domain.as_str()).collect();
            let answers = match &server.silent {
                Some(why) => Cell::styled(format!("nobody: {why}"), theme.warning),
                None => Cell::from(domains.join(", ")),
            };
            let signed = server.zones.iter().filter_map(|zone| zone.signed_seconds).max();
            table.row([
                Cell::from(server.at.to_string()),
                answers,
                Cell::styled(server.without(), theme.warning),
                signed.map(ago).unwrap_or_default().into(),
                server.geography_seconds.map(ago).unwrap_or_default().into(),
            ]);
        }
        if !table.is_empty() {
            page.title("Name servers");
            page.table(&table);
        }
    }

    fn show_certificates(&self, page: &mut Page) {
        let theme = page.theme();
        let now = unix_seconds(SystemTime::now());
        let from_now = |unix: u64| figures::seconds(unix.saturating_sub(now));
        let mut table = Table::new(["NAME", "ISSUED BY", ">ENDS IN", ">RENEWED IN"]);
        for report in &self.certificates {
            let Some(stored) = &report.known.certificate else {
                table.row([
                    report.name.as_str().into(),
                    Cell::styled("nobody yet", theme.warning),
                    "".into(),
                    "".into(),
                ]);
                continue;
            };
            let style = if stored.late { theme.warning } else { theme.good };
            table.row([
                Cell::from(report.name.as_str()),
                stored.authority.as_str().into(),
                Cell::styled(from_now(stored.ends_unix), style),
                from_now(stored.due_unix).into(),
            ]);
        }
        if !table.is_empty() {
            page.title("Certificates of public authorities");
            page.table(&table);
        }
    }

    fn show_archive(&self, page: &mut Page) {
        if self.archive.is_empty() {
            return;
        }
        page.title("Archive");
        let ago = |seconds: u64| format!("{} ago", figures::seconds(seconds));
        let mut table = Table::new(["OF", "SNAPSHOT", ">PROVEN", ">AS A WHOLE"]);
        for backed in &self.archive {
            table.row([
                Cell::from(&backed.of),
                short(&backed.snapshot).into(),
                ago(backed.verified_seconds).into(),
                backed.whole_seconds.map(ago).unwrap_or_default().into(),
            ]);
        }
        page.table(&table);
        if self.archive_copies.is_empty() {
            return;
        }
        let mut table = Table::new(["COPY", "AT", ">IN STEP", ">READ AS A WHOLE"]);
        for copy in &self.archive_copies {
            table.row([
                Cell::from(copy.name.as_str()),
                copy.at.as_str().into(),
                match copy.in_step_seconds {
                    Some(_) if !copy.behind => "yes".to_owned(),
                    Some(seconds) => ago(seconds),
                    None => "never".to_owned(),
                }
                .into(),
                copy.read_seconds.map(ago).unwrap_or_default().into(),
            ]);
        }
        page.table(&table);
    }

    fn show_sites(&self, page: &mut Page) {
        let theme = page.theme();
        for site in &self.sites {
            page.title(format_args!("Site {} ({})", site.name, site.app));
            let mut table = Table::new(["AT", "ADDRESS", "ROLE", ">PAGES", ">SIZE", ">CONFIRMED"]);
            for copy in &site.copies {
                let style = if copy.complete { theme.good } else { theme.warning };
                let age = copy.age_seconds.map(|age| format!("{} ago", figures::seconds(age)));
                table.row([
                    at(&copy.datacenter, copy.host.as_ref()).into(),
                    copy.url.to_string().into(),
                    match copy.role {
                        sovereign_model::edge_status::Role::Primary => "primary".into(),
                        sovereign_model::edge_status::Role::Mirror => "mirror".into(),
                    },
                    Cell::styled(format!("{} of {}", copy.pages_kept, copy.pages_known), style),
                    size(copy.bytes, copy.bytes_known).into(),
                    age.unwrap_or_default().into(),
                ]);
            }
            page.table(&table);
            for copy in &site.copies {
                if let Some(left_out) = copy.room.as_ref().and_then(CopyRoom::left_out_text) {
                    page.line(format_args!("{}: {left_out}", at(&copy.datacenter, copy.host.as_ref())));
                }
            }
            if site.private {
                page.line("private: readers need its password, mirrors keep nothing");
            }
            if let Some(outgoing) = &site.outgoing {
                page.line(outgoing);
            }
        }
    }
}
