//! Searches, pages and facets.

use serde_json::json;

use super::{
    COLLECTION, FIRST, SECOND, made, matching, point, refused, uuid, without_second, write,
};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{PayloadSelection, Point, Scroll, Search, Selection, Store, VectorSelection};

/// Twelve points whose first vector grows with the id, half with integer ids, half with UUIDs.
async fn filled(store: &dyn Store) -> Vec<Point> {
    made(store).await;
    let points: Vec<Point> = (0..12_u16)
        .map(|number| {
            let id = if number < 6 { PointId::Number(number.into()) } else { uuid(number.into()) };
            let genre = ["Drama", "Comedy", "War"][usize::from(number % 3)];
            let payload = json!({"genre": genre, "year": 1990 + number, "flag": number % 2 == 0});
            point(id, [f32::from(number), 1.0, 0.0, 0.0], payload)
        })
        .collect();
    write(store, &points).await;
    points
}

async fn search(store: &dyn Store, search: Search) -> Vec<(PointId, f32)> {
    let found = store.search(COLLECTION, search).await.expect("a search is answered");
    found.into_iter().map(|scored| (scored.point.id, scored.score)).collect()
}

fn along(limit: usize) -> Search {
    Search::new(FIRST, vec![1.0, 0.5, 0.0, 0.0], limit)
}

pub(super) async fn the_nearest_come_first(store: &dyn Store) {
    let points = filled(store).await;
    let expected: Vec<(PointId, f32)> = (0..12)
        .rev()
        .map(|number: u16| (points[usize::from(number)].id, f32::from(number) + 0.5))
        .collect();
    assert_eq!(search(store, along(12)).await, expected, "the largest dot product first");
    // The second vector has the Euclidean distance: the smallest first.
    let nearest = search(store, Search::new(SECOND, vec![3.0, 1.0], 3)).await;
    assert_eq!(nearest[0], (points[3].id, 0.0));
    assert_eq!((nearest[1].1, nearest[2].1), (1.0, 1.0));
}

pub(super) async fn limits_offsets_and_thresholds_hold(store: &dyn Store) {
    let points = filled(store).await;
    let all = search(store, along(100)).await;
    assert_eq!(all.len(), 12);
    assert_eq!(search(store, along(0)).await, []);
    assert_eq!(search(store, along(5)).await, all[..5]);
    assert_eq!(search(store, Search { offset: 4, ..along(5) }).await, all[4..9]);
    assert_eq!(search(store, Search { offset: 12, ..along(5) }).await, []);
    let least = Search { score_threshold: Some(9.0), ..along(100) };
    assert_eq!(search(store, least).await, all[..3], "a threshold of a similarity is a minimum");
    let most = Search { score_threshold: Some(0.5), ..Search::new(SECOND, vec![3.0, 1.0], 100) };
    assert_eq!(search(store, most).await, [(points[3].id, 0.0)], "of a distance it is a maximum");
}

pub(super) async fn points_without_the_vector_are_not_found(store: &dyn Store) {
    made(store).await;
    let bare = without_second(point(2, [1.0; 4], json!({})));
    write(store, &[point(1, [1.0; 4], json!({})), bare]).await;
    for _ in 0..2 {
        let found = search(store, Search::new(SECOND, vec![1.0, 1.0], 5)).await;
        assert_eq!(found, [(PointId::Number(1), 0.0)]);
        assert_eq!(search(store, Search::new(FIRST, vec![1.0; 4], 5)).await.len(), 2);
        let unencoded = matching(store, Some(Filter::without_vector(SECOND))).await;
        assert_eq!(unencoded, [PointId::Number(2)]);
        let encoded = matching(store, Some(Filter::with_vector(SECOND))).await;
        assert_eq!(encoded, [PointId::Number(1)]);
        store.optimize(COLLECTION).await.unwrap();
    }
}

