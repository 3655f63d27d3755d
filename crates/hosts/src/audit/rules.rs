//! The packet filters: what is in effect beside what should be.

use super::{Findings, HOST_RULES, INSTANCES_RULES, Seen, Wanted};
use crate::facts::Facts;

const SUBJECT: &str = "packet filter";
/// Tables of the host's Incus: who speaks with which address on its bridge.
const OF_INCUS: &str = "incus";
/// So many lines of a difference are told.
const TOLD: usize = 3;

pub(super) fn judge(facts: &Facts, seen: &Seen, wanted: &Wanted, all: &mut Findings) {
    for (file, right) in wanted.rules(facts) {
        let again = if file == HOST_RULES {
            format!("first stop what should not listen; then `sovereign host add` for {} again writes it", wanted.host)
        } else {
            "it is written when an instance is replaced: `sovereign rotate database/SITE`, then `sovereign up`"
                .to_owned()
        };
        let right: Vec<String> = right.lines().map(str::to_owned).collect();
        match seen.at_boot.get(file) {
            None => all.drift(
                SUBJECT,
                format_args!("{file} is not there, so nothing is filtered after the next start"),
                &again,
            ),
            Some(text) if same(text) == same(&right) => {}
            Some(text) => all.drift(
                SUBJECT,
                format_args!("{file}, for the next start, is another: {}", differs(text, &right)),
                &again,
            ),
        }
    }
    let Some(right) = &seen.wanted else {
        return all.unseen(
            SUBJECT,
            "what nft makes of the rules that should be in effect cannot be seen there",
            "see that `unshare --net nft list tables` works on the host",
        );
    };
    for (table, right) in right {
        let file = if table.ends_with(" sovereign") { HOST_RULES } else { INSTANCES_RULES };
        let again =
            format!("first stop what should not listen; then `nft -f {file}` on the host loads what the file has");
        match seen.loaded.get(table) {
            None => all.drift(SUBJECT, format_args!("the table {table} is not in effect"), &again),
            Some(loaded) if same(loaded) == same(right) => {}
            Some(loaded) => {
                all.drift(SUBJECT, format_args!("the table {table} is another: {}", differs(loaded, right)), &again)
            }
        }
    }
    for table in seen.loaded.keys().filter(|table| !right.contains_key(*table)) {
        // Where there are no instances any more the rules of the last ones let nothing pass.
        if wanted.instances.is_none() && table.ends_with(" sovereign_instances") {
            continue;
        }
        all.drift(
            SUBJECT,
            format_args!("nothing wants the table {table}"),
            format_args!("`nft delete table {table}` on the host"),
        );
    }
    let is_known = |table: &&String| seen.loaded.contains_key(*table) || table.rsplit(' ').next() == Some(OF_INCUS);
    let others: Vec<_> = seen.tables.iter().filter(|table| !is_known(table)).cloned().collect();
    if !others.is_empty() {
        let sentence = format!("others filter packets there, too: {}", others.join(", "));
        all.warn("other filters", sentence, "they can close what the stack opens, and open nothing that it closes");
    }
    let names: Vec<_> = right.keys().map(String::as_str).collect();
    all.else_fine(SUBJECT, format_args!("as it should be: {}", names.join(", ")));
}

/// Lines without what only looks different.
fn same(lines: &[String]) -> Vec<String> {
    let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.iter().map(words).filter(|line| !line.is_empty()).collect()
}

/// What is there too much, and what is missing.
fn differs(loaded: &[String], right: &[String]) -> String {
    let (loaded, right) = (same(loaded), same(right));
    let more = loaded.iter().filter(|line| !right.contains(line)).map(|line| format!("more `{line}`"));
    let less = right.iter().filter(|line| !loaded.contains(line)).map(|line| format!("without `{line}`"));
    let all: Vec<String> = more.chain(less).collect();
    match all.len() {
        0 => "the same lines in another order".to_owned(),
        count if count > TOLD => format!("{}; and {} more differences", all[..TOLD].join("; "), count - TOLD),
        _ => all.join("; "),
    }
}
