//! Conversions between the seam's types and Qdrant's gRPC types, in both directions: the server
//! backend and whoever serves Qdrant's protocol share them.
//!
//! `X_to_proto` makes the message, `X_from_proto` reads it. A message is read strictly: what the
//! seam cannot hold (a sparse vector, a newer kind of condition) is a [`WireError`] that names it,
//! never dropped, because a condition that is left out finds points that it should not.

mod filter;
mod id;
mod payload;
mod point;
mod schema;
mod selection;
mod vectors;

pub use filter::{filter_from_proto, filter_to_proto};
pub use id::{id_from_proto, id_to_proto};
pub use payload::{
    payload_from_proto, payload_to_proto, payload_to_proto_rounded, value_from_proto,
    value_to_proto, value_to_proto_rounded,
};
pub use point::{
    facet_hit_from_proto, facet_hit_to_proto, point_from_proto, point_to_proto,
    point_vectors_from_proto, point_vectors_to_proto, retrieved_from_proto, retrieved_to_proto,
    scored_from_proto, scored_to_proto,
};
pub use schema::{
    distance_from_proto, distance_to_proto, field_type_to_proto, index_from_field_type,
    index_from_schema_type, index_to_schema_type, readable_schema, vector_params_from_proto,
    vector_params_to_proto, vectors_config_from_proto, vectors_config_to_proto,
};
pub use selection::{
    payload_selection_from_proto, payload_selection_to_proto, vector_selection_from_proto,
    vector_selection_to_proto,
};
pub use vectors::{
    UNNAMED_VECTOR, dense_from_proto, dense_to_proto, vectors_from_output, vectors_from_proto,
    vectors_to_output, vectors_to_proto,
};

use crate::filter::FilterError;

/// Something that has no counterpart on the other side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A part that a message must have is missing.
    #[error("{what} is missing")]
    Missing {
        /// The part, with its article.
        what: &'static str,
    },
    /// A feature of Qdrant that is not served here.
    #[error("{what} is not supported{hint}")]
    Unsupported {
        /// The feature.
        what: String,
        /// What to use instead, with leading punctuation; empty if there is nothing.
        hint: &'static str,
    },
    /// A value that does not fit its type.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// The value.
        what: String,
        /// Why.
        reason: String,
    },
    /// The filter is not one that Qdrant accepts.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl WireError {
    fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), hint: "" }
    }

    fn invalid(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Invalid { what: what.into(), reason: reason.to_string() }
    }
}
