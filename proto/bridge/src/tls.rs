//! Mutual TLS between the parts: peers are known by the identity in their certificate.
//!
//! A chain is verified against the platform's CA; after that the URI SAN decides who the
//! peer is. DNS names play no part, since pods are dialled by address. Material that was
//! loaded from a folder follows the folder: when its files change, the next handshake uses
//! the new ones, and files that cannot be read leave the old ones in use.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use paperclip_identity::{Identity, PeerVerifier, identity_of};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName,
    pem::{self, PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// File of the certificate chain, leaf first.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// File of the private key.
pub const KEY_FILE: &str = "tls.key";
/// File of the CA certificates that peers are verified against.
pub const CA_FILE: &str = "ca.crt";

/// How often the files of a folder are looked at, at most.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// Longest a peer may take over its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the listen queue.
const MAX_HANDSHAKES: usize = 64;
/// The protocol that gRPC speaks.
const ALPN: &[u8] = b"h2";

/// Why TLS material could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or unreadable.
    #[error("reading TLS material from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not PEM of the wanted kind.
    #[error("parsing {what}")]
    Parse {
        /// The part: certificate chain, private key or CA.
        what: &'static str,
        /// The parser's error.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("finding a certificate in {what}: there is none")]
    Empty {
        /// The part: certificate chain or CA.
        what: &'static str,
    },
    /// The parts do not make a configuration, say a key of another certificate.
    #[error("building a TLS configuration")]
    Configure(#[source] rustls::Error),
    /// The CA cannot verify clients.
    #[error("building the verifier of clients")]
    ClientVerifier(#[source] rustls::server::VerifierBuilderError),
}

/// The material of a handshake.
struct Material {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Material {
    fn from_pem(certificate: &[u8], key: &[u8], ca: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, "the CA")? {
            roots.add(root).map_err(TlsError::Configure)?;
        }
        Ok(Self {
            chain: certificates(certificate, "the certificate chain")?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Parse {
                what: "the private key",
                source,
            })?,
            roots: Arc::new(roots),
        })
    }

    fn from_dir(dir: &Path) -> Result<Self, TlsError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|source| TlsError::Read { path, source })
        };
        Self::from_pem(&read(CERTIFICATE_FILE)?, &read(KEY_FILE)?, &read(CA_FILE)?)
    }

    fn server(&self) -> Result<ServerConfig, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(TlsError::ClientVerifier)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Configure)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(TlsError::Configure)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    fn client(&self, peer: Identity) -> Result<ClientConfig, TlsError> {
        let verifier = PeerVerifier {
            roots: self.roots.clone(),
            provider: provider(),
            peer,
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Configure)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(TlsError::Configure)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Parse { what, source })?;
    if all.is_empty() {
        return Err(TlsError::Empty { what });
    }
    Ok(all)
}

/// Material that follows its folder.
struct Source<T> {
    current: ArcSwap<T>,
    folder: Option<Folder>,
    build: fn(&Material) -> Result<T, TlsError>,
}

struct Folder {
    path: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    looked: Instant,
    stamp: Stamp,
}

/// Modification times and sizes of the folder's files.
type Stamp = [Option<(SystemTime, u64)>; 3];

fn stamp(dir: &Path) -> Stamp {
    [CERTIFICATE_FILE, KEY_FILE, CA_FILE].map(|name| {
        let metadata = fs::metadata(dir.join(name)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

impl<T> Source<T> {
    fn fixed(
        material: &Material,
        build: fn(&Material) -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            current: ArcSwap::from_pointee(build(material)?),
            folder: None,
            build,
        })
    }

    fn following(
        dir: &Path,
        build: fn(&Material) -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let seen = Seen {
            looked: Instant::now(),
            stamp: stamp(dir),
        };
        Ok(Self {
            folder: Some(Folder {
                path: dir.to_owned(),
                seen: Mutex::new(seen),
            }),
            ..Self::fixed(&Material::from_dir(dir)?, build)?
        })
    }

    fn current(&self) -> Arc<T> {
        if let Some(folder) = &self.folder
            && folder.changed(RELOAD_INTERVAL)
        {
            match Material::from_dir(&folder.path).and_then(|material| (self.build)(&material)) {
                Ok(fresh) => {
                    self.current.store(Arc::new(fresh));
                    tracing::info!(folder = %folder.path.display(), "TLS material reloaded");
                }
                Err(error) => {
                    folder.look_again();
                    tracing::warn!(folder = %folder.path.display(), %error, "TLS material changed but cannot be used, the old stays");
                }
            }
        }
        self.current.load_full()
    }
}

impl Folder {
    /// True when the files differ from when they were last looked at; looks at most every `interval`.
    fn changed(&self, interval: Duration) -> bool {
        let Ok(mut seen) = self.seen.lock() else {
            return false;
        };
        if seen.looked.elapsed() < interval {
            return false;
        }
        let now = stamp(&self.path);
        seen.looked = Instant::now();
        std::mem::replace(&mut seen.stamp, now) != now
    }

    /// Makes the next look find a change: a folder may be seen half written.
    fn look_again(&self) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.stamp = [None; 3];
        }
    }
}

