//! Writing and reading points by id.

use serde_json::json;

use super::{
    COLLECTION, FIRST, SECOND, made, matching, point, refused, schema, uuid, without_second, write,
};
use crate::id::PointId;
use crate::store::{Point, PointVectors, Search, Selection, Store, StoreError, Vectors};

async fn read(store: &dyn Store, ids: &[PointId]) -> Vec<Option<Point>> {
    store.read(COLLECTION, ids, &Selection::all()).await.expect("points are read")
}

pub(super) async fn an_empty_collection_answers_everything(store: &dyn Store) {
    made(store).await;
    assert_eq!(store.count(COLLECTION, None).await.unwrap(), 0);
    assert_eq!(read(store, &[]).await, []);
    assert_eq!(read(store, &[1.into()]).await, [None]);
    assert_eq!(matching(store, None).await, []);
    let search = Search::new(FIRST, vec![1.0; 4], 5);
    assert_eq!(store.search(COLLECTION, search).await.unwrap(), []);
    assert_eq!(store.facet(COLLECTION, "genre", None, 5).await.unwrap(), []);
    write(store, &[]).await;
    store.update_vectors(COLLECTION, Vec::new()).await.unwrap();
    store.set_payload(COLLECTION, &[], Default::default()).await.unwrap();
    store.delete(COLLECTION, &[]).await.unwrap();
    store.delete(COLLECTION, &[1.into()]).await.expect("deleting what is not there is no fault");
    store.optimize(COLLECTION).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(store.count(COLLECTION, None).await.unwrap(), 0);
}

pub(super) async fn reading_keeps_order_gaps_and_repetitions(store: &dyn Store) {
    made(store).await;
    let points: Vec<Point> = (0..9_u16)
        .map(|number| {
            let id =
                if number % 2 == 0 { PointId::Number(number.into()) } else { uuid(number.into()) };
            point(id, [f32::from(number); 4], json!({"number": number}))
        })
        .collect();
    write(store, &points).await;
    let asked = [8, 0, 3, 3, 5, 8, 1].map(|index: usize| points[index].id);
    let ids: Vec<PointId> = asked.into_iter().chain([PointId::Number(99), uuid(99)]).collect();
    let found = read(store, &ids).await;
    let expected: Vec<Option<Point>> =
        ids.iter().map(|id| points.iter().find(|point| point.id == *id).cloned()).collect();
    assert_eq!(found, expected);
}

pub(super) async fn a_point_comes_back_as_it_was_written(store: &dyn Store) {
    made(store).await;
    let payload = json!({
        "title": "Крылья желания · 天使の翼 · 🪽\u{200d} \"quoted\" \\ \0 end",
        "empty": "", "null": null, "true": true, "list": [1, [2.5, "x"], {"deep": {"er": []}}],
        "large": i64::MAX, "negative": i64::MIN, "fraction": 0.1, "": "a key without letters",
        "key with spaces.and[signs]": 1, "long": "é".repeat(50_000),
    });
    let points = [
        point(u64::MAX, [0.1, -0.2, 1.0e-20, 1.0e20], payload.clone()),
        without_second(point(uuid(u128::MAX), [f32::MIN_POSITIVE, 0.0, -0.0, 3.0], payload)),
        Point { id: 0.into(), vectors: Vectors::new(), payload: Default::default() },
    ];
    write(store, &points).await;
    let expected: Vec<Option<Point>> = points.iter().cloned().map(Some).collect();
    let ids = points.each_ref().map(|point| point.id);
    assert_eq!(read(store, &ids).await, expected);
    store.optimize(COLLECTION).await.unwrap();
    assert_eq!(read(store, &ids).await, expected);
}

