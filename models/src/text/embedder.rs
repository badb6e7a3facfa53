//! The text embedder: settings, loading, batching.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fastembed::{
    InitOptionsUserDefined, Pooling, QuantizationMode, TextEmbedding, TokenizerFiles,
    UserDefinedEmbeddingModel,
};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::error::{Result, TextError};
use super::runtime;
use crate::progress::{Progress, Silent};
use crate::settings::{CheckedSettings, Faults, SettingFault};
use crate::weights::Weights;

/// The artifact that holds the model and its tokenizer.
const ARTIFACT: &str = "minilm-int8";

/// The longest input that the model has positions for, in tokens.
const LONGEST_INPUT: usize = 512;

/// Characters of a text that are looked at for each token that may be used. An English token has
/// four or five characters, so this cuts no natural text, but spares tokenising a megabyte of it.
const CHARACTERS_PER_TOKEN: usize = 32;

/// How text is embedded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextSettings {
    /// Texts that go through the network together.
    pub batch_size: usize,
    /// Tokens of a text that are used, at most 512; what follows is ignored.
    pub maximum_tokens: usize,
    /// Threads for one batch; 0 takes all cores.
    pub threads: usize,
}

impl Default for TextSettings {
    fn default() -> Self {
        Self { batch_size: 32, maximum_tokens: 256, threads: 0 }
    }
}

impl CheckedSettings for TextSettings {
    fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Faults::default();
        let text = "at least one text must go through the network at a time";
        faults.unless(self.batch_size > 0, "batch_size", self.batch_size, text);
        // Two tokens are taken by the marks of beginning and end.
        let fits = (3..=LONGEST_INPUT).contains(&self.maximum_tokens);
        let tokens = "the model takes 3 to 512 tokens";
        faults.unless(fits, "maximum_tokens", self.maximum_tokens, tokens);
        faults.0
    }
}

/// Turns texts into vectors. Threads may share it; their batches take turns on the network.
pub struct TextEmbedder {
    network: Mutex<TextEmbedding>,
    settings: TextSettings,
    dimension: usize,
}

impl std::fmt::Debug for TextEmbedder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TextEmbedder")
            .field("settings", &self.settings)
            .field("dimension", &self.dimension)
            .finish_non_exhaustive()
    }
}

impl TextEmbedder {
    /// Loads the model and ONNX Runtime from the weights folder.
    ///
    /// # Errors
    /// [`TextError::Weights`] says which file is missing or wrong and how to fetch it.
    pub fn load(weights: &Weights, settings: TextSettings) -> Result<Self> {
        settings.check()?;
        let environment = runtime::environment(weights)?;
        let model_path = weights.require(ARTIFACT, "model.onnx")?;
        let read_required = |file| read(&weights.require(ARTIFACT, file)?);
        let tokenizer = TokenizerFiles {
            tokenizer_file: read_required("tokenizer.json")?,
            config_file: read_required("config.json")?,
            special_tokens_map_file: read_required("special_tokens_map.json")?,
            tokenizer_config_file: read_required("tokenizer_config.json")?,
        };
        let model = UserDefinedEmbeddingModel::new(read(&model_path)?, tokenizer)
            .with_pooling(Pooling::Mean)
            .with_quantization(QuantizationMode::None);
        let mut options = InitOptionsUserDefined::new()
            .with_environment(environment)
            .with_max_length(settings.maximum_tokens)
            // Threads that wait by spinning take the cores from the language model beside them: on two
            // busy cores one text took twice as long with it.
            .with_session_config("session.intra_op.allow_spinning", "0");
        if settings.threads > 0 {
            options = options.with_intra_threads(settings.threads);
        }
        let unusable = |reason| TextError::Model {
            folder: model_path.parent().unwrap_or(&model_path).to_owned(),
            reason,
        };
        let network = TextEmbedding::try_new_from_user_defined(model, options)
            .map_err(|error| unusable(error.to_string()))?;
        let mut embedder = Self { network: Mutex::new(network), settings, dimension: 0 };
        // One word through the whole network proves that it fits its tokenizer, and tells its width.
        let probe = embedder.run(&["probe"]).map_err(|error| unusable(error.to_string()))?;
        embedder.dimension = probe.first().map_or(0, Vec::len);
        if embedder.dimension == 0 {
            return Err(unusable("it gives empty vectors".to_owned()));
        }
        Ok(embedder)
    }

    /// Numbers in a vector: 384.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The vector of one text, of length 1; see [`Self::embed_all`].
    pub fn embed(&self, text: &str) -> Result<Vec<f32>> {
        Ok(self.embed_all(&[text], &Silent)?.into_raw_vec_and_offset().0)
    }

