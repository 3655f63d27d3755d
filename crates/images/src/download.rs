//! Fetching locked packages: interrupted as often as it takes, never a wrong byte.
//!
//! A package is written to `<name>.part` and gets its name when its SHA-512 digest is the locked one. What a broken
//! connection or a killed program left in a part is continued with a range request (RFC 9110 section 14).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha512};
use ureq::Agent;
use ureq::http::{StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider};

use crate::ImageError;
use crate::error::At as _;
use crate::lock::{Integrity, Package};
use crate::progress::{Event, Progress, Receipt, Stage, Unit};
use crate::registry::{Registries, Registry};

/// How often in a row a package may fail without a single new byte. With the waits between, about fifteen seconds: a
/// router's restart is over by then or takes too long to wait for.
const FRUITLESS_ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A connection that is silent for so long is given up and continued by another.
const SILENCE: Duration = Duration::from_secs(30);
/// What is said of a version has some kilobytes.
const LONGEST_ANSWER: u64 = 4 << 20;

/// What came from a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fetched {
    /// Who was asked; a redirect is not followed here.
    pub host: String,
    /// How many packages.
    pub files: u64,
    /// How many bytes of them.
    pub bytes: u64,
}

/// Fetches the packages of a lock into a folder.
pub(crate) struct Downloads<'a> {
    folder: PathBuf,
    /// `None` when offline.
    network: Option<Network<'a>>,
    progress: &'a dyn Progress,
    /// Bytes of packages that are done.
    done: u64,
    /// Bytes of all packages.
    total: u64,
}

struct Network<'a> {
    agent: Agent,
    registries: &'a Registries,
}

/// How an attempt ended.
enum Ended {
    /// The server says that this was all.
    Complete,
    /// The connection broke, or the server asks for patience.
    Interrupted(String),
    /// The server does not want to.
    Refused(StatusCode),
}

impl<'a> Downloads<'a> {
    /// Fetches into `folder`; `registries` is `None` when offline.
    pub(crate) fn new(
        folder: PathBuf,
        registries: Option<&'a Registries>,
        total: u64,
        progress: &'a dyn Progress,
    ) -> Result<Self, ImageError> {
        let network = registries
            .map(|registries| Ok::<_, ImageError>(Network { agent: agent(registries)?, registries }))
            .transpose()?;
        Ok(Self { folder, network, progress, done: 0, total })
    }

