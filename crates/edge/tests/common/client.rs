//! A reader: HTTPS over HTTP/1.1 or HTTP/2, one connection per request unless it is kept.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

#[derive(Clone)]
pub struct Client {
    roots: Arc<RootCertStore>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub fn trusting(root: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        Self { roots: Arc::new(roots) }
    }

    pub async fn connect(&self, edge: SocketAddr, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_on(TcpStream::connect(edge).await?, alpn).await
    }

    /// TLS on a connection that is open already.
    pub async fn connect_on(&self, socket: TcpStream, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_as(socket, super::NAME, alpn).await
    }

    /// The certificate that whoever asks for `name` is shown.
    pub async fn shown(&self, edge: SocketAddr, name: &str) -> Vec<u8> {
        let stream = self.connect_as(TcpStream::connect(edge).await.unwrap(), name, &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    async fn connect_as(&self, socket: TcpStream, name: &str, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    /// A kept HTTP/1.1 connection.
    pub async fn http1(&self, edge: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
        let stream = self.connect(edge, &[b"http/1.1"]).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// A kept HTTP/2 connection.
    pub async fn http2(&self, edge: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
        let stream = self.connect(edge, &[b"h2"]).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn send(&self, edge: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
        let response = self.http1(edge).await.send_request(request).await.unwrap();
        collected(response).await
    }

    /// `GET path` under the authority `host`.
    pub async fn get(&self, edge: SocketAddr, host: &str, path: &str) -> Answer {
        self.get_with(edge, host, path, &[]).await
    }

    /// The same; `None` when the answer breaks off.
    pub async fn get_whole(&self, edge: SocketAddr, host: &str, path: &str) -> Option<Answer> {
        let question = request(Method::GET, host, path, &[], Bytes::new());
        let (parts, body) = self.http1(edge).await.send_request(question).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: parts.status, fields: parts.headers, body })
    }

    pub async fn get_with(&self, edge: SocketAddr, host: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(edge, request(Method::GET, host, path, fields, Bytes::new())).await
    }

    pub async fn post(&self, edge: SocketAddr, host: &str, path: &str, fields: &[(&str, &str)], body: Bytes) -> Answer {
        self.send(edge, request(Method::POST, host, path, fields, body)).await
    }
}

pub fn request(method: Method, host: &str, path: &str, fields: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).unwrap()
}

pub async fn collected(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, fields: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}
