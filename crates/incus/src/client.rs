//! One request, one answer: the exchange under every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{Answer, typed};
use crate::body::Body;
use crate::dial::Dial;
use crate::error::{Asked, IncusError};
use crate::kept::Kept;
use crate::name::{MemberName, ProjectName};
use crate::operation::Watch;
use crate::path::ApiPath;

/// The largest answer in JSON: a listing of a thousand instances with all their fields takes half of it.
const LONGEST_ANSWER: usize = 16 << 20;

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For an answer, from opening the stream to its last byte. Half a minute: a server whose cluster has just lost a
    /// member takes twenty seconds to say so.
    pub answer: Duration,
    /// For an operation to its end, and for sending an image or a file. Five minutes.
    pub operation: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), operation: Duration::from_secs(5 * 60) }
    }
}

/// A server that can do what is needed. Cheap to clone; calls run at the same time, each on a stream of its own.
#[derive(Debug, Clone)]
pub struct Client {
    dial: Arc<dyn Dial>,
    patience: Patience,
    project: Option<ProjectName>,
    member: Option<MemberName>,
    /// By this client and all that were made from it.
    requests: Arc<AtomicU64>,
}

impl Client {
    /// Reaches the server and sees that it has what this client uses, and the extensions of the API in `also` too.
    ///
    /// # Errors
    /// When it cannot be reached, and [`IncusError::TooOld`] when it lacks something.
    pub async fn connect(dial: Arc<dyn Dial>, patience: Patience, also: &[&str]) -> Result<Self, IncusError> {
        let client = Self { dial, patience, project: None, member: None, requests: Arc::default() };
        let server = client.server().await?;
        let needed = crate::server::NEEDED.iter().chain(also);
        let missing: Vec<String> = needed.filter(|name| !server.has(name)).map(|name| (*name).to_owned()).collect();
        if missing.is_empty() {
            return Ok(client);
        }
        Err(IncusError::TooOld { server: client.dial.to_string(), version: server.environment.server_version, missing })
    }

    /// The same server; instances, images, profiles, networks and volumes are those of this project.
    #[must_use]
    pub fn in_project(&self, project: ProjectName) -> Self {
        Self { project: Some(project), ..self.clone() }
    }

    /// The same server; what is made, is made at this member of its cluster, and local volumes are those of it.
    #[must_use]
    pub fn at(&self, member: MemberName) -> Self {
        Self { member: Some(member), ..self.clone() }
    }

