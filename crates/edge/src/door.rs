//! Who may come in: how many connections are open, all together and of one address.
//!
//! The limits are those of the configuration that is served when somebody knocks; a lower one closes nothing that is
//! open. A proxy in front has no share of its own: its readers have theirs.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{debug, warn};

use crate::edge::Edge;
use crate::proxied::is_proxy;
use crate::share::{Share, Shares};

/// The connections that are open.
#[derive(Default)]
pub(crate) struct Door {
    open: Arc<AtomicUsize>,
    seats: Shares,
}

/// One of them, until it is dropped.
pub(crate) struct Entry {
    open: Arc<AtomicUsize>,
    _seat: Option<Share>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Door {
    /// Lets a connection of `address` in, and counts it; `None` when there are too many.
    pub(crate) fn enter(&self, edge: &Edge, address: IpAddr) -> Option<Entry> {
        let generation = edge.generation();
        let limits = &generation.config.rules.limits;
        // Before it is compared: what comes at the same time must see it.
        let open = self.open.fetch_add(1, Ordering::AcqRel);
        let mut entry = Entry { open: self.open.clone(), _seat: None };
        if open >= limits.connections as usize {
            edge.counters.connections_refused.one();
            warn!(reader = %address, "too many connections, one is refused");
            return None;
        }
        if !is_proxy(generation.config.proxy.as_ref(), address) {
            entry._seat = Some(self.seat(edge, address)?);
        }
        edge.counters.connections.one();
        Some(entry)
    }

    /// A place for a reader whom a proxy names; `None` when there are too many of that address.
    pub(crate) fn seat(&self, edge: &Edge, reader: IpAddr) -> Option<Share> {
        let most = edge.generation().config.rules.limits.connections_per_address as usize;
        let seat = self.seats.take(reader, most);
        if seat.is_none() {
            edge.counters.connections_refused.one();
            debug!(%reader, "too many connections from one address, one is refused");
        }
        seat
    }
}
