//! Everything that a stack keeps, and what becomes of it when it is lost: one list, from which docs/what-is-saved.md is
//! made. A test looks whether every file of a state folder is in it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{LOCKS, STATE_PARTS, StatePart};

/// What is kept of one kind, where, and what it takes to have it again.
struct Row {
    what: String,
    /// Below the state folder, `*` for a name; elsewhere where it begins with another sign.
    lives: Vec<&'static str>,
    saved: &'static str,
    back: &'static str,
    loss: &'static str,
}

const SINCE: &str = "what came after the last backup";
const NOTHING: &str = "nothing";

fn row(what: &str, lives: &[&'static str], saved: &'static str, back: &'static str, loss: &'static str) -> Row {
    Row { what: what.to_owned(), lives: lives.into(), saved, back, loss }
}

fn rows() -> Vec<Row> {
    let site = "snapshot of the site";
    let mut rows = vec![
        row(
            "Ghost: posts, pages, members, staff, settings",
            &["dc/*/sites/*/data"],
            "snapshot of the site, `database/`: a dump at one moment",
            "`sovereign restore`",
            SINCE,
        ),
        row(
            "Ghost: pictures, files, themes that were uploaded",
            &["dc/*/sites/*/content"],
            "snapshot of the site, `content/`",
            "`sovereign restore`",
            SINCE,
        ),
        row(
            "a Ghost on a host: all of that",
            &["volumes of the host's Incus"],
            "snapshot of the site, `database/ghost.sql` and `content/`",
            "`sovereign restore`",
            SINCE,
        ),
        row(
            "Ghost: the keys it made for its edge",
            &["dc/*/set-up", "hosts/*/*/set-up"],
            site,
            "`sovereign restore`",
            SINCE,
        ),
        row("folders of `static` sites", &["your folder"], site, "`sovereign restore`", SINCE),
        row(
            "data of `upstream` sites",
            &["your service"],
            "what its `dump` writes; nothing without one",
            "`sovereign restore`, then `sovereign site load`",
            "what came after the last backup; all of it without a `dump`",
        ),
        row(
            "what a restore has replaced",
            &["dc/*/restore", "snapshots of volumes of the host's Incus"],
            "before it is replaced: snapshot of the site",
            "`sovereign restore`, with `--undo`",
            "what the site could not be backed up with before it was replaced",
        ),
    ];
    for StatePart { name, what, .. } in STATE_PARTS {
        let lives = match *name {
            "stack.toml" => "the stack file",
            LOCKS => "the folder `stack.images` beside the stack file",
            "epochs.json" => "keys/epochs.json",
            "hosts.json" => "hosts/hosts.json",
            other => other,
        };
        rows.push(row(what, &[lives], "snapshot `(state)`", "`sovereign recover`", SINCE));
    }
    rows.extend([
        row(
            "the root seed",
            &["seed"],
            "**on your paper**, nowhere else",
            "`sovereign recover`, `sovereign seed restore`",
            "everything",
        ),
        row(
            "working keys, those that sign zones among them",
            &["keys"],
            "not: they follow from the root seed",
            "`sovereign up`",
            NOTHING,
        ),
        row(
            "a host's pinned key as SSH reads it; the public key for recovery",
            &["hosts/*/*", "hosts/recovery.json"],
            "not: they follow from the record of hosts and the root seed",
            "made again by itself",
            NOTHING,
        ),
        row(
            "what edges are told, their certificates and keys",
            &["dc/*/edge/*.json", "dc/*/edge/*.pem", "dc/*/edge/*.key", "dc/*/edge/public"],
            "not: they are made from the stack file and the root seed, or copies of those of public authorities",
            "`sovereign up`",
            NOTHING,
        ),
        row(
            "what renewers on hosts know: accounts, what was tried, keys of open orders",
            &["the folder `renewer` of each host's state"],
            "not; certificates that they got are brought back here",
            "`sovereign up`; accounts are made anew",
            NOTHING,
        ),
        row(
            "pages that edges keep",
            &["dc/*/edge/store", "dc/*/edge/filled"],
            "not: they are the sites' own",
            "fetched again by themselves",
            NOTHING,
        ),
        row("access logs", &["dc/*/edge/log"], "not", "not at all", "all of them"),
        row("what units wrote", &["logs"], "not", "not at all", "all of it"),
        row(
            "images: what applications run",
            &["the image store"],
            "with `images = true`: snapshot `(images)`",
            "`sovereign up` builds them from their lock; `sovereign images restore`",
            NOTHING,
        ),
        row("this program", &["bin"], "not", "build or copy it", NOTHING),
        row(
            "what is known of the archive: which it is, what is proven",
            &["archive"],
            "not",
            "`sovereign recover`, as far as it restores; the next backup proves everything anew",
            NOTHING,
        ),
        row(
            "a copy of the archive at a data center",
            &["dc/*/archive"],
            "it is one",
            "`sovereign archive copy`",
            NOTHING,
        ),
        row(
            "how Ghost is configured and started; dumps; sockets; locks; what was read of static sites; what a drill works on",
            &[
                "drill",
                "dc/*/sites/*/run",
                "dc/*/sites/*/dump",
                "dc/*/sites/*/current",
                "dc/*/sites/*/*.json",
                "dc/*/sites/*/*.cjs",
                "dc/*/sites/*/adapters",
                "dc/*/sites/*/tmp",
                "dc/*/edge/run",
                "run",
                "lock",
                "state.json.*",
                "files-read.json",
            ],
            "not",
            "made again by itself",
            NOTHING,
        ),
    ]);
    rows
}

/// The page.
fn page() -> String {
    let mut page = "\
# What is saved

Everything that a stack keeps, and what becomes of it. Places are below the state folder, unless they are named in words.
This page is made from the program's own list, and a test looks whether each file of a real stack is in it.

| what | where | how it is saved | how it comes back | what can be lost |
|---|---|---|---|---|
"
    .to_owned();
    for Row { what, lives, saved, back, loss } in rows() {
        let place = |place: &&str| if place.contains(' ') { (*place).to_owned() } else { format!("`{place}`") };
        let lives = lives.iter().map(place).collect::<Vec<_>>().join(", ");
        writeln!(page, "| {what} | {lives} | {saved} | {back} | {loss} |").expect("a String takes any text");
    }
    page.push_str(
        "\nOnion keys and Bitcoin wallets do not exist yet: see the README.\nWhen and how backups are made: [the archive](archive.md).\n",
    );
    page
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/what-is-saved.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page(),
        "docs/what-is-saved.md drifted from the list: UPDATE_DOCS=1 cargo test -p sovereign coverage"
    );
}
