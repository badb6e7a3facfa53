//! Writes the explanation of one pair: attempts with other seeds, then the template.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::clean::{CleanPair, CleaningSettings};
use super::context::PairContext;
use super::error::GeneratorError;
use super::meter::UnderWay;
use super::parse::sides;
use super::review::{Review, review};
use super::validation::Half;
use super::{
    Delta, Explanation, ForecastSettings, Forecaster, GenerationOptions, Generator,
    GeneratorIdentity, PromptStyle, Prompts, Refusal, Side, Usage, Validator, template,
};
use crate::spans;

/// Attempts and sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriterSettings {
    /// Attempts of the generator before the template takes over; at least 1.
    pub attempts: u32,
    /// Temperature of the first attempt; 0 takes the most probable token at each step.
    pub temperature: f64,
    /// Temperature of the further attempts, which must differ from the first.
    pub retry_temperature: f64,
    /// Tokens less probable than this share of the most probable one are never drawn, 0 to 1.
    pub min_probability: f64,
    /// Most tokens of one generation that writes both sides; half of it for one side.
    pub max_tokens: u32,
    /// Tokens, read and written, that all attempts of one pair may cost; no attempt begins beyond it.
    pub token_budget: u64,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            attempts: 3,
            temperature: 0.0,
            retry_temperature: 0.7,
            min_probability: 0.1,
            max_tokens: 120,
            token_budget: 2000,
        }
    }
}

/// What wrote an explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The language model.
    Llm,
    /// The evidence template, because every attempt of the model was refused or there is no model.
    Template,
}

/// An explanation, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Both sides.
    pub explanation: Explanation,
    /// What wrote it.
    pub source: Source,
    /// Who was asked.
    pub generator: GeneratorIdentity,
    /// Version of the prompt templates.
    pub prompt_version: String,
    /// Version of what the generator was told about the pair.
    pub profile_version: String,
    /// Attempts made.
    pub attempts: u32,
    /// Why attempts were refused, in order.
    pub refusals: Vec<Refusal>,
    /// Seed of the last attempt.
    pub seed: u64,
    /// Cost of all attempts.
    pub usage: Usage,
}

/// Writes explanations that pass the checks.
pub struct Writer {
    generator: Arc<dyn Generator>,
    prompts: Prompts,
    validator: Validator,
    cleaning: CleaningSettings,
    settings: WriterSettings,
}

impl Writer {
    /// A writer from its parts.
    pub fn new(
        generator: Arc<dyn Generator>,
        prompts: Prompts,
        validator: Validator,
        cleaning: CleaningSettings,
        settings: WriterSettings,
    ) -> Self {
        Self { generator, prompts, validator, cleaning, settings }
    }

    /// Who writes.
    pub fn identity(&self) -> &GeneratorIdentity {
        self.generator.identity()
    }

    /// How many explanations should be asked for at once by who wants many.
    pub fn parallel(&self) -> usize {
        self.generator.parallel()
    }

    /// Foresees ratings of items with the same generator.
    ///
    /// # Errors
    /// When it cannot, or the settings are no question.
    pub fn forecaster(&self, settings: &ForecastSettings) -> Result<Forecaster, GeneratorError> {
        Forecaster::new(self.generator.clone(), self.cleaning.clone(), settings.clone())
    }

    /// Version of the prompt templates.
    pub fn prompt_version(&self) -> &str {
        self.prompts.version()
    }

    /// Version of what the generator would be told about `pair`.
    ///
    /// An explanation written with this version, [`Writer::prompt_version`] and the version in
    /// [`Writer::identity`] is current, and need not be written again.
    pub fn profile_version(&self, pair: &PairContext) -> String {
        CleanPair::new(pair, &self.cleaning).profile_version()
    }

    /// What the template says of `pair`; no generator is asked.
    pub fn template(&self, pair: &PairContext) -> Explanation {
        template::explain(&CleanPair::new(pair, &self.cleaning))
    }

    /// Holds an explanation of `pair` against what its writer was told.
    pub fn review(&self, pair: &PairContext, explanation: &Explanation) -> Review {
        review(explanation, &CleanPair::new(pair, &self.cleaning), &self.validator)
    }

