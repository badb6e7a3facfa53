//! Pure computation for a request, on a thread that may block. It ends when the caller has left: work that
//! went on for nobody would hold the processor outside of every limit on requests.

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

/// Whether anybody still waits for what is computed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waited(CancellationToken);

impl Waited {
    /// To be asked in every longer loop.
    ///
    /// # Errors
    /// When the caller has left.
    pub(crate) fn check(&self) -> Result<()> {
        anyhow::ensure!(!self.0.is_cancelled(), "the caller has left");
        Ok(())
    }
}

/// Runs `work` on a thread that may block.
///
/// # Errors
/// When it panics; `what` names it.
pub(crate) async fn compute<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce(&Waited) -> T + Send + 'static,
) -> Result<T> {
    let waited = Waited::default();
    let _left = waited.0.clone().drop_guard();
    tokio::task::spawn_blocking(move || work(&waited)).await.context(what)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_ends_when_its_caller_has_left() {
        assert_eq!(
            compute("adding", |waited| waited.check().map(|()| 2)).await.unwrap().unwrap(),
            2
        );
        let ((begun, begins), (told, ends)) = (mpsc::channel(), mpsc::channel());
        let work = compute("waiting", move |waited| {
            begun.send(()).unwrap();
            while waited.check().is_ok() {
                std::thread::yield_now();
            }
            told.send(()).unwrap();
        });
        let caller = tokio::spawn(work);
        tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
        caller.abort();
        tokio::task::spawn_blocking(move || ends.recv().unwrap()).await.unwrap();
    }
}
