//! Images: sent as they are read, named by what they contain.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderName};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;

use crate::answer::or_default;
use crate::body::{Body, Readable};
use crate::client::{Call, Client};
use crate::error::IncusError;
use crate::path::ApiPath;

/// The digest that the server is to find in the end; it refuses the image otherwise.
const FINGERPRINT: HeaderName = HeaderName::from_static("x-incus-fingerprint");

/// An image at the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// SHA-256 of description and root file system, in 64 hex digits.
    pub fingerprint: String,
    /// Names of it.
    #[serde(default, deserialize_with = "or_default")]
    pub aliases: Vec<Alias>,
    /// What it says of itself.
    #[serde(default, deserialize_with = "or_default")]
    pub properties: BTreeMap<String, String>,
    /// How much room it takes at the server, in bytes.
    #[serde(default)]
    pub size: u64,
}

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Alias {
    /// The name.
    pub name: String,
}

impl Image {
    /// Its digest; `None` when what the server says is none.
    pub fn digest(&self) -> Option<Digest> {
        format!("sha256:{}", self.fingerprint).parse().ok()
    }
}

/// An image on this machine: what describes it, and a root file system as a tar archive or squashfs, packed as Incus can
/// unpack it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    description: Vec<u8>,
    rootfs: PathBuf,
    digest: Digest,
}

impl Source {
    /// Describes the root file system in a file; reads it once, for its digest. The same input gives the same digest.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn describe(
        rootfs: &Path,
        architecture: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, IncusError> {
        let failed = |source| IncusError::File { path: rootfs.to_owned(), source };
        let description = description(architecture, properties).map_err(failed)?;
        let (path, mut hash) = (rootfs.to_owned(), Sha256::new_with_prefix(&description));
        let digested = tokio::task::spawn_blocking(move || {
            io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
            Ok(Digest::from_bytes(hash.finalize().into()))
        });
        let digest = digested.await.map_err(io::Error::other).and_then(|digest| digest).map_err(failed)?;
        Ok(Self { description, rootfs: rootfs.to_owned(), digest })
    }

    /// An image that was described elsewhere: a tar archive with its `metadata.yaml`, the root file system, and the
    /// digest of both, one after the other. The server refuses what has another.
    ///
    /// # Errors
    /// When the description cannot be read.
    pub async fn described(description: &Path, rootfs: &Path, digest: Digest) -> Result<Self, IncusError> {
        let read = tokio::fs::read(description).await;
        let description = read.map_err(|source| IncusError::File { path: description.to_owned(), source })?;
        Ok(Self { description, rootfs: rootfs.to_owned(), digest })
    }

    /// What the server will know it by.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// A tar archive with `metadata.yaml`. JSON is YAML. Times are zero, so that equal images have equal digests.
fn description(architecture: &str, properties: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let text = json!({ "architecture": architecture, "creation_date": 1, "properties": properties }).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "metadata.yaml", text.as_bytes())?;
    archive.into_inner()
}

