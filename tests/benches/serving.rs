//! What a request costs, on a small real installation with 100,000 pairs indexed: text embedding,
//! codes, batched reads, the ranker under tract and under ONNX Runtime, and the whole pipeline.
//!
//! `cargo bench --release -p whyrank-tests` prints the medians; the percentiles of the pipeline are
//! measured request by request and printed first.
#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use whyrank::artifacts::{ArtifactPaths, RerankModels, load_encoder};
use whyrank::features::RatingScale;
use whyrank::metrics::Metrics;
use whyrank::rerank::{RecommendRequest, RerankSettings, Reranker, RerankerParts};
use whyrank::staleness::Freshness;
use whyrank::storage::{Storage, StoreSettings};
use whyrank_models::onnx::{OnnxModel, Value};
use whyrank_models::progress::Silent;
use whyrank_models::text::{self, TextEmbedder, TextSettings};
use whyrank_models::weights::Weights;
use whyrank_plugin::records::PairCodes;
use whyrank_plugin::{
    Codes, EmbeddedSettings, Explanation, ExplanationRecord, PointId, Provenance, Source,
    explanation_id,
};
use whyrank_tests::Installation;

/// Explanation points that are indexed.
const PAIRS: usize = 100_000;
/// Candidates of one request.
const CANDIDATES: usize = 200;
/// Requests that the percentiles are taken over.
const REQUESTS: usize = 2_000;
/// Width of vectors and codes.
const WIDTH: usize = 32;

fn main() -> anyhow::Result<()> {
    // One thread for everything in this process, so that the figures are those of one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let installation = Installation::trained()?;
    let storage = runtime.block_on(open(&installation))?;
    runtime.block_on(fill(&storage))?;
    let users = runtime.block_on(storage.all_users())?;
    let items = runtime.block_on(storage.all_items())?;
    let paths = ArtifactPaths::new(installation.live_models()?);
    let models = Arc::new(RerankModels::load(&paths, WIDTH, WIDTH)?);
    let reranker = Reranker::new(RerankerParts {
        storage: storage.clone(),
        settings: RerankSettings::default(),
        scale: RatingScale { like_from: 4.0, dislike_to: 2.0, possible: [None, None] },
        code_dimension: WIDTH,
        models: Some(models),
        cold_start: None,
        missing: None,
        freshness: Freshness::default(),
        metrics: Metrics::new()?,
    });
    let request = |number: usize| RecommendRequest {
        user: Some(users[number % users.len()].external_id.clone()),
        candidates: Some(CANDIDATES),
        ..RecommendRequest::default()
    };
    percentiles(&runtime, &reranker, request)?;

    let mut criterion = Criterion::default().configure_from_args();
    let mut number = 0;
    criterion.bench_function("recommend, 200 candidates", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(runtime.block_on(reranker.recommend(&request(number)))).is_ok()
        });
    });
    let ids: Vec<Vec<PointId>> = users
        .iter()
        .map(|user| {
            items.iter().take(CANDIDATES).map(|item| explanation_id(&user.id, &item.id)).collect()
        })
        .collect();
    let (store, collection) = (storage.store(), &storage.settings().explanations);
    criterion.bench_function("read 200 pairs of codes among 100,000", |bencher| {
        bencher.iter(|| {
            number += 1;
            let ids = &ids[number % ids.len()];
            black_box(runtime.block_on(store.read(collection, ids, &PairCodes::selection())))
                .is_ok()
        });
    });
    ranker(&mut criterion, &paths)?;
    texts(&mut criterion, &paths)?;
    criterion.final_summary();
    Ok(())
}

async fn open(installation: &Installation) -> anyhow::Result<Storage> {
    let embedded = EmbeddedSettings {
        sync_every_write: false,
        ..EmbeddedSettings::in_folder(installation.path().join("store"))
    };
    let settings = StoreSettings { embedded, ..StoreSettings::default() };
    Storage::open(&settings).await
}

/// Writes made-up codes for 100,000 real pairs, and indexes them.
async fn fill(storage: &Storage) -> anyhow::Result<()> {
    let (users, items) = (storage.all_users().await?, storage.all_items().await?);
    let mut random = StdRng::seed_from_u64(7);
    let mut code = || -> Vec<f32> { (0..WIDTH).map(|_| random.random_range(-0.3..0.3)).collect() };
    let pairs = users.iter().flat_map(|user| items.iter().map(move |item| (user, item)));
    let records: Vec<ExplanationRecord> = pairs
        .step_by(2)
        .take(PAIRS)
        .map(|(user, item)| ExplanationRecord {
            user: user.id,
            item: item.id,
            user_external_id: user.external_id.clone(),
            item_external_id: item.external_id.clone(),
            explanation: Explanation {
                positive: format!(
                    "You rated films near {} well, and it has the same tone.",
                    item.title
                ),
                negative: format!("{} is longer than most films that you rated well.", item.title),
            },
            provenance: Provenance {
                generator: "bench".to_owned(),
                prompt_version: "1".to_owned(),
                profile_version: "1".to_owned(),
                source: Source::Template,
                seed: 0,
                attempts: 1,
                written_at: 0,
            },
            codes: Some(Codes { positive: code(), negative: code() }),
            code_version: Some("bench".to_owned()),
            stale: None,
        })
        .collect();
    for part in records.chunks(1_000) {
        storage.write_explanations(part).await?;
    }
    storage.store().optimize(&storage.settings().explanations).await?;
    let count = storage.store().count(&storage.settings().explanations, None).await?;
    println!("{count} explanations indexed");
    Ok(())
}

