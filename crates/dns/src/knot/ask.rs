//! What a running Knot says of itself, over its control socket.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;

use sovereign_model::DnsName;

use super::driver::run;
use super::error::DriverError;

/// Knot's control socket.
#[derive(Debug, Clone)]
pub struct Ask {
    pub(super) control: PathBuf,
}

impl Ask {
    /// Whether anybody answers there, within three seconds.
    ///
    /// # Errors
    /// When Knot's tools cannot be run.
    pub async fn answers(&self) -> Result<bool, DriverError> {
        Ok(self.of_within(3, &["status"]).await?.status.success())
    }

    /// The numbers of the zones that are loaded. None when nobody answers.
    ///
    /// # Errors
    /// When Knot's tools cannot be run.
    pub async fn serials(&self) -> Result<BTreeMap<DnsName, u32>, DriverError> {
        let told = self.of(&["zone-status"]).await?;
        Ok(serials(&String::from_utf8_lossy(&told.stdout)))
    }

    /// The texts that a name has in the zone that is served.
    ///
    /// # Errors
    /// When Knot's tools cannot be run.
    pub async fn texts(&self, domain: &DnsName, owner: &str) -> Result<BTreeSet<String>, DriverError> {
        let told = self.of(&["zone-read", domain.as_str(), &format!("{owner}."), "TXT"]).await?;
        Ok(texts(&String::from_utf8_lossy(&told.stdout)))
    }

    /// Has secondaries told of all zones, as when they change. Whether Knot took it.
    ///
    /// # Errors
    /// When Knot's tools cannot be run.
    pub async fn tell_secondaries(&self) -> Result<bool, DriverError> {
        Ok(self.of(&["zone-notify"]).await?.status.success())
    }

    pub(super) async fn of(&self, command: &[&str]) -> Result<Output, DriverError> {
        self.of_within(10, command).await
    }

    async fn of_within(&self, seconds: u32, command: &[&str]) -> Result<Output, DriverError> {
        let within = format!("--timeout={seconds}");
        let to = [OsStr::new(&within), OsStr::new("--socket"), self.control.as_os_str()];
        run("knotc", to.into_iter().chain(command.iter().map(OsStr::new))).await
    }
}

/// Of lines `[example.org.] role: master | serial: 7 | …`; a zone that is not loaded has `-` or `none` for a number.
fn serials(text: &str) -> BTreeMap<DnsName, u32> {
    let of = |line: &str| {
        let (domain, fields) = line.strip_prefix('[')?.split_once("] ")?;
        let serial = fields.split('|').find_map(|field| field.trim().strip_prefix("serial: "))?;
        Some((domain.trim_end_matches('.').parse().ok()?, serial.trim().parse().ok()?))
    };
    text.lines().filter_map(of).collect()
}

/// Of lines `[example.org.] name. 30 TXT "text"`.
fn texts(text: &str) -> BTreeSet<String> {
    let of = |line: &str| Some(line.split_once(" TXT \"")?.1.strip_suffix('"')?.to_owned());
    text.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_knot_says_is_read() {
        let told = "[example.org.] role: master | serial: 1795694331 | transaction: none | freeze: no\n\
                    [example.net.] role: master | serial: - | transaction: none\n[] \nerror: x\n";
        assert_eq!(serials(told), BTreeMap::from([("example.org".parse().unwrap(), 1_795_694_331)]));
        let told = "[example.org.] _acme-challenge.example.org. 30 TXT \"aa\"\n[example.org.] x. 30 TXT \"b\"\n";
        assert_eq!(texts(told), BTreeSet::from(["aa".to_owned(), "b".to_owned()]));
    }

    proptest! {
        #[test]
        fn whatever_it_says_nothing_panics(text in "\\PC{0,80}", line in "\\[[a-z.]{0,9}\\] serial: [0-9-]{0,12}") {
            let _ = (serials(&text), serials(&line), texts(&text), texts(&line));
        }
    }
}
