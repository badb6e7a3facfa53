//! The shape of a collection: its named vectors and payload indexes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// Dot product; more is nearer.
    Dot,
    /// Cosine similarity; Qdrant normalises the vectors when it stores them, so they are read back
    /// with length 1.
    Cosine,
    /// Euclidean distance; less is nearer.
    Euclid,
    /// Manhattan distance; less is nearer.
    Manhattan,
}

/// The shape of a named vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorSchema {
    /// Number of components.
    pub dimension: usize,
    /// How vectors of this name are compared.
    pub distance: Distance,
    /// Whether an HNSW index is built. Without one the vector can be read, and searched only by a
    /// full scan: right for codes, which are read by id.
    pub indexed: bool,
}

/// The kind of a payload index, as Qdrant names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadIndex {
    /// Exact strings.
    Keyword,
    /// Integers: match and range.
    Integer,
    /// Floating-point numbers: range.
    Float,
    /// Booleans.
    Bool,
    /// RFC 3339 times: range.
    Datetime,
    /// UUID strings.
    Uuid,
    /// Full text.
    Text,
}

/// The named vectors and payload indexes of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CollectionSchema {
    /// The vectors by name; the empty name is Qdrant's unnamed vector.
    pub vectors: BTreeMap<String, VectorSchema>,
    /// Indexed payload keys.
    pub payload_indexes: BTreeMap<String, PayloadIndex>,
}

/// What [`Store::ensure`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The collection was not there and was made.
    Created,
    /// The collection was there and fits; missing payload indexes were added.
    Existing,
}
