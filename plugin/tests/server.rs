//! The server backend on a real Qdrant, if `QDRANT_URL` names one.

mod support;

use std::sync::Arc;

use support::{Private, server_url};
use whyrank_plugin::conformance::run_all;
use whyrank_plugin::{Quantization, Secret, ServerSettings, ServerStore, Store};

/// Runs the suite with the settings that `change` makes.
async fn check(test: &str, change: fn(&mut ServerSettings)) {
    let Some(url) = server_url(test) else { return };
    run_all(|| async {
        let mut settings = ServerSettings::at(&url);
        change(&mut settings);
        Arc::new(Private::open(settings).await.expect("the server is open")) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn conforms_with_default_settings() {
    check("conforms_with_default_settings", |_| {}).await;
}

#[tokio::test]
async fn conforms_with_everything_indexed_on_disk_and_in_small_writes() {
    check("conforms_with_everything_indexed_on_disk_and_in_small_writes", |settings| {
        settings.indexing_threshold_kilobytes = 1;
        settings.write_batch = 97;
        settings.on_disk_vectors = true;
        settings.on_disk_payload = false;
        settings.shard_number = Some(2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_on_a_runtime_with_several_threads() {
    check("conforms_on_a_runtime_with_several_threads", |settings| {
        settings.quantization = Quantization::Scalar { quantile: Some(0.99), always_ram: true };
        settings.replication_factor = Some(1);
        settings.write_consistency_factor = Some(1);
    })
    .await;
}

#[tokio::test]
async fn it_says_where_it_is_and_not_its_key() {
    let Some(url) = server_url("it_says_where_it_is_and_not_its_key") else { return };
    // A server without a key takes any.
    let settings = ServerSettings { api_key: Secret::new("hunter2"), ..ServerSettings::at(&url) };
    let store = ServerStore::open(settings).await.unwrap();
    let described = store.describe();
    assert!(described.contains(store.version()) && described.contains(&url), "{described}");
    assert!(!format!("{store:?}").contains("hunter2"));
}
