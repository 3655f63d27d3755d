//! Files: who may read and change keys, configuration and programs, and who may come in.

use std::path::Path;

use super::{File, Findings, Seen, Wanted};

const SUBJECT: &str = "files";
const KEYS: &str = "keys";
/// What an edge may write.
const EDGES_OWN: [&str; 3] = ["store", "run", "log"];
/// What lies beside it for root alone: a copy of the archive, what is read for backups.
const ROOTS_OWN: [&str; 3] = ["archive", "sites", "set-up"];

pub(super) fn judge(seen: &Seen, wanted: &Wanted, all: &mut Findings) {
    for (path, file) in &seen.files {
        let (kind, mode, owner) = right(path, file, wanted);
        let what = path.display();
        if file.kind != kind {
            let is = if file.kind == 'l' { "a link" } else { "no file or folder that belongs there" };
            all.drift(SUBJECT, format_args!("{what} is {is}"), "look at it on the host, and remove it");
        } else if is_wrong(path, file, mode, owner) {
            let sentence = format!("{what} is {:04o} {}, and should be {mode:04o} {owner}", file.mode, file.owner);
            all.drift(SUBJECT, sentence, format_args!("on the host: `chown {owner} {what}; chmod {mode:04o} {what}`"));
        }
    }
    for files in &seen.changed {
        let help = format!(
            "on the host: `rm -r {files}`; `sovereign up` sends them again, and what edges keep is read meanwhile"
        );
        all.drift(SUBJECT, format_args!("the files in {files} are not as they were sent"), help);
    }
    for needed in [Path::new("/opt/sovereign"), &wanted.state, &wanted.edge] {
        if !wanted.services.is_empty() && !seen.files.contains_key(needed) {
            all.drift(SUBJECT, format_args!("{} is not there", needed.display()), "`sovereign up` makes it");
        }
    }
    all.else_fine(
        SUBJECT,
        format_args!("{} belong to whom they should, and nobody else may use them", seen.files.len()),
    );
    authorized(seen, wanted, all);
}

/// The keys' own folder may be stricter than it has to be.
fn is_wrong(path: &Path, file: &File, mode: u32, owner: &str) -> bool {
    let wrong_mode = if path.starts_with("/root/.ssh") { file.mode & 0o022 != 0 } else { file.mode != mode };
    wrong_mode || (file.owner != owner)
}

/// What a file there should be.
fn right(path: &Path, file: &File, wanted: &Wanted) -> (char, u32, &'static str) {
    let is_folder = file.kind == 'd';
    if path.starts_with("/root/.ssh") {
        return if path == Path::new("/root/.ssh") { ('d', 0o700, "root:root") } else { ('f', 0o600, "root:root") };
    }
    if let Ok(within) = path.strip_prefix(&wanted.edge) {
        let name = within.to_str().unwrap_or_default();
        return match name {
            // Certificates of public authorities lie in the second.
            "" | "public" => ('d', 0o750, "root:sovereign"),
            name if name == "files" || name.starts_with("files/") => ('d', 0o750, "root:sovereign"),
            "renewal" => ('d', 0o2750, "sovereign:sovereign-renewer"),
            name if EDGES_OWN.contains(&name) => ('d', 0o700, "sovereign:sovereign"),
            _ => ('f', 0o640, "root:sovereign"),
        };
    }
    if let Ok(within) = path.strip_prefix(&wanted.agent) {
        return match within.to_str().unwrap_or_default() {
            "" => ('d', 0o750, "root:sovereign-agent"),
            // Its socket is there for the name server too.
            "run" => ('d', 0o750, "sovereign-agent:sovereign-agent"),
            _ => ('f', 0o640, "root:sovereign-agent"),
        };
    }
    if let Ok(within) = path.strip_prefix(&wanted.name_server) {
        return match within.to_str().unwrap_or_default() {
            "" => ('d', 0o750, "root:sovereign-names"),
            "renewal" => ('d', 0o2750, "sovereign-names:sovereign-renewer"),
            "run" | "knot" => ('d', 0o700, "sovereign-names:sovereign-names"),
            _ => ('f', 0o640, "root:sovereign-names"),
        };
    }
    if let Ok(within) = path.strip_prefix(&wanted.renewer) {
        return match within.to_str().unwrap_or_default() {
            "" => ('d', 0o750, "root:sovereign-renewer"),
            "run" | "certificates" => ('d', 0o700, "sovereign-renewer:sovereign-renewer"),
            _ => ('f', 0o640, "root:sovereign-renewer"),
        };
    }
    let beside = wanted.edge.parent().and_then(|place| path.strip_prefix(place).ok()?.to_str());
    if beside.is_some_and(|name| ROOTS_OWN.contains(&name)) {
        return ('d', 0o700, "root:root");
    }
    match path.strip_prefix("/opt/sovereign") {
        Ok(within) if within.components().count() == 2 => ('f', 0o755, "root:root"),
        Ok(_) => ('d', 0o755, "root:root"),
        Err(_) if path.starts_with("/etc/sovereign") && path != Path::new("/etc/sovereign") => {
            ('f', 0o644, "root:root")
        }
        Err(_) if is_folder => ('d', 0o755, "root:root"),
        // Nothing lies on the way to the edge's folder but folders.
        Err(_) => ('d', 0o755, "root:root"),
    }
}

fn authorized(seen: &Seen, wanted: &Wanted, all: &mut Findings) {
    let again = format!("`sovereign host add` for {} again lets the stack's keys in, and no others of it", wanted.host);
    let lines = || seen.authorized.iter().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let ours = [wanted.authorized.management.trim(), wanted.authorized.recovery.trim()];
    for (what, key) in ["the key for daily work", "the key for recovery"].iter().zip(ours) {
        if !lines().any(|line| line == key) {
            all.drift(KEYS, format_args!("{what} is not let in as it should be"), &again);
        }
    }
    for line in lines().filter(|line| !ours.contains(&line.as_str())) {
        let comment = line.rsplit(' ').next().unwrap_or_default();
        if comment.starts_with(&wanted.comments) {
            all.drift(KEYS, format_args!("a key that is none of the stack's calls itself {comment}"), &again);
        } else {
            let kind = line.split(' ').find(|word| word.contains("ssh-") || word.contains("ecdsa-")).unwrap_or("a key");
            let help = "when nobody needs it, remove its line from /root/.ssh/authorized_keys";
            all.warn("other keys", format_args!("somebody else is let in as root: {kind} {comment}"), help);
        }
    }
    all.else_fine(KEYS, "the stack's keys are let in");
}
