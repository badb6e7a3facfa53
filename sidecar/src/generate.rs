//! A run that writes explanations for many pairs by a stated plan, or asks about items. It can be stopped at
//! any time: what is written stays, and the next run passes over it.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::ready;
use futures::{StreamExt, stream};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use whyrank_models::progress::Progress;
use whyrank_plugin::{Filter, Forecast, ItemId, ItemRecord, Search, Source, UserRecord, records};

use crate::generator::{ForecastSettings, Usage};
use crate::split::SplitSettings;
use crate::storage::Storage;
use crate::writing::{Pair, PairWriter};

/// Which pairs a run writes about, and how many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateSettings {
    /// Which pairs.
    pub plan: Plan,
    /// How many pairs, or items, at most.
    pub pairs: usize,
    /// Seconds after which no further one is begun; 0 is no limit.
    pub seconds: u64,
    /// For the plan `candidates`: how many of each consumer's nearest unseen items.
    pub candidates_per_user: usize,
    /// Decides the order in which pairs are taken.
    pub seed: u64,
}

/// How pairs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// Rated pairs that the ranker trains on or stops by: one of each consumer in turn, in a random
    /// order. The ratings themselves are not looked at.
    Training,
    /// Each consumer's nearest unseen items: what reranking will show.
    Candidates,
    /// No pairs but all items: what the LLM foresees of their ratings, which the next training and the next
    /// `whyrank index` take into account.
    Items,
}

impl Default for GenerateSettings {
    fn default() -> Self {
        Self { plan: Plan::Training, pairs: 1_000, seconds: 0, candidates_per_user: 20, seed: 42 }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GenerateReport {
    /// Pairs, or items, that an LLM wrote about in this run.
    pub llm: usize,
    /// Pairs that the template wrote about in this run.
    pub template: usize,
    /// Those that were written already.
    pub reused: usize,
    /// Those that could not be written; the last error is in the log.
    pub failed: usize,
    /// Answers that validation refused.
    pub refusals: usize,
    /// What the LLM spent.
    pub usage: Usage,
    /// Seconds of writing.
    pub seconds: f64,
    /// Whether the run ended before its plan did.
    pub stopped: bool,
}

/// One pair of a plan.
struct Planned {
    user: usize,
    item: ItemId,
    before: Option<i64>,
}

/// Ends a run whose LLM is away, where single failures are only counted.
#[derive(Default)]
struct Failures {
    in_a_row: usize,
}

impl Failures {
    /// Something succeeded.
    fn end(&mut self) {
        self.in_a_row = 0;
    }

    /// One more; the fifth in a row is the run's own.
    fn add(&mut self, error: anyhow::Error, what: &str) -> Result<()> {
        self.in_a_row += 1;
        tracing::warn!(error = format!("{error:#}"), "{what} was not written");
        if self.in_a_row == 5 {
            return Err(error.context(format!("{what} could not be written five times in a row")));
        }
        Ok(())
    }
}

/// What a run works on.
pub struct Run<'a> {
    /// The collections.
    pub storage: &'a Storage,
    /// Writes single pairs.
    pub writer: &'a PairWriter,
    /// Which pairs.
    pub settings: &'a GenerateSettings,
    /// What is asked about items.
    pub forecast: &'a ForecastSettings,
    /// Where the parts of the interactions end.
    pub split: &'a SplitSettings,
    /// Only these consumers; empty means all.
    pub users: &'a [String],
    /// Tells how far the run is.
    pub progress: &'a dyn Progress,
    /// Ends the run, and with it the pairs in hand.
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Run").field("settings", self.settings).finish_non_exhaustive()
    }
}

