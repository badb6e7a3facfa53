//! From the message to the engine's filter.

use chrono::DateTime;
use prost_types::Timestamp;
use qdrant_client::qdrant;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{DatetimeRange, GeoLineString};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, DateTimeWrapper, FieldCondition, GeoBoundingBox, GeoPoint, GeoPolygon, GeoRadius,
    HasIdCondition, HasVectorCondition, IsEmptyCondition, IsNullCondition, JsonPath, Match,
    MatchExcept, MatchPhrase, MatchText, MatchTextAny, MinShould, Nested, NestedCondition, Range,
    RangeInterface, ValuesCount,
};
use serde_json::json;

use crate::filter::{Filter, FilterError};
use crate::wire::{WireError, id_from_proto};

/// The filter of a message.
///
/// # Errors
/// If it has a condition that the embedded engine does not know, or one that Qdrant refuses.
pub fn filter_from_proto(filter: qdrant::Filter) -> Result<Filter, WireError> {
    Ok(Filter::from_engine(engine_filter(filter)?)?)
}

fn condition_from_proto(condition: qdrant::Condition) -> Result<Condition, WireError> {
    Ok(match condition.condition_one_of {
        // A kind that is newer than this program arrives as nothing: leaving it out would find more
        // than was asked for.
        None => {
            return Err(WireError::Unsupported {
                what: "a condition without a known kind".to_owned(),
                hint: "; the client may be newer than this program",
            });
        }
        Some(ConditionOneOf::Field(field)) => Condition::Field(field_condition(field)?),
        Some(ConditionOneOf::IsEmpty(empty)) => {
            Condition::IsEmpty(IsEmptyCondition::from(path(&empty.key)?))
        }
        Some(ConditionOneOf::IsNull(null)) => {
            Condition::IsNull(IsNullCondition::from(path(&null.key)?))
        }
        Some(ConditionOneOf::HasId(ids)) => {
            let ids = ids.has_id.into_iter().map(|id| id_from_proto(Some(id)).map(Into::into));
            Condition::HasId(ids.collect::<Result<HasIdCondition, _>>()?)
        }
        Some(ConditionOneOf::HasVector(vector)) => {
            Condition::HasVector(HasVectorCondition { has_vector: vector.has_vector })
        }
        Some(ConditionOneOf::Filter(filter)) => Condition::Filter(engine_filter(filter)?),
        Some(ConditionOneOf::Nested(nested)) => {
            let filter = nested.filter.ok_or(missing("the filter of a nested condition"))?;
            let nested = Nested { key: path(&nested.key)?, filter: engine_filter(filter)? };
            Condition::Nested(NestedCondition::new(nested))
        }
        Some(ConditionOneOf::Slice(_)) => {
            return Err(WireError::unsupported("the filter condition `slice`"));
        }
    })
}

fn engine_filter(filter: qdrant::Filter) -> Result<qdrant_edge::Filter, WireError> {
    let qdrant::Filter { should, must, must_not, min_should } = filter;
    let min_should = match min_should {
        None => None,
        Some(min_should) => Some(MinShould {
            conditions: conditions(min_should.conditions)?.unwrap_or_default(),
            min_count: number(min_should.min_count)?,
        }),
    };
    Ok(qdrant_edge::Filter {
        should: conditions(should)?,
        min_should,
        must: conditions(must)?,
        must_not: conditions(must_not)?,
    })
}

fn conditions(list: Vec<qdrant::Condition>) -> Result<Option<Vec<Condition>>, WireError> {
    if list.is_empty() {
        return Ok(None);
    }
    list.into_iter().map(condition_from_proto).collect::<Result<_, _>>().map(Some)
}

fn field_condition(field: qdrant::FieldCondition) -> Result<FieldCondition, WireError> {
    let range = match (field.range, field.datetime_range) {
        (Some(_), Some(_)) => {
            return Err(WireError::Unsupported {
                what: format!("both `range` and `datetime_range` on {:?}", field.key),
                hint: "; write two conditions",
            });
        }
        (Some(range), None) => Some(RangeInterface::Float(Range {
            lt: range.lt.map(OrderedFloat),
            gt: range.gt.map(OrderedFloat),
            gte: range.gte.map(OrderedFloat),
            lte: range.lte.map(OrderedFloat),
        })),
        (None, Some(range)) => Some(RangeInterface::DateTime(datetime_range(range)?)),
        (None, None) => None,
    };
    Ok(FieldCondition {
        key: path(&field.key)?,
        r#match: field.r#match.map(field_match).transpose()?,
        range,
        geo_bounding_box: field.geo_bounding_box.map(bounding_box).transpose()?,
        geo_radius: field.geo_radius.map(radius).transpose()?,
        geo_polygon: field.geo_polygon.map(polygon).transpose()?,
        values_count: field.values_count.map(values_count).transpose()?,
        is_empty: field.is_empty,
        is_null: field.is_null,
    })
}

