//! What is asked, how, and by how many at once.

use super::server::{Role, Server};

/// The protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/1.1 without TLS, connections kept.
    Plain,
    /// HTTP/1.1 over TLS 1.3, connections kept.
    Tls,
    /// HTTP/2 over TLS 1.3.
    Http2,
    /// HTTP/1.1 over TLS 1.3, a connection for each request.
    NewTls,
}

/// The page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// One of 20 kB, fresh.
    Page,
    /// One of 100 kB, fresh.
    Asset,
    /// Ten thousand of 20 kB in no order, fresh.
    Spread,
    /// One of 20 kB, no longer fresh, its origin dead.
    Away,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) wire: Wire,
    pub(super) what: What,
    pub(super) connections: u16,
}

/// All of them, in the order in which they are measured.
pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for wire in [Wire::Plain, Wire::Tls] {
        for what in [What::Page, What::Asset] {
            cases.extend([1, 64, 512].map(|connections| Case { wire, what, connections }));
        }
    }
    cases.extend([1, 64, 512].map(|connections| Case { wire: Wire::Http2, what: What::Page, connections }));
    let case = |wire, what, connections| Case { wire, what, connections };
    cases.extend([
        case(Wire::Http2, What::Asset, 64),
        case(Wire::NewTls, What::Page, 32),
        case(Wire::Plain, What::Spread, 64),
        case(Wire::Tls, What::Spread, 64),
        case(Wire::Plain, What::Away, 64),
        case(Wire::Tls, What::Away, 64),
    ]);
    cases
}

impl Case {
    /// What `--only` knows it by.
    pub(super) fn name(&self) -> String {
        let wire = match self.wire {
            Wire::Plain => "plain",
            Wire::Tls => "tls",
            Wire::Http2 => "h2",
            Wire::NewTls => "new-tls",
        };
        let what = match self.what {
            What::Page => "20k",
            What::Asset => "100k",
            What::Spread => "spread",
            What::Away => "away",
        };
        format!("{wire}-{what}-{}", self.connections)
    }

    /// What stands above its table, which it shares with the same under other numbers of connections.
    pub(super) fn heading(&self) -> String {
        let wire = match self.wire {
            Wire::Plain => "plain HTTP/1.1",
            Wire::Tls => "TLS 1.3, HTTP/1.1",
            Wire::Http2 => "TLS 1.3, HTTP/2, 8 streams a connection",
            Wire::NewTls => "a new TLS 1.3 connection for each request",
        };
        let what = match self.what {
            What::Page => "a page of 20 kB",
            What::Asset => "an asset of 100 kB",
            What::Spread => "10,000 pages of 20 kB in no order",
            What::Away => "a page of 20 kB that is stale, its origin dead",
        };
        format!("{wire}: {what}")
    }

    pub(super) fn is_http2(&self) -> bool {
        self.wire == Wire::Http2
    }

    /// Where `server` is asked; `None` when it does not do this.
    pub(super) fn url(&self, server: &Server) -> Option<String> {
        let (scheme, port) = match (self.wire, self.what) {
            (Wire::Plain, What::Asset) if server.role == Role::Limit => ("http", server.asset?),
            (Wire::Plain, _) => ("http", server.plain?),
            (Wire::Tls | Wire::Http2 | Wire::NewTls, _) => ("https", server.tls?),
        };
        let path = match self.what {
            What::Page => "page.html",
            What::Asset => "asset.bin",
            What::Spread if server.has_pages() => "pages/0.html",
            What::Away if server.has_origin() => "short.html",
            What::Spread | What::Away => return None,
        };
        Some(format!("{scheme}://localhost:{port}/{path}"))
    }
}