    /// Writes both sides for `pair`. The same pair and seed give the same text.
    ///
    /// `deltas` receives the text as it is written, and [`Delta::Restart`] before another attempt.
    ///
    /// # Errors
    /// When the generator fails or `cancel` fires. A text that is refused is not an error: after the
    /// last attempt the template writes, and [`Written::source`] says so.
    pub async fn write(
        &self,
        pair: &PairContext,
        pair_seed: u64,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Written, GeneratorError> {
        let pair = CleanPair::new(pair, &self.cleaning);
        let mut written = Written {
            explanation: template::explain(&pair),
            source: Source::Template,
            generator: self.generator.identity().clone(),
            prompt_version: self.prompts.version().to_string(),
            profile_version: pair.profile_version(),
            attempts: 0,
            refusals: Vec::new(),
            seed: pair_seed,
            usage: Usage::default(),
        };
        while written.attempts < self.settings.attempts.max(1) {
            if written.attempts > 0 {
                let spent = written.usage.prompt_tokens + written.usage.completion_tokens;
                if spent >= self.settings.token_budget {
                    break;
                }
                send(&deltas, Delta::Restart).await?;
            }
            written.seed = attempt_seed(pair_seed, written.attempts);
            let temperature = match written.attempts {
                0 => self.settings.temperature,
                _ => self.settings.retry_temperature,
            };
            written.attempts += 1;
            let span = spans::attempt(written.attempts);
            let (explanation, refusals) = self
                .attempt(&pair, &mut written.usage, written.seed, temperature, &deltas, &cancel)
                .instrument(span.clone())
                .await?;
            if refusals.is_empty() {
                written.explanation = explanation;
                if written.generator.generator != "template" {
                    written.source = Source::Llm;
                }
                return Ok(written);
            }
            let reasons: Vec<&str> = refusals.iter().map(Refusal::reason).collect();
            span.record("refused", reasons.join(","));
            tracing::debug!(
                attempt = written.attempts,
                ?refusals,
                ?explanation,
                "explanation refused"
            );
            written.refusals.extend(refusals);
        }
        let Explanation { positive, negative } = &written.explanation;
        send(&deltas, Delta::Restart).await?;
        send(&deltas, Delta::Text(format!("WHY: {positive}\nWHY NOT: {negative}"))).await?;
        Ok(written)
    }

    /// One attempt: both sides, and why they are refused.
    async fn attempt(
        &self,
        pair: &CleanPair,
        usage: &mut Usage,
        seed: u64,
        temperature: f64,
        deltas: &Option<mpsc::Sender<Delta>>,
        cancel: &CancellationToken,
    ) -> Result<(Explanation, Vec<Refusal>), GeneratorError> {
        let (asked, max_tokens): (&[Side], u32) = match self.prompts.style() {
            PromptStyle::Joint => (&[Side::Both], self.settings.max_tokens),
            PromptStyle::Separate => {
                (&[Side::Positive, Side::Negative], self.settings.max_tokens.div_ceil(2))
            }
        };
        let mut text = String::new();
        let mut truncated = false;
        for side in asked {
            if !text.is_empty() {
                text.push('\n');
                send(deltas, Delta::Text("\n".to_string())).await?;
            }
            let prompt = self.prompts.render(pair, *side)?;
            let options = GenerationOptions {
                seed,
                temperature,
                min_probability: self.settings.min_probability,
                max_tokens,
                pattern: Some(side.pattern()),
                openings: false,
            };
            let span = spans::generation(self.generator.identity(), *side, &options);
            let under_way = UnderWay::begin(&prompt, &options);
            let generating =
                self.generator.generate(&prompt, &options, deltas.clone(), cancel.clone());
            let generation = generating.instrument(span.clone()).await;
            under_way.ended(generation.as_ref().map(|generation| generation.usage));
            spans::generated(&span, &generation);
            let generation = generation?;
            *usage += generation.usage;
            truncated |= generation.truncated;
            text.push_str(&generation.text);
        }
        let found = sides(&text, pair);
        let mut refusals = Vec::new();
        for (half, side) in [(Half::Positive, &found.positive), (Half::Negative, &found.negative)] {
            if side.is_none() {
                refusals.push(Refusal::Missing { half });
            }
        }
        let explanation = Explanation {
            positive: found.positive.unwrap_or_default(),
            negative: found.negative.unwrap_or_default(),
        };
        if refusals.is_empty() {
            // A text cut off behind its last sentence lost nothing.
            let complete = explanation.negative.ends_with(['.', '!', '?', '"', '。', '！', '？']);
            if truncated && !complete {
                refusals.push(Refusal::Truncated);
            }
            refusals.extend(self.validator.check(&explanation, pair));
        }
        Ok((explanation, refusals))
    }
}

/// A listener that has left ends the work.
async fn send(deltas: &Option<mpsc::Sender<Delta>>, delta: Delta) -> Result<(), GeneratorError> {
    match deltas {
        Some(deltas) => deltas.send(delta).await.map_err(|_| GeneratorError::Cancelled),
        None => Ok(()),
    }
}

/// The seed of an attempt: that of the pair first, then well-mixed ones (the finaliser of SplitMix64).
fn attempt_seed(pair_seed: u64, attempt: u32) -> u64 {
    if attempt == 0 {
        return pair_seed;
    }
    let mut mixed = pair_seed.wrapping_add(u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
