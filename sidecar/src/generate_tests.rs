//! Runs on a real embedded store, with a generator that answers when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::{Barrier, mpsc};
use whyrank_models::progress::Silent;
use whyrank_plugin::EmbeddedSettings;

use super::*;
use crate::evidence::EvidenceSettings;
use crate::features::RatingScale;
use crate::generator::{
    Delta, Generation, GenerationOptions, Generator, GeneratorError, GeneratorIdentity,
    GeneratorSettings, Prompt, Writer,
};
use crate::import::{Dataset, ImportedInteraction};
use crate::ingest::ingest;
use crate::metrics::Metrics;
use crate::storage::StoreSettings;

/// Answers once as many have asked as it works on at once: one that is asked by fewer waits for ever.
struct Together {
    identity: GeneratorIdentity,
    met: Barrier,
    at_once: usize,
    asked: AtomicUsize,
}

impl Together {
    fn new(at_once: usize) -> Arc<Self> {
        let name = || "together".to_owned();
        let identity = GeneratorIdentity { generator: name(), model: name(), version: name() };
        let met = Barrier::new(at_once);
        Arc::new(Self { identity, met, at_once, asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Generator for Together {
    fn identity(&self) -> &GeneratorIdentity {
        &self.identity
    }

    fn parallel(&self) -> usize {
        self.at_once
    }

    async fn generate(
        &self,
        _: &Prompt<'_>,
        _: &GenerationOptions,
        _: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Generation, GeneratorError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            _ = self.met.wait() => {}
            () = cancel.cancelled() => return Err(GeneratorError::Cancelled),
        }
        // No good, so that each pair takes all its attempts and then the template: three times three at once.
        let text = "WHY: Good.";
        Ok(Generation {
            text: text.to_owned(),
            truncated: false,
            openings: Vec::new(),
            usage: Usage::default(),
        })
    }
}

struct Bench {
    storage: Storage,
    writer: PairWriter,
    settings: GenerateSettings,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// Four consumers who rated four items each.
    async fn new(generator: Arc<Together>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let embedded = EmbeddedSettings {
            folder: folder.path().join("store"),
            minimum_free_bytes: 0,
            ..EmbeddedSettings::default()
        };
        let store = StoreSettings { embedded, ..StoreSettings::default() };
        let storage = Storage::open(&store).await.unwrap();
        storage.ensure(2, 2).await.unwrap();
        let rated = |place: i64| ImportedInteraction {
            user: format!("u{}", place % 4),
            item: format!("i{}", place / 4),
            rating: 4.0,
            time: place,
        };
        let dataset = Dataset { interactions: (0..16).map(rated).collect(), ..Dataset::default() };
        ingest(&storage, &dataset, &Silent).await.unwrap();
        let writer = PairWriter::new(
            storage.clone(),
            EvidenceSettings::default(),
            RatingScale { like_from: 4.0, dislike_to: 2.0, possible: [None, None] },
            Arc::new(Writer::from_settings(generator, &GeneratorSettings::default()).unwrap()),
            None,
            Metrics::new().unwrap(),
        );
        let settings = GenerateSettings { pairs: 6, ..GenerateSettings::default() };
        Self { storage, writer, settings, _folder: folder }
    }

    async fn run(&self, cancel: &CancellationToken) -> GenerateReport {
        let run = Run {
            storage: &self.storage,
            writer: &self.writer,
            settings: &self.settings,
            forecast: &ForecastSettings::default(),
            split: &SplitSettings::default(),
            users: &[],
            progress: &Silent,
            cancel: cancel.clone(),
        };
        run.run().await.unwrap()
    }
}

/// Regression: a run asked for one pair at a time, whatever worked on several at once.
#[tokio::test]
async fn as_many_pairs_are_in_hand_as_the_generator_works_on_at_once() {
    let generator = Together::new(3);
    let bench = Bench::new(generator.clone()).await;
    let (cancel, limit) = (CancellationToken::new(), Duration::from_secs(120));
    let report = tokio::time::timeout(limit, bench.run(&cancel)).await;
    let report = report.expect("the generator waits for three at once");
    assert_eq!((report.llm + report.template, report.failed, report.stopped), (6, 0, false));
    let asked = generator.asked.load(Ordering::SeqCst);
    assert!(asked >= 6, "{asked} answers for 6 pairs");
}

#[tokio::test]
async fn a_run_that_is_stopped_ends_the_pairs_in_hand_and_begins_no_other() {
    let generator = Together::new(4);
    let mut bench = Bench::new(generator.clone()).await;
    // Two in hand, of which the generator answers none: it waits for four.
    bench.settings.pairs = 2;
    let cancel = CancellationToken::new();
    let stop = async {
        while generator.asked.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (report, ()) = tokio::join!(bench.run(&cancel), stop);
    assert_eq!((report.llm, report.failed, report.stopped), (0, 0, true), "{report:?}");
    assert_eq!(generator.asked.load(Ordering::SeqCst), 2);
}
