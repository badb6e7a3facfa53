//! `POST /v1/audiences/export`, and the same for the console: an audience as a file.

use std::io::{self, BufWriter, Write};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;
use whyrank_models::progress::Silent;

use super::audience::audience;
use super::authentication::Caller;
use super::json::Json;
use super::{Api, ApiError, Cause, ErrorBody};
use crate::audience::export::{self, Format};
use crate::audience::{AudienceRequest, AudienceResponse};

/// Bytes sent at once.
const PIECE: usize = 64 << 10;

/// Pieces that wait for a caller who reads slowly.
const WAITING: usize = 4;

/// How the audience is to be written.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportParameters {
    /// The form of the file; `csv` if absent.
    #[serde(default)]
    format: Format,
}

/// The consumers most likely to respond as a file, one row each. The file is sent while it is written.
#[utoipa::path(
    post,
    path = "/v1/audiences/export",
    params(ExportParameters),
    request_body = AudienceRequest,
    responses(
        (status = 200, description = "One row a consumer, most likely first.", content(
            (String = "text/csv"), (String = "application/x-ndjson"),
            (Vec<u8> = "application/vnd.apache.parquet"),
        )),
        (status = 400, description = "The body is not JSON.", body = ErrorBody),
        (status = 401, description = "The key is missing or wrong.", body = ErrorBody),
        (status = 403, description = "The key's role does not reach audiences.", body = ErrorBody),
        (status = 404, description = "An item is not in the store.", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 422, description = "A value cannot be used.", body = ErrorBody),
        (status = 429, description = "Too many requests are in hand.", body = ErrorBody),
        (status = 503, description = "Models or store are not ready.", body = ErrorBody),
        (status = 504, description = "The audience took too long.", body = ErrorBody),
    )
)]
pub(super) async fn export(
    State(api): State<Api>,
    caller: Option<Extension<Caller>>,
    parameters: Result<Query<ExportParameters>, QueryRejection>,
    request: Json<AudienceRequest>,
) -> Result<Response, ApiError> {
    let Query(ExportParameters { format }) =
        parameters.map_err(|rejection| ApiError::new(Cause::Invalid, rejection.body_text()))?;
    let answer = audience(State(api), caller, request).await?;
    Ok(streamed(answer.0, format))
}

/// The answer as a file that is sent while it is written. One that cannot be written to its end breaks
/// the connection off, so that nobody takes a part for the whole.
pub(super) fn streamed(answer: AudienceResponse, format: Format) -> Response {
    let (sender, mut pieces) = mpsc::channel(WAITING);
    // Compression is pure computation, which must not hold up other requests.
    tokio::task::spawn_blocking(move || {
        let file = BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        if let Err(error) = export::write(&answer, format, file, &Silent) {
            // Nobody listens any more if it was the caller who left.
            let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    let body =
        Body::from_stream(futures::stream::poll_fn(move |context| pieces.poll_recv(context)));
    let name = format!("attachment; filename=\"audience.{}\"", format.ending());
    let headers =
        [(header::CONTENT_TYPE, format.media().to_owned()), (header::CONTENT_DISPOSITION, name)];
    (headers, body).into_response()
}

/// Writes into the body of an answer.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
