//! `whyrank eval`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};
use whyrank_models::metrics::Interval;
use whyrank_plugin::HistoryEntry;

use super::data::read_dataset;
use super::output::print;
use super::runtime::Runtime;
use super::train::{interruptible, trainer};
use crate::archive::TextArchive;
use crate::config::Settings;
use crate::evaluation::{
    EvaluationReport, FinishedRun, Versus, divide, page, read_answers, share_of, write_split,
};
use crate::generator::{GeneratorKind, Prompts};
use crate::import::{Dataset, ImportedInteraction};
use crate::ingest::ingest;
use crate::progress::Terminal;
use crate::storage::Backend;
use crate::training::Trainer;

/// What `whyrank eval` was asked for.
#[derive(Debug, clap::Args)]
pub(super) struct EvaluationArguments {
    /// The folder for finished runs and the report; a run that is there is not made again.
    #[arg(long, default_value = "whyrank-evaluation")]
    output: PathBuf,
    /// A table of training interactions, with the configured columns, instead of a split.
    #[arg(long, requires = "test")]
    train: Option<PathBuf>,
    /// A table of test interactions, with the configured columns.
    #[arg(long, requires = "train")]
    test: Option<PathBuf>,
    /// What writes the explanations; the configured generator if absent.
    #[arg(long, value_enum)]
    generator: Option<GeneratorKind>,
    /// The file of written texts that is read and added to, so that an LLM writes none twice;
    /// `explanations.jsonl` in the output folder if absent.
    #[arg(long)]
    texts: Option<PathBuf>,
}

/// What all runs of an evaluation share.
struct Evaluation {
    settings: Settings,
    kind: Option<GeneratorKind>,
    training: Dataset,
    test: Vec<ImportedInteraction>,
    fingerprint: String,
    folder: PathBuf,
    progress: Arc<Terminal>,
    archive: Option<Arc<TextArchive>>,
}

pub(super) async fn evaluate(
    settings: Settings,
    arguments: EvaluationArguments,
    json: bool,
) -> Result<()> {
    let (progress, _) = interruptible();
    let (training, mut test) = parts(&settings, &arguments, &progress).await?;
    let most = settings.evaluation.maximum_test_pairs;
    if most > 0 && test.len() > most {
        test.shuffle(&mut StdRng::seed_from_u64(0));
        test.truncate(most);
    }
    let kind = arguments.generator.unwrap_or(settings.generator.kind);
    let fingerprint = fingerprint(&settings, kind, &training, &test)?;
    let folder = arguments.output;
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    write_split(&folder, &training.interactions, &test)?;
    let peers = read_answers(&folder, test.len())?;
    let generator = format!("{kind:?}").to_lowercase();
    // The template is faster than a search in a file.
    let archive = if kind == GeneratorKind::Template {
        None
    } else {
        let path = arguments.texts.unwrap_or_else(|| folder.join("explanations.jsonl"));
        Some(Arc::new(TextArchive::open(&path)?))
    };
    let evaluation = Evaluation {
        settings,
        kind: Some(kind),
        training,
        test,
        fingerprint,
        folder,
        progress,
        archive,
    };
    let plan = &evaluation.settings.evaluation;
    let mut runs = Vec::new();
    let mut last = None;
    for share in &plan.shares {
        for seed in &plan.seeds {
            runs.push(evaluation.run(*share, *seed, &mut last).await?);
        }
    }
    let report = EvaluationReport::new(plan, &generator, &evaluation.fingerprint, &runs, &peers);
    let path = evaluation.folder.join("report.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", path.display()))?;
    let pictured = evaluation.folder.join("report.html");
    std::fs::write(&pictured, page(&report)?)
        .with_context(|| format!("writing {}", pictured.display()))?;
    print(json, &report, || describe(&report, &path))
}

async fn parts(
    settings: &Settings,
    arguments: &EvaluationArguments,
    progress: &Arc<Terminal>,
) -> Result<(Dataset, Vec<ImportedInteraction>)> {
    let weights = settings.open_weights()?;
    let read = async |path: Option<&PathBuf>| {
        let mut import = settings.import.clone();
        if let Some(path) = path {
            import.interactions.path = Some(path.clone());
        }
        anyhow::Ok(read_dataset(&import, &weights, progress.clone()).await?.0)
    };
    let training = read(arguments.train.as_ref()).await?;
    if let Some(test) = &arguments.test {
        let test = read(Some(test)).await?.interactions;
        let known: std::collections::HashSet<_> =
            training.interactions.iter().map(|row| (&row.user, &row.item)).collect();
        let both = test.iter().filter(|row| known.contains(&(&row.user, &row.item))).count();
        ensure!(
            both == 0,
            "{both} pairs are in the training and in the test table; a test must not be learned from"
        );
        return Ok((training, test));
    }
    let plan = &settings.evaluation;
    Ok(divide(&training, plan.split, plan.test, plan.split_seed))
}

