//! The worker that owns the LLM: one pair at a time, requests that wait before jobs. And the task that
//! brings pairs which requests found missing into the store.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use whyrank_plugin::{ExplanationRecord, ItemId, StoreError, StoreResult, UserId};

use super::budget::Budget;
use super::desk::{HereDesk, Live, MissingPairs, WritingDesk};
use super::jobs::{Claim, Jobs, Wanted};
use super::outage::{Blame, Outage};
use super::{Lane, RewriteStale, label_time};
use crate::generator::{Delta, GeneratorError, Meter, Usage};
use crate::http::{ApiError, Cause};
use crate::staleness::Freshness;
use crate::writing::{Outcome, Pair, PairWriter};

/// Pairs found missing that may wait to be brought into the store.
const BUFFER: usize = 4_096;
/// Pairs that are brought into the store in one step.
const STEP: usize = 256;
/// How often the gauges of the queue are set.
const MEASURED: Duration = Duration::from_secs(5);
/// The shortest wait before a store that failed is asked again.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait before a store that failed is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A started worker.
#[derive(Debug)]
pub struct Started {
    /// Takes pairs that are waited for.
    pub desk: WritingDesk,
    /// Ends after `shutdown` fired and the pair in hand was given back.
    pub worker: JoinHandle<()>,
}

/// Starts the task that brings pairs found missing or stale into the store. It ends when `shutdown`
/// fires, after what waits was brought in.
pub fn start_offering(jobs: &Jobs, shutdown: CancellationToken) -> (MissingPairs, JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel::<Wanted>(BUFFER);
    let pairs = MissingPairs::new(sender, jobs);
    let jobs = jobs.clone();
    let task = tokio::spawn(async move {
        let mut step = Vec::with_capacity(STEP);
        loop {
            tokio::select! {
                biased;
                count = receiver.recv_many(&mut step, STEP) => if count == 0 { return },
                () = shutdown.cancelled() => {
                    receiver.close();
                    while receiver.recv_many(&mut step, STEP).await > 0 {}
                }
            }
            if let Err(error) = jobs.offer(&step).await {
                let refused = jobs.metrics().queue_refused.with_label_values(&["store"]);
                refused.inc_by(step.len() as u64);
                tracing::warn!(%error, pairs = step.len(), "pairs were not queued");
            }
            step.clear();
        }
    });
    (pairs, task)
}

/// Starts the worker. It ends when `shutdown` fires, after the pair in hand was cancelled.
pub fn start(
    writer: PairWriter,
    jobs: Jobs,
    freshness: Freshness,
    shutdown: CancellationToken,
) -> Started {
    let (live_sender, live) = mpsc::channel(jobs.settings().live.max(1));
    let name = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
    let budget = Arc::new(Budget::new(jobs.clone(), &name));
    let desk = WritingDesk::Here(Box::new(HereDesk::new(live_sender, jobs.metrics().clone())));
    let worker = Worker { name, writer, jobs, budget, freshness, shutdown };
    Started { desk, worker: tokio::spawn(worker.run(live)) }
}

struct Worker {
    name: String,
    writer: PairWriter,
    jobs: Jobs,
    budget: Arc<Budget>,
    freshness: Freshness,
    shutdown: CancellationToken,
}

/// What one pair costs. It is entered even when its text is given up half-way: a caller who leaves just
/// before the end would otherwise have it for nothing.
struct Bill {
    budget: Arc<Budget>,
    meter: Meter,
}

impl Bill {
    /// What is to be entered: a pair that was written, or one that was not and cost something all the same.
    fn due(&self, written: bool) -> Option<Usage> {
        let usage = self.meter.take();
        (written || usage != Usage::default()).then_some(usage)
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        if let Some(usage) = self.due(false) {
            let budget = self.budget.clone();
            // At the end of the process nothing is begun any more.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { enter(&budget, usage, false).await });
            }
        }
    }
}

