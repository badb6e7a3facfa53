//! `whyrank interactions`: a file of JSON lines taken in as `POST /v1/interactions` takes a batch.

use std::path::Path;

use anyhow::{Context, Result};
use whyrank_models::progress::Progress;

use super::output::print;
use super::runtime::Runtime;
use super::train::{describe, interruptible};
use crate::config::Settings;
use crate::interactions::{InteractionGiven, InteractionReport};
use crate::staleness::Freshness;

pub(super) async fn take_in(settings: Settings, file: &Path, json: bool) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let given = lines.map(|(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", file.display(), number + 1))
    });
    let given = given.collect::<Result<Vec<InteractionGiven>>>()?;
    let step = settings.interactions.maximum_batch;
    let runtime = Runtime::open(settings).await?;
    let embedder = runtime.embedder()?;
    let reranker = runtime.reranker(&embedder, None, Freshness::default()).await?;
    let interactions = runtime.interactions(&reranker, &embedder, runtime.jobs());
    let (progress, cancel) = interruptible();
    progress.begin("taking interactions in", given.len() as u64);
    let (mut total, mut done) = (InteractionReport::default(), 0);
    for part in given.chunks(step) {
        if cancel.is_cancelled() {
            break;
        }
        let report = interactions.take_in(part).await.with_context(|| {
            format!("the batch after the first {done} interactions; those are stored")
        })?;
        total.accepted += report.accepted;
        total.known += report.known;
        total.users += report.users;
        total.new_users += report.new_users;
        total.vectors += report.vectors;
        total.stale += report.stale;
        done += part.len();
        progress.advance(done as u64);
    }
    progress.end();
    runtime.close().await?;
    print(json, &total, || describe(&total))
}
