//! What the LLM costs, told while it writes: a text that nobody waits for to its end is billed too.

use std::sync::{Arc, Mutex, PoisonError};

use super::{GenerationOptions, GeneratorError, Prompt, Usage};

/// Characters of a prompt that are taken for one token where nobody has counted.
const CHARACTERS: usize = 4;

tokio::task_local! {
    static METER: Meter;
}

/// Adds up what all generations cost that run within it.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Usage>>);

impl Meter {
    /// Runs `work`, whose generations count here.
    pub async fn over<T>(&self, work: impl Future<Output = T>) -> T {
        METER.scope(self.clone(), work).await
    }

    /// What has been added up so far; counts from nothing again.
    pub fn take(&self) -> Usage {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += usage;
    }
}

/// A generation that is under way. Given up, it counts as if it had been written to its limit: it is not
/// known how far it came, and a bound on cost must not be too low.
pub(super) struct UnderWay {
    meter: Option<Meter>,
    at_worst: Usage,
}

impl UnderWay {
    /// One that begins now.
    pub(super) fn begin(prompt: &Prompt<'_>, options: &GenerationOptions) -> Self {
        let examples = prompt.examples.iter();
        let examples = examples.map(|example| example.user.len() + example.assistant.len());
        let characters = prompt.system.len() + prompt.user.len() + examples.sum::<usize>();
        let at_worst = Usage {
            prompt_tokens: characters.div_ceil(CHARACTERS) as u64,
            completion_tokens: options.max_tokens.into(),
            ..Usage::default()
        };
        Self { meter: METER.try_with(Meter::clone).ok(), at_worst }
    }

    /// It came to its end. One that failed by a fault of the LLM has cost nothing that anybody knows of.
    pub(super) fn ended(mut self, outcome: Result<Usage, &GeneratorError>) {
        if matches!(outcome, Err(GeneratorError::Cancelled)) {
            return;
        }
        if let (Some(meter), Ok(usage)) = (self.meter.take(), outcome) {
            meter.add(usage);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(meter) = self.meter.take() {
            meter.add(self.at_worst);
        }
    }
}
