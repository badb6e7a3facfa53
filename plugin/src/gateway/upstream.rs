//! What the gateway stands in front of: a Qdrant server, or the embedded engine in this process.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use hyper::body::{Frame, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tower::ServiceExt;

use super::{GatewayError, GatewaySettings, Protocol, proxy};

/// Unanswered seconds after which a connection is probed, so that a dead peer is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);

type HttpClient = Client<HttpsConnector<HttpConnector>, Body>;

/// What the gateway stands in front of.
#[derive(Clone)]
pub struct Upstream {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Server(Arc<Server>),
    InProcess { rest: axum::Router, grpc: axum::Router },
}

struct Server {
    rest: HttpClient,
    rest_base: Base,
    /// Several, because one HTTP/2 connection allows only so many requests at a time.
    grpc: Vec<HttpClient>,
    grpc_base: Base,
    next: AtomicUsize,
    timeout: Duration,
}

/// Why there is no answer of the server: an extension of the answer that is made in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    /// It could not be connected to, or ended the connection.
    Unreachable,
    /// It did not begin its answer in time.
    Timeout,
}

/// A request's body on its way to the server. It tells whether the client keeps it waiting, because what
/// fails meanwhile is no fault of the server's.
struct Sending {
    body: Body,
    waits: Arc<AtomicBool>,
}

/// Where a server is.
#[derive(Debug, Clone)]
struct Base {
    scheme: Scheme,
    authority: Authority,
    /// What stands before every path, without a slash at its end.
    prefix: String,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Server(server) => {
                write!(
                    formatter,
                    "{} and {}",
                    server.rest_base.authority, server.grpc_base.authority
                )
            }
            Kind::InProcess { .. } => formatter.write_str("the embedded engine"),
        }
    }
}

impl Upstream {
    /// A Qdrant server; nothing is connected yet.
    ///
    /// # Errors
    /// When an address is not one, or certificates cannot be read.
    pub fn server(settings: &GatewaySettings, grpc: &str) -> Result<Self, GatewayError> {
        let rest_base = Base::parse("gateway.upstream_rest", &settings.upstream_rest)?;
        let grpc_base = Base::parse("gateway.upstream_grpc", grpc)?;
        let tls = client_tls(settings)?;
        let rest = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector(settings, tls.clone(), Protocol::Rest));
        let grpc = (0..settings.upstream_connections.max(1)).map(|_| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .http2_only(true)
                .http2_adaptive_window(true)
                .http2_keep_alive_interval(KEEPALIVE)
                .build(connector(settings, tls.clone(), Protocol::Grpc))
        });
        let server = Server {
            rest,
            rest_base,
            grpc: grpc.collect(),
            grpc_base,
            next: AtomicUsize::new(0),
            timeout: Duration::from_secs(settings.upstream_timeout_seconds),
        };
        Ok(Self { kind: Kind::Server(Arc::new(server)) })
    }

    /// Routers in this process that answer as a Qdrant does.
    pub fn in_process(rest: axum::Router, grpc: axum::Router) -> Self {
        Self { kind: Kind::InProcess { rest, grpc } }
    }

    /// Passes a request on and its answer back, both as they come. A server that cannot be reached
    /// gives an answer in Qdrant's shape that says so.
    #[tracing::instrument(
        target = "whyrank::trace",
        level = "debug",
        name = "upstream",
        skip_all,
        fields(protocol = protocol.name())
    )]
    pub(super) async fn call(&self, protocol: Protocol, request: Request<Body>) -> Response<Body> {
        match &self.kind {
            Kind::InProcess { rest, grpc } => {
                let router = if protocol == Protocol::Rest { rest } else { grpc };
                // A router never fails: its error type has no value.
                router.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
            }
            Kind::Server(server) => server.call(protocol, request).await,
        }
    }
}

impl Server {
    async fn call(&self, protocol: Protocol, mut request: Request<Body>) -> Response<Body> {
        let (client, base) = match protocol {
            Protocol::Rest => (&self.rest, &self.rest_base),
            Protocol::Grpc => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.grpc.len();
                (&self.grpc[turn], &self.grpc_base)
            }
        };
        match base.uri(request.uri()) {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => {
                return proxy::fault(protocol, StatusCode::BAD_REQUEST, &error.to_string());
            }
        }
        *request.version_mut() = match protocol {
            Protocol::Rest => http::Version::HTTP_11,
            Protocol::Grpc => http::Version::HTTP_2,
        };
        proxy::strip_request(request.headers_mut());
        // The client writes the name of the server that it connects to.
        request.headers_mut().remove(header::HOST);
        let waits = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| Body::new(Sending { body, waits: waits.clone() }));
        let answered = tokio::time::timeout(self.timeout, client.request(request)).await;
        let (why, detail) = match answered {
            Ok(Ok(mut response)) => {
                proxy::strip_response(response.headers_mut());
                return response.map(Body::new);
            }
            Ok(Err(error)) => (Unanswered::Unreachable, format!(": {}", causes(&error))),
            Err(_) => (Unanswered::Timeout, format!(" within {} s", self.timeout.as_secs())),
        };
        let message = format!("the Qdrant server behind Whyrank did not answer{detail}");
        let mut answer = proxy::fault(protocol, why.status(), &message);
        if !waits.load(Ordering::Relaxed) {
            answer.extensions_mut().insert(why);
        }
        answer
    }
}

