//! What the LLM may cost: pairs and tokens an hour, over all workers of an installation.
//!
//! Each worker writes what it spent into a point of its own, so that no two write the same one; all are
//! added up before a pair is begun. Several workers can therefore overrun the limit by one pair each.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use whyrank_plugin::records::{KIND_KEY, USAGE_KIND};
use whyrank_plugin::{Filter, Scroll, Selection, StoreResult, UsageRecord};

use super::jobs::Jobs;
use crate::generator::Usage;

const HOUR: i64 = 3_600_000;
/// Points of usage that are added up at most: workers of one hour.
const PAGE: usize = 1_000;

/// What all workers have spent in this hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Spent {
    /// Pairs that the LLM wrote about.
    pub pairs: u64,
    /// Tokens read and written.
    pub tokens: u64,
}

/// The account of one worker.
#[derive(Debug)]
pub struct Budget {
    jobs: Jobs,
    own: Mutex<UsageRecord>,
}

impl Budget {
    /// An account under the worker's name.
    pub fn new(jobs: Jobs, worker: &str) -> Self {
        let own = Mutex::new(UsageRecord::new(jobs.now() / HOUR, worker));
        Self { jobs, own }
    }

    /// Why no pair may be begun now, if none may.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn spent_up(&self) -> StoreResult<Option<String>> {
        spent_up(&self.jobs).await
    }

    /// Enters what a pair has cost, which counts as a pair if it was `written`; durable when it returns.
    ///
    /// # Errors
    /// When the store refuses it; the cost is then entered with the next pair's.
    pub async fn spend(&self, usage: Usage, written: bool) -> StoreResult<()> {
        if !is_limited(&self.jobs) {
            return Ok(());
        }
        let hour = self.jobs.now() / HOUR;
        let (record, first) = {
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            let nothing = UsageRecord::new(hour, &own.worker);
            if own.hour != hour {
                *own = nothing.clone();
            }
            let first = *own == nothing;
            own.pairs += i64::from(written);
            own.tokens += (usage.prompt_tokens + usage.completion_tokens) as i64;
            (own.clone(), first)
        };
        let storage = self.jobs.storage();
        let collection = &storage.settings().queue;
        storage.store().upsert(collection, vec![record.to_point()]).await?;
        if first {
            // The first entry of an hour clears away what nobody adds up any more.
            let old = json!({ "key": "hour", "range": { "lt": hour - 24 } });
            let old = usage_of(&self.jobs, old).await?;
            let ids: Vec<_> = old.iter().map(|record| record.to_point().id).collect();
            storage.store().delete(collection, &ids).await?;
        }
        Ok(())
    }
}

/// Whether there is anything to keep.
fn is_limited(jobs: &Jobs) -> bool {
    let settings = jobs.settings();
    settings.pairs_per_hour > 0 || settings.tokens_per_hour > 0
}

/// Why no worker may begin a pair now, if none may.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn spent_up(jobs: &Jobs) -> StoreResult<Option<String>> {
    if !is_limited(jobs) {
        return Ok(None);
    }
    let (settings, spent) = (jobs.settings(), spent(jobs).await?);
    let (pairs, tokens) = (settings.pairs_per_hour, settings.tokens_per_hour);
    Ok(if pairs > 0 && spent.pairs >= pairs {
        Some(format!("the LLM has written {pairs} pairs in this hour (`queue.pairs_per_hour`)"))
    } else if tokens > 0 && spent.tokens >= tokens {
        let used = spent.tokens;
        Some(format!(
            "the LLM has used {used} of {tokens} tokens of this hour (`queue.tokens_per_hour`)"
        ))
    } else {
        None
    })
}

/// What all workers have spent in this hour.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn spent(jobs: &Jobs) -> StoreResult<Spent> {
    let now = json!({ "key": "hour", "match": { "value": jobs.now() / HOUR } });
    let mut spent = Spent::default();
    for record in usage_of(jobs, now).await? {
        spent.pairs += u64::try_from(record.pairs).unwrap_or_default();
        spent.tokens += u64::try_from(record.tokens).unwrap_or_default();
    }
    Ok(spent)
}

async fn usage_of(jobs: &Jobs, hours: serde_json::Value) -> StoreResult<Vec<UsageRecord>> {
    let kind = json!({ "key": KIND_KEY, "match": { "value": USAGE_KIND } });
    let filter = Filter::from_json(json!({ "must": [kind, hours] }))?;
    let selection = Selection::payload();
    let scroll = Scroll { filter: Some(filter), from: None, limit: PAGE, selection };
    let storage = jobs.storage();
    let page = storage.store().scroll(&storage.settings().queue, scroll).await?;
    Ok(page.points.into_iter().filter_map(|point| UsageRecord::from_point(point).ok()).collect())
}
