//! `whyrank demo`: the whole method on MovieLens-100k, from nothing to a table and a running server.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;
use whyrank_models::progress::Progress;

use super::Role;
use super::data::import_into;
use super::fetch::ensure_for;
use super::output::{print, recommendations};
use super::runtime::Runtime;
use super::serve::serve_with;
use super::train::{describe, interruptible, publish, run_stage, trainer_in};
use super::{GeneratorKind, Stage};
use crate::config::Settings;
use crate::generate::{GenerateSettings, Plan, Run};
use crate::progress::Terminal;
use crate::rerank::{RecommendRequest, RecommendResponse, Reranker};
use crate::staleness::Freshness;
use crate::writing::{Pair, PairWriter};

/// Rounds of ranking and writing until every shown reason is written; each round can bring new items
/// to the top, because written reasons change scores.
const ROUNDS: usize = 6;

pub(super) async fn demo(settings: Settings, once: bool) -> Result<()> {
    let (progress, cancel) = interruptible();
    ensure_for(&settings, "demo", progress.clone()).await?;
    let started = Instant::now();
    let runtime = Runtime::open(settings).await?;
    let imported = import_into(&runtime, progress.clone()).await?;
    eprintln!("{}", imported.rows);
    let staging = runtime.settings.model_folder().begin()?;
    let trainer = trainer_in(&runtime, progress.clone(), staging.paths());
    run_stage(&trainer, Stage::Vectors).await?;

    let template = runtime.writer(Some(GeneratorKind::Template), None).await?;
    let demo = &runtime.settings.demo;
    write_pairs(&runtime, &template, demo.template_pairs, 0, &progress, &cancel).await?;
    progress.begin("loading the LLM", 0);
    let llm = runtime.writer(None, None).await?;
    progress.end();
    write_pairs(&runtime, &llm, demo.llm_pairs, demo.llm_seconds, &progress, &cancel).await?;

    for stage in [Stage::Autoencoder, Stage::Explainer, Stage::Ranker] {
        let outcome = run_stage(&trainer, stage).await?;
        eprintln!("{}", describe(&outcome));
    }
    publish(&runtime, &trainer, staging, true).await?;
    let embedder = trainer.embedder()?;
    let codes = runtime.codes(&embedder)?.context("the autoencoder was just trained")?;
    let llm = llm.with_codes(codes);
    let reranker = runtime.reranker(&embedder, None, Freshness::default()).await?;
    let response = fully_written(&runtime, &reranker, &llm, &progress, &cancel).await?;
    print(false, &response, || {
        format!(
            "\nRecommendations for consumer {} of MovieLens-100k, reasons written by {}\n{}",
            demo.user,
            runtime.settings.generator.mistralrs.model.trim_start_matches("weights:"),
            recommendations(&response)
        )
    })?;
    eprintln!("the demonstration took {:.0} s after fetching", started.elapsed().as_secs_f64());
    if once || cancel.is_cancelled() {
        return runtime.close().await;
    }
    serve_with(runtime, Some(llm), Role::value_variants()).await
}

/// Has rated pairs explained, to learn codes from.
async fn write_pairs(
    runtime: &Runtime,
    writer: &PairWriter,
    pairs: usize,
    seconds: u64,
    progress: &std::sync::Arc<Terminal>,
    cancel: &CancellationToken,
) -> Result<()> {
    let settings = GenerateSettings {
        plan: Plan::Training,
        pairs,
        seconds,
        ..runtime.settings.generate.clone()
    };
    let run = Run {
        storage: &runtime.storage,
        writer,
        settings: &settings,
        forecast: &runtime.settings.generator.forecast,
        split: &runtime.settings.split,
        users: &[],
        progress: progress.as_ref(),
        cancel: cancel.clone(),
    };
    run.run().await.map(drop)
}

/// Ranks, has the missing reasons of the first rows written, and ranks again, until all that is shown
/// is written.
async fn fully_written(
    runtime: &Runtime,
    reranker: &Reranker,
    writer: &PairWriter,
    progress: &std::sync::Arc<Terminal>,
    cancel: &CancellationToken,
) -> Result<RecommendResponse> {
    let demo = &runtime.settings.demo;
    let request = RecommendRequest {
        user: Some(demo.user.clone()),
        limit: Some(demo.rows),
        ..RecommendRequest::default()
    };
    let user = runtime.storage.user(runtime.storage.user_id(&demo.user)?).await?;
    let user = user.with_context(|| format!("consumer {:?} is not in the store", demo.user))?;
    let mut written: HashSet<String> = HashSet::new();
    for _ in 0..ROUNDS {
        let response = reranker.recommend(&request).await?;
        let shown = response.results.iter().map(|result| result.item.clone());
        let missing: Vec<String> = shown.filter(|item| !written.contains(item)).collect();
        if missing.is_empty() || cancel.is_cancelled() {
            return Ok(response);
        }
        progress.begin("writing the reasons in the table", missing.len() as u64);
        for (done, external) in missing.into_iter().enumerate() {
            let id = runtime.storage.item_id(&external)?;
            let item = runtime.storage.items(&[id]).await?.pop().flatten();
            let item = item.with_context(|| format!("item {external} is gone"))?;
            let pair = Pair { user: &user, item: &item, before: None };
            writer.write(pair, None, cancel.child_token()).await?;
            written.insert(external);
            progress.advance(done as u64 + 1);
        }
        progress.end();
    }
    Ok(reranker.recommend(&request).await?)
}
