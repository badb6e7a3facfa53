//! The shape of collections: vector parameters, distances and payload indexes.

use std::collections::BTreeMap;

use qdrant_client::qdrant;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionInfo, Datatype, FieldType, HnswConfigDiff, PayloadSchemaType, VectorParams,
    VectorParamsMap, VectorsConfig,
};

use super::WireError;
use super::vectors::UNNAMED_VECTOR;
use crate::store::{CollectionSchema, Distance, PayloadIndex, VectorSchema};

/// The message of a distance.
pub fn distance_to_proto(distance: Distance) -> qdrant::Distance {
    match distance {
        Distance::Dot => qdrant::Distance::Dot,
        Distance::Cosine => qdrant::Distance::Cosine,
        Distance::Euclid => qdrant::Distance::Euclid,
        Distance::Manhattan => qdrant::Distance::Manhattan,
    }
}

/// The distance of a message's number.
///
/// # Errors
/// If there is no such distance.
pub fn distance_from_proto(distance: i32) -> Result<Distance, WireError> {
    match qdrant::Distance::try_from(distance) {
        Ok(qdrant::Distance::Dot) => Ok(Distance::Dot),
        Ok(qdrant::Distance::Cosine) => Ok(Distance::Cosine),
        Ok(qdrant::Distance::Euclid) => Ok(Distance::Euclid),
        Ok(qdrant::Distance::Manhattan) => Ok(Distance::Manhattan),
        Ok(qdrant::Distance::UnknownDistance) => Err(WireError::Missing { what: "a distance" }),
        Err(_) => Err(WireError::unsupported(format!("the distance number {distance}"))),
    }
}

/// The parameters of a vector. One that is not indexed gets an HNSW graph without edges, which is how
/// Qdrant switches the index off.
pub fn vector_params_to_proto(vector: &VectorSchema) -> VectorParams {
    VectorParams {
        size: vector.dimension as u64,
        distance: distance_to_proto(vector.distance).into(),
        hnsw_config: (!vector.indexed)
            .then(|| HnswConfigDiff { m: Some(0), ..HnswConfigDiff::default() }),
        ..VectorParams::default()
    }
}

/// The vector of these parameters; `edges` is the collection's own number of HNSW edges, which holds
/// for vectors that do not set theirs.
///
/// # Errors
/// If it is a multivector or its components are not 32-bit floats.
pub fn vector_params_from_proto(
    name: &str,
    params: &VectorParams,
    edges: Option<u64>,
) -> Result<VectorSchema, WireError> {
    if params.multivector_config.is_some() {
        return Err(WireError::unsupported(format!("a multivector (vector `{name}`)")));
    }
    if let Some(datatype) = params.datatype {
        match Datatype::try_from(datatype) {
            Ok(Datatype::Default | Datatype::Float32) => {}
            other => {
                let kind = other.map_or(datatype.to_string(), |kind| format!("{kind:?}"));
                let what = format!("components of type {kind} (vector `{name}`)");
                return Err(WireError::unsupported(what));
            }
        }
    }
    let own = params.hnsw_config.and_then(|hnsw| hnsw.m);
    Ok(VectorSchema {
        dimension: usize::try_from(params.size)
            .map_err(|error| WireError::invalid(format!("dimension {}", params.size), error))?,
        distance: distance_from_proto(params.distance)?,
        indexed: own.or(edges) != Some(0),
    })
}

/// The message of a collection's vectors.
///
/// # Errors
/// If there is an unnamed vector beside named ones.
pub fn vectors_config_to_proto(
    vectors: &BTreeMap<String, VectorSchema>,
) -> Result<VectorsConfig, WireError> {
    let config = match (vectors.get(UNNAMED_VECTOR), vectors.len()) {
        (Some(single), 1) => Config::Params(vector_params_to_proto(single)),
        (Some(_), _) => return Err(WireError::unsupported("an unnamed vector beside named ones")),
        (None, _) => {
            let named =
                vectors.iter().map(|(name, vector)| (name.clone(), vector_params_to_proto(vector)));
            Config::ParamsMap(VectorParamsMap { map: named.collect() })
        }
    };
    Ok(VectorsConfig { config: Some(config) })
}

