//! Files in instances, running or not: put there, read, removed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};

use crate::answer::Answer;
use crate::body::{Body, Readable};
use crate::client::{Call, Client, Raw};
use crate::error::IncusError;
use crate::name::InstanceName;
use crate::path::ApiPath;

const UID: HeaderName = HeaderName::from_static("x-incus-uid");
const GID: HeaderName = HeaderName::from_static("x-incus-gid");
const MODE: HeaderName = HeaderName::from_static("x-incus-mode");
const TYPE: HeaderName = HeaderName::from_static("x-incus-type");
const WRITE: HeaderName = HeaderName::from_static("x-incus-write");

/// What the server takes for a file, in whole. Anything that looks like a form is read as one: the file would be empty.
const BYTES: &str = "application/octet-stream";

/// How often a file is sent to a server whose helper ends under it.
const MOST_TRIES: u32 = 4;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Whose a file is and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// Permission bits.
    pub mode: u32,
    /// The user, as the instance counts.
    pub uid: u32,
    /// The group, as the instance counts.
    pub gid: u32,
}

impl Owned {
    /// Root's, with these permission bits.
    pub const fn by_root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// What is put into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What is in this file of this machine.
    File(PathBuf),
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Whose it is.
    pub owned: Owned,
    /// What is in it.
    pub content: Vec<u8>,
}

impl Client {
    /// Puts a file into an instance; one that is there is replaced. Its folder must be there.
    ///
    /// # Errors
    /// When the folder or the instance is missing, or the server cannot be reached, refuses or cannot do it.
    pub async fn push_file(
        &self,
        instance: &InstanceName,
        path: &Path,
        content: &Content,
        owned: Owned,
    ) -> Result<(), IncusError> {
        let mut tries = MOST_TRIES;
        loop {
            let body = match content {
                Content::Bytes(bytes) => Body::default().with(bytes.clone()),
                Content::File(file) => Body::default().with_file(Readable::open(file).await?),
            };
            let call = self.put(instance, path, "file", owned).with_header(WRITE, "overwrite").with_body(body);
            match self.carry_out(call).await {
                Err(error) if tries > 1 && error.is_without_helper() => tries -= 1,
                done => return done.map(drop),
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    /// Makes a folder. One that is there stays as it is, and its owner too.
    ///
    /// # Errors
    /// When the folder above or the instance is missing, or the server cannot be reached, refuses or cannot do it.
    pub async fn make_folder(&self, instance: &InstanceName, path: &Path, owned: Owned) -> Result<(), IncusError> {
        self.carry_out(self.put(instance, path, "directory", owned)).await.map(drop)
    }

    /// Makes a symbolic link to `target`.
    ///
    /// # Errors
    /// When something of that name is there, or the server cannot be reached, refuses or cannot do it.
    pub async fn make_link(&self, instance: &InstanceName, path: &Path, target: &Path) -> Result<(), IncusError> {
        let body = Body::default().with(target.as_os_str().as_bytes().to_vec());
        let call = self.put(instance, path, "symlink", Owned::by_root(0o777)).with_body(body);
        self.carry_out(call).await.map(drop)
    }

    /// Reads a file of at most `most` bytes.
    ///
    /// # Errors
    /// When there is none, it is longer or a folder, or the server cannot be reached or refuses.
    pub async fn pull_file(&self, instance: &InstanceName, path: &Path, most: usize) -> Result<Pulled, IncusError> {
        let call = Call::new(Method::GET, self.file_path(instance, path), self.patience().operation);
        let asked = self.asked(&call);
        let Raw { status, headers, bytes, is_cut } = self.exchange(call, most).await?;
        if status != 200 {
            return Err(match Answer::parse(&bytes) {
                Ok(Answer::Error { status, message }) => asked.refused(status, message),
                _ => asked.unintelligible(format_args!("status {status} and no reason")),
            });
        }
        match headers.get(TYPE).and_then(|value| value.to_str().ok()) {
            Some("file" | "symlink") => {}
            other => return Err(asked.unintelligible(format_args!("it is no file but a {}", other.unwrap_or("?")))),
        }
        if is_cut {
            return Err(asked.too_long(most));
        }
        let owned = owned(&headers).ok_or_else(|| asked.unintelligible("no owner or mode"))?;
        Ok(Pulled { owned, content: bytes })
    }

    /// Removes a file, a link or an empty folder.
    ///
    /// # Errors
    /// When there is none, or the server cannot be reached or refuses.
    pub async fn remove_file(&self, instance: &InstanceName, path: &Path) -> Result<(), IncusError> {
        self.remove(self.file_path(instance, path)).await
    }

    fn put(&self, instance: &InstanceName, path: &Path, kind: &str, Owned { mode, uid, gid }: Owned) -> Call {
        Call::new(Method::POST, self.file_path(instance, path), self.patience().operation)
            .with_header(CONTENT_TYPE, BYTES)
            .with_header(TYPE, kind)
            .with_header(MODE, format!("{:04o}", mode & 0o7777))
            .with_header(UID, uid.to_string())
            .with_header(GID, gid.to_string())
    }

    fn file_path(&self, instance: &InstanceName, path: &Path) -> ApiPath {
        self.instance_path(instance, &["files"]).with_bytes("path", path.as_os_str().as_bytes())
    }
}

fn owned(headers: &HeaderMap) -> Option<Owned> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    Some(Owned {
        mode: u32::from_str_radix(text(MODE)?.trim_start_matches("0o"), 8).ok()? & 0o7777,
        uid: text(UID)?.parse().ok()?,
        gid: text(GID)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn owner_and_mode_are_read_or_not_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [(MODE, "0640"), (UID, "33"), (GID, "4294967295")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(owned(&headers), Some(Owned { mode: 0o640, uid: 33, gid: u32::MAX }));
        for strange in ["", "abc", "-1", "99"] {
            headers.insert(MODE, HeaderValue::from_static(strange));
            assert_eq!(owned(&headers), None, "{strange:?}");
        }
    }
}
