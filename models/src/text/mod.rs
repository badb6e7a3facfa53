//! Text embedding: text in any script becomes a vector of 384 numbers whose cosine tells how close two meanings are.
//!
//! The network is all-MiniLM-L6-v2 with int8 weights and mean pooling, run by ONNX Runtime through
//! fastembed. Only its weights are quantised, not its activations: the vector of a text does not
//! depend on the other texts of its batch, which a test holds.

mod embedder;
mod error;
mod runtime;

pub use embedder::{TextEmbedder, TextSettings};
pub use error::{Result, TextError};
pub use runtime::environment;