impl Client {
    /// All images of the project.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn images(&self) -> Result<Vec<Image>, IncusError> {
        self.list(self.scoped("images")).await
    }

    /// One image.
    ///
    /// # Errors
    /// When there is none of that digest, or the server cannot be reached or refuses.
    pub async fn image(&self, digest: Digest) -> Result<Image, IncusError> {
        self.read(self.image_path(digest)).await
    }

    /// Sends an image. A connection that breaks leaves nothing of it at the server.
    ///
    /// # Errors
    /// When it is there already, a file cannot be read, or the server cannot be reached, refuses or cannot do it.
    pub async fn upload_image(&self, source: &Source) -> Result<(), IncusError> {
        let Source { description, rootfs, digest } = source;
        let form = Form::of(*digest);
        let body = form.body(description.clone(), Readable::open(rootfs).await?);
        let call = Call::new(Method::POST, self.scoped("images"), self.patience().operation)
            .with_header(CONTENT_TYPE, form.content_type())
            .with_header(FINGERPRINT, digest.hex())
            .with_body(body);
        let server = self.asked(&call).server;
        let made = self.carry_out(call).await?;
        // The header above is for whole archives only in some versions of the server, so what it found is compared.
        match made["fingerprint"].as_str() {
            Some(found) if found == digest.hex() => Ok(()),
            found => {
                let found = found.unwrap_or("nothing").chars().take(64).collect();
                Err(IncusError::OtherImage { server, sent: *digest, found })
            }
        }
    }

    /// Gives an image a name; the name must be new.
    ///
    /// # Errors
    /// When the name is taken or there is no such image, or the server cannot be reached or refuses.
    pub async fn name_image(&self, digest: Digest, alias: &str) -> Result<(), IncusError> {
        let body = json!({ "name": alias, "target": digest.hex(), "type": "container", "description": "" });
        self.send(Method::POST, self.project_of(ApiPath::of("images").then("aliases")), &body).await.map(drop)
    }

    /// Takes a name away again.
    ///
    /// # Errors
    /// When there is none, or the server cannot be reached or refuses.
    pub async fn unname_image(&self, alias: &str) -> Result<(), IncusError> {
        self.remove(self.project_of(ApiPath::of("images").then("aliases").then(alias))).await
    }

    /// Removes an image, with its names. Instances made from it stay.
    ///
    /// # Errors
    /// When there is none, or the server cannot be reached or refuses.
    pub async fn delete_image(&self, digest: Digest) -> Result<(), IncusError> {
        self.remove(self.image_path(digest)).await
    }

    fn image_path(&self, digest: Digest) -> ApiPath {
        self.project_of(ApiPath::of("images").then(&digest.hex()))
    }
}

/// A form of two files (RFC 7578), as the server takes an image in two parts.
struct Form {
    boundary: String,
}

impl Form {
    /// Its boundary is the digest of what is between: nothing can contain its own.
    fn of(digest: Digest) -> Self {
        Self { boundary: format!("sovereign-{}", digest.hex()) }
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    fn head(&self, name: &str) -> String {
        let Self { boundary } = self;
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
    }

    fn body(&self, description: Vec<u8>, rootfs: Readable) -> Body {
        Body::default()
            .with(self.head("metadata"))
            .with(description)
            .with(format!("\r\n{}", self.head("rootfs")))
            .with_file(rootfs)
            .with(format!("\r\n--{}--\r\n", self.boundary))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_image_is_sent_as_a_form_of_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let rootfs = folder.path().join("rootfs.tar");
        std::fs::write(&rootfs, "ROOT").unwrap();
        let form = Form { boundary: "B".to_owned() };
        let body = form.body(b"META".to_vec(), Readable::open(&rootfs).await.unwrap());
        let length = http_body::Body::size_hint(&body).exact().unwrap();
        let sent = body.collect().await.unwrap().to_bytes();
        assert_eq!(sent.len() as u64, length);
        let part = |name: &str| {
            format!(
                "--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            )
        };
        let expected = format!("{}META\r\n{}ROOT\r\n--B--\r\n", part("metadata"), part("rootfs"));
        assert_eq!(String::from_utf8(sent.to_vec()).unwrap(), expected);
        assert_eq!(form.content_type(), "multipart/form-data; boundary=B");
    }

    #[tokio::test]
    async fn the_digest_is_of_description_and_root_file_system_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let rootfs = folder.path().join("rootfs.tar");
        std::fs::write(&rootfs, "ROOT").unwrap();
        let properties = BTreeMap::from([("os".to_owned(), "debian".to_owned())]);
        let once = Source::describe(&rootfs, "x86_64", &properties).await.unwrap();
        let again = Source::describe(&rootfs, "x86_64", &properties).await.unwrap();
        assert_eq!(once, again);
        let whole = [once.description.as_slice(), b"ROOT"].concat();
        assert_eq!(once.digest(), Digest::of(whole));
        let description = folder.path().join("metadata.tar");
        std::fs::write(&description, &once.description).unwrap();
        assert_eq!(Source::described(&description, &rootfs, once.digest()).await.unwrap(), once);
        assert!(Source::describe(&folder.path().join("gone"), "x86_64", &properties).await.is_err());
    }
}