/// Digest of everything that decides a run's outcome.
fn fingerprint(
    settings: &Settings,
    kind: GeneratorKind,
    training: &Dataset,
    test: &[ImportedInteraction],
) -> Result<String> {
    let writing = &settings.generator;
    let prompts =
        Prompts::load(writing.prompts.as_deref(), writing.prompt_style, &writing.cleaning)?;
    let held = Dataset { interactions: test.to_vec(), ..Dataset::default() };
    let decisive = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "training": training.fingerprint(),
        "test": held.fingerprint(),
        "split": settings.split,
        "limits": settings.training,
        "vectors": settings.vectors,
        "autoencoder": settings.autoencoder,
        "ranker": settings.ranker,
        "explainer": settings.explainer,
        "arms": settings.evaluation.arms,
        "ordering": settings.evaluation.ordering,
        "score": settings.rerank.score,
        "bound": settings.rerank.maximum_text_influence,
        "ratings": settings.ratings,
        "evidence": settings.evidence,
        "generator": format!("{kind:?}"),
        "writing": settings.generator,
        "prompts": prompts.version(),
    });
    Ok(format!("{:x}", Sha256::digest(serde_json::to_vec(&decisive)?)))
}

impl Evaluation {
    /// One run, or what is left of it from earlier. `last` is the trainer of the run before, whose text
    /// embeddings serve this one too.
    async fn run(&self, share: f32, seed: u64, last: &mut Option<Trainer>) -> Result<FinishedRun> {
        let name = format!("share-{share}-seed-{seed}");
        let path = self.folder.join(format!("{name}.json"));
        if let Some(run) = self.finished(&path)? {
            return Ok(run);
        }
        tracing::info!(share, seed, "evaluating");
        let work = self.folder.join(format!("{name}.work"));
        // Vectors of an interrupted run would be those of another training part's explanations.
        if work.exists() {
            std::fs::remove_dir_all(&work)
                .with_context(|| format!("emptying {}", work.display()))?;
        }
        let mut settings = self.settings.clone();
        settings.store.backend = Backend::Embedded;
        settings.store.existing_items = None;
        settings.store.embedded.folder = work.join("store");
        settings.models_folder = work.join("models");
        settings.vectors.factorisation.seed = seed;
        settings.ranker.training.seed = seed;
        let runtime = Runtime::open(settings).await?;
        let progress = self.progress.as_ref();
        ingest(&runtime.storage, &share_of(&self.training, share, seed), progress).await?;
        let trainer = match last.take() {
            Some(last) => last.over(runtime.settings.clone(), runtime.storage.clone()),
            None => trainer(&runtime, self.progress.clone())?,
        };
        trainer.train_vectors().await?;
        trainer.index().await?;
        let mut test = Vec::with_capacity(self.test.len());
        for row in &self.test {
            let user = runtime.storage.user_id(&row.user)?;
            let item = runtime.storage.item_id(&row.item)?;
            test.push((user, HistoryEntry { item, rating: row.rating, time: row.time }));
        }
        let mut writer = runtime.writer(self.kind, None).await?;
        if let Some(archive) = &self.archive {
            writer = writer.with_archive(archive.clone());
        }
        let plan = &self.settings.evaluation;
        let outcome = trainer.compare(&test, &writer, &plan.arms, &plan.ordering, seed).await?;
        runtime.close().await?;
        *last = Some(trainer);
        let run = FinishedRun { fingerprint: self.fingerprint.clone(), share, seed, outcome };
        let unfinished = path.with_extension("part");
        std::fs::write(&unfinished, serde_json::to_vec(&run)?)
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .with_context(|| format!("writing {}", path.display()))?;
        std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
        Ok(run)
    }

