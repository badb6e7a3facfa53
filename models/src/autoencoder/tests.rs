//! Tests of the autoencoder as a whole: both rounds, export, the runtimes' agreement.

use std::sync::OnceLock;

use ndarray::{Array2, array};
use tempfile::TempDir;

use super::*;
use crate::error::Error;
use crate::onnx::Value;
use crate::progress::Silent;
use crate::testing::{assert_close, both_runtimes, table, unit_rows};

const EMBEDDING: usize = 40;
const CODE: usize = 8;

/// Embeddings that live on six bent axes around a common mean, as embeddings of sentences do.
fn embeddings(seed: u64, rows: usize) -> Array2<f32> {
    let axes = table(1000, 6, EMBEDDING);
    let factors = table(seed, rows, 6);
    let bent = (factors.dot(&axes)).mapv(|value| value + 0.3 * value * value) + 0.5;
    unit_rows(bent + table(seed + 1, rows, EMBEDDING) * 0.05)
}

fn settings() -> AutoencoderSettings {
    AutoencoderSettings {
        code: CODE,
        hidden: 32,
        pretrain: TrainingSettings { epochs: 20, batch: 64, ..Default::default() },
        fine_tune: TrainingSettings { epochs: 8, batch: 64, ..Default::default() },
        ..Default::default()
    }
}

fn trained() -> &'static Autoencoder {
    static TRAINED: OnceLock<Autoencoder> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let mut autoencoder =
            Autoencoder::pretrain(embeddings(1, 1000).view(), &settings(), &Silent).unwrap();
        autoencoder.fine_tune(embeddings(50, 400).view(), &Silent).unwrap();
        autoencoder
    })
}

#[test]
fn held_out_embeddings_come_back_closer_than_the_mean() {
    let reports = trained().reports();
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert!(report.cosine > 0.97 && report.cosine > report.mean_cosine, "{report:?}");
    }
}

#[test]
fn candle_tract_and_onnx_runtime_agree() {
    let folder = TempDir::new().unwrap();
    let (encoder_path, decoder_path) =
        (folder.path().join("encoder.onnx"), folder.path().join("decoder.onnx"));
    trained().export(&encoder_path, &decoder_path).unwrap();
    let encoder = Encoder::load(&encoder_path, EMBEDDING).unwrap();
    let decoder = Decoder::load(&decoder_path, CODE).unwrap();
    assert_eq!(encoder.code(), CODE);
    for rows in [1, 7, 200, 1500] {
        let input = embeddings(70, rows);
        let codes = encoder.encode(input.view()).unwrap();
        let flat = |rows: &Array2<f32>| rows.iter().copied().collect::<Vec<f32>>();
        assert_close("codes", &flat(&codes), &flat(&trained().encode(input.view()).unwrap()));
        let data = flat(&input);
        let value = Value { shape: &[rows, EMBEDDING], data: &data };
        assert_close(
            "raw codes",
            &both_runtimes(&encoder_path, ENCODER_KIND, &[value])[0],
            &flat(&codes),
        );
        for code in codes.rows() {
            assert!((code.dot(&code) - 1.0).abs() < 1e-4, "a code has length 1");
        }
        let back = decoder.decode(codes.view()).unwrap();
        assert_close("back", &flat(&back), &flat(&trained().decode(codes.view()).unwrap()));
        let data = flat(&codes);
        let value = Value { shape: &[rows, CODE], data: &data };
        assert_close(
            "raw back",
            &both_runtimes(&decoder_path, DECODER_KIND, &[value])[0],
            &flat(&back),
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_codes() {
    let data = embeddings(1, 200);
    let settings = AutoencoderSettings {
        pretrain: TrainingSettings { epochs: 2, ..Default::default() },
        ..settings()
    };
    let codes = || {
        let autoencoder = Autoencoder::pretrain(data.view(), &settings, &Silent).unwrap();
        autoencoder.encode(data.view()).unwrap()
    };
    assert_eq!(codes(), codes());
}

#[test]
fn bad_input_and_other_widths_are_refused() {
    let none = Array2::<f32>::zeros((0, EMBEDDING));
    let error = Autoencoder::pretrain(none.view(), &settings(), &Silent).unwrap_err();
    assert!(matches!(error, Error::Empty { .. }), "{error}");
    let broken = array![[1.0, f32::NAN], [0.0, 1.0]];
    let error = Autoencoder::pretrain(broken.view(), &settings(), &Silent).unwrap_err();
    assert!(error.to_string().contains("NaN at row 0, column 1"), "{error}");
    let zero = AutoencoderSettings { code: 0, ..settings() };
    let error = Autoencoder::pretrain(embeddings(1, 5).view(), &zero, &Silent).unwrap_err();
    assert!(error.to_string().starts_with("setting `code` is 0"), "{error}");

    let folder = TempDir::new().unwrap();
    let (encoder, decoder) =
        (folder.path().join("encoder.onnx"), folder.path().join("decoder.onnx"));
    trained().export(&encoder, &decoder).unwrap();
    let error = Encoder::load(&encoder, 384).unwrap_err().to_string();
    assert!(error.contains("`embedding` = 40, but the data has 384"), "{error}");
    assert!(matches!(Encoder::load(&decoder, CODE).unwrap_err(), Error::Kind { .. }));
    let loaded = Encoder::load(&encoder, EMBEDDING).unwrap();
    assert!(loaded.encode(table(1, 2, 3).view()).is_err());
    assert_eq!(loaded.encode(none.view()).unwrap().nrows(), 0);
}