/// The vectors of a message; `edges` as in [`vector_params_from_proto`].
///
/// # Errors
/// If one of them is a multivector or not of 32-bit floats.
pub fn vectors_config_from_proto(
    config: Option<VectorsConfig>,
    edges: Option<u64>,
) -> Result<BTreeMap<String, VectorSchema>, WireError> {
    parameters(config)
        .into_iter()
        .map(|(name, params)| {
            vector_params_from_proto(&name, &params, edges).map(|vector| (name, vector))
        })
        .collect()
}

/// What of a collection the seam can describe. Sparse vectors, multivectors, other component types
/// and geo indexes are left out: a search team's collection may have them, and Whyrank does not use
/// them.
pub fn readable_schema(info: CollectionInfo) -> CollectionSchema {
    let config = info.config.unwrap_or_default();
    let edges = config.hnsw_config.and_then(|hnsw| hnsw.m);
    let vectors = parameters(config.params.and_then(|params| params.vectors_config))
        .into_iter()
        .filter_map(|(name, params)| {
            Some((name.clone(), vector_params_from_proto(&name, &params, edges).ok()?))
        });
    let payload_indexes = info
        .payload_schema
        .into_iter()
        .filter_map(|(key, index)| Some((key, index_from_schema_type(index.data_type).ok()?)));
    CollectionSchema { vectors: vectors.collect(), payload_indexes: payload_indexes.collect() }
}

fn parameters(config: Option<VectorsConfig>) -> Vec<(String, VectorParams)> {
    match config.and_then(|config| config.config) {
        None => Vec::new(),
        Some(Config::Params(params)) => vec![(UNNAMED_VECTOR.to_owned(), params)],
        Some(Config::ParamsMap(named)) => named.map.into_iter().collect(),
    }
}

/// The kind of index to create.
pub fn field_type_to_proto(index: PayloadIndex) -> FieldType {
    match index {
        PayloadIndex::Keyword => FieldType::Keyword,
        PayloadIndex::Integer => FieldType::Integer,
        PayloadIndex::Float => FieldType::Float,
        PayloadIndex::Bool => FieldType::Bool,
        PayloadIndex::Datetime => FieldType::Datetime,
        PayloadIndex::Uuid => FieldType::Uuid,
        PayloadIndex::Text => FieldType::Text,
    }
}

/// The kind of index that a message asks for.
///
/// # Errors
/// If it is a geo index, or missing.
pub fn index_from_field_type(field_type: Option<i32>) -> Result<PayloadIndex, WireError> {
    let number = field_type.ok_or(WireError::Missing { what: "the type of a payload index" })?;
    match FieldType::try_from(number) {
        Ok(FieldType::Keyword) => Ok(PayloadIndex::Keyword),
        Ok(FieldType::Integer) => Ok(PayloadIndex::Integer),
        Ok(FieldType::Float) => Ok(PayloadIndex::Float),
        Ok(FieldType::Bool) => Ok(PayloadIndex::Bool),
        Ok(FieldType::Datetime) => Ok(PayloadIndex::Datetime),
        Ok(FieldType::Uuid) => Ok(PayloadIndex::Uuid),
        Ok(FieldType::Text) => Ok(PayloadIndex::Text),
        Ok(FieldType::Geo) => Err(WireError::unsupported("a geo payload index")),
        Err(_) => Err(WireError::unsupported(format!("the payload index number {number}"))),
    }
}

