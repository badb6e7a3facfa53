//! The HTTP API: recommendations, explanations, health, metrics and its own description.

mod admission;
mod audience;
mod audience_export;
mod audit;
mod authentication;
mod bodies;
mod callers;
mod compare;
mod console;
pub(crate) mod deadline;
mod error;
mod explain;
mod health;
mod inference;
mod insights;
mod interactions;
mod json;
mod known;
mod models;
mod queue;
mod recommend;

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use whyrank_plugin::bodies::Bounds;
use whyrank_plugin::serving::{self, Tls};

pub use console::ConsoleSettings;
pub use error::{ApiError, Cause, ErrorBody};
pub use explain::{ExplainRequest, ExplainResponse};
pub(crate) use known::{known_item, known_user};

use crate::audience::Audiences;
use crate::config::ServerSettings;
use crate::inference::Inference;
use crate::insights::Insights;
use crate::interactions::Interactions;
use crate::metrics::{CANCELLED, Metrics};
use crate::queue::{Jobs, MissingPairs, WritingDesk};
use crate::rerank::Reranker;
use crate::storage::Storage;
use crate::telemetry;
use crate::versions::ModelKeeper;

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    inner: Arc<Inner>,
    health_only: bool,
}

#[derive(Debug)]
struct Inner {
    reranker: Reranker,
    audiences: Audiences,
    insights: Insights,
    storage: Storage,
    inference: Inference,
    interactions: Interactions,
    jobs: Jobs,
    models: ModelKeeper,
    missing: Option<MissingPairs>,
    desk: Option<WritingDesk>,
    metrics: Metrics,
    settings: ServerSettings,
    sessions: console::Sessions,
    callers: callers::Callers,
    admission: Arc<Semaphore>,
    bodies: Bounds,
    stopping: AtomicBool,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Whyrank",
    description = "Explains and reranks what Qdrant retrieves: for a consumer and an item, why they would \
                   like it and why not, and a ranking that uses both."
))]
struct Description;

/// What an [`Api`] is made of.
#[derive(Debug)]
pub struct ApiParts {
    /// Answers requests for recommendations.
    pub reranker: Reranker,
    /// Answers requests for audiences.
    pub audiences: Audiences,
    /// Answers questions about items.
    pub insights: Insights,
    /// The collections.
    pub storage: Storage,
    /// Answers Qdrant's requests for vectors.
    pub inference: Inference,
    /// Takes in what consumers do.
    pub interactions: Interactions,
    /// The queue of pairs in the store.
    pub jobs: Jobs,
    /// Switches the models.
    pub(crate) models: ModelKeeper,
    /// Takes pairs that are shown stale; none takes none.
    pub missing: Option<MissingPairs>,
    /// Takes explanations to write; without it they are only read.
    pub desk: Option<WritingDesk>,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// Limits.
    pub settings: ServerSettings,
}

impl Api {
    /// Puts an API together.
    pub fn new(parts: ApiParts) -> Self {
        let ApiParts {
            reranker,
            audiences,
            insights,
            storage,
            inference,
            interactions,
            jobs,
            models,
            missing,
            desk,
            metrics,
            settings,
        } = parts;
        let admission = Arc::new(Semaphore::new(settings.maximum_requests));
        let bodies = Bounds::new(
            settings.maximum_body_bytes,
            std::time::Duration::from_secs(settings.body_seconds),
            settings.maximum_buffered_bytes,
        );
        let sessions = console::Sessions::new(&settings.console);
        let callers = callers::Callers::new(&settings);
        let stopping = AtomicBool::new(false);
        let inner = Inner {
            reranker,
            audiences,
            insights,
            storage,
            inference,
            interactions,
            jobs,
            models,
            missing,
            desk,
            metrics,
            settings,
            sessions,
            callers,
            admission,
            bodies,
            stopping,
        };
        Self { inner: Arc::new(inner), health_only: false }
    }

    /// The same process without the API: health and metrics only, for one that just writes.
    pub fn health_only(self) -> Self {
        Self { health_only: true, ..self }
    }

