//! TLS: what readers are shown, and the identities that links trust.
//!
//! One listening socket serves both. The ClientHello decides: who offers the ALPN [`LINK_ALPN`] is another edge and
//! gets a handshake of its own, TLS 1.3 only, in which both sides show raw Ed25519 public keys (RFC 7250) and accept
//! exactly the keys of the configuration. Nothing there is signed by anybody and nothing expires. Everyone else gets
//! the certificate, TLS 1.3 or 1.2, HTTP/2 or HTTP/1.1.
//!
//! One certificate carries all names and addresses; where a public authority has issued one for the name that is asked for,
//! that is shown instead ([`crate::public`]).
//!
//! Left out: client certificates of readers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, ClientHello, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    ServerConfig, SignatureScheme, SupportedCipherSuite, client::AlwaysResolvesClientRawPublicKeys,
};
use sovereign_model::Digest;
use sovereign_model::edge_config::{CertificateFiles, EdgeConfig, Peer};
use sovereign_model::name::DatacenterName;
use sovereign_runtime::certificate;

use crate::public::{Public, Shown};

/// The protocol two edges speak: HTTP/2 inside mutual TLS.
pub const LINK_ALPN: &[u8] = b"sovereign-link/1";

/// The same with the roles of asker and asked exchanged: who dials is asked. For a data center that can only dial out.
pub const LINK_BACK_ALPN: &[u8] = b"sovereign-link-back/1";

/// How an Ed25519 key begins as SubjectPublicKeyInfo (RFC 8410 section 4); the 32 bytes of the key follow.
const ED25519_SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Key material that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is missing, unreadable or not PEM.
    #[error("cannot read {} as PEM", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What the reader said.
        source: rustls::pki_types::pem::Error,
    },
    /// The chain file has no certificate in it.
    #[error("{} holds no certificate", path.display())]
    EmptyChain {
        /// Which file.
        path: PathBuf,
    },
    /// The library refuses the key, or key and certificate do not belong together.
    #[error("cannot use the key {}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What rustls said.
        source: TlsError,
    },
    /// A link key that is not Ed25519.
    #[error("the link key {} is not an Ed25519 key", path.display())]
    NotEd25519 {
        /// Which file.
        path: PathBuf,
    },
    /// A peer's public key is not 64 hex digits.
    #[error("the public key of data center {datacenter} is not 64 hex digits")]
    PeerKey {
        /// Whose.
        datacenter: DatacenterName,
    },
    /// rustls refuses the combination of settings.
    #[error("cannot set up TLS")]
    Setup(#[source] TlsError),
}

impl CredentialError {
    /// What the operator should do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Pem { path, .. } | Self::EmptyChain { path } | Self::Key { path, .. } | Self::NotEd25519 { path } => {
                Some(format!("`sovereign up` writes {} anew", path.display()))
            }
            Self::PeerKey { .. } => Some("`sovereign up` writes the configuration anew".to_owned()),
            Self::Setup(_) => None,
        }
    }
}

/// A peer's Ed25519 public key: who it is, on links.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PeerKey([u8; 32]);

impl PeerKey {
    /// The key as configured for `peer`.
    pub(crate) fn of(peer: &Peer) -> Result<Self, CredentialError> {
        let mut key = [0; 32];
        hex::decode_to_slice(&peer.public_key, &mut key)
            .map_err(|_| CredentialError::PeerKey { datacenter: peer.datacenter.clone() })?;
        Ok(Self(key))
    }

    /// The key inside a SubjectPublicKeyInfo, if it is an Ed25519 one.
    fn from_spki(spki: &[u8]) -> Option<Self> {
        spki.strip_prefix(&ED25519_SPKI_PREFIX)?.try_into().ok().map(Self)
    }

    /// What the other side of an established link has shown.
    pub(crate) fn of_connection(certificates: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        Self::from_spki(certificates?.first()?)
    }
}