    /// The vectors of many texts, in their order: `[texts, 384]`, each row of length 1.
    ///
    /// A text without any visible character gives the zero vector: it is equally far from
    /// everything. Long texts are cut to [`TextSettings::maximum_tokens`]. The progress has one
    /// stage, counted in texts.
    pub fn embed_all<T: AsRef<str>>(
        &self,
        texts: &[T],
        progress: &dyn Progress,
    ) -> Result<Array2<f32>> {
        let mut vectors = Array2::zeros((texts.len(), self.dimension));
        let mut order: Vec<(usize, &str)> = texts
            .iter()
            .enumerate()
            .map(|(row, text)| (row, self.cut(text.as_ref())))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        // A batch costs as much as its longest text for each of its rows: neighbours in length go together.
        order.sort_by_key(|(row, text)| (text.len(), *row));
        let mut done = texts.len() - order.len();
        progress.begin("embedding text", texts.len() as u64);
        for batch in order.chunks(self.settings.batch_size) {
            if progress.cancelled() {
                return Err(TextError::Cancelled { done, total: texts.len() });
            }
            let inputs: Vec<&str> = batch.iter().map(|(_, text)| *text).collect();
            for ((row, _), vector) in batch.iter().zip(self.run(&inputs)?) {
                vectors.row_mut(*row).assign(&ndarray::ArrayView1::from(&vector));
            }
            done += batch.len();
            progress.advance(done as u64);
        }
        progress.end();
        Ok(vectors)
    }

    /// Tokens of a text as the network sees it, the marks of beginning and end included.
    ///
    /// # Errors
    /// [`TextError::Embedding`] if the tokenizer refuses the text.
    pub fn tokens(&self, text: &str) -> Result<usize> {
        let encoding = self.network().tokenizer.encode(self.cut(text), true);
        let refused = |reason: String| TextError::Embedding { count: 1, reason };
        // Rows are padded to the longest of a batch; the padding is not text.
        Ok(encoding
            .map_err(|error| refused(error.to_string()))?
            .get_attention_mask()
            .iter()
            .filter(|mask| **mask == 1)
            .count())
    }

