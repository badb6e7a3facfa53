//! The spans of writing explanations: the waiting of a request, a job of the queue, a pair, an attempt, and
//! what the LLM is asked. They carry kinds and counts. A text is in none of them, nor an id of a consumer or
//! an item, nor the seed of a generation, which is a digest of both ids.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::generator::{
    Generation, GenerationOptions, GeneratorError, GeneratorIdentity, Side, Usage,
};
use crate::telemetry::TARGET;

/// The header, and the key in the queue, that names a span to another process.
const TRACEPARENT: &str = "traceparent";

/// A request waits until its pair is written, here or elsewhere.
pub(crate) fn waiting() -> Span {
    tracing::debug_span!(target: TARGET, "queue.wait")
}

/// A job of the queue, from its lease to its end: a trace of its own, because a job outlives processes, with
/// a link to the request that waits for it, if one does.
pub(crate) fn job(lane: &'static str, attempt: i64, waiting: Option<&str>) -> Span {
    let span = tracing::debug_span!(
        target: TARGET,
        parent: None,
        "queue.job",
        otel.kind = "consumer",
        lane,
        attempt,
        outcome = Empty,
    );
    if let Some(traceparent) = waiting {
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
        let context = TraceContextPropagator::new().extract(&carrier);
        // What is not a `traceparent` gives a context that is not valid, and no link.
        span.add_link(context.span().span_context().clone());
    }
    span
}

/// A worker takes a job.
pub(crate) fn lease(job: &Span) -> Span {
    tracing::debug_span!(target: TARGET, parent: job, "queue.lease")
}

/// The current span as another process can link to it, if it is traced.
pub(crate) fn traceparent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// A pair is written, or found written.
pub(crate) fn writing() -> Span {
    tracing::debug_span!(
        target: TARGET,
        "explanation.write",
        outcome = Empty,
        source = Empty,
        attempts = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
    )
}

/// What all attempts at a pair came to, told of the current span.
pub(crate) fn wrote(source: &'static str, attempts: u32, usage: &Usage) {
    let span = Span::current();
    span.record("source", source);
    span.record("attempts", i64::from(attempts));
    spent(&span, usage);
}

/// One attempt at a pair.
pub(crate) fn attempt(number: u32) -> Span {
    tracing::debug_span!(
        target: TARGET,
        "explanation.attempt",
        attempt = i64::from(number),
        refused = Empty,
    )
}

/// One question to the LLM, in the words that OpenTelemetry has for that. The template is no LLM, and has none.
pub(crate) fn generation(
    identity: &GeneratorIdentity,
    side: Side,
    options: &GenerationOptions,
) -> Span {
    if identity.generator == "template" {
        return Span::none();
    }
    tracing::debug_span!(
        target: TARGET,
        "generation",
        otel.name = format!("chat {}", identity.model),
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = identity.generator,
        gen_ai.request.model = identity.model,
        gen_ai.request.max_tokens = i64::from(options.max_tokens),
        gen_ai.request.temperature = options.temperature,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        side = side.name(),
    )
}

/// How a question to the LLM ended.
pub(crate) fn generated(span: &Span, outcome: &Result<Generation, GeneratorError>) {
    match outcome {
        Ok(generation) => {
            let reason = if generation.truncated { "length" } else { "stop" };
            span.record("gen_ai.response.finish_reasons", reason);
            spent(span, &generation.usage);
        }
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            // The message may quote what was asked or answered.
            span.record("error.type", error.kind());
        }
    }
}

fn spent(span: &Span, usage: &Usage) {
    let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    span.record("gen_ai.usage.input_tokens", count(usage.prompt_tokens));
    span.record("gen_ai.usage.output_tokens", count(usage.completion_tokens));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Keeps what it is handed.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn a_job_is_a_trace_of_its_own_with_a_link_to_who_waits() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let waits = waiting();
            let traceparent = waits.in_scope(traceparent);
            assert!(traceparent.is_some(), "a span that is traced has one");
            let job = waits.in_scope(|| job("live", 1, traceparent.as_deref()));
            drop(lease(&job));
            drop(job);
            drop(super::job("shown", 2, Some("not one")));
        });
        assert_eq!(traceparent(), None, "nothing is traced here");
        let spans = kept.0.lock().unwrap();
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["queue.lease", "queue.job", "queue.job", "queue.wait"]);
        let [lease, job, other, waits] = &spans[..] else { panic!("{names:?}") };
        let trace = |span: &SpanData| span.span_context.trace_id();
        assert_eq!((trace(lease), lease.parent_span_id), (trace(job), job.span_context.span_id()));
        assert_ne!(trace(job), trace(waits));
        let links: Vec<_> = job.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(links, [waits.span_context.span_id()]);
        assert!(other.links.is_empty());
    }
}
