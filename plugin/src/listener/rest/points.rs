//! Writing, reading, deleting, paging, counting and faceting of points in Qdrant's JSON.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{RecordAnswer, WRITTEN, answer, record};
use super::fields::{Fields, invalid};
use super::vectors::{dense, point_vectors, selection};
use crate::filter::Filter;
use crate::id::PointId;
use crate::listener::fault::Fault;
use crate::listener::operations::{DEFAULT_LIMIT, Operations, PointsSelector};
use crate::store::{FacetHit, Payload, PayloadSelection, Point, Scroll, Selection, Vectors};

#[derive(Serialize)]
struct PageAnswer {
    points: Vec<RecordAnswer>,
    next_page_offset: Option<PointId>,
}

#[derive(Serialize)]
struct FacetAnswer {
    hits: Vec<FacetHit>,
}

pub(super) async fn upsert(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let points = read_points(operations.fields(request).await?)?;
        operations.upsert(&collection, points).await?;
        Ok(WRITTEN)
    })
    .await
}

pub(super) async fn read(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let ids: Vec<PointId> = fields.need("ids")?;
        let selection = selection(&mut fields, PayloadSelection::All)?;
        fields.unsupported("shard_key", "shard keys")?;
        fields.finish()?;
        let points = operations.read(&collection, &ids, &selection).await?;
        Ok(records(points, &selection))
    })
    .await
}

pub(super) async fn read_one(
    State(operations): State<Operations>,
    Path((collection, id)): Path<(String, String)>,
) -> Response {
    answer(async {
        let id: PointId = id
            .parse()
            .map_err(|_| Fault::input(format!("Can not recognize \"{id}\" as point id")))?;
        let point = operations.read_one(&collection, id).await?;
        Ok(record(point, &Selection::all()))
    })
    .await
}

pub(super) async fn delete(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let selector = read_selector(&mut fields)?;
        fields.finish()?;
        operations.delete(&collection, selector).await?;
        Ok(WRITTEN)
    })
    .await
}

pub(super) async fn set_payload(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let payload: Payload = fields.need("payload")?;
        fields.unsupported("key", "payload below a key")?;
        let selector = read_selector(&mut fields)?;
        fields.finish()?;
        operations.set_payload(&collection, selector, payload).await?;
        Ok(WRITTEN)
    })
    .await
}

pub(super) async fn scroll(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        fields.unsupported("order_by", "ordering by a payload key")?;
        fields.unsupported("shard_key", "shard keys")?;
        let selection = selection(&mut fields, PayloadSelection::All)?;
        let scroll = Scroll {
            filter: fields.take::<Filter>("filter")?,
            from: fields.take("offset")?,
            limit: fields.take("limit")?.unwrap_or(DEFAULT_LIMIT),
            selection: selection.clone(),
        };
        fields.finish()?;
        let page = operations.scroll(&collection, scroll).await?;
        let points = records(page.points, &selection);
        Ok(PageAnswer { points, next_page_offset: page.next })
    })
    .await
}

pub(super) async fn count(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let filter: Option<Filter> = fields.take("filter")?;
        // Every count is exact.
        fields.harmless(&["exact"]);
        fields.unsupported("shard_key", "shard keys")?;
        fields.finish()?;
        let count = operations.count(&collection, filter.as_ref()).await?;
        Ok(json!({"count": count}))
    })
    .await
}

pub(super) async fn facet(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let key: String = fields.need("key")?;
        let filter: Option<Filter> = fields.take("filter")?;
        let limit = fields.take("limit")?.unwrap_or(DEFAULT_LIMIT);
        // Every facet is exact.
        fields.harmless(&["exact"]);
        fields.unsupported("shard_key", "shard keys")?;
        fields.finish()?;
        let hits = operations.facet(&collection, &key, filter.as_ref(), limit).await?;
        Ok(FacetAnswer { hits })
    })
    .await
}

fn records(points: Vec<Point>, selection: &Selection) -> Vec<RecordAnswer> {
    points.into_iter().map(|point| record(point, selection)).collect()
}

/// The points of a write: by ids or by a filter, of which exactly one must be given.
fn read_selector(fields: &mut Fields) -> Result<PointsSelector, Fault> {
    fields.unsupported("shard_key", "shard keys")?;
    let ids: Option<Vec<PointId>> = fields.take("points")?;
    let filter: Option<Filter> = fields.take("filter")?;
    match (ids, filter) {
        (Some(ids), None) => Ok(PointsSelector::Ids(ids)),
        (None, Some(filter)) => Ok(PointsSelector::Filter(filter)),
        (None, None) => Err(invalid("points", "either `points` or `filter` must be given")),
        (Some(_), Some(_)) => Err(invalid("points", "give `points` or `filter`, not both")),
    }
}