/// What a request gets whose text the budget does not pay for: a text that is written and current, which
/// costs nothing, or the refusal.
///
/// # Errors
/// [`Cause::Full`] with the message if there is no such text.
pub(super) async fn without_cost(
    jobs: &Jobs,
    freshness: &Freshness,
    user: UserId,
    item: ItemId,
    message: String,
) -> Result<ExplanationRecord, ApiError> {
    let found = jobs.storage().explanations(&[(user, item)]).await?.pop().flatten();
    match found {
        Some(record) if freshness.stale(&record).is_none() => Ok(record),
        _ => {
            jobs.metrics().queue_refused.with_label_values(&["budget"]).inc();
            Err(ApiError::new(Cause::Full, message))
        }
    }
}

async fn enter(budget: &Budget, usage: Usage, written: bool) {
    if let Err(error) = budget.spend(usage, written).await {
        tracing::warn!(%error, "the cost of a pair was not entered");
    }
}

/// How a job ended that was not written.
enum Ended {
    /// The worker stops, or the store is away: nobody's fault.
    Interrupted,
    /// Somebody else has the job.
    Lost,
    /// The LLM failed.
    Model { error: String },
    /// The pair cannot be written, now or ever.
    Failed { error: String, hopeless: bool },
}

impl Worker {
    async fn run(self, mut live: mpsc::Receiver<Live>) {
        let background = CancellationToken::new();
        let sweeping = tokio::spawn(sweep(
            self.jobs.clone(),
            self.writer.clone(),
            self.freshness.clone(),
            background.clone(),
        ));
        let poll = Duration::from_millis(self.jobs.settings().poll_milliseconds);
        // At once if there may be more to do, and later and later while the store is away.
        let mut wait = Duration::ZERO;
        let mut next = tokio::time::Instant::now();
        let mut outage = Outage::default();
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(request) = live.recv() => {
                    let span = request.span.clone();
                    if self.answer(request).instrument(span).await && outage.over() {
                        next = tokio::time::Instant::now();
                    }
                    continue;
                }
                () = tokio::time::sleep_until(next) => {}
                () = self.jobs.woken(), if wait <= poll => {}
            }
            wait = match self.next().await {
                Ok(Some(claim)) => {
                    let span = claim.span.clone();
                    self.work(claim, &mut outage).instrument(span).await;
                    outage.wait()
                }
                Ok(None) => poll,
                Err(error) => {
                    tracing::warn!(%error, "the queue cannot be read");
                    (wait * 2).clamp(poll, LONGEST_WAIT)
                }
            };
            next = tokio::time::Instant::now() + wait;
        }
        background.cancel();
        if let Err(error) = sweeping.await {
            tracing::error!(%error, "the search for stale explanations ended badly");
        }
    }

    async fn next(&self) -> Result<Option<Claim>, StoreError> {
        if self.budget.spent_up().await?.is_some() {
            return Ok(None);
        }
        // A pause is for the background: whoever waits, here or at another process, is served.
        let paused = self.jobs.control().await?.paused;
        let lanes = if paused { &[Lane::Live][..] } else { &Lane::ALL };
        self.jobs.claim(&self.name, lanes).await
    }

    /// Answers a request that waits; true if the LLM wrote for it.
    async fn answer(&self, request: Live) -> bool {
        // Whoever has left needs no text.
        if request.cancel.is_cancelled() || request.answer.is_closed() {
            return false;
        }
        let cancel = request.cancel.clone();
        let work = self.write_now(request.user, request.item, request.deltas, cancel);
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.shutdown.cancelled() => {
                request.cancel.cancel();
                Err(ApiError::new(Cause::NotReady, "the server is stopping"))
            }
        };
        let wrote = matches!(outcome, Ok((_, true)));
        // Nobody is left to tell.
        drop(request.answer.send(outcome.map(|(record, _)| record)));
        wrote
    }

    /// Writes for a request that waits; true beside it if the LLM did. Its cost counts, and a budget that is
    /// spent refuses it too.
    async fn write_now(
        &self,
        user: UserId,
        item: ItemId,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<(ExplanationRecord, bool), ApiError> {
        if let Some(message) = self.budget.spent_up().await? {
            let found = without_cost(&self.jobs, &self.freshness, user, item, message).await;
            return found.map(|record| (record, false));
        }
        let outcome = self.write(user, item, deltas, cancel, async { Ok(true) }).await?;
        let outcome = outcome.context("the text was dropped")?;
        Ok((outcome.record, !outcome.reused))
    }

    async fn write(
        &self,
        user: UserId,
        item: ItemId,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
        holds: impl Future<Output = anyhow::Result<bool>> + Send,
    ) -> anyhow::Result<Option<Outcome>> {
        let storage = self.jobs.storage();
        let record = storage.user(user).await?.with_context(|| Gone::of("consumer", user))?;
        let found = storage.items(&[item]).await?.pop().flatten();
        let item = found.with_context(|| Gone::of("item", item))?;
        let before = label_time(&record, item.id);
        let pair = Pair { user: &record, item: &item, before };
        let bill = Bill { budget: self.budget.clone(), meter: Meter::default() };
        let outcome = bill.meter.over(self.writer.write_if(pair, deltas, cancel, holds)).await;
        let written = matches!(&outcome, Ok(Some(outcome)) if !outcome.reused);
        if let Some(usage) = bill.due(written) {
            enter(&self.budget, usage, written).await;
        }
        outcome
    }

    /// Does one job to its end, whatever that is.
    async fn work(&self, claim: Claim, outage: &mut Outage) {
        let ended = match self.attempt(&claim).await {
            Ok(reused) => {
                // What was written already says nothing about the LLM.
                if !reused {
                    outage.over();
                }
                self.ended(&claim, if reused { "current" } else { "written" });
                self.jobs.finish(&claim).await
            }
            Err(Ended::Interrupted) => {
                self.ended(&claim, "interrupted");
                self.jobs.release(&claim).await
            }
            Err(Ended::Lost) => {
                self.ended(&claim, "lost");
                Ok(())
            }
            Err(Ended::Model { error }) => {
                let longest = Duration::from_secs(self.jobs.settings().retry_maximum_seconds);
                match outage.failed(claim.job.id(), longest) {
                    Blame::Pair => self.failed(&claim, &error, false).await,
                    Blame::Model { again_after } => {
                        claim.span.record("outcome", "put_off");
                        tracing::warn!(error, "the LLM is away; pairs wait for it");
                        self.jobs.put_off(&claim, &error, again_after).await
                    }
                }
            }
            Err(Ended::Failed { error, hopeless }) => self.failed(&claim, &error, hopeless).await,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "a job could not be put away and is due when its lease ends");
        }
    }

    async fn failed(&self, claim: &Claim, error: &str, hopeless: bool) -> StoreResult<()> {
        let failure = self.jobs.fail(claim, error, hopeless).await;
        claim.span.record("outcome", "failed");
        tracing::warn!(error, attempts = claim.job.attempts, ?failure, "a job failed");
        failure.map(drop)
    }

    fn ended(&self, claim: &Claim, outcome: &'static str) {
        claim.span.record("outcome", outcome);
        self.jobs.counted(outcome);
    }

    /// Writes the pair while the lease is kept; true if it was written already.
    async fn attempt(&self, claim: &Claim) -> Result<bool, Ended> {
        let cancel = self.shutdown.child_token();
        let settings = self.jobs.settings();
        let (user, item) = (claim.job.user, claim.job.item);
        let holds = async { Ok(self.jobs.renew(claim).await?) };
        let writing = self.write(user, item, None, cancel.clone(), holds);
        let mut writing = std::pin::pin!(writing);
        let limit = Duration::from_secs(settings.job_timeout_seconds);
        let end = tokio::time::sleep(limit);
        let mut end = std::pin::pin!(end);
        let mut renewals = tokio::time::interval(
            Duration::from_secs(settings.lease_seconds)
                .div_f64(3.0)
                .max(Duration::from_millis(100)),
        );
        // The lease has just been taken.
        renewals.reset();
        let started = Instant::now();
        let outcome = loop {
            tokio::select! {
                outcome = &mut writing => break outcome,
                () = &mut end => {
                    cancel.cancel();
                    let seconds = started.elapsed().as_secs();
                    let error = format!("not written after {seconds} s (`queue.job_timeout_seconds`)");
                    return Err(Ended::Model { error });
                }
                () = self.shutdown.cancelled() => {
                    cancel.cancel();
                    return Err(Ended::Interrupted);
                }
                _ = renewals.tick() => {
                    // A store that is away now may be back before the text is there.
                    if let Ok(false) = self.jobs.renew(claim).await {
                        cancel.cancel();
                        return Err(Ended::Lost);
                    }
                }
            }
        };
        match outcome {
            Ok(Some(outcome)) => Ok(outcome.reused),
            Ok(None) => Err(Ended::Lost),
            Err(error) => {
                let away = error.downcast_ref::<StoreError>().is_some_and(StoreError::is_retryable);
                if away || self.shutdown.is_cancelled() {
                    return Err(Ended::Interrupted);
                }
                let told = format!("{error:#}");
                let of_the_model = |cause: &GeneratorError| cause.is_of_the_model();
                if error.downcast_ref::<GeneratorError>().is_some_and(of_the_model) {
                    return Err(Ended::Model { error: told });
                }
                let hopeless = error.downcast_ref::<Gone>().is_some();
                Err(Ended::Failed { error: told, hopeless })
            }
        }
    }
}

