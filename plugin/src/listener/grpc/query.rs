//! Queries in Qdrant's messages.

use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::vector_input::Variant as Input;
use qdrant_client::qdrant::{
    LookupLocation, QueryPointGroups, QueryPoints, SearchParams, VectorInput,
};

use super::selector::{filter, no_shard_key, number, selection, unsupported};
use crate::listener::fault::Fault;
use crate::listener::operations::{
    DEFAULT_GROUP_SIZE, DEFAULT_LIMIT, GroupedQuery, Lookup, Nearest, Query,
};
use crate::wire;

/// The query of a message; the collection is taken off it before.
pub(super) fn query(request: QueryPoints) -> Result<Query, Fault> {
    no_shard_key(request.shard_key_selector.as_ref())?;
    unsupported(!request.prefetch.is_empty(), "prefetches")?;
    Ok(Query {
        nearest: request.query.map(nearest).transpose()?,
        using: request.using.unwrap_or_default(),
        lookup: request.lookup_from.map(lookup).transpose()?,
        filter: filter(request.filter)?,
        limit: request.limit.map_or(DEFAULT_LIMIT, number),
        offset: request.offset.map_or(0, number),
        score_threshold: request.score_threshold,
        exact: is_exact(request.params)?,
        selection: selection(request.with_payload, request.with_vectors)?,
    })
}

pub(super) fn grouped(request: QueryPointGroups) -> Result<GroupedQuery, Fault> {
    unsupported(request.with_lookup.is_some(), "the lookup of groups")?;
    let group_size = request.group_size.map_or(DEFAULT_GROUP_SIZE, number);
    let query = query(QueryPoints {
        prefetch: request.prefetch,
        query: request.query,
        using: request.using,
        filter: request.filter,
        params: request.params,
        score_threshold: request.score_threshold,
        limit: request.limit,
        with_vectors: request.with_vectors,
        with_payload: request.with_payload,
        shard_key_selector: request.shard_key_selector,
        lookup_from: request.lookup_from,
        ..QueryPoints::default()
    })?;
    Ok(GroupedQuery { query, group_by: request.group_by, group_size })
}

fn nearest(query: qdrant_client::qdrant::Query) -> Result<Nearest, Fault> {
    let variant = query.variant.ok_or_else(|| Fault::input("the query has no kind"))?;
    let what = match variant {
        Variant::Nearest(input) => return vector(input),
        Variant::Recommend(_) => "recommend queries",
        Variant::Discover(_) => "discover queries",
        Variant::Context(_) => "context queries",
        Variant::OrderBy(_) => "order_by queries",
        Variant::Fusion(_) | Variant::Rrf(_) => "fusion queries",
        Variant::Sample(_) => "sample queries",
        Variant::Formula(_) => "formula queries",
        Variant::NearestWithMmr(_) => "maximal marginal relevance",
        Variant::RelevanceFeedback(_) => "relevance feedback queries",
        Variant::Text(_) => "text queries",
    };
    Err(Fault::unimplemented(what))
}

fn vector(input: VectorInput) -> Result<Nearest, Fault> {
    let what = match input.variant {
        Some(Input::Id(id)) => return Ok(Nearest::Point(wire::id_from_proto(Some(id))?)),
        Some(Input::Dense(dense)) => return Ok(Nearest::Vector(dense.data)),
        Some(Input::Sparse(_)) => "sparse vectors",
        Some(Input::MultiDense(_)) => "multi vectors",
        Some(Input::Document(_) | Input::Image(_) | Input::Object(_)) => "inference: give a vector",
        None => return Err(Fault::input("the query has neither a vector nor a point id")),
    };
    Err(Fault::unimplemented(what))
}

fn lookup(location: LookupLocation) -> Result<Lookup, Fault> {
    no_shard_key(location.shard_key_selector.as_ref())?;
    Ok(Lookup { collection: location.collection_name, vector: location.vector_name })
}

/// Whether the search is exact. The other parameters trade accuracy for speed in ways that the store
/// does not have, so without them the answer is at least as good.
fn is_exact(parameters: Option<SearchParams>) -> Result<bool, Fault> {
    let Some(parameters) = parameters else { return Ok(false) };
    let indexed_only = parameters.indexed_only.unwrap_or_default();
    unsupported(indexed_only, "searches of indexed points only (`indexed_only`)")?;
    unsupported(parameters.idf.is_some(), "the statistics of sparse vectors (`idf`)")?;
    Ok(parameters.exact.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use qdrant_client::qdrant::{
        self, Fusion, PrefetchQuery, RecommendInput, Sample, ShardKeySelector, SparseVector,
    };

    use super::*;

    fn of(variant: Variant) -> QueryPoints {
        let query = Some(qdrant::Query { variant: Some(variant) });
        QueryPoints { query, ..QueryPoints::default() }
    }

    #[test]
    fn a_query_has_qdrant_s_defaults() {
        let read = query(QueryPoints::default()).unwrap();
        assert_eq!((read.limit, read.offset, read.nearest), (10, 0, None));
        let read = grouped(QueryPointGroups::default()).unwrap();
        assert_eq!((read.query.limit, read.group_size), (10, 3));
        let read = query(of(Variant::Nearest(VectorInput::new_dense(vec![1.0])))).unwrap();
        assert_eq!(read.nearest, Some(Nearest::Vector(vec![1.0])));
    }

    #[test]
    fn what_cannot_be_answered_exactly_is_refused_by_name() {
        let check = |request: QueryPoints, words: &str| {
            let message = query(request).unwrap_err().message;
            assert!(message.contains(words), "{message}");
        };
        check(of(Variant::Fusion(Fusion::Rrf.into())), "fusion");
        check(of(Variant::Sample(Sample::Random.into())), "sample");
        check(of(Variant::Recommend(RecommendInput::default())), "recommend");
        let sparse = VectorInput { variant: Some(Input::Sparse(SparseVector::default())) };
        check(of(Variant::Nearest(sparse)), "sparse");
        let prefetch = vec![PrefetchQuery::default()];
        check(QueryPoints { prefetch, ..QueryPoints::default() }, "prefetches");
        let params = Some(SearchParams { indexed_only: Some(true), ..SearchParams::default() });
        check(QueryPoints { params, ..QueryPoints::default() }, "indexed_only");
        let keys = ShardKeySelector {
            shard_keys: vec![qdrant::ShardKey::default()],
            ..ShardKeySelector::default()
        };
        let request = QueryPoints { shard_key_selector: Some(keys), ..QueryPoints::default() };
        check(request, "shard keys");
        check(of(Variant::Nearest(VectorInput { variant: None })), "neither");
    }
}
