//! Everything of Whyrank that touches Qdrant: the domain types, the store trait that the rest of
//! the program depends on, its backends (embedded, and a Qdrant server), and the conformance suite
//! every backend runs.
//!
//! Start at [`store::Store`], the seam; [`embedded::EmbeddedStore`] is the backend that needs
//! nothing installed, [`server::ServerStore`] the one over the network; [`records`] says what the
//! four collections hold; [`gateway`] stands in front of a Qdrant, [`listener`] answers as one, and
//! [`serving`] is how every listener serves, with TLS or without, and [`allowance`] what a key may ask of one.

pub mod allowance;
pub mod bodies;
pub mod conformance;
pub mod domain;
pub mod embedded;
pub mod existing;
pub mod filter;
pub mod gateway;
pub mod id;
pub mod inference;
pub mod listener;
pub mod migrate;
pub mod records;
pub mod secret;
pub mod server;
pub mod serving;
pub mod store;
mod validate;
pub mod wire;

pub use allowance::KeyLimits;
pub use domain::{
    Candidate, Code, Codes, Contributions, Explanation, ExplanationState, Interaction, Ranked,
};
pub use embedded::{EmbeddedSettings, EmbeddedStore};
pub use existing::{ExistingAttribute, ExistingItems, ExistingItemsSettings};
pub use filter::{Filter, FilterError};
pub use id::{ItemId, PointId, UserId, explanation_id};
pub use listener::{Listener, ListenerSettings};
pub use records::{
    ExplanationRecord, Forecast, HistoryEntry, ItemRecord, JobRecord, JobState, Posted, Provenance,
    QueueControl, RecordError, ReleaseRecord, Source, Statistics, StoredTaste, UsageRecord,
    UserRecord,
};
pub use secret::Secret;
pub use server::{Quantization, ServerSettings, ServerStore};
pub use store::{
    CollectionSchema, Distance, Ensured, FacetHit, Page, PayloadIndex, PayloadSelection, Point,
    PointVectors, ScoredPoint, Scroll, Search, Selection, Store, StoreError, StoreResult,
    VectorSchema, VectorSelection,
};
