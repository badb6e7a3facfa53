//! What is told about single requests: log lines with the ids of the request and of its trace, and traces
//! sent by OTLP across gateway, store, ranker and LLM.
//!
//! Only spans of the target [`TARGET`] are traced, and no event of the log: messages may name items and
//! consumers, and what leaves the process must not. A span carries the route, the protocol, the status and
//! ids that say nothing about anybody.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::global;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Span as _, TraceContextExt, Tracer, TracerProvider as _};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use rand::RngCore;
use serde::{Deserialize, Serialize};
use tracing::field::Empty;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter, fmt};

/// The target of spans that may leave the process.
pub const TARGET: &str = "whyrank::trace";

/// The header that names a request, in both directions.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a caller's own that is taken over.
const LONGEST_ID: usize = 64;

/// What is told about single requests, and to whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObservabilitySettings {
    /// How the log is written.
    pub log: LogFormat,
    /// The gRPC address of an OTLP collector that gets traces, such as `http://localhost:4317`; absent
    /// sends none.
    pub otlp_endpoint: Option<String>,
    /// Share of the requests that are traced, from 0 to 1, where the caller has not decided by `traceparent`.
    pub otlp_sample: f64,
    /// Seconds after which the collector is given up on for one batch.
    pub otlp_timeout_seconds: u64,
    /// The name of this service in traces.
    pub service_name: String,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for ObservabilitySettings {
    fn default() -> Self {
        Self {
            log: LogFormat::Text,
            otlp_endpoint: None,
            otlp_sample: 1.0,
            otlp_timeout_seconds: 5,
            service_name: "whyrank".to_owned(),
        }
    }
}

/// The logging and tracing of this process; traces that wait are sent when it ends.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Begins logging to standard error, and tracing where a collector is configured. Counts once in a
    /// process; where logging has begun already it stays as it is.
    ///
    /// # Errors
    /// When the collector's address cannot be used.
    pub fn start(settings: &ObservabilitySettings) -> Result<Self> {
        let traces = settings.otlp_endpoint.as_deref();
        let traces = traces.map(|endpoint| exporter(settings, endpoint)).transpose()?;
        // Libraries are quiet unless asked: an LLM's loader would fill the terminal.
        let shown = EnvFilter::try_from_env("WHYRANK_LOG").unwrap_or_else(|_| {
            EnvFilter::new("warn,whyrank=info,mistralrs_core=error,qdrant_edge::common=error")
        });
        let lines = fmt::layer().with_writer(std::io::stderr);
        let lines = match settings.log {
            LogFormat::Text => {
                let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
                lines.with_ansi(terminal).with_filter(shown).boxed()
            }
            LogFormat::Json => {
                lines.json().flatten_event(true).with_ansi(false).with_filter(shown).boxed()
            }
        };
        let traced = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("whyrank"))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_level(false)
                .with_tracked_inactivity(false)
                .with_filter(filter::dynamic_filter_fn(|metadata, context| {
                    // Looks at an empty queue are part of nothing, and would be traces without end.
                    let of_something = !metadata.name().starts_with("store.")
                        || context.lookup_current().is_some();
                    metadata.is_span() && metadata.target() == TARGET && of_something
                }))
        });
        if let Some(provider) = &traces {
            global::set_tracer_provider(provider.clone());
        }
        // A test that calls a command has a subscriber of its own, which is no fault.
        let begun = tracing_subscriber::registry().with(lines).with(traced).try_init();
        if let Err(error) = begun {
            tracing::debug!(%error, "logging had begun already");
        }
        Ok(Self { traces })
    }

    /// Sends the traces that wait, and ends.
    pub async fn end(self) {
        let Some(traces) = self.traces else { return };
        // It waits for the collector on its own thread, which must not be one that answers.
        let ended = tokio::task::spawn_blocking(move || traces.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

fn exporter(settings: &ObservabilitySettings, endpoint: &str) -> Result<SdkTracerProvider> {
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(settings.otlp_timeout_seconds));
    if endpoint.starts_with("https://") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter = exporter
        .build()
        .with_context(|| format!("sending traces to {endpoint} (`observability.otlp_endpoint`)"))?;
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::TraceIdRatioBased(settings.otlp_sample);
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource)
        .build())
}

