//! Rewriting bytes as they come, in pieces of any size.

use std::sync::Arc;

use aho_corasick::Input;
use bytes::Bytes;

use super::Rule;
use super::spelling::{AFTER, BEFORE, is_decided};

/// A text on its way. Holds back only what may be the beginning of a spelling of the origin: an event that ends in a line
/// feed goes out at once and whole.
#[derive(Debug)]
pub struct Stream {
    rule: Arc<Rule>,
    /// Context that was given out already, then what was not.
    buffer: Vec<u8>,
    /// How much of the buffer is context.
    given: usize,
    /// With this much behind it, all is known about a host that begins at a byte.
    hold: usize,
}

impl Stream {
    pub(super) fn new(rule: Arc<Rule>) -> Self {
        let hold = rule.host.max_pattern_len() + AFTER;
        Self { rule, buffer: Vec::new(), given: 0, hold }
    }

    /// The next piece in, what is certain by now out. May be empty.
    pub fn push(&mut self, piece: &[u8]) -> Bytes {
        self.buffer.extend_from_slice(piece);
        self.give(self.certain())
    }

    /// How far all is known, whatever comes: to the first host about which the next bytes decide, or that is cut.
    fn certain(&self) -> usize {
        let from = self.buffer.len().saturating_sub(self.hold).max(self.given);
        let mut hosts = self.rule.host.find_iter(Input::new(&self.buffer).range(from..));
        let undecided = hosts.find(|found| !is_decided(&self.buffer[found.end()..])).map(|found| found.start());
        let name = self.rule.from.host().as_str().as_bytes();
        let is_cut = |at: &usize| {
            let begun = &self.buffer[*at..];
            name.get(..begun.len()).is_some_and(|name| name.eq_ignore_ascii_case(begun))
        };
        let cut = (from..self.buffer.len()).find(is_cut);
        undecided.into_iter().chain(cut).min().unwrap_or(self.buffer.len())
    }

    /// The text is at its end: the rest.
    pub fn finish(mut self) -> Bytes {
        self.give(self.buffer.len())
    }

    /// Gives out everything before `certain`, and a finding that begins there as a whole.
    fn give(&mut self, certain: usize) -> Bytes {
        if certain <= self.given {
            return Bytes::new();
        }
        let mut out = Vec::with_capacity(certain - self.given);
        for found in self.rule.host.find_iter(Input::new(&self.buffer).range(self.given..)) {
            if found.start() >= certain {
                break;
            }
            if let Some(replacement) = self.rule.spelling.at(&self.buffer, found.start(), found.end()) {
                out.extend_from_slice(&self.buffer[self.given..found.start()]);
                out.extend_from_slice(replacement.by.as_bytes());
                self.given = replacement.end;
            }
        }
        if self.given < certain {
            out.extend_from_slice(&self.buffer[self.given..certain]);
            self.given = certain;
        }
        let forgotten = self.given.saturating_sub(BEFORE);
        self.buffer.drain(..forgotten);
        self.given -= forgotten;
        out.into()
    }
}
