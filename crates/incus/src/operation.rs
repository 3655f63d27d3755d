//! Operations: what the server does in its own time, awaited to the end or cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::answer::{Answer, Operation, State, typed};
use crate::client::{Call, Client};
use crate::error::{Asked, IncusError};
use crate::path::{ApiPath, last_part};

/// How long one question for the end is left open. Shorter than what routers and SSH allow a silent connection.
const SLICE: Duration = Duration::from_secs(10);

/// Before the next question, when the server did not wait with its answer.
const PAUSE: Duration = Duration::from_millis(250);

/// An operation under way. Dropped before its end, the server is asked to cancel it; what cannot be cancelled there
/// goes on.
pub(crate) struct Watch<'a> {
    client: &'a Client,
    asked: Asked,
    operation: Operation,
    ended: bool,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(client: &'a Client, asked: Asked, operation: Operation) -> Self {
        Self { client, asked, operation, ended: false }
    }

    /// Waits for the end. What the operation made.
    pub(crate) async fn end(mut self) -> Result<Value, IncusError> {
        let deadline = self.client.patience().operation;
        let until = Instant::now() + deadline;
        loop {
            match self.operation.state() {
                State::Done => {
                    self.ended = true;
                    return Ok(std::mem::take(&mut self.operation.metadata));
                }
                State::Failed => {
                    self.ended = true;
                    return Err(self.asked.clone().failed(self.operation.what(), self.operation.why()));
                }
                State::Going => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(self.asked.clone().late(deadline));
                    }
                    self.operation = self.ask_for_end(left.min(SLICE)).await?;
                }
            }
        }
    }

    /// How it stands when it ended, or after `slice`.
    async fn ask_for_end(&mut self, slice: Duration) -> Result<Operation, IncusError> {
        let path = self.path()?;
        // Whole seconds, and none would be for ever.
        let seconds = slice.as_secs().max(1);
        let wait = path.clone().then("wait").with("timeout", &seconds.to_string());
        let began = Instant::now();
        if let Ok(operation) = self.look(wait, slice).await? {
            return Ok(operation);
        }
        // A server says so in the place of the answer when the operation failed, and when the time was up.
        if began.elapsed() < slice {
            sleep(PAUSE.min(slice)).await;
        }
        match self.look(path, Duration::ZERO).await? {
            Ok(operation) => Ok(operation),
            Err((404, _)) => {
                self.ended = true;
                Err(IncusError::Forgotten { server: self.asked.server.clone(), what: self.operation.what() })
            }
            Err((status, message)) => Err(self.asked.clone().refused(status, message)),
        }
    }

    /// Asks for the operation; the server's refusal is not yet an error.
    async fn look(&self, path: ApiPath, slice: Duration) -> Result<Result<Operation, (u16, String)>, IncusError> {
        let call = Call::new(Method::GET, path, slice + self.client.patience().answer);
        let asked = self.client.asked(&call);
        match self.client.ask(call).await?.1 {
            Answer::Sync(value) => typed(value).map(Ok).map_err(|reason| asked.unintelligible(reason)),
            Answer::Async(_) => Err(asked.unintelligible("looking at an operation is not one")),
            Answer::Error { status, message } => Ok(Err((status, message))),
        }
    }

    /// Its own path. `/wait` belongs behind it and before any query, so only its id is taken from what the server says.
    fn path(&self) -> Result<ApiPath, IncusError> {
        path_of(&self.operation.id).ok_or_else(|| self.asked.clone().unintelligible("an operation without a name"))
    }
}

impl Client {
    /// What the server is doing in the project right now, in its words: also for those who asked and went away. Sessions
    /// of people are none of it.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn operations(&self) -> Result<Vec<String>, IncusError> {
        let by_status: BTreeMap<String, Vec<Operation>> =
            self.read(self.scoped("operations").with("recursion", "1")).await?;
        let operations = by_status.into_values().flatten();
        let going = operations.filter(|operation| operation.class == "task" && operation.state() == State::Going);
        Ok(going.map(|operation| operation.what()).collect())
    }
}

