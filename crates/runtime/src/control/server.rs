//! The daemon's side of the control socket.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::message::{Refusal, Request, response_line};
use super::{IDLE, MOST_CONNECTIONS, MOST_LINE};
use crate::lifecycle::{Lifecycle, accept_each};
use crate::socket::{self, BoundName, SocketError};

/// Between two looks at whether the socket's name is still there.
const LOOK: Duration = Duration::from_secs(2);

/// What a daemon can be asked.
pub trait Commands: Send + Sync + 'static {
    /// Answers one request; requests of different connections come at the same time. An unknown command is answered
    /// with [`Request::unknown`].
    fn answer(&self, request: Request) -> impl Future<Output = Result<Value, Refusal>> + Send;
}

/// A bound control socket, not yet served.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Whether it answers the members of its group too.
    shared: bool,
    /// Removes the name when the server ends.
    _name: BoundName,
}

impl Server {
    /// Listens at `path`, unless somebody already answers there. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        Self::of(path, socket::bind(path)?)
    }

    /// Listens at `path`, whoever did before: for a process that relieves an old one, which goes on answering the
    /// connections it has.
    pub fn take_over(path: &Path) -> Result<Self, SocketError> {
        Self::of(path, socket::take_over(path)?)
    }

    fn of(path: &Path, listener: std::os::unix::net::UnixListener) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Bind { path: path.to_owned(), source };
        let name = BoundName::of(path);
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), shared: false, _name: name })
    }

    /// The same, for all members of the socket's group too: for what of a daemon the daemons of other users may ask. Mode
    /// 0660; who may connect the kernel says.
    ///
    /// # Errors
    /// When the socket's mode cannot be changed.
    pub fn shared_with_group(self) -> Result<Self, SocketError> {
        let mode = std::fs::Permissions::from_mode(0o660);
        let failed = |source| SocketError::Bind { path: self.path.clone(), source };
        std::fs::set_permissions(&self.path, mode).map_err(failed)?;
        Ok(Self { shared: true, ..self })
    }

    /// Takes over the socket at `path`, where there is to be one, for its group too, and answers there as [`Server::serve`] does.
    ///
    /// # Errors
    /// When it cannot be bound, or its mode not be changed.
    pub fn share(
        path: Option<&Path>,
        commands: impl Commands,
        lifecycle: &Lifecycle,
    ) -> Result<JoinHandle<()>, SocketError> {
        let server = path.map(|path| Self::take_over(path)?.shared_with_group()).transpose()?;
        let lifecycle = lifecycle.clone();
        Ok(tokio::spawn(async move {
            if let Some(server) = server {
                server.serve(Arc::new(commands), &lifecycle).await;
            }
        }))
    }

    /// Answers until the daemon has drained: `status` must work while the last readers are served. A name that somebody
    /// removed is bound again, so that a daemon cannot become unreachable; one that a successor took over is left to it.
    /// The name is removed at the end, if it still is ours. Connections are not waited for.
    pub async fn serve(mut self, commands: Arc<impl Commands>, lifecycle: &Lifecycle) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            tokio::select! {
                () = self.accept(&commands, &places, lifecycle) => return,
                () = removed(&self.path) => match self.again() {
                    Ok(again) => {
                        warn!(socket = %self.path.display(), "somebody removed the control socket; it is there again");
                        self = again;
                    }
                    Err(error) => debug!(%error, "the control socket was removed and cannot be made again yet"),
                }
            }
        }
    }

    /// Another one of the same kind, in its place.
    fn again(&self) -> Result<Self, SocketError> {
        let again = Self::bind(&self.path)?;
        if self.shared { again.shared_with_group() } else { Ok(again) }
    }

    async fn accept(&self, commands: &Arc<impl Commands>, places: &Arc<Semaphore>, lifecycle: &Lifecycle) {
        accept_each(&self.listener, lifecycle.drained(), |connection| {
            // Over the bound, the connection is dropped: the client sees it end.
            let Ok(place) = Arc::clone(places).try_acquire_owned() else {
                let socket = self.path.display();
                warn!(%socket, "too many control connections at the same time, one is refused");
                return;
            };
            let (commands, drained, shared) = (Arc::clone(commands), lifecycle.drained(), self.shared);
            tokio::spawn(async move {
                let conversation = drained.run_until_cancelled(converse(connection, shared, &*commands)).await;
                if let Some(Err(error)) = conversation {
                    debug!(%error, "a control connection broke off");
                }
                drop(place);
            });
        })
        .await;
    }
}

/// Waits until nothing is at `path` any longer.
async fn removed(path: &Path) {
    loop {
        sleep(LOOK).await;
        if matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return;
        }
    }
}

/// Answers one peer until it leaves, lies idle, or sends what cannot be answered.
async fn converse(connection: UnixStream, shared: bool, commands: &impl Commands) -> io::Result<()> {
    let (peer, own) = (connection.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    let mut stream = BufReader::new(connection);
    if !shared && !may_control(peer, own) {
        let refusal = Refusal::new(format!("user {peer} may not control a daemon of user {own}"));
        return stream.write_all(&response_line(Err(refusal))).await;
    }
    loop {
        let mut line = Vec::new();
        let most = MOST_LINE as u64 + 1;
        let Ok(read) = timeout(IDLE, (&mut stream).take(most).read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        if line.len() > MOST_LINE {
            let refusal = Refusal::new(format!("a line has at most {MOST_LINE} bytes"));
            return stream.write_all(&response_line(Err(refusal))).await;
        }
        let answer = match Request::parse(&line) {
            Ok(request) => commands.answer(request).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = response_line(answer);
        if response.len() > MOST_LINE {
            response = response_line(Err(Refusal::new("the answer is longer than a line may be")));
        }
        stream.write_all(&response).await?;
    }
}

/// The socket's mode keeps others out already; this holds even when somebody changed it.
fn may_control(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_its_own_user_and_root_control_a_daemon() {
        assert!(super::may_control(1000, 1000));
        assert!(super::may_control(0, 1000));
        assert!(!super::may_control(1001, 1000));
        assert!(!super::may_control(1000, 0));
    }
}
