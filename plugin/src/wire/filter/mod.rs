//! Filters: every condition of the engine to its message and back.
//!
//! A list without conditions is the same as no list, because the protocol cannot tell them apart.
//! The radius of a geo circle travels as a 32-bit float, as in Qdrant itself.

mod from_proto;
mod to_proto;

pub use from_proto::filter_from_proto;
pub use to_proto::filter_to_proto;

#[cfg(test)]
mod tests;
