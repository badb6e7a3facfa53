//! The page of the system: what is trained and present, how much is written, what waits, what went
//! wrong. The figures are those of `/metrics`, `/readyz` and `/v1/queue`.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use minijinja::context;
use prometheus::core::Collector;
use serde::Serialize;
use whyrank_plugin::StoreError;

use super::{Frame, Visitor, error_page};
use crate::http::{Api, ApiError, health, queue};
use crate::metrics::{DEGRADATIONS, Metrics, QUEUE_REFUSALS, STAGES};
use crate::queue::{QueueStatus, WritingDesk};
use crate::storage::Backend;

/// Where the reasons of results came from, as the page calls it.
const STATES: [(&str, &str); 4] = [
    ("written", "Written, current"),
    ("stale", "Written, stale"),
    ("predicted", "Predicted"),
    ("absent", "None"),
];

/// What a fresh installation makes one after the other.
#[derive(Debug, Serialize)]
struct Stage {
    name: &'static str,
    present: bool,
    detail: String,
    /// The command that makes it, where it is missing.
    command: Option<&'static str>,
}

/// A number with its name.
#[derive(Debug, Serialize)]
struct Counted {
    name: String,
    count: u64,
    /// Of all with it, from 0 to 1.
    share: f64,
}

/// Requests to one route since the server started.
#[derive(Debug, Serialize)]
struct Route {
    name: String,
    answered: u64,
    refused: u64,
    milliseconds: Option<f64>,
}

/// A model that is loaded.
#[derive(Debug, Serialize)]
struct Model {
    kind: String,
    version: String,
}

