//! Writes that take effect only where a filter holds.

use futures::future::join_all;
use serde_json::{Value, json};

use super::{COLLECTION, made, matching, point, write};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{Payload, Selection, Store};

/// Claims that are made at the same time.
const CLAIMS: i64 = 16;

fn filter(json: Value) -> Filter {
    Filter::from_json(json).expect("a filter")
}

fn payload(json: Value) -> Payload {
    json.as_object().expect("an object").clone()
}

async fn payloads(store: &dyn Store, ids: &[PointId]) -> Vec<Option<Value>> {
    let points = store.read(COLLECTION, ids, &Selection::payload()).await.expect("points are read");
    points.into_iter().map(|point| Some(Value::Object(point?.payload))).collect()
}

pub(super) async fn changes_touch_only_what_matches(store: &dyn Store) {
    made(store).await;
    let points = [1990, 2000, 2010].map(|year| point(year, [1.0; 4], json!({"year": year})));
    write(store, &points).await;
    let ids = [PointId::Number(1990), 2000.into(), 2010.into(), 7.into()];
    let young = filter(json!({"must": [{"key": "year", "range": {"gte": 1995}}]}));
    // A point that matches and is not named stays as it is, one that is named and missing is no fault.
    let change = payload(json!({"genre": "Drama", "year": 1}));
    for _ in 0..2 {
        let named = [ids[0], ids[1], ids[3]];
        store.set_payload_where(COLLECTION, &named, &young, change.clone()).await.unwrap();
    }
    let expected = [
        Some(json!({"year": 1990})),
        Some(json!({"year": 1, "genre": "Drama"})),
        Some(json!({"year": 2010})),
        None,
    ];
    assert_eq!(payloads(store, &ids).await, expected);
    // The change is seen by the filters that follow, and a null removes a key here too.
    let changed = filter(json!({"must": [{"key": "genre", "match": {"value": "Drama"}}]}));
    let removal = payload(json!({"genre": null}));
    store.set_payload_where(COLLECTION, &ids, &changed, removal).await.unwrap();
    assert_eq!(payloads(store, &ids[1..2]).await, [Some(json!({"year": 1}))]);
    let empty = filter(json!({"must": [{"is_empty": {"key": "genre"}}]}));
    assert_eq!(matching(store, Some(empty)).await.len(), 3);
    store.set_payload_where(COLLECTION, &[], &changed, payload(json!({"a": 1}))).await.unwrap();
}

pub(super) async fn deletions_touch_only_what_matches(store: &dyn Store) {
    made(store).await;
    let points = [1990, 2000, 2010].map(|year| point(year, [1.0; 4], json!({"year": year})));
    write(store, &points).await;
    let young = filter(json!({"must": [{"key": "year", "range": {"gte": 1995}}]}));
    let named = [PointId::Number(1990), 2000.into(), 7.into()];
    store.delete_where(COLLECTION, &named, &young).await.unwrap();
    store.delete_where(COLLECTION, &[], &young).await.unwrap();
    assert_eq!(matching(store, None).await, [PointId::Number(1990), 2010.into()]);
}

/// What a lease is made of: whoever changes the point first has it, and everyone reads who that is.
pub(super) async fn of_many_claims_one_wins(store: &dyn Store) {
    made(store).await;
    let id = PointId::Number(1);
    for round in 0..5 {
        write(store, &[point(1, [1.0; 4], json!({"round": round}))]).await;
        let free = filter(json!({"must": [{"is_empty": {"key": "year"}}]}));
        let claims = (0..CLAIMS).map(|claim| {
            let free = &free;
            async move {
                let mine = payload(json!({"year": claim}));
                store.set_payload_where(COLLECTION, &[id], free, mine).await.unwrap();
                let holder = payloads(store, &[id]).await[0].clone().unwrap()["year"].clone();
                (holder == json!(claim), holder)
            }
        });
        let seen = join_all(claims).await;
        assert_eq!(seen.iter().filter(|(won, _)| *won).count(), 1, "{seen:?}");
        assert!(seen.iter().all(|(_, holder)| *holder == seen[0].1), "{seen:?}");
    }
}
