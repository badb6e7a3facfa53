//! The unnamed vector and the distances: what collections made by other programs have.

use serde_json::json;

use super::{COLLECTION, refused};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{
    CollectionSchema, Distance, Point, PointVectors, Search, Selection, Store, VectorSchema,
};

/// The name of the unnamed vector.
const UNNAMED: &str = "";

fn schema(distance: Distance) -> CollectionSchema {
    let vector = VectorSchema { dimension: 2, distance, indexed: true };
    CollectionSchema { vectors: [(UNNAMED.to_owned(), vector)].into(), ..Default::default() }
}

fn point(id: u64, vector: [f32; 2]) -> Point {
    let payload = json!({"id": id}).as_object().cloned().unwrap_or_default();
    Point { id: id.into(), vectors: [(UNNAMED.to_owned(), vector.to_vec())].into(), payload }
}

pub(super) async fn the_unnamed_vector_is_written_read_and_searched(store: &dyn Store) {
    let schema = schema(Distance::Dot);
    store.ensure(COLLECTION, &schema).await.unwrap();
    assert_eq!(store.schema(COLLECTION).await.unwrap(), schema);
    let mut points = vec![point(1, [1.0, 0.0]), point(2, [0.0, 2.0]), point(3, [3.0, 3.0])];
    points[2].vectors.clear();
    store.upsert(COLLECTION, points.clone()).await.unwrap();
    let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
    for _ in 0..2 {
        for selection in [Selection::all(), Selection::vectors([UNNAMED])] {
            let read = store.read(COLLECTION, &ids, &selection).await.unwrap();
            for (read, written) in read.into_iter().flatten().zip(&points) {
                assert_eq!((read.id, &read.vectors), (written.id, &written.vectors));
            }
        }
        let search =
            Search { selection: Selection::all(), ..Search::new(UNNAMED, vec![0.5, 1.0], 9) };
        let found = store.search(COLLECTION, search).await.unwrap();
        let scores: Vec<f32> = found.iter().map(|hit| hit.score).collect();
        assert_eq!(scores, [2.0, 0.5], "the point without the vector is not found");
        assert_eq!([&found[0].point, &found[1].point], [&points[1], &points[0]]);
        let with = store.count(COLLECTION, Some(&Filter::with_vector(UNNAMED))).await.unwrap();
        assert_eq!(with, 2);
        store.optimize(COLLECTION).await.unwrap();
    }
    let update =
        PointVectors { id: 3.into(), vectors: [(UNNAMED.to_owned(), vec![9.0, 9.0])].into() };
    store.update_vectors(COLLECTION, vec![update]).await.unwrap();
    let nearest = store.search(COLLECTION, Search::new(UNNAMED, vec![1.0, 1.0], 1)).await.unwrap();
    assert_eq!((nearest[0].point.id, nearest[0].score), (3.into(), 18.0));
    refused(store.search(COLLECTION, Search::new("named", vec![1.0, 1.0], 1)).await, &["named"]);
}

pub(super) async fn every_distance_orders_and_scores(store: &dyn Store) {
    // The scores of (1, 0), (0, 2) and (3, 3) seen from (3, 4), nearest first.
    let check = async |distance: Distance, expected: [(u64, f32); 3]| {
        store.ensure(COLLECTION, &schema(distance)).await.unwrap();
        let points = vec![point(1, [1.0, 0.0]), point(2, [0.0, 2.0]), point(3, [3.0, 3.0])];
        store.upsert(COLLECTION, points).await.unwrap();
        let search = Search::new(UNNAMED, vec![3.0, 4.0], 9);
        let found = store.search(COLLECTION, search).await.unwrap();
        let ids: Vec<PointId> = found.iter().map(|hit| hit.point.id).collect();
        assert_eq!(ids, expected.map(|(id, _)| PointId::Number(id)), "{distance:?}");
        for (hit, (_, score)) in found.iter().zip(expected) {
            // The components are small integers; only roots and divisions round.
            assert!((hit.score - score).abs() < 1e-5, "{distance:?}: {} for {score}", hit.score);
        }
        store.delete_collection(COLLECTION).await.unwrap();
    };
    check(Distance::Dot, [(3, 21.0), (2, 8.0), (1, 3.0)]).await;
    check(Distance::Cosine, [(3, 0.989_949_5), (2, 0.8), (1, 0.6)]).await;
    check(Distance::Euclid, [(3, 1.0), (2, 3.605_551_2), (1, 4.472_136)]).await;
    check(Distance::Manhattan, [(3, 1.0), (2, 5.0), (1, 6.0)]).await;
}
