//! Traces as a collector gets them, over the real protocol: the spans of one request hang together from
//! the caller's own down to store and ranker, the log names the same trace, and nothing that was asked
//! or answered is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::transport::server::TcpIncoming;
use whyrank_plugin::UserId;
use whyrank_tests::{Installation, Server, until};

/// Spans of the caller, as 16 bytes of a trace and 8 of a span.
const OF_API: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
const OF_GATEWAY: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "53995c3f42cd8ad8");

/// Hands on what it is sent.
#[derive(Debug)]
struct Collector(UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let sent = self.0.send(request.into_inner());
        sent.map_err(|_| tonic::Status::unavailable("the test is over"))?;
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> Result<(String, UnboundedReceiver<ExportTraceServiceRequest>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let (sender, receiver) = unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
    Ok((address, receiver))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that came, and the spans of each trace.
#[derive(Debug, Default)]
struct Received {
    text: String,
    traces: BTreeMap<String, Vec<Span>>,
}

impl Received {
    fn take(&mut self, request: ExportTraceServiceRequest) {
        self.text.push_str(&format!("{request:?}"));
        for resource in request.resource_spans {
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.traces.entry(hex(&span.trace_id)).or_default().push(span);
            }
        }
    }

    /// The span that hangs from the caller's.
    fn root(&self, (trace, parent): (&str, &str)) -> Option<&Span> {
        let spans = self.traces.get(trace)?;
        spans.iter().find(|span| hex(&span.parent_span_id) == parent)
    }

    /// The names of all spans of a trace, each of which must lead up to the root.
    fn linked(&self, of: (&str, &str)) -> Result<BTreeSet<&str>> {
        let root = &self.root(of).context("a root")?.span_id;
        let spans = &self.traces[of.0];
        let parents: BTreeMap<_, _> =
            spans.iter().map(|span| (&span.span_id, &span.parent_span_id)).collect();
        for span in spans {
            let mut at = &span.span_id;
            while at != root {
                at = parents
                    .get(at)
                    .with_context(|| format!("{} hangs from nothing that was sent", span.name))?;
            }
        }
        Ok(spans.iter().map(|span| span.name.as_str()).collect())
    }
}

fn traceparent((trace, span): (&str, &str)) -> String {
    format!("00-{trace}-{span}-01")
}

/// Every text that an answer shows: titles and reasons.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value.as_str() {
                    Some(text) if ["title", "positive", "negative"].contains(&key.as_str()) => {
                        into.push(text.to_owned());
                    }
                    _ => texts(value, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, into)),
        _ => {}
    }
}

