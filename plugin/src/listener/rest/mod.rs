//! Qdrant's REST interface: paths, and what is said to a path that is not answered.

mod answer;
mod collections;
mod fields;
mod indexes;
mod points;
mod query;
mod vectors;

use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::json;

use fields::Fields;

use super::fault::Fault;
use super::operations::Operations;
use super::{TITLE, VERSION};

/// The query parameters of Qdrant. All are about waiting and replicas: writes here are always waited
/// for, and there is one replica.
const PARAMETERS: [&str; 4] = ["wait", "ordering", "timeout", "consistency"];

pub(super) fn router(operations: Operations) -> Router {
    let service = Router::new()
        .route("/", get(root))
        .route("/healthz", get(|| healthy("healthz check passed")))
        .route("/livez", get(|| healthy("healthz check passed")))
        .route("/readyz", get(|| healthy("all shards are ready")));
    let collections = Router::new()
        .route("/collections", get(collections::list))
        .route(
            "/collections/{collection}",
            get(collections::info).put(collections::create).delete(collections::delete),
        )
        .route("/collections/{collection}/exists", get(collections::exists))
        .route("/collections/{collection}/index", put(indexes::create))
        .route("/collections/{collection}/facet", post(points::facet));
    let points = Router::new()
        .route("/collections/{collection}/points", put(points::upsert).post(points::read))
        .route("/collections/{collection}/points/{id}", get(points::read_one))
        .route("/collections/{collection}/points/delete", post(points::delete))
        .route("/collections/{collection}/points/payload", post(points::set_payload))
        .route("/collections/{collection}/points/scroll", post(points::scroll))
        .route("/collections/{collection}/points/count", post(points::count))
        .route("/collections/{collection}/points/query", post(query::query))
        .route("/collections/{collection}/points/query/batch", post(query::query_batch))
        .route("/collections/{collection}/points/query/groups", post(query::query_groups));
    service
        .merge(collections)
        .merge(points)
        .route_layer(from_fn(check_parameters))
        .fallback(unimplemented)
        .method_not_allowed_fallback(unimplemented)
        .with_state(operations)
}

impl Operations {
    /// Reads the body of a request.
    async fn fields(&self, request: Request) -> Result<Fields, Fault> {
        Fields::read(request, self.settings().maximum_body_bytes).await
    }
}

async fn root() -> Response {
    Json(json!({"title": TITLE, "version": VERSION})).into_response()
}

async fn healthy(words: &'static str) -> &'static str {
    words
}

async fn unimplemented(method: Method, uri: Uri) -> Response {
    answer::refusal(Fault::unimplemented(format!("{method} {}", uri.path())), 0.0)
}

/// Refuses query parameters that are not known: leaving one out could change the request's meaning.
async fn check_parameters(request: Request, next: Next) -> Response {
    let parameters = request.uri().query().unwrap_or_default().split('&');
    let mut names = parameters.map(|parameter| parameter.split('=').next().unwrap_or_default());
    match names.find(|name| !name.is_empty() && !PARAMETERS.contains(name)) {
        None => next.run(request).await,
        Some(name) => {
            let detail = format!("unknown parameter `{name}`");
            answer::refusal(Fault::format("query parameters", detail), 0.0)
        }
    }
}
