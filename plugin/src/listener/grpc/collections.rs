//! The `Collections` service.

use std::collections::HashMap;

use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    ChangeAliases, CollectionClusterInfoRequest, CollectionClusterInfoResponse, CollectionConfig,
    CollectionDescription, CollectionExists, CollectionExistsRequest, CollectionExistsResponse,
    CollectionInfo, CollectionOperationResponse, CollectionParams, CollectionStatus,
    CreateCollection, CreateShardKeyRequest, CreateShardKeyResponse, DeleteCollection,
    DeleteShardKeyRequest, DeleteShardKeyResponse, GetCollectionInfoRequest,
    GetCollectionInfoResponse, HnswConfigDiff, ListAliasesRequest, ListAliasesResponse,
    ListCollectionAliasesRequest, ListCollectionsRequest, ListCollectionsResponse,
    ListShardKeysRequest, ListShardKeysResponse, OptimizerStatus, OptimizersConfigDiff,
    PayloadSchemaInfo, ShardingMethod, UpdateCollection, UpdateCollectionClusterSetupRequest,
    UpdateCollectionClusterSetupResponse, WalConfigDiff,
};
use tonic::{Request, Response, Status};

use super::answer::answer;
use super::selector::unsupported;
use super::{Service, unanswered_methods};
use crate::embedded::EmbeddedSettings;
use crate::listener::fault::Fault;
use crate::listener::operations;
use crate::store::CollectionSchema;
use crate::wire;

#[tonic::async_trait]
impl Collections for Service {
    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        let collection = request.into_inner().collection_name;
        let operation = async { describe(self.operations.collection_info(&collection).await?) };
        answer(operation, |info, time| GetCollectionInfoResponse { result: Some(info), time }).await
    }

    async fn list(
        &self,
        _request: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        answer(self.operations.collections(), |names, time| {
            let collections = names.into_iter().map(|name| CollectionDescription { name });
            ListCollectionsResponse { collections: collections.collect(), time }
        })
        .await
    }

    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let request = request.into_inner();
        let collection = request.collection_name.clone();
        let operation = async {
            let schema = read_schema(request)?;
            self.operations.create_collection(&collection, &schema).await
        };
        answer(operation, |(), time| CollectionOperationResponse { result: true, time }).await
    }

    async fn delete(
        &self,
        request: Request<DeleteCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let collection = request.into_inner().collection_name;
        let operation = self.operations.delete_collection(&collection);
        answer(operation, |result, time| CollectionOperationResponse { result, time }).await
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Result<Response<CollectionExistsResponse>, Status> {
        let collection = request.into_inner().collection_name;
        answer(self.operations.collection_exists(&collection), |exists, time| {
            CollectionExistsResponse { result: Some(CollectionExists { exists }), time }
        })
        .await
    }

    unanswered_methods! { "Collections":
        update = "Update"(UpdateCollection) -> CollectionOperationResponse;
        update_aliases = "UpdateAliases"(ChangeAliases) -> CollectionOperationResponse;
        list_collection_aliases =
            "ListCollectionAliases"(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases = "ListAliases"(ListAliasesRequest) -> ListAliasesResponse;
        collection_cluster_info =
            "CollectionClusterInfo"(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        update_collection_cluster_setup = "UpdateCollectionClusterSetup"(
            UpdateCollectionClusterSetupRequest
        ) -> UpdateCollectionClusterSetupResponse;
        create_shard_key = "CreateShardKey"(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key = "DeleteShardKey"(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys = "ListShardKeys"(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}

/// The schema of a new collection. Settings about memory, speed and copies change nothing here.
fn read_schema(request: CreateCollection) -> Result<CollectionSchema, Fault> {
    let sparse = request.sparse_vectors_config.is_some_and(|config| !config.map.is_empty());
    unsupported(sparse, "sparse vectors")?;
    unsupported(request.quantization_config.is_some(), "quantization")?;
    unsupported(request.strict_mode_config.is_some(), "strict mode")?;
    unsupported(!request.metadata.is_empty(), "the metadata of collections")?;
    let method = request.sharding_method.unwrap_or_default();
    unsupported(method != i32::from(ShardingMethod::Auto), "shard keys (`sharding_method`)")?;
    let quantized = match request.vectors_config.as_ref().and_then(|config| config.config.as_ref())
    {
        Some(Config::Params(params)) => params.quantization_config.is_some(),
        Some(Config::ParamsMap(named)) => {
            named.map.values().any(|params| params.quantization_config.is_some())
        }
        None => false,
    };
    unsupported(quantized, "quantization")?;
    let edges = request.hnsw_config.and_then(|hnsw| hnsw.m);
    let vectors = wire::vectors_config_from_proto(request.vectors_config, edges)?;
    Ok(CollectionSchema { vectors, ..CollectionSchema::default() })
}

/// The description of a collection, with the same values as over REST for what the store does not
/// tell.
fn describe(info: operations::CollectionInfo) -> Result<CollectionInfo, Fault> {
    let engine = EmbeddedSettings::default();
    let params = CollectionParams {
        shard_number: 1,
        vectors_config: Some(wire::vectors_config_to_proto(&info.schema.vectors)?),
        replication_factor: Some(1),
        write_consistency_factor: Some(1),
        #[expect(deprecated, reason = "clients of this version read it")]
        on_disk_payload: true,
        ..CollectionParams::default()
    };
    let config = CollectionConfig {
        params: Some(params),
        hnsw_config: Some(HnswConfigDiff {
            m: Some(engine.hnsw_m as u64),
            ef_construct: Some(engine.hnsw_ef_construct as u64),
            full_scan_threshold: Some(engine.indexing_threshold_kilobytes as u64),
            max_indexing_threads: Some(0),
            ..HnswConfigDiff::default()
        }),
        optimizer_config: Some(OptimizersConfigDiff {
            default_segment_number: Some(0),
            indexing_threshold: Some(engine.indexing_threshold_kilobytes as u64),
            flush_interval_sec: Some(0),
            ..OptimizersConfigDiff::default()
        }),
        wal_config: Some(WalConfigDiff {
            wal_capacity_mb: Some(engine.checkpoint_bytes / (1024 * 1024)),
            wal_segments_ahead: Some(0),
            ..WalConfigDiff::default()
        }),
        ..CollectionConfig::default()
    };
    let payload_schema: HashMap<String, PayloadSchemaInfo> = info
        .schema
        .payload_indexes
        .iter()
        .map(|(key, index)| {
            let index = PayloadSchemaInfo {
                data_type: wire::index_to_schema_type(*index).into(),
                params: None,
                points: Some(info.indexed_points.get(key).copied().unwrap_or_default()),
            };
            (key.clone(), index)
        })
        .collect();
    Ok(CollectionInfo {
        status: CollectionStatus::Green.into(),
        optimizer_status: Some(OptimizerStatus { ok: true, error: String::new() }),
        segments_count: 1,
        config: Some(config),
        payload_schema,
        points_count: Some(info.points),
        ..CollectionInfo::default()
    })
}
