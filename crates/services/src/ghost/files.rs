//! The files of a Ghost: its configuration and the pieces of ours that run inside it.

use serde_json::{Value, json};
use sovereign_model::stack::Site;

use super::Home;
use crate::folder::{FileSpec, FolderSpec, Layout, LinkSpec};

const GUARD: &str = include_str!("assets/guard.cjs");
const OPERATOR: &str = include_str!("assets/operator.cjs");
const SCHEDULING: &str = include_str!("assets/scheduling.js");

/// What Ghost answers when something wants to send mail. Ghost shows it to people, after "Reason: ".
const NO_MAIL: &str = "this site sends no mail; its operator makes one-time links with `sovereign site staff`";

/// Folders only Ghost's user may enter; it writes there.
pub(super) const WRITABLE: [&str; 4] = ["content", "data", "run", "tmp"];

/// What Ghost expects in its content folder, and does not make itself.
const CONTENT: [&str; 8] = ["adapters", "data", "files", "images", "media", "public", "settings", "themes"];

/// Themes that come with Ghost: linked, so that a new image brings its own.
const THEMES: [&str; 2] = ["casper", "source"];

/// Everything of ours in the site's folder. No secret is in it.
///
/// Folders of [`WRITABLE`] and all below them are to be handed to Ghost's user, where it has one of its own.
pub fn layout(home: &Home<'_>) -> Layout {
    let folder = |path: &str, mode| FolderSpec { path: home.folder.join(path), mode };
    let file = |path: &str, text: &str| FileSpec {
        path: home.folder.join(path),
        content: text.as_bytes().to_vec(),
        mode: 0o644, // read by Ghost's user; the folders above keep others out
    };
    let link = |path: &str, target: std::path::PathBuf| LinkSpec { path: home.folder.join(path), target };

    let mut folders = vec![folder("", 0o755), folder("adapters/scheduling", 0o755)];
    folders.extend(WRITABLE.map(|path| folder(path, 0o700)));
    folders.extend(CONTENT.map(|path| folder(&format!("content/{path}"), 0o700)));
    let mut links = vec![link("current", home.image.join("app"))]; // Ghost looks for its own version there
    links.extend(THEMES.map(|name| {
        let theme = format!("content/themes/{name}");
        link(&theme, std::path::Path::new("../../current").join(&theme))
    }));
    Layout {
        folders,
        files: vec![
            file("config.production.json", &configuration_text(home)),
            file("guard.cjs", GUARD),
            file("operator.cjs", OPERATOR),
            file("adapters/scheduling/sovereign.js", SCHEDULING),
        ],
        links,
    }
}

fn configuration_text(home: &Home<'_>) -> String {
    format!("{:#}\n", configuration(home))
}

/// `config.production.json`. Each key is there for a reason that is not Ghost's default.
fn configuration(home: &Home<'_>) -> Value {
    let Site { canonical, .. } = home.site;
    json!({
        "url": canonical.to_string(),
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
        "adapters": { "scheduling": { "active": "sovereign", "sovereign": { "socket": "run/ghost.sock" } } },
        "logging": { "level": "info", "transports": ["stdout"], "rotation": { "enabled": false } },
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
        // Read by our guard
        "sovereign": {
            "connect": [format!("127.0.0.1:{}", canonical.port())],
            "names": ["localhost", canonical.host()],
        },
    })
}
