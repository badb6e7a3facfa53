//! Writes contrastive explanations: for one consumer and one item, why the consumer would like it and why not.
//!
//! A pair passes these stages, each a type, so that none can be skipped:
//! 1. [`PairContext`]: what is known, as the store gives it; it has no field that could hold the label.
//! 2. [`CleanPair`]: the same, made harmless and short; prompts, templates and checks take nothing else.
//! 3. [`Prompt`]: what the language model reads, rendered from template files.
//! 4. [`Generation`]: what a [`Generator`] wrote.
//! 5. [`Explanation`]: both sides, after [`validation`] found nothing to refuse.
//!
//! [`Writer`] runs the stages, tries again with another seed, and falls back to the template.

mod clean;
mod context;
mod error;
mod factory;
mod forecast;
#[cfg(feature = "mistralrs")]
mod gguf;
mod grounding;
mod meter;
#[cfg(feature = "mistralrs")]
mod mistralrs;
mod openai;
mod parse;
mod prompts;
mod review;
#[cfg(feature = "mistralrs")]
mod sampling;
mod settings;
mod template;
mod text;
pub mod validation;
mod writer;

#[cfg(all(test, feature = "mistralrs"))]
mod mistralrs_tests;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use clean::{CleanPair, CleaningSettings};
pub use context::{ConsumerBrief, Evidence, EvidenceItem, ItemBrief, PairContext, Statistics};
pub use error::GeneratorError;
pub use factory::build;
pub use forecast::{ForecastExample, ForecastSettings, Forecaster, Foreseen};
pub use meter::Meter;
#[cfg(feature = "mistralrs")]
pub use mistralrs::MistralrsGenerator;
pub use openai::OpenAiGenerator;
pub use prompts::{PromptStyle, Prompts, Side};
pub use review::{Review, title_as_named};

pub use settings::{GeneratorKind, GeneratorSettings, MistralrsSettings, OpenAiSettings};
pub use template::{TEMPLATE, TemplateGenerator};
pub use tokio_util::sync::CancellationToken;
pub use validation::{Refusal, ValidationSettings, Validator};
pub use writer::{Source, Writer, WriterSettings, Written};

/// Both sides of an explanation, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Why the consumer would like the item.
    pub positive: String,
    /// Why the consumer would not like the item.
    pub negative: String,
}

/// Who writes: enough to know whether a written explanation is still current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratorIdentity {
    /// `mistralrs`, `openai` or `template`.
    pub generator: String,
    /// The model's file name without its ending, or its id.
    pub model: String,
    /// The first 12 hexadecimal digits of the model file's SHA-256, or the id where there is no file.
    pub version: String,
}

/// One worked example that the model sees before the question, as a turn of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptExample {
    /// The question.
    pub user: String,
    /// The answer.
    pub assistant: String,
}

/// What a generator is asked.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    /// The instruction.
    pub system: String,
    /// Worked examples: small models follow them far better than they follow instructions.
    pub examples: Vec<PromptExample>,
    /// The question.
    pub user: String,
    /// Which sides the answer holds.
    pub side: Side,
    /// What the prompt was rendered from; the template generator writes from it and reads no prose.
    pub pair: &'a CleanPair,
}

/// How to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// Seed of the sampling. It has no effect at temperature 0.
    pub seed: u64,
    /// Softmax temperature; 0 takes the most probable token at each step.
    pub temperature: f64,
    /// Tokens less probable than this share of the most probable one are never drawn, 0 to 1.
    pub min_probability: f64,
    /// Most tokens to write.
    pub max_tokens: u32,
    /// Regular expression that the whole answer matches. A generator that cannot enforce it ignores it.
    pub pattern: Option<String>,
    /// Whether to tell what the answer might have begun with instead. Some generators then draw the text at
    /// temperature 1, whatever else is asked for, and without `pattern`.
    pub openings: bool,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            temperature: 0.0,
            min_probability: 0.1,
            max_tokens: 120,
            pattern: None,
            openings: false,
        }
    }
}

/// What was written, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The text as it was written.
    pub text: String,
    /// Whether the text ended because the token limit was reached.
    pub truncated: bool,
    /// The most probable first tokens, if they were asked for and the generator knows them.
    pub openings: Vec<Opening>,
    /// Cost of the text.
    pub usage: Usage,
}

/// A token that an answer might have begun with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The token's text.
    pub text: String,
    /// From 0 to 1.
    pub probability: f64,
}

/// How many openings are told: as many as servers allow.
const OPENINGS: u8 = 20;

/// What generating cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Seconds until the first token was there: reading the prompt.
    pub prompt_seconds: f64,
    /// Seconds from the first token to the last: writing.
    pub completion_seconds: f64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.prompt_seconds += other.prompt_seconds;
        self.completion_seconds += other.completion_seconds;
    }
}

/// A piece of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Text to append.
    Text(String),
    /// What was streamed so far was refused; an answer starts anew.
    Restart,
}

/// Anything that writes text for a prompt.
#[async_trait]
pub trait Generator: Send + Sync {
    /// Who writes.
    fn identity(&self) -> &GeneratorIdentity;

    /// How many answers it should be asked for at once by who wants many: one that works on several together
    /// writes more in the same time.
    fn parallel(&self) -> usize {
        1
    }

    /// Writes one answer.
    ///
    /// Pieces go to `deltas` as they are written; joined they are the returned text. Ends with
    /// [`GeneratorError::Cancelled`] soon after `cancel` fires or the receiver of `deltas` is gone:
    /// a caller that has left must not keep the model busy.
    ///
    /// # Errors
    /// When no answer could be had. An answer that is no good is not an error here.
    async fn generate(
        &self,
        prompt: &Prompt<'_>,
        options: &GenerationOptions,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Generation, GeneratorError>;
}
