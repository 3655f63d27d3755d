//! Networks of the test's own: namespaces by name, wires between them, and work inside of one.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs a command line; its words have no spaces in them.
pub(crate) fn sh(line: &str) {
    let mut words = line.split_whitespace();
    let ended = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(ended.status.success(), "{line}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// A network namespace; it ends with the machine of the test.
#[derive(Clone, Copy)]
pub(crate) struct Network(pub(crate) &'static str);

impl Network {
    pub(crate) fn new(name: &'static str) -> Self {
        sh(&format!("ip netns add {name}"));
        let network = Self(name);
        network.sh("ip link set lo up");
        network
    }

    /// Runs a command line inside.
    pub(crate) fn sh(self, line: &str) {
        sh(&format!("ip netns exec {} {line}", self.0));
    }

    /// Does `work` on a thread inside: sockets that it makes, and processes that it starts, belong there.
    pub(crate) fn inside<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let inside = std::thread::spawn(move || {
            let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        inside.join().unwrap()
    }

    /// The same for work that waits.
    pub(crate) fn run<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.inside(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
    }
}

/// A wire between two networks, with an address and a prefix length at each end. Interfaces are named by the other end.
pub(crate) fn wire(one: Network, other: Network, addresses: [&str; 2]) {
    let (a, b) = (one.0, other.0);
    sh(&format!("ip link add {b} netns {a} type veth peer name {a} netns {b}"));
    for (network, device, address) in [(one, b, addresses[0]), (other, a, addresses[1])] {
        network.sh(&format!("ip address add {address} dev {device}"));
        network.sh(&format!("ip link set {device} up"));
    }
}
