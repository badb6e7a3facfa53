//! The models that a running process answers with, replaced as a whole while requests go on.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::artifacts::RerankModels;

/// Holds ranker and explainer of the live version. Cheap to clone; all clones see a switch at once.
#[derive(Debug, Clone)]
pub(crate) struct LiveModels {
    current: Arc<ArcSwapOption<RerankModels>>,
}

impl LiveModels {
    /// Begins with these models, or with none.
    pub(crate) fn new(models: Option<Arc<RerankModels>>) -> Self {
        Self { current: Arc::new(ArcSwapOption::new(models)) }
    }

    /// What is live now. Whoever holds it goes on with it after a switch.
    pub(crate) fn current(&self) -> Option<Arc<RerankModels>> {
        self.current.load_full()
    }

    /// A holder of what is live now that no switch changes: for work of many steps that must not meet
    /// two versions.
    pub(crate) fn pinned(&self) -> Self {
        Self::new(self.current())
    }

    /// Makes other models live.
    pub(crate) fn switch(&self, models: Arc<RerankModels>) {
        self.current.store(Some(models));
    }
}
