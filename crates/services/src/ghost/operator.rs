//! The operator's door into a running Ghost: Ghost's own API controllers, called as Ghost itself.
//!
//! Behind the socket is `assets/operator.cjs`, which says why the Admin API over HTTP would not do.

use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::connection::Connection;
use super::door::{Answered, Door, DoorError};

/// A running Ghost, as its operator reaches it.
#[derive(Debug, Clone)]
pub struct Operator {
    door: Arc<dyn Door>,
}

/// Why Ghost did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No answer.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// Ghost said no, and why.
    #[error("Ghost refused {operation}: {reason}")]
    Refused {
        /// What it was asked, `settings/edit` for instance.
        operation: String,
        /// The HTTP status it chose.
        status: StatusCode,
        /// Its own words.
        reason: String,
    },
    /// The answer is not of the expected form: another Ghost than this program was made for.
    #[error("cannot understand Ghost's answer to {operation}")]
    Unexpected {
        /// What it was asked.
        operation: String,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// Ghost took a setting without a word, and has another value now.
    #[error("Ghost did not take the setting {key}")]
    NotTaken {
        /// The setting.
        key: String,
    },
}

impl OperatorError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Door(error) => error.help(),
            Self::Refused { operation, .. } if operation == "settings/edit" => {
                Some("correct the site's settings in the stack file".to_owned())
            }
            Self::Refused { operation, .. } if operation == "authentication/setup" => {
                Some("Ghost wants ten characters or more, without the words ghost, password or passw0rd".to_owned())
            }
            Self::Unexpected { .. } => Some("this version was made for Ghost 6.65; see `sovereign images`".to_owned()),
            Self::Refused { .. } | Self::NotTaken { .. } => None,
        }
    }
}

#[derive(Deserialize)]
struct Failure {
    error: FailureText,
}

#[derive(Deserialize)]
struct FailureText {
    message: String,
    context: Option<String>,
}

impl Operator {
    /// Of the Ghost whose site folder is `folder`; nothing is opened yet.
    pub fn of(folder: &Path) -> Self {
        Self::through(Arc::new(Connection::new(folder.join("run/operator.sock"))))
    }

    /// Of the Ghost behind `door`.
    pub fn through(door: Arc<dyn Door>) -> Self {
        Self { door }
    }

    /// Calls `operation` (`controller/method`) of Ghost's API.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        operation: &str,
        data: Option<Value>,
        options: Value,
    ) -> Result<T, OperatorError> {
        self.post(operation, &format!("/api/{operation}"), &json!({ "data": data, "options": options })).await
    }

    /// Sends webhooks: the site is no longer what it was.
    pub(super) async fn announce_change(&self) -> Result<(), OperatorError> {
        self.post::<Value>("changed", "/changed", &json!({})).await.map(drop)
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, OperatorError> {
        let unexpected = |source| OperatorError::Unexpected { operation: operation.to_owned(), source };
        let body = serde_json::to_vec(body).map_err(unexpected)?;
        let Answered { status, body } = self.door.post(path, body).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(unexpected);
        }
        let Failure { error } = serde_json::from_slice(&body).map_err(unexpected)?;
        let reason = match error.context.filter(|context| !context.is_empty() && *context != error.message) {
            Some(context) => format!("{} ({context})", error.message),
            None => error.message,
        };
        Err(OperatorError::Refused { operation: operation.to_owned(), status, reason })
    }
}
