//! Tests of model files that are missing, broken, or made for something else.

use std::fs;
use std::path::Path;

use prost::Message;
use tempfile::TempDir;
use tract_onnx::pb::ModelProto;

use super::builder::{GraphBuilder, LayerWeights, write_file};
use super::contract::METADATA_KEY;
use super::*;
use crate::error::Error;
use crate::testing::{assert_close, both_runtimes, numbers};

fn contract() -> Contract {
    let mut contract = Contract::new("probe", "00ff".to_owned());
    contract.dimensions = [("width".to_owned(), 3)].into();
    contract.inputs = vec![Port::rows("input", 3)];
    contract.outputs = vec![Port::rows("output", 2)];
    contract
}

fn layer() -> LayerWeights {
    LayerWeights {
        inputs: 3,
        outputs: 2,
        weight: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        bias: vec![0.5, -0.5],
    }
}

fn bytes(contract: &Contract) -> Vec<u8> {
    let mut graph = GraphBuilder::new();
    graph.dense("output", "input", &layer());
    graph.finish(contract)
}

fn error_of(bytes: &[u8], kind: &str) -> Error {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("probe.onnx");
    fs::write(&path, bytes).unwrap();
    let error = OnnxModel::load(&path, kind).unwrap_err();
    assert!(error.to_string().contains("probe.onnx"), "{error} does not name the file");
    error
}

#[test]
fn a_written_graph_computes_what_it_says() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new folder").join("probe.onnx");
    write_file(&path, &bytes(&contract())).unwrap();
    let input = Value { shape: &[2, 3], data: &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0] };
    let outputs = both_runtimes(&path, "probe", &[input]);
    assert_close("hand values", &outputs[0], &[1.5, 1.5, 9.5, 11.5]);
    assert_eq!(OnnxModel::load(&path, "probe").unwrap().contract(), &contract());
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "the unfinished file was left behind");
}

#[test]
fn absorbed_standardisation_equals_standardised_input() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("probe.onnx");
    let (mean, scale) = ([0.5, -1.0, 2.0], [2.0, 0.5, 3.0]);
    let mut graph = GraphBuilder::new();
    graph.dense("output", "input", &layer().absorb_standardisation(&mean, &scale));
    write_file(&path, &graph.finish(&contract())).unwrap();
    let input = numbers(1, 3);
    let mut expected = layer().bias;
    for row in 0..3 {
        let standardised = (input[row] - mean[row]) * scale[row];
        for (column, expected) in expected.iter_mut().enumerate() {
            *expected += standardised * layer().weight[2 * row + column];
        }
    }
    let outputs = both_runtimes(&path, "probe", &[Value { shape: &[1, 3], data: &input }]);
    assert_close("absorbed", &outputs[0], &expected);
}

#[test]
fn a_missing_file_says_how_to_make_it() {
    let error = OnnxModel::load(Path::new("nowhere/ranker.onnx"), "ranker").unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    assert!(error.to_string().contains("nowhere/ranker.onnx does not exist; run `whyrank train`"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = bytes(&contract());
    for length in 0..whole.len() {
        let error = error_of(&whole[..length], "probe");
        assert!(matches!(error, Error::Unreadable { .. } | Error::Contract { .. }), "{error}");
    }
}

/// Found by fuzzing: tract panicked at it.
#[test]
fn a_graph_that_names_what_it_lacks_is_refused() {
    let error = error_of(include_bytes!("graph-without-an-input.onnx"), "encoder");
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
}

#[test]
fn another_kind_is_refused() {
    let error = error_of(&bytes(&contract()), "ranker").to_string();
    assert!(error.contains("holds `probe`, but `ranker` is needed"), "{error}");
}

#[test]
fn another_version_of_the_contract_is_refused() {
    let error = error_of(&bytes(&Contract { version: 99, ..contract() }), "probe").to_string();
    assert!(error.contains("has version 99, this build reads version 1"), "{error}");
}

#[test]
fn a_contract_that_names_other_inputs_than_the_graph_is_refused() {
    let mut proto = ModelProto::decode(bytes(&contract()).as_slice()).unwrap();
    let other = Contract { inputs: vec![Port::rows("features", 3)], ..contract() };
    proto.metadata_props[0].value = serde_json::to_string(&other).unwrap();
    let error = error_of(&proto.encode_to_vec(), "probe").to_string();
    assert!(error.contains("[\"input\"], its contract states [\"features\"]"), "{error}");
}

#[test]
fn a_file_without_a_contract_is_refused() {
    let mut proto = ModelProto::decode(bytes(&contract()).as_slice()).unwrap();
    proto.metadata_props.clear();
    let error = error_of(&proto.encode_to_vec(), "probe").to_string();
    assert!(error.contains(METADATA_KEY), "{error}");
}

#[test]
fn a_missing_or_other_dimension_is_told() {
    let path = Path::new("probe.onnx");
    contract().require("width", 3, path).unwrap();
    let error = contract().require("width", 4, path).unwrap_err().to_string();
    assert!(error.contains("`width` = 3, but the data has 4"), "{error}");
    assert!(contract().dimension("height", path).is_err());
}

#[test]
fn a_run_with_other_shapes_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("probe.onnx");
    write_file(&path, &bytes(&contract())).unwrap();
    let model = OnnxModel::load(&path, "probe").unwrap();
    let check = |inputs: &[Value<'_>]| {
        assert!(matches!(model.run(inputs).unwrap_err(), Error::Shape { .. }));
    };
    check(&[]);
    check(&[Value { shape: &[1, 2], data: &[0.0; 2] }]);
    check(&[Value { shape: &[0, 3], data: &[] }]);
    check(&[Value { shape: &[2, 3], data: &[0.0; 5] }]);
}

#[test]
fn many_threads_share_one_model() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("probe.onnx");
    write_file(&path, &bytes(&contract())).unwrap();
    let model = OnnxModel::load(&path, "probe").unwrap();
    std::thread::scope(|scope| {
        for thread in 1..5usize {
            let model = &model;
            scope.spawn(move || {
                for rows in 1..40usize {
                    let data = vec![thread as f32; rows * 3];
                    let outputs = model.run(&[Value { shape: &[rows, 3], data: &data }]).unwrap();
                    let expected = thread as f32 * 9.0 + 0.5;
                    assert!(outputs[0].iter().step_by(2).all(|value| *value == expected));
                }
            });
        }
    });
}
