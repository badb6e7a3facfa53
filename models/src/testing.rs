//! What the tests of the networks share: seeded numbers, comparisons, ONNX Runtime as the referee.

use std::path::Path;

use ndarray::Array2;
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::onnx::{OnnxModel, Value};
use crate::text;
use crate::weights::Weights;

/// How far the same computation may differ between two runtimes.
pub(crate) const TOLERANCE: f32 = 1e-4;

/// Numbers between -1 and 1, the same for the same seed.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// A table of numbers between -1 and 1.
pub(crate) fn table(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), numbers(seed, rows * columns)).expect("sizes agree")
}

/// A table whose rows have length 1.
pub(crate) fn unit_rows(mut rows: Array2<f32>) -> Array2<f32> {
    for mut row in rows.rows_mut() {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.mapv_inplace(|value| value / length);
    }
    rows
}

pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: sizes differ");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= TOLERANCE, "{what}: {found} is not {expected} at {index}");
    }
}

/// Runs a model file with ONNX Runtime, one thread.
pub(crate) fn onnx_runtime(path: &Path, inputs: &[Value<'_>]) -> Vec<Vec<f32>> {
    let weights = Weights::standard().expect("a weights folder");
    let environment = text::environment(&weights)
        .unwrap_or_else(|error| panic!("{error}: run `make test`, which fetches ONNX Runtime"));
    let mut session = Session::builder(&environment)
        .and_then(|mut builder| builder.commit_from_file(path))
        .expect("ONNX Runtime accepts the file");
    let names: Vec<String> = session.inputs().iter().map(|input| input.name().to_owned()).collect();
    let outputs: Vec<String> =
        session.outputs().iter().map(|output| output.name().to_owned()).collect();
    let named: Vec<(String, SessionInputValue<'_>)> = names
        .into_iter()
        .zip(inputs)
        .map(|(name, input)| {
            let tensor = Tensor::from_array((input.shape.to_vec(), input.data.to_vec()));
            (name, tensor.expect("the data fit the shape").into())
        })
        .collect();
    let results = session.run(named).expect("ONNX Runtime runs the file");
    outputs
        .iter()
        .map(|name| results[name.as_str()].try_extract_tensor::<f32>().expect("floats").1.to_vec())
        .collect()
}

/// Checks that tract and ONNX Runtime agree on a file; gives the outputs.
pub(crate) fn both_runtimes(path: &Path, kind: &str, inputs: &[Value<'_>]) -> Vec<Vec<f32>> {
    let tract =
        OnnxModel::load(path, kind).and_then(|model| model.run(inputs)).expect("tract runs");
    let referee = onnx_runtime(path, inputs);
    assert_eq!(tract.len(), referee.len());
    for (tract, referee) in tract.iter().zip(&referee) {
        assert_close("tract against ONNX Runtime", tract, referee);
    }
    tract
}
