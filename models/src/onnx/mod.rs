//! ONNX files: written with a contract inside, read back only where the contract fits.

pub(crate) mod builder;
pub mod contract;
mod runtime;
#[cfg(test)]
mod tests;

pub use contract::{Contract, Dimension, Port};
pub use runtime::{OnnxModel, Value};
