//! `whyrank train`, `whyrank generate` and `whyrank index`.

use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::output::print;
use super::runtime::Runtime;
use super::{GenerateArguments, Stage};
use crate::config::Settings;
use crate::generate::{GenerateReport, Run};
use crate::progress::Terminal;
use crate::training::Trainer;

/// A progress display that an interrupt stops at the next step.
pub(super) fn interruptible() -> (Arc<Terminal>, CancellationToken) {
    let (progress, cancel) = (Arc::new(Terminal::new()), CancellationToken::new());
    let (display, token) = (progress.clone(), cancel.clone());
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            tracing::info!("stopping after the step in hand; what is done is kept");
            display.cancel();
            token.cancel();
        }
    });
    (progress, cancel)
}

pub(super) async fn train(settings: Settings, stages: &[Stage], json: bool) -> Result<()> {
    let all = [Stage::Vectors, Stage::Autoencoder, Stage::Explainer, Stage::Ranker];
    let stages = if stages.is_empty() { &all } else { stages };
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    let trainer = trainer(&runtime, progress);
    let mut report = Map::new();
    for stage in stages {
        let outcome = run_stage(&trainer, *stage).await?;
        report.insert(format!("{stage:?}").to_lowercase(), outcome);
    }
    runtime.close().await?;
    let text = || describe(&report);
    print(json, &report, text)
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

pub(super) fn trainer(runtime: &Runtime, progress: Arc<Terminal>) -> Trainer {
    let (settings, weights) = (runtime.settings.clone(), runtime.weights.clone());
    Trainer::new(settings, runtime.storage.clone(), weights, progress)
}

pub(super) async fn index(settings: Settings, json: bool) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    let report = trainer(&runtime, progress).index().await?;
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
