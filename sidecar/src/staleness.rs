//! Whether a written explanation still stands on what is true: the consumer's profile, the prompt and
//! the model.
//!
//! A changed profile is marked on the explanations when it changes, because finding out means gathering
//! the evidence again. A changed model or prompt is seen in the explanation's own provenance, compared
//! with what the workers say that they write with. Whoever marks too much loses nothing: a worker that
//! finds the same evidence takes the mark off and writes nothing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use whyrank_plugin::records::USER_KEY;
use whyrank_plugin::store::Payload;
use whyrank_plugin::{
    ExplanationRecord, Filter, ItemId, PointId, Scroll, Selection, Source, UserId,
};

use crate::queue::Jobs;
use crate::storage::Storage;

/// The consumer's history or attributes have changed.
pub const PROFILE: &str = "profile";
/// Another model, or another version of it, writes now.
pub const MODEL: &str = "model";
/// The prompt templates have changed.
pub const PROMPT: &str = "prompt";

/// How often a process without the LLM asks what the workers write with.
const ASKED: Duration = Duration::from_secs(30);
/// Explanations read in one page.
const PAGE: usize = 1_000;

/// What explanations are written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The generator, its model and version.
    pub generator: String,
    /// The version of the prompt templates.
    pub prompt_version: String,
}

/// Tells what is stale. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    versions: Arc<RwLock<Option<Versions>>>,
}

impl Freshness {
    /// Explanations are written with this from now on.
    pub fn set(&self, versions: Versions) {
        *self.versions.write().unwrap_or_else(PoisonError::into_inner) = Some(versions);
    }

    /// What has changed since the explanation was written: [`PROFILE`], [`MODEL`], [`PROMPT`], or
    /// nothing. A template's text is not stale because an LLM has come: its source says what it is.
    pub fn stale(&self, record: &ExplanationRecord) -> Option<String> {
        if record.stale.is_some() {
            return record.stale.clone();
        }
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let versions = versions.as_ref()?;
        let provenance = &record.provenance;
        let template_writes = versions.generator.starts_with("template/");
        if provenance.source != Source::Llm || template_writes {
            return None;
        }
        if provenance.generator != versions.generator {
            return Some(MODEL.to_owned());
        }
        (provenance.prompt_version != versions.prompt_version).then(|| PROMPT.to_owned())
    }

    /// Learns from the store what the workers write with, now and then, until `end` fires.
    pub async fn follow(self, jobs: Jobs, end: CancellationToken) {
        let mut times = tokio::time::interval(ASKED);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = times.tick() => {}
            }
            match jobs.control().await {
                Ok(control) => {
                    if let (Some(generator), Some(prompt_version)) =
                        (control.generator, control.prompt_version)
                    {
                        self.set(Versions { generator, prompt_version });
                    }
                }
                Err(error) => tracing::debug!(%error, "what the workers write with is not known"),
            }
        }
    }

    /// All pairs whose explanations are stale.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all_stale(&self, storage: &Storage) -> Result<Vec<(UserId, ItemId)>> {
        let mut stale = Vec::new();
        let take = |record: ExplanationRecord| {
            if self.stale(&record).is_some() {
                stale.push((record.user, record.item));
            }
        };
        storage.each_explanation(None, take).await?;
        Ok(stale)
    }
}

/// Marks all explanations of a consumer stale, because the profile has changed; returns the pairs.
///
/// # Errors
/// When the store fails. Doing it again is harmless.
pub async fn mark_profile(storage: &Storage, user: UserId) -> Result<Vec<(UserId, ItemId)>> {
    let filter = Filter::equals(USER_KEY, &user.to_string())?;
    let (store, collection) = (storage.store(), &storage.settings().explanations);
    let mark: Payload = [("stale".to_owned(), PROFILE.into())].into_iter().collect();
    let (mut marked, mut from) = (Vec::new(), None);
    loop {
        let selection = Selection::payload();
        let scroll = Scroll { filter: Some(filter.clone()), from, limit: PAGE, selection };
        let page = store.scroll(collection, scroll).await?;
        let ids: Vec<PointId> = page.points.iter().map(|point| point.id).collect();
        // One that is deleted meanwhile is passed over.
        store.set_payload_where(collection, &ids, &filter, mark.clone()).await?;
        let items = page.points.iter().filter_map(|point| {
            let item = point.payload.get("item")?.as_str()?.parse().ok()?;
            Some((user, item))
        });
        marked.extend(items);
        from = page.next;
        if from.is_none() {
            return Ok(marked);
        }
    }
}

/// Takes the mark off an explanation that was found to be current, unless it was written again.
///
/// # Errors
/// When the store fails.
pub async fn mark_current(storage: &Storage, record: &ExplanationRecord) -> Result<()> {
    let same = Filter::from_json(json!({ "must": [{
        "key": "provenance.profile_version",
        "match": { "value": record.provenance.profile_version },
    }] }))?;
    let none: Payload = [("stale".to_owned(), serde_json::Value::Null)].into_iter().collect();
    let collection = &storage.settings().explanations;
    storage.store().set_payload_where(collection, &[record.id()], &same, none).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use whyrank_plugin::{Explanation, Provenance};

    use super::*;

    fn record(generator: &str, prompt: &str, source: Source) -> ExplanationRecord {
        ExplanationRecord {
            user: UserId(1.into()),
            item: ItemId(2.into()),
            user_external_id: "1".to_owned(),
            item_external_id: "2".to_owned(),
            explanation: Explanation { positive: "A.".to_owned(), negative: "B.".to_owned() },
            provenance: Provenance {
                generator: generator.to_owned(),
                prompt_version: prompt.to_owned(),
                profile_version: "f".to_owned(),
                source,
                seed: 1,
                attempts: 1,
                written_at: 0,
            },
            codes: None,
            code_version: None,
            stale: None,
        }
    }

    #[test]
    fn what_changed_is_told_and_a_template_is_not_stale_because_there_is_an_llm() {
        let freshness = Freshness::default();
        let old = record("openai/m@1", "p1", Source::Llm);
        assert_eq!(freshness.stale(&old), None, "nobody knows yet what writes");
        let writes = |generator: &str, prompt: &str| {
            freshness.set(Versions {
                generator: generator.to_owned(),
                prompt_version: prompt.to_owned(),
            });
        };
        writes("openai/m@1", "p1");
        assert_eq!(freshness.stale(&old), None);
        writes("openai/m@2", "p1");
        assert_eq!(freshness.stale(&old).as_deref(), Some(MODEL));
        writes("openai/m@1", "p2");
        assert_eq!(freshness.stale(&old).as_deref(), Some(PROMPT));
        let template = record("template/t@1", "p1", Source::Template);
        assert_eq!(freshness.stale(&template), None);
        let marked = ExplanationRecord { stale: Some(PROFILE.to_owned()), ..template };
        assert_eq!(freshness.stale(&marked).as_deref(), Some(PROFILE));
        writes("template/t@1", "p2");
        assert_eq!(freshness.stale(&old), None, "a template has nothing to add to an LLM's text");
    }
}
