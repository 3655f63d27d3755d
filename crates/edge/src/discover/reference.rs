//! From an address as a page writes it to a target of the site (RFC 3986 section 5, as far as links need it).

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sovereign_model::Origin;

use crate::route::Target;

/// What browsers encode before they ask, beside bytes outside ASCII.
const AS_BROWSERS_DO: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// The target `address` means on the page `base`; `None` if it is not of this site, or not one that can be asked for.
pub(crate) fn resolve(base: &Target, canonical: &Origin, address: &str) -> Option<Target> {
    let address = address.trim();
    let address = address.split('#').next()?;
    if address.is_empty() {
        return None;
    }
    let own = own_part(canonical, address)?;
    let (path, query) = own.split_once('?').map_or((own, None), |(path, query)| (path, Some(query)));
    let mut resolved = match path {
        "" => base.path().to_owned(),
        absolute if absolute.starts_with('/') => without_dots(absolute)?,
        relative => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            without_dots(&format!("{folder}/{relative}"))?
        }
    };
    if let Some(query) = query {
        resolved.push('?');
        resolved.push_str(query);
    }
    Target::parse(&utf8_percent_encode(&resolved, AS_BROWSERS_DO).to_string()).ok()
}

/// What follows the origin if `address` spells the site's own, or all of it if it spells none.
fn own_part<'a>(canonical: &Origin, address: &'a str) -> Option<&'a str> {
    let authority = if let Some(rest) = address.strip_prefix("//") {
        rest
    } else if let Some((scheme, rest)) = address.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
        if !(scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")) {
            return None;
        }
        rest.strip_prefix("//")?
    } else {
        return Some(address);
    };
    let end = authority.find(['/', '?']).unwrap_or(authority.len());
    let (authority, path) = authority.split_at(end);
    let own = authority.eq_ignore_ascii_case(&canonical.authority());
    own.then_some(if path.is_empty() { "/" } else { path })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// RFC 3986 section 5.2.4; `None` if it leads out of the root, which only mistakes and attacks do.
fn without_dots(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()?),
            name => kept.push(name),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for segment in &kept {
        clean.push('/');
        clean.push_str(segment);
    }
    if ends_in_folder || clean.is_empty() {
        clean.push('/');
    }
    Some(clean)
}