/// Asks both surfaces, and gives all texts that they showed.
async fn ask(server: &Server) -> Result<Vec<String>> {
    let client = reqwest::Client::new();
    let history = json!([
        { "item": "50", "rating": 5 },
        { "text": "a quiet film about the sea", "rating": 4 },
    ]);
    let request = client
        .post(format!("{}/v1/recommend", server.url))
        .header("traceparent", traceparent(OF_API))
        .header("x-request-id", "order-7");
    let answer = request.json(&json!({ "history": history })).send().await?;
    ensure!(answer.headers()["x-request-id"] == "order-7", "{answer:?}");
    let recommended: Value = answer.error_for_status()?.json().await?;
    let rest = &server.gateway.as_ref().context("a gateway")?.rest;
    let query = json!({
        "query": UserId::from_external("7").to_string(),
        "using": "item",
        "lookup_from": { "collection": "users", "vector": "user" },
        "limit": 10,
        "with_payload": true,
    });
    let request = client.post(format!("{rest}/collections/items/points/query"));
    let answer = request.header("traceparent", traceparent(OF_GATEWAY)).json(&query).send().await?;
    ensure!(answer.headers()["x-whyrank-state"] == "reranked", "{answer:?}");
    let id = answer.headers()["x-request-id"].to_str()?;
    ensure!(id.len() == 32, "{id}");
    let reranked: Value = answer.json().await?;
    let mut shown = vec!["a quiet film about the sea".to_owned()];
    texts(&recommended, &mut shown);
    texts(&reranked, &mut shown);
    ensure!(shown.len() > 20, "{shown:?}");
    Ok(shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_across_gateway_store_and_ranker_without_a_text() -> Result<()> {
    let (address, mut receiver) = collector().await?;
    let server = tokio::task::spawn_blocking(move || {
        let installation = Installation::trained()?;
        let observability =
            format!("[observability]\nlog = \"json\"\notlp_endpoint = \"{address}\"\n");
        installation.configure(&observability)?;
        let mut command = installation.command(&["serve", "--role", "api", "--role", "gateway"]);
        // The library's own variables; its default is to send every five seconds.
        command.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("WHYRANK_LOG", "whyrank=trace");
        anyhow::Ok((Installation::started(command)?, installation))
    });
    let (server, _installation) = server.await??;
    let shown = ask(&server).await?;

    let mut received = Received::default();
    let complete = |received: &Received| {
        received.root(OF_API).is_some() && received.root(OF_GATEWAY).is_some()
    };
    // A span is sent when it ends, so the roots come last.
    while !complete(&received) {
        let next = tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await;
        received.take(next.context("no trace in a minute")?.context("the collector ended")?);
    }
    let stages = ["retrieve", "recall", "complete", "rank", "account", "answer"];
    let mut expected: Vec<String> = stages.map(|stage| format!("rerank.{stage}")).to_vec();
    expected.extend(["store.search".to_owned(), "store.read".to_owned()]);
    let api = received.linked(OF_API)?;
    for name in expected.iter().map(String::as_str).chain(["api POST /v1/recommend"]) {
        ensure!(api.contains(name), "{name} is not among {api:?}");
    }
    let gateway = received.linked(OF_GATEWAY)?;
    let surface = "gateway rest POST /collections/*/points/query";
    for name in expected.iter().map(String::as_str).chain([surface, "upstream"]) {
        ensure!(gateway.contains(name), "{name} is not among {gateway:?}");
    }
    for text in &shown {
        ensure!(!received.text.contains(text.as_str()), "{text:?} was sent to the collector");
    }
    let user = UserId::from_external("7").to_string();
    ensure!(!received.text.contains(&user), "a consumer's id was sent to the collector");
    Ok(())
}

#[tokio::test]
async fn a_line_of_the_log_names_its_request_and_its_trace() -> Result<()> {
    let installation = Installation::new()?;
    let made = installation.json(&["key", "--name", "one", "--role", "search"])?;
    let (key, digest) = (&made["key"], &made["entry"]["sha256"]);
    installation.configure(&format!(
        "[observability]\nlog = \"json\"\n\n[[server.keys]]\nname = \"one\"\nrole = \"search\"\n\
         sha256 = {digest}\n"
    ))?;
    let server = installation.serve(&["--role", "api"])?;
    let request = reqwest::Client::new()
        .post(format!("{}/v1/recommend", server.url))
        .header("api-key", key.as_str().context("a key")?)
        .header("traceparent", traceparent(OF_API))
        .header("x-request-id", "order-7");
    request.json(&json!({ "user": "1" })).send().await?;
    let audit = || server.log().into_iter().find(|line| line.contains("whyrank::audit"));
    until("the request is in the audit log", async || Ok(audit().is_some())).await?;
    let line: Value = serde_json::from_str(&audit().context("an audit line")?)?;
    ensure!(line["asked"] == r#"{"user":"1"}"#, "{line}");
    ensure!(line["key"] == "one" && line["path"] == "/v1/recommend", "{line}");
    ensure!(line["span"]["request_id"] == "order-7", "{line}");
    ensure!(line["span"]["trace_id"] == OF_API.0, "{line}");
    Ok(())
}
