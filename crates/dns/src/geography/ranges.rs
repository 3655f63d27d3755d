//! Which addresses are in which country, as Debian's `tor-geoipdb` has it: a text, one range a line.
//!
//! ```text
//! # a comment
//! 16777216,16777471,AU                  first address, last address, country; IPv4 as decimal numbers
//! 2001:200::,2001:200:134::ffff,JP      in the other file, IPv6 as usual
//! ```
//!
//! Promise: what comes out is in ascending order and nothing of it overlaps, or there is an error that says on which line
//! it does. A line is never read further than the longest that makes sense.

use std::io::{BufRead, Read as _};
use std::net::Ipv6Addr;
use std::path::Path;

use super::GeographyError;
use super::country::Country;

/// No line needs more: two IPv6 addresses and a country are 82 bytes, comments are lines of prose.
const LONGEST_LINE: u64 = 1024;

/// Which addresses a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4, as numbers below 2^32.
    Ipv4,
    /// IPv6, as numbers from 2^32 on: in a table for both, what is below is IPv4.
    Ipv6,
}

/// Some addresses next to each other, and the country they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first, as a number.
    pub first: u128,
    /// The last, which belongs to it.
    pub last: u128,
    /// Where they are.
    pub country: Country,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Line {
    /// It goes on and on.
    #[error("it is longer than {LONGEST_LINE} bytes")]
    Long,
    /// Not a first and a last address and a country.
    #[error("this is not `first,last,country`")]
    Form,
    /// Not an address, or none of this family.
    #[error("`{0}` is not an address of this file")]
    Address(String),
    /// Not a country.
    #[error("`{0}` is not a country")]
    Country(String),
    /// The last comes before the first.
    #[error("its last address comes before its first")]
    Backwards,
    /// Lines are sorted, and say one thing of an address.
    #[error("it does not begin after the line before")]
    Overlap,
}

/// Where reading ended, and why.
#[derive(Debug)]
pub enum Failed {
    /// A line is damaged.
    Line(u64, Line),
    /// Nothing more could be read.
    Read(std::io::Error),
}

impl Failed {
    /// The error, of this file.
    pub fn of(self, file: &Path) -> GeographyError {
        let file = file.to_owned();
        match self {
            Self::Line(line, problem) => GeographyError::Line { file, line, problem },
            Self::Read(source) => GeographyError::Read { file, source },
        }
    }
}

/// The ranges of a file, one after the other, until there are no more or something is wrong.
#[derive(Debug)]
pub struct Ranges<R> {
    text: R,
    family: Family,
    line: u64,
    /// The lowest that the next may begin with; `None` when there is no address left.
    free: Option<u128>,
    has_failed: bool,
}

impl<R: BufRead> Ranges<R> {
    /// Those that a text has.
    pub fn new(text: R, family: Family) -> Self {
        let lowest = if family == Family::Ipv4 { 0 } else { 1 << 32 };
        Self { text, family, line: 0, free: Some(lowest), has_failed: false }
    }

    fn read(&mut self) -> Result<Option<Range>, Failed> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.line += 1;
            let taken = self.text.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line).map_err(Failed::Read)?;
            if taken == 0 {
                return Ok(None);
            }
            if taken as u64 > LONGEST_LINE {
                return Err(Failed::Line(self.line, Line::Long));
            }
            let line = line.trim_ascii();
            if !line.is_empty() && !line.starts_with(b"#") {
                return self.parse(line).map(Some).map_err(|problem| Failed::Line(self.line, problem));
            }
        }
    }

    fn parse(&mut self, line: &[u8]) -> Result<Range, Line> {
        let text = std::str::from_utf8(line).map_err(|_| Line::Form)?;
        let mut fields = text.split(',');
        let (Some(first), Some(last), Some(code), None) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(Line::Form);
        };
        let country = Country::from_code(code.as_bytes()).ok_or_else(|| Line::Country(code.to_owned()))?;
        let range = Range { first: self.address(first)?, last: self.address(last)?, country };
        if range.last < range.first {
            return Err(Line::Backwards);
        }
        if self.free.is_none_or(|free| range.first < free) {
            return Err(Line::Overlap);
        }
        self.free = range.last.checked_add(1);
        Ok(range)
    }

    fn address(&self, text: &str) -> Result<u128, Line> {
        let number = match self.family {
            Family::Ipv4 => text.parse::<u32>().ok().map(u128::from),
            Family::Ipv6 => text.parse::<Ipv6Addr>().ok().map(u128::from).filter(|number| *number >> 32 != 0),
        };
        number.ok_or_else(|| Line::Address(text.to_owned()))
    }
}

impl<R: BufRead> Iterator for Ranges<R> {
    type Item = Result<Range, Failed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.read().transpose();
        self.has_failed = !matches!(next, Some(Ok(_)));
        next
    }
}