impl Unanswered {
    /// One of [`super::GATEWAY_UPSTREAM_FAILURES`].
    fn outcome(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// Why an answer is none of the server's, if it was made here in its place: one of
/// [`super::GATEWAY_UPSTREAM_FAILURES`].
pub(super) fn unanswered(response: &Response<Body>) -> Option<&'static str> {
    response.extensions().get::<Unanswered>().map(|why| why.outcome())
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        // A client that broke off is waited for in vain.
        let waits = matches!(frame, Poll::Pending | Poll::Ready(Some(Err(_))));
        self.waits.store(waits, Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An error with what led to it; only the last cause says what happened on the connection.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Base {
    fn parse(setting: &'static str, address: &str) -> Result<Self, GatewayError> {
        let invalid = |detail: &str| GatewayError::Address {
            setting,
            address: address.to_owned(),
            detail: detail.to_owned(),
        };
        let uri: Uri = address.parse().map_err(|_| invalid("it is not a URL"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.ok_or_else(|| invalid("it lacks `http://` or `https://`"))?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(invalid("it must begin with `http://` or `https://`"));
        }
        let authority = parts.authority.ok_or_else(|| invalid("it names no host"))?;
        let prefix = parts.path_and_query.map_or(String::new(), |path| path.path().to_owned());
        Ok(Self { scheme, authority, prefix: prefix.trim_end_matches('/').to_owned() })
    }

    /// The address of a request on this server.
    fn uri(&self, asked: &Uri) -> Result<Uri, http::Error> {
        let path = asked.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = match self.prefix.as_str() {
            "" => path.parse(),
            prefix => format!("{prefix}{path}").parse::<PathAndQuery>(),
        };
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        uri.path_and_query(path?).build()
    }
}

fn connector(
    settings: &GatewaySettings,
    tls: ClientConfig,
    protocol: Protocol,
) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_connect_timeout(Some(Duration::from_millis(settings.connect_timeout_milliseconds)));
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    match protocol {
        Protocol::Rest => builder.enable_http1().wrap_connector(http),
        Protocol::Grpc => builder.enable_http2().wrap_connector(http),
    }
}

/// Trust in the system's certificate authorities and in the configured one.
fn client_tls(settings: &GatewaySettings) -> Result<ClientConfig, GatewayError> {
    let mut roots = rustls::RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = &settings.upstream_certificate_authority {
        let unusable = |detail: String| GatewayError::Certificate { path: path.clone(), detail };
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| GatewayError::Tls(error.to_string()))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// Whether an answer to a gRPC request carries a message: errors come as headers alone.
pub(super) fn grpc_failed(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status != "0")
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::super::GATEWAY_UPSTREAM_FAILURES;
    use super::*;

    #[tokio::test]
    async fn an_answer_in_the_servers_place_tells_why_unless_the_client_keeps_it_waiting() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        let settings = GatewaySettings {
            upstream_rest: address.clone(),
            upstream_timeout_seconds: 1,
            ..GatewaySettings::default()
        };
        let upstream = Upstream::server(&settings, &address).unwrap();
        let ask = async |protocol: Protocol, body: Body| {
            let request = Request::post("/collections").body(body).unwrap();
            unanswered(&upstream.call(protocol, request).await)
        };
        let broken = [Ok("piece"), Err(std::io::Error::other("gone"))];
        let stalled = stream::pending::<Result<Bytes, std::io::Error>>();
        let answers = tokio::join!(
            ask(Protocol::Rest, Body::from("whole")),
            ask(Protocol::Grpc, Body::empty()),
            ask(Protocol::Rest, Body::from_stream(stalled)),
            ask(Protocol::Rest, Body::from_stream(stream::iter(broken))),
        );
        assert_eq!(answers, (Some("timeout"), Some("timeout"), None, None));
        drop(silent);
        for protocol in [Protocol::Rest, Protocol::Grpc] {
            assert_eq!(ask(protocol, Body::from("whole")).await, Some("unreachable"));
        }
        let outcomes = [Unanswered::Unreachable, Unanswered::Timeout].map(Unanswered::outcome);
        assert_eq!(outcomes, GATEWAY_UPSTREAM_FAILURES);
    }

    #[test]
    fn addresses_are_parsed_and_prefixed() {
        let base = Base::parse("x", "https://host:7/some/").unwrap();
        let uri = base.uri(&"http://gateway/a/b?c=d".parse().unwrap()).unwrap();
        assert_eq!(uri.to_string(), "https://host:7/some/a/b?c=d");
        for (address, expected) in
            [("host:6333", "lacks"), ("ftp://host", "must begin"), ("", "URL")]
        {
            let error = Base::parse("gateway.upstream_rest", address).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("gateway.upstream_rest"), "{error}");
        }
    }
}
