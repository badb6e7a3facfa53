//! Queries in Qdrant's JSON, and their answers.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use super::answer::{ScoredAnswer, answer, scored};
use super::fields::{Fields, invalid};
use super::vectors::{nearest, selection};
use crate::filter::Filter;
use crate::listener::fault::Fault;
use crate::listener::operations::{
    DEFAULT_GROUP_SIZE, DEFAULT_LIMIT, GroupedQuery, Lookup, Nearest, Operations, Query,
};
use crate::store::{PayloadSelection, ScoredPoint, Selection};

/// The kinds of query that the store cannot do, by the field that asks for them.
const UNSUPPORTED_QUERIES: [(&str, &str); 9] = [
    ("recommend", "recommend queries"),
    ("discover", "discover queries"),
    ("context", "context queries"),
    ("order_by", "order_by queries"),
    ("fusion", "fusion queries"),
    ("rrf", "fusion queries"),
    ("formula", "formula queries"),
    ("sample", "sample queries"),
    ("relevance_feedback", "relevance feedback queries"),
];

#[derive(Serialize)]
struct PointsAnswer {
    points: Vec<ScoredAnswer>,
}

#[derive(Serialize)]
struct GroupsAnswer {
    groups: Vec<GroupAnswer>,
}

#[derive(Serialize)]
struct GroupAnswer {
    hits: Vec<ScoredAnswer>,
    id: Value,
}

pub(super) async fn query(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let query = read_query(&mut fields)?;
        fields.finish()?;
        let selection = query.selection.clone();
        Ok(points(operations.query(&collection, query).await?, &selection))
    })
    .await
}

pub(super) async fn query_batch(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let searches: Vec<Value> = fields.need("searches")?;
        fields.finish()?;
        let queries = searches.into_iter().map(|search| {
            let mut fields = Fields::of("searches", search)?;
            let query = read_query(&mut fields)?;
            fields.finish()?;
            Ok(query)
        });
        let queries = queries.collect::<Result<Vec<Query>, Fault>>()?;
        let selections: Vec<Selection> =
            queries.iter().map(|query| query.selection.clone()).collect();
        let answers = operations.query_batch(&collection, queries).await?;
        let answers = answers.into_iter().zip(&selections);
        Ok(answers.map(|(found, selection)| points(found, selection)).collect::<Vec<_>>())
    })
    .await
}

pub(super) async fn query_groups(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let group_by: String = fields.need("group_by")?;
        let group_size = fields.take("group_size")?.unwrap_or(DEFAULT_GROUP_SIZE);
        fields.unsupported("with_lookup", "the lookup of groups")?;
        let query = read_query(&mut fields)?;
        fields.finish()?;
        if query.offset > 0 {
            return Err(invalid("offset", "a grouped query has none"));
        }
        let selection = query.selection.clone();
        let grouped = GroupedQuery { query, group_by, group_size };
        let groups = operations.query_groups(&collection, grouped).await?;
        let groups = groups.into_iter().map(|group| GroupAnswer {
            hits: group.hits.into_iter().map(|hit| scored(hit, &selection)).collect(),
            id: group.key.json(),
        });
        Ok(GroupsAnswer { groups: groups.collect() })
    })
    .await
}

fn points(found: Vec<ScoredPoint>, selection: &Selection) -> PointsAnswer {
    PointsAnswer { points: found.into_iter().map(|point| scored(point, selection)).collect() }
}

fn read_query(fields: &mut Fields) -> Result<Query, Fault> {
    fields.unsupported("prefetch", "prefetches")?;
    fields.unsupported("shard_key", "shard keys")?;
    let nearest = fields.take::<Value>("query")?.map(read_nearest).transpose()?;
    let lookup = fields.take::<Value>("lookup_from")?.map(read_lookup).transpose()?;
    Ok(Query {
        nearest,
        using: fields.take("using")?.unwrap_or_default(),
        lookup,
        filter: fields.take::<Filter>("filter")?,
        limit: fields.take("limit")?.unwrap_or(DEFAULT_LIMIT),
        offset: fields.take("offset")?.unwrap_or_default(),
        score_threshold: fields.take("score_threshold")?,
        exact: read_parameters(fields)?,
        selection: selection(fields, PayloadSelection::None)?,
    })
}

