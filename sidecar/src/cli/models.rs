//! `whyrank models`: the versions of the trained models.

use anyhow::{Result, bail, ensure};
use serde_json::json;

use super::output::{print, table};
use super::runtime::Runtime;
use super::train::{interruptible, publish, trainer_in};
use crate::artifacts::ArtifactPaths;
use crate::config::Settings;
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
