//! What a host says, judged. Pure.

use super::{Finding, Findings, Open, Seen, Wanted, files, ports, rules, units};
use crate::facts::Facts;

/// Everything that was compared, and all that listens.
pub fn inside(facts: &Facts, seen: &Seen, wanted: &Wanted) -> (Vec<Open>, Vec<Finding>) {
    let mut all = Findings::new();
    let open = ports::open(facts, wanted);
    ports::judge(&open, facts, wanted, &mut all);
    if wanted.open_before.is_none() {
        all.unseen(
            "open before",
            "what listened before the host was made ready was not written down here",
            format_args!("`sovereign host add` for {} again writes it down", wanted.host),
        );
    }
    incus(facts, wanted, &mut all);
    rules::judge(facts, seen, wanted, &mut all);
    units::judge(seen, wanted, &mut all);
    files::judge(seen, wanted, &mut all);
    (open, all.into_all())
}

/// Where the API of the host's Incus listens: alone nowhere but on its socket.
fn incus(facts: &Facts, wanted: &Wanted, all: &mut Findings) {
    const SUBJECT: &str = "incus api";
    let Some(incus) = facts.incus.as_ref().filter(|incus| !incus.version.is_empty()) else {
        return all.unseen(SUBJECT, "it does not answer", "`sovereign host check` says more");
    };
    let is_member = incus.clustered && !wanted.peers.is_empty();
    if incus.api_address.is_empty() {
        all.fine(SUBJECT, "listens on its socket only");
    } else if is_member && facts.address.is_some_and(|address| incus.listens_on(address)) {
        all.fine(SUBJECT, format_args!("listens on {} for the other hosts of the data center", incus.api_address));
    } else {
        let sentence = format!("listens on {} (core.https_address)", incus.api_address);
        all.drift(SUBJECT, sentence, "`incus config unset core.https_address` on the host");
    }
}
