//! A restored site beside the live one: a Ghost of its own on a snapshot, reachable by nobody but us, and what both say
//! to the same questions.
//!
//! It has a state folder of its own in the stack's, a supervisor, the site's image and confinement, and no network at
//! all: what is published or sent while it runs goes nowhere. Both Ghosts are asked on their unix sockets, so that no
//! edge's copy answers for one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::Full;
use hyper::http::{Request, StatusCode, header};
use serde::Serialize;
use sovereign_engine::embedded::Client;
use sovereign_images::{Lock, Store};
use sovereign_model::Origin;
use sovereign_model::layout::StateFolder;
use sovereign_model::stack::Site;
use sovereign_services::ghost::{self, Connection, ConnectionError};

use crate::deployment::supervise_arguments;
use crate::failure::{Failure, Reason};

/// Pages that are compared at most; of a larger site those that its sitemaps name first.
const MOST_PAGES: usize = 2000;
/// A Ghost that has to bring a database up to date takes minutes for a large one.
const BOOT_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Where a reader begins; the rest is found in sitemaps.
const BEGIN: [&str; 3] = ["/", "/rss/", "/sitemap.xml"];

/// Why a drill has nothing to say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrillError {
    /// The image is not there.
    #[error("the image of Ghost is not there")]
    NoImage,
    /// The restored Ghost does not start.
    #[error("Ghost does not come to life on what was restored: {0}")]
    NotWell(String),
    /// It stopped answering.
    #[error("the restored Ghost does not answer")]
    Silent(#[source] ConnectionError),
    /// A file or folder.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Reason for DrillError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoImage => Some("`sovereign up` builds it".to_owned()),
            Self::NotWell(_) => Some("older snapshots may be better: `sovereign archive list`".to_owned()),
            Self::Silent(error) => error.help(),
            Self::File { .. } => None,
        }
    }
}

/// Where a drill has its state: in the stack's own, for it is as private.
pub(crate) fn state_in(state: &StateFolder) -> StateFolder {
    StateFolder::new(state.path().join("drill"))
}