fn field_match(field_match: qdrant::Match) -> Result<Match, WireError> {
    let value = field_match.match_value.ok_or(missing("the value of a match"))?;
    Ok(match value {
        MatchValue::Keyword(text) => text.into(),
        MatchValue::Integer(number) => number.into(),
        MatchValue::Boolean(flag) => flag.into(),
        MatchValue::Text(text) => Match::Text(MatchText { text }),
        MatchValue::TextAny(text_any) => Match::TextAny(MatchTextAny { text_any }),
        MatchValue::Phrase(phrase) => Match::Phrase(MatchPhrase { phrase }),
        MatchValue::Keywords(list) => list.strings.into(),
        MatchValue::Integers(list) => list.integers.into(),
        MatchValue::ExceptKeywords(list) => Match::Except(MatchExcept::from(list.strings)),
        MatchValue::ExceptIntegers(list) => Match::Except(MatchExcept::from(list.integers)),
        MatchValue::Prefix(_) => return Err(WireError::unsupported("the match `prefix`")),
        MatchValue::Substring(_) => return Err(WireError::unsupported("the match `substring`")),
    })
}

fn datetime_range(range: DatetimeRange) -> Result<Range<DateTimeWrapper>, WireError> {
    Ok(Range {
        lt: range.lt.map(datetime).transpose()?,
        gt: range.gt.map(datetime).transpose()?,
        gte: range.gte.map(datetime).transpose()?,
        lte: range.lte.map(datetime).transpose()?,
    })
}

fn datetime(time: Timestamp) -> Result<DateTimeWrapper, WireError> {
    u32::try_from(time.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        .map(DateTimeWrapper)
        .ok_or_else(|| {
            let what = format!("the time of {} s and {} ns", time.seconds, time.nanos);
            WireError::invalid(what, "it is out of range")
        })
}

fn values_count(count: qdrant::ValuesCount) -> Result<ValuesCount, WireError> {
    Ok(ValuesCount {
        lt: count.lt.map(number).transpose()?,
        gt: count.gt.map(number).transpose()?,
        gte: count.gte.map(number).transpose()?,
        lte: count.lte.map(number).transpose()?,
    })
}

fn bounding_box(bounds: qdrant::GeoBoundingBox) -> Result<GeoBoundingBox, WireError> {
    Ok(GeoBoundingBox {
        top_left: geo_point(bounds.top_left, "the top left corner of a bounding box")?,
        bottom_right: geo_point(bounds.bottom_right, "the bottom right corner of a bounding box")?,
    })
}

fn radius(circle: qdrant::GeoRadius) -> Result<GeoRadius, WireError> {
    Ok(GeoRadius {
        center: geo_point(circle.center, "the centre of a geo radius")?,
        radius: OrderedFloat(f64::from(circle.radius)),
    })
}

/// Made by way of JSON, because the engine keeps the type of a polygon's lines to itself; its reader
/// checks the polygon as well.
fn polygon(polygon: qdrant::GeoPolygon) -> Result<GeoPolygon, WireError> {
    let exterior = polygon.exterior.ok_or(missing("the exterior of a geo polygon"))?;
    let line = |line: GeoLineString| {
        let points = line.points.into_iter();
        let points = points.map(|point| json!({"lon": point.lon, "lat": point.lat}));
        json!({"points": points.collect::<Vec<_>>()})
    };
    let mut json = json!({"exterior": line(exterior)});
    if !polygon.interiors.is_empty() {
        json["interiors"] = polygon.interiors.into_iter().map(line).collect();
    }
    serde_json::from_value(json).map_err(|error| WireError::invalid("a geo polygon", error))
}

fn geo_point(point: Option<qdrant::GeoPoint>, what: &'static str) -> Result<GeoPoint, WireError> {
    let point = point.ok_or(missing(what))?;
    GeoPoint::new(point.lon, point.lat).map_err(|error| WireError::invalid(what, error))
}

fn path(key: &str) -> Result<JsonPath, WireError> {
    key.parse().map_err(|()| FilterError::Key { key: key.to_owned() }.into())
}

fn number(number: u64) -> Result<usize, WireError> {
    usize::try_from(number).map_err(|error| WireError::invalid(number.to_string(), error))
}

fn missing(what: &'static str) -> WireError {
    WireError::Missing { what }
}
