//! Collections: making, describing, listing, deleting, and waiting for their indexes.

use std::sync::Arc;
use std::time::Duration;

use qdrant_client::qdrant::quantization_config::Quantization as QuantizationKind;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    BinaryQuantization, CollectionInfo, CollectionStatus, CreateCollection,
    CreateFieldIndexCollection, DeleteCollection, GetCollectionInfoRequest, HnswConfigDiff,
    ListCollectionsRequest, OptimizersConfigDiff, QuantizationConfig, QuantizationType,
    ScalarQuantization, UpdateCollection,
};
use tokio::time::Instant;

use super::Inner;
use super::settings::{Quantization, ServerSettings, duration};
use crate::store::{CollectionSchema, Ensured, PayloadIndex, StoreError, StoreResult};
use crate::validate;
use crate::wire::{field_type_to_proto, readable_schema, vectors_config_to_proto};

/// The first and the longest time between two looks at a collection that is being optimised.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_secs(2);

impl Inner {
    pub(super) async fn collections(&self) -> StoreResult<Vec<String>> {
        let answer = self
            .call("", |clients| async move {
                clients.collections().list(ListCollectionsRequest {}).await
            })
            .await?;
        let mut names: Vec<String> =
            answer.collections.into_iter().map(|collection| collection.name).collect();
        names.sort();
        Ok(names)
    }

    pub(super) async fn fresh_schema(
        &self,
        collection: &str,
    ) -> StoreResult<Arc<CollectionSchema>> {
        let schema = Arc::new(readable_schema(self.info(collection).await?));
        self.schemas().insert(collection.to_owned(), Arc::clone(&schema));
        Ok(schema)
    }

    pub(super) async fn ensure(
        &self,
        collection: &str,
        wanted: &CollectionSchema,
    ) -> StoreResult<Ensured> {
        validate::collection_name(collection)?;
        validate::schema(collection, wanted)?;
        let ensured = match self.fresh_schema(collection).await {
            Ok(_) => Ensured::Existing,
            Err(StoreError::CollectionMissing { .. }) => self.create(collection, wanted).await?,
            Err(error) => return Err(error),
        };
        let found = self.fresh_schema(collection).await?;
        validate::fits(collection, &found, wanted)?;
        let missing: Vec<(&String, &PayloadIndex)> = wanted
            .payload_indexes
            .iter()
            .filter(|(key, _)| !found.payload_indexes.contains_key(*key))
            .collect();
        if !missing.is_empty() {
            for (key, index) in missing {
                self.create_index(collection, key, *index).await?;
            }
            self.fresh_schema(collection).await?;
        }
        Ok(ensured)
    }

