//! The files of a Ghost: its configuration and the pieces of ours that run inside it.

use serde_json::{Map, Value, json};
use sovereign_model::stack::Site;

use super::Home;
use crate::folder::{FileSpec, FolderSpec, Layout, LinkSpec};

pub(super) const PREPARE: &str = include_str!("assets/prepare.cjs");
pub(super) const GUARD: &str = include_str!("assets/guard.cjs");
pub(super) const OPERATOR: &str = include_str!("assets/operator.cjs");
pub(super) const SCHEDULING: &str = include_str!("assets/scheduling.js");

/// What Ghost answers when something wants to send mail. Ghost shows it to people, after "Reason: ".
const NO_MAIL: &str = "this site sends no mail; its operator makes one-time links with `sovereign site staff`";

/// Folders only Ghost's user enters; it writes there.
pub(super) const WRITABLE: [&str; 4] = ["content", "data", "run", "tmp"];

/// Everything of ours in the site's folder. No secret is in it.
///
/// The `write` folders of the unit are to be handed to Ghost's user where it has one of its own. Nothing below them is
/// ours to write: `prepare.cjs` does that, as that user.
pub fn layout(home: &Home<'_>) -> Layout {
    let folder = |path: &str, mode| FolderSpec { path: home.folder.join(path), mode };
    let own = FolderSpec { path: home.folder.to_owned(), mode: 0o755 };
    let file = |path: &str, text: &str| FileSpec {
        path: home.folder.join(path),
        content: text.as_bytes().to_vec(),
        mode: 0o644, // read by Ghost's user; the folders above keep others out
    };

    let mut folders = vec![own, folder("adapters/scheduling", 0o755)];
    folders.extend(WRITABLE.map(|path| folder(path, 0o700)));
    Layout {
        folders,
        files: vec![
            file("config.production.json", &configuration_text(home)),
            file("prepare.cjs", PREPARE),
            file("guard.cjs", GUARD),
            file("operator.cjs", OPERATOR),
            file("adapters/scheduling/sovereign.js", SCHEDULING),
        ],
        links: vec![LinkSpec { path: home.folder.join("current"), target: home.image.join("app") }],
    }
}

fn configuration_text(home: &Home<'_>) -> String {
    format!("{:#}\n", configuration(home))
}

/// `config.production.json` of a process of this machine.
fn configuration(home: &Home<'_>) -> Value {
    let Site { canonical, edge_port, .. } = home.site;
    let here = json!({
        "server": {
            // A text is a unix socket to node. Relative to the site's folder, because a socket's path may have 107
            // bytes at most and a state folder may lie deep.
            "port": "run/ghost.sock",
            "shutdownTimeout": 5000,
        },
        "database": {
            "client": "better-sqlite3",
            "connection": { "filename": home.folder.join("data/ghost.db") },
            "useNullAsDefault": true,
        },
        "paths": {
            "contentPath": home.folder.join("content"),
            "installedAdaptersPath": home.folder.join("adapters"),
        },
        "adapters": scheduling("run/ghost.sock"),
        // Read by our guard
        "sovereign": {
            "connect": [format!("127.0.0.1:{edge_port}")],
            "names": ["localhost", canonical.host()],
        },
    });
    whole(home.site, here)
}

/// The adapter for scheduled posts, and the socket it finds Ghost behind, from the site's folder.
pub(super) fn scheduling(socket: &str) -> Value {
    json!({ "scheduling": { "active": "sovereign", "sovereign": { "socket": socket } } })
}

/// `config.production.json`: what is so wherever a Ghost runs, and what is so where this one does. Each key is there for a
/// reason that is not Ghost's default.
pub(super) fn whole(site: &Site, here: Value) -> Value {
    let everywhere = json!({
        "url": site.canonical.to_string(),
        // Requests are logged at "info", and a health check is one every few seconds.
        "logging": { "level": "warn", "transports": ["stdout"], "rotation": { "enabled": false } },
        "mail": { "transport": "stub", "options": { "error": NO_MAIL } },
        "sendWelcomeEmail": false,
        "security": {
            "staffDeviceVerification": false, // it mails a code
            "allowWebhookInternalIPs": true,  // the edge is one; the guard keeps every other address out of reach
        },
        "privacy": { "useTinfoil": true },
        "updateCheck": { "url": "" },
        "explore": { "update_url": "", "testimonials_url": "" },
        "emailAnalytics": { "enabled": false },
        "backgroundJobs": { "emailAnalytics": false },
        "machinePayments": { "x402": { "enabled": false } },
        "enableTipsAndDonations": false,
        // Scripts that readers' browsers would load from a third party
        "portal": { "url": false },
        "sodoSearch": { "url": false, "styles": false },
        "comments": { "url": false },
        "announcementBar": { "url": false },
        "adminToolbar": { "url": false },
        "signupForm": { "url": false },
    });
    let keys = [everywhere, here]
        .into_iter()
        .filter_map(|part| if let Value::Object(keys) = part { Some(keys) } else { None });
    Value::Object(keys.flatten().collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ghost::sample;

    #[test]
    fn the_configuration_is_what_operators_read_about() {
        sample::with_home(|home| insta::assert_snapshot!(configuration_text(home)));
    }

    #[test]
    fn nothing_of_ours_lies_where_ghost_writes() {
        sample::with_home(|home| {
            let Layout { folders: _, files, links } = layout(home);
            let paths = files.into_iter().map(|file| file.path).chain(links.into_iter().map(|link| link.path));
            for path in paths {
                assert!(WRITABLE.iter().all(|inner| !path.starts_with(home.folder.join(inner))), "{}", path.display());
            }
        });
    }
}
