//! The table of addresses, made when the process starts and made anew whenever Debian's package has brought other files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sovereign_model::name_server_status::Geography;
use sovereign_runtime::control::Refusal;
use tokio::time::sleep;
use tracing::warn;

use crate::geography::nearest::Orders;
use crate::knot::table::{self, TableError};

/// The package is renewed every month or so, by the machine's own upgrades: nobody waits for it.
const LOOK: Duration = Duration::from_secs(60);

/// A table in Knot's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) path: PathBuf,
    pub(super) told: Geography,
}

/// Makes tables of these files.
#[derive(Debug)]
pub(super) struct Tables {
    files: [PathBuf; 2],
    folder: PathBuf,
    orders: Arc<Orders>,
    /// What the last one was made of, or tried to.
    of: Option<[Stamp; 2]>,
    /// Why there was none the last time.
    failed: Option<String>,
}

/// When a file was changed, and its size; `None` where there is none.
type Stamp = Option<(SystemTime, u64)>;

impl Tables {
    pub(super) fn new(files: [PathBuf; 2], folder: &Path, orders: Arc<Orders>) -> Self {
        Self { files, folder: folder.to_owned(), orders, of: None, failed: None }
    }

    /// Whether anybody is nearer to one data center than to another.
    pub(super) fn are_of_use(&self) -> bool {
        !self.orders.classes().is_empty()
    }

    /// Waits until there is another table, or another reason why there is none.
    pub(super) async fn next(&mut self) -> Result<Made, String> {
        loop {
            let of = self.files.each_ref().map(|file| stamp(file));
            if self.of.as_ref() != Some(&of) {
                // Files that change while they are read are read again at the next look.
                self.of = Some(of);
                let made = self.make(of).await;
                let failed = made.as_ref().err().cloned();
                if let Some(error) = &failed {
                    warn!(error, "readers cannot be led to the nearest data center by a new table");
                }
                let is_news = made.is_ok() || self.failed != failed;
                self.failed = failed;
                if is_news {
                    return made;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// On a thread of its own, which ends soon: it takes a second of CPU, and 30 MB that are given back.
    async fn make(&self, of: [Stamp; 2]) -> Result<Made, String> {
        let ([ipv4, ipv6], folder, orders) = (self.files.clone(), self.folder.clone(), self.orders.clone());
        let make = move || {
            let path = table::bring(&folder, &orders, &ipv4, &ipv6)?;
            let bytes = std::fs::metadata(&path).map_err(|source| TableError::Folder { path: path.clone(), source })?;
            Ok((path, bytes.len()))
        };
        let made = tokio::task::spawn_blocking(make).await;
        let words = |error: &TableError| {
            let Refusal { message, help } = Refusal::because(error, error.help());
            help.map_or_else(|| message.clone(), |help| format!("{message}; {help}"))
        };
        let (path, bytes) = made.map_err(io::Error::other).map_or_else(
            |error| Err(error.to_string()),
            |made: Result<_, TableError>| made.map_err(|error| words(&error)),
        )?;
        let changed = of.into_iter().flatten().map(|(changed, _)| changed).max();
        let of_unix = changed.and_then(|changed| changed.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(Made { path, told: Geography { of_unix: of_unix.map_or(0, |since| since.as_secs()), bytes } })
    }
}

fn stamp(file: &Path) -> Stamp {
    let data = std::fs::metadata(file).ok()?;
    Some((data.modified().ok()?, data.len()))
}

#[cfg(test)]
mod tests {
    use sovereign_model::names::{Names, Place};
    use sovereign_model::stack::Location;

    use super::*;

    fn orders(places: [(&str, f64); 2]) -> Arc<Orders> {
        let place = |(name, longitude): (&str, f64)| Place {
            name: name.parse().unwrap(),
            location: Some(Location { latitude: 0.0, longitude }),
            jurisdiction: None,
            uplinks: Vec::new(),
        };
        let names = Names {
            places: places.map(place).into(),
            domains: Vec::new(),
            secondaries: Vec::new(),
            sites: Vec::new(),
            issuers: None,
        };
        Arc::new(Orders::new(&names))
    }

    /// Nothing here waits for a look to be due: what changed is seen before the first wait.
    #[tokio::test]
    async fn a_table_is_made_when_the_package_comes_and_stays_when_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["geoip", "geoip6"].map(|name| folder.path().join(name));
        let mut tables = Tables::new(files.clone(), &folder.path().join("knot"), orders([("a", 0.0), ("b", 90.0)]));
        assert!(tables.are_of_use());
        let absent = tables.next().await.unwrap_err();
        assert!(absent.contains("geoip") && absent.contains("apt-get install"), "{absent}");

        std::fs::write(&files[0], "16777216,16777471,AT\n").unwrap();
        std::fs::write(&files[1], "2001:db8::,2001:db8::ff,IN\n").unwrap();
        let made = tables.next().await.unwrap();
        assert_eq!(made.told.bytes, std::fs::metadata(&made.path).unwrap().len());
        assert!(made.told.of_unix > 0);

        std::fs::write(&files[0], "16777216,16777471\n").unwrap();
        let damaged = tables.next().await.unwrap_err();
        assert!(damaged.contains("geoip, line 1") && made.path.exists(), "{damaged}");
        std::fs::write(&files[0], "16777216,16777471,IN\n").unwrap();
        assert_ne!(tables.next().await.unwrap().path, made.path);
    }

    #[tokio::test]
    async fn without_two_places_there_is_nothing_to_be_made() {
        let names = Names {
            places: Vec::new(),
            domains: Vec::new(),
            secondaries: Vec::new(),
            sites: Vec::new(),
            issuers: None,
        };
        let nobody = Arc::new(Orders::new(&names));
        assert!(!Tables::new([PathBuf::new(), PathBuf::new()], Path::new("/"), nobody).are_of_use());
    }
}