    pub(super) async fn delete_collection(&self, collection: &str) -> StoreResult<bool> {
        let request =
            DeleteCollection { collection_name: collection.to_owned(), ..Default::default() };
        let deleted = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.collections().delete(request).await }
            })
            .await;
        self.schemas().remove(collection);
        match deleted {
            Ok(answer) => Ok(answer.result),
            Err(StoreError::CollectionMissing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until the server has built the collection's indexes.
    pub(super) async fn optimize(&self, collection: &str) -> StoreResult<()> {
        let patience = duration(self.settings.optimize_timeout_seconds);
        let start = Instant::now();
        let mut look = FIRST_LOOK;
        let mut woken = false;
        loop {
            let info = self.info(collection).await?;
            match CollectionStatus::try_from(info.status) {
                Ok(CollectionStatus::Green) => return Ok(()),
                Ok(CollectionStatus::Grey) if !woken => {
                    // After a restart the optimiser waits for a change; one that changes nothing
                    // wakes it.
                    woken = true;
                    self.wake(collection).await?;
                }
                Ok(CollectionStatus::Red) => {
                    let fault = info.optimizer_status.map(|status| status.error);
                    let fault = fault.filter(|fault| !fault.is_empty());
                    let detail = fault.unwrap_or_else(|| "its status is red".to_owned());
                    return Err(self.broken(collection, detail));
                }
                _ => {}
            }
            if start.elapsed() + look > patience {
                let detail = format!(
                    "collection `{collection}` is still being optimised after {patience:?} \
                     (`optimize_timeout_seconds`); the server goes on with it"
                );
                return Err(StoreError::Unavailable { detail });
            }
            tokio::time::sleep(look).await;
            look = (look * 2).min(LONGEST_LOOK);
        }
    }

    async fn info(&self, collection: &str) -> StoreResult<CollectionInfo> {
        let request = GetCollectionInfoRequest { collection_name: collection.to_owned() };
        let answer = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.collections().get(request).await }
            })
            .await?;
        answer.result.ok_or_else(|| self.broken(collection, "the server describes it with nothing"))
    }

    async fn create(&self, collection: &str, schema: &CollectionSchema) -> StoreResult<Ensured> {
        let request = creation(collection, schema, &self.settings).map_err(|detail| {
            StoreError::InvalidRequest { collection: collection.to_owned(), detail }
        })?;
        let created = self
            .call(collection, |clients| {
                let request = request.clone();
                async move { clients.collections().create(request).await }
            })
            .await;
        match created {
            Ok(_) => Ok(Ensured::Created),
            // Somebody else made it, or an attempt whose answer was lost did.
            Err(StoreError::InvalidRequest { detail, .. }) if detail.contains("already exists") => {
                Ok(Ensured::Existing)
            }
            Err(error) => Err(error),
        }
    }

    async fn create_index(
        &self,
        collection: &str,
        key: &str,
        index: PayloadIndex,
    ) -> StoreResult<()> {
        let request = CreateFieldIndexCollection {
            collection_name: collection.to_owned(),
            wait: Some(true),
            field_name: key.to_owned(),
            field_type: Some(field_type_to_proto(index).into()),
            ..Default::default()
        };
        self.call(collection, |clients| {
            let request = request.clone();
            async move { clients.points().create_field_index(request).await }
        })
        .await
        .map(drop)
    }

    async fn wake(&self, collection: &str) -> StoreResult<()> {
        let request = UpdateCollection {
            collection_name: collection.to_owned(),
            optimizers_config: Some(OptimizersConfigDiff::default()),
            ..Default::default()
        };
        self.call(collection, |clients| {
            let request = request.clone();
            async move { clients.collections().update(request).await }
        })
        .await
        .map(drop)
    }
}

/// The request that makes a collection as the settings want it.
#[expect(deprecated, reason = "servers before 1.20 know `on_disk` only; later ones obey it")]
fn creation(
    collection: &str,
    schema: &CollectionSchema,
    settings: &ServerSettings,
) -> Result<CreateCollection, String> {
    let mut vectors =
        vectors_config_to_proto(&schema.vectors).map_err(|error| error.to_string())?;
    let on_disk = Some(settings.on_disk_vectors);
    match &mut vectors.config {
        Some(Config::Params(parameters)) => parameters.on_disk = on_disk,
        Some(Config::ParamsMap(named)) => {
            named.map.values_mut().for_each(|parameters| parameters.on_disk = on_disk);
        }
        None => {}
    }
    Ok(CreateCollection {
        collection_name: collection.to_owned(),
        vectors_config: Some(vectors),
        hnsw_config: Some(HnswConfigDiff {
            m: Some(settings.hnsw_m),
            ef_construct: Some(settings.hnsw_ef_construct),
            ..HnswConfigDiff::default()
        }),
        optimizers_config: Some(OptimizersConfigDiff {
            indexing_threshold: Some(settings.indexing_threshold_kilobytes),
            ..OptimizersConfigDiff::default()
        }),
        shard_number: settings.shard_number,
        replication_factor: settings.replication_factor,
        write_consistency_factor: settings.write_consistency_factor,
        on_disk_payload: Some(settings.on_disk_payload),
        quantization_config: quantization(settings.quantization),
        ..CreateCollection::default()
    })
}

#[expect(deprecated, reason = "servers before 1.20 know `always_ram` only; later ones obey it")]
fn quantization(quantization: Quantization) -> Option<QuantizationConfig> {
    let kind = match quantization {
        Quantization::None => return None,
        Quantization::Scalar { quantile, always_ram } => {
            QuantizationKind::Scalar(ScalarQuantization {
                r#type: QuantizationType::Int8.into(),
                quantile,
                always_ram: Some(always_ram),
                ..ScalarQuantization::default()
            })
        }
        Quantization::Binary { always_ram } => QuantizationKind::Binary(BinaryQuantization {
            always_ram: Some(always_ram),
            ..BinaryQuantization::default()
        }),
    };
    Some(QuantizationConfig { quantization: Some(kind) })
}