fn read_nearest(value: Value) -> Result<Nearest, Fault> {
    let Value::Object(map) = value else { return nearest("query", value) };
    if let Some((_, kind)) = UNSUPPORTED_QUERIES.iter().find(|(key, _)| map.contains_key(*key)) {
        return Err(Fault::unimplemented(kind));
    }
    if !map.contains_key("nearest") {
        return nearest("query", Value::Object(map));
    }
    let mut fields = Fields::of("query", Value::Object(map))?;
    fields.unsupported("mmr", "maximal marginal relevance")?;
    let value = fields.need("nearest")?;
    fields.finish()?;
    match value {
        Value::Null => Err(invalid("nearest", "expected a vector or a point id")),
        value => nearest("query.nearest", value),
    }
}

fn read_lookup(value: Value) -> Result<Lookup, Fault> {
    let mut fields = Fields::of("lookup_from", value)?;
    let lookup = Lookup { collection: fields.need("collection")?, vector: fields.take("vector")? };
    fields.unsupported("shard_key", "shard keys")?;
    fields.finish()?;
    Ok(lookup)
}

/// Whether the search is exact. The other parameters trade accuracy for speed in ways that the store
/// does not have, so without them the answer is at least as good.
fn read_parameters(fields: &mut Fields) -> Result<bool, Fault> {
    let Some(value) = fields.take::<Value>("params")? else { return Ok(false) };
    let mut fields = Fields::of("params", value)?;
    let exact = fields.take("exact")?.unwrap_or_default();
    fields.harmless(&["hnsw_ef", "quantization", "acorn"]);
    if fields.take::<bool>("indexed_only")?.unwrap_or_default() {
        return Err(Fault::unimplemented("searches of indexed points only (`indexed_only`)"));
    }
    fields.finish()?;
    Ok(exact)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Query, Fault> {
        let mut fields = Fields::of("body", value)?;
        let query = read_query(&mut fields)?;
        fields.finish()?;
        Ok(query)
    }

    #[test]
    fn a_query_is_a_vector_an_id_or_nothing() {
        let check = |value: Value, expected: Option<Nearest>| {
            assert_eq!(read(json!({"query": value})).unwrap().nearest, expected);
        };
        check(json!(null), None);
        check(json!([1, 2.5]), Some(Nearest::Vector(vec![1.0, 2.5])));
        check(json!(7), Some(Nearest::Point(7.into())));
        check(json!({"nearest": [1]}), Some(Nearest::Vector(vec![1.0])));
        check(json!({"nearest": 7, "mmr": null}), Some(Nearest::Point(7.into())));
    }

    #[test]
    fn what_cannot_be_answered_exactly_is_refused_by_name() {
        let check = |value: Value, words: &str| {
            let message = read(value.clone()).unwrap_err().message;
            assert!(message.contains(words), "{value}: {message}");
        };
        for (key, words) in UNSUPPORTED_QUERIES {
            check(json!({"query": {key: {}}}), words);
        }
        check(json!({"query": {"nearest": [1], "mmr": {"diversity": 0.5}}}), "marginal relevance");
        check(json!({"prefetch": {"query": [1]}}), "prefetches");
        check(json!({"query": {"indices": [1], "values": [2]}}), "sparse");
        check(json!({"query": [[1]]}), "multi");
        check(json!({"query": {"text": "a", "model": "b"}}), "inference");
        check(json!({"shard_key": "a"}), "shard keys");
        check(json!({"params": {"indexed_only": true}}), "indexed_only");
        check(json!({"params": {"new": true}}), "unknown field `new`");
        check(json!({"new": 1}), "unknown field `new`");
        check(json!({"query": "no id"}), "point id");
        check(json!({"filter": {"mist": []}}), "filter: not a Qdrant filter");
        check(json!({"limit": -1}), "limit");
        check(json!({"query": {"nearest": null}}), "nearest");
    }

    #[test]
    fn everything_else_has_qdrant_s_defaults() {
        let query = read(json!({})).unwrap();
        assert_eq!((query.limit, query.offset, query.using.as_str()), (10, 0, ""));
        assert_eq!(query.selection, Selection::none());
        let query = read(json!({
            "query": 1, "using": "a", "lookup_from": {"collection": "b", "vector": "c"},
            "limit": 3, "offset": 2, "score_threshold": 0.5, "with_payload": true,
            "params": {"exact": true, "hnsw_ef": 100}, "filter": {}, "shard_key": null
        }))
        .unwrap();
        let lookup = Lookup { collection: "b".to_owned(), vector: Some("c".to_owned()) };
        assert_eq!((query.lookup, query.exact), (Some(lookup), true));
        assert_eq!((query.limit, query.offset, query.score_threshold), (3, 2, Some(0.5)));
    }
}
