//! What is particular to the embedded backend: reopening, limits, damage and many callers at once.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use whyrank_plugin::records::{ITEM_VECTOR, items_schema};
use whyrank_plugin::{
    EmbeddedSettings, EmbeddedStore, Ensured, Point, PointId, Search, Selection, Store, StoreError,
};

fn settings(folder: &Path) -> EmbeddedSettings {
    EmbeddedSettings { minimum_free_bytes: 0, ..EmbeddedSettings::in_folder(folder) }
}

fn point(id: u64) -> Point {
    let payload = json!({"external_id": id.to_string()}).as_object().unwrap().clone();
    let vectors = [(ITEM_VECTOR.to_owned(), vec![id as f32, 1.0])].into();
    Point { id: id.into(), vectors, payload }
}

async fn filled(settings: EmbeddedSettings, number: u64) -> EmbeddedStore {
    let store = EmbeddedStore::open(settings).await.unwrap();
    store.ensure("items", &items_schema(2)).await.unwrap();
    store.upsert("items", (0..number).map(point).collect()).await.unwrap();
    store
}

#[tokio::test]
async fn a_reopened_store_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    for closed in [true, false] {
        let store = filled(settings(folder.path()), 50).await;
        if closed {
            store.close().await.unwrap();
        }
        drop(store);
        let store = EmbeddedStore::open(settings(folder.path())).await.unwrap();
        assert_eq!(store.collections().await.unwrap(), ["items"]);
        assert_eq!(store.ensure("items", &items_schema(2)).await.unwrap(), Ensured::Existing);
        assert_eq!(store.count("items", None).await.unwrap(), 50);
        let read = store.read("items", &[7.into()], &Selection::all()).await.unwrap();
        assert_eq!(read, [Some(point(7))]);
    }
}

#[tokio::test]
async fn writes_after_the_old_engine_log_is_dropped_are_not_taken_for_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(settings(folder.path()), 1).await;
    // More than two of the engine's log files, so that one can go.
    let text = "x".repeat(1_000_000);
    for round in 0..15 {
        let mut big = point(0);
        big.payload.insert("text".to_owned(), format!("{round}{text}").into());
        store.upsert("items", vec![big]).await.unwrap();
    }
    let log = folder.path().join("collections/items/engine/wal");
    let closed = || {
        let names = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("closed-")).count()
    };
    assert!(closed() > 1, "the test writes more than one log file");
    store.close().await.unwrap();
    let store = EmbeddedStore::open(settings(folder.path())).await.unwrap();
    assert_eq!(closed(), 1);
    store.upsert("items", vec![point(0), point(1)]).await.unwrap();
    let read = store.read("items", &[0.into(), 1.into()], &Selection::all()).await.unwrap();
    assert_eq!(read, [Some(point(0)), Some(point(1))]);
}

#[tokio::test]
async fn a_second_store_on_the_folder_is_refused_until_the_first_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(settings(folder.path()), 1).await;
    let error = EmbeddedStore::open(settings(folder.path())).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Locked { holder, .. } if holder.starts_with("this process"))
    );
    assert!(error.is_retryable());
    store.close().await.unwrap();
    EmbeddedStore::open(settings(folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_half_made_or_half_deleted_collection_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    filled(settings(folder.path()), 3).await.close().await.unwrap();
    let collections = folder.path().join("collections");
    fs::create_dir_all(collections.join("half/engine/wal")).unwrap();
    fs::create_dir_all(collections.join(".deleted-old/engine")).unwrap();
    let store = EmbeddedStore::open(settings(folder.path())).await.unwrap();
    assert_eq!(store.collections().await.unwrap(), ["items"]);
    assert_eq!(fs::read_dir(&collections).unwrap().count(), 1);
    assert_eq!(store.ensure("half", &items_schema(2)).await.unwrap(), Ensured::Created);
}

#[tokio::test]
async fn damaged_files_are_reported_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    filled(settings(folder.path()), 3).await.close().await.unwrap();
    let schema = folder.path().join("collections/items/schema.json");
    fs::write(&schema, "{").unwrap();
    let error = EmbeddedStore::open(settings(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains(schema.to_str().unwrap()) && error.contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = EmbeddedStore::open(settings(&file.join("store"))).await.unwrap_err().to_string();
    assert!(error.contains("creating") && error.contains(file.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_write_on_a_full_disk_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    filled(settings(folder.path()), 3).await.close().await.unwrap();
    let full = EmbeddedSettings { minimum_free_bytes: u64::MAX, ..settings(folder.path()) };
    let store = EmbeddedStore::open(full).await.unwrap();
    let error = store.upsert("items", vec![point(9)]).await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }) && error.is_retryable(), "{error}");
    assert_eq!(store.count("items", None).await.unwrap(), 3);
}

#[tokio::test]
async fn limits_name_their_setting() {
    let folder = tempfile::tempdir().unwrap();
    let limited = EmbeddedSettings { maximum_results: 5, ..settings(folder.path()) };
    let store = filled(limited, 10).await;
    let ids: Vec<PointId> = (0..6).map(PointId::Number).collect();
    let error = store.read("items", &ids, &Selection::none()).await.unwrap_err().to_string();
    assert!(error.contains("maximum_results") && error.contains('6'), "{error}");
    assert!(store.read("items", &ids[..5], &Selection::none()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_writers_and_optimizing_run_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings {
        indexing_threshold_kilobytes: 1,
        checkpoint_bytes: 10_000,
        engine_log_bytes: 0,
        sync_every_write: false,
        ..settings(folder.path())
    };
    let store = Arc::new(filled(settings, 500).await);
    let mut tasks = Vec::new();
    for writer in 1..=3_u64 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            for step in 0..20 {
                let first = writer * 1_000 + step * 10;
                store.upsert("items", (first..first + 10).map(point).collect()).await.unwrap();
                store.upsert("items", (0..10).map(point).collect()).await.unwrap();
            }
        }));
    }
    for _ in 0..3 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            for _ in 0..60 {
                let ids: Vec<PointId> = (0..200).map(PointId::Number).collect();
                let read = store.read("items", &ids, &Selection::all()).await.unwrap();
                assert!(read.into_iter().map(Option::unwrap).eq((0..200).map(point)));
                let search = Search::new(ITEM_VECTOR, vec![-1.0, 0.0], 5);
                assert_eq!(store.search("items", search).await.unwrap().len(), 5);
            }
        }));
    }
    let optimizer = Arc::clone(&store);
    tasks.push(tokio::spawn(async move {
        for _ in 0..5 {
            optimizer.optimize("items").await.unwrap();
            optimizer.flush().await.unwrap();
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.count("items", None).await.unwrap(), 500 + 3 * 200);
}
