//! Filters come back from their messages, and what cannot is named.

use proptest::prelude::*;
use qdrant_client::qdrant;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use serde_json::{Value, json};

use super::*;
use crate::filter::Filter;

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("genre"),
        Just("seller.city"),
        Just("cast[].name"),
        Just("list[3]"),
        Just("\"with space\".x-y"),
    ]
    .prop_map(str::to_owned)
}

fn bounds(bound: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = Value> {
    let bounds = prop::collection::btree_map(
        prop_oneof![Just("lt"), Just("gt"), Just("lte"), Just("gte")].prop_map(str::to_owned),
        bound,
        1..4,
    );
    bounds.prop_map(|bounds| Value::Object(bounds.into_iter().collect()))
}

fn geo() -> impl Strategy<Value = Value> + Clone {
    (-180.0..180.0_f64, -90.0..90.0_f64).prop_map(|(lon, lat)| json!({"lon": lon, "lat": lat}))
}

fn line() -> impl Strategy<Value = Value> {
    prop::collection::vec(geo(), 3..6).prop_map(|mut points| {
        points.push(points[0].clone());
        json!({"points": points})
    })
}

fn field() -> impl Strategy<Value = Value> {
    let time = (0..4_000_000_000_i64, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| {
        json!(
            chrono::DateTime::from_timestamp(seconds, nanos)
                .unwrap()
                .to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
        )
    });
    let strings = || prop::collection::vec(".*", 0..4);
    let integers = || prop::collection::vec(any::<i64>(), 1..4);
    let kind = prop_oneof![
        ".*".prop_map(|text| ("match", json!({"value": text}))),
        any::<i64>().prop_map(|number| ("match", json!({"value": number}))),
        any::<bool>().prop_map(|flag| ("match", json!({"value": flag}))),
        ".*".prop_map(|text| ("match", json!({"text": text}))),
        ".*".prop_map(|text| ("match", json!({"text_any": text}))),
        ".*".prop_map(|text| ("match", json!({"phrase": text}))),
        strings().prop_map(|list| ("match", json!({"any": list}))),
        integers().prop_map(|list| ("match", json!({"any": list}))),
        strings().prop_map(|list| ("match", json!({"except": list}))),
        integers().prop_map(|list| ("match", json!({"except": list}))),
        bounds((-1e9..1e9_f64).prop_map(|bound| json!(bound))).prop_map(|range| ("range", range)),
        bounds(time).prop_map(|range| ("range", range)),
        bounds((0..1000_u32).prop_map(|bound| json!(bound)))
            .prop_map(|count| ("values_count", count)),
        (geo(), geo()).prop_map(|(top_left, bottom_right)| {
            ("geo_bounding_box", json!({"top_left": top_left, "bottom_right": bottom_right}))
        }),
        (geo(), 0.0..1e6_f32).prop_map(|(center, radius)| {
            ("geo_radius", json!({"center": center, "radius": f64::from(radius)}))
        }),
        (line(), prop::collection::vec(line(), 1..3)).prop_map(|(exterior, interiors)| {
            ("geo_polygon", json!({"exterior": exterior, "interiors": interiors}))
        }),
        line().prop_map(|exterior| ("geo_polygon", json!({"exterior": exterior}))),
        any::<bool>().prop_map(|flag| ("is_empty", json!(flag))),
        any::<bool>().prop_map(|flag| ("is_null", json!(flag))),
    ];
    (key(), kind).prop_map(|(key, (kind, value))| json!({"key": key, kind: value}))
}

fn condition() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => field(),
        1 => key().prop_map(|key| json!({"is_empty": {"key": key}})),
        1 => key().prop_map(|key| json!({"is_null": {"key": key}})),
        1 => prop::collection::vec(any::<u64>(), 0..4).prop_map(|ids| json!({"has_id": ids})),
        1 => any::<u128>()
            .prop_map(|bits| json!({"has_id": [uuid::Uuid::from_u128(bits), 7]})),
        1 => ".*".prop_map(|name| json!({"has_vector": name})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let filter = filter(inner);
        (filter, key(), any::<bool>()).prop_map(|(filter, key, nested)| {
            if nested { json!({"nested": {"key": key, "filter": filter}}) } else { filter }
        })
    })
}

fn filter(
    condition: impl Strategy<Value = Value> + Clone + 'static,
) -> impl Strategy<Value = Value> {
    let list = || prop::collection::vec(condition.clone(), 1..3);
    let parts = (
        prop::option::of(list()),
        prop::option::of(list()),
        prop::option::of(list()),
        prop::option::of((list(), 0..3_u32)),
    );
    parts.prop_map(|(must, should, must_not, min_should)| {
        let mut filter = json!({});
        for (name, list) in [("must", must), ("should", should), ("must_not", must_not)] {
            if let Some(list) = list {
                filter[name] = json!(list);
            }
        }
        if let Some((conditions, min_count)) = min_should {
            filter["min_should"] = json!({"conditions": conditions, "min_count": min_count});
        }
        filter
    })
}

proptest! {
    #[test]
    fn a_filter_comes_back(json in filter(condition().boxed())) {
        let filter = Filter::from_json(json).unwrap();
        let there = filter_to_proto(&filter).unwrap();
        prop_assert_eq!(filter_from_proto(there).unwrap(), filter);
    }
}

#[test]
fn empty_lists_are_no_lists() {
    let filter = Filter::from_json(json!({"must": [], "must_not": []})).unwrap();
    assert_eq!(filter_to_proto(&filter).unwrap(), qdrant::Filter::default());
    assert_eq!(filter_from_proto(qdrant::Filter::default()).unwrap(), Filter::default());
}

#[test]
fn what_cannot_be_converted_is_named() {
    let check = |condition: Option<ConditionOneOf>, word: &str| {
        let must = vec![qdrant::Condition { condition_one_of: condition }];
        let filter = qdrant::Filter { must, ..Default::default() };
        let error = filter_from_proto(filter).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let matching = |value: Option<MatchValue>| {
        Some(ConditionOneOf::Field(qdrant::FieldCondition {
            key: "title".to_owned(),
            r#match: Some(qdrant::Match { match_value: value }),
            ..Default::default()
        }))
    };
    check(None, "newer");
    check(Some(ConditionOneOf::Slice(qdrant::SliceCondition { total: 2, index: 1 })), "slice");
    check(matching(Some(MatchValue::Prefix("a".to_owned()))), "prefix");
    check(matching(Some(MatchValue::Substring("a".to_owned()))), "substring");
    check(matching(None), "value of a match");
    check(Some(ConditionOneOf::Nested(Default::default())), "nested condition is missing");
    check(Some(ConditionOneOf::IsNull(qdrant::IsNullCondition { key: "a[".to_owned() })), "a[");
    let bare = qdrant::FieldCondition { key: "title".to_owned(), ..Default::default() };
    check(Some(ConditionOneOf::Field(bare.clone())), "condition");
    let far = qdrant::GeoPoint { lon: 500.0, lat: 0.0 };
    let circle = qdrant::GeoRadius { center: Some(far), radius: 1.0 };
    let field = qdrant::FieldCondition { geo_radius: Some(circle), ..bare.clone() };
    check(Some(ConditionOneOf::Field(field)), "500");
    let time = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    let range = qdrant::DatetimeRange { lt: Some(time), ..Default::default() };
    let field = qdrant::FieldCondition { datetime_range: Some(range), ..bare };
    check(Some(ConditionOneOf::Field(field)), "out of range");
}
