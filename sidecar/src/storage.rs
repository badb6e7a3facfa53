//! The collections behind the store trait, read and written as records.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use whyrank_plugin::listener::ListenerSettings;
use whyrank_plugin::{
    EmbeddedSettings, EmbeddedStore, ExistingItems, ExistingItemsSettings, ExplanationRecord,
    Filter, ItemId, ItemRecord, PointId, PointVectors, RecordError, Scroll, Secret, Selection,
    ServerSettings, ServerStore, Store, StoreError, StoreResult, UserId, UserRecord,
    explanation_id, records,
};

/// Points read in one page when a whole collection is walked.
const PAGE: usize = 1_000;
/// Items that are looked at for vectors: one that came today may have none.
const FIRST_ITEMS: usize = 100;
/// Writes of one step that run at the same time.
const CONCURRENT_WRITES: usize = 16;

/// Where the collections are and what they are called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// The engine that holds them.
    pub backend: Backend,
    /// The collection of items.
    pub items: String,
    /// The collection of consumers.
    pub users: String,
    /// The collection of explanations.
    pub explanations: String,
    /// The collection of pairs that wait to be explained.
    pub queue: String,
    /// How the ids of the data become point ids.
    pub ids: IdScheme,
    /// The embedded engine's folder and limits.
    pub embedded: EmbeddedSettings,
    /// The server, and how collections are made on it.
    pub server: ServerSettings,
    /// How the points of an items collection that exists already become items. Without it Whyrank
    /// makes the collection itself.
    pub existing_items: Option<ExistingItemsSettings>,
    /// What the embedded engine answers to clients of Qdrant.
    pub listener: ListenerSettings,
}

/// The engines that can hold the collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Qdrant's engine inside this process, on disk.
    Embedded,
    /// A Qdrant server or cluster.
    Server,
}

/// How the ids that the data gives become Qdrant's point ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdScheme {
    /// Any text; the point id is its UUIDv5.
    External,
    /// The data's ids are Qdrant's point ids already: unsigned integers or UUIDs.
    Native,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            backend: Backend::Embedded,
            items: "items".to_owned(),
            users: "users".to_owned(),
            explanations: "explanations".to_owned(),
            queue: "whyrank_queue".to_owned(),
            ids: IdScheme::External,
            embedded: EmbeddedSettings::default(),
            server: ServerSettings::default(),
            existing_items: None,
            listener: ListenerSettings::default(),
        }
    }
}

/// An id given by a caller or by the data is not one under the configured scheme.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{given:?} is not a point id, and `store.ids` is \"native\": give an unsigned integer or a UUID"
)]
pub struct InvalidId {
    given: String,
}

/// The collections of one installation.
#[derive(Debug, Clone)]
pub struct Storage {
    engine: Arc<dyn Store>,
    store: Arc<dyn Store>,
    /// The engine again, where it is a server.
    server: Option<Arc<ServerStore>>,
    settings: StoreSettings,
}

impl Storage {
    /// Opens the configured store.
    ///
    /// # Errors
    /// When another process holds the embedded store, its folder cannot be used, or the settings of an
    /// existing items collection have a fault.
    pub async fn open(settings: &StoreSettings) -> Result<Self> {
        let server = match settings.backend {
            Backend::Embedded => None,
            Backend::Server => Some(Arc::new(ServerStore::open(settings.server.clone()).await?)),
        };
        let engine: Arc<dyn Store> = match &server {
            Some(server) => server.clone(),
            None => Arc::new(EmbeddedStore::open(settings.embedded.clone()).await?),
        };
        let store: Arc<dyn Store> = match &settings.existing_items {
            None => engine.clone(),
            Some(existing) => {
                Arc::new(ExistingItems::new(engine.clone(), &settings.items, existing)?)
            }
        };
        Ok(Self { engine, store, server, settings: settings.clone() })
    }

    /// From the next call on a server is sent this API key.
    ///
    /// # Errors
    /// When a header cannot carry it; the key before then stays in force.
    pub fn replace_api_key(&self, key: &Secret) -> StoreResult<()> {
        self.server.as_ref().map_or(Ok(()), |server| server.replace_api_key(key))
    }

    /// The engine as it is, without what stands between it and Whyrank.
    pub fn engine(&self) -> &Arc<dyn Store> {
        &self.engine
    }

