//! `whyrank models`: the versions of the trained models.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use whyrank_models::metrics::Interval;

use super::output::{print, table};
use super::runtime::Runtime;
use super::train::{interruptible, publish, trainer_in};
use crate::artifacts::ArtifactPaths;
use crate::config::Settings;
use crate::training::VersionComparison;
use crate::versions::{self, Dimensions, ModelFolder, UNVERSIONED, VersionSummary};

/// What to do with the versions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ModelsAction {
    /// Prints all versions that are kept.
    List,
    /// Compares hashes and runs the golden inputs.
    Verify {
        /// The version; all of them if none is named.
        version: Option<String>,
    },
    /// Verifies a version and makes it live; running servers switch to it within seconds.
    Activate {
        /// The version.
        version: String,
        /// Also writes its vectors and codes into the store, where they are others than the live ones;
        /// servers must be stopped.
        #[arg(long)]
        index: bool,
    },
    /// Verifies the version that was live before and makes it live again.
    Rollback {
        /// As with `activate`.
        #[arg(long)]
        index: bool,
    },
    /// Predicts the same held-back pairs with two versions: differences of metrics with 95 % intervals.
    Compare {
        /// The version that is compared with, such as the live one.
        first: String,
        /// The other one, such as a candidate.
        second: String,
    },
    /// Makes a version of models that lie in the folder itself, as before there were versions.
    Adopt,
}

pub(super) async fn models(settings: Settings, action: ModelsAction, json: bool) -> Result<()> {
    let folder = settings.model_folder();
    match action {
        ModelsAction::List => {
            let versions = folder.list()?;
            print(json, &versions, || listed(&versions))
        }
        ModelsAction::Verify { version } => verify(&settings, &folder, version, json),
        ModelsAction::Activate { version, index } => {
            activate(settings, &folder, &version, index).await?;
            folder.activate(&version)?;
            print(json, &json!({ "live": version }), || format!("{version} is live"))
        }
        ModelsAction::Rollback { index } => {
            let version = folder.before()?;
            activate(settings, &folder, &version, index).await?;
            folder.roll_back_to(&version)?;
            print(json, &json!({ "live": version }), || format!("{version} is live"))
        }
        ModelsAction::Compare { first, second } => {
            compare(settings, &folder, [&first, &second], json).await
        }
        ModelsAction::Adopt => adopt(settings, &folder, json).await,
    }
}

fn listed(versions: &[VersionSummary]) -> String {
    if versions.is_empty() {
        return "there is no version yet; `whyrank train` makes one".to_owned();
    }
    let mut table = table(["version", "live", "trained with it", "fault"]);
    for one in versions {
        let live = if one.live { "live" } else { "" };
        let fault = one.fault.clone().unwrap_or_default();
        table.add_row([one.version.clone(), live.to_owned(), one.trained.join(", "), fault]);
    }
    table.to_string()
}

fn verify(
    settings: &Settings,
    folder: &ModelFolder,
    version: Option<String>,
    json: bool,
) -> Result<()> {
    let versions: Vec<String> = match version {
        Some(version) => vec![version],
        None => folder.list()?.into_iter().map(|one| one.version).collect(),
    };
    ensure!(!versions.is_empty(), "there is no version to verify; `whyrank train` makes one");
    let mut findings = Vec::with_capacity(versions.len());
    for version in versions {
        let verified = folder.verify(&version, Dimensions::of(settings));
        let compared = verified.as_ref().map_or(0, |verified| verified.compared);
        let fault = verified.err().map(|error| format!("{error:#}"));
        findings.push(json!({ "version": version, "compared": compared, "fault": fault }));
    }
    let faults = findings.iter().filter(|finding| !finding["fault"].is_null()).count();
    print(json, &findings, || {
        let lines = findings.iter().map(|finding| {
            let version = finding["version"].as_str().unwrap_or_default();
            match finding["fault"].as_str() {
                None => format!("ok     {version}: {} golden outputs", finding["compared"]),
                Some(fault) => format!("FAULT  {version}: {fault}"),
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    if faults > 0 {
        bail!("{faults} of {} versions do not verify", findings.len());
    }
    Ok(())
}

/// All that comes before a version is made live: it must verify, and the store must hold its vectors
/// and codes.
async fn activate(
    settings: Settings,
    folder: &ModelFolder,
    version: &str,
    index: bool,
) -> Result<()> {
    folder.verify(version, Dimensions::of(&settings))?;
    let paths = folder.version(version)?;
    let live = folder.live();
    let same = live.is_ok_and(|live| versions::store_part(&live) == versions::store_part(&paths));
    if same {
        return Ok(());
    }
    ensure!(
        index,
        "the store holds vectors or codes of other models than those of {version}: stop the servers and \
         add `--index`, which writes them anew"
    );
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    trainer_in(&runtime, progress, paths).index().await?;
    runtime.close().await
}

async fn adopt(settings: Settings, folder: &ModelFolder, json: bool) -> Result<()> {
    if let Some(version) = folder.live_version()? {
        bail!("the live models are a version already: {version}");
    }
    versions::verify(&ArtifactPaths::new(folder.root()), Dimensions::of(&settings))?;
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    let staging = folder.begin()?;
    let trainer = trainer_in(&runtime, progress, staging.paths());
    let version = publish(&runtime, &trainer, staging, true).await?;
    runtime.close().await?;
    print(json, &json!({ "live": version }), || {
        format!("{version} is live; the files in the folder itself ({UNVERSIONED}) can be removed")
    })
}

async fn compare(
    settings: Settings,
    folder: &ModelFolder,
    versions: [&str; 2],
    json: bool,
) -> Result<()> {
    let live = folder.live()?;
    let mut models = Vec::with_capacity(2);
    for version in versions {
        let paths = folder.version(version)?;
        ensure!(
            versions::store_part(&live) == versions::store_part(&paths),
            "version {version} has other vectors or codes than the live one, which the store holds: it \
             cannot be compared here; `whyrank eval` compares whole trainings"
        );
        let verified = folder.verify(version, Dimensions::of(&settings))?;
        models
            .push(verified.rerank.with_context(|| format!("version {version} has no ranker yet"))?);
    }
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    let trainer = trainer_in(&runtime, progress, live);
    let comparison = trainer.compare_versions([&models[0], &models[1]]).await?;
    runtime.close().await?;
    print(json, &comparison, || compared(&comparison))
}

fn compared(comparison: &VersionComparison) -> String {
    let VersionComparison { pairs, consumers, first, second, differences } = comparison;
    let optional =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    let mut metrics = table(["version", "RMSE", "MAE", "AUC", "log loss", "NDCG@10"]);
    for one in [first, second] {
        metrics.add_row([
            one.version.clone(),
            format!("{:.4}", one.rmse),
            format!("{:.4}", one.mae),
            optional(one.auc),
            format!("{:.4}", one.log_loss),
            optional(one.ndcg),
        ]);
    }
    let mut apart = table(["the second is better by", "mean", "95 % interval", "apart from 0"]);
    for one in differences {
        let Interval { mean, low, high } = one.better;
        let interval = format!("{low:+.5} to {high:+.5}");
        let is_apart = if one.apart { "yes" } else { "no" };
        apart.add_row([
            one.metric.to_owned(),
            format!("{mean:+.5}"),
            interval,
            is_apart.to_owned(),
        ]);
    }
    format!("{pairs} held-back pairs, {consumers} consumers with an order\n{metrics}\n{apart}")
}
