//! Tests of what the seam does not show: indexes, segments and the journal's length.

use super::*;
use crate::records::{POSITIVE_VECTOR, explanations_schema, items_schema};
use crate::store::{Payload, Point};

fn settings(folder: &Path) -> Arc<EmbeddedSettings> {
    Arc::new(EmbeddedSettings {
        indexing_threshold_kilobytes: 10,
        minimum_free_bytes: 0,
        ..EmbeddedSettings::in_folder(folder)
    })
}

fn created(folder: &Path, schema: &CollectionSchema) -> Collection {
    let lock = Arc::new(FolderLock::take(folder).unwrap());
    Collection::create("c", folder.join("c"), schema, settings(folder), lock).unwrap()
}

fn filled(folder: &Path, schema: &CollectionSchema) -> Collection {
    let collection = created(folder, schema);
    let payload: Payload = ["external_id", "user", "item"]
        .map(|key| (key.to_owned(), "same".into()))
        .into_iter()
        .collect();
    let points = (0..2_000_u64).map(|id| {
        let vector = vec![id as f32, (id as f32).sin(), (id as f32).cos(), 1.0];
        let vectors = schema.vectors.keys().map(|name| (name.clone(), vector.clone()));
        Point { id: id.into(), vectors: vectors.collect(), payload: payload.clone() }
    });
    collection.write(Operation::Upsert(points.collect())).unwrap();
    collection
}

#[test]
fn optimizing_builds_the_vector_index_where_the_schema_wants_one() {
    let folder = tempfile::tempdir().unwrap();
    for (schema, indexed) in [(items_schema(4), true), (explanations_schema(4), false)] {
        let collection = filled(folder.path(), &schema);
        assert_eq!(graph_bytes(collection.folder()), 0);
        collection.optimize().unwrap();
        // A graph has several edges per point; without edges only the places for them are left.
        let bytes = graph_bytes(collection.folder()) / schema.vectors.len() as u64;
        assert_eq!(bytes > 2_000 * 8, indexed, "the graph has {bytes} bytes");
        let info = collection.with_shard(|shard| Ok(shard.info())).unwrap();
        assert_eq!(info.points_count, 2_000);
    }
}

/// Bytes of the HNSW graphs' edges in a folder. The engine's own count of indexed vectors includes
/// those whose index has no edges.
fn graph_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.file_name().unwrap().to_str().unwrap() {
            _ if path.is_dir() => graph_bytes(&path),
            name if name.starts_with("links") => fs::metadata(&path).unwrap().len(),
            _ => 0,
        })
        .sum()
}

#[test]
fn payload_indexes_hold_every_point_before_and_after_optimizing_and_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let schema = explanations_schema(4);
    let check = |collection: &Collection| {
        let info = collection.with_shard(|shard| Ok(shard.info())).unwrap();
        let indexed: Vec<usize> = info.payload_schema.values().map(|index| index.points).collect();
        assert_eq!(indexed, [2_000, 2_000], "{info:?}");
    };
    let collection = filled(folder.path(), &schema);
    check(&collection);
    collection.optimize().unwrap();
    check(&collection);
    drop(collection);
    let lock = Arc::new(FolderLock::take(folder.path()).unwrap());
    let collection =
        Collection::open("c", folder.path().join("c"), settings(folder.path()), lock).unwrap();
    check(&collection);
}

#[test]
fn a_checkpoint_empties_the_journal_and_until_then_it_has_every_write() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(folder.path(), &items_schema(4));
    let journal = folder.path().join("c").join(JOURNAL_FILE);
    assert!(fs::metadata(&journal).unwrap().len() > 2_000 * 4 * 4);
    collection.flush().unwrap();
    assert_eq!(fs::metadata(&journal).unwrap().len(), 0);
}

#[test]
fn a_write_that_the_engine_refuses_does_not_come_back_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let collection = created(folder.path(), &items_schema(4));
    // A vector name that validation would have refused.
    let vectors = [(POSITIVE_VECTOR.to_owned(), vec![1.0])].into();
    let point = Point { id: 1.into(), vectors, payload: Payload::new() };
    collection.write(Operation::Upsert(vec![point])).unwrap_err();
    let journal = folder.path().join("c").join(JOURNAL_FILE);
    assert_eq!(fs::metadata(journal).unwrap().len(), 0);
}
