//! What an LLM foresees of all items of an evaluation, asked once for all its runs: no question holds anything
//! of the data but a title.

use std::collections::HashMap;
use std::path::Path;
use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use whyrank_models::progress::Progress;
use whyrank_plugin::Forecast;

use crate::archive::Lines;
use crate::generator::Forecaster;
use crate::import::ImportedItem;

/// One answer.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The item's id as the data gave it.
    item: String,
    /// None if the answer was no number.
    rating: Option<f32>,
    version: u32,
}

/// The forecasts of these items by their ids, read from the file or asked for and added to it.
///
/// # Errors
/// When the file cannot be used, the LLM fails, or a stop was asked for.
pub async fn forecasts(
    path: &Path,
    items: &[ImportedItem],
    forecaster: &Forecaster,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<HashMap<String, Forecast>> {
    let (mut lines, known) = Lines::open::<Line>(path)?;
    let known: HashMap<(String, u32), Option<f32>> =
        known.into_iter().map(|line| ((line.item, line.version), line.rating)).collect();
    let mut found = HashMap::new();
    let mut keep = |item: &ImportedItem, rating: Option<f32>, version| {
        let forecast = rating.map(|rating| Forecast { rating, version });
        found.extend(forecast.map(|forecast| (item.id.clone(), forecast)));
    };
    let mut missing = Vec::new();
    for item in items {
        let version = forecaster.version(&item.title);
        match known.get(&(item.id.clone(), version)) {
            Some(rating) => keep(item, *rating, version),
            None => missing.push((item, version)),
        }
    }
    progress.begin("foreseeing ratings", missing.len() as u64);
    let titles = missing.iter().map(|(item, _)| item.title.as_str());
    let mut answers = pin!(forecaster.each(titles, cancel));
    for (done, (item, version)) in missing.iter().enumerate() {
        ensure!(!progress.cancelled(), "foreseeing ratings was stopped; what is known is kept");
        let foreseen = answers.next().await.context("every question has an answer")??;
        let rating = foreseen.forecast.map(|forecast| forecast.rating);
        lines.add(&Line { item: item.id.clone(), rating, version: *version })?;
        keep(item, rating, *version);
        progress.advance(done as u64 + 1);
    }
    progress.end();
    Ok(found)
}
