//! The units of systemd: their files, what else decides how they run, and what runs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Seen, Service, Unit, Wanted};

const SUBJECT: &str = "units";
const PROGRAM: &str = "program";
/// Where ours lie. Elsewhere are files that take their place, or that nobody of ours wrote.
const FOLDER: &str = "/etc/systemd/system";
/// So many lines of a difference are told.
const TOLD: usize = 3;

pub(super) fn judge(seen: &Seen, wanted: &Wanted, all: &mut Findings) {
    let names: BTreeSet<&str> = wanted.units.iter().map(|file| file.name.as_str()).collect();
    let others: Vec<Option<&String>> = wanted.services.iter().map(|service| another(seen, service)).collect();
    let passed: Vec<&str> = wanted
        .services
        .iter()
        .zip(&others)
        .filter_map(|(service, other)| other.map(|_| service.name.as_str()))
        .collect();
    for file in wanted.units.iter().filter(|file| !passed.contains(&file.name.as_str())) {
        let again = "put it right on the host, `systemctl daemon-reload`, and restart it; or `sovereign down`, then \
                     `sovereign up`, which writes those of the stack's units anew";
        match seen.units.get(&file.name) {
            Some(Unit { text: Some(text), .. }) if *text == file.text => {}
            Some(Unit { text: Some(text), .. }) => {
                all.drift(SUBJECT, format_args!("{} is another: {}", file.name, differs(text, &file.text)), again);
            }
            _ if wanted.may_lack.contains(&file.name) => {}
            _ => all.drift(SUBJECT, format_args!("{} is not there", file.name), again),
        }
    }
    for (name, unit) in &seen.units {
        // What a link leads to is looked at under its own name.
        if unit.link.is_none() {
            loaded(name, unit, all);
        }
        let is_alias = wanted.services.iter().any(|service| service.alias == *name);
        if !names.contains(name.as_str()) && !is_alias && !others.contains(&Some(name)) {
            stranger(name, unit, wanted, all);
        }
    }
    for (service, other) in wanted.services.iter().zip(&others) {
        match other {
            Some(other) => {
                let help = "`sovereign up` has it run as it is described; before that it cannot be compared";
                let sentence = format!("{} runs as {other}, and is described as {}", service.unit, service.name);
                all.drift(SUBJECT, sentence, help);
            }
            None => runs(seen, service, all),
        }
    }
    if let (Some(first), true) = (wanted.services.first(), others.contains(&None)) {
        programs(seen, first, all);
    }
    all.else_fine(SUBJECT, format_args!("{} as they are described, and nothing changes them", seen.units.len()));
}

/// The service of another description that starts in the place of the wanted one, which is not there.
fn another<'s>(seen: &'s Seen, service: &Service) -> Option<&'s String> {
    let link = seen.units.get(&service.alias)?.link.as_ref()?.rsplit('/').next()?;
    let (name, _) = seen.units.get_key_value(link)?;
    (!seen.units.contains_key(&service.name) && is_of(name, service)).then_some(name)
}

/// Whether it is a service of this unit, of whichever description.
fn is_of(name: &str, service: &Service) -> bool {
    let base = service.alias.strip_suffix(".service");
    let digest = base.and_then(|base| name.strip_prefix(base)?.strip_prefix('.')?.strip_suffix(".service"));
    digest.is_some_and(|digest| !digest.contains('.'))
}

/// What systemd has in memory is what lies in our file, and nothing beside it.
fn loaded(name: &str, unit: &Unit, all: &mut Findings) {
    let property = |key: &str| unit.properties.get(key).map_or("", String::as_str);
    let drop_ins = property("DropInPaths");
    if !drop_ins.is_empty() {
        let help = format!("look at it, then `systemctl revert {name}` on the host");
        all.drift(SUBJECT, format_args!("{name} is changed by {drop_ins}"), help);
    }
    if property("NeedDaemonReload") == "yes" {
        let sentence = format!("{name} runs as another text than its file's");
        all.drift(SUBJECT, sentence, "`systemctl daemon-reload` on the host, then `sovereign audit` again");
    }
    let file = property("FragmentPath");
    if !file.is_empty() && !file.starts_with(&format!("{FOLDER}/sovereign-")) {
        all.drift(
            SUBJECT,
            format_args!("{name} comes from {file}"),
            format_args!("remove it on the host: `rm {file}`"),
        );
    }
}

