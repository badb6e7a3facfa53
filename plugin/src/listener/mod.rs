//! The embedded engine answered in Qdrant's own protocol, so that the ordinary clients of Qdrant work
//! with any [`Store`], with no server installed.
//!
//! # How a request flows
//! A codec (`rest` or `grpc`) parses the request into the store's types, `operations` does the work
//! once for both protocols, and the codec writes the answer in its protocol's shape. A fault is one
//! [`fault::Fault`] until the codec gives it a status.
//!
//! # Never a wrong answer
//! What the store cannot do exactly (prefetches, fusion, sparse vectors and so on) is answered as
//! unimplemented, by name. A request field that is not known is refused, because leaving it out could
//! change what the request means.
//!
//! # Deliberately absent
//! Sockets, keys and TLS: whoever serves the routers has them.

mod fault;
mod grpc;
mod operations;
mod rest;
mod settings;

use std::sync::Arc;

use operations::Operations;
pub use settings::ListenerSettings;

use crate::store::Store;

/// The title that Qdrant gives itself; clients show it.
const TITLE: &str = "qdrant - vector search engine";

/// The version of Qdrant whose interface is answered. Clients compare it with their own and warn when
/// major versions differ or minor versions are more than one apart; request and answer shapes here
/// are those of 1.18.
const VERSION: &str = "1.18.3";

/// Qdrant's protocol over a store. Cloning it is cheap; all clones share the store.
#[derive(Debug, Clone)]
pub struct Listener {
    operations: Operations,
}

impl Listener {
    /// A listener over this store.
    pub fn new(store: Arc<dyn Store>, settings: ListenerSettings) -> Self {
        Self { operations: Operations::new(store, settings) }
    }

    /// Qdrant's REST interface. Operations that are not answered get status 501 and are named.
    pub fn rest(&self) -> axum::Router {
        rest::router(self.operations.clone())
    }

    /// Qdrant's gRPC interface. Methods that are not answered get `UNIMPLEMENTED` and are named.
    pub fn grpc(&self) -> axum::Router {
        grpc::router(self.operations.clone())
    }
}