    /// The same server, with other patience.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self { patience, ..self.clone() }
    }

    /// How many requests were sent so far, by this client and all that were made from it or that it was made from.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How long its calls may take.
    pub const fn patience(&self) -> Patience {
        self.patience
    }

    /// A path of what belongs to a project.
    pub(crate) fn scoped(&self, collection: &str) -> ApiPath {
        self.project_of(ApiPath::of(collection))
    }

    /// Adds the project to a path.
    pub(crate) fn project_of(&self, path: ApiPath) -> ApiPath {
        match &self.project {
            Some(project) => path.with("project", project.as_str()),
            None => path,
        }
    }

    /// Adds the member to a path.
    pub(crate) fn placed(&self, path: ApiPath) -> ApiPath {
        match &self.member {
            Some(member) => path.with("target", member.as_str()),
            None => path,
        }
    }

    /// Reads something.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: ApiPath) -> Result<T, IncusError> {
        let call = Call::new(Method::GET, path, self.patience.answer);
        let asked = self.asked(&call);
        typed(self.carry_out(call).await?).map_err(|reason| asked.unintelligible(reason))
    }

    /// Reads a listing; Go writes an empty one as `null`.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: ApiPath) -> Result<Vec<T>, IncusError> {
        let things: Option<Vec<T>> = self.read(path.with("recursion", "1")).await?;
        Ok(things.unwrap_or_default())
    }

    /// Reads something that is to be changed.
    pub(crate) async fn read_kept<T: DeserializeOwned + Serialize>(
        &self,
        path: ApiPath,
    ) -> Result<Kept<T>, IncusError> {
        let call = Call::new(Method::GET, path, self.patience.answer);
        let asked = self.asked(&call);
        let (headers, answer) = self.ask(call).await?;
        let etag = headers.get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match answer {
            Answer::Sync(value) => Kept::parse(value, etag).map_err(|reason| asked.unintelligible(reason)),
            Answer::Async(_) => Err(asked.unintelligible("reading something is not an operation")),
            Answer::Error { status, message } => Err(asked.refused(status, message)),
        }
    }

    /// Puts back what was read, if nobody changed it in between.
    pub(crate) async fn put_back<T: DeserializeOwned + Serialize>(
        &self,
        path: ApiPath,
        kept: &Kept<T>,
    ) -> Result<(), IncusError> {
        let mut call = self.call(Method::PUT, path, &kept.to_body());
        if let Some(etag) = kept.etag() {
            call = call.with_header(IF_MATCH, etag);
        }
        self.carry_out(call).await.map(drop)
    }

    /// Has something done that is said in JSON.
    pub(crate) async fn send(&self, method: Method, path: ApiPath, value: &Value) -> Result<Value, IncusError> {
        self.carry_out(self.call(method, path, value)).await
    }

    /// Removes something.
    pub(crate) async fn remove(&self, path: ApiPath) -> Result<(), IncusError> {
        self.carry_out(Call::new(Method::DELETE, path, self.patience.answer)).await.map(drop)
    }

    fn call(&self, method: Method, path: ApiPath, value: &Value) -> Call {
        Call::new(method, path, self.patience.answer)
            .with_header(CONTENT_TYPE, "application/json")
            .with_body(Body::default().with(value.to_string()))
    }

    /// Does what a call asks for, to its end: where the server makes it an operation, that is awaited. What was made.
    pub(crate) async fn carry_out(&self, call: Call) -> Result<Value, IncusError> {
        let asked = self.asked(&call);
        match self.ask(call).await?.1 {
            Answer::Sync(value) => Ok(value),
            Answer::Async(operation) => Watch::new(self, asked, operation).end().await,
            Answer::Error { status, message } => Err(asked.refused(status, message)),
        }
    }

    /// Asks, and reads the answer's envelope.
    pub(crate) async fn ask(&self, call: Call) -> Result<(HeaderMap, Answer), IncusError> {
        let asked = self.asked(&call);
        let Raw { headers, bytes, is_cut, .. } = self.exchange(call, LONGEST_ANSWER).await?;
        if is_cut {
            return Err(asked.too_long(LONGEST_ANSWER));
        }
        let answer = Answer::parse(&bytes).map_err(|reason| asked.unintelligible(reason))?;
        Ok((headers, answer))
    }

    /// Sends a call over a stream of its own and reads at most `most` bytes of what comes back.
    pub(crate) async fn exchange(&self, call: Call, most: usize) -> Result<Raw, IncusError> {
        let asked = self.asked(&call);
        let deadline = call.deadline;
        match timeout(deadline, self.exchange_undisturbed(call, most)).await {
            Ok(exchanged) => exchanged,
            Err(_) => Err(asked.late(deadline)),
        }
    }

    async fn exchange_undisturbed(&self, call: Call, most: usize) -> Result<Raw, IncusError> {
        let asked = self.asked(&call);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let stream = self.dial.dial().await;
        let stream = stream.map_err(|source| IncusError::Unreachable { server: asked.server.clone(), source })?;
        let broken =
            |source| IncusError::Broken { server: asked.server.clone(), request: asked.request.clone(), source };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(error.into()))?;
        // Ends with this call, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = call.into_request().map_err(|error| broken(error.into()))?;
        let (head, body) = sender.send_request(request).await.map_err(|error| broken(error.into()))?.into_parts();
        let (bytes, is_cut) = read_at_most(body, most).await.map_err(|error| broken(error.into()))?;
        Ok(Raw { status: head.status.as_u16(), headers: head.headers, bytes, is_cut })
    }

    pub(crate) fn asked(&self, call: &Call) -> Asked {
        Asked { server: self.dial.to_string(), request: format!("{} {}", call.method, call.path) }
    }
}

async fn read_at_most(mut body: Incoming, most: usize) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = most - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}

/// What came back, before anybody made sense of it.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// Whether there was more than was read.
    pub(crate) is_cut: bool,
}

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    path: ApiPath,
    headers: Vec<(HeaderName, String)>,
    body: Body,
    deadline: Duration,
}

impl Call {
    pub(crate) fn new(method: Method, path: ApiPath, deadline: Duration) -> Self {
        Self { method, path, headers: Vec::new(), body: Body::default(), deadline }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    fn into_request(self) -> Result<Request<Body>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path.target())
            .header(HOST, "incus")
            .header(USER_AGENT, concat!("sovereign/", env!("CARGO_PKG_VERSION")));
        for (name, value) in self.headers {
            request = request.header(name, HeaderValue::try_from(value)?);
        }
        request.body(self.body)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fmt;
    use std::io;
    use std::sync::Mutex;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::dial::{Dialing, Stream};
    use crate::file::{Content, Owned};

    /// A server that says the same to everybody.
    #[derive(Debug)]
    struct Canned(Vec<u8>);

