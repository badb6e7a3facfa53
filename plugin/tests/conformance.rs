//! The embedded backend does what the store trait says: it runs the conformance suite.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use whyrank_plugin::conformance::run_all;
use whyrank_plugin::{EmbeddedSettings, EmbeddedStore, Store};

/// Runs the suite on embedded stores with the settings that `change` makes.
async fn check(change: fn(&mut EmbeddedSettings)) {
    let folders: Mutex<Vec<TempDir>> = Mutex::default();
    run_all(|| async {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = EmbeddedSettings::in_folder(folder.path());
        settings.minimum_free_bytes = 0;
        change(&mut settings);
        folders.lock().unwrap().push(folder);
        Arc::new(EmbeddedStore::open(settings).await.unwrap()) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn with_default_settings() {
    check(|_| {}).await;
}

#[tokio::test]
async fn with_everything_indexed_and_a_checkpoint_at_every_write() {
    check(|settings| {
        settings.indexing_threshold_kilobytes = 1;
        settings.checkpoint_bytes = 1;
        settings.sync_every_write = false;
        settings.write_batch = 7;
        settings.engine_log_bytes = 0;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_runtime_with_several_threads() {
    check(|settings| settings.sync_every_write = false).await;
}
