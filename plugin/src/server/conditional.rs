//! Writes that take effect only where a filter holds: Qdrant evaluates the filter when it applies the
//! write, one write of a shard after the other, so check and change are one step.

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    DeletePoints, PointsSelector, SetPayloadPoints, WriteOrdering, WriteOrderingType,
};

use super::Inner;
use super::write::applied;
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{Payload, StoreError, StoreResult};
use crate::wire::{filter_to_proto, payload_to_proto};

impl Inner {
    pub(super) async fn set_payload_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
        payload: Payload,
    ) -> StoreResult<()> {
        self.known_schema(collection).await?;
        let payload = payload_to_proto(payload).map_err(|error| refused(collection, &error))?;
        for step in ids.chunks(self.settings.write_batch) {
            let request = SetPayloadPoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                payload: payload.clone(),
                points_selector: Some(matching(collection, step, filter)?),
                ordering: Some(through_the_leader()),
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

    pub(super) async fn delete_where(
        &self,
        collection: &str,
        ids: &[PointId],
        filter: &Filter,
    ) -> StoreResult<()> {
        self.known_schema(collection).await?;
        for step in ids.chunks(self.settings.write_batch) {
            let request = DeletePoints {
                collection_name: collection.to_owned(),
                wait: Some(true),
                points: Some(matching(collection, step, filter)?),
                ordering: Some(through_the_leader()),
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
}

/// With several replicas of a shard each applies the filter to its own points: all must see the writes
/// in one order, or they would not agree on who won.
fn through_the_leader() -> WriteOrdering {
    WriteOrdering { r#type: WriteOrderingType::Strong.into() }
}

fn matching(collection: &str, ids: &[PointId], filter: &Filter) -> StoreResult<PointsSelector> {
    let filter = Filter::with_ids(ids.iter().copied()).and(filter.clone());
    let filter = filter_to_proto(&filter).map_err(|error| refused(collection, &error))?;
    Ok(PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)) })
}

fn refused(collection: &str, error: &impl ToString) -> StoreError {
    StoreError::InvalidRequest { collection: collection.to_owned(), detail: error.to_string() }
}