/// Qdrant's protocol has signed integers only, so a backend over it cannot keep the largest ones. It
/// must not change them silently.
pub(super) async fn integers_too_large_for_the_protocol_are_kept_or_refused(store: &dyn Store) {
    made(store).await;
    let good = point(1, [1.0; 4], json!({"stock": 1}));
    write(store, std::slice::from_ref(&good)).await;
    let large = point(2, [1.0; 4], json!({"stock": u64::MAX}));
    match store.upsert(COLLECTION, vec![point(3, [1.0; 4], json!({})), large.clone()]).await {
        Ok(()) => assert_eq!(read(store, &[2.into()]).await, [Some(large.clone())]),
        refusal => {
            refused(refusal, &["point 2 ", "stock", "18446744073709551615"]);
            assert_eq!(
                read(store, &[2.into(), 3.into()]).await,
                [None, None],
                "nothing is written"
            );
        }
    }
    match store.set_payload(COLLECTION, &[1.into()], large.payload.clone()).await {
        Ok(()) => {
            let expected = Point { payload: large.payload, ..good };
            assert_eq!(read(store, &[1.into()]).await, [Some(expected)]);
        }
        refusal => {
            refused(refusal, &["stock", "18446744073709551615"]);
            assert_eq!(read(store, &[1.into()]).await, [Some(good)]);
        }
    }
}

pub(super) async fn writing_twice_is_writing_once(store: &dyn Store) {
    made(store).await;
    let points: Vec<Point> =
        (0..20).map(|id| point(id as u64, [id as f32; 4], json!({"genre": "Drama"}))).collect();
    for _ in 0..2 {
        write(store, &points).await;
    }
    let latest = point(3, [9.0; 4], json!({"genre": "Comedy"}));
    let twice = [point(3, [8.0; 4], json!({"genre": "War"})), latest.clone()];
    write(store, &twice).await;
    assert_eq!(store.count(COLLECTION, None).await.unwrap(), 20);
    assert_eq!(matching(store, None).await.len(), 20);
    assert_eq!(read(store, &[3.into()]).await, [Some(latest)], "of one id the last point stays");
}

pub(super) async fn a_write_replaces_vectors_and_payload(store: &dyn Store) {
    made(store).await;
    for optimized in [false, true] {
        write(store, &[point(1, [1.0; 4], json!({"old": 1})), point(2, [1.0; 4], json!({}))]).await;
        if optimized {
            store.optimize(COLLECTION).await.unwrap();
        }
        let rewritten = without_second(point(1, [2.0; 4], json!({"new": 1})));
        write(store, std::slice::from_ref(&rewritten)).await;
        let second = point(2, [1.0; 4], json!({}));
        let found = read(store, &[1.into(), 2.into()]).await;
        assert_eq!(found, [Some(rewritten), Some(second)], "after optimize: {optimized}");
    }
}

pub(super) async fn vectors_are_added_without_touching_the_payload(store: &dyn Store) {
    made(store).await;
    let bare = Point { vectors: Vectors::new(), ..point(1, [0.0; 4], json!({"text": "kept"})) };
    write(store, &[bare.clone(), point(2, [1.0; 4], json!({"text": "also"}))]).await;
    for first in [[1.0; 4], [2.0; 4]] {
        let vectors: Vectors = [(FIRST.to_owned(), first.to_vec())].into();
        let updates =
            [1, 2].map(|id: u64| PointVectors { id: id.into(), vectors: vectors.clone() });
        store.update_vectors(COLLECTION, updates.to_vec()).await.unwrap();
        let expected = Point { vectors, ..bare.clone() };
        let found = read(store, &[1.into(), 2.into()]).await;
        assert_eq!(found[0], Some(expected));
        let other = found[1].as_ref().unwrap();
        assert_eq!(other.vectors[FIRST], first);
        assert_eq!(other.vectors[SECOND], [1.0, 1.0], "a vector that was not named stays");
        assert_eq!(other.payload["text"], "also");
        store.optimize(COLLECTION).await.unwrap();
    }
}

pub(super) async fn payload_keys_are_set_without_touching_the_rest(store: &dyn Store) {
    made(store).await;
    write(store, &[1_u64, 2, 3].map(|id| point(id, [1.0; 4], json!({"a": 1, "b": {"c": 1}}))))
        .await;
    // Null removes a key.
    let change = json!({"b": {"d": 2}, "f": 3, "a": null, "none": null});
    let ids = [PointId::Number(1), PointId::Number(3)];
    store.set_payload(COLLECTION, &ids, change.as_object().unwrap().clone()).await.unwrap();
    let found = read(store, &[1.into(), 2.into(), 3.into()]).await;
    let payloads: Vec<_> =
        found.iter().map(|point| json!(point.as_ref().unwrap().payload)).collect();
    let changed = json!({"b": {"d": 2}, "f": 3});
    assert_eq!(payloads, [changed.clone(), json!({"a": 1, "b": {"c": 1}}), changed]);
    assert!(found.iter().all(|point| point.as_ref().unwrap().vectors.len() == 2));
}

