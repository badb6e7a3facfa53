//! What the process tells Prometheus. Every series exists before the first request, and no label
//! carries a consumer or an item.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use whyrank_plugin::ExplanationState;
use whyrank_plugin::gateway::{
    GATEWAY_CANCELLED, GATEWAY_DEGRADATIONS, GATEWAY_REFUSALS, GATEWAY_UPSTREAM_FAILURES,
    GatewayObserver, Protocol,
};

use crate::generator::Refusal;
use crate::http::Cause;

/// The stages of a rerank request, in order; the values of the label `stage`.
pub const STAGES: [&str; 6] = ["retrieve", "recall", "complete", "rank", "account", "answer"];

/// Why an answer was degraded to the retrieval order; the values of the label `reason`.
pub const DEGRADATIONS: [&str; 4] = ["deadline", "store", "model", "no_model"];

/// The outcome of a request whose caller left before there was an answer, or whose own `timeout` had
/// passed; its work was dropped then.
pub const CANCELLED: &str = "cancelled";

/// Why a pair or a request was not queued: no room in the store, in the lane of requests that wait, or
/// in the buffer before the store; nothing new is taken in; the hour's budget is spent; the store is away.
pub const QUEUE_REFUSALS: [&str; 6] = ["full", "live", "busy", "draining", "budget", "store"];

/// What became of a job: written; found current; tried again later; given up; given back; lost to
/// another worker.
pub const JOB_OUTCOMES: [&str; 7] =
    ["written", "current", "retried", "put_off", "dead", "interrupted", "lost"];