    impl fmt::Display for Canned {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("canned")
        }
    }

    impl Canned {
        fn dial_once(&self) -> Dialing<'static> {
            let (ours, theirs) = duplex(64 << 10);
            tokio::spawn(say(theirs, self.0.clone()));
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        }
    }

    impl Dial for Canned {
        fn dial(&self) -> Dialing<'_> {
            self.dial_once()
        }
    }

    async fn say(mut stream: DuplexStream, answer: Vec<u8>) -> io::Result<()> {
        let mut question = Vec::new();
        while !question.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut question).await? == 0 {
                return Ok(());
            }
        }
        stream.write_all(&answer).await?;
        stream.shutdown().await
    }

    /// A server that says one thing after the other.
    #[derive(Debug)]
    struct Turns(Mutex<VecDeque<Vec<u8>>>);

    impl fmt::Display for Turns {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("turns")
        }
    }

    impl Dial for Turns {
        fn dial(&self) -> Dialing<'_> {
            Canned(self.0.lock().unwrap().pop_front().unwrap()).dial_once()
        }
    }

    /// A server that says nothing.
    #[derive(Debug)]
    struct Silent;

    impl fmt::Display for Silent {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("silent")
        }
    }

    impl Dial for Silent {
        fn dial(&self) -> Dialing<'_> {
            Box::pin(std::future::pending())
        }
    }

    fn json(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    async fn connect(answer: Vec<u8>) -> Result<Client, IncusError> {
        Client::connect(Arc::new(Canned(answer)), Patience::default(), &[]).await
    }

    fn server(extensions: &[&str]) -> Vec<u8> {
        let metadata = serde_json::json!({
            "api_extensions": extensions, "api_version": "1.0", "auth": "trusted",
            "environment": {"server_version": "5.21"}, "config": null,
        });
        json(&serde_json::json!({"type": "sync", "metadata": metadata}).to_string())
    }

    #[tokio::test]
    async fn a_server_that_can_do_it_all_is_taken_and_an_old_one_is_not() {
        connect(server(crate::server::NEEDED)).await.unwrap();
        let IncusError::TooOld { version, missing, .. } = connect(server(&["projects"])).await.unwrap_err() else {
            panic!("it is too old")
        };
        assert_eq!(version, "5.21");
        assert!(missing.contains(&"instance_state_started_at".to_owned()) && !missing.contains(&"projects".to_owned()));
    }

    #[tokio::test]
    async fn a_file_is_sent_again_to_a_server_whose_helper_has_just_ended() {
        let said = |error: &str| json(&format!(r#"{{"type":"error","error_code":500,"error":"{error}"}}"#));
        let gone = said("dial unix /proc/self/fd/38/forkfile.sock: connect: no such file or directory");
        let done = json(r#"{"type":"sync","metadata":{}}"#);
        let (instance, full) = ("blog".parse().unwrap(), said("disk quota exceeded"));
        for (answers, ends_well, left) in [
            (vec![gone.clone(), gone.clone(), done.clone()], true, 0),
            (vec![gone; 5], false, 1),
            (vec![full, done], false, 1),
        ] {
            let answers = std::iter::once(server(crate::server::NEEDED)).chain(answers);
            let turns = Arc::new(Turns(Mutex::new(answers.collect())));
            let client = Client::connect(turns.clone(), Patience::default(), &[]).await.unwrap();
            let content = Content::Bytes(b"words".to_vec());
            let pushed = client.push_file(&instance, "/etc/motd".as_ref(), &content, Owned::by_root(0o644)).await;
            assert_eq!((pushed.is_ok(), turns.0.lock().unwrap().len()), (ends_well, left), "{pushed:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_from_nobody_answering() {
        let gone = Arc::new(crate::UnixSocket::new("/nonexistent/incus.socket"));
        let error = Client::connect(gone, Patience::default(), &[]).await.unwrap_err();
        assert!(matches!(&error, IncusError::Unreachable { source, .. } if source.kind() == io::ErrorKind::NotFound));
        assert!(error.help().unwrap().contains("incus-base"));

        let short = Patience { answer: Duration::from_millis(20), ..Patience::default() };
        let error = Client::connect(Arc::new(Silent), short, &[]).await.unwrap_err();
        assert!(matches!(error, IncusError::Late { .. }));
    }

    #[tokio::test]
    async fn an_answer_that_ends_early_is_a_broken_connection() {
        let whole = server(crate::server::NEEDED);
        for end in [0, 5, 40, whole.len() - 1] {
            let error = connect(whole[..end].to_vec()).await.unwrap_err();
            assert!(matches!(error, IncusError::Broken { .. }), "{end}: {error}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_it() {
        let mut endless = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
        endless.resize(endless.len() + LONGEST_ANSWER + 1, b' ');
        assert!(matches!(connect(endless).await.unwrap_err(), IncusError::TooLong { .. }));
    }

    #[tokio::test]
    async fn a_refusal_under_any_status_is_one() {
        let refused = json(r#"{"type":"error","error":"not for you","error_code":403}"#);
        let error = connect(refused).await.unwrap_err();
        assert!(matches!(&error, IncusError::Forbidden { message, .. } if message == "not for you"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_a_server_says_is_an_error_or_an_answer(bytes: Vec<u8>, body in ".*") {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            prop_assert!(runtime.block_on(connect(bytes)).is_err());
            prop_assert!(runtime.block_on(connect(json(&body))).is_err());
        }
    }
}