/// Everything the TLS of one generation needs.
pub(crate) struct Tls {
    /// For readers.
    readers: Arc<ServerConfig>,
    /// For readers whose machines have no instructions for AES, and say so.
    without_aes: Arc<ServerConfig>,
    /// For edges that dial us.
    pub(crate) link: Arc<ServerConfig>,
    /// The digest of the chain's file, so that others can tell which certificate is served.
    pub(crate) chain: Digest,
    /// When the certificate ends, as far as that can be read.
    pub(crate) ends: Option<SystemTime>,
    /// The certificates of public authorities.
    pub(crate) public: Arc<Public>,
    identity: Arc<CertifiedKey>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Reads certificate and keys. `tickets` outlives generations, so that a reload does not cost readers their
    /// session resumption.
    pub(crate) fn load(
        config: &EdgeConfig,
        peers: &[PeerKey],
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<Self, CredentialError> {
        let provider = Arc::new(provider());
        let public = Arc::new(Public::load(config, &provider));
        let (readers, Chain { digest: chain, ends }) =
            readers_config(&provider, &config.certificate, public.clone(), tickets)?;
        let identity = link_identity(&provider, &config.link_key)?;
        let link = link_server_config(&provider, identity.clone(), peers.into())?;
        let mut without_aes = readers.clone();
        without_aes.ignore_client_order = false;
        let (readers, without_aes, link) = (Arc::new(readers), Arc::new(without_aes), Arc::new(link));
        Ok(Self { readers, without_aes, link, chain, ends, public, identity, provider })
    }

    /// For a reader who says `hello`. The order in which readers list what they can do is taken for what it is: OpenSSL
    /// begins with AES-256 everywhere, whose handshake is hashed with SHA-384, for which processors have no instructions:
    /// a sixth of what a new connection costs, for nothing that protects anybody today. But who begins with ChaCha20
    /// has no instructions for AES.
    pub(crate) fn for_reader(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        let first = hello.cipher_suites().iter().find(|suite| !is_grease(**suite));
        let no_aes = first.is_some_and(|suite| CHACHA20.contains(suite));
        if no_aes { &self.without_aes } else { &self.readers }
    }

    /// Whether both are the same edge on links.
    pub(crate) fn has_identity_of(&self, other: &Self) -> bool {
        self.identity.cert == other.identity.cert
    }

    /// Whether `key` is this edge's own.
    pub(crate) fn is_ours(&self, key: PeerKey) -> bool {
        PeerKey::of_connection(Some(&self.identity.cert)) == Some(key)
    }

    /// The dialling side of a link to the edge that owns `peer`; `protocol` says who asks.
    pub(crate) fn dialer(&self, peer: PeerKey, protocol: &[u8]) -> Result<Arc<ClientConfig>, CredentialError> {
        let verifier = Pinned::new(&self.provider, [peer].into());
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(CredentialError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.identity.clone())));
        config.alpn_protocols = vec![protocol.to_vec()];
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}

/// ChaCha20-Poly1305 in its suites (RFC 8446 appendix B.4, RFC 7905).
const CHACHA20: [CipherSuite; 3] = [
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Whether a suite stands there only so that servers get used to what they do not know (RFC 8701 section 2).
fn is_grease(suite: CipherSuite) -> bool {
    let [high, low] = u16::from(suite).to_be_bytes();
    high == low && low & 0xf == 0xa
}

/// What the library can do, what costs least first: AES-128 before AES-256.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let cost = |suite: &SupportedCipherSuite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    };
    // Stable: the rest stays as the library has it.
    provider.cipher_suites.sort_by_key(cost);
    provider
}

/// A ticket maker for the life of this process.
pub(crate) fn ticket_maker() -> Result<Arc<dyn ProducesTickets>, CredentialError> {
    aws_lc_rs::Ticketer::new().map_err(CredentialError::Setup)
}

/// What readers are shown.
struct Chain {
    digest: Digest,
    ends: Option<SystemTime>,
}

fn readers_config(
    provider: &Arc<CryptoProvider>,
    files: &CertificateFiles,
    public: Arc<Public>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<(ServerConfig, Chain), CredentialError> {
    let bad = |path: &Path, source| CredentialError::Pem { path: path.to_owned(), source };
    let text = std::fs::read(&files.chain).map_err(|source| bad(&files.chain, pem::Error::Io(source)))?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| bad(&files.chain, source))?;
    if chain.is_empty() {
        return Err(CredentialError::EmptyChain { path: files.chain.clone() });
    }
    let shown = Chain {
        digest: Digest::of(&text),
        ends: chain.first().and_then(|leaf| Some(certificate::facts(leaf)?.not_after)),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| bad(&files.key, source))?;
    let own = CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| CredentialError::Key { path: files.key.clone(), source })?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(CredentialError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown { own: Arc::new(own), public }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets;
    config.ignore_client_order = true;
    Ok((config, shown))
}

fn link_identity(provider: &CryptoProvider, path: &Path) -> Result<Arc<CertifiedKey>, CredentialError> {
    let key =
        PrivateKeyDer::from_pem_file(path).map_err(|source| CredentialError::Pem { path: path.to_owned(), source })?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|source| CredentialError::Key { path: path.to_owned(), source })?;
    let not_ed25519 = || CredentialError::NotEd25519 { path: path.to_owned() };
    let spki = key.public_key().ok_or_else(not_ed25519)?;
    PeerKey::from_spki(&spki).ok_or_else(not_ed25519)?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], key)))
}

fn link_server_config(
    provider: &Arc<CryptoProvider>,
    identity: Arc<CertifiedKey>,
    peers: Box<[PeerKey]>,
) -> Result<ServerConfig, CredentialError> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(CredentialError::Setup)?
        .with_client_cert_verifier(Pinned::new(provider, peers))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity)));
    config.alpn_protocols = vec![LINK_ALPN.to_vec(), LINK_BACK_ALPN.to_vec()];
    // A resumed session would skip the verifier: a key taken out of the configuration must be out at once.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts the listed keys and no other.
#[derive(Debug)]
struct Pinned {
    keys: Box<[PeerKey]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerKey({})", hex::encode(&self.0[..6]))
    }
}

impl Pinned {
    fn new(provider: &CryptoProvider, keys: Box<[PeerKey]>) -> Arc<Self> {
        Arc::new(Self { keys, algorithms: provider.signature_verification_algorithms })
    }

    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), TlsError> {
        match PeerKey::from_spki(shown) {
            Some(key) if self.keys.contains(&key) => Ok(()),
            _ => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(shown.as_ref()),
            signature,
            &self.algorithms,
        )
    }
}

fn only_tls13() -> TlsError {
    TlsError::General("links speak TLS 1.3 only".to_owned())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
