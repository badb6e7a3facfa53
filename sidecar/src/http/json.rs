//! Reads JSON bodies so that every refusal is told in the one error form.

use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::audit::Asked;
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
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| unread(rejection.status(), rejection.body_text()))?;
        if let Some(asked) = parts.extensions.get::<Asked>() {
            asked.read(&bytes);
        }
        let request = Request::from_parts(parts, Body::from(bytes));
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(error)) => {
                Err(ApiError::new(Cause::Invalid, error.body_text()))
            }
            Err(rejection) => Err(unread(rejection.status(), rejection.body_text())),
        }
    }
}

/// A body that is not JSON, or too much of it.
fn unread(status: StatusCode, message: String) -> ApiError {
    let too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
    ApiError::new(if too_large { Cause::TooLarge } else { Cause::Malformed }, message)
}
