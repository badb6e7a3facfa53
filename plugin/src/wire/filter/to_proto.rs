//! From the engine's filter to the message.

use prost_types::Timestamp;
use qdrant_client::qdrant;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{
    DatetimeRange, GeoLineString, HasIdCondition, HasVectorCondition, IsEmptyCondition,
    IsNullCondition, MinShould, NestedCondition, RepeatedIntegers, RepeatedStrings,
};
use qdrant_edge::{
    AnyVariants, Condition, DateTimeWrapper, FieldCondition, GeoPoint, GeoPolygon, Match,
    RangeInterface, ValueVariants,
};

use crate::filter::Filter;
use crate::wire::{WireError, id_to_proto};

/// The message of a filter.
///
/// # Errors
/// If it has a condition that only exists inside the engine.
pub fn filter_to_proto(filter: &Filter) -> Result<qdrant::Filter, WireError> {
    engine_filter(filter.engine())
}

fn condition_to_proto(condition: &Condition) -> Result<qdrant::Condition, WireError> {
    let kind = match condition {
        Condition::Field(field) => ConditionOneOf::Field(field_condition(field)),
        Condition::IsEmpty(empty) => {
            ConditionOneOf::IsEmpty(IsEmptyCondition { key: empty.is_empty.key.to_string() })
        }
        Condition::IsNull(null) => {
            ConditionOneOf::IsNull(IsNullCondition { key: null.is_null.key.to_string() })
        }
        Condition::HasId(ids) => {
            let ids = ids.has_id.iter().map(|id| id_to_proto((*id).into()));
            ConditionOneOf::HasId(HasIdCondition { has_id: ids.collect() })
        }
        Condition::HasVector(vector) => {
            ConditionOneOf::HasVector(HasVectorCondition { has_vector: vector.has_vector.clone() })
        }
        Condition::Nested(nested) => ConditionOneOf::Nested(NestedCondition {
            key: nested.raw_key().to_string(),
            filter: Some(engine_filter(nested.filter())?),
        }),
        Condition::Filter(filter) => ConditionOneOf::Filter(engine_filter(filter)?),
        Condition::CustomIdChecker(_) => {
            return Err(WireError::unsupported("a condition made of the engine's own code"));
        }
    };
    Ok(qdrant::Condition { condition_one_of: Some(kind) })
}

fn engine_filter(filter: &qdrant_edge::Filter) -> Result<qdrant::Filter, WireError> {
    let min_should = match &filter.min_should {
        None => None,
        Some(min_should) => Some(MinShould {
            conditions: conditions(Some(&min_should.conditions))?,
            min_count: min_should.min_count as u64,
        }),
    };
    Ok(qdrant::Filter {
        should: conditions(filter.should.as_ref())?,
        must: conditions(filter.must.as_ref())?,
        must_not: conditions(filter.must_not.as_ref())?,
        min_should,
    })
}

fn conditions(list: Option<&Vec<Condition>>) -> Result<Vec<qdrant::Condition>, WireError> {
    list.into_iter().flatten().map(condition_to_proto).collect()
}

fn field_condition(field: &FieldCondition) -> qdrant::FieldCondition {
    let (range, datetime_range) = match &field.range {
        None => (None, None),
        Some(RangeInterface::Float(range)) => {
            let range = qdrant::Range {
                lt: range.lt.map(|bound| bound.0),
                gt: range.gt.map(|bound| bound.0),
                gte: range.gte.map(|bound| bound.0),
                lte: range.lte.map(|bound| bound.0),
            };
            (Some(range), None)
        }
        Some(RangeInterface::DateTime(range)) => {
            let range = DatetimeRange {
                lt: range.lt.map(timestamp),
                gt: range.gt.map(timestamp),
                gte: range.gte.map(timestamp),
                lte: range.lte.map(timestamp),
            };
            (None, Some(range))
        }
    };
    qdrant::FieldCondition {
        key: field.key.to_string(),
        r#match: field.r#match.as_ref().map(field_match),
        range,
        geo_bounding_box: field.geo_bounding_box.map(|bounds| qdrant::GeoBoundingBox {
            top_left: Some(geo_point(bounds.top_left)),
            bottom_right: Some(geo_point(bounds.bottom_right)),
        }),
        geo_radius: field.geo_radius.map(|circle| qdrant::GeoRadius {
            center: Some(geo_point(circle.center)),
            radius: circle.radius.0 as f32,
        }),
        values_count: field.values_count.map(|count| qdrant::ValuesCount {
            lt: count.lt.map(|bound| bound as u64),
            gt: count.gt.map(|bound| bound as u64),
            gte: count.gte.map(|bound| bound as u64),
            lte: count.lte.map(|bound| bound as u64),
        }),
        geo_polygon: field.geo_polygon.as_ref().map(geo_polygon),
        datetime_range,
        is_empty: field.is_empty,
        is_null: field.is_null,
    }
}

fn field_match(field_match: &Match) -> qdrant::Match {
    let strings = |strings: Vec<String>| RepeatedStrings { strings };
    let integers = |integers: Vec<i64>| RepeatedIntegers { integers };
    let value = match field_match {
        Match::Value(value) => match &value.value {
            ValueVariants::String(text) => MatchValue::Keyword(text.clone()),
            ValueVariants::Integer(number) => MatchValue::Integer(*number),
            ValueVariants::Bool(flag) => MatchValue::Boolean(*flag),
        },
        Match::Text(text) => MatchValue::Text(text.text.clone()),
        Match::TextAny(text) => MatchValue::TextAny(text.text_any.clone()),
        Match::Phrase(phrase) => MatchValue::Phrase(phrase.phrase.clone()),
        Match::Any(any) => match &any.any {
            AnyVariants::Strings(list) => {
                MatchValue::Keywords(strings(list.iter().cloned().collect()))
            }
            AnyVariants::Integers(list) => {
                MatchValue::Integers(integers(list.iter().copied().collect()))
            }
        },
        Match::Except(except) => match &except.except {
            AnyVariants::Strings(list) => {
                MatchValue::ExceptKeywords(strings(list.iter().cloned().collect()))
            }
            AnyVariants::Integers(list) => {
                MatchValue::ExceptIntegers(integers(list.iter().copied().collect()))
            }
        },
    };
    qdrant::Match { match_value: Some(value) }
}

fn geo_polygon(polygon: &GeoPolygon) -> qdrant::GeoPolygon {
    let line = |points: &[GeoPoint]| GeoLineString {
        points: points.iter().copied().map(geo_point).collect(),
    };
    qdrant::GeoPolygon {
        exterior: Some(line(&polygon.exterior.points)),
        interiors: polygon.interiors.iter().flatten().map(|hole| line(&hole.points)).collect(),
    }
}

fn geo_point(point: GeoPoint) -> qdrant::GeoPoint {
    qdrant::GeoPoint { lon: point.lon.0, lat: point.lat.0 }
}

fn timestamp(time: DateTimeWrapper) -> Timestamp {
    // A leap second is written as more than a whole second's nanoseconds and read back as such.
    Timestamp { seconds: time.0.timestamp(), nanos: time.0.timestamp_subsec_nanos() as i32 }
}