pub(super) async fn changes_of_missing_points_are_refused_whole(store: &dyn Store) {
    made(store).await;
    let there = point(1, [1.0; 4], json!({"a": 1}));
    write(store, std::slice::from_ref(&there)).await;
    let ids = [PointId::Number(1), PointId::Number(7), PointId::Number(8)];
    let vectors: Vectors = [(FIRST.to_owned(), vec![5.0; 4])].into();
    let updates = ids.map(|id| PointVectors { id, vectors: vectors.clone() }).to_vec();
    let refused = |result| match result {
        Err(StoreError::PointsMissing { first: PointId::Number(7), count: 2, .. }) => {}
        other => panic!("missing points are not reported: {other:?}"),
    };
    refused(store.update_vectors(COLLECTION, updates).await);
    let change = json!({"a": 2}).as_object().unwrap().clone();
    refused(store.set_payload(COLLECTION, &ids, change).await);
    assert_eq!(read(store, &ids).await, [Some(there), None, None], "nothing was written");
}

pub(super) async fn bad_vectors_are_refused_before_anything_is_written(store: &dyn Store) {
    made(store).await;
    let good = point(1, [1.0; 4], json!({}));
    write(store, std::slice::from_ref(&good)).await;
    let bad = [
        (FIRST, vec![1.0, f32::NAN, 0.0, 0.0], "NaN at position 1"),
        (FIRST, vec![f32::INFINITY, 0.0, 0.0, 0.0], "inf at position 0"),
        (FIRST, vec![1.0; 3], "3 components instead of 4"),
        (FIRST, Vec::new(), "0 components instead of 4"),
        ("third", vec![1.0], "no vector `third`"),
    ];
    for (name, vector, reason) in bad {
        let vectors: Vectors = [(name.to_owned(), vector)].into();
        let faulty = Point { id: uuid(77), vectors: vectors.clone(), payload: Default::default() };
        let points = vec![point(2, [1.0; 4], json!({})), faulty];
        let words = [COLLECTION, "00000000-0000-0000-0000-00000000004d", reason];
        refused(store.upsert(COLLECTION, points).await, &words);
        let updates = vec![PointVectors { id: 1.into(), vectors }];
        refused(store.update_vectors(COLLECTION, updates).await, &["point 1 ", reason]);
    }
    assert_eq!(matching(store, None).await, [good.id]);
    assert_eq!(read(store, &[good.id]).await, [Some(good)]);
}

pub(super) async fn deleted_points_are_gone(store: &dyn Store) {
    made(store).await;
    let points: Vec<Point> =
        (0..10).map(|id| point(id as u64, [id as f32; 4], json!({"genre": "Drama"}))).collect();
    write(store, &points).await;
    store.delete(COLLECTION, &[2.into(), 3.into(), 99.into()]).await.unwrap();
    assert_eq!(store.count(COLLECTION, None).await.unwrap(), 8);
    assert_eq!(read(store, &[2.into(), 4.into()]).await, [None, Some(points[4].clone())]);
    let search = Search::new(FIRST, vec![1.0; 4], 10);
    assert_eq!(store.search(COLLECTION, search).await.unwrap().len(), 8);
    assert_eq!(store.facet(COLLECTION, "genre", None, 1).await.unwrap()[0].count, 8);
    write(store, &points[2..3]).await;
    assert_eq!(
        read(store, &[2.into()]).await,
        [Some(points[2].clone())],
        "an id can be used again"
    );
}

pub(super) async fn large_batches_are_written_and_read(store: &dyn Store) {
    made(store).await;
    let number = 2_345_u64;
    let points: Vec<Point> =
        (0..number).map(|id| point(id, [id as f32, 1.0, 0.0, 0.0], json!({"year": id}))).collect();
    write(store, &points).await;
    assert_eq!(store.count(COLLECTION, None).await.unwrap(), number);
    let ids: Vec<PointId> = (0..number).rev().map(PointId::Number).collect();
    let found = read(store, &ids).await;
    assert!(found.into_iter().map(Option::unwrap).eq(points.into_iter().rev()));
    assert_eq!(store.schema(COLLECTION).await.unwrap(), schema());
}
