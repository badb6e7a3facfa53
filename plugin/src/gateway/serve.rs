//! The gateway's listeners: both protocols on ports of their own, with or without TLS, and a graceful
//! end.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Gateway, GatewaySettings, Protocol};
use crate::serving::{self, ConnectionSettings, Tls, TlsError, TlsFiles};

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
    /// The gateway's own certificate cannot be used.
    #[error(transparent)]
    OwnCertificate(#[from] TlsError),
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
    tls: Option<Tls>,
}

impl Gateway {
    /// Takes the configured ports and reads the certificate, if there is one.
    ///
    /// # Errors
    /// When an address cannot be listened on, or a certificate cannot be used.
    pub fn bind(self) -> Result<BoundGateway, GatewayError> {
        let settings = &self.inner.settings;
        let tls = match settings.tls_files() {
            Some(files) => Some(Tls::new(files.read()?)),
            None => None,
        };
        let (rest, rest_address) = listen("gateway.rest_address", &settings.rest_address)?;
        let (grpc, grpc_address) = listen("gateway.grpc_address", &settings.grpc_address)?;
        Ok(BoundGateway { gateway: self, rest, grpc, rest_address, grpc_address, tls })
    }
}

impl BoundGateway {
    /// The TLS in force on both ports, if there is one; it can be replaced while serving.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Serves until `shutdown` fires; requests in hand may then end within `grace`. `dressed` may put
    /// layers around the routers of both protocols.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn serve(
        self,
        dressed: impl Fn(Protocol, axum::Router) -> axum::Router,
        connections: ConnectionSettings,
        shutdown: CancellationToken,
        grace: Duration,
    ) -> Result<(), GatewayError> {
        let Self { gateway, rest, grpc, tls, .. } = self;
        let serve = |protocol: Protocol, listener: TcpListener| {
            let router = dressed(protocol, gateway.router(protocol));
            let (tls, shutdown) = (tls.clone(), shutdown.clone());
            let served = serving::serve(listener, router, tls, connections, shutdown, grace);
            async move {
                let failed = |source| GatewayError::Serving { protocol: protocol.name(), source };
                served.await.map_err(failed)
            }
        };
        tokio::try_join!(serve(Protocol::Rest, rest), serve(Protocol::Grpc, grpc))?;
        Ok(())
    }
}

fn listen(setting: &'static str, address: &str) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source| GatewayError::Listen { setting, address: address.to_owned(), source };
    serving::listen(address).map_err(failed)
}

impl GatewaySettings {
    /// The files of the gateway's own TLS, if it has any.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        TlsFiles::named(
            self.certificate.as_ref(),
            self.certificate_key.as_ref(),
            self.client_certificate_authority.as_ref(),
        )
    }
}
