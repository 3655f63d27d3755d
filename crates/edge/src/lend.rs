//! Links the other way round: a data center that can only dial out lends its peers a connection to ask over.
//!
//! Homes sit behind address translation and cannot be dialled, and the site may well be written at home. So an edge
//! that has sites of its own, or stands beside one that has, watches whether each peer has dialled it. A peer that has not for [`PATIENCE`] is dialled,
//! and answered on that connection exactly as if it had dialled itself: same keys, same questions. Where everybody can
//! dial everybody, this never happens. A connection that breaks off, as one does when the address that it was dialled
//! from changes, is replaced at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sovereign_model::edge_config::Peer;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::edge::Edge;
use crate::generation::Generation;
use crate::serve;
use crate::tls::{LINK_BACK_ALPN, PeerKey};
use crate::upstream::uplinks::{Uplinks, race};

/// A peer that wants something dials within a second; several times that says that it cannot.
const PATIENCE: Duration = Duration::from_secs(3);
/// While a lesser uplink of the peer is used, better ones are tried this often.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(5);
/// TCP and TLS together, per address.
const DIAL_WITHIN: Duration = Duration::from_secs(5);

/// Lends connections to the peers of `generation` that need them, until `token` ends it.
pub(crate) fn start(edge: &Arc<Edge>, generation: &Generation, token: &CancellationToken) {
    if !generation.sites.values().any(|site| site.upstream.is_local() || site.is_written_beside) {
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
    let mut uplinks = Uplinks::new(&peer.addresses);
    let mut wait = PATIENCE;
    while token.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        wait = PATIENCE;
        if edge.peer_is_linked(key) {
            continue;
        }
        let raced = race(uplinks.order(), |address| dial(address, tls.clone())).await;
        uplinks.note(&raced, Instant::now());
        match raced.result {
            Ok((address, stream)) => {
                info!(peer = %peer.edge(), %address, "a connection is lent to a peer that has not dialled");
                let began = Instant::now();
                let mut lent = Lent { address, answering: answer(edge, stream, key, &token) };
                while let Err(_still_lent) = tokio::time::timeout(LOOK_BACK_EVERY, &mut lent.answering).await {
                    if token.is_cancelled() {
                        return;
                    }
                    lent.move_up(edge, key, &mut uplinks, tls, &token).await;
                }
                // It was needed until now, and is again. One that ends as soon as it is made is not.
                wait = PATIENCE.saturating_sub(began.elapsed());
            }
            Err(Some(error)) => debug!(peer = %peer.edge(), %error, "a peer cannot be dialled"),
            Err(None) => {}
        }
    }
}

/// Answers on a connection; in a drain, questions that are under way are answered to their end.
fn answer(edge: &Arc<Edge>, stream: TlsStream<TcpStream>, key: PeerKey, token: &CancellationToken) -> JoinHandle<()> {
    edge.lifecycle().spawn(serve::serve_peer(stream, edge.clone(), key, token.clone()))
}

/// The connection that is lent.
struct Lent {
    address: SocketAddr,
    answering: JoinHandle<()>,
}

impl Lent {
    /// Lends one over a better uplink of the peer instead, if there is one again. The peer asks on the newest; what it has
    /// begun on the other is answered there.
    async fn move_up(
        &mut self,
        edge: &Arc<Edge>,
        key: PeerKey,
        uplinks: &mut Uplinks,
        tls: &Arc<ClientConfig>,
        token: &CancellationToken,
    ) {
        for address in uplinks.better_than(self.address) {
            match dial(address, tls.clone()).await {
                Ok(stream) if uplinks.answered(address, Instant::now()) => {
                    info!(%address, "a connection is lent over a better uplink again");
                    *self = Self { address, answering: answer(edge, stream, key, token) };
                    return;
                }
                Ok(_) => {}
                Err(_) => uplinks.failed(address, Instant::now()),
            }
        }
    }
}

async fn dial(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let dialling = async {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        TlsConnector::from(tls).connect(ServerName::IpAddress(address.ip().into()), socket).await
    };
    tokio::time::timeout(DIAL_WITHIN, dialling).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
