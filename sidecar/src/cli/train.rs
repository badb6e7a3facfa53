//! `whyrank train`, `whyrank generate` and `whyrank index`.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::output::print;
use super::runtime::Runtime;
use super::{GenerateArguments, Stage};
use crate::artifacts::ArtifactPaths;
use crate::config::Settings;
use crate::generate::{GenerateReport, Run};
use crate::progress::Terminal;
use crate::training::Trainer;
use crate::versions::{self, Dimensions, Staging};

/// A progress display that an interrupt stops at the next step.
pub(super) fn interruptible() -> (Arc<Terminal>, CancellationToken) {
    let (progress, cancel) = (Arc::new(Terminal::new()), CancellationToken::new());
    let (display, token) = (progress.clone(), cancel.clone());
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            tracing::info!(
                "stopping after the step in hand; finished steps and written explanations are kept"
            );
            display.cancel();
            token.cancel();
        }
    });
    (progress, cancel)
}

pub(super) async fn train(
    settings: Settings,
    stages: &[Stage],
    candidate: bool,
    json: bool,
) -> Result<()> {
    let all = [Stage::Vectors, Stage::Autoencoder, Stage::Explainer, Stage::Ranker];
    let stages = if stages.is_empty() { &all } else { stages };
    let into_store = |stage: &&Stage| matches!(stage, Stage::Vectors | Stage::Autoencoder);
    if let Some(stage) = stages.iter().find(into_store).filter(|_| candidate) {
        let stage = format!("{stage:?}").to_lowercase();
        bail!(
            "`--candidate` cannot train `{stage}`: it changes what the store holds, which the live models \
             need as it is; name the stages, such as `whyrank train explainer ranker --candidate`"
        );
    }
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    let staging = runtime.settings.model_folder().begin()?;
    let trainer = trainer_in(&runtime, progress, staging.paths());
    let mut report = Map::new();
    let mut fault = None;
    for stage in stages {
        match run_stage(&trainer, *stage).await {
            Ok(outcome) => {
                report.insert(format!("{stage:?}").to_lowercase(), outcome);
            }
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    // What a stage has learned is kept though a later one fails: the store may hold its vectors already.
    if !report.is_empty() && staging.has_changed()? {
        let version = publish(&runtime, &trainer, staging, !candidate).await?;
        report.insert("version".to_owned(), Value::String(version));
    }
    runtime.close().await?;
    if let Some(error) = fault {
        return Err(error);
    }
    let text = || describe(&report);
    print(json, &report, text)
}

/// Makes a version of what was trained, and makes it the live one unless it is to be a candidate.
pub(super) async fn publish(
    runtime: &Runtime,
    trainer: &Trainer,
    staging: Staging,
    live: bool,
) -> Result<String> {
    let settings = &runtime.settings;
    staging.drop_unfit(Dimensions::of(settings))?;
    let golden = trainer.golden().await?;
    let version = staging.finish(&golden, settings)?;
    let folder = settings.model_folder();
    if live {
        folder.activate(&version)?;
    }
    let needed: Vec<&str> =
        settings.models.shadow.iter().chain([&version]).map(String::as_str).collect();
    for removed in folder.prune(settings.models.keep, &needed)? {
        tracing::info!(version = removed, "removed an old version of the models (`models.keep`)");
    }
    Ok(version)
}

/// Trains one stage, and brings the store up to date where the next stage reads it.
pub(super) async fn run_stage(trainer: &Trainer, stage: Stage) -> Result<Value> {
    Ok(match stage {
        Stage::Vectors => {
            let learned = trainer.train_vectors().await?;
            json!({ "training": learned, "index": trainer.index().await? })
        }
        Stage::Autoencoder => {
            let trained = trainer.train_autoencoder().await?;
            json!({ "training": trained, "index": trainer.index().await? })
        }
        Stage::Explainer => json!({ "training": trainer.train_explainer().await? }),
        Stage::Ranker => json!({ "training": trainer.train_ranker().await? }),
    })
}

/// A trainer with the live models.
pub(super) fn trainer(runtime: &Runtime, progress: Arc<Terminal>) -> Result<Trainer> {
    let paths = runtime.settings.live_models()?;
    // What a damaged model makes must not get into the store.
    versions::check_files(&paths)?;
    Ok(trainer_in(runtime, progress, paths))
}

/// A trainer with these models.
pub(super) fn trainer_in(
    runtime: &Runtime,
    progress: Arc<Terminal>,
    paths: ArtifactPaths,
) -> Trainer {
    let (settings, weights) = (runtime.settings.clone(), runtime.weights.clone());
    Trainer::new(settings, runtime.storage.clone(), weights, progress, paths)
}

pub(super) async fn index(settings: Settings, json: bool) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    let report = trainer(&runtime, progress)?.index().await?;
    runtime.close().await?;
    print(json, &report, || describe(&report))
}

pub(super) async fn generate(
    settings: Settings,
    arguments: &GenerateArguments,
    json: bool,
) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let (progress, cancel) = interruptible();
    let mut plan = runtime.settings.generate.clone();
    plan.pairs = arguments.pairs.unwrap_or(plan.pairs);
    plan.seconds = arguments.seconds.unwrap_or(plan.seconds);
    plan.plan = arguments.plan.unwrap_or(plan.plan);
    let codes = runtime.codes(&runtime.embedder()?)?;
    let writer = runtime.writer(arguments.generator, codes).await?;
    let run = Run {
        storage: &runtime.storage,
        writer: &writer,
        settings: &plan,
        forecast: &runtime.settings.generator.forecast,
        split: &runtime.settings.split,
        users: &arguments.users,
        progress: progress.as_ref(),
        cancel,
    };
    let report: GenerateReport = run.run().await?;
    runtime.close().await?;
    print(json, &report, || describe(&report))
}

/// A report as indented `key: value` lines.
pub(super) fn describe(report: &impl Serialize) -> String {
    fn lines(value: &Value, indent: usize, text: &mut String) {
        let Value::Object(entries) = value else { return };
        for (key, value) in entries {
            let name = key.replace('_', " ");
            match value {
                Value::Object(_) => {
                    text.push_str(&format!("{:indent$}{name}:\n", ""));
                    lines(value, indent + 2, text);
                }
                // The course of a training is for programs.
                Value::Array(_) => {}
                Value::Number(number) if number.is_f64() => {
                    let number = number.as_f64().unwrap_or(f64::NAN);
                    text.push_str(&format!("{:indent$}{name}: {number:.4}\n", ""));
                }
                Value::String(plain) => text.push_str(&format!("{:indent$}{name}: {plain}\n", "")),
                other => text.push_str(&format!("{:indent$}{name}: {other}\n", "")),
            }
        }
    }
    let mut text = String::new();
    lines(&serde_json::to_value(report).unwrap_or(Value::Null), 0, &mut text);
    text.trim_end().to_owned()
}
