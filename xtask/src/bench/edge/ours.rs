//! Our edge, the way an operator gets it: the release binary, a stack file, an empty home, `sovereign up`.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::rivals::Credentials;
use super::server::{Role, Server, folder};
use super::site::{Origin, Site};
use crate::run::read;
use crate::stack::{Stack, free_ports};

/// Brings it up before the origin; and the certificate that it shows.
pub(super) fn start(site: &Site, origin: &Origin, program: &Path) -> Result<(Server, Credentials)> {
    let folder = folder(site, "ours")?;
    let [port] = free_ports()?;
    let stack = Stack::up(program, &folder, &stack_file(origin.port, port))?;
    let keys = stack.state().join("dc/home/edge");
    let credentials = Credentials { chain: keys.join("chain.pem"), key: keys.join("key.pem") };
    let server = Server {
        name: "sovereign edge",
        version: read(Command::new(program).arg("--version"))?.trim().to_owned(),
        role: Role::Ours,
        plain: Some(port),
        tls: Some(port),
        asset: None,
        root: stack.process("edge@home")?,
        folder,
        _running: Box::new(stack),
    };
    Ok((server, credentials))
}

/// One data center, one site, everything as it is when nothing is said. The load generator stands for all readers, so what
/// one address may have is raised.
fn stack_file(origin: u16, port: u16) -> String {
    format!(
        r#"version = 1

[stack]
name = "bench"

[edge.limits]
requests-per-address = 1000000
connections-per-address = 4096

[[datacenter]]
name = "home"
proxy = {{ speaks = "http", from = ["127.0.0.1"] }}

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {port}

[[site]]
name = "bench"
app = "upstream"
address = "127.0.0.1:{origin}"
mirror = {{ crawl = false }}
canonical = "localhost"
primary = "home"
"#
    )
}
