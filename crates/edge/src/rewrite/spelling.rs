//! The ways a page spells an origin, read around an occurrence of the host's name.
//!
//! ```text
//!   https : // blog.example.org : 8443 /about/
//!         │ │  │              │ │    └ nothing that would go on with the authority
//!         │ │  │              │ └ the port, if the origin has one to spell
//!         │ │  └ found ───────┘
//!         │ └ two slashes, in one of `SLASHES`
//!         └ the end of a scheme, or where a URL without one may begin
//! ```

use sovereign_model::Origin;

/// Two slashes in a row, and how a port's colon is spelled beside them if nothing else tells.
const SLASHES: &[(&str, usize)] = &[
    ("//", 0),
    (r"\/\/", 0),
    // JSON in a string of a script or of other JSON.
    (r"\\/\\/", 0),
    (r"\\\/\\\/", 0),
    ("%2F%2F", 1),
    ("%2f%2f", 2),
    ("%252F%252F", 3),
    ("%252f%252f", 4),
    (r"\u002F\u002F", 0),
    (r"\u002f\u002f", 0),
    ("&#x2F;&#x2F;", 0),
    ("&#x2f;&#x2f;", 0),
    ("&#47;&#47;", 0),
];

/// A colon: plain, in a URL's query, in a URL within that, in a script, in HTML.
const COLONS: &[&str] = &[":", "%3A", "%3a", "%253A", "%253a", r"\u003A", r"\u003a", "&#x3A;", "&#x3a;", "&#58;"];

/// How many bytes before the host decide: the longest slashes and the longest colon.
pub(super) const BEFORE: usize = 12 + 6;
/// How many bytes after the host decide: the longest colon, a port, and what must not follow it (a colon and a digit).
pub(super) const AFTER: usize = 6 + 5 + 6 + 1;
/// The bytes after a host, beside digits, beyond which more may decide: those of [`COLONS`], and a dot. Any other byte
/// ends every comparison with it.
const MORE_DECIDES: &[u8] = b".:%aA\\ux&#;";

/// What to put in the place of a host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replacement<'a> {
    /// Where the port, or the host, ended.
    pub(super) end: usize,
    /// Host and port of the other origin, its colon spelled alike.
    pub(super) by: &'a str,
}

/// Both origins, spelled out.
#[derive(Debug)]
pub(super) struct Spelling {
    /// The port's digits; none if the origin's URLs leave the port out.
    port: Option<String>,
    /// The replacement for each of [`COLONS`].
    by: Vec<String>,
}

impl Spelling {
    pub(super) fn new(from: &Origin, to: &Origin) -> Self {
        let port = |origin: &Origin| (origin.port() != 443).then(|| origin.port().to_string());
        let by = |colon: &&str| match port(to) {
            Some(port) => format!("{}{colon}{port}", to.host()),
            None => to.host().to_string(),
        };
        Self { port: port(from), by: COLONS.iter().map(by).collect() }
    }

    /// The replacement for the host found at `start..end` of `text`, if it stands in a URL of the origin.
    pub(super) fn at(&self, text: &[u8], start: usize, end: usize) -> Option<Replacement<'_>> {
        let (before, usual_colon) = SLASHES
            .iter()
            .find_map(|(slashes, colon)| Some((text[..start].strip_suffix(slashes.as_bytes())?, *colon)))?;
        if !url_may_begin_after(before) {
            return None;
        }
        let after = &text[end..];
        let (after, colon) = match &self.port {
            None => (after, usual_colon),
            Some(port) => {
                let (after, colon) = colon(after)?;
                (after.strip_prefix(port.as_bytes())?, colon)
            }
        };
        authority_ends_before(after).then(|| Replacement { end: text.len() - after.len(), by: &self.by[colon] })
    }
}

/// Whether enough is known of what follows a host: no byte that comes behind `after` changes what is made of it.
pub(super) fn is_decided(after: &[u8]) -> bool {
    after.len() >= AFTER || after.iter().any(|byte| !byte.is_ascii_digit() && !MORE_DECIDES.contains(byte))
}

/// A colon at the beginning of `text`: what follows it, and which it is.
fn colon(text: &[u8]) -> Option<(&[u8], usize)> {
    COLONS.iter().enumerate().find_map(|(which, colon)| Some((text.strip_prefix(colon.as_bytes())?, which)))
}

/// Whether slashes after `before` begin a URL's authority: after a scheme, or where a reference may stand.
fn url_may_begin_after(before: &[u8]) -> bool {
    let Some(last) = before.last() else { return true };
    last.is_ascii_whitespace()
        || b":\"'`(=>,;[{|".contains(last)
        || COLONS.iter().any(|colon| before.ends_with(colon.as_bytes()))
}

/// Whether `after` does not go on with a host name, a port or a user's name.
fn authority_ends_before(after: &[u8]) -> bool {
    if let Some((next, _)) = colon(after) {
        return !next.first().is_some_and(u8::is_ascii_digit);
    }
    match after {
        [b'.', next, ..] => !continues_name(*next),
        [b'%', high, low, ..] => match decoded(*high, *low) {
            Some(byte) => !continues_name(byte) && byte != b'.' && byte != b'@',
            None => true,
        },
        [next, ..] => !continues_name(*next) && *next != b'@',
        [] => true,
    }
}

/// Not so bytes outside ASCII: in running text they are dashes and quotation marks.
fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn decoded(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4) | digit(low)?)
}