    /// The store that Whyrank works with.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The names of the collections and the id scheme.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Makes the collections, or checks that the existing ones fit these dimensions.
    ///
    /// # Errors
    /// When an existing collection has another dimension or distance.
    pub async fn ensure(&self, vector_dimension: usize, code_dimension: usize) -> StoreResult<()> {
        let settings = &self.settings;
        self.store.ensure(&settings.items, &records::items_schema(vector_dimension)).await?;
        self.store.ensure(&settings.users, &records::users_schema(vector_dimension)).await?;
        let explanations = records::explanations_schema(code_dimension);
        self.store.ensure(&settings.explanations, &explanations).await?;
        self.store.ensure(&settings.queue, &records::queue_schema()).await?;
        Ok(())
    }

    /// The consumer that the data calls `external`.
    ///
    /// # Errors
    /// When ids are native and this is not one.
    pub fn user_id(&self, external: &str) -> Result<UserId, InvalidId> {
        match self.settings.ids {
            IdScheme::External => Ok(UserId::from_external(external)),
            IdScheme::Native => {
                external.parse().map_err(|_| InvalidId { given: external.to_owned() })
            }
        }
    }

    /// The item that the data calls `external`.
    ///
    /// # Errors
    /// When ids are native and this is not one.
    pub fn item_id(&self, external: &str) -> Result<ItemId, InvalidId> {
        match self.settings.ids {
            IdScheme::External => Ok(ItemId::from_external(external)),
            IdScheme::Native => {
                external.parse().map_err(|_| InvalidId { given: external.to_owned() })
            }
        }
    }

    /// One consumer, with vector.
    ///
    /// # Errors
    /// When the store cannot be read or holds something else under this id.
    pub async fn user(&self, id: UserId) -> Result<Option<UserRecord>> {
        let mut points =
            self.store.read(&self.settings.users, &[id.point()], &Selection::all()).await?;
        Ok(points.pop().flatten().map(UserRecord::from_point).transpose()?)
    }

    /// Items by id, with vectors, in the order asked; `None` where there is none.
    ///
    /// # Errors
    /// When the store cannot be read or holds something else under an id.
    pub async fn items(&self, ids: &[ItemId]) -> Result<Vec<Option<ItemRecord>>> {
        let ids: Vec<PointId> = ids.iter().map(ItemId::point).collect();
        let points = self.store.read(&self.settings.items, &ids, &Selection::all()).await?;
        let records = points.into_iter().map(|point| point.map(ItemRecord::from_point).transpose());
        Ok(records.collect::<Result<_, _>>()?)
    }

    /// The written explanations of these pairs, with codes, in the order asked.
    ///
    /// # Errors
    /// When the store cannot be read or holds something else under an id.
    pub async fn explanations(
        &self,
        pairs: &[(UserId, ItemId)],
    ) -> Result<Vec<Option<ExplanationRecord>>> {
        let ids: Vec<_> = pairs.iter().map(|(user, item)| explanation_id(user, item)).collect();
        let points = self.store.read(&self.settings.explanations, &ids, &Selection::all()).await?;
        let records =
            points.into_iter().map(|point| point.map(ExplanationRecord::from_point).transpose());
        Ok(records.collect::<Result<_, _>>()?)
    }

    /// All consumers, in the order of their point ids.
    ///
    /// # Errors
    /// When the store cannot be read, or there are none.
    pub async fn all_users(&self) -> Result<Vec<UserRecord>> {
        self.all(&self.settings.users, "consumers", UserRecord::from_point).await
    }

    /// All items, in the order of their point ids.
    ///
    /// # Errors
    /// When the store cannot be read, or there are none.
    pub async fn all_items(&self) -> Result<Vec<ItemRecord>> {
        self.all(&self.settings.items, "items", ItemRecord::from_point).await
    }