/// Whyrank's metrics and the registry that holds them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests by `route` and `outcome` (`ok`, `cancelled`, or the error's type).
    pub requests: IntCounterVec,
    /// Seconds from request to answer, by `route`.
    pub request_seconds: HistogramVec,
    /// Seconds of each rerank stage, by `stage`.
    pub stage_seconds: HistogramVec,
    /// Answers in retrieval order, by `reason`.
    pub degraded: IntCounterVec,
    /// Candidates ranked, by the `state` of their explanation.
    pub candidates: IntCounterVec,
    /// Explanations written, by `source` (`llm`, `template`).
    pub explanations: IntCounterVec,
    /// Explanations looked up before they were shown or written, by `outcome` (`hit`, `stale`, `miss`):
    /// what is stored is the cache of the LLM.
    pub explanation_lookups: IntCounterVec,
    /// Seconds that writing one explanation took.
    pub explanation_seconds: HistogramVec,
    /// Tokens read and written by the LLM, by `direction` (`prompt`, `completion`).
    pub tokens: IntCounterVec,
    /// Pairs waiting to be explained.
    pub queue_depth: IntGauge,
    /// Seconds that the oldest pair has waited.
    pub queue_oldest: IntGauge,
    /// Pairs that were given up.
    pub queue_dead: IntGauge,
    /// 1 while workers take no job.
    pub queue_paused: IntGauge,
    /// Pairs and requests not queued, by `reason`.
    pub queue_refused: IntCounterVec,
    /// Jobs that a worker ended with, by `outcome`.
    pub queue_jobs: IntCounterVec,
    /// Attempts of the LLM that validation refused, by `reason`.
    pub explanation_refusals: IntCounterVec,
    /// Interactions taken in, by `outcome` (`new`, `known`).
    pub interactions: IntCounterVec,
    /// Requests that the gateway did not let in, by `protocol` and `outcome`.
    pub gateway_refused: IntCounterVec,
    /// Requests at the gateway that the server behind did not answer, by `protocol` and `outcome`.
    pub gateway_upstream_failures: IntCounterVec,
    /// Requests at the gateway that could be reranked, by `protocol` and `outcome`.
    pub gateway_requests: IntCounterVec,
    /// Seconds of those requests, by `protocol` and `outcome`.
    pub gateway_seconds: HistogramVec,
    /// Share of the results shown that reranking in the shadow would have shown too.
    pub shadow_agreement: HistogramVec,
    /// Seconds that reranking in the shadow took.
    pub shadow_seconds: HistogramVec,
    /// Times that keys and certificates were read again, by `outcome` (`ok`, `failed`).
    pub reloads: IntCounterVec,
    /// 1 while the last reading of keys and certificates failed and the old ones are in force.
    pub reload_faulty: IntGauge,
    /// 1 for the loaded model of each `kind`, labelled with its `version`.
    pub model_info: IntGaugeVec,
    /// 1 for each `role` that this process has, 0 for the others.
    pub role: IntGaugeVec,
    /// Switches of the live models, by `outcome` (`switched`, `refused`).
    pub model_switches: IntCounterVec,
    /// 1 while the version that is to be live is refused and the one before answers.
    pub models_refused: IntGauge,
    /// Rankings for the candidate in the shadow, by `outcome` (`scored`, `dropped`, `failed`).
    pub shadow_model_rankings: IntCounterVec,
    /// Rank correlation between the candidate and the live models, -1 to 1.
    pub shadow_model_correlation: HistogramVec,
    /// Rankings of the candidate, by whether their first item is the `same` or an `other`.
    pub shadow_model_top: IntCounterVec,
    /// Mean absolute difference of their scores in one ranking.
    pub shadow_model_difference: HistogramVec,
    /// Rankings for the feature log, by `outcome` (`written`, `dropped`, `failed`).
    pub feature_log: IntCounterVec,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When two metrics share a name, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("whyrank".to_owned()), None)?;
        let counters =
            |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
                let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            };
        let histogram = |name: &str,
                         help: &str,
                         labels: &[&str],
                         buckets: &[f64]|
         -> Result<HistogramVec, prometheus::Error> {
            let metric = HistogramVec::new(
                HistogramOpts::new(name, help).buckets(buckets.to_vec()),
                labels,
            )?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let request = [
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            60.0, 120.0,
        ];
        let stage = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5];
        let writing = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0];
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let model_info =
            IntGaugeVec::new(Opts::new("model_info", "The loaded models."), &["kind", "version"])?;
        registry.register(Box::new(model_info.clone()))?;
        let role = IntGaugeVec::new(Opts::new("role", "The roles of the process."), &["role"])?;
        registry.register(Box::new(role.clone()))?;
        let metrics = Self {
            requests: counters(
                "requests_total",
                "Requests by route and outcome.",
                &["route", "outcome"],
            )?,
            request_seconds: histogram(
                "request_seconds",
                "Seconds from request to answer.",
                &["route"],
                &request,
            )?,
            stage_seconds: histogram(
                "stage_seconds",
                "Seconds of each rerank stage.",
                &["stage"],
                &stage,
            )?,
            degraded: counters(
                "degraded_total",
                "Answers in retrieval order, by reason.",
                &["reason"],
            )?,
            candidates: counters(
                "candidates_total",
                "Candidates ranked, by state of their explanation.",
                &["state"],
            )?,
            explanations: counters(
                "explanations_total",
                "Explanations written, by source.",
                &["source"],
            )?,
            explanation_lookups: counters(
                "explanation_lookups_total",
                "Explanations looked up before they were shown or written, by outcome.",
                &["outcome"],
            )?,
            explanation_seconds: histogram(
                "explanation_seconds",
                "Seconds that writing one explanation took.",
                &["source"],
                &writing,
            )?,
            tokens: counters(
                "tokens_total",
                "Tokens read and written by the LLM.",
                &["direction"],
            )?,
            gateway_refused: counters(
                "gateway_refused_total",
                "Requests that the gateway did not let in, by outcome.",
                &["protocol", "outcome"],
            )?,
            gateway_upstream_failures: counters(
                "gateway_upstream_failures_total",
                "Requests at the gateway that the server behind did not answer, by outcome.",
                &["protocol", "outcome"],
            )?,
            gateway_requests: counters(
                "gateway_requests_total",
                "Requests at the gateway that could be reranked, by outcome.",
                &["protocol", "outcome"],
            )?,
            gateway_seconds: histogram(
                "gateway_request_seconds",
                "Seconds of requests at the gateway that could be reranked.",
                &["protocol", "outcome"],
                &request,
            )?,
            shadow_agreement: histogram(
                "shadow_agreement",
                "Share of the results shown that reranking in the shadow would have shown too.",
                &[],
                &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
            )?,
            shadow_seconds: histogram(
                "shadow_seconds",
                "Seconds that reranking in the shadow took.",
                &[],
                &request,
            )?,
            queue_depth: gauge("queue_depth", "Pairs waiting to be explained.")?,
            queue_oldest: gauge(
                "queue_oldest_seconds",
                "Seconds that the oldest pair has waited to be explained.",
            )?,
            queue_dead: gauge("queue_dead_letters", "Pairs that were given up.")?,
            queue_paused: gauge("queue_paused", "1 while workers take no job.")?,
            queue_refused: counters(
                "queue_refused_total",
                "Pairs and requests not queued, by reason.",
                &["reason"],
            )?,
            queue_jobs: counters(
                "queue_jobs_total",
                "Jobs that a worker ended with, by outcome.",
                &["outcome"],
            )?,
            explanation_refusals: counters(
                "explanation_refusals_total",
                "Attempts of the LLM that validation refused, by reason.",
                &["reason"],
            )?,
            interactions: counters(
                "interactions_total",
                "Interactions taken in, by outcome.",
                &["outcome"],
            )?,
            reloads: counters(
                "reloads_total",
                "Times that keys and certificates were read again, by outcome.",
                &["outcome"],
            )?,
            reload_faulty: gauge(
                "reload_faulty",
                "1 while the last reading of keys and certificates failed.",
            )?,
            model_switches: counters(
                "model_switches_total",
                "Switches of the live models, by outcome.",
                &["outcome"],
            )?,
            models_refused: gauge(
                "models_refused",
                "1 while the version that is to be live is refused.",
            )?,
            shadow_model_rankings: counters(
                "shadow_model_rankings_total",
                "Rankings for the candidate models in the shadow, by outcome.",
                &["outcome"],
            )?,
            shadow_model_correlation: histogram(
                "shadow_model_rank_correlation",
                "Spearman rank correlation between the candidate and the live models.",
                &[],
                &[-0.5, 0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0],
            )?,
            shadow_model_top: counters(
                "shadow_model_top_total",
                "Rankings of the candidate models, by whether their first item is the same.",
                &["top"],
            )?,
            shadow_model_difference: histogram(
                "shadow_model_score_difference",
                "Mean absolute difference between scores of the candidate and the live models.",
                &[],
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0],
            )?,
            feature_log: counters(
                "feature_log_total",
                "Rankings for the feature log, by outcome.",
                &["outcome"],
            )?,
            model_info,
            role,
            registry,
        };
        metrics.touch();
        Ok(metrics)
    }

    /// Makes every series with a known label exist at zero.
    fn touch(&self) {
        for route in [
            "recommend",
            "explain",
            "audiences",
            "audience_comparison",
            "insights",
            "compare",
            "inference",
            "interactions",
            "queue",
            "models",
        ] {
            self.requests.with_label_values(&[route, "ok"]);
            self.requests.with_label_values(&[route, CANCELLED]);
            for cause in Cause::ALL {
                self.requests.with_label_values(&[route, cause.row().0]);
            }
            self.request_seconds.with_label_values(&[route]);
        }
        for role in ["api", "gateway", "worker"] {
            self.role.with_label_values(&[role]);
        }
        for outcome in ["ok", "failed"] {
            self.reloads.with_label_values(&[outcome]);
        }
        for outcome in ["unauthorized", "forbidden", "full"] {
            self.requests.with_label_values(&["access", outcome]);
        }
        self.requests.with_label_values(&["console_login", "ok"]);
        for stage in STAGES {
            self.stage_seconds.with_label_values(&[stage]);
        }
        for reason in DEGRADATIONS {
            self.degraded.with_label_values(&[reason]);
        }
        for state in ["written", "stale", "predicted", "absent"] {
            self.candidates.with_label_values(&[state]);
        }
        for source in ["llm", "template"] {
            self.explanations.with_label_values(&[source]);
            self.explanation_seconds.with_label_values(&[source]);
        }
        let outcomes = ["reranked", "shadow", "passed", GATEWAY_CANCELLED]
            .into_iter()
            .chain(GATEWAY_DEGRADATIONS)
            .chain(GATEWAY_UPSTREAM_FAILURES);
        for outcome in outcomes {
            for protocol in [Protocol::Rest, Protocol::Grpc] {
                let labels = [protocol.name(), outcome];
                self.gateway_requests.with_label_values(&labels);
                self.gateway_seconds.with_label_values(&labels);
            }
        }
        for outcome in GATEWAY_REFUSALS {
            for protocol in [Protocol::Rest, Protocol::Grpc] {
                self.gateway_refused.with_label_values(&[protocol.name(), outcome]);
            }
        }
        for outcome in GATEWAY_UPSTREAM_FAILURES {
            for protocol in [Protocol::Rest, Protocol::Grpc] {
                self.gateway_upstream_failures.with_label_values(&[protocol.name(), outcome]);
            }
        }
        self.shadow_agreement.with_label_values::<&str>(&[]);
        self.shadow_seconds.with_label_values::<&str>(&[]);
        for reason in QUEUE_REFUSALS {
            self.queue_refused.with_label_values(&[reason]);
        }
        for outcome in JOB_OUTCOMES {
            self.queue_jobs.with_label_values(&[outcome]);
        }
        for reason in Refusal::REASONS {
            self.explanation_refusals.with_label_values(&[reason]);
        }
        for outcome in ["switched", "refused"] {
            self.model_switches.with_label_values(&[outcome]);
        }
        for outcome in ["scored", "dropped", "failed"] {
            self.shadow_model_rankings.with_label_values(&[outcome]);
        }
        for top in ["same", "other"] {
            self.shadow_model_top.with_label_values(&[top]);
        }
        self.shadow_model_correlation.with_label_values::<&str>(&[]);
        self.shadow_model_difference.with_label_values::<&str>(&[]);
        for outcome in ["written", "dropped", "failed"] {
            self.feature_log.with_label_values(&[outcome]);
        }
        for outcome in ["hit", "stale", "miss"] {
            self.explanation_lookups.with_label_values(&[outcome]);
        }
        for outcome in ["new", "known"] {
            self.interactions.with_label_values(&[outcome]);
        }
        for direction in ["prompt", "completion"] {
            self.tokens.with_label_values(&[direction]);
        }
    }

    /// A result was shown whose codes came from there.
    pub fn shown(&self, state: ExplanationState) {
        let state = match state {
            ExplanationState::Written => "written",
            ExplanationState::Stale => "stale",
            ExplanationState::Predicted => "predicted",
            ExplanationState::Absent => "absent",
        };
        self.candidates.with_label_values(&[state]).inc();
    }

    /// The text that `/metrics` answers.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        String::from_utf8(buffer).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

