//! The envelope of Qdrant's answers: result, status and time; and points as its JSON has them.

use std::future::Future;
use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::id::PointId;
use crate::listener::fault::Fault;
use crate::store::{
    Payload, PayloadSelection, Point, ScoredPoint, Selection, VectorSelection, Vectors,
};

#[derive(Serialize)]
struct Envelope<Result> {
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Result>,
    status: Status,
    time: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Error(String),
}

/// Runs an operation and wraps what it returns.
pub(super) async fn answer<Result: Serialize>(
    operation: impl Future<Output = std::result::Result<Result, Fault>>,
) -> Response {
    let started = Instant::now();
    let result = operation.await;
    let time = started.elapsed().as_secs_f64();
    match result {
        Ok(result) => {
            Json(Envelope { result: Some(result), status: Status::Ok, time }).into_response()
        }
        Err(fault) => refusal(fault, time),
    }
}

/// The answer to a request that is refused.
pub(super) fn refusal(fault: Fault, time: f64) -> Response {
    let status = Status::Error(fault.message);
    (fault.cause.http(), Json(Envelope::<()> { result: None, status, time })).into_response()
}

/// The answer to a write. Writes are done when they are answered, whether the client waits or not.
/// There is no operation number, because the store does not number its writes.
#[derive(Serialize)]
pub(super) struct Written {
    operation_id: Option<u64>,
    status: &'static str,
}

pub(super) const WRITTEN: Written = Written { operation_id: None, status: "completed" };

/// A point that was read.
#[derive(Serialize)]
pub(super) struct RecordAnswer {
    id: PointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<VectorAnswer>,
}

/// A point that was found.
#[derive(Serialize)]
pub(super) struct ScoredAnswer {
    id: PointId,
    /// Clients want a number; the store does not tell the versions of points.
    version: u64,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<VectorAnswer>,
}

/// The vectors of a point: the unnamed one alone, or all by name.
#[derive(Serialize)]
#[serde(untagged)]
enum VectorAnswer {
    Unnamed(Vec<f32>),
    Named(Vectors),
}

pub(super) fn record(point: Point, selection: &Selection) -> RecordAnswer {
    let Point { id, vectors, payload } = point;
    RecordAnswer { id, payload: shown(payload, selection), vector: vector(vectors, selection) }
}

pub(super) fn scored(scored: ScoredPoint, selection: &Selection) -> ScoredAnswer {
    let ScoredPoint { score, point: Point { id, vectors, payload } } = scored;
    let (payload, vector) = (shown(payload, selection), vector(vectors, selection));
    ScoredAnswer { id, version: 0, score, payload, vector }
}

fn shown(payload: Payload, selection: &Selection) -> Option<Payload> {
    (selection.payload != PayloadSelection::None).then_some(payload)
}

fn vector(mut vectors: Vectors, selection: &Selection) -> Option<VectorAnswer> {
    if selection.vectors == VectorSelection::None {
        return None;
    }
    if vectors.len() == 1
        && let Some(vector) = vectors.remove("")
    {
        return Some(VectorAnswer::Unnamed(vector));
    }
    Some(VectorAnswer::Named(vectors))
}
