//! From the seam's types to the engine's and back.

use std::collections::HashMap;

use qdrant_edge::{
    DEFAULT_VECTOR_NAME, Distance as EngineDistance, EdgeConfig, EdgeOptimizersConfig,
    EdgeVectorParams, FacetValue, HnswIndexConfig, OperationError, PayloadSchemaType,
    PayloadSelectorExclude, PointStructPersisted, PointVectorsPersisted, Record, VectorInternal,
    VectorPersisted, VectorStructInternal, VectorStructPersisted, WalOptions, WithPayloadInterface,
    WithVector,
};
use serde_json::Value;
use uuid::Uuid;

use super::settings::EmbeddedSettings;
use crate::id::PointId;
use crate::store::{
    CollectionSchema, Distance, Payload, PayloadIndex, PayloadSelection, Point, PointVectors,
    ScoredPoint, StoreError, StoreResult, VectorSelection, Vectors,
};
use crate::validate::{payload_key, unknown_vector};

/// The engine's own log is not used for recovery, so its files are kept small.
const ENGINE_LOG_FILE_BYTES: usize = 4 * 1024 * 1024;

impl From<PointId> for qdrant_edge::PointId {
    fn from(id: PointId) -> Self {
        match id {
            PointId::Number(number) => Self::NumId(number),
            PointId::Uuid(uuid) => Self::Uuid(uuid),
        }
    }
}

impl From<qdrant_edge::PointId> for PointId {
    fn from(id: qdrant_edge::PointId) -> Self {
        match id {
            qdrant_edge::PointId::NumId(number) => Self::Number(number),
            qdrant_edge::PointId::Uuid(uuid) => Self::Uuid(uuid),
        }
    }
}

/// The engine's configuration for a collection.
pub(super) fn engine_config(schema: &CollectionSchema, settings: &EmbeddedSettings) -> EdgeConfig {
    let hnsw = |m| HnswIndexConfig {
        m,
        ef_construct: settings.hnsw_ef_construct,
        // One threshold for building the graph and for using it.
        full_scan_threshold: settings.indexing_threshold_kilobytes,
        ..HnswIndexConfig::default()
    };
    let vectors = schema.vectors.iter().map(|(name, vector)| {
        let parameters = EdgeVectorParams {
            size: vector.dimension,
            distance: engine_distance(vector.distance),
            on_disk: None,
            multivector_config: None,
            datatype: None,
            quantization_config: None,
            // Zero edges per node is how Qdrant switches the index off.
            hnsw_config: (!vector.indexed).then(|| hnsw(0)),
        };
        (name.clone(), parameters)
    });
    EdgeConfig {
        on_disk_payload: true,
        vectors: vectors.collect(),
        hnsw_config: hnsw(settings.hnsw_m),
        optimizers: EdgeOptimizersConfig {
            indexing_threshold: Some(settings.indexing_threshold_kilobytes),
            ..EdgeOptimizersConfig::default()
        },
        wal_options: Some(WalOptions {
            segment_capacity: ENGINE_LOG_FILE_BYTES,
            ..WalOptions::default()
        }),
        ..EdgeConfig::default()
    }
}

fn engine_distance(distance: Distance) -> EngineDistance {
    match distance {
        Distance::Dot => EngineDistance::Dot,
        Distance::Cosine => EngineDistance::Cosine,
        Distance::Euclid => EngineDistance::Euclid,
        Distance::Manhattan => EngineDistance::Manhattan,
    }
}

pub(super) fn engine_index(index: PayloadIndex) -> PayloadSchemaType {
    match index {
        PayloadIndex::Keyword => PayloadSchemaType::Keyword,
        PayloadIndex::Integer => PayloadSchemaType::Integer,
        PayloadIndex::Float => PayloadSchemaType::Float,
        PayloadIndex::Bool => PayloadSchemaType::Bool,
        PayloadIndex::Datetime => PayloadSchemaType::Datetime,
        PayloadIndex::Uuid => PayloadSchemaType::Uuid,
        PayloadIndex::Text => PayloadSchemaType::Text,
    }
}

pub(super) fn engine_point(point: Point) -> PointStructPersisted {
    PointStructPersisted {
        id: point.id.into(),
        vector: engine_vectors(point.vectors),
        // Always some: with none the engine would keep an old payload in some segments.
        payload: Some(engine_payload(point.payload)),
    }
}

pub(super) fn engine_point_vectors(point: PointVectors) -> PointVectorsPersisted {
    PointVectorsPersisted { id: point.id.into(), vector: engine_vectors(point.vectors) }
}

fn engine_vectors(vectors: Vectors) -> VectorStructPersisted {
    let vectors = vectors.into_iter().map(|(name, vector)| (name, VectorPersisted::Dense(vector)));
    VectorStructPersisted::Named(vectors.collect())
}

pub(super) fn engine_payload(payload: Payload) -> qdrant_edge::Payload {
    qdrant_edge::Payload(payload)
}