impl GatewayObserver for Metrics {
    fn answered(&self, protocol: Protocol, outcome: &'static str, took: Duration) {
        let labels = [protocol.name(), outcome];
        self.gateway_requests.with_label_values(&labels).inc();
        self.gateway_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }

    fn refused(&self, protocol: Protocol, reason: &'static str) {
        self.gateway_refused.with_label_values(&[protocol.name(), reason]).inc();
    }

    fn unanswered(&self, protocol: Protocol, outcome: &'static str) {
        self.gateway_upstream_failures.with_label_values(&[protocol.name(), outcome]).inc();
    }

    fn shadowed(&self, agreement: f64, took: Duration) {
        self.shadow_agreement.with_label_values::<&str>(&[]).observe(agreement);
        self.shadow_seconds.with_label_values::<&str>(&[]).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_before_the_first_request() {
        let text = Metrics::new().unwrap().text().unwrap();
        for stage in STAGES {
            assert!(
                text.contains(&format!("whyrank_stage_seconds_count{{stage=\"{stage}\"}} 0")),
                "{stage}"
            );
        }
        for name in [
            "requests_total",
            "degraded_total",
            "candidates_total",
            "explanations_total",
            "explanation_lookups_total",
            "queue_depth",
            "gateway_requests_total",
            "gateway_refused_total",
            "gateway_upstream_failures_total",
            "shadow_agreement_count",
        ] {
            assert!(text.contains(&format!("whyrank_{name}")), "{name}");
        }
    }
}