    fn finished(&self, path: &Path) -> Result<Option<FinishedRun>> {
        let Ok(bytes) = std::fs::read(path) else { return Ok(None) };
        let run: FinishedRun = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a finished run; remove it", path.display()))?;
        if run.fingerprint != self.fingerprint {
            bail!(
                "{} is of other data or settings: give another folder with `--output`, or remove it",
                path.display()
            );
        }
        Ok(Some(run))
    }
}

fn describe(report: &EvaluationReport, path: &Path) -> String {
    let mut text = String::new();
    for share in &report.shares {
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY);
        let header =
            ["arm", "RMSE", "MAE", "AUC", "RMSE vs features", "RMSE vs shuffled", "95 % apart"];
        table.set_header(header);
        for arm in &share.arms {
            let better = |versus: &Option<Versus>| {
                versus
                    .as_ref()
                    .map_or("-".to_owned(), |v| format!("{:+.2} %", v.rmse_better_percent))
            };
            let apart = |versus: &Option<Versus>| match versus {
                Some(versus) if versus.significant => "yes",
                Some(_) => "no",
                None => "-",
            };
            let area = arm.auc.zip(arm.auc_spread);
            table.add_row([
                arm.arm.name().to_owned(),
                format!("{:.4}", arm.rmse),
                format!("{:.4}", arm.mae),
                area.map_or("-".to_owned(), |(area, spread)| format!("{area:.4} ±{spread:.4}")),
                better(&arm.versus_features),
                better(&arm.versus_shuffled),
                format!("{} / {}", apart(&arm.versus_features), apart(&arm.versus_shuffled)),
            ]);
        }
        text += &format!(
            "{:.0} % of the training data: {} pairs to learn from, {} test pairs, {} written by an LLM, \
             {} seeds\n{table}\n",
            100.0 * share.share,
            share.training_pairs,
            share.test_pairs,
            share.written_by_llm,
            report.seeds.len(),
        );
        if let Some(ordering) = &share.ordering {
            let mut table = Table::new();
            table.load_preset(UTF8_HORIZONTAL_ONLY);
            let at = |name: &str| format!("{name}@{}", ordering.cutoff);
            table.set_header([
                "order",
                &at("NDCG"),
                &at("recall"),
                "NDCG over retrieval",
                "NDCG over features",
            ]);
            for order in &ordering.orders {
                let name = order.arm.map_or("retrieval", |arm| arm.name());
                let over = |interval: &Option<Interval>| {
                    interval.as_ref().map_or("-".to_owned(), with_interval)
                };
                table.add_row([
                    name.to_owned(),
                    with_interval(&order.ndcg),
                    with_interval(&order.recall),
                    over(&order.ndcg_over_retrieval),
                    over(&order.ndcg_over_features),
                ]);
            }
            text += &format!(
                "Order of retrieved candidates for {} consumers; {:.1} % of what they liked later was \
                 found\n{table}\n",
                ordering.consumers,
                100.0 * ordering.found,
            );
        }
        if let Some(found) = &share.faithfulness {
            text += &format!(
                "deletion test on {} pairs: without the input that the account names first the \
                 like-probability moves by {:.4}, without another by {:.4} (more in {:.0} % of the \
                 pairs; difference {:.4} to {:.4})\n",
                found.pairs,
                found.named_first,
                found.random_other,
                100.0 * found.share,
                found.more.low,
                found.more.high,
            );
        }
    }
    if !report.peers.is_empty() {
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY);
        table.set_header(["others", "package", "RMSE", "MAE", "AUC", "our RMSE", "95 % apart"]);
        for one in &report.peers {
            let versus = one.against_it.as_ref();
            table.add_row([
                one.peer.name.clone(),
                one.peer.package.clone(),
                format!("{:.4}", one.peer.rmse),
                format!("{:.4}", one.peer.mae),
                one.peer.auc.map_or("-".to_owned(), |area| format!("{area:.4}")),
                versus.map_or("-".to_owned(), |v| {
                    format!("{:+.2} % ({})", v.rmse_better_percent, one.arm.name())
                }),
                versus.map_or("-", |v| if v.significant { "yes" } else { "no" }).to_owned(),
            ]);
        }
        text += &format!("Models of others on all of the training data\n{table}\n");
    }
    text + &format!("A positive number is better. The report is in {}", path.display())
}

fn with_interval(interval: &Interval) -> String {
    format!("{:.4} [{:.4}, {:.4}]", interval.mean, interval.low, interval.high)
}