    async fn all<Record>(
        &self,
        collection: &str,
        what: &str,
        read: impl Fn(whyrank_plugin::Point) -> Result<Record, RecordError>,
    ) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        match self.walk(collection, None, |record| found.push(record), read).await {
            Ok(()) if found.is_empty() => bail!("there are no {what} yet: run `whyrank import`"),
            Ok(()) => Ok(found),
            Err(error) => match error.downcast_ref::<StoreError>() {
                Some(StoreError::CollectionMissing { .. }) => Err(error)
                    .with_context(|| format!("there are no {what} yet: run `whyrank import`")),
                _ => Err(error),
            },
        }
    }

    /// Whether items have vectors to be found by, as far as the first ones tell; none if there is no item.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_have_vectors(&self) -> StoreResult<Option<bool>> {
        let selection = Selection::vectors([records::ITEM_VECTOR]);
        let scroll = Scroll { filter: None, from: None, limit: FIRST_ITEMS, selection };
        let points = self.store.scroll(&self.settings.items, scroll).await?.points;
        let found = points.iter().any(|point| point.vectors.contains_key(records::ITEM_VECTOR));
        Ok((!points.is_empty()).then_some(found))
    }

    /// All written explanations that match, in the order of their point ids.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all_explanations(&self, filter: Option<Filter>) -> Result<Vec<ExplanationRecord>> {
        let mut found = Vec::new();
        self.each_explanation(filter, |record| found.push(record)).await?;
        Ok(found)
    }

    /// Hands over all written explanations that match, one at a time. One that cannot be read is told and
    /// passed over: a single bad point must not stop what goes through all of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_explanation(
        &self,
        filter: Option<Filter>,
        mut take: impl FnMut(ExplanationRecord),
    ) -> Result<()> {
        let read = |point| {
            let read = ExplanationRecord::from_point(point);
            let told =
                read.inspect_err(|error| tracing::warn!(%error, "an explanation is unusable"));
            Ok(told.ok())
        };
        let each = |found: Option<ExplanationRecord>| found.into_iter().for_each(&mut take);
        self.walk(&self.settings.explanations, filter, each, read).await
    }

    async fn walk<Record>(
        &self,
        collection: &str,
        filter: Option<Filter>,
        mut take: impl FnMut(Record),
        read: impl Fn(whyrank_plugin::Point) -> Result<Record, RecordError>,
    ) -> Result<()> {
        let mut from = None;
        loop {
            let selection = Selection::all();
            let scroll = Scroll { filter: filter.clone(), from, limit: PAGE, selection };
            let page = self.store.scroll(collection, scroll).await?;
            for point in page.points {
                take(read(point)?);
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Writes consumers; durable when it returns.
    ///
    /// # Errors
    /// When the store refuses them.
    pub async fn write_users(&self, users: &[UserRecord]) -> StoreResult<()> {
        let points = users.iter().map(UserRecord::to_point).collect();
        self.store.upsert(&self.settings.users, points).await
    }

    /// Gives consumers that are stored their vectors and tastes and leaves the rest of them alone, so
    /// that an interaction that comes meanwhile is not lost. What a record has none of stays as it is.
    ///
    /// # Errors
    /// When one is not stored, or the store refuses a vector.
    pub async fn write_places(&self, users: &[UserRecord]) -> StoreResult<()> {
        let with = |user: &UserRecord| {
            let vectors = [(records::USER_VECTOR.to_owned(), user.vector.clone()?)].into();
            Some(PointVectors { id: user.id.point(), vectors })
        };
        let vectors = users.iter().filter_map(with).collect();
        self.store.update_vectors(&self.settings.users, vectors).await?;
        // Each has another payload, so that each is a call; together they cost little more than one.
        let tastes = users.iter().filter_map(|user| Some((user.id.point(), user.taste_payload()?)));
        futures::stream::iter(tastes)
            .map(Ok)
            .try_for_each_concurrent(CONCURRENT_WRITES, |(id, taste)| async move {
                self.store.set_payload(&self.settings.users, &[id], taste).await
            })
            .await
    }

    /// Whether other processes may work on the same collections.
    pub fn is_shared(&self) -> bool {
        self.settings.backend == Backend::Server
    }

    /// Writes items; durable when it returns.
    ///
    /// # Errors
    /// When the store refuses them.
    pub async fn write_items(&self, items: &[ItemRecord]) -> StoreResult<()> {
        let points = items.iter().map(ItemRecord::to_point).collect();
        self.store.upsert(&self.settings.items, points).await
    }

    /// Writes explanations; durable when it returns.
    ///
    /// # Errors
    /// When the store refuses them.
    pub async fn write_explanations(&self, records: &[ExplanationRecord]) -> StoreResult<()> {
        let points = records.iter().map(ExplanationRecord::to_point).collect();
        self.store.upsert(&self.settings.explanations, points).await
    }
}
