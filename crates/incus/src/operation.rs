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