/// Everything that the page shows.
#[derive(Debug, Serialize)]
struct SystemState {
    ready: bool,
    why: String,
    backend: &'static str,
    items: u64,
    users: u64,
    explanations: u64,
    sessions: usize,
    written_now: u64,
    queue: QueueStatus,
    refused: Vec<Counted>,
    stages: Vec<Stage>,
    shown: Vec<Counted>,
    shown_total: u64,
    degraded: Vec<Counted>,
    routes: Vec<Route>,
    timed: bool,
    timings: Vec<(&'static str, f64)>,
    models: Vec<Model>,
}

/// The page.
pub(super) async fn page(
    State(api): State<Api>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response {
    let frame = Frame::new(&visitor, uri.path());
    let state = match visitor.require("/v1/queue") {
        Ok(()) => state(&api).await,
        Err(refused) => Err(refused),
    };
    match state {
        Ok(state) => super::page("system", StatusCode::OK, &frame, context! { state }),
        Err(error) => error_page(&frame, &error),
    }
}

async fn state(api: &Api) -> Result<SystemState, ApiError> {
    let inner = &api.inner;
    let (storage, metrics) = (&inner.storage, &inner.metrics);
    let settings = storage.settings();
    let ready = health::ready(State(api.clone())).await;
    let items = count(api, &settings.items).await?;
    let users = count(api, &settings.users).await?;
    let explanations = count(api, &settings.explanations).await?;
    let queue = queue::show(State(api.clone())).await?.0;
    let shown = shares(
        STATES.map(|(state, name)| (name, metrics.candidates.with_label_values(&[state]).get())),
    );
    let timings = STAGES.map(|stage| {
        let histogram = metrics.stage_seconds.with_label_values(&[stage]);
        (stage, 1e3 * mean(histogram.get_sample_sum(), histogram.get_sample_count()).unwrap_or(0.0))
    });
    let refused = QUEUE_REFUSALS.map(|r| (r, metrics.queue_refused.with_label_values(&[r]).get()));
    let written = ["llm", "template"].map(|s| metrics.explanations.with_label_values(&[s]).get());
    Ok(SystemState {
        ready: ready.is_ok(),
        why: ready.err().map(|error| error.message).unwrap_or_default(),
        backend: match settings.backend {
            Backend::Embedded => "embedded",
            Backend::Server => "Qdrant server",
        },
        items,
        users,
        explanations,
        sessions: inner.sessions.count(),
        written_now: written.iter().sum(),
        queue,
        refused: shares(refused).into_iter().filter(|one| one.count > 0).collect(),
        stages: stages(api, items, users, explanations),
        shown_total: shown.iter().map(|one| one.count).sum(),
        shown,
        degraded: shares(
            DEGRADATIONS
                .map(|reason| (reason, metrics.degraded.with_label_values(&[reason]).get())),
        ),
        routes: routes(metrics),
        timed: timings.iter().any(|(_, value)| *value > 0.0),
        timings: timings.to_vec(),
        models: models(metrics),
    })
}

/// How many points a collection has; one that is not made yet has none.
async fn count(api: &Api, collection: &str) -> Result<u64, ApiError> {
    match api.inner.storage.store().count(collection, None).await {
        Err(StoreError::CollectionMissing { .. }) => Ok(0),
        counted => Ok(counted?),
    }
}

/// What there is and what makes what is missing, in the order of a new installation.
fn stages(api: &Api, items: u64, users: u64, explanations: u64) -> Vec<Stage> {
    let inner = &api.inner;
    let (reranker, trained) = (&inner.reranker, inner.reranker.has_models());
    let stage = |name, present: bool, detail: &str, command| Stage {
        name,
        present,
        detail: detail.to_owned(),
        command: if present { None } else { command },
    };
    let worker = match &inner.desk {
        Some(WritingDesk::Elsewhere(_)) => "other processes on the same store write",
        Some(_) => "this process writes",
        None => "this process only reads; a process with the role worker writes",
    };
    vec![
        stage(
            "Data",
            items > 0 && users > 0,
            "items and consumers are in the store",
            Some("whyrank import"),
        ),
        stage(
            "Vectors",
            reranker.has_vectors(),
            "consumers and items have vectors",
            Some("whyrank train vectors"),
        ),
        stage(
            "Explanations",
            explanations > 0,
            "some pairs have written reasons",
            Some("whyrank generate"),
        ),
        stage(
            "Autoencoder",
            inner.audiences.has_encoder(),
            "turns reasons into codes",
            Some("whyrank train autoencoder"),
        ),
        stage(
            "Explainer",
            trained,
            "predicts codes of pairs that nothing is written for",
            Some("whyrank train explainer"),
        ),
        stage("Ranker", trained, "orders the candidates", Some("whyrank train ranker")),
        stage("Worker", inner.desk.is_some(), worker, None),
    ]
}

fn shares<const N: usize>(counts: [(&str, u64); N]) -> Vec<Counted> {
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let share = |count: u64| if all > 0 { count as f64 / all as f64 } else { 0.0 };
    let counted = |(name, count): (&str, u64)| Counted {
        name: name.replace('_', " "),
        count,
        share: share(count),
    };
    counts.into_iter().map(counted).collect()
}

fn mean(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

/// The routes that were asked, in the order of their names.
fn routes(metrics: &Metrics) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for family in metrics.requests.collect() {
        for metric in family.get_metric() {
            let label = |name: &str| {
                let label = metric.get_label().iter().find(|label| label.name() == name);
                label.map(|label| label.value().to_owned()).unwrap_or_default()
            };
            let (name, count) = (label("route"), metric.get_counter().get_value() as u64);
            let place = routes.iter().position(|route| route.name == name).unwrap_or_else(|| {
                routes.push(Route { name, answered: 0, refused: 0, milliseconds: None });
                routes.len() - 1
            });
            let route = &mut routes[place];
            let answered = label("outcome") == "ok";
            *(if answered { &mut route.answered } else { &mut route.refused }) += count;
        }
    }
    for route in &mut routes {
        // Only routes that are timed have a histogram; asking for another would make one.
        let timed = metrics.request_seconds.collect();
        let found = timed
            .iter()
            .flat_map(|family| family.get_metric())
            .find(|metric| metric.get_label().iter().any(|label| label.value() == route.name));
        let histogram = found.map(|metric| metric.get_histogram());
        let seconds = histogram.and_then(|h| mean(h.get_sample_sum(), h.get_sample_count()));
        route.milliseconds = seconds.map(|seconds| seconds * 1e3);
        route.name = route.name.replace('_', " ");
    }
    routes.sort_by(|left, right| left.name.cmp(&right.name));
    routes
}

/// The models that are loaded.
fn models(metrics: &Metrics) -> Vec<Model> {
    let families = metrics.model_info.collect();
    let found = families.iter().flat_map(|family| family.get_metric());
    let loaded = found.filter(|metric| metric.get_gauge().get_value() > 0.0);
    let mut models: Vec<Model> = loaded
        .map(|metric| {
            let label = |name: &str| {
                let label = metric.get_label().iter().find(|label| label.name() == name);
                label.map(|label| label.value().to_owned()).unwrap_or_default()
            };
            Model { kind: label("kind"), version: label("version") }
        })
        .collect();
    models.sort_by(|left, right| left.kind.cmp(&right.kind));
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_models_are_read_from_the_metrics() {
        let metrics = Metrics::new().unwrap();
        metrics.requests.with_label_values(&["recommend", "ok"]).inc_by(3);
        metrics.requests.with_label_values(&["recommend", "invalid"]).inc();
        metrics.request_seconds.with_label_values(&["recommend"]).observe(0.25);
        metrics.model_info.with_label_values(&["ranker", "v1"]).set(1);
        let routes = routes(&metrics);
        let route = routes.iter().find(|route| route.name == "recommend").unwrap();
        assert_eq!((route.answered, route.refused, route.milliseconds), (3, 1, Some(250.0)));
        let login = routes.iter().find(|route| route.name == "console login").unwrap();
        assert_eq!(login.milliseconds, None);
        let models = models(&metrics);
        assert_eq!((models[0].kind.as_str(), models[0].version.as_str()), ("ranker", "v1"));
    }

    #[test]
    fn shares_add_up_to_one_or_to_nothing() {
        let counted = shares([("a_b", 3), ("c", 1)]);
        assert_eq!((counted[0].name.as_str(), counted[0].share), ("a b", 0.75));
        assert!(shares([("a", 0)]).iter().all(|one| one.share == 0.0));
    }
}