/// The points of an upsert: a list, or columns.
fn read_points(mut fields: Fields) -> Result<Vec<Point>, Fault> {
    fields.unsupported("shard_key", "shard keys")?;
    fields.unsupported("update_filter", "conditional updates")?;
    match fields.take::<String>("update_mode")?.as_deref() {
        None | Some("upsert") => {}
        Some(mode) => {
            return Err(Fault::unimplemented(format!("update mode `{mode}` (`update_mode`)")));
        }
    }
    let points = if fields.has("batch") {
        read_columns(Fields::of("batch", fields.need("batch")?)?)?
    } else {
        let points: Vec<Value> = fields.need("points")?;
        let points = points.into_iter().map(|point| read_point(Fields::of("points", point)?));
        points.collect::<Result<_, _>>()?
    };
    fields.finish()?;
    Ok(points)
}

fn read_point(mut fields: Fields) -> Result<Point, Fault> {
    let id = fields.need("id")?;
    let vectors = point_vectors(fields.need("vector")?)?;
    let payload = fields.take("payload")?.unwrap_or_default();
    fields.finish()?;
    Ok(Point { id, vectors, payload })
}

fn read_columns(mut fields: Fields) -> Result<Vec<Point>, Fault> {
    let ids: Vec<PointId> = fields.need("ids")?;
    let vectors = read_vector_columns(fields.need("vectors")?, ids.len())?;
    let payloads = match fields.take::<Vec<Option<Payload>>>("payloads")? {
        None => vec![None; ids.len()],
        Some(payloads) if payloads.len() == ids.len() => payloads,
        Some(payloads) => return Err(uneven("payloads", payloads.len(), ids.len())),
    };
    fields.finish()?;
    let points = ids.into_iter().zip(vectors).zip(payloads);
    let points = points.map(|((id, vectors), payload)| Point {
        id,
        vectors,
        payload: payload.unwrap_or_else(Map::new),
    });
    Ok(points.collect())
}

fn read_vector_columns(value: Value, rows: usize) -> Result<Vec<Vectors>, Fault> {
    let columns: Vec<(String, Value)> = match value {
        Value::Object(map) => map.into_iter().collect(),
        unnamed => vec![(String::new(), unnamed)],
    };
    let mut points = vec![Vectors::new(); rows];
    for (name, column) in columns {
        let field = format!("vectors.{name}");
        let Value::Array(column) = column else {
            return Err(invalid(&field, "expected a list of vectors"));
        };
        if column.len() != rows {
            return Err(uneven(&field, column.len(), rows));
        }
        for (point, vector) in points.iter_mut().zip(column) {
            point.insert(name.clone(), dense(&field, vector)?);
        }
    }
    Ok(points)
}

fn uneven(field: &str, found: usize, ids: usize) -> Fault {
    invalid(field, format!("has {found} entries for {ids} ids"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Vec<Point>, Fault> {
        read_points(Fields::of("body", value)?)
    }

    #[test]
    fn a_list_and_columns_are_the_same_points() {
        let check = |list: Value, columns: Value| {
            assert_eq!(read(json!({"points": list})), read(json!({"batch": columns})));
        };
        check(
            json!([{"id": 1, "vector": [1, 2], "payload": {"a": null}}, {"id": 2, "vector": [3, 4]}]),
            json!({"ids": [1, 2], "vectors": [[1, 2], [3, 4]], "payloads": [{"a": null}, null]}),
        );
        check(
            json!([{"id": 1, "vector": {"a": [1], "b": [2]}, "payload": null}]),
            json!({"ids": [1], "vectors": {"a": [[1]], "b": [[2]]}}),
        );
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let check = |value: Value, words: &str| {
            let message = read(value.clone()).unwrap_err().message;
            assert!(message.contains(words), "{value}: {message}");
        };
        check(json!({}), "missing field `points`");
        check(json!({"points": [{"id": 1}]}), "missing field `vector`");
        check(json!({"points": [{"id": "x", "vector": [1]}]}), "point id");
        check(json!({"points": [{"id": 1, "vector": [1], "pay": {}}]}), "unknown field `pay`");
        check(json!({"points": [], "update_filter": {"must": []}}), "conditional updates");
        check(json!({"points": [], "update_mode": "insert_only"}), "insert_only");
        check(json!({"batch": {"ids": [1], "vectors": []}}), "0 entries for 1 ids");
        check(json!({"batch": {"ids": [1], "vectors": [[1]], "payloads": []}}), "payloads");
        check(json!({"batch": {"ids": [1], "vectors": {"a": 1}}}), "list of vectors");
        check(json!({"batch": {"ids": [1], "vectors": [[[1]]]}}), "multi vectors");
    }

    #[test]
    fn points_are_selected_by_ids_or_by_a_filter() {
        let read = |value: Value| read_selector(&mut Fields::of("body", value).unwrap());
        assert_eq!(read(json!({"points": [1]})).unwrap(), PointsSelector::Ids(vec![1.into()]));
        let all = PointsSelector::Filter(Filter::default());
        assert_eq!(read(json!({"filter": {}, "points": null})).unwrap(), all);
        assert!(read(json!({})).is_err());
        assert!(read(json!({"points": [], "filter": {}})).is_err());
    }
}
