//! How every listener of the program serves: over plain TCP or TLS, with or without certificates of the
//! clients, HTTP/1.1 and HTTP/2 on one port, certificates that can be replaced while serving, and a
//! graceful end.

mod connections;
mod lingering;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{AddExtension, Next};
use axum::response::Response;
use axum::{Extension, Router};
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Layer;

pub use connections::ConnectionSettings;

use lingering::{Lingering, Unread};

/// A certificate, a key or an authority that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be used: {detail}", path.display())]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

impl TlsError {
    fn new(path: &Path, detail: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), detail: detail.to_string() }
    }
}

/// The files of a listener's TLS, all of them PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to an authority.
    pub certificate: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// The authorities of the clients' certificates; with them a client without one is refused.
    pub client_authority: Option<PathBuf>,
}

impl TlsFiles {
    /// The files, if the settings name a certificate and its key.
    pub fn named(
        certificate: Option<&PathBuf>,
        key: Option<&PathBuf>,
        client_authority: Option<&PathBuf>,
    ) -> Option<Self> {
        let (certificate, key) = certificate.zip(key)?;
        let (certificate, key) = (certificate.clone(), key.clone());
        Some(Self { certificate, key, client_authority: client_authority.cloned() })
    }

    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let always = [self.certificate.as_path(), self.key.as_path()];
        always.into_iter().chain(self.client_authority.as_deref())
    }

    /// Reads them, and checks that they belong together.
    ///
    /// # Errors
    /// When a file cannot be read, holds no certificate or key, or the key is another certificate's.
    pub fn read(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| TlsError::new(&self.key, error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(&self.certificate, error))?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| TlsError::new(path, error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| TlsError::new(path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::new(&self.certificate, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::new(path, error))?;
    if found.is_empty() {
        return Err(TlsError::new(path, "it holds no certificate in PEM"));
    }
    Ok(found)
}

/// The TLS of a listener. Clones share it: what one replaces counts for all, from the next connection on.
#[derive(Clone)]
pub struct Tls {
    in_force: RustlsConfig,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}

impl Tls {
    /// What was read from [`TlsFiles`].
    pub fn new(config: ServerConfig) -> Self {
        Self { in_force: RustlsConfig::from_config(Arc::new(config)) }
    }

    /// New connections get this. Connections that are open go on as they began; what they could resume
    /// later belongs to the old configuration and is gone with it.
    pub fn replace(&self, config: ServerConfig) {
        self.in_force.reload_from_config(Arc::new(config));
    }
}

/// Takes an address; port 0 takes a free one. The address that was taken comes with the listener, which
/// is non-blocking.
///
/// # Errors
/// When the address is taken, or not one of this machine.
pub fn listen(address: &str) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until `shutdown` fires; requests in hand may then end within `grace`. The listener must be
/// non-blocking.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    connections: ConnectionSettings,
    shutdown: CancellationToken,
    grace: Duration,
) -> std::io::Result<()> {
    let handle = Handle::new();
    let stopping = handle.clone();
    let stopper = tokio::spawn(async move {
        shutdown.cancelled().await;
        stopping.graceful_shutdown(Some(grace));
    });
    let service = router.layer(axum::middleware::from_fn(close_unread)).into_make_service();
    let server = axum_server::from_tcp(listener)?.handle(handle);
    let mut server = server.acceptor(Connections(connections));
    tune(server.http_builder(), connections);
    let served = match tls {
        None => server.serve(service).await,
        Some(tls) => {
            let encrypted = |plain| RustlsAcceptor::new(tls.in_force).acceptor(plain);
            server.map(encrypted).serve(service).await
        }
    };
    stopper.abort();
    served
}

/// Sets up each connection.
#[derive(Debug, Clone, Copy)]
struct Connections(ConnectionSettings);

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = Lingering<TcpStream>;
    type Service = AddExtension<S, Unread>;
    type Future = std::future::Ready<std::io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let unread = Unread::default();
        let service = Extension(unread.clone()).layer(service);
        let Self(connections) = self;
        let stream = set_up(&stream, *connections)
            .map(|()| Lingering::new(stream, unread, connections.discard()));
        std::future::ready(stream.map(|stream| (stream, service)))
    }
}

fn set_up(stream: &TcpStream, connections: ConnectionSettings) -> std::io::Result<()> {
    // Or the trailers of a gRPC answer wait for the client's delayed acknowledgement of what went before
    // them: 40 milliseconds, for an answer of one.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(connections.untaken()))?;
    Ok(())
}

/// A body that was too large or too slow is not read to its end, so that its connection cannot be used again. Clients
/// of HTTP/1 are told so, or what they send next over it would be lost; what they still send is discarded, see
/// [`Lingering`].
async fn close_unread(
    Extension(unread): Extension<Unread>,
    request: Request,
    next: Next,
) -> Response {
    let one_at_a_time = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    let leave_unread = [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_TIMEOUT];
    if one_at_a_time && leave_unread.contains(&response.status()) {
        unread.left();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn tune(
    builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>,
    connections: ConnectionSettings,
) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(connections.head());
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_concurrent_streams(None)
        .keep_alive_interval(connections.probe());
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Writes a new certificate and its key into a folder.
    fn made(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let paths = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&paths.0, made.cert.pem()).unwrap();
        std::fs::write(&paths.1, made.signing_key.serialize_pem()).unwrap();
        paths
    }

    #[test]
    fn files_that_belong_together_are_taken_and_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let ((certificate, key), (other, other_key)) =
            (made(folder.path(), "one"), made(folder.path(), "two"));
        let files = |key: &PathBuf, authority: Option<&PathBuf>| {
            TlsFiles::named(Some(&certificate), Some(key), authority).unwrap()
        };
        assert!(files(&key, None).read().is_ok());
        assert!(files(&key, Some(&other)).read().is_ok());
        assert_eq!(files(&key, Some(&other)).paths().count(), 3);
        let fault = |files: TlsFiles| files.read().unwrap_err().path;
        assert_eq!(fault(files(&other_key, None)), certificate, "the key of another certificate");
        assert_eq!(fault(files(&certificate, None)), certificate, "no key in the file");
        assert_eq!(fault(files(&key, Some(&key))), key, "no certificate in the file");
        let missing = folder.path().join("missing.pem");
        assert_eq!(fault(files(&missing, None)), missing);
        assert_eq!(TlsFiles::named(Some(&certificate), None, None), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_whose_client_takes_nothing_ends_by_itself() {
        let (listener, address) = listen("127.0.0.1:0").unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let connections =
            ConnectionSettings { untaken_seconds: 7, ..ConnectionSettings::default() };
        set_up(&accepted, connections).unwrap();
        let told = socket2::SockRef::from(&accepted);
        assert_eq!(told.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
        assert!(accepted.nodelay().unwrap());
    }

    /// Regression: the connection was closed with bytes unread, so that a client that was still writing saw
    /// it break in place of the answer.
    #[tokio::test]
    async fn who_sends_too_much_is_told_so_even_if_it_reads_nothing_before_it_has_sent_it() {
        // More than the buffers of both ends hold.
        const SENT: usize = 64 << 20;
        let (listener, address) = listen("127.0.0.1:0").unwrap();
        let router = Router::new()
            .route("/", axum::routing::post(|_: axum::body::Bytes| async {}))
            .layer(axum::extract::DefaultBodyLimit::max(1_000));
        let shutdown = CancellationToken::new();
        let server = serve(
            listener,
            router,
            None,
            ConnectionSettings::default(),
            shutdown.clone(),
            Duration::ZERO,
        );
        let server = tokio::spawn(server);
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SENT}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b'x'; SENT]).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }
}
