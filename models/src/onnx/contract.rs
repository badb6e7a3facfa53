//! What a model file promises: its kind, its dimensions, its inputs and where it comes from.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Version of the contract's own layout; a file with another one is refused.
pub const VERSION: u32 = 1;

/// Key of the ONNX file's `metadata_props` under which the contract stands as JSON.
pub const METADATA_KEY: &str = "whyrank.contract";

/// Name of the free dimension: the number of rows of one run.
pub const BATCH: &str = "batch";

/// The size of one axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dimension {
    /// A size that is part of the model.
    Fixed(usize),
    /// A size that each run chooses; all axes with this name are equal in one run.
    Free(String),
}

impl Dimension {
    /// The free number of rows.
    pub fn batch() -> Self {
        Self::Free(BATCH.to_owned())
    }
}

/// One input or output of a model: a tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Name in the ONNX graph.
    pub name: String,
    /// Sizes of the axes, outermost first.
    pub shape: Vec<Dimension>,
}

impl Port {
    /// A `[batch, width]` tensor.
    pub fn rows(name: &str, width: usize) -> Self {
        Self { name: name.to_owned(), shape: vec![Dimension::batch(), Dimension::Fixed(width)] }
    }

    /// A tensor of fixed shape, the same for all rows of a run.
    pub fn fixed(name: &str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), shape: shape.iter().copied().map(Dimension::Fixed).collect() }
    }
}

/// What a model file states about itself; checked when the file is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Layout of this structure, [`VERSION`].
    pub version: u32,
    /// What the model is for: `ranker`, `encoder`, `decoder`, `explainer`.
    pub kind: String,
    /// Named sizes that the data must share, such as `vector` (user and item vectors) and `code`.
    pub dimensions: BTreeMap<String, usize>,
    /// Inputs in the order of the graph.
    pub inputs: Vec<Port>,
    /// Outputs in the order of the graph.
    pub outputs: Vec<Port>,
    /// Names of the context features, in the order of the columns of the input `context`.
    pub context: Vec<String>,
    /// Hexadecimal digest of the data that the model learned from.
    pub fingerprint: String,
    /// The settings the model was trained with, and what training reported.
    pub training: serde_json::Value,
    /// Input that stands for "this group is absent": the mean of the training data, by input name.
    pub baseline: BTreeMap<String, Vec<f32>>,
    /// When the file was made, in seconds since 1970-01-01 UTC.
    pub created: u64,
}

impl Contract {
    /// A contract of this layout, made now, with nothing promised but the kind.
    pub(crate) fn new(kind: &str, fingerprint: String) -> Self {
        Self {
            version: VERSION,
            kind: kind.to_owned(),
            dimensions: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            context: Vec::new(),
            fingerprint,
            training: serde_json::Value::Null,
            baseline: BTreeMap::new(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
        }
    }

    /// The promised size called `name`.
    ///
    /// # Errors
    /// [`Error::Contract`] naming `path` if the contract does not state it.
    pub fn dimension(&self, name: &str, path: &std::path::Path) -> Result<usize> {
        self.dimensions.get(name).copied().ok_or_else(|| {
            Error::contract(path, format!("its contract states no dimension `{name}`"))
        })
    }

    /// Checks that the size called `name` is `needed`.
    ///
    /// # Errors
    /// [`Error::Contract`] naming `path` and both sizes.
    pub fn require(&self, name: &str, needed: usize, path: &std::path::Path) -> Result<()> {
        let stated = self.dimension(name, path)?;
        if stated == needed {
            return Ok(());
        }
        Err(Error::contract(
            path,
            format!("it was made for dimension `{name}` = {stated}, but the data has {needed}"),
        ))
    }
}
