//! Tests of the amortized explainer as a whole: training, export, the runtimes' agreement.

use std::sync::OnceLock;

use ndarray::{Array2, Axis, concatenate};
use tempfile::TempDir;

use super::*;
use crate::error::Error;
use crate::onnx::Value;
use crate::progress::Silent;
use crate::testing::{assert_close, both_runtimes, table, unit_rows};

const VECTOR: usize = 8;
const CODE: usize = 6;

struct Pairs {
    user: Array2<f32>,
    item: Array2<f32>,
    positive: Array2<f32>,
    negative: Array2<f32>,
}

impl Pairs {
    /// Codes that depend on user and item, around a common mean.
    fn new(seed: u64, rows: usize) -> Self {
        let (user, item) = (table(seed, rows, VECTOR), table(seed + 1, rows, VECTOR));
        let pair = concatenate(Axis(1), &[user.view(), item.view()]).unwrap();
        let code = |map: u64| unit_rows(pair.dot(&table(map, 2 * VECTOR, CODE)) + 0.5);
        Self { positive: code(500), negative: code(501), user, item }
    }

    fn view(&self) -> ExplainerExamples<'_> {
        ExplainerExamples {
            user: self.user.view(),
            item: self.item.view(),
            positive: self.positive.view(),
            negative: self.negative.view(),
        }
    }
}

fn settings() -> ExplainerSettings {
    ExplainerSettings {
        hidden: [48, 32],
        training: TrainingSettings { epochs: 15, batch: 64, ..Default::default() },
        ..Default::default()
    }
}

fn trained() -> &'static TrainedExplainer {
    static TRAINED: OnceLock<TrainedExplainer> = OnceLock::new();
    TRAINED.get_or_init(|| {
        TrainedExplainer::train(&Pairs::new(1, 1500).view(), &settings(), &Silent).unwrap()
    })
}

#[test]
fn predicted_codes_are_closer_than_the_mean_code() {
    let report = trained().report();
    assert_eq!(report.held_out, 150);
    assert!(report.positive_cosine > report.mean_positive_cosine + 0.2, "{report:?}");
    assert!(report.negative_cosine > report.mean_negative_cosine + 0.2, "{report:?}");
}

#[test]
fn candle_tract_and_onnx_runtime_agree() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("explainer.onnx");
    trained().export(&path).unwrap();
    let explainer = Explainer::load(&path, VECTOR, CODE).unwrap();
    let flat = |rows: &Array2<f32>| rows.iter().copied().collect::<Vec<f32>>();
    for rows in [1, 7, 200, 1500] {
        let pairs = Pairs::new(9, rows);
        let codes = explainer.predict(pairs.user.view(), pairs.item.view()).unwrap();
        let candle = trained().predict(pairs.user.view(), pairs.item.view()).unwrap();
        assert_close("positive", &flat(&codes.positive), &flat(&candle.positive));
        assert_close("negative", &flat(&codes.negative), &flat(&candle.negative));
        let (user, item) = (flat(&pairs.user), flat(&pairs.item));
        let outputs = both_runtimes(
            &path,
            KIND,
            &[
                Value { shape: &[rows, VECTOR], data: &user },
                Value { shape: &[rows, VECTOR], data: &item },
            ],
        );
        assert_close("raw positive", &outputs[0], &flat(&codes.positive));
        assert_close("raw negative", &outputs[1], &flat(&codes.negative));
    }
    let pairs = Pairs::new(9, 3);
    let user = pairs.user.row(0).to_vec();
    let one = explainer.predict_for(&user, pairs.item.view()).unwrap();
    let pair = explainer.predict(pairs.user.view(), pairs.item.view()).unwrap();
    assert_close("one user", &one.positive.row(0).to_vec(), &pair.positive.row(0).to_vec());
}

#[test]
fn bad_input_and_other_widths_are_refused() {
    let mut pairs = Pairs::new(1, 20);
    pairs.item = table(1, 19, VECTOR);
    let error = TrainedExplainer::train(&pairs.view(), &settings(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), "the table of item vectors has 19 rows, but needs 20 rows");
    let error = TrainedExplainer::train(&Pairs::new(1, 0).view(), &settings(), &Silent);
    assert!(matches!(error.unwrap_err(), Error::Empty { .. }));
    let error = TrainedExplainer::train(&Pairs::new(1, 1).view(), &settings(), &Silent);
    assert!(matches!(error.unwrap_err(), Error::Empty { .. }));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("explainer.onnx");
    trained().export(&path).unwrap();
    assert!(matches!(Explainer::load(&path, 9, CODE).unwrap_err(), Error::Contract { .. }));
    assert!(matches!(Explainer::load(&path, VECTOR, 9).unwrap_err(), Error::Contract { .. }));
}
