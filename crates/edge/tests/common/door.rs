//! A door in front of a port: a relay that can be shut and frozen, as networks are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a door stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Connections are taken, and nothing passes.
    Frozen,
    /// Connections are refused, and those there were are cut.
    Shut,
}

pub struct Door {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    carried: Arc<AtomicU64>,
    knocks: Arc<AtomicU64>,
}

impl Door {
    /// An open door to `behind`.
    pub async fn to(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, seen) = watch::channel(Way::Open);
        let (carried, knocks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let door = Self { address, way, carried: carried.clone(), knocks: knocks.clone() };
        tokio::spawn(async move {
            keep(listener, seen, |inbound, way| {
                knocks.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(relay(inbound, behind, way, carried.clone()));
            })
            .await;
        });
        door
    }

    pub fn stand(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Connections that were taken so far.
    pub fn knocks(&self) -> u64 {
        self.knocks.load(Ordering::Relaxed)
    }

    /// Bytes that went through so far, both ways.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

async fn keep(
    listener: TcpListener,
    mut way: watch::Receiver<Way>,
    mut take: impl FnMut(TcpStream, watch::Receiver<Way>),
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        if *way.borrow_and_update() == Way::Shut {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let taken = async {
            match &listener {
                Some(listener) => listener.accept().await.unwrap().0,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            inbound = taken => take(inbound, way.clone()),
            changed = way.changed() => if changed.is_err() { return },
        }
    }
}

async fn relay(inbound: TcpStream, behind: SocketAddr, way: watch::Receiver<Way>, carried: Arc<AtomicU64>) {
    let mut shut = way.clone();
    let relayed = async {
        opened(&mut way.clone()).await?;
        let (from, to) = inbound.into_split();
        let (back, on) = TcpStream::connect(behind).await.ok()?.into_split();
        tokio::join!(pump(from, on, way.clone(), &carried), pump(back, to, way, &carried));
        Some(())
    };
    tokio::select! {
        _ = relayed => {}
        _ = shut.wait_for(|way| *way == Way::Shut) => {}
    }
}

async fn opened(way: &mut watch::Receiver<Way>) -> Option<()> {
    way.wait_for(|way| *way == Way::Open).await.ok().map(|_| ())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    carried: &AtomicU64,
) -> Option<()> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        opened(&mut way).await?;
        let read = from.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
        opened(&mut way).await?;
        to.write_all(&bytes[..read]).await.ok()?;
        carried.fetch_add(read as u64, Ordering::Relaxed);
    }
}
