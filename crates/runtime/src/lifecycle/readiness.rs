//! Telling whoever started the daemon that it serves: the protocol of sd_notify(3).

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket to tell; an `@` at its beginning stands for the abstract namespace.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Whom to tell; nobody, when nobody asked.
#[derive(Debug, Clone)]
pub struct Readiness(Option<OsString>);

impl Readiness {
    /// Tells the socket named by the value of [`NOTIFY_SOCKET`].
    pub fn to(socket: Option<OsString>) -> Self {
        Self(socket.filter(|name| !name.is_empty()))
    }

    /// From the environment.
    pub fn from_env() -> Self {
        Self::to(std::env::var_os(NOTIFY_SOCKET))
    }

    /// The daemon serves. Returns whether somebody was told.
    pub fn ready(&self) -> io::Result<bool> {
        self.tell("READY=1\n")
    }

    /// The daemon drains.
    pub fn stopping(&self) -> io::Result<bool> {
        self.tell("STOPPING=1\n")
    }

    fn tell(&self, message: &str) -> io::Result<bool> {
        let Some(name) = &self.0 else { return Ok(false) };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn whoever_asked_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let readiness = Readiness::to(Some(path.into()));
        assert!(readiness.ready().unwrap());
        assert_eq!(heard(&listener), "READY=1\n");
        assert!(readiness.stopping().unwrap());
        assert_eq!(heard(&listener), "STOPPING=1\n");
    }

    #[test]
    fn the_abstract_namespace_is_reached() {
        let name = format!("sovereign-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        Readiness::to(Some(format!("@{name}").into())).ready().unwrap();
        assert_eq!(heard(&listener), "READY=1\n");
    }

    #[test]
    fn nobody_asked_nobody_told() {
        assert!(!Readiness::to(None).ready().unwrap());
        assert!(!Readiness::to(Some(OsString::new())).ready().unwrap());
    }
}
