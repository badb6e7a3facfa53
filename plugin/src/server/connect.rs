//! The connection: a gRPC channel with the generated clients of `qdrant-client` on it.
//!
//! Its ready-made `Qdrant` client is not used: it tries failed calls again on its own, outside any
//! cap, takes no certificate of one's own, and prints to the standard output.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Status};

use super::settings::{ServerSettings, duration};
use crate::secret::Secret;
use crate::store::{StoreError, StoreResult};

/// How often an idle connection is tried, so that a dead one is found before a call needs it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The channel with the API key on every call.
type Service = InterceptedService<Channel, ApiKey>;

/// Makes the generated clients. A copy shares the connection.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    service: Service,
    key: ApiKey,
}

/// Adds the API key to a call. Copies share the key, which can be replaced.
#[derive(Clone)]
pub(super) struct ApiKey(Arc<ArcSwap<Option<MetadataValue<Ascii>>>>);

impl Clients {
    /// Prepares the connection, which is made with the first call.
    pub(super) fn new(settings: &ServerSettings) -> StoreResult<Self> {
        let refuse = |detail: String| StoreError::Server { url: shown(&settings.url), detail };
        if let Some(fault) = settings.fault() {
            return Err(refuse(fault));
        }
        let uri = address(&settings.url).map_err(refuse)?;
        let encrypted = uri.scheme_str() == Some("https");
        let key = api_key(&settings.api_key).map_err(refuse)?;
        if key.is_some() && !encrypted && !is_loopback(&uri) {
            tracing::warn!(url = settings.url, "the API key is sent without encryption: use https");
        }
        let mut endpoint = Channel::builder(uri)
            .connect_timeout(duration(settings.connect_timeout_seconds))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(duration(settings.connect_timeout_seconds))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .user_agent(concat!("whyrank/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| refuse(error.to_string()))?;
        match &settings.ca_certificate {
            Some(_) if !encrypted => {
                return Err(refuse("`ca_certificate` is set, but `url` is not https".to_owned()));
            }
            Some(path) => {
                let action = "reading the certificates in";
                let pem = fs::read(path).map_err(|source| StoreError::Io {
                    action,
                    path: path.clone(),
                    source,
                })?;
                let tls = ClientTlsConfig::new()
                    .with_native_roots()
                    .ca_certificate(Certificate::from_pem(pem));
                endpoint = endpoint.tls_config(tls).map_err(|error| {
                    refuse(format!("{} holds no usable certificate: {error}", path.display()))
                })?;
            }
            None if encrypted => {
                endpoint = endpoint
                    .tls_config(ClientTlsConfig::new().with_native_roots())
                    .map_err(|error| refuse(error.to_string()))?;
            }
            None => {}
        }
        let key = ApiKey(Arc::new(ArcSwap::from_pointee(key)));
        Ok(Self { service: InterceptedService::new(endpoint.connect_lazy(), key.clone()), key })
    }

    /// From the next call on this key is sent, by all copies.
    pub(super) fn replace_key(&self, key: &Secret) -> Result<(), String> {
        self.key.0.store(Arc::new(api_key(key)?));
        Ok(())
    }

    pub(super) fn health(&self) -> QdrantClient<Service> {
        QdrantClient::new(self.service.clone())
    }

    pub(super) fn collections(&self) -> CollectionsClient<Service> {
        CollectionsClient::new(self.service.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(super) fn points(&self) -> PointsClient<Service> {
        // The default of 4 MiB is less than a page of points with long texts.
        PointsClient::new(self.service.clone()).max_decoding_message_size(usize::MAX)
    }
}

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &**self.0.load() {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.load().is_some() { "ApiKey(***)" } else { "ApiKey(none)" })
    }
}

fn api_key(key: &Secret) -> Result<Option<MetadataValue<Ascii>>, String> {
    if key.is_empty() {
        return Ok(None);
    }
    let mut key: MetadataValue<Ascii> = key
        .expose()
        .parse()
        .map_err(|_| "`api_key` has characters that a header cannot carry".to_owned())?;
    key.set_sensitive(true);
    Ok(Some(key))
}

/// Reads the address strictly, because a wrong one otherwise shows as a server that is down.
fn address(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("`url` is not an address: {error}"))?;
    let authority = uri.authority().ok_or("`url` has no host")?;
    if authority.as_str().contains('@') {
        return Err("`url` has a user name or password; set `api_key` instead".to_owned());
    }
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err("`url` must begin with http:// or https://".to_owned()),
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err("`url` has a path; give host and port only".to_owned());
    }
    Ok(uri)
}

/// The address without a password that somebody may have put into it.
pub(super) fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => url.to_owned(),
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_work_are_refused_with_a_reason() {
        let check = |url: &str, word: &str| {
            let fault = address(url).unwrap_err();
            assert!(fault.contains(word), "{url}: {fault}");
        };
        check("localhost", "http://");
        check("localhost:6334", "http://");
        check("", "not an address");
        check("ftp://localhost", "http://");
        check("http://key@localhost:6334", "api_key");
        check("http://localhost:6334/collections", "path");
        for url in ["http://localhost:6334", "https://10.0.0.1:6334/", "http://[::1]:6334"] {
            assert!(address(url).is_ok(), "{url}");
        }
    }

    #[tokio::test]
    async fn settings_that_do_not_fit_each_other_are_refused_and_secrets_stay_hidden() {
        let refused = |settings: ServerSettings, word: &str| {
            let error = Clients::new(&settings).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
        };
        let local = ServerSettings::default;
        let certificate = Some("certificate.pem".into());
        refused(ServerSettings { ca_certificate: certificate.clone(), ..local() }, "not https");
        let settings =
            ServerSettings { ca_certificate: certificate, ..ServerSettings::at("https://q:6334") };
        refused(settings, "certificate.pem");
        refused(ServerSettings::at("http://user:hunter2@q:6334"), "***@q:6334");
        refused(ServerSettings { api_key: Secret::new("hunter2\n"), ..local() }, "header");
        refused(ServerSettings { write_batch: 0, ..local() }, "write_batch");
        let key = ServerSettings { api_key: Secret::new("hunter2"), ..local() };
        assert!(!format!("{:?}", Clients::new(&key).unwrap()).contains("hunter2"));
    }
}
