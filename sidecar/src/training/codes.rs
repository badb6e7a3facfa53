//! The autoencoder that turns explanation texts into codes, and the amortized explainer that predicts
//! the codes of pairs nothing is written for.

use std::collections::HashMap;

use anyhow::{Result, bail};
use ndarray::Array2;
use serde::Serialize;
use whyrank_models::autoencoder::{Autoencoder, AutoencoderReport};
use whyrank_models::explainer::{
    ExplainerExamples, ExplainerReport, ExplainerSettings, TrainedExplainer,
};
use whyrank_models::progress::Progress;
use whyrank_plugin::Codes;

use super::{Trainer, item_text, user_text};
use crate::artifacts::{self, load_encoder};

/// What training the autoencoder used and reached.
#[derive(Debug, Clone, Serialize)]
pub struct AutoencoderOutcome {
    /// Written explanations, two texts each.
    pub explanations: usize,
    /// Other texts of the first round.
    pub other_texts: usize,
    /// The first round on all texts, the second on explanations.
    pub reports: Vec<AutoencoderReport>,
}

/// What training the explainer used and reached.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainerOutcome {
    /// Pairs with a written and encoded explanation.
    pub pairs: usize,
    /// Held-out cosine to the written codes, beside the cosine of the mean code.
    pub report: ExplainerReport,
}

/// Pairs whose codes are known, gathered for the explainer.
#[derive(Debug, Default)]
pub(super) struct ExplainedPairs {
    count: usize,
    user: Vec<f32>,
    item: Vec<f32>,
    positive: Vec<f32>,
    negative: Vec<f32>,
}

impl ExplainedPairs {
    /// Adds a pair with its user and item vectors `[d]`.
    pub(super) fn push(&mut self, user: &[f32], item: &[f32], codes: &Codes) {
        self.user.extend_from_slice(user);
        self.item.extend_from_slice(item);
        self.positive.extend_from_slice(&codes.positive);
        self.negative.extend_from_slice(&codes.negative);
        self.count += 1;
    }

    /// An explainer that learned them.
    ///
    /// # Errors
    /// When there are too few of them, or a stop was asked for.
    pub(super) fn train(
        self,
        settings: &ExplainerSettings,
        progress: &dyn Progress,
    ) -> Result<TrainedExplainer> {
        let (user, item) = (table(self.user, self.count)?, table(self.item, self.count)?);
        let positive = table(self.positive, self.count)?;
        let negative = table(self.negative, self.count)?;
        let examples = ExplainerExamples {
            user: user.view(),
            item: item.view(),
            positive: positive.view(),
            negative: negative.view(),
        };
        Ok(TrainedExplainer::train(&examples, settings, progress)?)
    }
}

/// The values as a table of so many rows.
pub(super) fn table(values: Vec<f32>, rows: usize) -> Result<Array2<f32>> {
    let width = values.len().checked_div(rows).unwrap_or_default();
    Ok(Array2::from_shape_vec((rows, width), values)?)
}

impl Trainer {
    /// Trains the autoencoder: first on all texts at hand, then on the explanations.
    ///
    /// # Errors
    /// When nothing is written yet.
    pub async fn train_autoencoder(&self) -> Result<AutoencoderOutcome> {
        self.require_vectors()?;
        let explanations = self.storage.all_explanations(None).await?;
        if explanations.is_empty() {
            bail!("no explanation is written yet: run `whyrank generate`");
        }
        let written: Vec<&str> = explanations
            .iter()
            .map(|record| &record.explanation)
            .flat_map(|both| [both.positive.as_str(), both.negative.as_str()])
            .collect();
        let mut other: Vec<String> =
            self.storage.all_items().await?.iter().map(item_text).collect();
        other.extend(self.storage.all_users().await?.iter().map(user_text));
        other.retain(|text| !text.is_empty());
        let progress = self.progress.as_ref();
        let written = self.embed(&written)?;
        let others = self.embed(&other)?;
        let all = ndarray::concatenate(ndarray::Axis(0), &[others.view(), written.view()])?;
        let settings = &self.settings.autoencoder;
        let mut autoencoder = Autoencoder::pretrain(all.view(), settings, progress)?;
        autoencoder.fine_tune(written.view(), progress)?;
        std::fs::create_dir_all(self.paths.folder())?;
        autoencoder.export(&self.paths.encoder(), &self.paths.decoder())?;
        Ok(AutoencoderOutcome {
            explanations: explanations.len(),
            other_texts: other.len(),
            reports: autoencoder.reports().to_vec(),
        })
    }

    /// Trains the amortized explainer on all pairs with current codes.
    ///
    /// # Errors
    /// When nothing is encoded with the present autoencoder.
    pub async fn train_explainer(&self) -> Result<ExplainerOutcome> {
        self.require_vectors()?;
        let code = self.settings.autoencoder.code;
        if !self.paths.encoder().exists() {
            bail!("there is no autoencoder yet: run `whyrank train autoencoder`");
        }
        let encoder = load_encoder(&self.paths, self.embedder()?.dimension(), code)?;
        let version = artifacts::version(encoder.contract());
        let users: HashMap<_, _> = self
            .storage
            .all_users()
            .await?
            .into_iter()
            .map(|user| (user.id, user.vector))
            .collect();
        let items: HashMap<_, _> = self
            .storage
            .all_items()
            .await?
            .into_iter()
            .map(|item| (item.id, item.vector))
            .collect();
        let mut explained = ExplainedPairs::default();
        for record in self.storage.all_explanations(None).await? {
            let current = record.code_version.as_deref() == Some(version.as_str());
            let vectors = (users.get(&record.user), items.get(&record.item));
            if let (Some(codes), (Some(Some(user)), Some(Some(item))), true) =
                (record.codes, vectors, current)
            {
                explained.push(user, item, &codes);
            }
        }
        let pairs = explained.count;
        if pairs == 0 {
            bail!(
                "no explanation has a code of the present autoencoder: run `whyrank generate` and \
                 `whyrank index`"
            );
        }
        let trained = explained.train(&self.settings.explainer, self.progress.as_ref())?;
        trained.export(&self.paths.explainer())?;
        Ok(ExplainerOutcome { pairs, report: trained.report().clone() })
    }
}