fn path_of(id: &str) -> Option<ApiPath> {
    Some(ApiPath::of("operations").then(last_part(&format!("/{id}"))?))
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.ended || !self.operation.may_cancel {
            return;
        }
        let (Some(path), Ok(runtime)) = (path_of(&self.operation.id), Handle::try_current()) else { return };
        let client = self.client.clone();
        // Nobody is left to be told how this ends.
        runtime.spawn(async move { client.remove(path).await });
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::dial::{Dial, Dialing, Stream};
    use crate::{Patience, ProjectName};

    /// What a server says to a request line.
    type Says = fn(&str, usize) -> Value;

    /// A server that answers by the request line and by how often it was asked, and remembers what it was asked.
    #[derive(Clone)]
    struct Script {
        says: Says,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl fmt::Debug for Script {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Script")
        }
    }

    impl fmt::Display for Script {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the script")
        }
    }

    impl Dial for Script {
        fn dial(&self) -> Dialing<'_> {
            let (ours, theirs) = duplex(1 << 20);
            tokio::spawn(self.clone().answer(theirs));
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    impl Script {
        async fn answer(self, mut stream: DuplexStream) {
            let mut question = Vec::new();
            while !question.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut question).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let line = String::from_utf8_lossy(&question).lines().next().unwrap().replace(" HTTP/1.1", "");
            let times = {
                let mut asked = self.asked.lock().unwrap();
                asked.push(line.clone());
                asked.iter().filter(|other| **other == line).count()
            };
            let answer = match line.as_str() {
                "GET /1.0" => {
                    json!({"type": "sync", "metadata": {"api_extensions": crate::server::NEEDED, "environment": {}}})
                }
                line => (self.says)(line, times),
            };
            if answer.is_null() {
                // It takes its time, until whoever asked goes away.
                let _ = stream.read_buf(&mut question).await;
                return;
            }
            let answer = answer.to_string();
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            let _ = stream.write_all(text.as_bytes()).await;
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    async fn client(says: Says) -> (Client, Script) {
        let script = Script { says, asked: Arc::default() };
        let patience = Patience { answer: Duration::from_secs(5), operation: Duration::from_secs(60) };
        let client = Client::connect(Arc::new(script.clone()), patience, &[]).await.unwrap();
        (client.in_project("sov".parse::<ProjectName>().unwrap()), script)
    }

    fn operation(status_code: u16, err: &str) -> Value {
        json!({"id": "0f-1a", "class": "task", "description": "Creating instance", "status_code": status_code,
            "may_cancel": true, "err": err, "metadata": {"made": true}})
    }

    fn begun() -> Value {
        json!({"type": "async", "operation": "/1.0/operations/0f-1a?project=sov", "metadata": operation(103, "")})
    }

    const WAIT: &str = "GET /1.0/operations/0f-1a/wait?timeout=10";

    async fn make(client: &Client) -> Result<Value, IncusError> {
        client.send(Method::POST, client.scoped("instances"), &json!({})).await
    }

    #[tokio::test]
    async fn an_operation_is_waited_for_below_its_own_path() {
        let (client, script) = client(|line, times| match (line, times) {
            (WAIT, 1) => json!({"type": "sync", "metadata": operation(103, "")}),
            (WAIT, _) => json!({"type": "sync", "metadata": operation(200, "")}),
            _ => begun(),
        })
        .await;
        assert_eq!(make(&client).await.unwrap(), json!({"made": true}));
        assert_eq!(script.asked(), ["GET /1.0", "POST /1.0/instances?project=sov", WAIT, WAIT]);
    }

    #[tokio::test]
    async fn a_failure_is_told_in_the_servers_words_wherever_it_says_them() {
        for says in [
            (|line, _| {
                if line == WAIT { json!({"type": "sync", "metadata": operation(400, "no room")}) } else { begun() }
            }) as Says,
            |line, _| match line {
                WAIT => json!({"type": "error", "error": "no room", "error_code": 500}),
                "GET /1.0/operations/0f-1a" => json!({"type": "sync", "metadata": operation(400, "no room")}),
                _ => begun(),
            },
        ] {
            let error = make(&client(says).await.0).await.unwrap_err();
            assert_eq!(error.to_string(), "Creating instance at the script failed: no room");
        }
    }

    #[tokio::test]
    async fn an_operation_that_nobody_remembers_is_no_success() {
        let (client, script) = client(|line, _| match line {
            "POST /1.0/instances?project=sov" => begun(),
            _ => json!({"type": "error", "error": "Operation not found", "error_code": 404}),
        })
        .await;
        assert!(matches!(make(&client).await.unwrap_err(), IncusError::Forgotten { .. }));
        assert!(script.asked().iter().all(|line| !line.starts_with("DELETE")));
    }

    #[tokio::test]
    async fn what_is_given_up_is_cancelled() {
        let (client, script) = client(|line, _| match line {
            "POST /1.0/instances?project=sov" => begun(),
            WAIT => Value::Null,
            _ => json!({"type": "sync"}),
        })
        .await;
        let waits = async {
            while !script.asked().iter().any(|line| line == WAIT) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            made = make(&client) => panic!("{made:?}"),
            () = waits => {}
        }
        while !script.asked().iter().any(|line| line == "DELETE /1.0/operations/0f-1a") {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_operation_with_a_hostile_name_is_not_followed() {
        let (client, _) = client(|_, _| {
            let mut hostile = begun();
            hostile["metadata"]["id"] = json!("../projects/x?");
            hostile
        })
        .await;
        assert!(matches!(make(&client).await.unwrap_err(), IncusError::Unintelligible { .. }));
    }

    #[tokio::test]
    async fn what_the_server_is_busy_with_are_tasks_on_their_way() {
        let (client, _) = client(|_, _| {
            let mut session = operation(103, "");
            session["class"] = json!("websocket");
            json!({"type": "sync", "metadata": {"running": [operation(103, ""), session], "success": [operation(200, "")]}})
        })
        .await;
        assert_eq!(client.operations().await.unwrap(), ["Creating instance"]);
    }
}
