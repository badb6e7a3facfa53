//! Points as they are written, read and found, and facet hits.

use qdrant_client::qdrant;
use qdrant_client::qdrant::facet_value::Variant;
use serde_json::Value;

use super::{
    WireError, id_from_proto, id_to_proto, payload_from_proto, payload_to_proto,
    payload_to_proto_rounded, vectors_from_output, vectors_from_proto, vectors_to_output,
    vectors_to_proto,
};
use crate::store::{FacetHit, Point, PointVectors, ScoredPoint};

/// The message of a point to write.
///
/// # Errors
/// If the payload or the vectors cannot be sent.
pub fn point_to_proto(point: Point) -> Result<qdrant::PointStruct, WireError> {
    Ok(qdrant::PointStruct {
        id: Some(id_to_proto(point.id)),
        payload: payload_to_proto(point.payload)?,
        vectors: Some(vectors_to_proto(point.vectors)?),
    })
}

/// The point of a write.
///
/// # Errors
/// If its id, payload or vectors cannot be read.
pub fn point_from_proto(point: qdrant::PointStruct) -> Result<Point, WireError> {
    Ok(Point {
        id: id_from_proto(point.id)?,
        vectors: vectors_from_proto(point.vectors)?,
        payload: payload_from_proto(point.payload)?,
    })
}

/// The message of vectors to set.
///
/// # Errors
/// If there is an unnamed vector beside named ones.
pub fn point_vectors_to_proto(point: PointVectors) -> Result<qdrant::PointVectors, WireError> {
    Ok(qdrant::PointVectors {
        id: Some(id_to_proto(point.id)),
        vectors: Some(vectors_to_proto(point.vectors)?),
    })
}

/// The vectors to set of a message.
///
/// # Errors
/// If its id or vectors cannot be read.
pub fn point_vectors_from_proto(point: qdrant::PointVectors) -> Result<PointVectors, WireError> {
    Ok(PointVectors { id: id_from_proto(point.id)?, vectors: vectors_from_proto(point.vectors)? })
}

/// The message of a point that was read. Integers that the protocol lacks are rounded.
///
/// # Errors
/// If there is an unnamed vector beside named ones.
pub fn retrieved_to_proto(point: Point) -> Result<qdrant::RetrievedPoint, WireError> {
    Ok(qdrant::RetrievedPoint {
        id: Some(id_to_proto(point.id)),
        payload: payload_to_proto_rounded(point.payload),
        vectors: Some(vectors_to_output(point.vectors)?),
        shard_key: None,
        order_value: None,
    })
}

/// A point that was read.
///
/// # Errors
/// If its id or payload cannot be read.
pub fn retrieved_from_proto(point: qdrant::RetrievedPoint) -> Result<Point, WireError> {
    Ok(Point {
        id: id_from_proto(point.id)?,
        vectors: vectors_from_output(point.vectors),
        payload: payload_from_proto(point.payload)?,
    })
}

/// The message of a point that was found. Integers that the protocol lacks are rounded.
///
/// # Errors
/// If there is an unnamed vector beside named ones.
pub fn scored_to_proto(scored: ScoredPoint) -> Result<qdrant::ScoredPoint, WireError> {
    Ok(qdrant::ScoredPoint {
        id: Some(id_to_proto(scored.point.id)),
        payload: payload_to_proto_rounded(scored.point.payload),
        score: scored.score,
        version: 0,
        vectors: Some(vectors_to_output(scored.point.vectors)?),
        shard_key: None,
        order_value: None,
    })
}

/// A point that was found.
///
/// # Errors
/// If its id or payload cannot be read.
pub fn scored_from_proto(scored: qdrant::ScoredPoint) -> Result<ScoredPoint, WireError> {
    let point = Point {
        id: id_from_proto(scored.id)?,
        vectors: vectors_from_output(scored.vectors),
        payload: payload_from_proto(scored.payload)?,
    };
    Ok(ScoredPoint { score: scored.score, point })
}

/// The message of a facet hit.
///
/// # Errors
/// If its value is none that a facet can have.
pub fn facet_hit_to_proto(hit: FacetHit) -> Result<qdrant::FacetHit, WireError> {
    let variant = match hit.value {
        Value::String(text) => Variant::StringValue(text),
        Value::Bool(flag) => Variant::BoolValue(flag),
        Value::Number(ref number) => match number.as_i64() {
            Some(integer) => Variant::IntegerValue(integer),
            None => return Err(WireError::unsupported(format!("the facet value {number}"))),
        },
        other => return Err(WireError::unsupported(format!("the facet value {other}"))),
    };
    let value = qdrant::FacetValue { variant: Some(variant) };
    Ok(qdrant::FacetHit { value: Some(value), count: hit.count })
}

/// A facet hit.
///
/// # Errors
/// If it has no value.
pub fn facet_hit_from_proto(hit: qdrant::FacetHit) -> Result<FacetHit, WireError> {
    let value = match hit.value.and_then(|value| value.variant) {
        Some(Variant::StringValue(text)) => Value::String(text),
        Some(Variant::IntegerValue(number)) => number.into(),
        Some(Variant::BoolValue(flag)) => Value::Bool(flag),
        None => return Err(WireError::Missing { what: "the value of a facet hit" }),
    };
    Ok(FacetHit { value, count: hit.count })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::payload::tests::any_payload;
    use super::super::vectors::tests::any_vectors;
    use super::*;
    use crate::id::PointId;

    proptest! {
        #[test]
        fn a_point_comes_back_written_read_and_found(
            id in any::<u64>(), vectors in any_vectors(), payload in any_payload(), score in -9.0_f32..9.0,
        ) {
            let point = Point { id: PointId::Number(id), vectors, payload };
            let written = point_to_proto(point.clone()).unwrap();
            prop_assert_eq!(point_from_proto(written), Ok(point.clone()));
            let read = retrieved_to_proto(point.clone()).unwrap();
            prop_assert_eq!(retrieved_from_proto(read), Ok(point.clone()));
            let found = ScoredPoint { score, point: point.clone() };
            prop_assert_eq!(scored_from_proto(scored_to_proto(found.clone()).unwrap()), Ok(found));
            let changed = PointVectors { id: point.id, vectors: point.vectors };
            let sent = point_vectors_to_proto(changed.clone()).unwrap();
            prop_assert_eq!(point_vectors_from_proto(sent), Ok(changed));
        }
    }

    #[test]
    fn a_facet_hit_comes_back() {
        for value in [json!("Drama"), json!(-3), json!(true)] {
            let hit = FacetHit { value, count: 3 };
            assert_eq!(facet_hit_from_proto(facet_hit_to_proto(hit.clone()).unwrap()), Ok(hit));
        }
        let hit = FacetHit { value: json!(0.5), count: 1 };
        assert!(facet_hit_to_proto(hit).unwrap_err().to_string().contains("0.5"));
    }
}
