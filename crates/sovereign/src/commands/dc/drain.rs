//! `sovereign dc drain` and `sovereign dc undrain`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sovereign_dns::away::Place;
use sovereign_dns::zone::ADDRESS_TTL;
use sovereign_model::name_server_status::WhyAway;
use sovereign_model::{DatacenterName, DnsName, EdgeName};

use super::{Outcome, Wish, decide, known, show_untold};
use crate::adopted;
use crate::cli::{DcDrainArgs, DcUndrainArgs};
use crate::context::Context;
use crate::datacenters::Matter;
use crate::declared::Declared;
use crate::drain::{Stranded, answered_elsewhere, stranded};
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::gather::Gathered;
use crate::output::{Page, Report, StageTime, figures};

/// A data center was taken out of answers, or put back.
#[derive(Debug, Serialize)]
pub(crate) struct Drained {
    datacenter: DatacenterName,
    /// Whether it is out now.
    drained: bool,
    /// Whether it was otherwise before.
    changed: bool,
    /// Name servers that answer so.
    told: Vec<EdgeName>,
    /// Name servers that do not yet, and why.
    untold: BTreeMap<EdgeName, String>,
    /// How long resolvers remember its addresses, in seconds.
    remembered_seconds: u32,
    /// Names of sites there that others answer for.
    answered_elsewhere: BTreeSet<DnsName>,
    stages: Vec<StageTime>,
}

impl Report for Drained {
    fn show(&self, page: &mut Page) {
        let Self { datacenter, drained, changed, told, .. } = self;
        match (drained, changed) {
            (true, true) => page.line(format_args!("{datacenter} is taken out of answers")),
            (true, false) => page.line(format_args!("{datacenter} was taken out of answers before")),
            (false, true) => page.line(format_args!("{datacenter} is named in answers again")),
            (false, false) => page.line(format_args!("{datacenter} was not taken out of answers")),
        }
        let told_text = told.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if *drained && !told.is_empty() {
            let remembered = figures::seconds(self.remembered_seconds.into());
            page.line(format_args!("not named any more by {told_text}; resolvers forget it within {remembered}"));
            page.line("its edges go on serving whoever comes");
        } else if !told.is_empty() {
            page.line(format_args!("named, where its addresses answer, by {told_text}"));
        }
        if !self.answered_elsewhere.is_empty() {
            let names: Vec<&str> = self.answered_elsewhere.iter().map(DnsName::as_str).collect();
            let warning = page.theme().warning;
            page.line(format_args!("{warning}others answer for{warning:#} {}", names.join(", ")));
            page.help("`sovereign dns show` prints what to write down there");
        }
        show_untold(&self.untold, "the name server", page);
        if *drained {
            page.help(format_args!("`sovereign dc undrain {datacenter}` puts it back"));
        }
    }