    /// The routes.
    pub fn router(&self) -> Router {
        if self.health_only {
            return health::router().with_state(self.clone());
        }
        let (router, description) = Self::routes().split_for_parts();
        let open_api = axum::routing::get(move || async move { axum::Json(description) });
        // Only work is admitted by count; health and metrics must answer when the server is full.
        router
            .route("/", axum::routing::post(inference::infer))
            .layer(axum::middleware::from_fn_with_state(self.clone(), admission::admit))
            // Read before a place is taken, and bounded there.
            .layer(DefaultBodyLimit::disable())
            .layer(axum::middleware::from_fn_with_state(self.clone(), bodies::read))
            .layer(axum::middleware::from_fn(deadline::keep))
            .route("/openapi.json", open_api)
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method)
            // Outermost: who may not ask takes no place and is read no body of.
            .layer(axum::middleware::from_fn_with_state(self.clone(), authentication::authenticate))
            .merge(self.console())
            .layer(axum::middleware::from_fn(|request, next| {
                telemetry::observe("api", request, next)
            }))
            .merge(health::router())
            .with_state(self.clone())
    }

    /// The routes of the console, if there is to be one.
    fn console(&self) -> Router<Self> {
        if self.inner.settings.console.enabled { console::router(self) } else { Router::new() }
    }

    fn routes() -> OpenApiRouter<Self> {
        OpenApiRouter::with_openapi(Description::openapi())
            .routes(routes!(recommend::recommend))
            .routes(routes!(explain::explain))
            .routes(routes!(audience::audience))
            .routes(routes!(audience::compare))
            .routes(routes!(audience_export::export))
            .routes(routes!(insights::insights))
            .routes(routes!(compare::compare))
            .routes(routes!(interactions::post))
            .routes(routes!(queue::show, queue::offer))
            .routes(routes!(queue::control))
            .routes(routes!(queue::dead_letters))
            .routes(routes!(queue::replay))
            .routes(routes!(models::show))
            .routes(routes!(models::activate))
            .routes(routes!(models::rollback))
    }

    /// The description that `/openapi.json` answers.
    pub fn open_api() -> utoipa::openapi::OpenApi {
        Self::routes().split_for_parts().1
    }

    /// Whether callers must have a key.
    pub(crate) fn has_keys(&self) -> bool {
        !self.inner.callers.none()
    }

    /// Whether a Qdrant server that asks for vectors needs a token.
    pub(crate) fn has_inference_token(&self) -> bool {
        self.inner.callers.inference_token().is_some()
    }

    /// From the next request on these keys and their limits count; sessions of the console that began with
    /// a key that is gone are over.
    pub fn replace_keys(&self, settings: &ServerSettings) {
        self.inner.callers.replace(settings);
    }

    /// Serves until `shutdown` fires; requests in hand may then end within the grace time. The listener
    /// must be non-blocking.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Tls>,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let grace = std::time::Duration::from_secs(self.inner.settings.grace_seconds);
        let router = self.router();
        let (stop, inner) = (shutdown.clone(), self.inner.clone());
        // Not ready from the moment on at which it is to end, so that no balancer sends more.
        let flag = tokio::spawn(async move {
            stop.cancelled().await;
            inner.stopping.store(true, Ordering::Relaxed);
        });
        let connections = self.inner.settings.connections;
        let served = serving::serve(listener, router, tls, connections, shutdown, grace).await;
        flag.abort();
        served
    }

    /// To be kept until there is an answer.
    fn unanswered(&self, route: &'static str) -> Unanswered {
        let metrics = self.inner.metrics.clone();
        Unanswered { metrics, route, started: Instant::now(), answered: false }
    }

    /// Counts and times the answer of one route.
    async fn observed<T>(
        &self,
        route: &'static str,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let unanswered = self.unanswered(route);
        let answer = work.await;
        unanswered.answered(answer.as_ref().err());
        answer
    }
}

/// Counts a request whose caller left: its work is dropped, and this with it.
#[derive(Debug)]
struct Unanswered {
    metrics: Metrics,
    route: &'static str,
    started: Instant,
    answered: bool,
}

impl Unanswered {
    /// The answer is out, or a stream has come to its end; with a fault, if any.
    fn answered(mut self, fault: Option<&ApiError>) {
        self.answered = true;
        let (metrics, route) = (&self.metrics, self.route);
        let seconds = self.started.elapsed().as_secs_f64();
        metrics.request_seconds.with_label_values(&[route]).observe(seconds);
        let outcome = fault.map_or("ok", |error| error.cause.row().0);
        metrics.requests.with_label_values(&[route, outcome]).inc();
        if let Some(error) = fault
            && error.cause == Cause::Internal
        {
            tracing::error!(route, error = error.message, "a request failed");
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.metrics.requests.with_label_values(&[self.route, CANCELLED]).inc();
        tracing::debug!(route = self.route, "the caller left before the answer");
    }
}

/// Nothing is at the path.
async fn unknown_route(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {}; /openapi.json tells what there is", uri.path());
    ApiError::new(Cause::UnknownRoute, message)
}

/// Something is at the path, for other methods.
async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} takes no {method}; /openapi.json tells what it takes", uri.path());
    ApiError::new(Cause::WrongMethod, message)
}
