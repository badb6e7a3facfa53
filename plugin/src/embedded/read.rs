//! Reads, searches, scrolls and counts on one collection.

use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    CountRequest, FacetRequest, NamedQuery, QueryEnum, QueryRequest, ScoringQuery, ScrollRequest,
    SearchParams, VectorInternal,
};

use super::collection::Collection;
use super::convert::{facet_value, payload_selection, point_of, scored_of, vector_selection};
use super::settings::EmbeddedSettings;
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{
    FacetHit, Page, Point, ScoredPoint, Scroll, Search, Selection, StoreResult, in_order,
};
use crate::validate::{self, payload_key};

pub(super) fn read(
    collection: &Collection,
    settings: &EmbeddedSettings,
    ids: &[PointId],
    selection: &Selection,
) -> StoreResult<Vec<Option<Point>>> {
    validate::number("the number of points to read", ids.len(), settings.maximum_results)?;
    let vectors = vector_selection(collection.name(), &collection.schema(), &selection.vectors)?;
    let payload = payload_selection(collection.name(), &selection.payload)?;
    let wanted: Vec<_> = ids.iter().copied().map(qdrant_edge::PointId::from).collect();
    let records =
        collection.with_shard(|shard| shard.retrieve(&wanted, Some(payload), Some(vectors)))?;
    Ok(in_order(ids, records.into_iter().map(point_of)))
}

pub(super) fn search(
    collection: &Collection,
    settings: &EmbeddedSettings,
    search: Search,
) -> StoreResult<Vec<ScoredPoint>> {
    let reach = search.limit.saturating_add(search.offset);
    validate::number("limit and offset of the search together", reach, settings.maximum_results)?;
    let schema = collection.schema();
    validate::query(collection.name(), &schema, &search.vector_name, &search.query)?;
    let with_vector = vector_selection(collection.name(), &schema, &search.selection.vectors)?;
    let with_payload = payload_selection(collection.name(), &search.selection.payload)?;
    if search.limit == 0 {
        return Ok(Vec::new());
    }
    let nearest = NamedQuery::new(VectorInternal::Dense(search.query), search.vector_name);
    let request = QueryRequest {
        prefetches: Vec::new(),
        query: Some(ScoringQuery::Vector(QueryEnum::Nearest(nearest))),
        filter: search.filter.map(|filter| filter.engine().clone()),
        score_threshold: search.score_threshold.map(OrderedFloat),
        // The engine's query forgets the offset of a plain search: it is taken off below.
        limit: reach,
        offset: 0,
        params: Some(SearchParams { exact: search.exact, ..SearchParams::default() }),
        with_vector,
        with_payload,
    };
    let found = collection.with_shard(|shard| shard.query(request))?;
    Ok(found.into_iter().skip(search.offset).map(scored_of).collect())
}

pub(super) fn scroll(
    collection: &Collection,
    settings: &EmbeddedSettings,
    scroll: Scroll,
) -> StoreResult<Page> {
    validate::number("the limit of the page", scroll.limit, settings.maximum_results)?;
    validate::page(collection.name(), scroll.limit)?;
    let schema = collection.schema();
    let request = ScrollRequest {
        offset: scroll.from.map(Into::into),
        limit: Some(scroll.limit),
        filter: scroll.filter.map(|filter| filter.engine().clone()),
        with_payload: Some(payload_selection(collection.name(), &scroll.selection.payload)?),
        with_vector: vector_selection(collection.name(), &schema, &scroll.selection.vectors)?,
        order_by: None,
    };
    let (records, next) = collection.with_shard(|shard| shard.scroll(request))?;
    Ok(Page { points: records.into_iter().map(point_of).collect(), next: next.map(Into::into) })
}

pub(super) fn count(collection: &Collection, filter: Option<&Filter>) -> StoreResult<u64> {
    let filter = filter.map(|filter| filter.engine().clone());
    let request = CountRequest { filter, exact: true };
    collection.with_shard(|shard| shard.count(request)).map(|count| count as u64)
}

pub(super) fn facet(
    collection: &Collection,
    settings: &EmbeddedSettings,
    key: &str,
    filter: Option<&Filter>,
    limit: usize,
) -> StoreResult<Vec<FacetHit>> {
    validate::number("the limit of the facet", limit, settings.maximum_results)?;
    let key = payload_key(collection.name(), key)?;
    let filter = filter.map(|filter| filter.engine().clone());
    let request = FacetRequest { key, limit, filter, exact: true };
    let response = collection.with_shard(|shard| shard.facet(request))?;
    let hits = response
        .hits
        .into_iter()
        .map(|hit| FacetHit { value: facet_value(hit.value), count: hit.count as u64 });
    Ok(hits.collect())
}
