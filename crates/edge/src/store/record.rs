//! One page as a file.
//!
//! ```text
//!   offset  bytes
//!        0      8   magic, the version in it
//!        8      4   length of the head, little endian
//!       12      8   length of the body, little endian
//!       20     32   SHA-256 of the body
//!       52     32   SHA-256 of the 52 bytes above and the head
//!       84      …   head: JSON, so that a person can read it
//!        …      …   body
//! ```

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sovereign_model::SiteName;

use super::{BodyFile, Head, StoreError};
use crate::policy::{Selection, Terms};
use crate::route::{Key, Target};

const MAGIC: &[u8; 8] = b"SVPAGE01";
/// Bytes before the head.
const PREFIX: usize = 84;
/// Where the checksum of prefix and head lies.
const CHECK: usize = 52;
/// The longest head that is believed: HTTP implementations allow less.
const LONGEST_HEAD: u32 = 256 << 10;
/// How much is read at once while a long body is checked.
const CHUNK: usize = 256 << 10;

/// What a record's file must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) head_length: u32,
    pub(super) body_length: u64,
    pub(super) body_digest: [u8; 32],
    /// Tells this record from any other under the same key.
    pub(super) check: [u8; 32],
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not a record, or one of another version.
    #[error("it is not a record of this version")]
    Magic,
    /// The file is shorter or longer than it says.
    #[error("its length is not what it says")]
    Length,
    /// The head's checksum does not hold.
    #[error("its head is damaged")]
    Head,
    /// The body's checksum does not hold.
    #[error("its body is damaged")]
    Body,
    /// The head is whole but not understood.
    #[error("its head is not understood")]
    Meaning(#[from] serde_json::Error),
    /// A field that HTTP does not allow.
    #[error("its head has a field that is not allowed")]
    Field,
    /// The page was fetched again or removed meanwhile.
    #[error("it was replaced meanwhile")]
    Replaced,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct HeadOnDisk {
    site: SiteName,
    target: Target,
    #[serde(default, skip_serializing_if = "is_first")]
    variant: u8,
    #[serde(default, skip_serializing_if = "Selection::is_empty")]
    selection: Selection,
    status: u16,
    /// Names and values; each character of a value is one byte (ISO 8859-1).
    fields: Vec<(String, String)>,
    terms: Terms,
}

fn is_first(variant: &u8) -> bool {
    *variant == 0
}

/// Where the record of `key` lies.
pub(super) fn path(folder: &Path, key: &Key) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(key.site.as_str());
    hash.update([0]);
    hash.update(key.target.as_str());
    if key.variant > 0 {
        hash.update([0, key.variant]);
    }
    let name = hex::encode(hash.finalize());
    folder.join(&name[..2]).join(name)
}

/// The head's bytes.
///
/// # Panics
/// When a time in its terms lies before 1970.
pub fn encode(head: &Head) -> Vec<u8> {
    let on_disk = HeadOnDisk {
        site: head.key.site.clone(),
        target: head.key.target.clone(),
        variant: head.key.variant,
        selection: head.selection.clone(),
        status: head.status.as_u16(),
        fields: head
            .fields
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().iter().copied().map(char::from).collect()))
            .collect(),
        terms: head.terms,
    };
    serde_json::to_vec(&on_disk).expect("names, numbers and times after 1970 serialize to JSON")
}

/// The bytes before the head, and the shape they describe.
pub(super) fn seal(head: &[u8], body_length: u64, body_digest: [u8; 32]) -> ([u8; PREFIX], Shape) {
    let head_length = u32::try_from(head.len()).expect("a head is bounded by the HTTP implementation");
    let mut prefix = [0; PREFIX];
    prefix[..8].copy_from_slice(MAGIC);
    prefix[8..12].copy_from_slice(&head_length.to_le_bytes());
    prefix[12..20].copy_from_slice(&body_length.to_le_bytes());
    prefix[20..CHECK].copy_from_slice(&body_digest);
    let check = checksum(&prefix, head);
    prefix[CHECK..].copy_from_slice(&check);
    (prefix, Shape { head_length, body_length, body_digest, check })
}

/// Where the body of a record with a head of this length begins.
pub(super) fn body_offset(head_length: usize) -> u64 {
    (PREFIX + head_length) as u64
}

fn checksum(prefix: &[u8; PREFIX], head: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(&prefix[..CHECK]).chain_update(head).finalize().into()
}

