//! What a page leads to: the addresses a mirror must have so that the page works without its source.
//!
//! Promise: never panics, whatever the bytes; gives only targets of the site itself that a mirror may keep; bounded.
//! Reads HTML, CSS and XML (sitemaps, feeds) with scanners that look for the places where addresses stand, not with
//! parsers: a missed address costs a fetch later, a wrong one a 404.
//!
//! Left out: addresses that scripts put together, and forms.

mod css;
mod html;
mod reference;
mod xml;

use std::collections::BTreeSet;

use http::{HeaderMap, header};
use sovereign_model::Origin;
use sovereign_model::edge_config::EdgeApp;

pub(crate) use self::reference::resolve;
use crate::route::{Target, is_mirrored};

/// The most targets that one page gives; a sitemap of Ghost has at most 50 000 addresses in several files.
const MOST: usize = 50_000;

/// Where a mirror begins, beside what links lead to.
const GHOST_SEEDS: &[&str] =
    &["/", "/rss/", "/sitemap.xml", "/robots.txt", "/llms.txt", "/llms-full.txt", "/favicon.ico"];
const STATIC_SEEDS: &[&str] = &["/", "/robots.txt", "/sitemap.xml", "/favicon.ico"];

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tags with attributes, styles within.
    Html,
    /// Style sheets.
    Css,
    /// Sitemaps, feeds, drawings.
    Xml,
}

impl Kind {
    /// The kind of an answer with these fields; `None` if nothing is to be found in it.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = kind.split(';').next()?.trim().to_ascii_lowercase();
        match kind.as_str() {
            "text/html" | "application/xhtml+xml" => Some(Self::Html),
            "text/css" => Some(Self::Css),
            "text/xml" | "application/xml" => Some(Self::Xml),
            other if other.ends_with("+xml") => Some(Self::Xml),
            _ => None,
        }
    }
}

/// The targets of the site that `body`, found at `base`, leads to. In order, without `base` itself, each once.
pub fn links(kind: Kind, base: &Target, canonical: &Origin, app: &EdgeApp, body: &[u8]) -> Vec<Target> {
    let text = String::from_utf8_lossy(body);
    let mut found = BTreeSet::new();
    let mut take = |address: &str| {
        if found.len() >= MOST {
            return;
        }
        if let Some(target) = reference::resolve(base, canonical, address) {
            // Files do not know queries: both spellings are one page.
            let target = match app {
                EdgeApp::Static => target.without_query().unwrap_or(target),
                EdgeApp::Upstream(rules) if !rules.crawl => return,
                EdgeApp::Upstream(_) => target,
                EdgeApp::Ghost => target.shared(),
            };
            if is_mirrored(app, &target) && target != *base {
                found.insert(target);
            }
        }
    };
    match kind {
        Kind::Html => html::addresses(&text, &mut take),
        Kind::Css => css::addresses(&text, &mut take),
        Kind::Xml => xml::addresses(&text, &mut take),
    }
    found.into_iter().collect()
}

/// What the feed `body`, found at `base`, lists first; `None` if nothing, or nothing of the site.
pub fn first_entry(base: &Target, canonical: &Origin, body: &[u8]) -> Option<Target> {
    reference::resolve(base, canonical, &xml::first_entry(&String::from_utf8_lossy(body))?)
}

/// Where a mirror of a site begins. Not every site has all of them.
///
/// # Panics
/// Never: the paths are constants in canonical form.
pub fn seeds(app: &EdgeApp) -> Vec<Target> {
    let paths = match app {
        EdgeApp::Ghost => GHOST_SEEDS,
        EdgeApp::Static => STATIC_SEEDS,
        // Written by the operator: what is not in canonical form leads nowhere.
        EdgeApp::Upstream(rules) if rules.crawl => {
            return rules.start.iter().filter_map(|path| Target::parse(path).ok()).collect();
        }
        EdgeApp::Upstream(_) => &[],
    };
    paths.iter().map(|path| Target::parse(path).expect("a constant in canonical form")).collect()
}

#[cfg(test)]
mod tests;
