//! Writes: checked as a whole, then sent in requests of bounded size that wait until they are applied.

use std::collections::{BTreeMap, HashMap, HashSet};

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::{DeleteVectors, Operation, PointStructList};
use qdrant_client::qdrant::{
    self, DeletePoints, PointStruct, PointsIdsList, PointsSelector, PointsUpdateOperation,
    SetPayloadPoints, UpdateBatchPoints, UpdatePointVectors, UpdateResult, UpdateStatus,
    UpsertPoints, VectorsSelector,
};
use tonic::{Response, Status};

use super::Inner;
use crate::id::PointId;
use crate::store::{
    CollectionSchema, Payload, Point, PointVectors, Selection, StoreError, StoreResult,
};
use crate::validate;
use crate::wire::{
    WireError, id_to_proto, payload_to_proto, point_to_proto, point_vectors_to_proto,
};

/// A point as it is sent, and the vectors that it must not keep from before.
struct Written {
    message: PointStruct,
    id: PointId,
    stale: Vec<String>,
}

impl Inner {
    pub(super) async fn upsert(&self, collection: &str, points: Vec<Point>) -> StoreResult<()> {
        let schema =
            self.check(collection, |schema| validate::points(collection, schema, &points)).await?;
        let written = last_of_each(points)
            .into_iter()
            .map(|point| written(collection, &schema, point))
            .collect::<StoreResult<Vec<Written>>>()?;
        for step in steps(written, self.settings.write_batch) {
            self.upsert_step(collection, step).await?;
        }
        Ok(())
    }