/// A side of the pair is not in the store any more: trying again cannot help.
#[derive(Debug, thiserror::Error)]
#[error("no {what} {id}")]
struct Gone {
    what: &'static str,
    id: String,
}

impl Gone {
    fn of(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self { what, id: id.to_string() }
    }
}

/// Sets the gauges of the queue now and then, until `end` fires. Every process that sees the queue does, so
/// that it is seen to grow when all workers are gone.
/// Only one that works through it walks over all jobs for the age of the oldest.
pub async fn measure(jobs: Jobs, works: bool, end: CancellationToken) {
    let mut times = tokio::time::interval(MEASURED);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = times.tick() => {}
        }
        let measured = if works { jobs.status().await } else { jobs.sizes().await };
        match measured {
            Ok(status) => {
                let metrics = jobs.metrics();
                metrics.queue_depth.set(status.depth as i64);
                metrics.queue_oldest.set(status.oldest_seconds as i64);
                metrics.queue_dead.set(status.dead as i64);
                metrics.queue_paused.set(i64::from(status.paused));
            }
            Err(error) => tracing::debug!(%error, "the queue cannot be measured"),
        }
    }
}

/// Tries until it succeeds, ever more rarely; nothing if `end` fires first.
async fn insist<T, Failure: std::fmt::Display, Trial: Future<Output = Result<T, Failure>>>(
    end: &CancellationToken,
    otherwise: &str,
    trial: impl Fn() -> Trial,
) -> Option<T> {
    let mut wait = SHORTEST_WAIT;
    loop {
        match end.run_until_cancelled(trial()).await? {
            Ok(done) => return Some(done),
            Err(error) => tracing::warn!(%error, "{otherwise}"),
        }
        end.run_until_cancelled(tokio::time::sleep(wait)).await?;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Tells all processes what this worker writes with and, where all stale explanations are written
/// again, queues those that another model or prompt wrote.
async fn sweep(jobs: Jobs, writer: PairWriter, freshness: Freshness, end: CancellationToken) {
    let versions = writer.versions();
    freshness.set(versions.clone());
    let announced =
        insist(&end, "other processes do not learn what this worker writes with", || {
            jobs.announce(&versions.generator, &versions.prompt_version)
        });
    if announced.await.is_none() || jobs.settings().rewrite_stale != RewriteStale::All {
        return;
    }
    let found = insist(&end, "stale explanations could not be looked for", || {
        freshness.all_stale(jobs.storage())
    });
    let Some(stale) = found.await else { return };
    tracing::info!(pairs = stale.len(), "explanations are stale and will be written again");
    let wanted: Vec<Wanted> =
        stale.into_iter().map(|(user, item)| Wanted { user, item, lane: Lane::Stale }).collect();
    let mut left = wanted.as_slice();
    let mut times = tokio::time::interval(MEASURED);
    while !left.is_empty() {
        tokio::select! {
            () = end.cancelled() => return,
            _ = times.tick() => {}
        }
        // Half of the queue stays free for what requests ask for.
        let room = match jobs.status().await {
            Ok(status) => (jobs.settings().capacity as u64 / 2).saturating_sub(status.depth),
            Err(_) => 0,
        };
        let (now, later) = left.split_at(left.len().min(room as usize).min(STEP));
        match jobs.offer(now).await {
            Ok(_) => left = later,
            Err(error) => tracing::warn!(%error, "stale explanations were not queued"),
        }
    }
}
