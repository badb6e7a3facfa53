//! Payload values. Integers and floating-point numbers stay distinct.
//!
//! The protocol has signed 64-bit integers only. A greater unsigned one is refused where a payload
//! is written, because it would come back changed, and rounded to a double (as Qdrant does) where
//! one that Qdrant's engine holds is only shown.

use std::collections::HashMap;

use qdrant_client::qdrant;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{ListValue, NullValue, Struct};
use serde_json::{Map, Number, Value};

use super::WireError;
use crate::store::Payload;

/// How an integer above `i64::MAX` is sent.
#[derive(Clone, Copy)]
enum Large {
    Refused,
    Rounded,
}

/// The message of a payload.
///
/// # Errors
/// If it has an integer above `i64::MAX`, which the protocol cannot carry; the key is named.
pub fn payload_to_proto(payload: Payload) -> Result<HashMap<String, qdrant::Value>, WireError> {
    fields_to_proto(payload, Large::Refused)
}

/// The message of a payload, with integers above `i64::MAX` as the nearest double.
pub fn payload_to_proto_rounded(payload: Payload) -> HashMap<String, qdrant::Value> {
    fields_to_proto(payload, Large::Rounded).expect("only large integers are refused")
}

/// The payload of a message.
///
/// # Errors
/// If a number is infinite or not a number, which JSON cannot hold; the key is named.
pub fn payload_from_proto(fields: HashMap<String, qdrant::Value>) -> Result<Payload, WireError> {
    let entry = |(key, value): (String, qdrant::Value)| match value_from_proto(value) {
        Ok(value) => Ok((key, value)),
        Err(error) => Err(within(&key, error)),
    };
    fields.into_iter().map(entry).collect::<Result<Map<_, _>, _>>()
}

/// The message of a JSON value.
///
/// # Errors
/// If it has an integer above `i64::MAX`.
pub fn value_to_proto(value: Value) -> Result<qdrant::Value, WireError> {
    to_proto(value, Large::Refused)
}

/// The message of a JSON value, with integers above `i64::MAX` as the nearest double.
pub fn value_to_proto_rounded(value: Value) -> qdrant::Value {
    to_proto(value, Large::Rounded).expect("only large integers are refused")
}

/// The JSON value of a message. A value without a kind is null.
///
/// # Errors
/// If a number is infinite or not a number.
pub fn value_from_proto(value: qdrant::Value) -> Result<Value, WireError> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::IntegerValue(number)) => number.into(),
        Some(Kind::DoubleValue(number)) => {
            Number::from_f64(number).map(Value::Number).ok_or_else(|| {
                WireError::invalid(number.to_string(), "JSON has only finite numbers")
            })?
        }
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => {
            let values = list.values.into_iter().map(value_from_proto);
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Some(Kind::StructValue(object)) => Value::Object(payload_from_proto(object.fields)?),
    })
}

fn fields_to_proto(
    fields: Payload,
    large: Large,
) -> Result<HashMap<String, qdrant::Value>, WireError> {
    let entry = |(key, value): (String, Value)| match to_proto(value, large) {
        Ok(value) => Ok((key, value)),
        Err(error) => Err(within(&key, error)),
    };
    fields.into_iter().map(entry).collect()
}

fn to_proto(value: Value, large: Large) -> Result<qdrant::Value, WireError> {
    let kind = match value {
        Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => number_to_proto(&number, large)?,
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            let values = values.into_iter().map(|value| to_proto(value, large));
            Kind::ListValue(ListValue { values: values.collect::<Result<_, _>>()? })
        }
        Value::Object(fields) => {
            Kind::StructValue(Struct { fields: fields_to_proto(fields, large)? })
        }
    };
    Ok(qdrant::Value { kind: Some(kind) })
}

fn number_to_proto(number: &Number, large: Large) -> Result<Kind, WireError> {
    if let Some(integer) = number.as_i64() {
        return Ok(Kind::IntegerValue(integer));
    }
    match (number.as_u64(), large) {
        (Some(_), Large::Refused) => Err(WireError::invalid(
            number.to_string(),
            format!("the protocol carries integers up to {}; write it as text", i64::MAX),
        )),
        (Some(integer), Large::Rounded) => Ok(Kind::DoubleValue(integer as f64)),
        (None, _) => {
            Ok(Kind::DoubleValue(number.as_f64().expect("a number is an integer or a double")))
        }
    }
}

/// Names the key at which a value does not fit.
fn within(key: &str, error: WireError) -> WireError {
    match error {
        WireError::Invalid { what, reason } => {
            WireError::Invalid { what: format!("{what} in {key:?}"), reason }
        }
        other => other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Any JSON that the protocol can carry.
    pub(in crate::wire) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|number| json!(number)),
            (prop::num::f64::NORMAL | prop::num::f64::ZERO).prop_map(|number| json!(number)),
            ".*".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map(".*", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Any payload that the protocol can carry.
    pub(in crate::wire) fn any_payload() -> impl Strategy<Value = Payload> {
        prop::collection::btree_map(".*", any_json(), 0..5)
            .prop_map(|fields| fields.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_payload_comes_back(payload in any_payload()) {
            let there = payload_to_proto(payload.clone()).unwrap();
            prop_assert_eq!(&there, &payload_to_proto_rounded(payload.clone()));
            prop_assert_eq!(payload_from_proto(there), Ok(payload));
        }
    }

    #[test]
    fn integers_and_doubles_stay_what_they_are() {
        let check = |value: Value, expected: Kind| {
            let there = value_to_proto(value.clone()).unwrap();
            assert_eq!(there.kind, Some(expected));
            assert_eq!(value_from_proto(there).unwrap().to_string(), value.to_string());
        };
        check(json!(1), Kind::IntegerValue(1));
        check(json!(1.0), Kind::DoubleValue(1.0));
        check(json!(i64::MIN), Kind::IntegerValue(i64::MIN));
        check(json!(i64::MAX), Kind::IntegerValue(i64::MAX));
        check(json!(-0.0), Kind::DoubleValue(-0.0));
    }

    #[test]
    fn an_integer_that_would_change_is_refused_with_its_key_or_rounded() {
        let Value::Object(payload) = json!({"stock": {"sold": [u64::MAX]}}) else { unreachable!() };
        let error = payload_to_proto(payload.clone()).unwrap_err().to_string();
        for word in ["18446744073709551615", "\"sold\"", "\"stock\"", "as text"] {
            assert!(error.contains(word), "{error}");
        }
        let rounded = payload_from_proto(payload_to_proto_rounded(payload)).unwrap();
        assert_eq!(Value::Object(rounded), json!({"stock": {"sold": [u64::MAX as f64]}}));
    }

    #[test]
    fn a_number_that_json_lacks_is_refused() {
        let nan = qdrant::Value { kind: Some(Kind::DoubleValue(f64::NAN)) };
        let error = payload_from_proto([("price".to_owned(), nan)].into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "NaN in \"price\" is not valid: JSON has only finite numbers"
        );
        assert_eq!(value_from_proto(qdrant::Value { kind: None }), Ok(Value::Null));
    }
}