    async fn upsert_step(&self, collection: &str, step: Vec<Written>) -> StoreResult<()> {
        let mut stale: BTreeMap<Vec<String>, Vec<PointId>> = BTreeMap::new();
        let mut points = Vec::with_capacity(step.len());
        for written in step {
            if !written.stale.is_empty() {
                stale.entry(written.stale).or_default().push(written.id);
            }
            points.push(written.message);
        }
        if stale.is_empty() {
            let request = UpsertPoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                points,
                ..UpsertPoints::default()
            };
            return self
                .call(collection, |clients| {
                    let request = request.clone();
                    async move {
                        let answer = clients.points().upsert(request).await?.into_inner();
                        applied(answer.result)
                    }
                })
                .await;
        }
        let upsert = Operation::Upsert(PointStructList { points, ..Default::default() });
        let deletions = stale.into_iter().map(|(names, ids)| {
            Operation::DeleteVectors(DeleteVectors {
                points_selector: Some(selector(&ids)),
                vectors: Some(VectorsSelector { names }),
                shard_key_selector: None,
            })
        });
        let operations = std::iter::once(upsert)
            .chain(deletions)
            .map(|operation| PointsUpdateOperation { operation: Some(operation) });
        let request = UpdateBatchPoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            operations: operations.collect(),
            ..UpdateBatchPoints::default()
        };
        self.call(collection, |clients| {
            let request = request.clone();
            async move { applied(clients.points().update_batch(request).await?.into_inner().result) }
        })
        .await
    }

    pub(super) async fn update_vectors(
        &self,
        collection: &str,
        points: Vec<PointVectors>,
    ) -> StoreResult<()> {
        self.check(collection, |schema| validate::point_vectors(collection, schema, &points))
            .await?;
        let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
        self.check_existing(collection, &ids).await?;
        let messages = merged(points)
            .into_iter()
            .map(|point| {
                let id = point.id;
                point_vectors_to_proto(point).map_err(|error| refused(collection, id, &error))
            })
            .collect::<StoreResult<Vec<_>>>()?;
        for step in steps(messages, self.settings.write_batch) {
            let request = UpdatePointVectors {
                collection_name: collection.to_owned(),
                wait: Some(true),
                points: step,
                ..UpdatePointVectors::default()
            };
            self.call(collection, |clients| {
                let request = request.clone();
                async move {
                    let answer = clients.points().update_vectors(request).await?.into_inner();
                    applied(answer.result)
                }
            })
            .await?;
        }
        Ok(())
    }

    pub(super) async fn set_payload(
        &self,
        collection: &str,
        ids: &[PointId],
        payload: Payload,
    ) -> StoreResult<()> {
        self.known_schema(collection).await?;
        let payload = payload_to_proto(payload).map_err(|error| StoreError::InvalidRequest {
            collection: collection.to_owned(),
            detail: error.to_string(),
        })?;
        self.check_existing(collection, ids).await?;
        for step in ids.chunks(self.settings.write_batch) {
            let request = SetPayloadPoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                payload: payload.clone(),
                points_selector: Some(selector(step)),
                ..SetPayloadPoints::default()
            };
            self.call(collection, |clients| {
                let request = request.clone();
                async move {
                    let answer = clients.points().set_payload(request).await?.into_inner();
                    applied(answer.result)
                }
            })
            .await?;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, collection: &str, ids: &[PointId]) -> StoreResult<()> {
        self.known_schema(collection).await?;
        for step in ids.chunks(self.settings.write_batch) {
            let request = DeletePoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                points: Some(selector(step)),
                ..DeletePoints::default()
            };
            self.call(collection, |clients| {
                let request = request.clone();
                async move {
                    let answer = clients.points().delete(request).await?.into_inner();
                    applied(answer.result)
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn check_existing(&self, collection: &str, ids: &[PointId]) -> StoreResult<()> {
        let mut there = HashSet::with_capacity(ids.len());
        for step in ids.chunks(self.settings.write_batch) {
            let found = self.retrieve(collection, step, &Selection::none()).await?;
            there.extend(found.into_iter().map(|point| point.id));
        }
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
}

fn written(collection: &str, schema: &CollectionSchema, point: Point) -> StoreResult<Written> {
    let id = point.id;
    let stale = schema.vectors.keys().filter(|name| !point.vectors.contains_key(*name));
    let stale = stale.cloned().collect();
    let message = point_to_proto(point).map_err(|error| refused(collection, id, &error))?;
    Ok(Written { message, id, stale })
}

fn refused(collection: &str, id: PointId, error: &WireError) -> StoreError {
    StoreError::InvalidPoint { collection: collection.to_owned(), id, detail: error.to_string() }
}

/// Of points with the same id the last, in the order of the last ones.
fn last_of_each(points: Vec<Point>) -> Vec<Point> {
    let mut seen = HashSet::with_capacity(points.len());
    let mut last: Vec<Point> =
        points.into_iter().rev().filter(|point| seen.insert(point.id)).collect();
    last.reverse();
    last
}

/// One entry per id with all its vectors, the last of each name; points without a vector are left
/// out, because Qdrant refuses them.
fn merged(points: Vec<PointVectors>) -> Vec<PointVectors> {
    let mut places: HashMap<PointId, usize> = HashMap::with_capacity(points.len());
    let mut merged: Vec<PointVectors> = Vec::with_capacity(points.len());
    for point in points.into_iter().filter(|point| !point.vectors.is_empty()) {
        match places.get(&point.id) {
            Some(place) => merged[*place].vectors.extend(point.vectors),
            None => {
                places.insert(point.id, merged.len());
                merged.push(point);
            }
        }
    }
    merged
}

fn selector(ids: &[PointId]) -> PointsSelector {
    let ids: Vec<qdrant::PointId> = ids.iter().copied().map(id_to_proto).collect();
    PointsSelector {
        points_selector_one_of: Some(PointsSelectorOneOf::Points(PointsIdsList { ids })),
    }
}

/// Splits without copying.
fn steps<T>(all: Vec<T>, size: usize) -> impl Iterator<Item = Vec<T>> {
    let mut rest = all.into_iter();
    std::iter::from_fn(move || {
        let step: Vec<T> = rest.by_ref().take(size).collect();
        (!step.is_empty()).then_some(step)
    })
}

/// Refuses an answer that does not say that the write was taken; it is then tried again.
pub(super) fn applied(
    results: impl IntoIterator<Item = UpdateResult>,
) -> Result<Response<()>, Status> {
    for result in results {
        match UpdateStatus::try_from(result.status) {
            // Acknowledged is in the server's log: durable, though a shard that is being moved may
            // apply it later.
            Ok(UpdateStatus::Acknowledged | UpdateStatus::Completed) => {}
            Ok(UpdateStatus::ClockRejected) => {
                return Err(Status::aborted("another write came before"));
            }
            Ok(UpdateStatus::WaitTimeout) => {
                return Err(Status::deadline_exceeded("the server has not applied the write yet"));
            }
            Ok(UpdateStatus::UnknownUpdateStatus) | Err(_) => {
                let status = result.status;
                return Err(Status::internal(format!("the write has the unknown status {status}")));
            }
        }
    }
    Ok(Response::new(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Vectors;

    #[test]
    fn the_last_point_of_an_id_stays() {
        let point = |id: u64, vectors: Vectors| Point {
            id: id.into(),
            vectors,
            payload: Payload::default(),
        };
        let vector = |value: f32| Vectors::from([("a".to_owned(), vec![value])]);
        let points = vec![point(1, vector(1.0)), point(2, vector(2.0)), point(1, vector(3.0))];
        assert_eq!(last_of_each(points), [point(2, vector(2.0)), point(1, vector(3.0))]);
    }

    #[test]
    fn vectors_of_one_id_are_joined_and_the_last_of_a_name_stays() {
        let update = |id: u64, vectors: &[(&str, f32)]| PointVectors {
            id: id.into(),
            vectors: vectors
                .iter()
                .map(|(name, value)| ((*name).to_owned(), vec![*value]))
                .collect(),
        };
        let updates =
            vec![update(1, &[("a", 1.0)]), update(2, &[]), update(1, &[("b", 2.0), ("a", 3.0)])];
        assert_eq!(merged(updates), [update(1, &[("a", 3.0), ("b", 2.0)])]);
    }

    #[test]
    fn steps_cover_everything_once() {
        let all: Vec<Vec<u8>> = steps((0..7).collect(), 3).collect();
        assert_eq!(all, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(steps(Vec::<u8>::new(), 3).count(), 0);
    }
}