/// A unit of our names that nothing describes. The last one of each service stays, to go back to, and does not run.
fn stranger(name: &str, unit: &Unit, wanted: &Wanted, all: &mut Findings) {
    let property = |key: &str| unit.properties.get(key).map_or("", String::as_str);
    let (active, enabled) = (property("ActiveState"), property("UnitFileState"));
    let is_before = wanted.services.iter().any(|service| is_of(name, service));
    if is_before && matches!(active, "inactive" | "failed" | "deactivating") && enabled != "enabled" {
        return;
    }
    let help = "`sovereign plan` says whether `sovereign up` has something to do; else remove it on the host";
    all.drift(SUBJECT, format_args!("nothing describes {name} ({active}, {enabled})"), help);
}

/// What a service runs now, and would at boot.
fn runs(seen: &Seen, service: &Service, all: &mut Findings) {
    let Service { unit: _, name: service, alias, program: (path, digest) } = service;
    let up = "`sovereign up` has it run as it is described; before that nothing of it can be compared";
    let link = seen.units.get(alias).and_then(|unit| unit.link.as_deref()).unwrap_or("nothing");
    if link.rsplit('/').next() != Some(service) {
        all.drift(SUBJECT, format_args!("at boot {link} would start as {alias}, and not {service}"), up);
    }
    let runs = seen.units.get(service);
    let active = runs.and_then(|unit| unit.properties.get("ActiveState")).map_or("not there", String::as_str);
    if active != "active" {
        all.drift(SUBJECT, format_args!("{service} is {active}"), up);
    }
    match runs.and_then(|unit| unit.runs.as_ref()) {
        Some((running, at)) if *running == digest.hex() && path.as_os_str() == at.as_str() => {}
        Some((running, at)) => {
            all.drift(
                PROGRAM,
                format_args!("{service} runs {at} (sha256:{})", running.get(..12).unwrap_or(running)),
                up,
            );
        }
        None => all.drift(PROGRAM, format_args!("{service} runs no program"), up),
    }
}

/// Each program lies below its own digest. All services run this one.
fn programs(seen: &Seen, service: &Service, all: &mut Findings) {
    let is_named = |(path, digest): &(&std::path::PathBuf, &String)| {
        path.parent().and_then(|folder| folder.file_name()).is_some_and(|name| name == digest.as_str())
    };
    for (path, digest) in seen.programs.iter().filter(|program| !is_named(program)) {
        let sentence =
            format!("{} is sha256:{}, not what it is called", path.display(), digest.get(..12).unwrap_or(digest));
        all.drift(PROGRAM, sentence, "remove it on the host, then `sovereign up`");
    }
    all.else_fine(PROGRAM, format_args!("sha256:{}, this one", service.program.1.short()));
}

/// What is there too much, and what is missing: in a unit each line counts as often as it is there.
fn differs(found: &str, right: &str) -> String {
    let count = |text: &str| {
        text.lines().fold(BTreeMap::<String, isize>::new(), |mut all, line| {
            *all.entry(line.to_owned()).or_default() += 1;
            all
        })
    };
    let (found, right) = (count(found), count(right));
    let of = |all: &BTreeMap<String, isize>, line: &String| all.get(line).copied().unwrap_or_default();
    let more = found.keys().filter(|line| of(&found, line) > of(&right, line)).map(|line| format!("more `{line}`"));
    let less = right.keys().filter(|line| of(&right, line) > of(&found, line)).map(|line| format!("without `{line}`"));
    let all: Vec<String> = more.chain(less).collect();
    match all.len() {
        0 => "the same lines in another order".to_owned(),
        count if count > TOLD => format!("{}; and {} more differences", all[..TOLD].join("; "), count - TOLD),
        _ => all.join("; "),
    }
}
