//! The short form of the fuzz targets: a fixed number of damaged inputs each;
//! `cargo run --release -p whyrank-tests --example fuzz -- TARGET MINUTES` goes on.

use whyrank_tests::fuzz;

fn holds(name: &str, count: usize) {
    let target = fuzz::target(name).expect("a target of this name");
    fuzz::inputs(target, 1).take(count).for_each(|bytes| (target.run)(&bytes));
}

#[test]
fn import_of_csv() {
    holds("import_csv", 1_000);
}

#[test]
fn import_of_json_lines() {
    holds("import_jsonl", 1_000);
}

#[test]
fn import_of_parquet() {
    holds("import_parquet", 1_000);
}

#[test]
fn filters() {
    holds("filters", 5_000);
}

#[test]
fn gateway_frames() {
    holds("gateway_frames", 5_000);
}

#[test]
fn onnx() {
    holds("onnx", 500);
}

#[test]
fn gguf() {
    holds("gguf", 200);
}

#[test]
fn configuration() {
    holds("configuration", 300);
}
