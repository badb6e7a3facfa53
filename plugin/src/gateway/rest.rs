//! Queries and answers in Qdrant's JSON. Only what reranking needs is looked at; all other fields
//! are passed on as they came, known or not.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::RerankFault;
use super::queries::{Arrangement, Asked, Fetched, Placed, Shape, Unread, group_order, take};
use crate::id::PointId;

/// Qdrant's default number of results, or of groups.
const DEFAULT_LIMIT: u64 = 10;
/// Qdrant's default number of results in a group.
const DEFAULT_GROUP_SIZE: u64 = 3;

/// A request.
#[derive(Debug)]
pub(super) struct RestQueries {
    shape: Shape,
    body: Value,
}

impl RestQueries {
    pub(super) fn read(shape: Shape, body: &Bytes) -> Result<Self, Unread> {
        let body: Value = serde_json::from_slice(body).map_err(|_| Unread::Malformed)?;
        let queries = Self { shape, body };
        if queries.queries().is_empty() || !queries.queries().iter().all(|query| query.is_object())
        {
            return Err(Unread::Malformed);
        }
        Ok(queries)
    }

    fn queries(&self) -> &[Value] {
        match self.shape {
            Shape::Batch => self.body.get("searches").and_then(Value::as_array).map_or(&[], |v| v),
            Shape::Single | Shape::Groups => std::slice::from_ref(&self.body),
        }
    }

    pub(super) fn asked(&self, users: &str) -> Vec<Asked> {
        self.queries().iter().map(|query| self.asked_by(query, users)).collect()
    }

    fn asked_by(&self, query: &Value, users: &str) -> Asked {
        let number = |key: &str, default: u64| {
            let number = query.get(key).and_then(Value::as_u64).unwrap_or(default);
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let asked_for = |key: &str| {
            query.get(key).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
        };
        let of_users = query
            .pointer("/lookup_from/collection")
            .is_some_and(|name| name.as_str() == Some(users));
        Asked {
            reorders: query.get("query").is_some_and(reorders),
            consumer: of_users.then(|| nearest_point(query)).flatten(),
            limit: number("limit", DEFAULT_LIMIT),
            offset: number("offset", 0),
            group_size: (self.shape == Shape::Groups)
                .then(|| number("group_size", DEFAULT_GROUP_SIZE)),
            payload: asked_for("with_payload"),
            vectors: asked_for("with_vector") || asked_for("with_vectors"),
        }
    }

    pub(super) fn widened(&self, pools: &[Option<usize>]) -> Bytes {
        let mut body = self.body.clone();
        let queries: Vec<&mut Value> = match self.shape {
            Shape::Batch => {
                let searches = body.get_mut("searches").and_then(Value::as_array_mut);
                searches.map(|searches| searches.iter_mut().collect()).unwrap_or_default()
            }
            Shape::Single | Shape::Groups => vec![&mut body],
        };
        for (query, pool) in queries.into_iter().zip(pools) {
            let (Some(query), Some(pool)) = (query.as_object_mut(), pool) else { continue };
            query.insert("limit".to_owned(), json!(pool));
            if self.shape != Shape::Groups {
                query.insert("offset".to_owned(), json!(0));
                // What is shown is fetched afterwards, so that the rest is never carried around.
                query.remove("with_vectors");
                query.insert("with_payload".to_owned(), json!(false));
                query.insert("with_vector".to_owned(), json!(false));
            }
        }
        encode(&body)
    }

    pub(super) fn fetch(&self, query: usize, ids: &[PointId]) -> Bytes {
        let mut body = Map::new();
        body.insert("ids".to_owned(), json!(ids));
        let query = self.queries().get(query);
        let field = |key: &str| query.and_then(|query| query.get(key)).cloned();
        let payload = field("with_payload").unwrap_or(json!(false));
        body.insert("with_payload".to_owned(), payload);
        let vector = field("with_vector").or_else(|| field("with_vectors"));
        body.insert("with_vector".to_owned(), vector.unwrap_or(json!(false)));
        if let Some(shard_key) = field("shard_key") {
            body.insert("shard_key".to_owned(), shard_key);
        }
        encode(&Value::Object(body))
    }
}

/// Whether a query leaves the order open to relevance: a list of numbers, an id, or a kind of search;
/// not an order by a payload key, and not a random sample.
fn reorders(query: &Value) -> bool {
    match query {
        Value::Null => false,
        Value::Object(kinds) => !kinds.contains_key("order_by") && !kinds.contains_key("sample"),
        _ => true,
    }
}

/// The point whose vector is the query: `"query": 7`, or `"query": {"nearest": 7}`.
fn nearest_point(query: &Value) -> Option<PointId> {
    let query = query.get("query")?;
    let id = query.get("nearest").unwrap_or(query);
    serde_json::from_value(id.clone()).ok()
}

/// An answer.
#[derive(Debug)]
pub(super) struct RestAnswers {
    shape: Shape,
    body: Value,
}

impl RestAnswers {
    pub(super) fn read(shape: Shape, body: &Bytes) -> Result<Self, RerankFault> {
        let body = serde_json::from_slice(body).map_err(unreadable)?;
        Ok(Self { shape, body })
    }

    /// The points of one query, or the groups.
    fn list(&self, query: usize) -> Result<&Vec<Value>, RerankFault> {
        let result = self.body.get("result");
        let list = match self.shape {
            Shape::Single => result.and_then(|result| result.get("points")),
            Shape::Batch => result.and_then(|result| result.get(query)?.get("points")),
            Shape::Groups => result.and_then(|result| result.get("groups")),
        };
        list.and_then(Value::as_array).ok_or_else(|| unreadable("it holds no list of results"))
    }

