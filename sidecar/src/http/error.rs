//! The one table of errors that a caller can see: cause, code, HTTP status, and whether trying again
//! can help. Every surface maps through it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The cause of a refused or failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The request is not of the documented form.
    Malformed,
    /// A key or token is missing or wrong.
    Unauthorized,
    /// The key's role does not reach the route.
    Forbidden,
    /// The consumer is not in the store and no history was given.
    UnknownUser,
    /// The item is not in the store.
    UnknownItem,
    /// There is nothing at this path.
    UnknownRoute,
    /// The path takes other methods.
    WrongMethod,
    /// There is no written explanation for the pair, and writing was not asked for.
    NoExplanation,
    /// The body is larger than the limit.
    TooLarge,
    /// The body did not come in time.
    SlowBody,
    /// The request is well formed but a value cannot be used.
    Invalid,
    /// The queue is full.
    Full,
    /// Models or store are not ready.
    NotReady,
    /// The answer did not come in time.
    Deadline,
    /// A fault on this side.
    Internal,
}

impl Cause {
    /// Every cause, for tests and documents.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Unauthorized,
        Self::Forbidden,
        Self::UnknownUser,
        Self::UnknownItem,
        Self::UnknownRoute,
        Self::WrongMethod,
        Self::NoExplanation,
        Self::TooLarge,
        Self::SlowBody,
        Self::Invalid,
        Self::Full,
        Self::NotReady,
        Self::Deadline,
        Self::Internal,
    ];

    /// The value of `error_type`, the HTTP status, and whether the same request may succeed later.
    pub fn row(self) -> (&'static str, StatusCode, bool) {
        match self {
            Self::Malformed => ("malformed", StatusCode::BAD_REQUEST, false),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, false),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, false),
            Self::UnknownUser => ("unknown_user", StatusCode::NOT_FOUND, false),
            Self::UnknownItem => ("unknown_item", StatusCode::NOT_FOUND, false),
            Self::UnknownRoute => ("unknown_route", StatusCode::NOT_FOUND, false),
            Self::WrongMethod => ("wrong_method", StatusCode::METHOD_NOT_ALLOWED, false),
            Self::NoExplanation => ("no_explanation", StatusCode::NOT_FOUND, false),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE, false),
            Self::SlowBody => ("slow_body", StatusCode::REQUEST_TIMEOUT, true),
            Self::Invalid => ("invalid", StatusCode::UNPROCESSABLE_ENTITY, false),
            Self::Full => ("full", StatusCode::TOO_MANY_REQUESTS, true),
            Self::NotReady => ("not_ready", StatusCode::SERVICE_UNAVAILABLE, true),
            Self::Deadline => ("deadline", StatusCode::GATEWAY_TIMEOUT, true),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, false),
        }
    }
}

/// An error as it is told to the caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The row of the table.
    pub cause: Cause,
    /// What was wrong and what to do.
    pub message: String,
}

impl ApiError {
    /// An error of this cause.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }
}

/// The body of every error.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What was wrong and what to do.
    pub error: String,
    /// The cause, one word: `malformed`, `unauthorized`, `forbidden`, `unknown_user`, `unknown_item`,
    /// `no_explanation`, `too_large`, `slow_body`, `invalid`, `full`, `not_ready`, `deadline` or `internal`.
    pub error_type: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (error_type, status, retryable) = self.cause.row();
        let body = ErrorBody { error: self.message, error_type: error_type.to_owned() };
        let mut response = (status, Json(body)).into_response();
        if retryable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<whyrank_plugin::StoreError> for ApiError {
    fn from(error: whyrank_plugin::StoreError) -> Self {
        use whyrank_plugin::StoreError;
        let cause = match &error {
            StoreError::Filter(_)
            | StoreError::InvalidRequest { .. }
            | StoreError::TooMany { .. } => Cause::Invalid,
            StoreError::CollectionMissing { .. } | StoreError::Closed => Cause::NotReady,
            _ if error.is_retryable() => Cause::NotReady,
            _ => Cause::Internal,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<whyrank_plugin::StoreError>() {
            Ok(error) => error.into(),
            Err(error) => Self::new(Cause::Internal, format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cause_has_its_own_code_and_an_error_status() {
        let codes: HashSet<_> = Cause::ALL.iter().map(|cause| cause.row().0).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        assert!(
            Cause::ALL
                .iter()
                .all(|cause| cause.row().1.is_client_error() || cause.row().1.is_server_error())
        );
    }

    #[test]
    fn what_can_be_retried_says_when() {
        for cause in Cause::ALL {
            let response = ApiError::new(cause, "x").into_response();
            assert_eq!(
                response.headers().contains_key(header::RETRY_AFTER),
                cause.row().2,
                "{cause:?}"
            );
        }
    }
}
