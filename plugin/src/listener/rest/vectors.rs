//! Vectors and selections in Qdrant's JSON.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::{Fields, invalid};
use crate::id::PointId;
use crate::listener::fault::Fault;
use crate::listener::operations::Nearest;
use crate::store::{PayloadSelection, Selection, VectorSelection, Vectors};

/// The fields by which an input for Qdrant's inference is known.
const INFERENCE: [&str; 4] = ["text", "image", "object", "model"];

/// A vector, or the id of a point that has it.
pub(super) fn nearest(name: &str, value: Value) -> Result<Nearest, Fault> {
    match value {
        Value::Number(_) | Value::String(_) => serde_json::from_value::<PointId>(value)
            .map(Nearest::Point)
            .map_err(|error| invalid(name, error)),
        value => dense(name, value).map(Nearest::Vector),
    }
}

/// A dense vector.
pub(super) fn dense(name: &str, value: Value) -> Result<Vec<f32>, Fault> {
    match &value {
        Value::Array(list) if list.first().is_some_and(Value::is_array) => {
            return Err(Fault::unimplemented(format!("multi vectors (`{name}`)")));
        }
        Value::Object(map) => return Err(other_than_dense(name, map)),
        _ => {}
    }
    serde_json::from_value(value).map_err(|error| invalid(name, error))
}

/// The vectors of a point: the unnamed one as a list, or an object of names.
pub(super) fn point_vectors(value: Value) -> Result<Vectors, Fault> {
    let map = match value {
        Value::Object(map) => map,
        unnamed => return Ok([(String::new(), dense("vector", unnamed)?)].into()),
    };
    // A name may be any word, so only an input that cannot be vectors by name is taken for one.
    if INFERENCE.iter().any(|key| map.get(*key).is_some_and(Value::is_string)) {
        return Err(other_than_dense("vector", &map));
    }
    map.into_iter()
        .map(|(name, value)| Ok((name.clone(), dense(&format!("vector.{name}"), value)?)))
        .collect()
}

fn other_than_dense(name: &str, map: &Map<String, Value>) -> Fault {
    if map.contains_key("indices") {
        Fault::unimplemented(format!("sparse vectors (`{name}`)"))
    } else if INFERENCE.iter().any(|key| map.contains_key(*key)) {
        Fault::unimplemented(format!("inference (`{name}`): give a vector"))
    } else {
        invalid(name, "expected a vector")
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a boolean, a list of keys, `include` or `exclude`")]
enum WithPayload {
    All(bool),
    Keys(Vec<String>),
    Include(Include),
    Exclude(Exclude),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Include {
    include: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exclude {
    exclude: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a boolean or a list of vector names")]
enum WithVector {
    All(bool),
    Names(Vec<String>),
}

/// What to return of each point; `payload` says what is returned of it by default.
pub(super) fn selection(
    fields: &mut Fields,
    payload: PayloadSelection,
) -> Result<Selection, Fault> {
    let payload = match fields.take("with_payload")? {
        None => payload,
        Some(WithPayload::All(true)) => PayloadSelection::All,
        Some(WithPayload::All(false)) => PayloadSelection::None,
        Some(WithPayload::Keys(keys) | WithPayload::Include(Include { include: keys })) => {
            PayloadSelection::Include(keys)
        }
        Some(WithPayload::Exclude(Exclude { exclude })) => PayloadSelection::Exclude(exclude),
    };
    let vectors = match fields.take_either("with_vector", "with_vectors")? {
        None | Some(WithVector::All(false)) => VectorSelection::None,
        Some(WithVector::All(true)) => VectorSelection::All,
        Some(WithVector::Names(names)) => VectorSelection::Named(names),
    };
    Ok(Selection { vectors, payload })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vectors_are_unnamed_or_named() {
        let check = |value: Value, expected: &[(&str, &[f32])]| {
            let expected: Vectors =
                expected.iter().map(|(name, vector)| (name.to_string(), vector.to_vec())).collect();
            assert_eq!(point_vectors(value).unwrap(), expected);
        };
        check(json!([1, 0.5]), &[("", &[1.0, 0.5])]);
        check(json!({"a": [1], "text": [2]}), &[("a", &[1.0]), ("text", &[2.0])]);
        check(json!({}), &[]);
    }

    #[test]
    fn what_is_not_a_dense_vector_is_refused_by_name() {
        let check = |value: Value, words: &str| {
            let message = point_vectors(value.clone()).unwrap_err().message;
            assert!(message.contains(words), "{value}: {message}");
        };
        check(json!([[1.0], [2.0]]), "multi vectors");
        check(json!({"a": [[1.0]]}), "multi vectors (`vector.a`)");
        check(json!({"a": {"indices": [1], "values": [1.0]}}), "sparse vectors");
        check(json!({"text": "some", "model": "any"}), "inference");
        check(json!({"a": {"text": "some", "model": "any"}}), "inference");
        check(json!({"a": "b"}), "invalid type");
        check(json!("b"), "invalid type");
    }

    #[test]
    fn selections_are_read_in_all_forms() {
        let keys = || vec!["a".to_owned()];
        let check = |value: Value, payload: PayloadSelection, vectors: VectorSelection| {
            let mut fields = Fields::of("body", value).unwrap();
            let read = selection(&mut fields, PayloadSelection::None).unwrap();
            assert_eq!(read, Selection { vectors, payload });
        };
        let (none, no_vectors) = (PayloadSelection::None, VectorSelection::None);
        check(json!({}), none.clone(), no_vectors.clone());
        check(json!({"with_payload": true}), PayloadSelection::All, no_vectors.clone());
        let include = PayloadSelection::Include(keys());
        check(json!({"with_payload": ["a"]}), include.clone(), no_vectors.clone());
        check(json!({"with_payload": {"include": ["a"]}}), include, no_vectors.clone());
        let exclude = PayloadSelection::Exclude(keys());
        check(json!({"with_payload": {"exclude": ["a"]}}), exclude, no_vectors);
        check(json!({"with_vector": true}), none.clone(), VectorSelection::All);
        check(json!({"with_vectors": ["a"]}), none, VectorSelection::Named(keys()));
    }
}
