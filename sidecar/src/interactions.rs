//! What consumers do from day to day: histories, profiles and user vectors follow without training.
//!
//! An interaction is taken in once, however often it is sent: it is known by its `id`, or by consumer,
//! item and time. A consumer's record changes by a conditional update on its revision, so that two
//! processes that take in interactions of one consumer at the same time lose neither. The order is:
//! record, vector, marks on the explanations, and the entry that all is done; a call that fails in between
//! is not acknowledged, and sent again it does what is missing. Two cases are not covered: two processes that both meet a consumer whom
//! nobody knows at the same instant, and an import of the table that reads a consumer just before an
//! interaction and writes just after it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use utoipa::ToSchema;
use whyrank_models::taste::Rated;
use whyrank_models::text::TextEmbedder;
use whyrank_plugin::{
    Filter, HistoryEntry, ItemId, ItemRecord, PointId, Posted, Selection, Statistics, UserId,
    UserRecord,
};

use crate::cold_start::{self, ColdStart};
use crate::features::RatingScale;
use crate::http::{ApiError, Cause};
use crate::import::ImportSettings;
use crate::metrics::Metrics;
use crate::queue::{Jobs, Lane, RewriteStale, Wanted};
use crate::staleness;
use crate::storage::Storage;
use crate::training::user_text;

/// How often a change is tried when other processes change the same consumer.
const TRIES: usize = 20;
/// The longest id of an interaction in bytes.
const LONGEST_ID: usize = 256;
/// Items read in one step.
const STEP: usize = 1_000;

/// Limits of what is taken in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InteractionSettings {
    /// Interactions in one request, at most.
    pub maximum_batch: usize,
    /// The latest interactions of a consumer that are kept.
    pub maximum_history: usize,
    /// The latest interactions of a consumer that are known again when they are sent twice.
    pub remembered: usize,
    /// Batches in hand, at most: they are taken in one after another, and more are refused with 429.
    pub maximum_waiting: usize,
    /// Seconds after which a caller is told that it takes too long; what has begun is taken in to its end.
    pub timeout_seconds: u64,
}

impl Default for InteractionSettings {
    fn default() -> Self {
        Self {
            maximum_batch: 1_000,
            maximum_history: 5_000,
            remembered: 1_000,
            maximum_waiting: 16,
            timeout_seconds: 120,
        }
    }
}

/// Something that a consumer did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InteractionGiven {
    /// What makes it one interaction, however often it is sent; without it consumer, item and time do.
    pub id: Option<String>,
    /// The consumer's id as the data gives it. One whom nobody knows yet is made.
    pub user: String,
    /// The item's id as the data gives it.
    pub item: String,
    /// The rating.
    pub rating: f32,
    /// When, in seconds since 1970; now if absent, and then an `id` is needed.
    pub time: Option<i64>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InteractionReport {
    /// Interactions that are new. They are durable.
    pub accepted: usize,
    /// Interactions that were taken in before.
    pub known: usize,
    /// Consumers whose histories were given.
    pub users: usize,
    /// Of these, how many were not there before.
    pub new_users: usize,
    /// Of these, how many have a new vector.
    pub vectors: usize,
    /// Explanations that were marked stale.
    pub stale: usize,
}

/// What an [`Interactions`] is made of.
#[derive(Debug)]
pub struct InteractionParts {
    /// Limits.
    pub settings: InteractionSettings,
    /// Whether user vectors are brought.
    pub import: ImportSettings,
    /// What ratings mean, and which are possible.
    pub scale: RatingScale,
    /// The lowest and the highest rating that was learned from at start, if that is known.
    pub learned_ratings: Option<[f32; 2]>,
    /// The collections.
    pub storage: Storage,
    /// Makes vectors and tastes of histories; without it they stay as they are.
    pub cold_start: Option<Arc<ColdStart>>,
    /// Embeds profiles.
    pub embedder: Arc<TextEmbedder>,
    /// Where stale explanations are queued.
    pub jobs: Jobs,
    /// Where interactions are counted.
    pub metrics: Metrics,
}

/// Takes in interactions.
#[derive(Debug, Clone)]
pub struct Interactions {
    parts: Arc<InteractionParts>,
    /// Places for batches in hand.
    places: Arc<Semaphore>,
    /// One change of consumers at a time in this process: they take milliseconds.
    turn: Arc<Mutex<()>>,
}