    fn list_mut(&mut self, query: usize) -> Option<&mut Vec<Value>> {
        let result = self.body.get_mut("result")?;
        match self.shape {
            Shape::Single => result.get_mut("points"),
            Shape::Batch => result.get_mut(query)?.get_mut("points"),
            Shape::Groups => result.get_mut("groups"),
        }?
        .as_array_mut()
    }

    pub(super) fn results(&self, query: usize) -> Result<Vec<(PointId, f32)>, RerankFault> {
        let list = self.list(query)?;
        match self.shape {
            Shape::Single | Shape::Batch => list.iter().map(result).collect(),
            Shape::Groups => list.iter().flat_map(hits).map(result).collect(),
        }
    }

    pub(super) fn arrange(
        &mut self,
        query: usize,
        asked: &Asked,
        arrangement: &Arrangement,
        fetched: Option<&Fetched>,
    ) {
        let fetched = match fetched {
            Some(Fetched::Rest(points)) => Some(points),
            _ => None,
        };
        let shape = self.shape;
        let Some(list) = self.list_mut(query) else { return };
        let old = std::mem::take(list);
        *list = match shape {
            Shape::Single | Shape::Batch => {
                let shown = arrangement.placed.iter().skip(asked.offset).take(asked.limit);
                let points = take(old, shown.clone().map(|place| place.index));
                let completed = points.into_iter().zip(shown).filter_map(|((_, point), place)| {
                    complete(point, place, arrangement, asked, fetched)
                });
                completed.collect()
            }
            Shape::Groups => arrange_groups(old, asked, arrangement),
        };
    }

    pub(super) fn body(mut self, seconds: f64) -> Bytes {
        if let Some(time) = self.body.get_mut("time") {
            *time = json!(seconds);
        }
        encode(&self.body)
    }
}

fn arrange_groups(old: Vec<Value>, asked: &Asked, arrangement: &Arrangement) -> Vec<Value> {
    let sizes: Vec<usize> = old.iter().map(|group| hits(group).len()).collect();
    let order = group_order(&sizes, &arrangement.placed, asked.limit);
    let groups = take(old, order.iter().map(|(group, _)| *group));
    let arranged = groups.into_iter().zip(&order).map(|((_, mut group), (_, places))| {
        if let Some(list) = group.get_mut("hits").and_then(Value::as_array_mut) {
            let old = std::mem::take(list);
            let points = take(old, places.iter().map(|(within, _)| *within));
            let points = points.into_iter().zip(places).map(|((_, mut point), (_, entry))| {
                annotate(&mut point, &arrangement.placed[*entry], arrangement);
                point
            });
            *list = points.collect();
        }
        group
    });
    arranged.collect()
}

/// A result with what was fetched of its point; none if the point was deleted in between.
fn complete(
    mut point: Value,
    place: &Placed,
    arrangement: &Arrangement,
    asked: &Asked,
    fetched: Option<&HashMap<PointId, Value>>,
) -> Option<Value> {
    if let Some(fetched) = fetched {
        let id = serde_json::from_value(point.get("id")?.clone()).ok()?;
        let whole = fetched.get(&id)?;
        for (key, wanted) in [("payload", asked.payload), ("vector", asked.vectors)] {
            if let (true, Some(value), Some(point)) =
                (wanted, whole.get(key), point.as_object_mut())
            {
                point.insert(key.to_owned(), value.clone());
            }
        }
    }
    annotate(&mut point, place, arrangement);
    Some(point)
}

/// Writes the score, and the note if the result has a payload.
fn annotate(point: &mut Value, place: &Placed, arrangement: &Arrangement) {
    if let (true, Some(score)) = (arrangement.replace_scores, point.get_mut("score")) {
        *score = number(place.score);
    }
    if let Some(Value::Object(payload)) = point.get_mut("payload") {
        payload.insert(arrangement.payload_key.clone(), place.note.clone());
    }
}

/// A number that prints as short as Qdrant's own scores do.
pub(super) fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

fn hits(group: &Value) -> &[Value] {
    group.get("hits").and_then(Value::as_array).map_or(&[], |hits| hits)
}

fn result(point: &Value) -> Result<(PointId, f32), RerankFault> {
    let id = point.get("id").cloned().unwrap_or_default();
    let id = serde_json::from_value(id).map_err(unreadable)?;
    let score = point.get("score").and_then(Value::as_f64).unwrap_or_default();
    Ok((id, score as f32))
}

/// The points of an answer to a fetch, by id.
pub(super) fn fetched(body: &Bytes) -> Result<HashMap<PointId, Value>, RerankFault> {
    let mut body: Value = serde_json::from_slice(body).map_err(unreadable)?;
    let Some(Value::Array(points)) = body.get_mut("result").map(Value::take) else {
        return Err(unreadable("it holds no list of points"));
    };
    let by_id = points.into_iter().map(|point| {
        let id = point.get("id").cloned().unwrap_or_default();
        Ok((serde_json::from_value(id).map_err(unreadable)?, point))
    });
    by_id.collect()
}

fn unreadable(error: impl std::fmt::Display) -> RerankFault {
    RerankFault::new("upstream", format!("the server's answer cannot be read: {error}"))
}

fn encode(body: &Value) -> Bytes {
    // A value that was parsed, or built here, has only text keys, so writing it cannot fail.
    serde_json::to_vec(body).unwrap_or_default().into()
}
