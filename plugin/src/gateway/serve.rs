//! The gateway's listeners: both protocols on ports of their own, with or without TLS, and a graceful
//! end.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use super::{Gateway, GatewaySettings, Protocol};

/// Seconds that a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Unanswered seconds after which a silent connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The gateway cannot start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address is not one.
    #[error("`{setting}` is {address:?}, which cannot be used: {detail}")]
    Address {
        /// The setting at fault.
        setting: &'static str,
        /// The address given.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The address is taken, or not one of this machine.
    #[error("listening on {address} (`{setting}`) failed: {source}")]
    Listen {
        /// The setting at fault.
        setting: &'static str,
        /// The address given.
        address: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{} cannot be used: {detail}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A listener failed while serving.
    #[error("serving {protocol} ended: {source}")]
    Serving {
        /// Which protocol.
        protocol: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// A gateway that has its ports and does not answer yet.
#[derive(Debug)]
pub struct BoundGateway {
    gateway: Gateway,
    rest: TcpListener,
    grpc: TcpListener,
    /// Where REST is served.
    pub rest_address: SocketAddr,
    /// Where gRPC is served.
    pub grpc_address: SocketAddr,
    tls: Option<ServerConfig>,
}

impl Gateway {
    /// Takes the configured ports and reads the certificate, if there is one.
    ///
    /// # Errors
    /// When an address cannot be listened on, or a certificate cannot be used.
    pub fn bind(self) -> Result<BoundGateway, GatewayError> {
        let settings = &self.inner.settings;
        let tls = server_tls(settings)?;
        let (rest, rest_address) = listen("gateway.rest_address", &settings.rest_address)?;
        let (grpc, grpc_address) = listen("gateway.grpc_address", &settings.grpc_address)?;
        Ok(BoundGateway { gateway: self, rest, grpc, rest_address, grpc_address, tls })
    }
}

impl BoundGateway {
    /// Serves until `shutdown` fires; requests in hand may then end within `grace`.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn serve(
        self,
        shutdown: CancellationToken,
        grace: Duration,
    ) -> Result<(), GatewayError> {
        let Self { gateway, rest, grpc, tls, .. } = self;
        let serve = |protocol: Protocol, listener: TcpListener| {
            let router = gateway.router(protocol);
            serve_one(protocol, listener, router, tls.clone(), shutdown.clone(), grace)
        };
        tokio::try_join!(serve(Protocol::Rest, rest), serve(Protocol::Grpc, grpc))?;
        Ok(())
    }
}

fn listen(setting: &'static str, address: &str) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bind().map_err(|source| GatewayError::Listen { setting, address: address.to_owned(), source })
}

async fn serve_one(
    protocol: Protocol,
    listener: TcpListener,
    router: axum::Router,
    tls: Option<ServerConfig>,
    shutdown: CancellationToken,
    grace: Duration,
) -> Result<(), GatewayError> {
    let failed = |source| GatewayError::Serving { protocol: protocol.name(), source };
    let handle = Handle::new();
    let stopping = handle.clone();
    let stopper = tokio::spawn(async move {
        shutdown.cancelled().await;
        stopping.graceful_shutdown(Some(grace));
    });
    let service = router.into_make_service();
    // Without TCP_NODELAY the trailers of a gRPC answer wait for the client's delayed acknowledgement of
    // what went before them: 40 milliseconds, for an answer of one.
    let server = axum_server::from_tcp(listener).map_err(failed)?.handle(handle);
    let mut server = server.acceptor(NoDelayAcceptor::new());
    tune(server.http_builder());
    let served = match tls {
        None => server.serve(service).await,
        Some(config) => {
            let config = RustlsConfig::from_config(Arc::new(config));
            let encrypted = |plain| RustlsAcceptor::new(config).acceptor(plain);
            server.map(encrypted).serve(service).await
        }
    };
    stopper.abort();
    served.map_err(failed)
}

fn tune(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_concurrent_streams(None)
        .keep_alive_interval(KEEPALIVE);
}

/// The gateway's certificate and key, if both are configured.
fn server_tls(settings: &GatewaySettings) -> Result<Option<ServerConfig>, GatewayError> {
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.certificate_key) else {
        return Ok(None);
    };
    let unusable =
        |path: &Path, detail: String| GatewayError::Certificate { path: path.to_owned(), detail };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate, error.to_string()))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| GatewayError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| unusable(certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(config))
}