/// The kind of an index that a collection has.
pub fn index_to_schema_type(index: PayloadIndex) -> PayloadSchemaType {
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

/// The kind of an index in a collection's description.
///
/// # Errors
/// If it is a geo index, or unknown.
pub fn index_from_schema_type(number: i32) -> Result<PayloadIndex, WireError> {
    match PayloadSchemaType::try_from(number) {
        Ok(PayloadSchemaType::Keyword) => Ok(PayloadIndex::Keyword),
        Ok(PayloadSchemaType::Integer) => Ok(PayloadIndex::Integer),
        Ok(PayloadSchemaType::Float) => Ok(PayloadIndex::Float),
        Ok(PayloadSchemaType::Bool) => Ok(PayloadIndex::Bool),
        Ok(PayloadSchemaType::Datetime) => Ok(PayloadIndex::Datetime),
        Ok(PayloadSchemaType::Uuid) => Ok(PayloadIndex::Uuid),
        Ok(PayloadSchemaType::Text) => Ok(PayloadIndex::Text),
        Ok(PayloadSchemaType::Geo) => Err(WireError::unsupported("a geo payload index")),
        Ok(PayloadSchemaType::UnknownType) | Err(_) => {
            Err(WireError::unsupported(format!("the payload index number {number}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use qdrant_client::qdrant::{
        CollectionConfig, CollectionParams, MultiVectorConfig, PayloadSchemaInfo,
    };

    use super::*;

    fn vector(distance: Distance, indexed: bool) -> VectorSchema {
        VectorSchema { dimension: 3, distance, indexed }
    }

    #[test]
    fn vectors_come_back_named_and_unnamed() {
        let distances = [Distance::Dot, Distance::Cosine, Distance::Euclid, Distance::Manhattan];
        let named: BTreeMap<String, VectorSchema> = distances
            .into_iter()
            .map(|distance| (format!("{distance:?}"), vector(distance, distance != Distance::Dot)))
            .collect();
        let unnamed = [("".to_owned(), vector(Distance::Cosine, true))].into();
        for vectors in [named.clone(), unnamed, BTreeMap::new()] {
            let sent = vectors_config_to_proto(&vectors).unwrap();
            assert_eq!(vectors_config_from_proto(Some(sent), Some(16)), Ok(vectors));
        }
        let mut mixed = named;
        mixed.insert(String::new(), vector(Distance::Dot, true));
        assert!(vectors_config_to_proto(&mixed).is_err());
    }

    #[test]
    fn indexes_come_back() {
        use PayloadIndex::{Bool, Datetime, Float, Integer, Keyword, Text, Uuid};
        for index in [Keyword, Integer, Float, Bool, Datetime, Uuid, Text] {
            assert_eq!(index_from_field_type(Some(field_type_to_proto(index).into())), Ok(index));
            assert_eq!(index_from_schema_type(index_to_schema_type(index).into()), Ok(index));
        }
        assert!(index_from_field_type(Some(FieldType::Geo.into())).is_err());
        assert!(index_from_field_type(None).is_err());
    }

    #[test]
    fn what_the_seam_lacks_is_named_when_asked_for_and_left_out_when_described() {
        let multi = VectorParams {
            multivector_config: Some(MultiVectorConfig { comparator: 0 }),
            ..vector_params_to_proto(&vector(Distance::Dot, true))
        };
        let bytes = VectorParams {
            datatype: Some(Datatype::Uint8.into()),
            ..vector_params_to_proto(&vector(Distance::Dot, true))
        };
        let check = |params: &VectorParams, word: &str| {
            let error = vector_params_from_proto("v", params, None).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("`v`"), "{error}");
        };
        check(&multi, "multivector");
        check(&bytes, "Uint8");
        let plain = vector_params_to_proto(&vector(Distance::Dot, true));
        let map =
            [("multi".to_owned(), multi), ("bytes".to_owned(), bytes), ("plain".to_owned(), plain)];
        let vectors_config =
            VectorsConfig { config: Some(Config::ParamsMap(VectorParamsMap { map: map.into() })) };
        let index = |kind: PayloadSchemaType| PayloadSchemaInfo {
            data_type: kind.into(),
            ..PayloadSchemaInfo::default()
        };
        let info = CollectionInfo {
            config: Some(CollectionConfig {
                params: Some(CollectionParams {
                    vectors_config: Some(vectors_config),
                    ..CollectionParams::default()
                }),
                // No edges for the whole collection: no vector has an index.
                hnsw_config: Some(HnswConfigDiff { m: Some(0), ..HnswConfigDiff::default() }),
                ..CollectionConfig::default()
            }),
            payload_schema: [
                ("place".to_owned(), index(PayloadSchemaType::Geo)),
                ("year".to_owned(), index(PayloadSchemaType::Integer)),
            ]
            .into(),
            ..CollectionInfo::default()
        };
        let expected = CollectionSchema {
            vectors: [("plain".to_owned(), vector(Distance::Dot, false))].into(),
            payload_indexes: [("year".to_owned(), PayloadIndex::Integer)].into(),
        };
        assert_eq!(readable_schema(info), expected);
    }
}
