//! Reads JSON bodies so that every refusal is told in the one error form.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::{ApiError, Cause};

/// A JSON body of type `T`.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<State, T> FromRequest<State> for Json<T>
where
    State: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &State) -> Result<Self, ApiError> {
        axum::Json::from_request(request, state).await.map(|axum::Json(value)| Self(value)).map_err(
            |rejection| {
                let cause = match &rejection {
                    JsonRejection::JsonDataError(_) => Cause::Invalid,
                    other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => Cause::TooLarge,
                    _ => Cause::Malformed,
                };
                ApiError::new(cause, rejection.body_text())
            },
        )
    }
}
