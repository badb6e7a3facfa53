//! An existing collection serves as items and stays as it was, byte for byte.

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::embedded::{EmbeddedSettings, EmbeddedStore};
use crate::id::ItemId;
use crate::records::{self, Forecast, ITEM_VECTOR, ItemRecord};
use crate::store::{Ensured, PayloadIndex, PointVectors, Scroll, Search, VectorSelection};

const FILMS: &str = "films";
const SIDE: &str = "side";

/// A store that holds a collection of a search team, and Whyrank's view of it.
struct Team {
    store: Arc<dyn Store>,
    view: ExistingItems,
    _folder: TempDir,
}

fn settings() -> ExistingItemsSettings {
    ExistingItemsSettings {
        vector: "image".to_owned(),
        title: Some("meta.title".to_owned()),
        text: vec!["plot".to_owned()],
        attributes: vec![ExistingAttribute { key: "genres".to_owned(), label: "Genre".to_owned() }],
        statistics_collection: SIDE.to_owned(),
    }
}

async fn team() -> Team {
    let folder = tempfile::tempdir().unwrap();
    let mut embedded = EmbeddedSettings::in_folder(folder.path());
    embedded.minimum_free_bytes = 0;
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(embedded).await.unwrap());
    let image = VectorSchema { dimension: 3, distance: Distance::Cosine, indexed: true };
    let item = VectorSchema { dimension: 2, distance: Distance::Dot, indexed: false };
    let schema = CollectionSchema {
        // A vector that happens to have Whyrank's name is not the one to use.
        vectors: [("image".to_owned(), image), (ITEM_VECTOR.to_owned(), item)].into(),
        payload_indexes: [("genres".to_owned(), PayloadIndex::Keyword)].into(),
    };
    store.ensure(FILMS, &schema).await.unwrap();
    let points = (0..9_u64).map(|id| {
        let payload = json!({"meta": {"title": format!("Film {id}")}, "plot": "It rains.",
            "genres": ["Drama", if id % 2 == 0 { "War" } else { "Comedy" }], "stock": id});
        let mut vectors: Vectors = [("image".to_owned(), vec![id as f32, 1.0, 0.0])].into();
        vectors.insert(ITEM_VECTOR.to_owned(), vec![0.5, 0.5]);
        if id == 8 {
            vectors.remove("image");
        }
        Point { id: id.into(), vectors, payload: payload.as_object().cloned().unwrap() }
    });
    store.upsert(FILMS, points.collect()).await.unwrap();
    let view = ExistingItems::new(Arc::clone(&store), FILMS, &settings()).unwrap();
    Team { store, view, _folder: folder }
}

/// Everything that the collection holds, as text.
async fn bytes(store: &dyn Store) -> String {
    let selection = Selection::all();
    let scroll = Scroll { filter: None, from: None, limit: 100, selection };
    let page = store.scroll(FILMS, scroll).await.unwrap();
    let schema = store.schema(FILMS).await.unwrap();
    format!("{}\n{}", json!(page.points), json!(schema))
}

