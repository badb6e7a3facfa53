//! Qdrant's gRPC interface.

use axum::Router;

use super::operations::Operations;

pub(super) fn router(_operations: Operations) -> Router {
    Router::new()
}
