//! Collections: making, verifying, listing, deleting.

use serde_json::json;

use super::{COLLECTION, FIRST, SECOND, made, point, refused, schema, write};
use crate::id::PointId;
use crate::store::{
    CollectionSchema, Distance, Ensured, PayloadIndex, Scroll, Search, Selection, Store, StoreError,
};

pub(super) async fn collections_are_made_verified_and_deleted(store: &dyn Store) {
    assert!(!store.describe().is_empty());
    assert_eq!(store.collections().await.unwrap(), [] as [String; 0]);
    assert_eq!(store.ensure(COLLECTION, &schema()).await.unwrap(), Ensured::Created);
    assert_eq!(store.ensure(COLLECTION, &schema()).await.unwrap(), Ensured::Existing);
    assert_eq!(store.ensure("another", &schema()).await.unwrap(), Ensured::Created);
    assert_eq!(store.collections().await.unwrap(), ["another", COLLECTION]);
    assert_eq!(store.schema(COLLECTION).await.unwrap(), schema());

    // A collection with more than is wanted fits, and gets the payload indexes it lacks.
    let mut part = schema();
    part.vectors.remove(SECOND);
    part.payload_indexes = [("mood".to_owned(), PayloadIndex::Keyword)].into();
    assert_eq!(store.ensure(COLLECTION, &part).await.unwrap(), Ensured::Existing);
    let mut both = schema();
    both.payload_indexes.insert("mood".to_owned(), PayloadIndex::Keyword);
    assert_eq!(store.schema(COLLECTION).await.unwrap(), both);

    let change = |change: &dyn Fn(&mut CollectionSchema)| {
        let mut changed = schema();
        change(&mut changed);
        changed
    };
    let dimension = change(&|schema| schema.vectors.get_mut(FIRST).unwrap().dimension = 5);
    refused(store.ensure(COLLECTION, &dimension).await, &[COLLECTION, FIRST, "4", "5", "delete"]);
    let distance =
        change(&|schema| schema.vectors.get_mut(FIRST).unwrap().distance = Distance::Cosine);
    refused(store.ensure(COLLECTION, &distance).await, &[FIRST, "Dot", "Cosine"]);
    let name = change(&|schema| {
        let vector = schema.vectors[FIRST];
        schema.vectors.insert("third".to_owned(), vector);
    });
    refused(store.ensure(COLLECTION, &name).await, &["no vector `third`"]);

    // A deleted collection is gone with its points, and its name is free.
    write(store, &[point(1, [1.0; 4], json!({}))]).await;
    assert!(store.delete_collection(COLLECTION).await.unwrap());
    assert!(!store.delete_collection(COLLECTION).await.unwrap());
    assert_eq!(store.collections().await.unwrap(), ["another"]);
    assert_eq!(store.ensure(COLLECTION, &dimension).await.unwrap(), Ensured::Created);
    assert_eq!(store.count(COLLECTION, None).await.unwrap(), 0);
}

pub(super) async fn bad_schemas_and_names_are_refused(store: &dyn Store) {
    for name in ["", "../outside", "a/b", ".hidden"] {
        refused(store.ensure(name, &schema()).await, &["cannot name a collection"]);
    }
    let mut zero = schema();
    zero.vectors.get_mut(FIRST).unwrap().dimension = 0;
    refused(store.ensure(COLLECTION, &zero).await, &[FIRST, "dimension 0"]);
    refused(store.ensure(COLLECTION, &CollectionSchema::default()).await, &["no vector"]);
    let mut both = schema();
    both.vectors.insert(String::new(), both.vectors[FIRST]);
    refused(store.ensure(COLLECTION, &both).await, &["unnamed"]);
    assert_eq!(store.collections().await.unwrap(), [] as [String; 0]);
}

pub(super) async fn a_collection_that_does_not_exist_is_named_by_every_call(store: &dyn Store) {
    let missing = |error: Option<StoreError>| {
        let error = error.expect("the call is refused");
        assert!(
            matches!(&error, StoreError::CollectionMissing { collection } if collection == "gone")
        );
        assert!(!error.is_retryable());
    };
    let ids = [PointId::Number(1)];
    let scroll = Scroll { filter: None, from: None, limit: 1, selection: Selection::none() };
    missing(store.schema("gone").await.err());
    missing(store.upsert("gone", vec![point(1, [1.0; 4], json!({}))]).await.err());
    missing(store.update_vectors("gone", Vec::new()).await.err());
    missing(store.set_payload("gone", &ids, Default::default()).await.err());
    missing(store.delete("gone", &ids).await.err());
    missing(store.read("gone", &ids, &Selection::all()).await.err());
    missing(store.search("gone", Search::new(FIRST, vec![0.0; 4], 1)).await.err());
    missing(store.scroll("gone", scroll).await.err());
    missing(store.count("gone", None).await.err());
    missing(store.facet("gone", "genre", None, 1).await.err());
    missing(store.optimize("gone").await.err());
}

pub(super) async fn a_closed_store_says_so(store: &dyn Store) {
    made(store).await;
    store.flush().await.unwrap();
    store.close().await.unwrap();
    store.close().await.expect("closing twice is closing once");
    assert!(matches!(store.count(COLLECTION, None).await, Err(StoreError::Closed)));
    assert!(matches!(store.collections().await, Err(StoreError::Closed)));
}
