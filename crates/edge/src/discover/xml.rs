//! Addresses in XML: the text of `loc`, `link`, `url` and the like, and attributes.

use std::borrow::Cow;

/// Elements whose text is an address; namespace prefixes are dropped (`image:loc`). Not `guid` and `id`: they look
/// like one and often are none.
const ELEMENTS: &[&str] = &["loc", "link", "url", "icon", "logo"];
/// Attributes whose value is one.
const ATTRIBUTES: &[&str] = &["href", "url", "src"];

/// Gives every address in `text`. Feeds carry whole articles as escaped HTML or CDATA: that is read as HTML.
pub(super) fn addresses(text: &str, take: &mut impl FnMut(&str)) {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(data) = rest.strip_prefix("![CDATA[") {
            let (data, after) = data.split_once("]]>").unwrap_or((data, ""));
            super::html::addresses(data, take);
            rest = after;
            continue;
        }
        let Some((tag, after)) = rest.split_once('>') else { return };
        rest = after;
        attributes(tag, take);
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
        let name = name.rsplit(':').next().unwrap_or(name);
        let content = &rest[..rest.find('<').unwrap_or(rest.len())];
        if ELEMENTS.contains(&name) {
            take(&unescape(content));
        } else if content.contains("&lt;") {
            super::html::addresses(&unescape(content), take);
        }
    }
}

/// The address of a feed's first entry, in RSS or Atom.
pub(super) fn first_entry(text: &str) -> Option<String> {
    let mut rest = text;
    let mut inside = false;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(data) = rest.strip_prefix("![CDATA[") {
            rest = data.split_once("]]>").map_or("", |(_, after)| after);
            continue;
        }
        let (tag, after) = rest.split_once('>')?;
        rest = after;
        match tag.split(|c: char| c.is_whitespace() || c == '/').next() {
            Some("item" | "entry") => inside = true,
            Some("link") if inside => {
                let mut found = unescape(&rest[..rest.find('<').unwrap_or(rest.len())]).trim().to_owned();
                if found.is_empty() {
                    attributes(tag, &mut |address| found = address.to_owned());
                }
                return (!found.is_empty()).then_some(found);
            }
            _ => {}
        }
    }
    None
}

/// `name="value"` pairs, in tags and in `<?xml-stylesheet href="…"?>` alike.
fn attributes(tag: &str, take: &mut impl FnMut(&str)) {
    for name in ATTRIBUTES {
        for (at, found) in tag.match_indices(name) {
            if !tag[..at].ends_with(|c: char| c.is_whitespace() || c == ':') {
                continue;
            }
            let Some(value) = tag[at + found.len()..].trim_start().strip_prefix('=') else { continue };
            let value = value.trim_start();
            let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else { continue };
            if let Some((value, _)) = value[1..].split_once(quote) {
                take(&unescape(value));
            }
        }
    }
}

/// Character references that occur in addresses. Others stay as they are.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, escaped) = rest.split_at(at);
        let (character, length) = reference(escaped).unwrap_or(('&', 1));
        out.push_str(before);
        out.push(character);
        rest = &escaped[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A reference at the beginning of `text`: what it means and how long it is.
fn reference(text: &str) -> Option<(char, usize)> {
    // The longest that is known has ten bytes: `&#x10FFFF;`.
    let end = text.bytes().take(10).position(|byte| byte == b';')?;
    let character = match &text[1..end] {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        number => {
            let number = number.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((character, end + 1))
}