/// A batch that was checked: each consumer's id as the data gives it, and what is posted of them.
type Batch = BTreeMap<UserId, (String, Vec<Posted>)>;

/// Adds an entry to a history at its place, and to what the consumer has seen. False if it is there.
pub(crate) fn add(user: &mut UserRecord, entry: HistoryEntry) -> bool {
    let same = |other: &HistoryEntry| (other.item, other.time) == (entry.item, entry.time);
    if user.history.iter().any(same) {
        return false;
    }
    let newer = |other: &HistoryEntry| (other.time, other.item) > (entry.time, entry.item);
    let place = user.history.partition_point(newer);
    user.history.insert(place, entry);
    if !user.seen.contains(&entry.item) {
        user.seen.insert(0, entry.item);
    }
    true
}

/// Adds what is new of a batch to a consumer; returns how many were.
fn merge(user: &mut UserRecord, given: &[Posted], settings: &InteractionSettings) -> usize {
    let mut new = 0;
    for one in given {
        if user.posted.iter().any(|posted| posted.key == one.key) || !add(user, one.entry) {
            continue;
        }
        user.posted.insert(0, one.clone());
        new += 1;
    }
    user.history.truncate(settings.maximum_history);
    user.posted.truncate(settings.remembered);
    user.statistics = Statistics::of(user.history.iter().map(|entry| entry.rating));
    new
}

impl Interactions {
    /// Puts it together.
    pub fn new(parts: InteractionParts) -> Self {
        let places = Arc::new(Semaphore::new(parts.settings.maximum_waiting));
        Self { parts: Arc::new(parts), places, turn: Arc::default() }
    }

