//! The autoencoder that turns explanation texts into codes, and the amortized explainer that predicts
//! the codes of pairs nothing is written for.

use std::collections::HashMap;

use anyhow::{Result, bail};
use ndarray::Array2;
use serde::Serialize;
use whyrank_models::autoencoder::{Autoencoder, AutoencoderReport};
use whyrank_models::explainer::{ExplainerExamples, ExplainerReport, TrainedExplainer};

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

impl Trainer {
    /// Trains the autoencoder: first on all texts at hand, then on the explanations.
    ///
    /// # Errors
    /// When nothing is written yet.
    pub async fn train_autoencoder(&self) -> Result<AutoencoderOutcome> {
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
        let code = self.settings.autoencoder.code;
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
        let dimension = self.settings.vectors.factorisation.dimension;
        let (mut user, mut item) = (Vec::new(), Vec::new());
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        let mut pairs = 0;
        for record in self.storage.all_explanations(None).await? {
            let current = record.code_version.as_deref() == Some(version.as_str());
            let vectors = (users.get(&record.user), items.get(&record.item));
            if let (Some(codes), (Some(Some(u)), Some(Some(v))), true) =
                (record.codes, vectors, current)
            {
                user.extend_from_slice(u);
                item.extend_from_slice(v);
                positive.extend(codes.positive);
                negative.extend(codes.negative);
                pairs += 1;
            }
        }
        if pairs == 0 {
            bail!(
                "no explanation has a code of the present autoencoder: run `whyrank generate` and \
                 `whyrank index`"
            );
        }
        let table = |values, width| Array2::from_shape_vec((pairs, width), values);
        let (user, item) = (table(user, dimension)?, table(item, dimension)?);
        let (positive, negative) = (table(positive, code)?, table(negative, code)?);
        let examples = ExplainerExamples {
            user: user.view(),
            item: item.view(),
            positive: positive.view(),
            negative: negative.view(),
        };
        let progress = self.progress.as_ref();
        let trained = TrainedExplainer::train(&examples, &self.settings.explainer, progress)?;
        trained.export(&self.paths.explainer())?;
        Ok(ExplainerOutcome { pairs, report: trained.report().clone() })
    }
}
