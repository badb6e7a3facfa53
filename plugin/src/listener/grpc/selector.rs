//! The parts that many messages share: which points, what to return of them, and shard keys.

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    Filter, PointId, PointsIdsList, PointsSelector, ShardKeySelector, WithPayloadSelector,
    WithVectorsSelector,
};

use crate::filter;
use crate::id;
use crate::listener::fault::Fault;
use crate::listener::operations;
use crate::store::Selection;
use crate::wire;

/// The points of a write.
pub(super) fn points(
    selector: Option<PointsSelector>,
) -> Result<operations::PointsSelector, Fault> {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(PointsIdsList { ids: list })) => {
            Ok(operations::PointsSelector::Ids(ids(list)?))
        }
        Some(PointsSelectorOneOf::Filter(filter)) => {
            Ok(operations::PointsSelector::Filter(wire::filter_from_proto(filter)?))
        }
        None => Err(Fault::input("the points are missing: give ids or a filter")),
    }
}

pub(super) fn ids(list: Vec<PointId>) -> Result<Vec<id::PointId>, Fault> {
    list.into_iter().map(|id| Ok(wire::id_from_proto(Some(id))?)).collect()
}

pub(super) fn filter(filter: Option<Filter>) -> Result<Option<filter::Filter>, Fault> {
    Ok(filter.map(wire::filter_from_proto).transpose()?)
}

/// What to return of each point. What is not said is not returned.
pub(super) fn selection(
    payload: Option<WithPayloadSelector>,
    vectors: Option<WithVectorsSelector>,
) -> Result<Selection, Fault> {
    Ok(Selection {
        vectors: wire::vector_selection_from_proto(vectors),
        payload: wire::payload_selection_from_proto(payload),
    })
}

pub(super) fn no_shard_key(selector: Option<&ShardKeySelector>) -> Result<(), Fault> {
    match selector {
        Some(selector) if !selector.shard_keys.is_empty() || selector.fallback.is_some() => {
            Err(Fault::unimplemented("shard keys"))
        }
        _ => Ok(()),
    }
}

/// Refuses a part that asks for something this engine does not have.
pub(super) fn unsupported(is_given: bool, what: &str) -> Result<(), Fault> {
    if is_given { Err(Fault::unimplemented(what)) } else { Ok(()) }
}

/// A number of the protocol as this machine counts.
pub(super) fn number(given: u64) -> usize {
    usize::try_from(given).unwrap_or(usize::MAX)
}
