//! A collector of traces that a test starts, and what it received.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
pub(crate) use opentelemetry_proto::tonic::common::v1::any_value::Value as Told;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::transport::server::TcpIncoming;

/// What comes to a collector.
pub(crate) type Receiver = UnboundedReceiver<ExportTraceServiceRequest>;

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

/// Starts one on a free port: its address, and what comes to it.
pub(crate) async fn start() -> Result<(String, Receiver)> {
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
pub(crate) struct Received {
    pub(crate) text: String,
    pub(crate) traces: BTreeMap<String, Vec<Span>>,
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
    pub(crate) fn root(&self, (trace, parent): (&str, &str)) -> Option<&Span> {
        let spans = self.traces.get(trace)?;
        spans.iter().find(|span| hex(&span.parent_span_id) == parent)
    }

    /// The names of all spans of a trace, each of which must lead up to the root.
    pub(crate) fn linked(&self, of: (&str, &str)) -> Result<BTreeSet<&str>> {
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

    /// Takes what comes until it is enough.
    pub(crate) async fn fill(
        &mut self,
        receiver: &mut Receiver,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        while !enough(self) {
            let next = tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await;
            let next = next.with_context(|| format!("nothing more in a minute: {}", self.names()));
            self.take(next?.context("the collector ended")?);
        }
        Ok(())
    }

    /// The names of all spans, a list for each trace.
    pub(crate) fn names(&self) -> String {
        let named = |spans: &Vec<Span>| spans.iter().map(|span| span.name.clone()).collect();
        let names: Vec<Vec<String>> = self.traces.values().map(named).collect();
        format!("{names:?}")
    }

    /// The spans of this name in a trace.
    pub(crate) fn named<'a>(&'a self, trace: &str, name: &str) -> Vec<&'a Span> {
        let spans = self.traces.get(trace).map(Vec::as_slice).unwrap_or_default();
        spans.iter().filter(|span| span.name == name).collect()
    }

    /// Whether a trace has a span of each of these names.
    pub(crate) fn has(&self, trace: &str, names: &[&str]) -> bool {
        names.iter().all(|name| !self.named(trace, name).is_empty())
    }
}

/// What a span tells under a key.
pub(crate) fn told<'a>(span: &'a Span, key: &str) -> Option<&'a Told> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

/// The same of a number.
pub(crate) fn number(span: &Span, key: &str) -> Result<i64> {
    match told(span, key) {
        Some(Told::IntValue(number)) => Ok(*number),
        other => anyhow::bail!("{key} of {} is {other:?}", span.name),
    }
}

/// The header of a caller that is in this span.
pub(crate) fn traceparent((trace, span): (&str, &str)) -> String {
    format!("00-{trace}-{span}-01")
}