pub(super) async fn selections_return_what_was_asked(store: &dyn Store) {
    made(store).await;
    let payload = json!({"a": 1, "b": {"c": 2, "d": 3}});
    let whole = point(1, [1.0, 2.0, 3.0, 4.0], payload);
    let bare = without_second(point(2, [0.0; 4], json!({})));
    write(store, &[whole.clone(), bare.clone()]).await;
    let part = |vectors: &[&str], payload: serde_json::Value| Point {
        id: whole.id,
        vectors: vectors
            .iter()
            .map(|name| (name.to_string(), whole.vectors[*name].clone()))
            .collect(),
        payload: payload.as_object().unwrap().clone(),
    };
    let keys =
        |keys: &[&str]| PayloadSelection::Include(keys.iter().map(|key| key.to_string()).collect());
    let check = async |selection: Selection, expected: Point| {
        let read = store.read(COLLECTION, &[1.into()], &selection).await.unwrap();
        assert_eq!(read, [Some(expected.clone())], "read with {selection:?}");
        let search = Search { selection: selection.clone(), ..Search::new(FIRST, vec![1.0; 4], 1) };
        let found = store.search(COLLECTION, search).await.unwrap();
        assert_eq!(found[0].point, expected, "search with {selection:?}");
        let scroll = Scroll { filter: None, from: None, limit: 1, selection: selection.clone() };
        let page = store.scroll(COLLECTION, scroll).await.unwrap();
        assert_eq!(page.points, [expected], "scroll with {selection:?}");
    };
    check(Selection::none(), part(&[], json!({}))).await;
    check(Selection::all(), whole.clone()).await;
    check(Selection::payload(), part(&[], json!({"a": 1, "b": {"c": 2, "d": 3}}))).await;
    check(Selection::vectors([SECOND]), part(&[SECOND], json!({}))).await;
    check(Selection::vectors([SECOND, FIRST]), part(&[FIRST, SECOND], json!({}))).await;
    check(Selection::vectors([] as [&str; 0]), part(&[], json!({}))).await;
    let nested = Selection { vectors: VectorSelection::None, payload: keys(&["b.c", "none"]) };
    check(nested, part(&[], json!({"b": {"c": 2}}))).await;
    let without =
        |keys: &[&str]| PayloadSelection::Exclude(keys.iter().map(|key| key.to_string()).collect());
    let rest = Selection { vectors: VectorSelection::None, payload: without(&["b.c", "none"]) };
    check(rest, part(&[], json!({"a": 1, "b": {"d": 3}}))).await;
    let all = Selection { vectors: VectorSelection::None, payload: without(&[]) };
    check(all, part(&[], json!({"a": 1, "b": {"c": 2, "d": 3}}))).await;
    let nothing = Selection { vectors: VectorSelection::All, payload: keys(&[]) };
    check(nothing, part(&[FIRST, SECOND], json!({}))).await;
    // A vector that one point lacks is left out of that point only.
    let read = store.read(COLLECTION, &[2.into()], &Selection::all()).await.unwrap();
    assert_eq!(read, [Some(bare)]);
}

pub(super) async fn bad_searches_are_refused(store: &dyn Store) {
    filled(store).await;
    let check = async |search: Search, words: &[&str]| {
        refused(store.search(COLLECTION, search).await, words);
    };
    check(Search::new("third", vec![1.0; 4], 1), &["third", FIRST, SECOND]).await;
    check(Search::new(FIRST, vec![1.0; 5], 1), &["5 components instead of 4"]).await;
    check(Search::new(FIRST, vec![f32::NAN; 4], 1), &["NaN at position 0"]).await;
    check(along(usize::MAX), &["limit", "maximum_results"]).await;
    check(Search { offset: usize::MAX, ..along(5) }, &["offset", "maximum_results"]).await;
    let selection = Selection::vectors(["third"]);
    check(Search { selection: selection.clone(), ..along(1) }, &["third"]).await;
    refused(store.read(COLLECTION, &[1.into()], &selection).await, &["third"]);
    let keys = PayloadSelection::Include(vec!["a[".to_owned()]);
    let selection = Selection { payload: keys, ..Selection::none() };
    refused(store.read(COLLECTION, &[1.into()], &selection).await, &["a[", "payload key"]);
    let scroll = Scroll { filter: None, from: None, limit: 0, selection: Selection::none() };
    refused(store.scroll(COLLECTION, scroll).await, &["at least 1"]);
    refused(store.facet(COLLECTION, "unindexed", None, 1).await, &["unindexed", "index"]);
}

