//! `whyrank import`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use whyrank_models::weights::Weights;

use super::output::print;
use super::runtime::{Runtime, WEIGHTS_PREFIX};
use super::train::interruptible;
use crate::config::Settings;
use crate::import::{self, Dataset, ImportReport, ImportSettings};
use crate::ingest::{IngestReport, ingest};
use crate::progress::Terminal;

/// What an import read and wrote.
#[derive(Debug, Serialize)]
pub(super) struct Imported {
    pub(super) rows: ImportReport,
    pub(super) stored: IngestReport,
}

pub(super) async fn import(settings: Settings, json: bool) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let collection = runtime.settings.store.items.clone();
    let (progress, _) = interruptible();
    let imported = import_into(&runtime, progress).await?;
    runtime.close().await?;
    print(json, &imported, || {
        let IngestReport { items, users, interactions, unknown_items } = &imported.stored;
        let mut text = format!(
            "{}\nstored: {items} items, {users} consumers, {interactions} interactions",
            imported.rows
        );
        if *unknown_items > 0 {
            text += &format!(
                "\nleft out: {unknown_items} interactions with items that `{collection}` does not have"
            );
        }
        text
    })
}

/// Reads the configured tables into the store.
pub(super) async fn import_into(runtime: &Runtime, progress: Arc<Terminal>) -> Result<Imported> {
    let (dataset, rows) =
        read_dataset(&runtime.settings.import, &runtime.weights, progress.clone()).await?;
    let stored = ingest(&runtime.storage, &dataset, progress.as_ref()).await?;
    Ok(Imported { rows, stored })
}

/// Reads the configured tables.
pub(super) async fn read_dataset(
    settings: &ImportSettings,
    weights: &Weights,
    progress: Arc<Terminal>,
) -> Result<(Dataset, ImportReport)> {
    let settings = with_fetched_paths(settings, weights)?;
    Ok(tokio::task::spawn_blocking(move || import::import(&settings, progress.as_ref())).await??)
}

/// The settings with `weights:NAME/FILE` replaced by the paths of the fetched files.
fn with_fetched_paths(settings: &ImportSettings, weights: &Weights) -> Result<ImportSettings> {
    let mut settings = settings.clone();
    let tables =
        [&mut settings.interactions.path, &mut settings.items.path, &mut settings.users.path];
    for path in tables.into_iter().flatten() {
        if let Some(found) = fetched(path, weights)? {
            *path = found;
        }
    }
    Ok(settings)
}

fn fetched(path: &Path, weights: &Weights) -> Result<Option<PathBuf>> {
    let Some(name) = path.to_str().and_then(|path| path.strip_prefix(WEIGHTS_PREFIX)) else {
        return Ok(None);
    };
    let (artifact, file) = name
        .split_once('/')
        .with_context(|| format!("{} is not `weights:NAME/FILE`", path.display()))?;
    Ok(Some(weights.require(artifact, file)?))
}
