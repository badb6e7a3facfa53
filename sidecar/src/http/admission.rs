//! Admission at the edge: a request gets a place or is refused at once, so that no queue grows where
//! nobody sees it.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use whyrank_plugin::allowance::held;

use super::{Api, ApiError, Cause};

/// Lets the request in if fewer than the configured number are in hand.
pub(super) async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.inner.admission.clone().try_acquire_owned() {
        Ok(place) => {
            let response = next.run(request).await;
            held(response, place)
        }
        Err(_) => {
            let message = "too many requests are in hand (`server.maximum_requests`); try again";
            ApiError::new(Cause::Full, message).into_response()
        }
    }
}
