//! Everything of Whyrank that touches Qdrant: the domain types, the store trait that the rest of
//! the program depends on, its embedded backend, and the conformance suite every backend runs.
//!
//! Start at [`store::Store`], the seam; [`embedded::EmbeddedStore`] is the backend that needs
//! nothing installed; [`records`] says what the three collections hold.

pub mod conformance;
pub mod domain;
pub mod embedded;
pub mod filter;
pub mod id;
pub mod listener;
pub mod records;
pub mod store;
pub mod wire;

pub use domain::{
    Candidate, Code, Codes, Contributions, Explanation, ExplanationState, Interaction, Ranked,
};
pub use embedded::{EmbeddedSettings, EmbeddedStore};
pub use filter::{Filter, FilterError};
pub use id::{ItemId, PointId, UserId, explanation_id};
pub use listener::{Listener, ListenerSettings};
pub use records::{
    ExplanationRecord, HistoryEntry, ItemRecord, Provenance, RecordError, Source, Statistics,
    UserRecord,
};
pub use store::{
    CollectionSchema, Distance, Ensured, FacetHit, Page, PayloadIndex, PayloadSelection, Point,
    PointVectors, ScoredPoint, Scroll, Search, Selection, Store, StoreError, StoreResult,
    VectorSchema, VectorSelection,
};
