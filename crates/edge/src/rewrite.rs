//! A site under another of its names: its own origin, wherever a page spells it, becomes the one the reader asked for.
//!
//! Promise: every spelling that browsers, feed readers and scripts resolve is found (`https://host:port`,
//! `//host:port`, and the slashes and colons escaped for JSON, scripts, URLs and HTML); other hosts that merely begin
//! or end alike are not touched; bytes without the host come out as they went in; the way back gives the same bytes;
//! and it does not matter how the bytes are cut into pieces.
//!
//! One pass finds the host name; what stands around it decides. Only host and port are replaced: scheme, slashes and
//! escapes stay as they are.
//!
//! Left out: a host name in running text without slashes before it (that is what the author wrote), a name spelled in
//! another alphabet than DNS has it in, encodings that are not a superset of ASCII, and hashes that a page holds of its
//! own scripts and styles (`integrity`, a policy's `sha256-`): those must not spell the origin.

mod cookies;
mod fields;
mod spelling;
mod stream;

use std::sync::Arc;

use aho_corasick::AhoCorasick;
use bytes::Bytes;
use sovereign_model::Origin;

pub use fields::applies_to;
use spelling::Spelling;
pub use stream::Stream;

/// Rewrites one origin to another. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rewriter {
    rule: Arc<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Finds the host's name, in any case (RFC 4343).
    host: AhoCorasick,
    spelling: Spelling,
    from: Origin,
    to: Origin,
    /// Distinguishes the tags of pages rewritten to `to`.
    mark: String,
    /// Distinguishes the tags of pages that were rewritten the other way.
    from_mark: String,
}

impl Rewriter {
    /// From one origin to another.
    ///
    /// # Panics
    /// Never: a host name is a short literal, for which a searcher can always be built.
    pub fn new(from: &Origin, to: &Origin) -> Self {
        let host = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build([from.host().as_str()])
            .expect("one short literal always makes a searcher");
        let spelling = Spelling::new(from, to);
        let (mark, from_mark) = (fields::mark(to), fields::mark(from));
        Self { rule: Arc::new(Rule { host, spelling, from: from.clone(), to: to.clone(), mark, from_mark }) }
    }

    /// The origin that readers see.
    pub fn to(&self) -> &Origin {
        &self.rule.to
    }

    /// A text in one piece. Given back without a copy when there is nothing to rewrite.
    pub fn whole(&self, text: &Bytes) -> Bytes {
        let mut out = Vec::new();
        let mut copied = 0;
        for found in self.rule.host.find_iter(text) {
            if let Some(replacement) = self.rule.spelling.at(text, found.start(), found.end()) {
                out.extend_from_slice(&text[copied..found.start()]);
                out.extend_from_slice(replacement.by.as_bytes());
                copied = replacement.end;
            }
        }
        if copied == 0 {
            return text.clone();
        }
        out.extend_from_slice(&text[copied..]);
        out.into()
    }

    /// A text that comes in pieces.
    pub fn stream(&self) -> Stream {
        Stream::new(Arc::clone(&self.rule))
    }
}

#[cfg(test)]
mod tests;
