//! What the listener can do, once for both protocols: on the store's types, with limits checked.

mod collections;
mod grouping;
mod groups;
mod points;
mod query;

use std::sync::Arc;

pub(super) use collections::CollectionInfo;
pub(super) use grouping::{Group, GroupKey};
pub(super) use groups::GroupedQuery;
pub(super) use points::PointsSelector;
pub(super) use query::{Lookup, Nearest, Query};

use super::fault::Fault;
use super::settings::ListenerSettings;
use crate::store::Store;

/// How many points a query, a page or a facet returns when the request does not say.
pub(super) const DEFAULT_LIMIT: usize = 10;
/// How many points a group has when the request does not say.
pub(super) const DEFAULT_GROUP_SIZE: usize = 3;

/// The operations on a store.
#[derive(Debug, Clone)]
pub(super) struct Operations {
    store: Arc<dyn Store>,
    settings: Arc<ListenerSettings>,
}

impl Operations {
    pub(super) fn new(store: Arc<dyn Store>, settings: ListenerSettings) -> Self {
        Self { store, settings: Arc::new(settings) }
    }

    pub(super) fn settings(&self) -> &ListenerSettings {
        &self.settings
    }

    fn check_limit(&self, field: &str, limit: usize) -> Result<(), Fault> {
        if limit == 0 {
            return Err(Fault::range(field, "value 0 invalid, must be 1 or larger"));
        }
        self.check_results(field, limit)
    }

    fn check_results(&self, what: &str, given: usize) -> Result<(), Fault> {
        let limit = self.settings.maximum_limit;
        if given > limit {
            return Err(Fault::too_many(what, given, "maximum_limit", limit));
        }
        Ok(())
    }

    fn check_batch(&self, given: usize) -> Result<(), Fault> {
        let limit = self.settings.maximum_batch;
        if given > limit {
            return Err(Fault::too_many("the number of points", given, "maximum_batch", limit));
        }
        Ok(())
    }
}
