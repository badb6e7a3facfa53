//! Filters in Qdrant's own JSON.

use serde_json::{Value, json};

use super::{COLLECTION, FIRST, SECOND, made, matching, point, uuid, without_second, write};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{Search, Store};

/// Five points with all kinds of payload; the fifth has a UUID and lacks the second vector.
async fn filled(store: &dyn Store) {
    made(store).await;
    let fifth = json!({"genre": "noir · 黒", "year": 1946, "sold": 0.5});
    let points = [
        point(1, [1.0; 4], json!({"genre": "Drama", "year": 1995, "sold": 12.5, "new": true})),
        point(2, [2.0; 4], json!({"genre": ["Drama", "War"], "year": 1987, "sold": null})),
        point(
            3,
            [3.0; 4],
            json!({"genre": "Comedy", "year": 2001, "cast": [
            {"name": "Ingrid", "lead": true}, {"name": "Bruno", "lead": false}]}),
        ),
        point(
            4,
            [4.0; 4],
            json!({"year": 1995, "seller": {"city": "Zürich", "tags": []}, "cast": [
            {"name": "Ingrid", "lead": false}, {"name": "Bruno", "lead": true}]}),
        ),
        without_second(point(uuid(5), [5.0; 4], fifth)),
    ];
    write(store, &points).await;
}

/// The ids that a filter selects; 5 stands for the UUID.
async fn selected(store: &dyn Store, filter: Value) -> Vec<u64> {
    let filter = Filter::from_json(filter).expect("the filter is Qdrant's");
    let number = |id: PointId| match id {
        PointId::Number(number) => number,
        PointId::Uuid(uuid) => uuid.as_u128() as u64,
    };
    let ids: Vec<u64> =
        matching(store, Some(filter.clone())).await.into_iter().map(number).collect();
    let count = store.count(COLLECTION, Some(&filter)).await.expect("points are counted");
    assert_eq!(count as usize, ids.len(), "count and scroll agree on {}", filter.to_json());
    ids
}

pub(super) async fn every_condition_selects_its_points(store: &dyn Store) {
    filled(store).await;
    let key = |key: &str, kind: &str, value: Value| json!({"key": key, kind: value});
    let must = |condition: Value| json!({"must": [condition]});
    let genre = |value: &str| key("genre", "match", json!({"value": value}));
    // The second round runs on what optimising made of the collection.
    for _ in 0..2 {
        let check = async |filter: Value, expected: &[u64]| {
            let found = selected(store, filter.clone()).await;
            assert_eq!(found, expected, "{filter}");
        };
        check(json!({}), &[1, 2, 3, 4, 5]).await;
        check(must(genre("Drama")), &[1, 2]).await;
        check(must(genre("drama")), &[]).await;
        check(must(genre("noir · 黒")), &[5]).await;
        check(json!({"must_not": [genre("Drama")]}), &[3, 4, 5]).await;
        check(json!({"should": [genre("War"), genre("Comedy")]}), &[2, 3]).await;
        check(json!({"must": [genre("Drama"), genre("War")]}), &[2]).await;
        check(json!({"must": genre("War")}), &[2]).await;
        check(
            json!({"min_should": {"min_count": 2, "conditions": [
            genre("Drama"), genre("War"), genre("Comedy")]}}),
            &[2],
        )
        .await;
        check(must(key("genre", "match", json!({"any": ["War", "Comedy"]}))), &[2, 3]).await;
        check(must(key("genre", "match", json!({"except": ["Drama"]}))), &[2, 3, 5]).await;
        check(must(key("year", "match", json!({"value": 1995}))), &[1, 4]).await;
        check(must(key("new", "match", json!({"value": true}))), &[1]).await;
        check(must(key("year", "range", json!({"gte": 1987, "lt": 1995}))), &[2]).await;
        check(must(key("sold", "range", json!({"gt": 0.4}))), &[1, 5]).await;
        check(must(key("seller.city", "match", json!({"value": "Zürich"}))), &[4]).await;
        check(must(key("cast[].name", "match", json!({"value": "Ingrid"}))), &[3, 4]).await;
        check(must(key("genre", "values_count", json!({"gt": 1}))), &[2]).await;
        check(
            must(json!({"nested": {"key": "cast", "filter": {"must": [
                key("name", "match", json!({"value": "Ingrid"})),
                key("lead", "match", json!({"value": true})),
            ]}}})),
            &[3],
        )
        .await;
        check(must(json!({"is_empty": {"key": "genre"}})), &[4]).await;
        check(must(json!({"is_null": {"key": "sold"}})), &[2]).await;
        let id = "00000000-0000-0000-0000-000000000005";
        check(must(json!({"has_id": [3, 99, id]})), &[3, 5]).await;
        check(json!({"must_not": [{"has_id": [3, id]}]}), &[1, 2, 4]).await;
        check(must(json!({"has_vector": SECOND})), &[1, 2, 3, 4]).await;
        check(
            json!({"must": [genre("Drama")], "must_not": [genre("War")], "should": [
            {"must": [key("year", "match", json!({"value": 1995}))]}]}),
            &[1],
        )
        .await;
        store.optimize(COLLECTION).await.unwrap();
    }
}

pub(super) async fn filters_hold_in_search_scroll_and_facet(store: &dyn Store) {
    filled(store).await;
    let dramas = Filter::equals("genre", "Drama").unwrap();
    let unseen = dramas.clone().and(Filter::without_ids([1.into(), uuid(5)]));
    for (filter, expected) in
        [(dramas, vec![2, 1]), (unseen, vec![2]), (Filter::with_ids([]), vec![])]
    {
        let search =
            Search { filter: Some(filter.clone()), ..Search::new(FIRST, vec![1.0; 4], 10) };
        let found = store.search(COLLECTION, search).await.unwrap();
        let ids: Vec<PointId> = found.iter().map(|hit| hit.point.id).collect();
        let expected: Vec<PointId> = expected.into_iter().map(PointId::Number).collect();
        assert_eq!(ids, expected, "{}", filter.to_json());
        let years = store.facet(COLLECTION, "year", Some(&filter), 9).await.unwrap();
        assert_eq!(years.len(), expected.len());
    }
}

pub(super) async fn filters_follow_changes(store: &dyn Store) {
    filled(store).await;
    store.optimize(COLLECTION).await.unwrap();
    let war = json!({"must": [{"key": "genre", "match": {"value": "War"}}]});
    assert_eq!(selected(store, war.clone()).await, [2]);
    let change = json!({"genre": "War"}).as_object().unwrap().clone();
    store.set_payload(COLLECTION, &[3.into(), uuid(5)], change).await.unwrap();
    store.delete(COLLECTION, &[2.into()]).await.unwrap();
    assert_eq!(selected(store, war.clone()).await, [3, 5]);
    write(store, &[point(3, [1.0; 4], json!({"genre": "Peace"}))]).await;
    store.optimize(COLLECTION).await.unwrap();
    assert_eq!(selected(store, war).await, [5]);
}