/// TLS of a program that dials plugin pods.
#[derive(Clone)]
pub struct ClientTls(Arc<Source<Material>>);

impl fmt::Debug for ClientTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Loads `tls.crt`, `tls.key` and `ca.crt` of a folder and follows their changes.
    pub fn from_dir(dir: &Path) -> Result<Self, TlsError> {
        Source::following(dir, checked_client).map(|source| Self(Arc::new(source)))
    }

    /// Takes PEM texts.
    pub fn from_pem(certificate: &[u8], key: &[u8], ca: &[u8]) -> Result<Self, TlsError> {
        let material = Material::from_pem(certificate, key, ca)?;
        Source::fixed(&material, checked_client).map(|source| Self(Arc::new(source)))
    }

    /// A connector that accepts `peer` alone.
    pub fn connector(&self, peer: &Identity) -> Result<TlsConnector, TlsError> {
        let config = self.0.current().client(peer.clone())?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// The name sent to servers. It decides nothing.
    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::from(std::net::IpAddr::from([0, 0, 0, 0]))
    }
}

/// A copy of the material, once it is known to make a configuration.
fn checked_client(material: &Material) -> Result<Material, TlsError> {
    material.client(Identity::Operator)?;
    Ok(Material {
        chain: material.chain.clone(),
        key: material.key.clone_key(),
        roots: material.roots.clone(),
    })
}

/// TLS of a plugin pod.
#[derive(Clone)]
pub struct ServerTls(Arc<Source<ServerConfig>>);

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Loads `tls.crt`, `tls.key` and `ca.crt` of a folder and follows their changes.
    pub fn from_dir(dir: &Path) -> Result<Self, TlsError> {
        Source::following(dir, Material::server).map(|source| Self(Arc::new(source)))
    }

    /// Takes PEM texts.
    pub fn from_pem(certificate: &[u8], key: &[u8], ca: &[u8]) -> Result<Self, TlsError> {
        let material = Material::from_pem(certificate, key, ca)?;
        Source::fixed(&material, Material::server).map(|source| Self(Arc::new(source)))
    }

    /// Accepts connections of peers that have an identity, for tonic's `serve_with_incoming`.
    ///
    /// Handlers find the peer as [`Peer`] in the request's extensions. Dropping the stream
    /// stops accepting.
    pub fn accept(&self, listener: TcpListener) -> ReceiverStream<io::Result<PeerStream>> {
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(accept(self.clone(), listener, sender));
        ReceiverStream::new(receiver)
    }

    async fn handshake(&self, stream: TcpStream, address: SocketAddr) -> io::Result<PeerStream> {
        stream.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(self.0.current());
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let identity = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .ok_or_else(|| io::Error::other("the peer showed no certificate"))
            .and_then(|leaf| identity_of(leaf).map_err(io::Error::other))?;
        Ok(PeerStream {
            stream,
            peer: Peer { identity, address },
        })
    }
}

async fn accept(
    tls: ServerTls,
    listener: TcpListener,
    ready: mpsc::Sender<io::Result<PeerStream>>,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, say: it passes, and a tight loop would not help it to.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            match tls.handshake(stream, address).await {
                Ok(stream) => drop(ready.send(Ok(stream)).await),
                Err(error) => tracing::warn!(%address, %error, "a peer was turned away"),
            }
            drop(permit);
        });
    }
}

/// The other end of a connection, in the extensions of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity, by its verified certificate.
    pub identity: Identity,
    /// Where it dials from.
    pub address: SocketAddr,
}

/// A connection whose peer is known.
#[derive(Debug)]
pub struct PeerStream {
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    peer: Peer,
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