    /// Those of `packages` that offline could not be had.
    pub(crate) fn missing<'p>(&self, packages: impl Iterator<Item = &'p Package>) -> Vec<&'p Package> {
        packages.filter(|package| self.network.is_none() && !self.file(package).exists()).collect()
    }

    fn file(&self, package: &Package) -> PathBuf {
        self.folder.join(format!("{}.tgz", package.integrity.file_name()))
    }

    /// The file with a package's archive, checked.
    pub(crate) fn fetch(&mut self, package: &Package, receipt: &mut Receipt) -> Result<File, ImageError> {
        let path = self.file(package);
        // A file with the right name was checked when it got the name; disks forget, and checking again costs little.
        if !path.exists() || integrity(&path)? != package.integrity {
            self.download(package, &path, receipt)?;
        }
        // Of a version that is being chosen the lock knows only how large it may be.
        self.done += size(&path);
        self.advanced(0, &package.to_string());
        File::open(&path).at("read", &path)
    }

    fn download(&self, package: &Package, path: &Path, receipt: &mut Receipt) -> Result<(), ImageError> {
        let Some(network) = &self.network else {
            let reason = "the file was damaged, and this is offline".to_owned();
            let host = "the local cache".to_owned();
            return Err(ImageError::Download { package: package.to_string(), host, reason, status: None });
        };
        let registry = network.registries.of(&package.name)?;
        let part = path.with_extension("part");
        let failed = |reason, status| {
            let host = registry.host.clone();
            ImageError::Download { package: package.to_string(), host, reason, status }
        };
        let (mut fruitless, mut wait, mut resumed) = (0, FIRST_WAIT, false);
        loop {
            let before = size(&part);
            resumed |= before > 0;
            let ended = self.attempt(network, &registry, package, &part)?;
            let after = size(&part);
            let fresh = after.saturating_sub(before);
            receipt.fetched(Fetched { host: registry.host.clone(), files: 0, bytes: fresh });
            match ended {
                Ended::Complete => {
                    let found = integrity(&part)?;
                    if found == package.integrity {
                        File::open(&part).and_then(|file| file.sync_all()).at("write to disk", &part)?;
                        fs::rename(&part, path).at("rename", &part)?;
                        receipt.fetched(Fetched { host: registry.host.clone(), files: 1, bytes: 0 });
                        return Ok(());
                    }
                    fs::remove_file(&part).at("remove", &part)?;
                    if !resumed {
                        let (expected, found) = (Box::new(package.integrity), Box::new(found));
                        let host = registry.host.clone();
                        return Err(ImageError::Integrity { package: package.to_string(), host, expected, found });
                    }
                    // The beginning may have been damaged when this machine went down: once more from the start.
                    resumed = false;
                    self.progress
                        .report(Event::Note { message: "a continued download was damaged, starting it again" });
                }
                Ended::Refused(status) => {
                    return Err(failed(format!("the answer was {status}"), Some(status.as_u16())));
                }
                Ended::Interrupted(_) if fresh > 0 => (fruitless, wait) = (0, FIRST_WAIT),
                Ended::Interrupted(reason) => {
                    fruitless += 1;
                    if fruitless == FRUITLESS_ATTEMPTS {
                        return Err(failed(reason, None));
                    }
                    let message = format!("{package}: {reason}; trying again in {} s", wait.as_secs());
                    self.progress.report(Event::Note { message: &message });
                    thread::sleep(wait);
                    wait *= 2;
                }
            }
        }
    }

    /// One request: appends to the part what the server sends.
    fn attempt(
        &self,
        network: &Network<'_>,
        registry: &Registry,
        package: &Package,
        part: &Path,
    ) -> Result<Ended, ImageError> {
        let mut have = size(part);
        if have >= package.bytes {
            // Whole, or wrong: the digest tells.
            return Ok(Ended::Complete);
        }
        let mut request = network.agent.get(registry.archive(package));
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        if let Some(authorization) = &registry.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Ended::Interrupted(error.to_string())),
        };
        let field = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let continues = field(header::CONTENT_RANGE).is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
        match response.status() {
            StatusCode::PARTIAL_CONTENT if continues => {}
            StatusCode::OK => have = 0,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                fs::remove_file(part).at("remove", part)?;
                return Ok(Ended::Interrupted("the server could not continue the download".to_owned()));
            }
            status
                if status.is_server_error()
                    || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) =>
            {
                return Ok(Ended::Interrupted(format!("the answer was {status}")));
            }
            status => return Ok(Ended::Refused(status)),
        }
        let announced = field(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let end = announced.map_or(package.bytes, |length| have + length);
        let mut file = OpenOptions::new().create(true).append(true).open(part).at("write", part)?;
        file.set_len(have).at("write", part)?;
        // One byte more than there should be is enough to see that it is wrong.
        let mut body = response.into_body().into_reader().take(package.bytes + 1 - have);
        let mut buffer = vec![0; 1 << 17];
        let what = package.to_string();
        let mut written = have;
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) if written >= end || written > package.bytes => return Ok(Ended::Complete),
                Ok(0) => return Ok(Ended::Interrupted(format!("the connection ended after {written} bytes"))),
                Ok(read) => read,
                Err(error) => return Ok(Ended::Interrupted(error.to_string())),
            };
            file.write_all(&buffer[..read]).at("write", part)?;
            written += read as u64;
            self.advanced(written.min(package.bytes), &what);
        }
    }

    fn advanced(&self, current: u64, what: &str) {
        let (stage, unit) = (Stage::Download, Unit::Bytes);
        self.progress.report(Event::Advanced { stage, done: self.done + current, total: Some(self.total), unit, what });
    }
}

/// What a registry says of a version of a package, JSON.
pub(crate) fn ask(registries: &Registries, package: &Package) -> Result<Vec<u8>, ImageError> {
    let registry = registries.of(&package.name)?;
    let failed = |reason: String, status| {
        let host = registry.host.clone();
        ImageError::Download { package: package.to_string(), host, reason, status }
    };
    let mut request = agent(registries)?.get(registry.told(package));
    if let Some(authorization) = &registry.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let response = request.call().map_err(|error| failed(error.to_string(), None))?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        return Err(failed(format!("the answer was {status}"), Some(status.as_u16())));
    }
    let mut said = Vec::new();
    let read = response.into_body().into_reader().take(LONGEST_ANSWER).read_to_end(&mut said);
    read.map_err(|error| failed(error.to_string(), None))?;
    Ok(said)
}

/// The size of a file, zero when it is missing.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn integrity(path: &Path) -> Result<Integrity, ImageError> {
    let mut hasher = Sha512::new();
    let mut file = File::open(path).at("read", path)?;
    io::copy(&mut file, &mut hasher).at("read", path)?;
    Ok(Integrity::of(hasher))
}

/// Trusts what this machine trusts, or the authorities npm is told to trust.
fn agent(registries: &Registries) -> Result<Agent, ImageError> {
    let roots = match &registries.authorities {
        None => RootCerts::PlatformVerifier,
        Some(path) => {
            let pem = fs::read(path).at("read", path)?;
            let items = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                Ok(_) | Err(_) => None,
            });
            RootCerts::Specific(Arc::new(items.collect()))
        }
    };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    let mut config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .user_agent(concat!("sovereign/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    // Without this, the agent takes the proxy from the environment.
    if let Some(proxy) = &registries.proxy {
        let proxy = ureq::Proxy::new(proxy).map_err(|error| ImageError::Registry { reason: error.to_string() })?;
        config = config.proxy(Some(proxy));
    }
    Ok(Agent::new_with_config(config.build()))
}

#[cfg(test)]
mod tests;
