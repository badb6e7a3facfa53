//! What can go wrong while text becomes vectors.

use std::path::PathBuf;

use crate::settings::SettingFault;
use crate::weights::WeightsError;

/// The result of the calls that embed text.
pub type Result<T, E = TextError> = std::result::Result<T, E>;

/// A fault in the files, the runtime or the settings of the text embedder.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file of the model, or the ONNX Runtime library, is missing or wrong.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The ONNX Runtime library cannot be used.
    #[error(
        "ONNX Runtime cannot be loaded from {} ({reason}); unset ORT_DYLIB_PATH and run `whyrank fetch onnxruntime`, \
         or set it to a library of version 1.24 or later for this machine",
        library.display()
    )]
    Runtime {
        /// The library.
        library: PathBuf,
        /// What loading it reported.
        reason: String,
    },
    /// A verified file cannot be read after all.
    #[error("reading {} failed: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The model cannot be used as a text embedder.
    #[error("the text embedding model in {} cannot be used: {reason}", folder.display())]
    Model {
        /// The folder of the model.
        folder: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// A setting has a value that cannot work.
    #[error("text embedding: {0}")]
    Setting(#[from] SettingFault),
    /// The runtime failed on a batch.
    #[error("embedding {count} texts failed: {reason}")]
    Embedding {
        /// How many texts were in the batch.
        count: usize,
        /// What the runtime reported.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("embedding was cancelled after {done} of {total} texts")]
    Cancelled {
        /// Texts embedded until then.
        done: usize,
        /// Texts that were given.
        total: usize,
    },
}