    /// How long a caller waits for a batch at most.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.parts.settings.timeout_seconds)
    }

    /// Takes a batch in: all of it is checked before the first is stored, and durable when it returns.
    /// A caller that leaves gives up its turn, or once that has come lets the batch be taken in to its end.
    ///
    /// # Errors
    /// When one cannot be used (it is named by its place), too many batches are in hand, or the store fails:
    /// then the batch may be stored in part, and sending it again is harmless.
    pub async fn take_in(&self, given: &[InteractionGiven]) -> Result<InteractionReport, ApiError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let most = self.parts.settings.maximum_waiting;
            let message = format!(
                "{most} batches of interactions are in hand (`interactions.maximum_waiting`); send this \
                 one again later"
            );
            ApiError::new(Cause::Full, message)
        })?;
        let mut batch = Batch::new();
        for (user, external, posted) in self.checked(given).await? {
            batch.entry(user).or_insert((external, Vec::new())).1.push(posted);
        }
        let turn = self.turn.clone().lock_owned().await;
        let this = self.clone();
        // A task of its own: a caller that leaves does not stop it between record and vector.
        let work = async move {
            let _place = place;
            this.take_turn(batch, turn).await
        };
        tokio::spawn(work).await.unwrap_or_else(|error| Err(anyhow::Error::from(error).into()))
    }

    async fn take_turn(
        &self,
        batch: Batch,
        _turn: OwnedMutexGuard<()>,
    ) -> Result<InteractionReport, ApiError> {
        let mut report = InteractionReport { users: batch.len(), ..InteractionReport::default() };
        for (user, (external, posted)) in batch {
            let (record, new, created) = self.store(user, external, &posted).await?;
            report.accepted += new;
            report.known += posted.len() - new;
            report.new_users += usize::from(created);
            if new == 0 && record.settled == record.revision {
                continue;
            }
            let (record, moved) = self.bring_up(record).await?;
            report.vectors += usize::from(moved);
            let stale = staleness::mark_profile(&self.parts.storage, user).await?;
            report.stale += stale.len();
            if self.parts.jobs.settings().rewrite_stale == RewriteStale::All {
                let wanted =
                    stale.into_iter().map(|(user, item)| Wanted { user, item, lane: Lane::Stale });
                self.parts.jobs.offer(&wanted.collect::<Vec<_>>()).await?;
            }
            self.settle(&record).await?;
        }
        let count = |outcome: &str, number: usize| {
            let counter = self.parts.metrics.interactions.with_label_values(&[outcome]);
            counter.inc_by(number as u64);
        };
        count("new", report.accepted);
        count("known", report.known);
        Ok(report)
    }

    async fn checked(
        &self,
        given: &[InteractionGiven],
    ) -> Result<Vec<(UserId, String, Posted)>, ApiError> {
        let most = self.parts.settings.maximum_batch;
        let refuse = |cause: Cause, message: String| Err(ApiError::new(cause, message));
        if given.is_empty() || given.len() > most {
            let message = format!(
                "`interactions` has {} entries; give 1 to {most} (`interactions.maximum_batch`)",
                given.len()
            );
            return refuse(Cause::Invalid, message);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs() as i64);
        let InteractionParts { storage, scale, learned_ratings: learned, .. } = &*self.parts;
        let learned = *learned;
        let mut checked = Vec::with_capacity(given.len());
        for (place, one) in given.iter().enumerate() {
            let at = format!("interactions[{place}]");
            if let Some(why) = scale.refusal(one.rating, learned) {
                return refuse(Cause::Invalid, format!("`{at}.rating` is {why}"));
            }
            let key = match (&one.id, one.time) {
                (Some(id), _) if id.is_empty() || id.len() > LONGEST_ID => {
                    let message = format!("`{at}.id` must have 1 to {LONGEST_ID} bytes");
                    return refuse(Cause::Invalid, message);
                }
                (Some(id), _) => format!("id {id}"),
                (None, Some(time)) => format!("at {time} {}", one.item),
                (None, None) => {
                    let message = format!(
                        "`{at}` needs an `id` or a `time`, or it counts twice when it is sent again"
                    );
                    return refuse(Cause::Invalid, message);
                }
            };
            let named =
                |what: &str, error: &dyn std::fmt::Display| format!("`{at}.{what}`: {error}");
            let user = storage.user_id(&one.user);
            let user =
                user.map_err(|error| ApiError::new(Cause::UnknownUser, named("user", &error)))?;
            let item = storage.item_id(&one.item);
            let item =
                item.map_err(|error| ApiError::new(Cause::UnknownItem, named("item", &error)))?;
            let time = one.time.unwrap_or(now);
            let entry = HistoryEntry { item, rating: one.rating, time };
            checked.push((user, one.user.clone(), Posted { key, entry }));
        }
        self.check_items(given, &checked).await?;
        Ok(checked)
    }

    /// Refuses items that are not in the store: what nobody can be shown tells nothing.
    async fn check_items(
        &self,
        given: &[InteractionGiven],
        checked: &[(UserId, String, Posted)],
    ) -> Result<(), ApiError> {
        let storage = &self.parts.storage;
        let ids: Vec<PointId> =
            checked.iter().map(|(_, _, posted)| posted.entry.item.point()).collect();
        for (step, ids) in ids.chunks(STEP).enumerate() {
            let items = &storage.settings().items;
            let found = storage.store().read(items, ids, &Selection::none()).await?;
            if let Some(place) = found.iter().position(Option::is_none) {
                let place = step * STEP + place;
                let item = &given[place].item;
                let message = format!("`interactions[{place}].item` {item:?} is not in the store");
                return Err(ApiError::new(Cause::UnknownItem, message));
            }
        }
        Ok(())
    }

    /// Brings the new ones into the consumer's record; returns it, how many were new, and whether the
    /// consumer is.
    async fn store(
        &self,
        id: UserId,
        external: String,
        given: &[Posted],
    ) -> Result<(UserRecord, usize, bool)> {
        let (storage, settings) = (&self.parts.storage, &self.parts.settings);
        let users = &storage.settings().users;
        for _ in 0..TRIES {
            let known = storage.user(id).await?;
            let created = known.is_none();
            let mut record = known.unwrap_or_else(|| UserRecord {
                id,
                external_id: external.clone(),
                attributes: BTreeMap::new(),
                history: Vec::new(),
                seen: Vec::new(),
                statistics: Statistics::default(),
                vector: None,
                taste: None,
                posted: Vec::new(),
                revision: None,
                settled: None,
            });
            let before = record.revision.clone();
            let new = merge(&mut record, given, settings);
            if new == 0 {
                return Ok((record, 0, false));
            }
            let revision = format!("{:032x}", rand::random::<u128>());
            record.revision = Some(revision.clone());
            if created {
                storage.write_users(std::slice::from_ref(&record)).await?;
                return Ok((record, new, true));
            }
            let unchanged = match before {
                Some(before) => json!({ "key": "revision", "match": { "value": before } }),
                None => json!({ "is_empty": { "key": "revision" } }),
            };
            let unchanged = Filter::from_json(json!({ "must": [unchanged] }))?;
            let payload = record.to_point().payload;
            storage.store().set_payload_where(users, &[id.point()], &unchanged, payload).await?;
            // Whose change it was, the record says; another's may follow at once, and has this one too.
            let now = storage.user(id).await?.context("a consumer was deleted meanwhile")?;
            let mine = |now: &UserRecord| {
                let keys: Vec<&str> = now.posted.iter().map(|one| one.key.as_str()).collect();
                given.iter().all(|one| keys.contains(&one.key.as_str()))
            };
            if now.revision.as_deref() == Some(revision.as_str()) || mine(&now) {
                return Ok((now, new, false));
            }
        }
        bail!("consumer {external:?} was changed by others {TRIES} times in a row; send it again")
    }

    /// Gives the consumer the vector of the history, again if another process changed that meanwhile: of
    /// two vectors that are written at once the later history's must stay.
    async fn bring_up(&self, mut record: UserRecord) -> Result<(UserRecord, bool)> {
        for _ in 0..TRIES {
            let moved = self.fold_in(&record).await?;
            match self.parts.storage.user(record.id).await? {
                Some(now) if now.revision != record.revision => record = now,
                _ => return Ok((record, moved)),
            }
        }
        bail!("a consumer was changed by others {TRIES} times in a row; send it again")
    }

    /// Enters that nothing is left to do for this revision of the consumer.
    async fn settle(&self, record: &UserRecord) -> Result<()> {
        let Some(revision) = &record.revision else { return Ok(()) };
        let storage = &self.parts.storage;
        let same = json!({ "key": "revision", "match": { "value": revision } });
        let same = Filter::from_json(json!({ "must": [same] }))?;
        let settled = [("settled".to_owned(), revision.clone().into())].into_iter().collect();
        let (users, ids) = (&storage.settings().users, [record.id.point()]);
        storage.store().set_payload_where(users, &ids, &same, settled).await?;
        Ok(())
    }

    /// Gives the consumer the vector and the taste of the whole history, as `index` does; false if the
    /// vector stays as it is.
    async fn fold_in(&self, user: &UserRecord) -> Result<bool> {
        let brought = !self.parts.import.users.vector.is_empty() && user.vector.is_some();
        let Some(cold_start) = self.parts.cold_start.clone() else {
            return Ok(false);
        };
        let storage = &self.parts.storage;
        let mut ids: Vec<PointId> = user.history.iter().map(|entry| entry.item.point()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut known: HashMap<ItemId, (Vec<f32>, f32)> = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(STEP) {
            let items = &storage.settings().items;
            let points = storage.store().read(items, ids, &Selection::all()).await?;
            for point in points.into_iter().flatten() {
                let item = ItemRecord::from_point(point)?;
                let expected = self.parts.scale.expected(item.statistics);
                known.extend(item.vector.map(|vector| (item.id, (vector, expected))));
            }
        }
        // Vector, what is expected, rating.
        let history: Vec<(Vec<f32>, f32, f32)> = user
            .history
            .iter()
            .filter_map(|entry| {
                let (vector, expected) = known.get(&entry.item)?;
                Some((vector.clone(), *expected, entry.rating))
            })
            .collect();
        if history.is_empty() {
            return Ok(false);
        }
        let (embedder, text) = (self.parts.embedder.clone(), user_text(user));
        // Embedding and solving are pure computation, which must not hold up other requests.
        let place = tokio::task::spawn_blocking(move || -> Result<_> {
            let rated = history.iter().map(|(vector, expected, rating)| Rated {
                vector,
                expected: *expected,
                rating: *rating,
            });
            let taste = cold_start.taste(&rated.collect::<Vec<_>>())?;
            if brought {
                return Ok((None, taste));
            }
            let profile = if cold_start.takes_profiles() && !text.is_empty() {
                Some(embedder.embed(&text)?.to_vec())
            } else {
                None
            };
            let history: Vec<(Vec<f32>, f32)> =
                history.into_iter().map(|(vector, _, rating)| (vector, rating)).collect();
            Ok((Some(cold_start.fold_in_with(&history, profile.as_deref())?), taste))
        });
        let (vector, taste) = place.await.context("folding in a history")??;
        let moved = vector.is_some();
        let record = UserRecord { vector, taste: Some(cold_start::stored(taste)), ..user.clone() };
        storage.write_places(std::slice::from_ref(&record)).await?;
        Ok(moved)
    }
}

#[cfg(test)]
#[path = "interactions_tests.rs"]
mod tests;