fn percentiles(
    runtime: &tokio::runtime::Runtime,
    reranker: &Reranker,
    request: impl Fn(usize) -> RecommendRequest,
) -> anyhow::Result<()> {
    let mut times = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS + 100 {
        let request = request(number);
        let started = Instant::now();
        let response = runtime.block_on(reranker.recommend(&request))?;
        // The first requests warm the caches up.
        if number >= 100 {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        anyhow::ensure!(response.degraded.is_none(), "degraded: {:?}", response.degraded);
        if number == REQUESTS {
            for stage in response.stages {
                println!("  {:<9} {:.2} ms ({})", stage.stage, stage.milliseconds, stage.detail);
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "recommend with {CANDIDATES} candidates, {REQUESTS} requests: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// The exported ranker with 200 rows: tract against ONNX Runtime, one thread each, the same inputs.
fn ranker(criterion: &mut Criterion, paths: &ArtifactPaths) -> anyhow::Result<()> {
    let path = paths.ranker();
    let model = OnnxModel::load(&path, whyrank_models::ranker::KIND)?;
    let mut random = StdRng::seed_from_u64(3);
    let inputs: Vec<(String, Vec<usize>, Vec<f32>)> = model
        .contract()
        .inputs
        .iter()
        .map(|port| {
            let shape: Vec<usize> = port
                .shape
                .iter()
                .map(|dimension| match dimension {
                    whyrank_models::onnx::Dimension::Fixed(size) => *size,
                    whyrank_models::onnx::Dimension::Free(_) => CANDIDATES,
                })
                .collect();
            let values =
                (0..shape.iter().product()).map(|_| random.random_range(0.0..1.0)).collect();
            (port.name.clone(), shape, values)
        })
        .collect();
    let mut group = criterion.benchmark_group("ranker, 200 candidates, one thread");
    let values: Vec<Value<'_>> =
        inputs.iter().map(|(_, shape, data)| Value { shape, data }).collect();
    group.bench_function("tract", |bencher| bencher.iter(|| black_box(model.run(&values)).is_ok()));
    let environment = text::environment(&Weights::standard()?)?;
    let failed = |error: ort::Error| anyhow::anyhow!("ONNX Runtime: {error}");
    let mut session = Session::builder(&environment)
        .map_err(failed)?
        .with_intra_threads(1)
        .map_err(|error| anyhow::anyhow!("ONNX Runtime: {error}"))?
        .commit_from_file(&path)
        .map_err(failed)?;
    group.bench_function("ONNX Runtime", |bencher| {
        bencher.iter(|| {
            let named: Vec<(String, SessionInputValue<'_>)> = inputs
                .iter()
                .filter_map(|(name, shape, data)| {
                    let tensor = Tensor::from_array((shape.clone(), data.clone())).ok()?;
                    Some((name.clone(), tensor.into()))
                })
                .collect();
            black_box(session.run(named)).is_ok()
        });
    });
    group.finish();
    Ok(())
}

/// Sentences embedded and codes made, per second.
fn texts(criterion: &mut Criterion, paths: &ArtifactPaths) -> anyhow::Result<()> {
    let embedder = TextEmbedder::load(&Weights::standard()?, TextSettings::default())?;
    let sentences: Vec<String> = (0..256)
        .map(|number| {
            format!(
                "You rated {number} films of this kind four stars or more, and this one keeps their quiet \
                 humour, slow pace and warm ending."
            )
        })
        .collect();
    let mut group = criterion.benchmark_group("texts");
    group.sample_size(10);
    group.throughput(Throughput::Elements(sentences.len() as u64));
    group.bench_function("embed 256 sentences", |bencher| {
        bencher.iter(|| black_box(embedder.embed_all(&sentences, &Silent)).is_ok());
    });
    let embeddings = embedder.embed_all(&sentences, &Silent)?;
    let encoder = load_encoder(paths, embedder.dimension(), WIDTH)?;
    group.bench_function("encode 256 embeddings", |bencher| {
        bencher.iter(|| black_box(encoder.encode(embeddings.view())).is_ok());
    });
    group.finish();
    Ok(())
}
