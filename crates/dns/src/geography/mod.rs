//! Which data center is nearest to whoever asks: from the country of an address, and from where countries and data centers
//! are. Pure: text comes in, a table for the name server comes out.
//!
//! ```text
//!  addresses of countries ─┐ (Debian's tor-geoipdb)
//!  places of countries ────┼─▶ address ─▶ country ─▶ order of the data centers, nearest first ─▶ MaxMind DB
//!  places of data centers ─┘ (stack file)
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`country`] | codes of countries, and where each is |
//! | [`ranges`] | which addresses are in which country, as Debian's `tor-geoipdb` has it |
//! | [`nearest`] | for each country the order of the data centers |
//! | [`mmdb`] | the table, in the format that name servers read |
//!
//! Promise: an address has the order that its country has, and one whose country is not known has none. Damaged input is
//! refused with its file and line. Memory is bounded, whatever comes in.
//!
//! Left out: anything finer than countries, which a handful of data centers cannot use; anything that asks somebody else.

pub mod country;
pub mod mmdb;
pub mod nearest;
pub mod ranges;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use self::mmdb::{Table, TooLarge};
use self::nearest::Orders;
use self::ranges::{Family, Line, Ranges};

/// Where Debian's `tor-geoipdb` has the countries of IPv4 addresses. Made of the IPFire Location database, CC BY-SA 4.0.
pub const IPV4_FILE: &str = "/usr/share/tor/geoip";
/// The same for IPv6.
pub const IPV6_FILE: &str = "/usr/share/tor/geoip6";

/// The table cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GeographyError {
    /// A file could not be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is not what it should be.
    #[error("{}, line {line}: {problem}", file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        problem: Line,
    },
    /// It says nothing of any address.
    #[error("{} has no addresses", file.display())]
    Empty {
        /// Which.
        file: PathBuf,
    },
    /// There is more in them than the table can hold.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl GeographyError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some("install Debian's package anew: `apt-get install --reinstall tor-geoipdb`".to_owned())
    }
}

/// A file that says in which country addresses are.
#[derive(Debug)]
pub struct Source<'f, R> {
    /// What it is called.
    pub file: &'f Path,
    /// What it says.
    pub text: R,
}

/// Makes the table for name servers: addresses to the order of their country. `built_unix` is told as the time it was
/// made. The same inputs give the same bytes.
///
/// # Errors
/// When a file cannot be read, is damaged or says nothing, or both together are too large.
pub fn compile<R: BufRead>(
    orders: &Orders,
    ipv4: Source<'_, R>,
    ipv6: Source<'_, R>,
    built_unix: u64,
) -> Result<Vec<u8>, GeographyError> {
    let mut table = Table::new(orders.classes().iter().map(ToString::to_string).collect());
    // Neighbours of one class are one: there are far fewer classes than countries.
    let mut pending: Option<(u128, u128, usize)> = None;
    for (source, family) in [(ipv4, Family::Ipv4), (ipv6, Family::Ipv6)] {
        let file = source.file;
        let mut is_empty = true;
        for range in Ranges::new(source.text, family) {
            let range = range.map_err(|failed| failed.of(file))?;
            is_empty = false;
            let Some(class) = orders.class(range.country) else { continue };
            match &mut pending {
                Some((_, last, same)) if *same == class && last.checked_add(1) == Some(range.first) => {
                    *last = range.last
                }
                _ => {
                    let next = Some((range.first, range.last, class));
                    if let Some((first, last, class)) = std::mem::replace(&mut pending, next) {
                        table.put(first, last, class)?;
                    }
                }
            }
        }
        if is_empty {
            return Err(GeographyError::Empty { file: file.to_owned() });
        }
        // What is next is of another family.
        if let Some((first, last, class)) = pending.take() {
            table.put(first, last, class)?;
        }
    }
    Ok(table.to_bytes(built_unix)?)
}

#[cfg(test)]
mod tests;