/// Ends whatever a drill has left running, and removes what it made.
///
/// # Errors
/// When it does not end, or cannot be removed.
pub(crate) async fn clean_up(drill: &StateFolder) -> Result<(), Failure> {
    if drill.path().symlink_metadata().is_err() {
        return Ok(());
    }
    Client::of(drill.clone()).shutdown().await?;
    match fs::remove_dir_all(drill.path()) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DrillError::File { action: "remove", path: drill.path().to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

/// Starts a Ghost on the data of `site` in the state folder `drill`, and waits until it is well.
///
/// # Errors
/// When it does not come to life.
pub(crate) async fn start(
    drill: &StateFolder,
    (store, lock): (&Store, &Lock),
    ca: &Path,
    site: &Site,
) -> Result<(), Failure> {
    let image = sovereign_images::ghost::find(store, lock)?.ok_or(DrillError::NoImage)?;
    let folder = drill.site(&site.primary, &site.name);
    let home = ghost::Home {
        site,
        datacenter: &site.primary,
        folder: folder.path(),
        image: &image.root,
        image_digest: image.digest,
        ca_certificate: ca,
    };
    ghost::layout(&home).write()?;
    let mut unit = ghost::unit(&home)?;
    unit.confinement.connect = Some(Vec::new());
    let client = Client::of(drill.clone());
    let program = fs::read_link("/proc/self/exe");
    let program =
        program.map_err(|source| DrillError::File { action: "find", path: "/proc/self/exe".into(), source })?;
    let arguments: Vec<OsString> = supervise_arguments(drill.path());
    client.start(&program, &arguments).await?;
    client.apply(&unit).await?;
    let gave_up = |status: &sovereign_engine::embedded::UnitStatus| status.refused.is_some() || status.restarts > 0;
    let well = tokio::time::timeout(BOOT_PATIENCE, client.wait_well(&unit.name, gave_up)).await;
    match well.unwrap_or(Ok(None))? {
        Some(status) if status.is_well() => Ok(()),
        status => {
            let why = status.and_then(|status| status.refused.or(status.last_exit).or(status.problem));
            Err(DrillError::NotWell(why.unwrap_or_else(|| "it takes too long".to_owned())).into())
        }
    }
}

/// What a Ghost said to the same questions as another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Compared {
    /// Pages that both have, feeds and sitemaps among them, and say the same.
    pub(crate) same: usize,
    /// Those that both have, and say something else.
    pub(crate) different: Vec<String>,
    /// Those that only the restored one has.
    pub(crate) only_restored: Vec<String>,
    /// Those that only the live one has.
    pub(crate) only_live: Vec<String>,
    /// Pages that the restored one names and does not have.
    pub(crate) broken: Vec<String>,
    /// Whether the feed is among those that are the same; `None` when the live site was not there to compare with.
    pub(crate) feed_same: Option<bool>,
}

impl Compared {
    /// Whether nothing is another than it is live.
    pub(crate) fn is_equal(&self) -> bool {
        self.different.is_empty() && self.only_restored.is_empty() && self.only_live.is_empty()
    }
}

/// Asks both Ghosts for every page that either names; `live` is `None` when it does not run.
///
/// # Errors
/// When the restored one does not answer.
pub(crate) async fn compare(site: &Site, restored: &Path, live: Option<&Path>) -> Result<Compared, Failure> {
    let live = async {
        match live {
            // One that stops meanwhile is one that does not run.
            Some(live) => pages(site, live).await.ok(),
            None => None,
        }
    };
    let (restored, live) = tokio::join!(pages(site, restored), live);
    let restored = restored.map_err(DrillError::Silent)?;
    let broken = restored.iter().filter(|(_, page)| page.status != StatusCode::OK).map(|(path, _)| path.clone());
    let mut compared = Compared { broken: broken.collect(), ..Compared::default() };
    let Some(live) = live else { return Ok(compared) };
    let paths: BTreeSet<&String> = restored.keys().chain(live.keys()).collect();
    let good = |pages: &BTreeMap<String, Page>, path: &str| {
        pages.get(path).filter(|page| page.status == StatusCode::OK).map(|page| page.body.clone())
    };
    for path in paths {
        match (good(&restored, path), good(&live, path)) {
            (Some(one), Some(other)) if one == other => compared.same += 1,
            (Some(_), Some(_)) => compared.different.push(path.clone()),
            (Some(_), None) => compared.only_restored.push(path.clone()),
            (None, Some(_)) => compared.only_live.push(path.clone()),
            (None, None) => {}
        }
    }
    compared.feed_same =
        Some(good(&restored, "/rss/").is_some() && !compared.different.iter().any(|path| path == "/rss/"));
    Ok(compared)
}

struct Page {
    status: StatusCode,
    body: String,
}

/// Every page that a Ghost names, by its path.
async fn pages(site: &Site, socket: &Path) -> Result<BTreeMap<String, Page>, ConnectionError> {
    let connection = Connection::new(socket);
    let mut queue: VecDeque<String> = BEGIN.map(str::to_owned).into();
    let mut pages = BTreeMap::new();
    while let Some(path) = queue.pop_front() {
        if pages.contains_key(&path) || pages.len() >= MOST_PAGES {
            continue;
        }
        let request = Request::get(&path)
            .header(header::HOST, site.canonical.authority())
            .header("x-forwarded-proto", "https")
            .body(Full::default());
        // What a sitemap names need not be an address.
        let Ok(request) = request else { continue };
        let (parts, body) = connection.send(request).await?.into_parts();
        let body = String::from_utf8_lossy(&body).into_owned();
        if path.ends_with(".xml") {
            queue.extend(named(&body, &site.canonical));
        }
        pages.insert(path, Page { status: parts.status, body: settled(&body) });
    }
    Ok(pages)
}

/// The paths that a sitemap names, of this site.
fn named(sitemap: &str, canonical: &Origin) -> Vec<String> {
    let origin = canonical.to_string();
    let places = sitemap.split("<loc>").skip(1).filter_map(|rest| rest.split("</loc>").next());
    let paths = places.filter_map(|place| place.trim().strip_prefix(&origin)).filter(|path| path.starts_with('/'));
    paths.map(str::to_owned).collect()
}

/// What changes with every start of Ghost or with every question, as it begins and as it ends: the hour a feed was made, a
/// sitemap's word for when pages last changed (for the front page that is now), versions in the addresses of files.
const FLEETING: [(&str, Option<&str>); 3] =
    [("<lastBuildDate>", Some("</lastBuildDate>")), ("<lastmod>", Some("</lastmod>")), ("?v=", None)];

/// A page without that.
fn settled(body: &str) -> String {
    let mut text = String::with_capacity(body.len());
    let mut rest = body;
    let next = |rest: &str| FLEETING.iter().filter_map(|mark| Some((rest.find(mark.0)?, *mark))).min();
    while let Some((at, (begins, ends))) = next(rest) {
        text.push_str(&rest[..at]);
        let fleeting = &rest[at + begins.len()..];
        rest = match ends {
            Some(ends) => fleeting.split_once(ends).map_or("", |(_, after)| after),
            None => fleeting.trim_start_matches(|c: char| c.is_ascii_alphanumeric()),
        };
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_with_every_start_is_left_out() {
        let one = "<link href=\"/a.css?v=0a1b2c\"><lastBuildDate>Mon</lastBuildDate><p>?v= text</p>";
        let other = "<link href=\"/a.css?v=ffff\"><lastBuildDate>Tue</lastBuildDate><p>?v= text</p>";
        assert_eq!(settled(one), settled(other));
        assert_eq!(settled(one), "<link href=\"/a.css\"><p> text</p>");
        assert_ne!(settled(one), settled(&other.replace("text", "texts")));
        assert_eq!(settled("<lastBuildDate>never ends"), "");
    }

    #[test]
    fn a_sitemap_names_paths_of_this_site() {
        let canonical: Origin = "https://blog.localhost:8443".parse().unwrap();
        let map = "<loc>https://blog.localhost:8443/a/</loc> <loc>https://elsewhere/b/</loc><loc>https://blog.localhost:84431/</loc><loc>";
        assert_eq!(named(map, &canonical), ["/a/"]);
    }
}