fn record(id: u64, count: u64) -> ItemRecord {
    ItemRecord {
        id: ItemId(id.into()),
        external_id: "a key of the data".to_owned(),
        title: "a title of the data".to_owned(),
        attributes: Default::default(),
        text: "a text of the data".to_owned(),
        statistics: Statistics {
            count,
            mean_rating: (count > 0).then_some(3.5),
            expected_rating: (count > 0).then_some(3.25),
            forecast: (count > 0).then_some(Forecast { rating: 7.5, version: u32::MAX }),
        },
        vector: Some(vec![9.0, 9.0, 9.0]),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: StoreResult<T>, words: &[&str]) {
    let message = result.expect_err("the call is refused").to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

#[tokio::test]
async fn the_collection_is_the_same_after_everything_that_whyrank_does() {
    let Team { store, view, .. } = &team().await;
    let before = bytes(&**store).await;

    // An import, with more collections than items, and what follows it.
    assert_eq!(view.ensure(FILMS, &records::items_schema(3)).await.unwrap(), Ensured::Existing);
    view.ensure("users", &records::users_schema(3)).await.unwrap();
    let items: Vec<Point> = (0..9).map(|id| record(id, id).to_point()).collect();
    view.upsert(FILMS, items.clone()).await.unwrap();
    view.upsert(FILMS, items).await.unwrap();
    let statistics = json!({"statistics": {"count": 70, "mean_rating": 1.5}});
    view.set_payload(FILMS, &[7.into()], statistics.as_object().cloned().unwrap()).await.unwrap();
    view.optimize(FILMS).await.unwrap();
    view.flush().await.unwrap();

    // What would change it is refused, and says why.
    let vectors: Vectors = [(ITEM_VECTOR.to_owned(), vec![1.0; 3])].into();
    let update = vec![PointVectors { id: 1.into(), vectors }];
    refused(view.update_vectors(FILMS, update).await, &[FILMS, "vectors", "search team"]);
    refused(view.delete(FILMS, &[1.into()]).await, &[FILMS, "not deleted", "search team"]);
    refused(view.delete_collection(FILMS).await, &[FILMS, "search team"]);
    let title = json!({"title": "mine"}).as_object().cloned().unwrap();
    refused(view.set_payload(FILMS, &[1.into()], title).await, &["`title`", "search team"]);

    assert_eq!(bytes(&**store).await, before);
    assert_eq!(view.collections().await.unwrap(), [FILMS, SIDE, "users"]);
    let side = Scroll { filter: None, from: None, limit: 100, selection: Selection::all() };
    let side = store.scroll(SIDE, side).await.unwrap().points;
    assert_eq!(json!(side[7].payload), json!({"count": 70, "mean_rating": 1.5}));
    assert_eq!((side.len(), json!(side[0].payload)), (9, json!({"count": 0, "mean_rating": null})));
}

#[tokio::test]
async fn reads_searches_and_pages_give_item_records() {
    let Team { view, .. } = &team().await;
    let expected = |id: u64, statistics: Statistics| ItemRecord {
        id: ItemId(id.into()),
        external_id: id.to_string(),
        title: format!("Film {id}"),
        attributes: [("Genre".to_owned(), "Drama, Comedy".to_owned())].into(),
        text: "It rains.".to_owned(),
        statistics,
        vector: None,
    };
    // Before anything is imported there are no ratings.
    let found = view.read(FILMS, &[3.into()], &Selection::payload()).await.unwrap();
    let found = ItemRecord::from_point(found[0].clone().unwrap()).unwrap();
    assert_eq!(found, expected(3, Statistics::default()));

    view.ensure(FILMS, &records::items_schema(3)).await.unwrap();
    view.upsert(FILMS, vec![record(3, 4).to_point()]).await.unwrap();
    let rated = expected(
        3,
        Statistics {
            count: 4,
            mean_rating: Some(3.5),
            expected_rating: Some(3.25),
            forecast: Some(Forecast { rating: 7.5, version: u32::MAX }),
        },
    );
    let ids = [3.into(), 99.into(), 3.into()];
    let found = view.read(FILMS, &ids, &Selection::all()).await.unwrap();
    assert!(found[1].is_none() && found[0] == found[2]);
    let item = ItemRecord::from_point(found[0].clone().unwrap()).unwrap();
    // Cosine vectors are read back with length 1.
    let length = 10.0_f32.sqrt();
    let vector = item.vector.clone().unwrap();
    assert!((vector[0] - 3.0 / length).abs() < 1e-6 && (vector[1] - 1.0 / length).abs() < 1e-6);
    assert_eq!(ItemRecord { vector: None, ..item }, rated);

    let comedies = Filter::equals("genres", "Comedy").unwrap();
    let filter = Some(comedies.clone().and(Filter::with_vector(ITEM_VECTOR)));
    let selection = Selection { vectors: VectorSelection::None, ..Selection::payload() };
    let search = Search {
        filter: filter.clone(),
        selection: selection.clone(),
        ..Search::new(ITEM_VECTOR, vec![3.0, 1.0, 0.0], 1)
    };
    let found = view.search(FILMS, search).await.unwrap();
    assert_eq!(ItemRecord::from_point(found[0].point.clone()).unwrap(), rated);
    assert!((found[0].score - 1.0).abs() < 1e-6);
    let scroll = Scroll { filter: filter.clone(), from: Some(2.into()), limit: 1, selection };
    let page = view.scroll(FILMS, scroll).await.unwrap();
    assert_eq!(ItemRecord::from_point(page.points[0].clone()).unwrap(), rated);
    assert_eq!(page.next, Some(5.into()));
    assert_eq!(view.count(FILMS, filter.as_ref()).await.unwrap(), 4);
    assert_eq!(view.count(FILMS, Some(&Filter::without_vector(ITEM_VECTOR))).await.unwrap(), 1);
    let facet = view.facet(FILMS, "genres", Some(&comedies), 9).await.unwrap();
    assert_eq!(facet[0].count, 4);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_written() {
    let Team { store, view, .. } = &team().await;
    refused(view.ensure(FILMS, &records::items_schema(4)).await, &["\"image\"", "3", "4"]);
    let other = ExistingItemsSettings { vector: "audio".to_owned(), ..settings() };
    let other = ExistingItems::new(Arc::clone(store), FILMS, &other).unwrap();
    refused(other.ensure(FILMS, &records::items_schema(3)).await, &["\"audio\"", "\"image\""]);
    let absent = ExistingItems::new(Arc::clone(store), "gone", &settings()).unwrap();
    let missing = absent.ensure("gone", &records::items_schema(3)).await;
    assert!(matches!(missing, Err(StoreError::CollectionMissing { .. })));
    assert_eq!(store.collections().await.unwrap(), [FILMS], "nothing was made");
    let itself = ExistingItemsSettings { statistics_collection: FILMS.to_owned(), ..settings() };
    refused(ExistingItems::new(Arc::clone(store), FILMS, &itself), &["itself"]);

    view.ensure(FILMS, &records::items_schema(3)).await.unwrap();
    let unknown = vec![record(1, 1).to_point(), record(77, 1).to_point()];
    match view.upsert(FILMS, unknown).await {
        Err(StoreError::PointsMissing { first, count: 1, .. }) => assert_eq!(first, 77.into()),
        other => panic!("an item that does not exist is not reported: {other:?}"),
    }
    assert_eq!(store.count(SIDE, None).await.unwrap(), 0);
    let search = Search::new("image", vec![1.0; 3], 1);
    refused(view.search(FILMS, search).await, &["`image`", "`item`"]);
    let selection = Selection::vectors(["audio"]);
    refused(view.read(FILMS, &[1.into()], &selection).await, &["`audio`"]);
}