pub(super) async fn pages_cover_every_point_once_in_order(store: &dyn Store) {
    let points = filled(store).await;
    let mut expected: Vec<PointId> = points.iter().map(|point| point.id).collect();
    expected.sort();
    assert_eq!(matching(store, None).await, expected, "integers before UUIDs, each ascending");
    store.optimize(COLLECTION).await.unwrap();
    assert_eq!(matching(store, None).await, expected);
    // The last page that is exactly full has no next one.
    let selection = Selection::none();
    let scroll = Scroll { filter: None, from: None, limit: 12, selection: selection.clone() };
    assert_eq!(store.scroll(COLLECTION, scroll).await.unwrap().next, None);
    let scroll = Scroll { filter: None, from: Some(expected[7]), limit: 3, selection };
    let page = store.scroll(COLLECTION, scroll).await.unwrap();
    let ids: Vec<PointId> = page.points.iter().map(|point| point.id).collect();
    assert_eq!((ids.as_slice(), page.next), (&expected[7..10], Some(expected[10])));
}

pub(super) async fn facets_count_values(store: &dyn Store) {
    filled(store).await;
    write(store, &[point(50, [0.0; 4], json!({"genre": ["Drama", "War"], "year": 1990}))]).await;
    for _ in 0..2 {
        let hits = async |key: &str, filter: Option<&Filter>, limit: usize| {
            let hits =
                store.facet(COLLECTION, key, filter, limit).await.expect("a facet is counted");
            hits.into_iter().map(|hit| (hit.value, hit.count)).collect::<Vec<_>>()
        };
        let all = [(json!("Drama"), 5), (json!("War"), 5), (json!("Comedy"), 4)];
        assert_eq!(hits("genre", None, 9).await, all);
        assert_eq!(hits("genre", None, 1).await, all[..1]);
        assert_eq!(hits("year", None, 1).await, [(json!(1990), 2)]);
        let dramas = Filter::equals("genre", "Drama").unwrap();
        assert_eq!(hits("genre", Some(&dramas), 9).await, [(json!("Drama"), 5), (json!("War"), 1)]);
        store.optimize(COLLECTION).await.unwrap();
    }
}

/// Enough points for an index to be built where the backend was told to build one early.
pub(super) async fn an_indexed_collection_finds_what_an_exact_search_finds(store: &dyn Store) {
    made(store).await;
    let points: Vec<Point> = (0..3_000_u64)
        .map(|id| {
            let angle = id as f32 * 0.37;
            let vector = [angle.sin(), angle.cos(), (angle * 0.61).sin(), (angle * 0.83).cos()];
            point(id, vector, json!({"genre": if id % 2 == 0 { "Drama" } else { "War" }}))
        })
        .collect();
    write(store, &points).await;
    store.optimize(COLLECTION).await.unwrap();
    let (mut shared, mut asked) = (0, 0);
    for (number, query) in points.iter().step_by(50).enumerate() {
        let name = [FIRST, SECOND][number % 2];
        for filter in [None, Some(Filter::equals("genre", "War").unwrap())] {
            let near = Search { filter, ..Search::new(name, query.vectors[name].clone(), 10) };
            let exact = search(store, Search { exact: true, ..near.clone() }).await;
            let found = search(store, near).await;
            assert_eq!(found.len(), 10);
            // More is nearer for the first vector, less for the second.
            let sign = if name == FIRST { 1.0 } else { -1.0 };
            assert!(found.is_sorted_by(|left, right| sign * left.1 >= sign * right.1));
            asked += 10;
            shared += found.iter().filter(|hit| exact.contains(hit)).count();
        }
    }
    let recall = shared as f64 / f64::from(asked);
    assert!(recall >= 0.9, "the index finds {recall} of the nearest ten");
}