impl Run<'_> {
    /// Writes the planned pairs.
    ///
    /// # Errors
    /// When the store cannot be read, or five in a row cannot be written.
    pub async fn run(&self) -> Result<GenerateReport> {
        let users = self.chosen_users().await?;
        let items: HashMap<ItemId, ItemRecord> =
            self.storage.all_items().await?.into_iter().map(|item| (item.id, item)).collect();
        let mut planned = match self.settings.plan {
            Plan::Training => self.training_pairs(&users),
            Plan::Candidates => self.candidate_pairs(&users).await?,
            Plan::Items => return self.forecasts().await,
        };
        planned.retain(|pair| items.contains_key(&pair.item));
        planned.truncate(self.settings.pairs);
        let mut report = GenerateReport::default();
        let deadline = self.deadline();
        let mut failures = Failures::default();
        self.progress.begin("writing explanations", planned.len() as u64);
        let begun = stream::iter(&planned).take_while(|_| ready(!self.is_over(deadline)));
        let writing = begun.map(|pair| {
            let (user, item) = (&users[pair.user], &items[&pair.item]);
            let pair = Pair { user, item, before: pair.before };
            self.writer.write(pair, None, self.cancel.child_token())
        });
        let mut writing = pin!(writing.buffer_unordered(self.writer.parallel()));
        let (started, mut done) = (Instant::now(), 0);
        while let Some(written) = writing.next().await {
            match written {
                Ok(outcome) => {
                    failures.end();
                    report.refusals += outcome.refusals;
                    report.usage += outcome.usage;
                    match (outcome.reused, outcome.record.provenance.source) {
                        (true, _) => report.reused += 1,
                        (false, Source::Llm) => report.llm += 1,
                        (false, Source::Template) => report.template += 1,
                    }
                }
                // Those that are in hand end as well.
                Err(_) if self.cancel.is_cancelled() => continue,
                Err(error) => {
                    report.failed += 1;
                    failures.add(error, "a pair")?;
                }
            }
            done += 1;
            self.progress.advance(done as u64);
        }
        report.stopped = done < planned.len();
        report.seconds = started.elapsed().as_secs_f64();
        self.progress.note(&format!(
            "{} by the LLM, {} by the template, {} there already",
            report.llm, report.template, report.reused
        ));
        self.progress.end();
        Ok(report)
    }

    /// Asks about each item whose forecast is missing or was made otherwise.
    async fn forecasts(&self) -> Result<GenerateReport> {
        let forecaster = self.writer.forecaster(self.forecast)?;
        let mut items = self.storage.all_items().await?;
        let all = items.len();
        items.retain(|item| {
            let current = forecaster.version(&item.title);
            item.statistics.forecast.is_none_or(|forecast| forecast.version != current)
        });
        let mut report = GenerateReport { reused: all - items.len(), ..GenerateReport::default() };
        items.truncate(self.settings.pairs);
        let deadline = self.deadline();
        let mut failures = Failures::default();
        self.progress.begin("foreseeing ratings", items.len() as u64);
        let titles = items.iter().map(|item| item.title.as_str());
        let mut answers = pin!(forecaster.each(titles, &self.cancel));
        let started = Instant::now();
        for (done, item) in items.iter().enumerate() {
            if self.is_over(deadline) {
                report.stopped = true;
                break;
            }
            match answers.next().await.context("every question has an answer")? {
                Ok(foreseen) => {
                    failures.end();
                    report.usage += foreseen.usage;
                    match foreseen.forecast {
                        Some(forecast) => {
                            self.keep(item.id, forecast).await?;
                            report.llm += 1;
                        }
                        None => report.refusals += 1,
                    }
                }
                Err(_) if self.cancel.is_cancelled() => {
                    report.stopped = true;
                    break;
                }
                Err(error) => {
                    report.failed += 1;
                    failures.add(error.into(), "a forecast")?;
                }
            }
            self.progress.advance(done as u64 + 1);
        }
        report.seconds = started.elapsed().as_secs_f64();
        self.progress.note(&format!(
            "{} by the LLM, {} answers were no number, {} there already",
            report.llm, report.refusals, report.reused
        ));
        self.progress.end();
        Ok(report)
    }

    /// Puts a forecast beside what is known of the item now: an import may have changed it meanwhile.
    async fn keep(&self, id: ItemId, forecast: Forecast) -> Result<()> {
        if let Some(mut item) = self.storage.items(&[id]).await?.pop().flatten() {
            item.statistics.forecast = Some(forecast);
            self.storage.write_items(&[item]).await?;
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        let seconds = self.settings.seconds;
        (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds))
    }

    /// Whether no further one is begun.
    fn is_over(&self, deadline: Option<Instant>) -> bool {
        let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        late || self.cancel.is_cancelled() || self.progress.cancelled()
    }

    async fn chosen_users(&self) -> Result<Vec<UserRecord>> {
        if self.users.is_empty() {
            return self.storage.all_users().await;
        }
        let mut chosen = Vec::new();
        for external in self.users {
            match self.storage.user(self.storage.user_id(external)?).await? {
                Some(user) => chosen.push(user),
                None => bail!("consumer {external:?} is not in the store"),
            }
        }
        Ok(chosen)
    }

    /// One rated pair of each consumer in turn, so that a short run reaches as many as possible.
    fn training_pairs(&self, users: &[UserRecord]) -> Vec<Planned> {
        let mut random = StdRng::seed_from_u64(self.settings.seed);
        let mut of_each: Vec<Vec<Planned>> = users
            .iter()
            .enumerate()
            .map(|(user, record)| {
                let divided = self.split.divide(record.id, &record.history);
                // The newer half: before an early pair there is little that an explanation can stand on.
                let later = &divided.sorted[divided.sorted.len() / 2..];
                let mut pairs: Vec<Planned> = later
                    .iter()
                    .map(|entry| Planned { user, item: entry.item, before: Some(entry.time) })
                    .collect();
                pairs.shuffle(&mut random);
                pairs
            })
            .collect();
        of_each.shuffle(&mut random);
        let longest = of_each.iter().map(Vec::len).max().unwrap_or(0);
        let mut planned = Vec::new();
        for _ in 0..longest {
            planned.extend(of_each.iter_mut().filter_map(Vec::pop));
        }
        planned
    }

    async fn candidate_pairs(&self, users: &[UserRecord]) -> Result<Vec<Planned>> {
        let mut planned = Vec::new();
        for (user, record) in users.iter().enumerate() {
            let Some(vector) = record.vector.clone() else { continue };
            let per_user = self.settings.candidates_per_user;
            let mut search = Search::new(records::ITEM_VECTOR, vector, per_user);
            let seen = record.seen.iter().map(ItemId::point);
            search.filter = (!record.seen.is_empty()).then(|| Filter::without_ids(seen));
            let items = &self.storage.settings().items;
            for found in self.storage.store().search(items, search).await? {
                planned.push(Planned { user, item: ItemId(found.point.id), before: None });
            }
        }
        if planned.is_empty() {
            bail!("no consumer has a vector yet: run `whyrank train vectors` and `whyrank index`");
        }
        Ok(planned)
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
