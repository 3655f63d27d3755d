//! The port to a host: commands, files, and the ports of its instances.

use std::io;
use std::net::SocketAddrV4;

use sovereign_hosts::{Connection, systemd};
use sovereign_incus::Stream;

/// A host with an Incus: what a connection to one implements.
pub trait InstanceHost: systemd::Host {
    /// A stream to a port, from the host.
    fn dial(&self, to: SocketAddrV4) -> impl Future<Output = io::Result<Box<dyn Stream>>> + Send;
}

impl InstanceHost for Connection {
    async fn dial(&self, to: SocketAddrV4) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(Self::dial(self, to.into())?))
    }
}
