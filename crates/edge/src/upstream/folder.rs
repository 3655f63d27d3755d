//! A folder of files as the source of a site.
//!
//! Promise: nothing outside the folder is read, whatever a path or a symbolic link says (the kernel resolves every
//! path beneath the folder, openat2(2)); names that begin with a dot stay private, `/.well-known/` (RFC 8615) aside.
//! A folder is answered with its `index.html`, a missing page with the folder's `404.html` when there is one.
//!
//! Answers are complete and carry an ETag made of length and time of change; ranges and what readers have already are
//! the business of whoever serves the kept copy.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::mime::content_type;
use crate::body::{Body, FileBody};
use crate::room::Kind;
use crate::route::Target;
use crate::store::Known;

/// Files up to this size are read at once.
const SMALL: u64 = 64 << 10;
/// A file is looked at again after this long: copies elsewhere learn of a change as fast.
const FRESH_FOR: Duration = Duration::from_secs(5);

/// The folder of a static site.
pub(crate) struct Folder {
    root: PathBuf,
}

/// What a path leads to.
enum Found {
    File(File),
    /// A folder that was asked for without the slash.
    NeedsSlash,
    Nothing,
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Arc<Self> {
        Arc::new(Self { root })
    }

    /// Answers a GET or HEAD.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "This site can only be read.\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let Some(Ok(target)) = request.uri().path_and_query().map(|target| Target::parse(target.as_str())) else {
            return plain(StatusCode::BAD_REQUEST, "The address is not in a safe form.\n");
        };
        let known = request.headers().get(IF_NONE_MATCH).cloned();
        let head_only = request.method() == Method::HEAD;
        let folder = self.clone();
        // The file system may be slow, and openat2 has no other form.
        let respond = move || match folder.respond(&target, known.as_ref(), head_only) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && folder.is_ours() => {
                plain(StatusCode::FORBIDDEN, "This file may not be read.\n")
            }
            // It is away, and what is kept of it is served: this process may not read the folder that its newest
            // configuration names, until the next one has taken its place.
            other => other.unwrap_or_else(|_| plain(StatusCode::SERVICE_UNAVAILABLE, "The folder cannot be read.\n")),
        };
        let answered = tokio::task::spawn_blocking(respond).await;
        answered.unwrap_or_else(|_| plain(StatusCode::SERVICE_UNAVAILABLE, "The folder cannot be read.\n"))
    }

    /// Whether the folder itself may be read.
    fn is_ours(&self) -> bool {
        std::fs::read_dir(&self.root).is_ok()
    }

    fn respond(&self, target: &Target, known: Option<&HeaderValue>, head_only: bool) -> io::Result<Response<Body>> {
        let (status, file, name) = match self.find(target.path())? {
            Found::File(file) => (StatusCode::OK, file, served_name(target.path())),
            Found::NeedsSlash => {
                let mut response = plain(StatusCode::MOVED_PERMANENTLY, "");
                let location = HeaderValue::try_from(format!("{}/", target.path())).map_err(io::Error::other)?;
                response.headers_mut().insert(LOCATION, location);
                return Ok(response);
            }
            Found::Nothing => match self.find("/404.html")? {
                Found::File(file) => (StatusCode::NOT_FOUND, file, "404.html".to_owned()),
                _ => return Ok(plain(StatusCode::NOT_FOUND, "There is no such page.\n")),
            },
        };
        let metadata = file.metadata()?;
        let changed = metadata.modified()?;
        let etag = etag(metadata.len(), changed);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&name)));
        fields
            .insert(LAST_MODIFIED, HeaderValue::try_from(httpdate::fmt_http_date(changed)).map_err(io::Error::other)?);
        if status == StatusCode::OK {
            let lifetime = format!("public, max-age={}", FRESH_FOR.as_secs());
            fields.insert(CACHE_CONTROL, HeaderValue::try_from(lifetime).map_err(io::Error::other)?);
            fields.insert(ETAG, etag.clone());
            if known.is_some_and(|known| known == etag) {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
        }
        fields.insert(CONTENT_LENGTH, metadata.len().into());
        if !head_only {
            *response.body_mut() = contents(file, metadata.len())?;
        }
        Ok(response)
    }

    fn find(&self, path: &str) -> io::Result<Found> {
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let hidden = |name: &str| name.starts_with('.') && name != ".well-known";
        if decoded.split('/').any(hidden) {
            return Ok(Found::Nothing);
        }
        let relative = decoded.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let Some(file) = self.open(Path::new(relative))? else { return Ok(Found::Nothing) };
        if !file.metadata()?.is_dir() {
            // `/page.html/` is not a page.
            return Ok(if decoded.ends_with('/') { Found::Nothing } else { Found::File(file) });
        }
        match self.open(&Path::new(relative).join("index.html"))? {
            Some(_) if !decoded.ends_with('/') => Ok(Found::NeedsSlash),
            Some(index) if index.metadata()?.is_file() => Ok(Found::File(index)),
            _ => Ok(Found::Nothing),
        }
    }

    fn open(&self, relative: &Path) -> io::Result<Option<File>> {
        let root = rustix::fs::open(&self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // NONBLOCK: a named pipe in the folder must not hold a thread for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&root, relative, flags, Mode::empty(), resolve) {
            Ok(file) => regular_or_folder(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::XDEV) => Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NAMETOOLONG | rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All files by the paths that readers ask for them by; what a mirror needs to be complete.
    pub(crate) fn list(&self) -> io::Result<Vec<Known>> {
        let mut known = Vec::new();
        let mut folders = vec![(self.root.clone(), "/".to_owned())];
        while let Some((folder, path)) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|name| !name.starts_with('.') || *name == ".well-known") else {
                    continue;
                };
                let encoded = percent_encoding::utf8_percent_encode(name, SEGMENT);
                let file = entry.file_type()?;
                let target = if file.is_dir() {
                    folders.push((entry.path(), format!("{path}{encoded}/")));
                    continue;
                } else if name == "index.html" {
                    Target::parse(&path)
                } else if file.is_file() || file.is_symlink() {
                    Target::parse(&format!("{path}{encoded}"))
                } else {
                    continue;
                };
                let length = entry.path().metadata().ok().map(|file| file.len());
                let kind = Kind::of_type(content_type(name));
                known.extend(target.map(|target| Known { target, length, kind }));
            }
        }
        Ok(known)
    }
}

/// What cannot stand in a path segment as it is (RFC 3986 section 3.3), and `;`, which some servers read as one.
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn regular_or_folder(file: OwnedFd) -> io::Result<Option<File>> {
    let file = File::from(file);
    let metadata = file.metadata()?;
    Ok((metadata.is_file() || metadata.is_dir()).then_some(file))
}

fn served_name(path: &str) -> String {
    if path.ends_with('/') { "index.html".to_owned() } else { path.to_ascii_lowercase() }
}

fn etag(length: u64, changed: SystemTime) -> HeaderValue {
    let nanos = changed.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    HeaderValue::try_from(format!("\"{nanos:x}-{length:x}\"")).expect("hex digits and quotes are a field value")
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Exactly `length` bytes of `file`: a file that shrinks meanwhile breaks the answer off instead of corrupting it.
fn contents(file: File, length: u64) -> io::Result<Body> {
    if length <= SMALL {
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(Body::whole(bytes.into()));
    }
    Ok(Body::stream(FileBody::new(file, 0..length)))
}
