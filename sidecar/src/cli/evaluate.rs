//! `whyrank eval`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use whyrank_plugin::{Forecast, HistoryEntry};

use super::data::read_dataset;
use super::evaluation_tables::tables;
use super::output::print;
use super::runtime::{Runtime, generator_settings};
use super::train::{interruptible, trainer};
use crate::archive::TextArchive;
use crate::config::{Settings, VectorSource};
use crate::evaluation::{
    EvaluationReport, FinishedRun, SplitKind, divide, forecasts, page, read_answers, share_of,
    write_split,
};
use crate::generator::{self, Forecaster, GeneratorKind, OpenAiSettings, Prompts};
use crate::import::{Dataset, ImportedInteraction};
use crate::ingest::ingest;
use crate::progress::Terminal;
use crate::quality::quality;
use crate::storage::{Backend, Storage};
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
    kind: GeneratorKind,
    forecasts: HashMap<String, Forecast>,
    training: Dataset,
    test: Vec<ImportedInteraction>,
    fingerprint: String,
    program: String,
    folder: PathBuf,
    progress: Arc<Terminal>,
    archive: Option<Arc<TextArchive>>,
}

pub(super) async fn evaluate(
    mut settings: Settings,
    arguments: EvaluationArguments,
    json: bool,
) -> Result<()> {
    let (progress, cancel) = interruptible();
    let (training, test) = parts(&settings, &arguments, &progress).await?;
    let test = some_of(test, settings.evaluation.maximum_test_pairs);
    if settings.evaluation.split == SplitKind::NewItems && arguments.test.is_none() {
        ensure!(
            settings.vectors.source == VectorSource::Learned,
            "`evaluation.split = \"new_items\"` needs learned vectors: those that are brought know the items"
        );
        // A new item stands only beside new ones.
        settings.evaluation.ordering.consumers = 0;
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
    let foreseen = if kind == GeneratorKind::Template {
        HashMap::new()
    } else {
        foresee(&settings, kind, &training, &folder, progress.as_ref(), &cancel).await?
    };
    let evaluation = Evaluation {
        settings,
        kind,
        forecasts: foreseen,
        training,
        test,
        fingerprint,
        program: program()?,
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
    let Evaluation { fingerprint, test, .. } = &evaluation;
    let report = EvaluationReport::new(plan, &generator, fingerprint, &runs, test, &peers);
    let path = evaluation.folder.join("report.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", path.display()))?;
    let pictured = evaluation.folder.join("report.html");
    std::fs::write(&pictured, page(&report)?)
        .with_context(|| format!("writing {}", pictured.display()))?;
    print(json, &report, || format!("{}The report is in {}", tables(&report), path.display()))
}

/// What the LLM foresees of all items, if anything that is compared reads it.
async fn foresee(
    settings: &Settings,
    kind: GeneratorKind,
    training: &Dataset,
    folder: &Path,
    progress: &Terminal,
    cancel: &CancellationToken,
) -> Result<HashMap<String, Forecast>> {
    if !settings.evaluation.arms.iter().any(|arm| arm.reads_forecasts()) {
        return Ok(HashMap::new());
    }
    let weights = settings.open_weights()?;
    let asked = generator_settings(settings, &weights, Some(kind))?;
    let generator = generator::build(&asked).await.context("preparing the generator")?;
    let forecaster = Forecaster::new(generator, asked.cleaning, asked.forecast)?;
    let path = folder.join("forecasts.jsonl");
    forecasts(&path, &training.items, &forecaster, progress, cancel).await
}

/// Whole consumers of the test part, at least one and as long as no more than this many pairs come of it: what a
/// consumer liked later is all there, or nothing of it.
fn some_of(test: Vec<ImportedInteraction>, most: usize) -> Vec<ImportedInteraction> {
    if most == 0 || test.len() <= most {
        return test;
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in &test {
        *counts.entry(row.user.clone()).or_default() += 1;
    }
    let mut consumers: Vec<(String, usize)> = counts.into_iter().collect();
    consumers.shuffle(&mut StdRng::seed_from_u64(0));
    let mut taken = 0;
    let chosen: HashSet<String> = consumers
        .into_iter()
        .take_while(|(_, count)| {
            let first = taken == 0;
            taken += count;
            first || taken <= most
        })
        .map(|(consumer, _)| consumer)
        .collect();
    test.into_iter().filter(|row| chosen.contains(&row.user)).collect()
}

/// Digest of this program: a run of another one is told, for it may have been made otherwise.
fn program() -> Result<String> {
    let path = std::env::current_exe().context("finding this program")?;
    let file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut digest = Sha256::new();
    std::io::copy(&mut std::io::BufReader::new(file), &mut digest)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(format!("{:x}", digest.finalize())[..16].to_owned())
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
        let mut read = read_dataset(&import, &weights, progress.clone()).await?.0;
        // The order of a table decides nothing: answers of others are in the order of what is written down.
        let by_pair = |row: &ImportedInteraction| (row.user.clone(), row.item.clone(), row.time);
        read.interactions.sort_by_cached_key(by_pair);
        anyhow::Ok(read)
    };
    let training = read(arguments.train.as_ref()).await?;
    if let Some(test) = &arguments.test {
        let test = read(Some(test)).await?.interactions;
        let known: HashSet<_> =
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
    // How many are asked for at once decides how soon texts are there, and not what they say.
    let mut writing = settings.generator.clone();
    writing.openai.parallel = OpenAiSettings::default().parallel;
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
        "written": settings.evaluation.written_pairs,
        "score": settings.rerank.score,
        "bound": settings.rerank.maximum_text_influence,
        "ratings": settings.ratings,
        "text": settings.text,
        "ids": settings.store.ids,
        "evidence": settings.evidence,
        "generator": format!("{kind:?}"),
        "writing": writing,
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
        let learned_from = share_of(&self.training, share, seed);
        ingest(&runtime.storage, &learned_from, progress).await?;
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
        self.tell_forecasts(&runtime.storage).await?;
        let plan = &self.settings.evaluation;
        // Loading an LLM takes seconds, and gigabytes of memory.
        let asked = plan.arms.iter().any(|arm| arm.reads_explanations());
        let kind = if asked { self.kind } else { GeneratorKind::Template };
        let mut writer = runtime.writer(Some(kind), None).await?;
        if let Some(archive) = &self.archive {
            writer = writer.with_archive(archive.clone(), self.part(&learned_from)?);
        }
        let outcome = trainer.compare(&test, &writer, plan, seed).await?;
        let quality = match &self.archive {
            Some(_) if asked => {
                Some(quality(&runtime.storage, &writer, usize::MAX, progress).await?)
            }
            _ => None,
        };
        runtime.close().await?;
        *last = Some(trainer);
        let (fingerprint, program) = (self.fingerprint.clone(), self.program.clone());
        let run = FinishedRun { fingerprint, program, share, seed, outcome, quality };
        let unfinished = path.with_extension("part");
        std::fs::write(&unfinished, serde_json::to_vec(&run)?)
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .with_context(|| format!("writing {}", path.display()))?;
        std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
        Ok(run)
    }

    /// Digest of all that explanations are told from; vectors of other seeds are no other part.
    fn part(&self, learned_from: &Dataset) -> Result<String> {
        let told = serde_json::json!({
            "data": learned_from.fingerprint(),
            "evidence": self.settings.evidence,
            "vectors": self.settings.vectors,
            "ratings": self.settings.ratings,
            "text": self.settings.text,
        });
        Ok(format!("{:x}", Sha256::digest(serde_json::to_vec(&told)?))[..16].to_owned())
    }

    /// Puts the forecasts beside what is known of the items.
    async fn tell_forecasts(&self, storage: &Storage) -> Result<()> {
        if self.forecasts.is_empty() {
            return Ok(());
        }
        let mut items = storage.all_items().await?;
        for item in &mut items {
            item.statistics.forecast = self.forecasts.get(&item.external_id).copied();
        }
        Ok(storage.write_items(&items).await?)
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