fn shape(prefix: &[u8; PREFIX]) -> Result<Shape, RecordError> {
    let (magic, rest) = prefix.split_first_chunk().expect("the prefix is longer");
    let (head_length, rest) = rest.split_first_chunk().expect("the prefix is longer");
    let (body_length, rest) = rest.split_first_chunk().expect("the prefix is longer");
    let (body_digest, rest) = rest.split_first_chunk().expect("the prefix is longer");
    let (check, _) = rest.split_first_chunk().expect("the prefix is longer");
    let head_length = u32::from_le_bytes(*head_length);
    if magic != MAGIC {
        return Err(RecordError::Magic);
    }
    if head_length > LONGEST_HEAD {
        return Err(RecordError::Length);
    }
    Ok(Shape { head_length, body_length: u64::from_le_bytes(*body_length), body_digest: *body_digest, check: *check })
}

/// Reads and checks all but the body.
pub(super) fn read_head(path: &Path) -> Result<(Head, Shape), StoreError> {
    let (mut file, shape, prefix) = open(path)?;
    let mut head = vec![0; shape.head_length as usize];
    read_exact(path, &mut file, &mut head)?;
    if checksum(&prefix, &head) != shape.check {
        return Err(broken(path, RecordError::Head));
    }
    let head = decode(&head).map_err(|source| broken(path, source))?;
    Ok((head, shape))
}

/// Reads a head's bytes.
///
/// # Errors
/// When they are not what [`encode`] writes.
pub fn decode(head: &[u8]) -> Result<Head, RecordError> {
    let HeadOnDisk { site, target, variant, selection, status, fields, terms } = serde_json::from_slice(head)?;
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::try_from(name).map_err(|_| RecordError::Field)?;
        let value: Option<Vec<u8>> = value.chars().map(|character| u8::try_from(character).ok()).collect();
        let value = value.and_then(|bytes| HeaderValue::try_from(bytes).ok()).ok_or(RecordError::Field)?;
        map.append(name, value);
    }
    let status = StatusCode::from_u16(status).map_err(|_| RecordError::Field)?;
    Ok(Head { key: Key { site, target, variant }, status, fields: map, terms, selection })
}

/// Opens the body of the record that has this shape.
pub(super) fn open_body(path: &Path, expected: &Shape) -> Result<BodyFile, StoreError> {
    let (file, found, _) = match open(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(broken(path, RecordError::Replaced));
        }
        opened => opened?,
    };
    if found != *expected {
        return Err(broken(path, RecordError::Replaced));
    }
    Ok(BodyFile { file, offset: body_offset(found.head_length as usize), length: found.body_length })
}

/// Reads a short body whole and checks it.
pub(super) fn read_body(path: &Path, body: &BodyFile, shape: &Shape) -> Result<Bytes, StoreError> {
    let length = usize::try_from(body.length).map_err(|_| broken(path, RecordError::Length))?;
    let bytes = body.read_at(0, length).map_err(StoreError::io("read", path))?;
    if <[u8; 32]>::from(Sha256::digest(&bytes)) != shape.body_digest {
        return Err(broken(path, RecordError::Body));
    }
    Ok(bytes)
}

/// Checks a long body in its file.
pub(super) fn verify_body(path: &Path, body: &BodyFile, shape: &Shape) -> Result<(), StoreError> {
    let mut hash = Sha256::new();
    let mut position = 0;
    while position < body.length {
        let chunk = body.read_at(position, CHUNK).map_err(StoreError::io("read", path))?;
        position += chunk.len() as u64;
        hash.update(&chunk);
    }
    if <[u8; 32]>::from(hash.finalize()) == shape.body_digest { Ok(()) } else { Err(broken(path, RecordError::Body)) }
}

fn open(path: &Path) -> Result<(File, Shape, [u8; PREFIX]), StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut prefix = [0; PREFIX];
    read_exact(path, &mut file, &mut prefix)?;
    let shape = shape(&prefix).map_err(|source| broken(path, source))?;
    let length = file.metadata().map_err(StoreError::io("inspect", path))?.len();
    if body_offset(shape.head_length as usize).checked_add(shape.body_length) != Some(length) {
        return Err(broken(path, RecordError::Length));
    }
    Ok((file, shape, prefix))
}

fn read_exact(path: &Path, file: &mut File, into: &mut [u8]) -> Result<(), StoreError> {
    file.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => broken(path, RecordError::Length),
        _ => StoreError::io("read", path)(error),
    })
}

fn broken(path: &Path, source: RecordError) -> StoreError {
    StoreError::Record { path: path.to_owned(), source }
}
