//! Applies the journal's operations to the engine.

use std::collections::{BTreeMap, HashSet};

use qdrant_edge::{
    CreateIndex, EdgeShard, FieldIndexOperations, JsonPath, OperationError, PayloadFieldSchema,
    PayloadOps, PointIdsList, PointInsertOperations, PointOperations, ScrollRequest, SetPayloadOp,
    UpdateOperation, UpdateVectorsOp, VectorOperations,
};

use super::convert::{
    engine_error, engine_index, engine_payload, engine_point, engine_point_vectors,
};
use super::journal::Operation;
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{CollectionSchema, Point, StoreError, StoreResult};

/// Applies an operation whose points were checked.
pub(super) fn apply(
    shard: &EdgeShard,
    schema: &CollectionSchema,
    operation: Operation,
) -> Result<(), OperationError> {
    match operation {
        Operation::Upsert(points) => upsert(shard, schema, points),
        Operation::UpdateVectors(points) => {
            let points = points.into_iter().map(engine_point_vectors).collect();
            let update = UpdateVectorsOp { points, update_filter: None };
            shard.update(UpdateOperation::VectorOperation(VectorOperations::UpdateVectors(update)))
        }
        Operation::SetPayload(ids, payload) => {
            let set = SetPayloadOp {
                payload: engine_payload(payload),
                points: Some(engine_ids(&ids)),
                filter: None,
                key: None,
            };
            shard.update(UpdateOperation::PayloadOperation(PayloadOps::SetPayload(set)))
        }
        Operation::Delete(ids) => {
            let delete = PointOperations::DeletePoints { ids: engine_ids(&ids) };
            shard.update(UpdateOperation::PointOperation(delete))
        }
    }
}

/// Applies an operation from the journal again. Points that a later operation of the journal deleted
/// may be gone already; their part of the operation is left out.
pub(super) fn reapply(
    shard: &EdgeShard,
    schema: &CollectionSchema,
    operation: Operation,
) -> Result<(), OperationError> {
    let operation = match operation {
        Operation::UpdateVectors(mut points) => {
            let there = existing(shard, points.iter().map(|point| point.id))?;
            points.retain(|point| there.contains(&point.id));
            Operation::UpdateVectors(points)
        }
        Operation::SetPayload(mut ids, payload) => {
            let there = existing(shard, ids.iter().copied())?;
            ids.retain(|id| there.contains(id));
            Operation::SetPayload(ids, payload)
        }
        whole @ (Operation::Upsert(_) | Operation::Delete(_)) => whole,
    };
    apply(shard, schema, operation)
}

/// Refuses ids of which one does not exist.
pub(super) fn check_existing(
    collection: &str,
    shard: &EdgeShard,
    ids: &[PointId],
) -> StoreResult<()> {
    let there = existing(shard, ids.iter().copied()).map_err(engine_error(collection))?;
    let missing: Vec<PointId> = ids.iter().copied().filter(|id| !there.contains(id)).collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(StoreError::PointsMissing {
            collection: collection.to_owned(),
            first: *first,
            count: missing.len(),
        }),
    }
}

/// Makes the payload indexes of the schema wherever a segment lacks them; one that exists costs
/// nothing.
pub(super) fn create_indexes(
    shard: &EdgeShard,
    schema: &CollectionSchema,
) -> Result<(), OperationError> {
    for (key, index) in &schema.payload_indexes {
        let field_name: JsonPath = key.parse().map_err(|()| {
            OperationError::validation_error(format!("{key:?} is not a payload key"))
        })?;
        let field_schema = Some(PayloadFieldSchema::FieldType(engine_index(*index)));
        shard.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(
            CreateIndex { field_name, field_schema },
        )))?;
    }
    Ok(())
}

fn upsert(
    shard: &EdgeShard,
    schema: &CollectionSchema,
    points: Vec<Point>,
) -> Result<(), OperationError> {
    let stale = stale_vectors(shard, schema, &points)?;
    let points = points.into_iter().map(engine_point).collect();
    let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
    shard.update(UpdateOperation::PointOperation(insert))?;
    for (names, ids) in stale {
        let delete = VectorOperations::DeleteVectors(PointIdsList::from(ids), names);
        shard.update(UpdateOperation::VectorOperation(delete))?;
    }
    Ok(())
}

/// The vectors that existing points have to lose, because the new points do not have them.
///
/// The engine does that itself for points in a writable segment only: a point in an optimised one is
/// merged with the new one and would keep the code of a text that is gone.
fn stale_vectors(
    shard: &EdgeShard,
    schema: &CollectionSchema,
    points: &[Point],
) -> Result<BTreeMap<Vec<String>, Vec<qdrant_edge::PointId>>, OperationError> {
    // Of points with the same id the last one counts.
    let last: BTreeMap<PointId, &Point> = points.iter().map(|point| (point.id, point)).collect();
    let partial = last.values().filter(|point| point.vectors.len() < schema.vectors.len());
    let there = existing(shard, partial.clone().map(|point| point.id))?;
    let mut stale: BTreeMap<Vec<String>, Vec<qdrant_edge::PointId>> = BTreeMap::new();
    for point in partial.filter(|point| there.contains(&point.id)) {
        let names = schema.vectors.keys().filter(|name| !point.vectors.contains_key(*name));
        stale.entry(names.cloned().collect()).or_default().push(point.id.into());
    }
    Ok(stale)
}

/// Those of the points that match the filter.
pub(super) fn matching(
    shard: &EdgeShard,
    ids: &[PointId],
    filter: &Filter,
) -> Result<Vec<PointId>, OperationError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter::with_ids(ids.iter().copied()).and(filter.clone());
    let request = ScrollRequest {
        offset: None,
        limit: Some(ids.len()),
        filter: Some(filter.engine().clone()),
        with_payload: Some(false.into()),
        with_vector: false.into(),
        order_by: None,
    };
    let (records, _) = shard.scroll(request)?;
    Ok(records.into_iter().map(|record| record.id.into()).collect())
}

fn existing(
    shard: &EdgeShard,
    ids: impl Iterator<Item = PointId>,
) -> Result<HashSet<PointId>, OperationError> {
    let ids: Vec<_> = ids.map(qdrant_edge::PointId::from).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let records = shard.retrieve(&ids, Some(false.into()), Some(false.into()))?;
    Ok(records.into_iter().map(|record| record.id.into()).collect())
}

fn engine_ids(ids: &[PointId]) -> Vec<qdrant_edge::PointId> {
    ids.iter().copied().map(Into::into).collect()
}
