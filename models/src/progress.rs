//! How long work tells what it has done and learns that it should stop.

/// Receives the progress of one long-running call, stage by stage.
///
/// Implementations are called from the thread that does the work and must return at once.
pub trait Progress: Send + Sync {
    /// A stage starts that will take `total` steps; a total of 0 means unknown.
    fn begin(&self, stage: &str, total: u64);
    /// `done` steps of the current stage are complete, counted from the start of the stage.
    fn advance(&self, done: u64);
    /// Something worth telling a reader, such as the validation error of an epoch.
    fn note(&self, _message: &str) {}
    /// The current stage is over; it may have taken fewer steps than announced.
    fn end(&self) {}
    /// Whether the caller wants the work to stop; asked at least once per training step.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Reports nothing and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _done: u64) {}
}
