//! An application that speaks bytes: whatever a script says, right or wrong.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Answers the request whose head it is given; the connection ends with it.
pub type Script = Arc<dyn Fn(String, UnixStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// `answer` as a script.
pub fn script<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(String, UnixStream) -> F + Send + Sync + 'static,
) -> Script {
    Arc::new(move |head, stream| Box::pin(answer(head, stream)))
}

pub struct Raw {
    script: Arc<Mutex<Script>>,
    token: CancellationToken,
    socket: std::path::PathBuf,
}

impl Raw {
    /// Listens on `socket`, in place of whoever did.
    pub fn at(socket: &Path, first: Script) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let raw =
            Self { script: Arc::new(Mutex::new(first)), token: CancellationToken::new(), socket: socket.to_owned() };
        let (script, token) = (raw.script.clone(), raw.token.clone());
        tokio::spawn(async move {
            while let Some(Ok((mut stream, _))) = token.run_until_cancelled(listener.accept()).await {
                let (script, token) = (script.clone(), token.clone());
                tokio::spawn(token.run_until_cancelled_owned(async move {
                    let Some(head) = read_head(&mut stream).await else { return };
                    let script = script.lock().unwrap().clone();
                    script(head, stream).await;
                }));
            }
        });
        raw
    }

    /// From the next request on.
    pub fn now(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// It is gone, with its connections.
    pub fn end(self) {
        self.token.cancel();
        std::fs::remove_file(&self.socket).unwrap();
    }
}

async fn read_head(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
