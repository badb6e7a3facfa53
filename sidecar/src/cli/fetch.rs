//! `whyrank fetch`.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde::Serialize;
use whyrank_models::weights::Weights;

use super::output::print;
use super::{FetchArguments, Purpose};
use crate::config::Settings;
use crate::progress::Terminal;

/// What fetching left where.
#[derive(Debug, Serialize)]
struct FetchedView {
    artifact: String,
    folder: String,
    fetched: Vec<String>,
}

pub(super) async fn fetch(
    settings: &Settings,
    arguments: FetchArguments,
    json: bool,
) -> Result<()> {
    let weights = settings.open_weights()?;
    let mut names = arguments.names;
    if let Some(purpose) = arguments.purpose {
        let command = match purpose {
            Purpose::Demo => "demo",
            Purpose::Tests => "tests",
        };
        names.extend(weights.manifest.names_used_by(command).into_iter().map(str::to_owned));
    }
    if names.is_empty() {
        bail!(
            "name what to fetch, or use `--for demo` or `--for tests`; there are: {}",
            weights.manifest.names().into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    let fetched =
        ensure(settings, weights, names, arguments.force, Arc::new(Terminal::new())).await?;
    print(json, &fetched, || {
        let lines = fetched.iter().map(|one| {
            let what =
                if one.fetched.is_empty() { "there already" } else { "fetched and verified" };
            format!("{}: {what}, in {}", one.artifact, one.folder)
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Fetches what is not there yet.
async fn ensure(
    settings: &Settings,
    weights: Weights,
    names: Vec<String>,
    force: bool,
    progress: Arc<Terminal>,
) -> Result<Vec<FetchedView>> {
    let fetch = settings.weights.fetch.clone();
    let fetched = tokio::task::spawn_blocking(move || {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        weights.fetch(&names, &fetch, force, progress.as_ref())
    })
    .await??;
    let views = fetched.into_iter().map(|one| FetchedView {
        artifact: one.artifact,
        folder: one.folder.display().to_string(),
        fetched: one.files,
    });
    Ok(views.collect())
}

/// Fetches everything that a command needs and is not there yet.
pub(super) async fn ensure_for(
    settings: &Settings,
    command: &str,
    progress: Arc<Terminal>,
) -> Result<()> {
    let weights = settings.open_weights()?;
    let names = weights.manifest.names_used_by(command).into_iter().map(str::to_owned).collect();
    ensure(settings, weights, names, false, progress).await.map(drop)
}
