//! Collections in Qdrant's JSON.

use std::collections::BTreeMap;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answer::answer;
use super::fields::{Fields, invalid};
use crate::embedded::EmbeddedSettings;
use crate::listener::fault::Fault;
use crate::listener::operations::{CollectionInfo, Operations};
use crate::store::{CollectionSchema, Distance, VectorSchema};

pub(super) async fn list(State(operations): State<Operations>) -> Response {
    answer(async {
        let names = operations.collections().await?;
        let collections: Vec<Value> = names.into_iter().map(|name| json!({"name": name})).collect();
        Ok(json!({"collections": collections}))
    })
    .await
}

pub(super) async fn exists(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
) -> Response {
    answer(async { Ok(json!({"exists": operations.collection_exists(&collection).await?})) }).await
}

pub(super) async fn delete(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
) -> Response {
    answer(operations.delete_collection(&collection)).await
}

pub(super) async fn create(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let schema = read_schema(operations.fields(request).await?)?;
        operations.create_collection(&collection, &schema).await?;
        Ok(true)
    })
    .await
}

pub(super) async fn info(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
) -> Response {
    answer(async { Ok(describe(&operations.collection_info(&collection).await?)) }).await
}

fn read_schema(mut fields: Fields) -> Result<CollectionSchema, Fault> {
    // These are about memory, speed and copies; there is one copy.
    fields.harmless(&[
        "shard_number",
        "replication_factor",
        "write_consistency_factor",
        "on_disk_payload",
        "wal_config",
        "optimizers_config",
        "optimizer_config",
    ]);
    fields.unsupported("sparse_vectors", "sparse vectors")?;
    fields.unsupported("quantization_config", "quantization")?;
    fields.unsupported("quantization", "quantization")?;
    fields.unsupported("strict_mode_config", "strict mode")?;
    fields.unsupported("metadata", "the metadata of collections")?;
    fields.unsupported("init_from", "copying a collection")?;
    if fields.take::<String>("sharding_method")?.is_some_and(|method| method != "auto") {
        return Err(Fault::unimplemented("shard keys (`sharding_method`)"));
    }
    let indexed = read_indexed(&mut fields)?.unwrap_or(true);
    let vectors = match fields.take::<Value>("vectors")? {
        None => BTreeMap::new(),
        Some(value) => read_vectors(value, indexed)?,
    };
    fields.finish()?;
    Ok(CollectionSchema { vectors, payload_indexes: BTreeMap::new() })
}

/// The vectors of a collection: the settings of the unnamed one, or an object of names.
fn read_vectors(value: Value, indexed: bool) -> Result<BTreeMap<String, VectorSchema>, Fault> {
    let fields = Fields::of("vectors", value)?;
    if fields.has("size") || fields.has("distance") {
        return Ok([(String::new(), read_vector("vectors", fields, indexed)?)].into());
    }
    let named: Map<String, Value> = fields.into_map();
    let vectors = named.into_iter().map(|(name, value)| {
        let field = format!("vectors.{name}");
        let vector = read_vector(&field, Fields::of(&field, value)?, indexed)?;
        Ok((name, vector))
    });
    vectors.collect()
}

fn read_vector(name: &str, mut fields: Fields, indexed: bool) -> Result<VectorSchema, Fault> {
    let dimension: usize = fields.need("size")?;
    let distance = match fields.need::<String>("distance")?.as_str() {
        "Cosine" => Distance::Cosine,
        "Dot" => Distance::Dot,
        "Euclid" => Distance::Euclid,
        "Manhattan" => Distance::Manhattan,
        other => {
            let known = "expected one of `Cosine`, `Euclid`, `Dot`, `Manhattan`";
            return Err(invalid(name, format!("unknown variant `{other}`, {known}")));
        }
    };
    fields.harmless(&["on_disk"]);
    fields.unsupported("quantization_config", "quantization")?;
    fields.unsupported("multivector_config", "multi vectors")?;
    if fields.take::<String>("datatype")?.is_some_and(|datatype| datatype != "float32") {
        return Err(Fault::unimplemented("components other than float32 (`datatype`)"));
    }
    let indexed = read_indexed(&mut fields)?.unwrap_or(indexed);
    fields.finish()?;
    Ok(VectorSchema { dimension, distance, indexed })
}

/// Whether an HNSW index is built: zero edges per node is how Qdrant switches it off. The other
/// settings of the index are about accuracy and speed, and the store has its own.
fn read_indexed(fields: &mut Fields) -> Result<Option<bool>, Fault> {
    let Some(value) = fields.take::<Value>("hnsw_config")? else { return Ok(None) };
    let edges: Option<u64> = Fields::of("hnsw_config", value)?.take("m")?;
    Ok(edges.map(|edges| edges > 0))
}

