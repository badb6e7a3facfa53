//! `POST /`: Qdrant's remote-inference protocol.

use std::time::Duration;

use axum::extract::State;
use whyrank_plugin::inference::{InferenceRequest, InferenceResponse};

use super::audit;
use super::json::Json;
use super::{Api, ApiError, Cause};

/// Vectors for a Qdrant server whose `inference.address` names this one. It is not part of the
/// described API: its form is Qdrant's.
pub(super) async fn infer(
    State(api): State<Api>,
    Json(request): Json<InferenceRequest>,
) -> Result<axum::Json<InferenceResponse>, ApiError> {
    let settings = &api.inner.settings;
    let work = async {
        if let Some(token) = api.inner.callers.inference_token() {
            let given = request.token.as_deref().unwrap_or_default();
            if !token.matches(given.as_bytes()) {
                let message = "the token is not the one of `server.inference_token`";
                let (path, outcome) = ("/", Cause::Unauthorized.row().0);
                tracing::warn!(target: audit::TARGET, path, outcome, message);
                return Err(ApiError::new(Cause::Unauthorized, message));
            }
        }
        let (count, most) = (request.inputs.len(), settings.maximum_inference_inputs);
        if count > most {
            let message = format!(
                "there are {count} inputs, more than {most} (`server.maximum_inference_inputs`)"
            );
            return Err(ApiError::new(Cause::Malformed, message));
        }
        let limit = Duration::from_secs(settings.timeout_seconds);
        let inferred = api.inner.inference.infer(&request.inputs);
        tokio::time::timeout(limit, inferred).await.unwrap_or_else(|_| {
            let message = "inference took longer than `server.timeout_seconds`";
            Err(ApiError::new(Cause::Deadline, message))
        })
    };
    api.observed("inference", work).await.map(axum::Json)
}
