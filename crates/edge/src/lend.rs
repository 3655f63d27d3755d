//! Links the other way round: a data center that can only dial out lends its peers a connection to ask over.
//!
//! Homes sit behind address translation and cannot be dialled, and the site may well be written at home. So an edge
//! that has sites of its own watches whether each peer has dialled it. A peer that has not for [`PATIENCE`] is dialled,
//! and answered on that connection exactly as if it had dialled itself: same keys, same questions. Where everybody can
//! dial everybody, this never happens.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sovereign_model::edge_config::Peer;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::edge::Edge;
use crate::generation::Generation;
use crate::serve;
use crate::tls::{LINK_BACK_ALPN, PeerKey};

/// A peer that wants something dials within a second; several times that says that it cannot.
const PATIENCE: Duration = Duration::from_secs(3);
/// TCP and TLS together, per address.
const DIAL_WITHIN: Duration = Duration::from_secs(5);

/// Lends connections to the peers of `generation` that need them, until `token` ends it.
pub(crate) fn start(edge: &Arc<Edge>, generation: &Generation, token: &CancellationToken) {
    if !generation.sites.values().any(|site| site.upstream.is_local()) {
        return;
    }
    for peer in generation.config.peers.iter().filter(|peer| !peer.addresses.is_empty()) {
        // Checked when the generation was loaded.
        let Ok(key) = PeerKey::of(peer) else { continue };
        let Ok(tls) = generation.tls.dialer(key, LINK_BACK_ALPN) else { continue };
        let (edge, peer, token) = (edge.clone(), peer.clone(), token.clone());
        tokio::spawn(async move { lend(&edge, &peer, key, &tls, token).await });
    }
}

async fn lend(edge: &Arc<Edge>, peer: &Peer, key: PeerKey, tls: &Arc<ClientConfig>, token: CancellationToken) {
    while token.run_until_cancelled(tokio::time::sleep(PATIENCE)).await.is_some() {
        if edge.peer_is_linked(key) {
            continue;
        }
        for address in &peer.addresses {
            let dialled = tokio::time::timeout(DIAL_WITHIN, async {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                TlsConnector::from(tls.clone()).connect(ServerName::IpAddress(address.ip().into()), socket).await
            });
            match dialled.await {
                Ok(Ok(stream)) => {
                    info!(peer = %peer.datacenter, "a connection is lent to a peer that has not dialled");
                    // In a drain, questions that are under way are answered to their end.
                    let answering = serve::serve_peer(stream, edge.clone(), key, token.clone());
                    let _ = edge.lifecycle().spawn(answering).await;
                    break;
                }
                Ok(Err(error)) => debug!(peer = %peer.datacenter, %error, "a peer cannot be dialled"),
                Err(_) => debug!(peer = %peer.datacenter, "a peer cannot be dialled in time"),
            }
        }
    }
}
