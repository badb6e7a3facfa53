//! The messages of answers: points as they were selected, and the time that an operation took.

use std::future::Future;
use std::time::Instant;

use qdrant_client::qdrant::group_id::Kind;
use qdrant_client::qdrant::{
    GroupId, PointGroup, PointsOperationResponse, RetrievedPoint, ScoredPoint, UpdateResult,
    UpdateStatus,
};
use tonic::{Response, Status};

use crate::listener::fault::Fault;
use crate::listener::operations::{Group, GroupKey};
use crate::store;
use crate::store::{Point, Selection, VectorSelection};
use crate::wire;

/// Runs an operation, and makes the answer of what it returns and of the seconds it took.
pub(super) async fn answer<Result, Message>(
    operation: impl Future<Output = std::result::Result<Result, Fault>>,
    message: impl FnOnce(Result, f64) -> Message,
) -> std::result::Result<Response<Message>, Status> {
    let started = Instant::now();
    let result = operation.await?;
    Ok(Response::new(message(result, started.elapsed().as_secs_f64())))
}

/// The answer to a write. Writes are done when they are answered, whether the client waits or not.
pub(super) fn written((): (), time: f64) -> PointsOperationResponse {
    let result = UpdateResult { operation_id: None, status: UpdateStatus::Completed.into() };
    PointsOperationResponse { result: Some(result), time, usage: None }
}

pub(super) fn retrieved(
    points: Vec<Point>,
    selection: &Selection,
) -> Result<Vec<RetrievedPoint>, Fault> {
    let messages = points.into_iter().map(|point| {
        let mut message = wire::retrieved_to_proto(point)?;
        if selection.vectors == VectorSelection::None {
            message.vectors = None;
        }
        Ok(message)
    });
    messages.collect()
}

pub(super) fn scored(
    points: Vec<store::ScoredPoint>,
    selection: &Selection,
) -> Result<Vec<ScoredPoint>, Fault> {
    let messages = points.into_iter().map(|point| {
        let mut message = wire::scored_to_proto(point)?;
        if selection.vectors == VectorSelection::None {
            message.vectors = None;
        }
        Ok(message)
    });
    messages.collect()
}

pub(super) fn group(group: Group, selection: &Selection) -> Result<PointGroup, Fault> {
    let kind = match group.key {
        GroupKey::Text(text) => Kind::StringValue(text),
        GroupKey::Unsigned(number) => Kind::UnsignedValue(number),
        GroupKey::Signed(number) => Kind::IntegerValue(number),
    };
    let id = Some(GroupId { kind: Some(kind) });
    Ok(PointGroup { id, hits: scored(group.hits, selection)?, lookup: None })
}