/// The description of a collection. Clients check that it is complete, so it has values for what the
/// store does not tell: one segment, no replica, and the settings that the engine has by default.
fn describe(info: &CollectionInfo) -> Value {
    let engine = EmbeddedSettings::default();
    let vector = |vector: &VectorSchema| {
        let mut description = json!({
            "size": vector.dimension,
            "distance": format!("{:?}", vector.distance),
        });
        if !vector.indexed {
            description["hnsw_config"] = json!({"m": 0});
        }
        description
    };
    let vectors = match info.schema.vectors.get("") {
        Some(unnamed) if info.schema.vectors.len() == 1 => vector(unnamed),
        _ => {
            let named = info.schema.vectors.iter();
            Value::Object(named.map(|(name, schema)| (name.clone(), vector(schema))).collect())
        }
    };
    let payload_schema = info.schema.payload_indexes.iter().map(|(key, index)| {
        let points = info.indexed_points.get(key).copied().unwrap_or_default();
        (key.clone(), json!({"data_type": index, "points": points}))
    });
    json!({
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": null,
        "points_count": info.points,
        "segments_count": 1,
        "config": {
            "params": {
                "vectors": vectors,
                "shard_number": 1,
                "replication_factor": 1,
                "write_consistency_factor": 1,
                "on_disk_payload": true,
            },
            "hnsw_config": {
                "m": engine.hnsw_m,
                "ef_construct": engine.hnsw_ef_construct,
                "full_scan_threshold": engine.indexing_threshold_kilobytes,
                "max_indexing_threads": 0,
                "on_disk": false,
            },
            "optimizer_config": {
                "deleted_threshold": null,
                "vacuum_min_vector_number": null,
                "default_segment_number": 0,
                "max_segment_size": null,
                "memmap_threshold": null,
                "indexing_threshold": engine.indexing_threshold_kilobytes,
                "flush_interval_sec": 0,
                "max_optimization_threads": null,
            },
            "wal_config": {
                "wal_capacity_mb": engine.checkpoint_bytes / (1024 * 1024),
                "wal_segments_ahead": 0,
            },
            "quantization_config": null,
        },
        "payload_schema": payload_schema.collect::<Map<String, Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<CollectionSchema, Fault> {
        read_schema(Fields::of("body", value)?)
    }

    #[test]
    fn vectors_are_unnamed_or_named() {
        let schema = read(json!({"vectors": {"size": 4, "distance": "Dot"}})).unwrap();
        let unnamed = VectorSchema { dimension: 4, distance: Distance::Dot, indexed: true };
        assert_eq!(schema.vectors, [(String::new(), unnamed)].into());
        let schema = read(json!({
            "vectors": {
                "a": {"size": 4, "distance": "Dot", "on_disk": true, "datatype": "float32"},
                "b": {"size": 2, "distance": "Manhattan", "hnsw_config": {"m": 0}},
            },
            "hnsw_config": {"m": 16, "ef_construct": 50}, "shard_number": 2, "metadata": null,
        }))
        .unwrap();
        let second = VectorSchema { dimension: 2, distance: Distance::Manhattan, indexed: false };
        let expected = [("a".to_owned(), unnamed), ("b".to_owned(), second)];
        assert_eq!(schema.vectors, expected.into());
    }

    #[test]
    fn what_the_store_does_not_have_is_refused_by_name() {
        let check = |value: Value, words: &str| {
            let message = read(value.clone()).unwrap_err().message;
            assert!(message.contains(words), "{value}: {message}");
        };
        check(json!({"sparse_vectors": {"a": {}}}), "sparse vectors");
        check(json!({"quantization_config": {"scalar": {}}}), "quantization");
        check(json!({"sharding_method": "custom"}), "sharding_method");
        check(json!({"new": 1}), "unknown field `new`");
        let vector = |key: &str, value: Value| {
            let mut vector = json!({"size": 4, "distance": "Dot"});
            vector[key] = value;
            json!({"vectors": vector})
        };
        check(vector("multivector_config", json!({"comparator": "max_sim"})), "multi vectors");
        check(vector("datatype", json!("uint8")), "datatype");
        check(vector("size", json!(-1)), "size: invalid value");
        check(vector("distance", json!("Hamming")), "unknown variant `Hamming`");
        check(vector("distance", json!(null)), "missing field `distance`");
        check(vector("new", json!(1)), "unknown field `new`");
    }

    #[test]
    fn a_description_is_complete() {
        let schema = read(json!({"vectors": {"size": 4, "distance": "Dot"}})).unwrap();
        let info = CollectionInfo { schema, points: 3, indexed_points: BTreeMap::new() };
        let description = describe(&info);
        let vectors = &description["config"]["params"]["vectors"];
        assert_eq!(vectors, &json!({"size": 4, "distance": "Dot"}));
        assert_eq!(description["points_count"], 3);
        assert_eq!(description["config"]["hnsw_config"]["m"], 16);
    }
}
