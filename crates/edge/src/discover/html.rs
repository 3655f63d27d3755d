//! Addresses in HTML: attributes of tags, and styles.

use super::css;
use super::xml::unescape;

/// Attributes whose value is one address.
const ONE: &[&str] = &["href", "src", "poster", "data", "data-src", "background", "xlink:href"];
/// Attributes whose value is a list of addresses with sizes.
const SEVERAL: &[&str] = &["srcset", "imagesrcset", "data-srcset"];

/// Gives every address in `text`.
pub(super) fn addresses(text: &str, take: &mut impl FnMut(&str)) {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end..]);
            continue;
        }
        if !rest.starts_with(|first: char| first.is_ascii_alphabetic()) {
            continue;
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '>' || c == '/').unwrap_or(rest.len());
        let (tag, attributes) = rest.split_at(end);
        rest = tag_addresses(tag, attributes, take);
        let style = tag.eq_ignore_ascii_case("style");
        if style || tag.eq_ignore_ascii_case("script") {
            let (content, after) = rest.split_at(rest.find("</").unwrap_or(rest.len()));
            if style {
                css::addresses(content, take);
            }
            rest = after;
        }
    }
}

/// Reads the attributes of one tag; gives what follows the tag.
fn tag_addresses<'a>(tag: &str, attributes: &'a str, take: &mut impl FnMut(&str)) -> &'a str {
    let mut rest = attributes;
    let mut content = None;
    let mut names_address = false;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/' || c == '=');
        if rest.is_empty() || rest.starts_with(['>', '<']) {
            break;
        }
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | '>' | '/' | '<')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            rest = after;
            continue;
        };
        let (value, after) = attribute_value(value.trim_start());
        rest = after;
        let value = unescape(value);
        match name.to_ascii_lowercase().as_str() {
            name if ONE.contains(&name) => take(&value),
            name if SEVERAL.contains(&name) => srcset(&value, take),
            "style" => css::addresses(&value, take),
            "property" | "name" | "itemprop" => names_address |= is_address_property(&value),
            "content" => content = Some(value),
            _ => {}
        }
    }
    if let Some(content) = content.filter(|_| names_address && tag.eq_ignore_ascii_case("meta")) {
        take(&content);
    }
    rest.strip_prefix('>').unwrap_or(rest)
}

fn attribute_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            return quoted.split_once(quote).unwrap_or((quoted, ""));
        }
    }
    text.split_at(text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len()))
}

/// `og:image`, `og:url`, `twitter:image`, `og:video:url`, `msapplication-TileImage` ...
fn is_address_property(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["image", "url", "video", "audio"].iter().any(|end| name.ends_with(end))
}

/// HTML, "parsing a srcset attribute": candidates are separated by commas; an address may contain commas but not end
/// with one.
fn srcset(value: &str, take: &mut impl FnMut(&str)) {
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            return;
        }
        let (address, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        let bare = address.trim_end_matches(',');
        take(bare);
        rest = if bare.len() < address.len() { after } else { after.find(',').map_or("", |at| &after[at..]) };
    }
}
