//! Reads, searches, pages, counts and facets.

use qdrant_client::qdrant::{
    CountPoints, DenseVector, FacetCounts, GetPoints, Query, QueryPoints, ScrollPoints,
    SearchParams, VectorInput, query, vector_input,
};

use super::Inner;
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{
    FacetHit, Page, Point, ScoredPoint, Scroll, Search, Selection, StoreError, StoreResult,
    in_order,
};
use crate::validate;
use crate::wire::{
    UNNAMED_VECTOR, WireError, facet_hit_from_proto, filter_to_proto, id_from_proto, id_to_proto,
    payload_selection_to_proto, retrieved_from_proto, scored_from_proto, vector_selection_to_proto,
};

impl Inner {
    pub(super) async fn read(
        &self,
        collection: &str,
        ids: &[PointId],
        selection: &Selection,
    ) -> StoreResult<Vec<Option<Point>>> {
        self.check_number("the number of points to read", ids.len())?;
        self.check_selection(collection, selection).await?;
        Ok(in_order(ids, self.retrieve(collection, ids, selection).await?))
    }

    /// The points of these ids that exist, in any order.
    pub(super) async fn retrieve(
        &self,
        collection: &str,
        ids: &[PointId],
        selection: &Selection,
    ) -> StoreResult<Vec<Point>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let request = GetPoints {
            collection_name: collection.to_owned(),
            ids: distinct.into_iter().map(id_to_proto).collect(),
            with_payload: Some(payload_selection_to_proto(&selection.payload)),
            with_vectors: Some(vector_selection_to_proto(&selection.vectors)),
            ..GetPoints::default()
        };
        let answer = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.points().get(request).await }
            })
            .await?;
        self.all(collection, answer.result, retrieved_from_proto)
    }

    pub(super) async fn search(
        &self,
        collection: &str,
        search: Search,
    ) -> StoreResult<Vec<ScoredPoint>> {
        let reach = search.limit.saturating_add(search.offset);
        self.check_number("limit and offset of the search together", reach)?;
        let checked = self.check(collection, |schema| {
            validate::query(collection, schema, &search.vector_name, &search.query)?;
            validate::selection(collection, schema, &search.selection)
        });
        checked.await?;
        if search.limit == 0 {
            return Ok(Vec::new());
        }
        let nearest = vector_input::Variant::Dense(DenseVector { data: search.query });
        let nearest = query::Variant::Nearest(VectorInput { variant: Some(nearest) });
        let request = QueryPoints {
            collection_name: collection.to_owned(),
            query: Some(Query { variant: Some(nearest) }),
            using: (search.vector_name != UNNAMED_VECTOR).then_some(search.vector_name),
            filter: filter_message(collection, search.filter.as_ref())?,
            params: Some(SearchParams { exact: Some(search.exact), ..SearchParams::default() }),
            score_threshold: search.score_threshold,
            limit: Some(search.limit as u64),
            offset: Some(search.offset as u64),
            with_vectors: Some(vector_selection_to_proto(&search.selection.vectors)),
            with_payload: Some(payload_selection_to_proto(&search.selection.payload)),
            ..QueryPoints::default()
        };
        let answer = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.points().query(request).await }
            })
            .await?;
        self.all(collection, answer.result, scored_from_proto)
    }

    pub(super) async fn scroll(&self, collection: &str, scroll: Scroll) -> StoreResult<Page> {
        self.check_number("the limit of the page", scroll.limit)?;
        validate::page(collection, scroll.limit)?;
        self.check_selection(collection, &scroll.selection).await?;
        let request = ScrollPoints {
            collection_name: collection.to_owned(),
            filter: filter_message(collection, scroll.filter.as_ref())?,
            offset: scroll.from.map(id_to_proto),
            // The settings keep the largest page within the protocol's number.
            limit: Some(scroll.limit as u32),
            with_payload: Some(payload_selection_to_proto(&scroll.selection.payload)),
            with_vectors: Some(vector_selection_to_proto(&scroll.selection.vectors)),
            ..ScrollPoints::default()
        };
        let answer = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.points().scroll(request).await }
            })
            .await?;
        let next = match answer.next_page_offset {
            None => None,
            Some(id) => {
                Some(id_from_proto(Some(id)).map_err(|error| self.broken(collection, error))?)
            }
        };
        Ok(Page { points: self.all(collection, answer.result, retrieved_from_proto)?, next })
    }

    pub(super) async fn count(
        &self,
        collection: &str,
        filter: Option<&Filter>,
    ) -> StoreResult<u64> {
        let request = CountPoints {
            collection_name: collection.to_owned(),
            filter: filter_message(collection, filter)?,
            exact: Some(true),
            ..CountPoints::default()
        };
        let answer = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.points().count(request).await }
            })
            .await?;
        let count = answer.result.ok_or_else(|| self.broken(collection, "a count of nothing"))?;
        Ok(count.count)
    }

    pub(super) async fn facet(
        &self,
        collection: &str,
        key: &str,
        filter: Option<&Filter>,
        limit: usize,
    ) -> StoreResult<Vec<FacetHit>> {
        self.check_number("the limit of the facet", limit)?;
        validate::payload_key(collection, key)?;
        if limit == 0 {
            return self.known_schema(collection).await.map(|_| Vec::new());
        }
        let request = FacetCounts {
            collection_name: collection.to_owned(),
            key: key.to_owned(),
            filter: filter_message(collection, filter)?,
            limit: Some(limit as u64),
            exact: Some(true),
            ..FacetCounts::default()
        };
        let answer = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.points().facet(request).await }
            })
            .await?;
        self.all(collection, answer.hits, facet_hit_from_proto)
    }

    fn check_number(&self, what: &'static str, given: usize) -> StoreResult<()> {
        validate::number(what, given, self.settings.maximum_results)
    }

    async fn check_selection(&self, collection: &str, selection: &Selection) -> StoreResult<()> {
        self.check(collection, |schema| validate::selection(collection, schema, selection))
            .await
            .map(drop)
    }

    /// Reads all messages of an answer.
    fn all<Message, T>(
        &self,
        collection: &str,
        messages: Vec<Message>,
        read: impl Fn(Message) -> Result<T, WireError>,
    ) -> StoreResult<Vec<T>> {
        let all = messages.into_iter().map(read).collect::<Result<_, _>>();
        all.map_err(|error| self.broken(collection, format!("an answer cannot be read: {error}")))
    }
}

fn filter_message(
    collection: &str,
    filter: Option<&Filter>,
) -> StoreResult<Option<qdrant_client::qdrant::Filter>> {
    filter.map(filter_to_proto).transpose().map_err(|error| StoreError::InvalidRequest {
        collection: collection.to_owned(),
        detail: error.to_string(),
    })
}