/// Gives a request its id and its span. The caller's `x-request-id` and `traceparent` count where they are
/// given; the answer tells the id, and what the request goes on to gets a `traceparent` below this span.
/// Without tracing `traceparent` goes on as it came.
pub(crate) async fn observe(surface: &'static str, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let caller = TraceContextPropagator::new().extract(&Headers(request.headers()));
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| without_ids(request.uri().path()), |matched| matched.as_str().to_owned());
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{surface} {method} {route}"),
        otel.kind = "server",
        surface,
        request_id = id.to_str().unwrap_or_default(),
        trace_id = Empty,
        http.response.status_code = Empty,
    );
    let of_caller = caller.span().span_context().clone();
    // Fails where nothing is traced; the caller's own trace is then all that there is.
    let linked = span.set_parent(caller).is_ok();
    let own = span.context();
    let known = if linked { own.span().span_context().clone() } else { of_caller };
    if known.is_valid() {
        span.record("trace_id", tracing::field::display(known.trace_id()));
    }
    let headers = request.headers_mut();
    headers.insert(REQUEST_ID, id.clone());
    if linked {
        TraceContextPropagator::new().inject_context(&own, &mut HeadersMut(headers));
    }
    let mut response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Tells the trace of a stage that is over: a span below the current one.
pub(crate) fn stage(name: &str, seconds: f64) {
    let parent = Span::current().context();
    if !parent.span().span_context().is_sampled() {
        return;
    }
    let end = SystemTime::now();
    let start = end.checked_sub(Duration::from_secs_f64(seconds)).unwrap_or(end);
    let tracer = global::tracer("whyrank");
    let built = tracer.span_builder(format!("rerank.{name}")).with_start_time(start);
    tracer.build_with_context(built, &parent).end_with_timestamp(end);
}

/// The caller's id, if it can stand in a log, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fits = |id: &HeaderValue| {
        let bytes = id.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=LONGEST_ID).contains(&bytes.len()) && bytes.iter().all(plain)
    };
    if let Some(given) = headers.get(&REQUEST_ID).filter(|id| fits(id)) {
        return given.clone();
    }
    let mut bytes = [0_u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
}

/// A path of Qdrant's with only the words of its protocol left: names and ids are somebody's.
fn without_ids(path: &str) -> String {
    const WORDS: [&str; 31] = [
        "",
        "aliases",
        "batch",
        "clear",
        "cluster",
        "collections",
        "count",
        "delete",
        "discover",
        "exists",
        "facet",
        "groups",
        "healthz",
        "index",
        "livez",
        "matrix",
        "metrics",
        "offsets",
        "pairs",
        "payload",
        "points",
        "query",
        "readyz",
        "recommend",
        "scroll",
        "search",
        "shards",
        "snapshots",
        "telemetry",
        "upload",
        "vectors",
    ];
    // gRPC: a service and a method, both of the protocol.
    if path.starts_with("/qdrant.") || path.starts_with("/grpc.") {
        let known = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._".contains(c));
        return if known && path.len() <= LONGEST_ID { path.to_owned() } else { "/*".to_owned() };
    }
    let words = path.split('/').map(|word| if WORDS.contains(&word) { word } else { "*" });
    words.take(8).collect::<Vec<_>>().join("/")
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(&value))
        {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_id_is_taken_over_if_it_can_stand_in_a_log() {
        let given = |id: &'static [u8]| {
            let value = HeaderValue::from_bytes(id).unwrap();
            let headers = HeaderMap::from_iter([(REQUEST_ID, value)]);
            request_id(&headers)
        };
        assert_eq!(given(b"order-7:a.b_c"), "order-7:a.b_c");
        for refused in [b"".as_slice(), b"a b", b"{}", "ü".as_bytes(), &[b'a'; 65]] {
            assert_ne!(given(refused.to_vec().leak()).as_bytes(), refused);
        }
        let (one, two) = (request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
        assert!(one != two && one.len() == 32);
    }

    #[test]
    fn a_path_loses_the_names_and_ids_in_it() {
        for (path, expected) in [
            ("/collections/films/points/query/batch", "/collections/*/points/query/batch"),
            ("/collections/films/points/196", "/collections/*/points/*"),
            ("/qdrant.Points/Query", "/qdrant.Points/Query"),
            ("/qdrant.Points/Ann Onymous", "/*"),
            ("/a%20name", "/*"),
        ] {
            assert_eq!(without_ids(path), expected);
        }
    }
}
