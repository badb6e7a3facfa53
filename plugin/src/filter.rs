//! Filters in Qdrant's own JSON, checked by Qdrant's own parser when they are made.

use qdrant_edge::external::serde_json::from_value;
use qdrant_edge::{Condition, FieldCondition, HasIdCondition, HasVectorCondition, JsonPath, Match};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use validator::Validate;

use crate::id::PointId;

/// A condition on points. It can only be made from what Qdrant accepts, so a backend need not check
/// it again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter(qdrant_edge::Filter);

/// The JSON is not a filter that Qdrant accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Qdrant's parser refused it.
    #[error(
        "not a Qdrant filter: {reason}; expected an object with `must`, `should`, `must_not` or \
         `min_should`"
    )]
    Invalid {
        /// What the parser said.
        reason: String,
    },
    /// A payload key is not a JSON path.
    #[error("{key:?} is not a payload key: write it as `key`, `key.nested` or `list[].key`")]
    Key {
        /// The key that was given.
        key: String,
    },
}

impl Filter {
    /// Reads Qdrant's JSON, for example
    /// `{"must": [{"key": "genre", "match": {"value": "Drama"}}]}`.
    pub fn from_json(json: Value) -> Result<Self, FilterError> {
        if !json.is_object() {
            let reason = format!("{} is not an object", kind_of(&json));
            return Err(FilterError::Invalid { reason });
        }
        let invalid = |reason: String| FilterError::Invalid { reason };
        let filter: qdrant_edge::Filter =
            from_value(json).map_err(|error| invalid(error.to_string()))?;
        Self::from_engine(filter)
    }

    /// The filter of the engine's own form.
    pub(crate) fn from_engine(filter: qdrant_edge::Filter) -> Result<Self, FilterError> {
        // Parsed is not valid: a condition that tests nothing parses.
        match filter.validate() {
            Ok(()) => Ok(Self(filter)),
            Err(error) => Err(FilterError::Invalid { reason: error.to_string() }),
        }
    }

    /// The filter as Qdrant's JSON.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(&self.0).expect("a filter was made from JSON, or of ids and strings")
    }

    /// Points whose payload `key` equals `value` (or, in a list, has it).
    pub fn equals(key: &str, value: &str) -> Result<Self, FilterError> {
        let path =
            key.parse::<JsonPath>().map_err(|()| FilterError::Key { key: key.to_owned() })?;
        let matches = Match::from(value.to_owned());
        Ok(Self(qdrant_edge::Filter::new_must(Condition::Field(FieldCondition::new_match(
            path, matches,
        )))))
    }

    /// Points with one of these ids. No ids match no point.
    pub fn with_ids(ids: impl IntoIterator<Item = PointId>) -> Self {
        Self(qdrant_edge::Filter::new_must(has_id(ids)))
    }

    /// Points with none of these ids: how a consumer's known items are left out of a search.
    pub fn without_ids(ids: impl IntoIterator<Item = PointId>) -> Self {
        Self(qdrant_edge::Filter::new_must_not(has_id(ids)))
    }

    /// Points that have the named vector.
    pub fn with_vector(name: &str) -> Self {
        Self(qdrant_edge::Filter::new_must(has_vector(name)))
    }

    /// Points that do not have the named vector.
    pub fn without_vector(name: &str) -> Self {
        Self(qdrant_edge::Filter::new_must_not(has_vector(name)))
    }

    /// Points that match this filter and the other.
    pub fn and(self, other: Self) -> Self {
        Self(qdrant_edge::Filter {
            must: Some(vec![Condition::Filter(self.0), Condition::Filter(other.0)]),
            ..Default::default()
        })
    }

    /// The filter as the engine has it.
    pub(crate) fn engine(&self) -> &qdrant_edge::Filter {
        &self.0
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn has_id(ids: impl IntoIterator<Item = PointId>) -> Condition {
    Condition::HasId(ids.into_iter().map(qdrant_edge::PointId::from).collect::<HasIdCondition>())
}

fn has_vector(name: &str) -> Condition {
    Condition::HasVector(HasVectorCondition { has_vector: name.to_owned() })
}

fn kind_of(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn qdrant_s_json_comes_back_as_it_was() {
        let check = |filter: Value| {
            assert_eq!(Filter::from_json(filter.clone()).unwrap().to_json(), filter)
        };
        check(json!({}));
        check(json!({"must": [{"key": "genre", "match": {"value": "Drama"}}]}));
        check(json!({"should": [{"key": "year", "range":
            {"gt": null, "gte": 1990.0, "lt": 2000.0, "lte": null}}]}));
        check(json!({"must_not": [{"has_id": [7]}]}));
        check(json!({"must": [{"nested": {"key": "cast", "filter": {"must": [
            {"key": "name", "match": {"value": "Ingrid"}}]}}}]}));
        check(json!({"must": [{"has_vector": "positive"}]}));
    }

    #[test]
    fn what_qdrant_refuses_is_refused_with_a_reason() {
        let check = |filter: Value, expected: &str| {
            let error = Filter::from_json(filter.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{filter}: {error}");
        };
        check(json!([]), "a list is not an object");
        check(json!({"musst": []}), "musst");
        check(json!({"must": [{"key": "genre"}]}), "condition");
        check(json!({"should": [{"must_not": [{"key": "genre"}]}]}), "condition");
        check(
            json!({"must": [{"nested": {"key": "cast", "filter": {"must": [{"key": "a"}]}}}]}),
            "condition",
        );
        check(json!({"must": [{"key": "genre", "match": {"vaule": 1}}]}), "not a Qdrant filter");
        check(json!({"must": 5}), "not a Qdrant filter");
    }

    #[test]
    fn a_key_that_is_no_path_is_refused() {
        assert_eq!(Filter::equals("a[", "b"), Err(FilterError::Key { key: "a[".to_owned() }));
    }

    #[test]
    fn a_filter_deserializes_from_a_request_body() {
        #[derive(Deserialize)]
        struct Request {
            filter: Filter,
        }
        let request: Request =
            serde_json::from_value(json!({"filter": {"must": [{"has_id": [1]}]}})).unwrap();
        assert_eq!(request.filter, Filter::with_ids([PointId::Number(1)]));
        assert!(serde_json::from_value::<Request>(json!({"filter": {"mist": []}})).is_err());
    }

    proptest! {
        #[test]
        fn any_string_is_matched_as_it_is(value in ".*") {
            let filter = Filter::equals("key", &value).unwrap();
            prop_assert_eq!(Filter::from_json(filter.to_json()).unwrap(), filter);
        }
    }
}
