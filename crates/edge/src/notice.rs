//! What the primary's edge tells the edges of its mirrors, line by line, for as long as the link lives.
//!
//! | line | what it means |
//! |---|---|
//! | empty | the link stands: whatever was said before may have been missed |
//! | `blog` | any page of the site may be another one |
//! | `blog /hello/` | this page is another one now, and can be had here |
//! | `blog -/hello/` | there is no such page any more: the application said so |
//! | `blog */ghost/api/content/` | whatever is kept below this path may be another one |
//!
//! A page is named when this edge has it: the application renders it once, and for nobody twice. An edge that does not
//! say that it understands pages gets site names only, one for each change.

use sovereign_model::SiteName;

use crate::route::Target;

/// Longer lines are no notices: a site's name and a target.
pub const LONGEST_LINE: usize = 4096;

/// What happened to a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Any page may be another one.
    Anything,
    /// Some pages are being fetched again, and will be named. Said only to who does not understand them.
    Something,
    /// This page is another one.
    Changed(Target),
    /// This page is gone.
    Gone(Target),
    /// Whatever lies below this path may be another one.
    Below(Target),
}

/// A site, and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which site.
    pub site: SiteName,
    /// What happened.
    pub what: What,
}

impl Notice {
    /// The line for an edge that understands pages, or for one that does not; `None` where nothing is to be said.
    pub fn line(&self, pages: bool) -> Option<String> {
        let site = &self.site;
        match (&self.what, pages) {
            (What::Anything, _) | (What::Something, false) => Some(format!("{site}\n")),
            (What::Changed(target), true) => Some(format!("{site} {target}\n")),
            (What::Gone(target), true) => Some(format!("{site} -{target}\n")),
            (What::Below(target), true) => Some(format!("{site} *{target}\n")),
            (What::Something, true) | (_, false) => None,
        }
    }

    /// Reads a line that is not empty. What a newer edge says of a site in words of its own means anything.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.trim_ascii()).ok()?;
        let (site, said) = text.split_once(' ').map_or((text, None), |(site, said)| (site, Some(said)));
        Some(Self { site: site.parse().ok()?, what: said.and_then(particulars).unwrap_or(What::Anything) })
    }
}

fn particulars(said: &str) -> Option<What> {
    let target = |text| Target::parse(text).ok();
    match said.split_at_checked(1)? {
        ("-", gone) => target(gone).map(What::Gone),
        ("*", below) => target(below).map(What::Below),
        _ => target(said).map(What::Changed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(what: What) -> Notice {
        Notice { site: "blog".parse().unwrap(), what }
    }

    #[test]
    fn what_is_said_is_understood() {
        let page = || Target::parse("/hello/?x=1").unwrap();
        for what in [What::Anything, What::Changed(page()), What::Gone(page()), What::Below(page())] {
            let notice = notice(what);
            let line = notice.line(true).unwrap();
            assert_eq!(Notice::parse(line.as_bytes()), Some(notice), "{line}");
        }
        for other in ["blog hello", "blog -", "blog -hello", "blog /a b", "blog /a//b", "blog é"] {
            assert_eq!(Notice::parse(other.as_bytes()), Some(notice(What::Anything)), "{other}");
        }
        assert_eq!((Notice::parse(b"Blog /"), Notice::parse(b"blog \xff"), Notice::parse(b"-")), (None, None, None));
    }

    #[test]
    fn an_older_edge_hears_of_a_change_once() {
        let said =
            [What::Something, What::Changed(Target::parse("/").unwrap()), What::Gone(Target::parse("/x/").unwrap())];
        let lines: Vec<_> = said.into_iter().filter_map(|what| notice(what).line(false)).collect();
        assert_eq!(lines, ["blog\n"]);
        assert_eq!(notice(What::Something).line(true), None);
    }
}