/// The engine's selection of vectors; names that the collection lacks are refused.
pub(super) fn vector_selection(
    collection: &str,
    schema: &CollectionSchema,
    selection: &VectorSelection,
) -> StoreResult<WithVector> {
    match selection {
        VectorSelection::None => Ok(WithVector::Bool(false)),
        VectorSelection::All => Ok(WithVector::Bool(true)),
        VectorSelection::Named(names) if names.is_empty() => Ok(WithVector::Bool(false)),
        VectorSelection::Named(names) => {
            match names.iter().find(|name| !schema.vectors.contains_key(*name)) {
                Some(name) => Err(unknown_vector(collection, schema, name)),
                None => Ok(WithVector::Selector(names.clone())),
            }
        }
    }
}

pub(super) fn payload_selection(
    collection: &str,
    selection: &PayloadSelection,
) -> StoreResult<WithPayloadInterface> {
    match selection {
        PayloadSelection::None => Ok(WithPayloadInterface::Bool(false)),
        PayloadSelection::All => Ok(WithPayloadInterface::Bool(true)),
        PayloadSelection::Include(keys) if keys.is_empty() => Ok(WithPayloadInterface::Bool(false)),
        PayloadSelection::Include(keys) => {
            let paths = keys.iter().map(|key| payload_key(collection, key));
            Ok(WithPayloadInterface::Fields(paths.collect::<StoreResult<_>>()?))
        }
        PayloadSelection::Exclude(keys) if keys.is_empty() => Ok(WithPayloadInterface::Bool(true)),
        PayloadSelection::Exclude(keys) => {
            let paths = keys.iter().map(|key| payload_key(collection, key));
            Ok(PayloadSelectorExclude::new(paths.collect::<StoreResult<_>>()?).into())
        }
    }
}

pub(super) fn point_of(record: Record) -> Point {
    Point {
        id: record.id.into(),
        vectors: vectors_of(record.vector),
        payload: payload_of(record.payload),
    }
}

pub(super) fn scored_of(scored: qdrant_edge::ScoredPoint) -> ScoredPoint {
    ScoredPoint {
        score: scored.score,
        point: Point {
            id: scored.id.into(),
            vectors: vectors_of(scored.vector),
            payload: payload_of(scored.payload),
        },
    }
}

fn payload_of(payload: Option<qdrant_edge::Payload>) -> Payload {
    payload.map(|payload| payload.0).unwrap_or_default()
}

fn vectors_of(vectors: Option<VectorStructInternal>) -> Vectors {
    let named: HashMap<String, VectorInternal> = match vectors {
        Some(VectorStructInternal::Named(named)) => named,
        // The engine's form of a point that has the unnamed vector and no other.
        Some(VectorStructInternal::Single(vector)) => {
            return [(DEFAULT_VECTOR_NAME.to_owned(), vector)].into();
        }
        // Collections of this store have dense vectors only.
        Some(VectorStructInternal::MultiDense(_)) | None => return Vectors::new(),
    };
    let dense = named.into_iter().filter_map(|(name, vector)| match vector {
        VectorInternal::Dense(vector) => Some((name, vector)),
        VectorInternal::Sparse(_) | VectorInternal::MultiDense(_) => None,
    });
    dense.collect()
}

pub(super) fn facet_value(value: FacetValue) -> Value {
    match value {
        FacetValue::Keyword(text) => text.into(),
        FacetValue::Int(number) => number.into(),
        FacetValue::Uuid(bits) => Uuid::from_u128(bits).to_string().into(),
        FacetValue::Bool(flag) => flag.into(),
    }
}

/// The seam's error for what the engine said.
pub(super) fn engine_error(collection: &str) -> impl Fn(OperationError) -> StoreError {
    let collection = collection.to_owned();
    move |error| {
        let (collection, detail) = (collection.clone(), error.to_string());
        match error {
            OperationError::WrongVectorDimension { .. }
            | OperationError::VectorNameNotExists { .. }
            | OperationError::TypeError { .. }
            | OperationError::TypeInferenceError { .. }
            | OperationError::ValidationError { .. }
            | OperationError::WrongSparse
            | OperationError::WrongMulti
            | OperationError::MissingRangeIndexForOrderBy { .. }
            | OperationError::MissingMapIndexForFacet { .. }
            | OperationError::VariableTypeError { .. }
            | OperationError::NonFiniteNumber { .. } => {
                StoreError::InvalidRequest { collection, detail }
            }
            OperationError::PointIdError { missed_point_id } => {
                StoreError::PointsMissing { collection, first: missed_point_id.into(), count: 1 }
            }
            OperationError::ServiceError { .. }
            | OperationError::InconsistentStorage { .. }
            | OperationError::OutOfMemory { .. }
            | OperationError::Cancelled { .. }
            | OperationError::Timeout { .. } => StoreError::Engine { collection, detail },
        }
    }
}
