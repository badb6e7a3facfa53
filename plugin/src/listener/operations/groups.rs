//! The grouped query: asks the store again until the groups are filled or the candidates end.

use std::collections::HashMap;

use qdrant_edge::JsonPath;
use serde_json::{Value, json};

use super::grouping::{Group, GroupKey, Grouping, by_kind};
use super::query::Resolved;
use super::{Fault, Operations, Query};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{
    Distance, PayloadSelection, Point, ScoredPoint, Selection, StoreError, VectorSelection,
};

/// How often the store is asked for points of new groups, and then how often for more points of the
/// groups found: Qdrant's own bounds, so that it and this engine stop at the same place.
const ROUNDS: usize = 5;

/// A query whose answer is grouped by a payload key.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::listener) struct GroupedQuery {
    /// The query; its limit is the number of groups.
    pub(in crate::listener) query: Query,
    /// The payload key.
    pub(in crate::listener) group_by: String,
    /// The most points of a group.
    pub(in crate::listener) group_size: usize,
}

impl Operations {
    pub(in crate::listener) async fn query_groups(
        &self,
        collection: &str,
        grouped: GroupedQuery,
    ) -> Result<Vec<Group>, Fault> {
        let GroupedQuery { query, group_by, group_size } = grouped;
        self.check_limit("limit", query.limit)?;
        self.check_limit("group_size", group_size)?;
        let reach = query.limit.saturating_mul(group_size);
        self.check_results("limit and group_size multiplied", reach)?;
        let path: JsonPath = group_by
            .parse()
            .map_err(|()| Fault::input(format!("{group_by:?} is not a payload key")))?;
        let schema = self.store.schema(collection).await?;
        // Points that were not compared all have the same score, so their order does not matter.
        let ascending = query.nearest.is_some()
            && schema.vectors.get(&query.using).is_some_and(|vector| match vector.distance {
                Distance::Euclid | Distance::Manhattan => true,
                Distance::Dot | Distance::Cosine => false,
            });
        let (groups, selection) = (query.limit, query.selection.clone());
        let mut resolved = self.resolve(collection, query).await?;
        let present = filter(json!({"must_not": [{"is_empty": {"key": group_by}}]}))?;
        resolved.filter = Some(and(resolved.filter, present));
        // Only the group's value is read while the groups are filled.
        let value = Selection {
            vectors: VectorSelection::None,
            payload: PayloadSelection::Include(vec![path.strip_wildcard_suffix().to_string()]),
        };

        let mut grouping = Grouping::new(path, groups, group_size, ascending);
        for phase in [Phase::New, Phase::Found] {
            for _ in 0..ROUNDS {
                if grouping.is_complete() {
                    break;
                }
                let request = phase.narrow(&group_by, resolved.clone(), &grouping)?;
                let found = self.run(collection, request, reach, 0, value.clone()).await?;
                if found.is_empty() {
                    break;
                }
                grouping.add(found);
            }
        }
        self.with_selection(collection, grouping.into_groups(), &selection).await
    }

    /// Reads what was asked for of the points; a point that was deleted meanwhile is left out.
    async fn with_selection(
        &self,
        collection: &str,
        groups: Vec<Group>,
        selection: &Selection,
    ) -> Result<Vec<Group>, Fault> {
        let hits = groups.iter().flat_map(|group| &group.hits);
        let mut ids: Vec<PointId> = hits.map(|hit| hit.point.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let points = self.store.read(collection, &ids, selection).await?;
        let points: HashMap<PointId, Point> =
            points.into_iter().flatten().map(|point| (point.id, point)).collect();
        let filled = groups.into_iter().map(|Group { key, hits }| {
            let hits = hits.into_iter().filter_map(|hit| {
                let point = points.get(&hit.point.id)?.clone();
                Some(ScoredPoint { score: hit.score, point })
            });
            Group { key, hits: hits.collect() }
        });
        Ok(filled.collect())
    }
}

/// What points the store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Points outside the groups that are filled.
    New,
    /// Points of the groups that would be answered and are not filled.
    Found,
}

impl Phase {
    /// The query for points that are not in a group yet.
    fn narrow(
        self,
        group_by: &str,
        mut query: Resolved,
        grouping: &Grouping,
    ) -> Result<Resolved, Fault> {
        let condition = match self {
            Self::New => matching(group_by, "must", "except", &grouping.filled())?,
            Self::Found => matching(group_by, "should", "any", &grouping.unfilled_best())?,
        };
        let seen: Vec<PointId> = grouping.seen().collect();
        let others = (!seen.is_empty()).then(|| Filter::without_ids(seen));
        for condition in [condition, others].into_iter().flatten() {
            query.filter = Some(and(query.filter, condition));
        }
        Ok(query)
    }
}

/// A filter on the group's value; none if there are no keys to match.
fn matching(
    group_by: &str,
    clause: &str,
    operator: &str,
    keys: &[GroupKey],
) -> Result<Option<Filter>, Fault> {
    let conditions: Vec<Value> = by_kind(keys)
        .into_iter()
        .map(|values| json!({"key": group_by, "match": {operator: values}}))
        .collect();
    if conditions.is_empty() {
        return Ok(None);
    }
    filter(json!({clause: conditions})).map(Some)
}

fn filter(json: Value) -> Result<Filter, Fault> {
    Ok(Filter::from_json(json).map_err(StoreError::from)?)
}

fn and(left: Option<Filter>, right: Filter) -> Filter {
    match left {
        None => right,
        Some(left) => left.and(right),
    }
}