    fn cut<'a>(&self, text: &'a str) -> &'a str {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        let longest = self.settings.maximum_tokens * CHARACTERS_PER_TOKEN;
        text.char_indices().nth(longest).map_or(text, |(end, _)| &text[..end])
    }

    fn run(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let fail = |reason: String| TextError::Embedding { count: texts.len(), reason };
        let vectors = self
            .network()
            .embed(texts, Some(texts.len()))
            .map_err(|error| fail(error.to_string()))?;
        if vectors.len() != texts.len() {
            return Err(fail(format!("the network gave {} vectors", vectors.len())));
        }
        Ok(vectors)
    }

    /// A panic inside the network leaves nothing half-done in it: each run starts afresh.
    fn network(&self) -> MutexGuard<'_, TextEmbedding> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| TextError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::metrics::cosine;

    /// Largest difference between two vectors of one text that rounding explains.
    const TOLERANCE: f32 = 1e-4;

    fn embedder() -> &'static TextEmbedder {
        static EMBEDDER: OnceLock<TextEmbedder> = OnceLock::new();
        EMBEDDER.get_or_init(|| {
            let weights = Weights::standard().expect("a weights folder");
            TextEmbedder::load(&weights, TextSettings::default())
                .unwrap_or_else(|error| panic!("{error}"))
        })
    }

    fn check_closer(anchor: &str, near: &str, far: &str) {
        let [anchor_vector, near_vector, far_vector] =
            [anchor, near, far].map(|text| embedder().embed(text).expect("embedded"));
        let (close, distant) =
            (cosine(&anchor_vector, &near_vector), cosine(&anchor_vector, &far_vector));
        assert!(close > distant, "`{anchor}`: {close} to `{near}`, {distant} to `{far}`");
    }

    fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn meanings_that_are_close_have_close_vectors() {
        check_closer(
            "a film about space travel",
            "astronauts fly to a distant planet",
            "a recipe for onion soup",
        );
        check_closer(
            "I hated this guitar string",
            "the strings broke after a day",
            "comfortable hotel near the beach",
        );
    }

    #[test]
    fn vectors_have_the_dimension_and_length_one() {
        let texts = [
            "one",
            "two words",
            "日本語のテキスト",
            "Ελληνικά и кириллица",
            "🎬🎥",
            "\u{0}\u{7}mixed\u{200b}",
        ];
        let vectors = embedder().embed_all(&texts, &Silent).expect("embedded");
        assert_eq!(vectors.dim(), (texts.len(), 384));
        for (row, text) in vectors.rows().into_iter().zip(texts) {
            let length = row.dot(&row).sqrt();
            assert!((length - 1.0).abs() < TOLERANCE, "`{text}` has length {length}");
        }
    }

    #[test]
    fn an_empty_text_gives_the_zero_vector() {
        let vectors =
            embedder().embed_all(&["", " \n\t\u{3000}", "word"], &Silent).expect("embedded");
        assert!(vectors.row(0).iter().chain(vectors.row(1)).all(|value| *value == 0.0));
        assert!(vectors.row(2).iter().any(|value| *value != 0.0));
        assert_eq!(embedder().embed_all::<&str>(&[], &Silent).expect("embedded").dim(), (0, 384));
    }

    #[test]
    fn a_vector_does_not_depend_on_the_rest_of_its_batch() {
        let long = "a long description of a quiet film ".repeat(30);
        let texts = ["short", long.as_str(), "a detective story in a small town"];
        let together = embedder().embed_all(&texts, &Silent).expect("embedded");
        for (row, text) in together.rows().into_iter().zip(texts) {
            let alone = embedder().embed(text).expect("embedded");
            let difference = largest_difference(&row.to_vec(), &alone);
            assert!(difference < TOLERANCE, "`{text:.20}` differs by {difference}");
        }
    }

    #[test]
    fn a_text_of_100_kilobytes_is_cut_to_its_beginning() {
        let sentence = "The consumer likes slow science fiction with a good ending. ";
        let long = sentence.repeat(100_000 / sentence.len() + 1);
        let beginning = sentence.repeat(60);
        let vectors = embedder().embed_all(&[long, beginning], &Silent).expect("embedded");
        let difference = largest_difference(&vectors.row(0).to_vec(), &vectors.row(1).to_vec());
        assert!(difference < TOLERANCE, "differs by {difference}");
        // No spaces, and several bytes a character: the cut must fall between characters.
        embedder().embed(&"長".repeat(100_000)).expect("embedded");
    }

    #[test]
    fn threads_share_one_embedder_and_order_is_kept() {
        let texts: Vec<String> =
            (0..80).map(|number| format!("film number {number}").repeat(1 + number % 5)).collect();
        let expected = embedder().embed_all(&texts, &Silent).expect("embedded");
        std::thread::scope(|scope| {
            let halves = texts.chunks(40).zip(expected.axis_chunks_iter(ndarray::Axis(0), 40));
            for (texts, expected) in halves {
                scope.spawn(move || {
                    for (text, row) in texts.iter().zip(expected.rows()) {
                        let alone = embedder().embed(text).expect("embedded");
                        assert!(largest_difference(&alone, &row.to_vec()) < TOLERANCE, "`{text}`");
                    }
                });
            }
        });
    }

    #[test]
    fn progress_reaches_the_number_of_texts_and_can_cancel() {
        #[derive(Default)]
        struct Count(AtomicU64);
        impl Progress for Count {
            fn begin(&self, _stage: &str, total: u64) {
                assert_eq!(total, 70);
            }
            fn advance(&self, done: u64) {
                self.0.store(done, Ordering::Relaxed);
            }
            fn cancelled(&self) -> bool {
                self.0.load(Ordering::Relaxed) >= 64
            }
        }
        let count = Count::default();
        let stopped = embedder().embed_all(&vec!["word"; 70], &count).expect_err("cancelled");
        assert_eq!(stopped.to_string(), "embedding was cancelled after 64 of 70 texts");
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let weights = Weights::standard().expect("a weights folder");
        let check = |settings: TextSettings, expected: &str| {
            let message = TextEmbedder::load(&weights, settings).expect_err("refused").to_string();
            assert!(message.contains(expected), "`{message}` does not say `{expected}`");
        };
        check(TextSettings { batch_size: 0, ..TextSettings::default() }, "batch_size");
        check(TextSettings { maximum_tokens: 1000, ..TextSettings::default() }, "maximum_tokens");
    }

    #[test]
    fn a_missing_model_says_how_to_get_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The runtime may be loaded already by another test; the model is what is missing here.
        embedder();
        let weights =
            Weights { folder: folder.path().to_owned(), ..Weights::standard().expect("a folder") };
        let message =
            TextEmbedder::load(&weights, TextSettings::default()).expect_err("missing").to_string();
        assert!(
            message.contains("model.onnx is missing")
                && message.contains("whyrank fetch minilm-int8"),
            "{message}"
        );
    }
}