    fn exit(&self) -> Exit {
        if self.untold.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// It is of no use.
#[derive(Debug, thiserror::Error)]
enum NotDrained {
    #[error("the stack has no name server of its own, so nobody could leave {0} out of answers")]
    NoNameServer(DatacenterName),
    #[error("without {datacenter} readers of {} would be led to nobody", list(sites))]
    Stranded { datacenter: DatacenterName, sites: Stranded },
}

impl Reason for NotDrained {
    fn exit(&self) -> Exit {
        match self {
            Self::NoNameServer(_) => Exit::Usage,
            Self::Stranded { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoNameServer(_) => {
                "change the records where your domains are answered for: `sovereign dns show --without NAME`".to_owned()
            }
            Self::Stranded { .. } => {
                "give them a mirror that lives elsewhere; with `--force` the other sites leave it, and \
                 these are led there as before"
                    .to_owned()
            }
        })
    }
}

fn list(sites: &Stranded) -> String {
    let each = sites.iter().map(|(site, seers)| {
        let seers: Vec<String> = seers.iter().map(ToString::to_string).collect();
        if seers.is_empty() { site.clone() } else { format!("{site} (as {} sees the others)", seers.join(", ")) }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// What each name server leaves out because it does not answer.
fn views(gathered: &Gathered) -> BTreeMap<EdgeName, BTreeSet<Place>> {
    let told = gathered.name_servers.iter().filter_map(|(at, status)| Some((at, status.as_ref().ok()?)));
    let dead = told.map(|(at, status)| {
        let dead = status.away.iter().filter(|away| away.why == WhyAway::Dead);
        (at.clone(), dead.map(|away| (away.datacenter.clone(), away.address)).collect())
    });
    dead.collect()
}

/// `dc drain`.
///
/// # Errors
/// When it would leave readers nobody, or somebody who answers could not be told.
pub(crate) fn drain(context: &Context, args: &DcDrainArgs) -> Result<Drained, Failure> {
    let DcDrainArgs { datacenter, force, yes, lease } = args;
    let wish = Wish {
        command: "dc drain",
        matter: Matter::Drained,
        datacenters: std::slice::from_ref(datacenter),
        on: true,
        lease,
        yes: *yes,
    };
    run(context, &wish, datacenter, *force)
}

/// `dc undrain`.
///
/// # Errors
/// When somebody who answers could not be told.
pub(crate) fn undrain(context: &Context, args: &DcUndrainArgs) -> Result<Drained, Failure> {
    let DcUndrainArgs { datacenter, yes, lease } = args;
    let wish = Wish {
        command: "dc undrain",
        matter: Matter::Drained,
        datacenters: std::slice::from_ref(datacenter),
        on: false,
        lease,
        yes: *yes,
    };
    run(context, &wish, datacenter, true)
}

fn run(context: &Context, wish: &Wish<'_>, datacenter: &DatacenterName, force: bool) -> Result<Drained, Failure> {
    let declared = Declared::load(context)?;
    let stack = declared.stack.clone();
    known(&stack, datacenter)?;
    adopted::nothing_vanishes(&declared)?;
    if wish.on && stack.public_name_servers().next().is_none() {
        return Err(NotDrained::NoNameServer(datacenter.clone()).into());
    }
    let Outcome { changed, told, untold, stages } = decide(context, declared, wish, |next, gathered| {
        let sites = stranded(&stack, &next.names(Matter::Drained), &views(gathered));
        if force || sites.is_empty() {
            return Ok(());
        }
        Err(NotDrained::Stranded { datacenter: datacenter.clone(), sites }.into())
    })?;
    Ok(Drained {
        drained: wish.on,
        changed,
        told,
        untold,
        remembered_seconds: ADDRESS_TTL,
        answered_elsewhere: answered_elsewhere(&stack, wish.datacenters),
        stages,
        datacenter: datacenter.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Theme;

    fn page(drained: &Drained) -> String {
        let mut page = Page::new(Theme::PLAIN);
        drained.show(&mut page);
        page.into_text()
    }

    #[test]
    fn it_says_who_acts_on_it_and_until_when_somebody_may_come() {
        let told = ["home/home-1", "office/office-1"].map(|at| at.parse().unwrap()).to_vec();
        let all = Drained {
            datacenter: "office".parse().unwrap(),
            drained: true,
            changed: true,
            told,
            untold: BTreeMap::new(),
            remembered_seconds: ADDRESS_TTL,
            answered_elsewhere: BTreeSet::new(),
            stages: Vec::new(),
        };
        insta::assert_snapshot!(page(&all), @r"
        office is taken out of answers
        not named any more by home/home-1, office/office-1; resolvers forget it within 30 s
        its edges go on serving whoever comes
        help: `sovereign dc undrain office` puts it back
        ");
        assert_eq!(all.exit(), Exit::Done);
        let partly = Drained {
            changed: false,
            told: vec!["home/home-1".parse().unwrap()],
            untold: BTreeMap::from([("office/office-1".parse().unwrap(), "no route to it".to_owned())]),
            answered_elsewhere: BTreeSet::from(["www.example.net".parse().unwrap()]),
            ..all
        };
        insta::assert_snapshot!(page(&partly), @r"
        office was taken out of answers before
        not named any more by home/home-1; resolvers forget it within 30 s
        its edges go on serving whoever comes
        others answer for www.example.net
        help: `sovereign dns show` prints what to write down there
        not told: the name server of office/office-1: no route to it
        help: `sovereign up`, or the same command, tells them when they answer again
        help: `sovereign dc undrain office` puts it back
        ");
        assert_eq!(partly.exit(), Exit::Attention);
    }
}
