//! The short form of the soak and fault suite; `cargo run --release -p whyrank-tests --example soak` is
//! the whole.

use whyrank_tests::soak::{self, Plan};

async fn holds(scenario: &str) {
    let report = soak::run(&Plan::short(7), &[scenario.to_owned()]).await.unwrap();
    assert!(!report.scenarios.is_empty());
    assert!(report.passed, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_writes_and_generation() {
    holds("kills").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_full() {
    holds("disk_full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_damaged() {
    holds("corrupted_models").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_jumps() {
    holds("clock_jumps").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_away() {
    holds("store_unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_hangs() {
    holds("model_hangs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_writes_garbage() {
    holds("model_writes_garbage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_slow() {
    holds("slow_clients").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_four_times_too_many_callers() {
    holds("overload").await;
}
