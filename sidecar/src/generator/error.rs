//! What can go wrong while explanations are generated.

use std::path::PathBuf;

/// Why no text could be generated, or no generator built.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// The caller no longer wants the answer.
    #[error("generation was cancelled")]
    Cancelled,

    /// The model file is not there.
    #[error(
        "no model file at {path}: run `whyrank fetch`, or set `generator.mistralrs.model` to a GGUF file"
    )]
    ModelMissing {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// The model file is not a whole GGUF file, or of a kind that cannot be run.
    #[error(
        "cannot load the model {model}: {reason}; if the file is damaged or cut off, delete it and run `whyrank fetch`"
    )]
    ModelLoad {
        /// File or hub id.
        model: String,
        /// What the loader said.
        reason: String,
    },

    /// The model failed while writing.
    #[error("the language model failed: {0}")]
    Model(String),

    /// The server answered with an error after all retries, or its answer was unreadable.
    #[error("the server at {url} failed: {reason}")]
    Server {
        /// Base address of the server.
        url: String,
        /// What it said, or why it could not be reached.
        reason: String,
    },

    /// The server does not take what it was asked: too long, or of words that it filters.
    #[error("the server at {url} refused the request: {reason}")]
    Refused {
        /// Base address of the server.
        url: String,
        /// What it said.
        reason: String,
    },

    /// The server did not finish in time.
    #[error(
        "the server at {url} did not finish within {seconds} s (`generator.openai.timeout_seconds`)"
    )]
    Timeout {
        /// Base address of the server.
        url: String,
        /// The limit.
        seconds: f64,
    },

    /// A prompt template or its examples cannot be read or rendered.
    #[error("prompt template {name}: {reason}")]
    Template {
        /// File name of the template.
        name: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A setting cannot be used.
    #[error("`generator.{key}`: {reason}")]
    Setting {
        /// Key below `generator`.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl GeneratorError {
    /// Whether the model or its server failed, and not what was asked of it.
    pub(crate) fn is_of_the_model(&self) -> bool {
        match self {
            Self::ModelMissing { .. }
            | Self::ModelLoad { .. }
            | Self::Model(_)
            | Self::Server { .. }
            | Self::Timeout { .. } => true,
            Self::Cancelled
            | Self::Refused { .. }
            | Self::Template { .. }
            | Self::Setting { .. } => false,
        }
    }

    /// Its kind in one word, which quotes nothing that was asked or answered.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::ModelMissing { .. } => "model_missing",
            Self::ModelLoad { .. } => "model_load",
            Self::Model(_) => "model",
            Self::Server { .. } => "server",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::Template { .. } => "template",
            Self::Setting { .. } => "setting",
        }
    }
}
