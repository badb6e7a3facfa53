//! What texts tell of the pairs of a comparison: they are written, or said by the template, and encoded; codes of
//! pairs without a text are predicted from those of pairs with one.

use std::collections::HashMap;
use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use ndarray::{Array2, Axis, concatenate};
use tokio_util::sync::CancellationToken;
use whyrank_models::autoencoder::Autoencoder;
use whyrank_models::explainer::TrainedExplainer;
use whyrank_plugin::{Codes, ItemId, ItemRecord, Source};

use super::Trainer;
use super::codes::{ExplainedPairs, table};
use super::comparison::Examples;
use crate::writing::{Pair, PairWriter};

/// What texts tell of the examples.
pub(super) struct Told {
    /// Of all examples, in their order.
    pub(super) codes: Vec<Codes>,
    /// Predicts codes of pairs without texts.
    pub(super) explainer: TrainedExplainer,
}

/// The codes that an explainer predicts of pairs with these user and item vectors `[d]`, in their order.
pub(super) fn predict_all<'a>(
    explainer: &TrainedExplainer,
    pairs: impl IntoIterator<Item = (&'a [f32], &'a [f32])>,
) -> Result<Vec<Codes>> {
    let (mut users, mut items, mut count) = (Vec::new(), Vec::new(), 0);
    for (user, item) in pairs {
        users.extend_from_slice(user);
        items.extend_from_slice(item);
        count += 1;
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let codes = explainer.predict(table(users, count)?.view(), table(items, count)?.view())?;
    Ok(rows(&codes.positive, &codes.negative))
}

/// The codes of both sides `[pairs, code]`, pair by pair.
fn rows(positive: &Array2<f32>, negative: &Array2<f32>) -> Vec<Codes> {
    let rows = positive.rows().into_iter().zip(negative.rows());
    rows.map(|(p, n)| Codes { positive: p.to_vec(), negative: n.to_vec() }).collect()
}

impl Trainer {
    /// The texts of the examples at these places, positive and negative, and how many an LLM wrote. What the
    /// template says nobody needs in the store.
    pub(super) async fn write_all(
        &self,
        examples: &Examples,
        places: &[usize],
        items: &HashMap<ItemId, ItemRecord>,
        writer: &PairWriter,
        by_template: bool,
    ) -> Result<(Vec<[String; 2]>, usize)> {
        let (stage, kept) = match by_template {
            true => ("filling in the template", ""),
            false => ("writing explanations", "; what is written is kept"),
        };
        let one = |(row, place): (usize, &usize)| {
            let (place, example) = (*place, examples.pairs[*place]);
            async move {
                ensure!(!self.progress.cancelled(), "{stage} was stopped{kept}");
                let user = &examples.learner(place).record;
                let item = items.get(&example.entry.item).context("examples have an item")?;
                let pair = Pair { user, item, before: Some(example.entry.time) };
                if by_template {
                    return Ok((row, writer.template(pair).await?, false));
                }
                let record = writer.write(pair, None, CancellationToken::new()).await?.record;
                Ok((row, record.explanation, record.provenance.source == Source::Llm))
            }
        };
        let all = stream::iter(places.iter().enumerate()).map(one);
        let mut written = pin!(all.buffer_unordered(writer.parallel()));
        let mut texts = vec![[String::new(), String::new()]; places.len()];
        let (mut by_llm, mut done) = (0, 0);
        self.progress.begin(stage, places.len() as u64);
        while let Some((row, explanation, llm)) = written.try_next().await? {
            texts[row] = [explanation.positive, explanation.negative];
            by_llm += usize::from(llm);
            done += 1;
            self.progress.advance(done);
        }
        self.progress.end();
        Ok((texts, by_llm))
    }

    /// What texts of the examples at these places tell of all examples: the codes of these, and those that an
    /// explainer predicts for the others.
    pub(super) fn told_in(
        &self,
        texts: &[[String; 2]],
        places: &[usize],
        examples: &Examples,
        seed: u64,
    ) -> Result<Told> {
        let written = self.codes_of(texts, places, examples, seed)?;
        let explainer = self.explainer_of(examples, places, &written, seed)?;
        let mut codes: Vec<Option<Codes>> = vec![None; examples.pairs.len()];
        for (place, written) in places.iter().zip(written) {
            codes[*place] = Some(written);
        }
        let missing: Vec<usize> =
            (0..codes.len()).filter(|place| codes[*place].is_none()).collect();
        let vectors = missing.iter().map(|place| examples.vectors(*place));
        let vectors = vectors.collect::<Result<Vec<_>>>()?;
        for (place, predicted) in missing.iter().zip(predict_all(&explainer, vectors)?) {
            codes[*place] = Some(predicted);
        }
        let codes = codes.into_iter().flatten().collect();
        Ok(Told { codes, explainer })
    }

    /// Codes of two texts a pair, from an autoencoder that learned from the training pairs' texts only.
    fn codes_of(
        &self,
        texts: &[[String; 2]],
        places: &[usize],
        examples: &Examples,
        seed: u64,
    ) -> Result<Vec<Codes>> {
        let side = |side: usize| -> Result<Array2<f32>> {
            let texts: Vec<&str> = texts.iter().map(|both| both[side].as_str()).collect();
            self.embed(&texts)
        };
        let sides = [side(0)?, side(1)?];
        let known: Vec<usize> =
            (0..places.len()).filter(|row| examples.is_learned_from(places[*row])).collect();
        let parts = sides.each_ref().map(|table| table.select(Axis(0), &known));
        let training = concatenate(Axis(0), &[parts[0].view(), parts[1].view()])?;
        let mut settings = self.settings.autoencoder.clone();
        settings.pretrain.seed = seed;
        let mut autoencoder =
            Autoencoder::pretrain(training.view(), &settings, self.progress.as_ref())?;
        autoencoder.fine_tune(training.view(), self.progress.as_ref())?;
        let encode = |table: &Array2<f32>| autoencoder.encode(table.view());
        Ok(rows(&encode(&sides[0])?, &encode(&sides[1])?))
    }

    /// An explainer that learned the codes of the training pairs only, of those at these places.
    fn explainer_of(
        &self,
        examples: &Examples,
        places: &[usize],
        codes: &[Codes],
        seed: u64,
    ) -> Result<TrainedExplainer> {
        let mut explained = ExplainedPairs::default();
        for (place, codes) in places.iter().zip(codes) {
            if examples.is_learned_from(*place) {
                let (user, item) = examples.vectors(*place)?;
                explained.push(user, item, codes);
            }
        }
        let mut settings = self.settings.explainer.clone();
        settings.training.seed = seed;
        explained.train(&settings, self.progress.as_ref())
    }
}
