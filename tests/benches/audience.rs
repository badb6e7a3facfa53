//! What an audience costs among 100,000 consumers and 10,000 items: retrieval, ranking and account of
//! 1,000 consumers, over the embedded engine; and insights into an item there.
//!
//! `taskset -c 0 cargo bench -p whyrank-tests --bench audience` measures one core.
#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Context;
use criterion::Criterion;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use whyrank::artifacts::{ArtifactPaths, RerankModels};
use whyrank::audience::{AudienceRequest, AudienceSettings, Audiences};
use whyrank::features::RatingScale;
use whyrank::insights::{Insights, InsightsRequest, InsightsSettings, Viewer};
use whyrank::metrics::Metrics;
use whyrank::rerank::{RerankSettings, Reranker, RerankerParts};
use whyrank::staleness::Freshness;
use whyrank::storage::{Storage, StoreSettings};
use whyrank_plugin::{
    EmbeddedSettings, HistoryEntry, ItemId, ItemRecord, Statistics, StoredTaste, UserId, UserRecord,
};
use whyrank_tests::Installation;

const CONSUMERS: usize = 100_000;
const ITEMS: usize = 10_000;
/// Consumers of the audience.
const AUDIENCE: usize = 1_000;
/// Items of a consumer's history.
const HISTORY: usize = 20;
/// Width of vectors and codes.
const WIDTH: usize = 32;
/// Kilobytes that audiences and insights may take beside what was resident after indexing; pages of the store
/// that they touch for the first time are among them.
const MOST_MEMORY: u64 = 512 << 10;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let installation = Installation::trained()?;
    let embedded = EmbeddedSettings {
        sync_every_write: false,
        ..EmbeddedSettings::in_folder(installation.path().join("large"))
    };
    let settings = StoreSettings { embedded, ..StoreSettings::default() };
    let storage = runtime.block_on(Storage::open(&settings))?;
    runtime.block_on(fill(&storage))?;
    let before = memory("VmRSS:")?;
    println!("{CONSUMERS} consumers and {ITEMS} items indexed; {before} kB resident");
    // The most memory is counted anew: what filling took is not what audiences take.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let paths = ArtifactPaths::new(installation.live_models()?);
    let reranker = Reranker::new(RerankerParts {
        storage: storage.clone(),
        settings: RerankSettings::default(),
        scale: RatingScale { like_from: 4.0, dislike_to: 2.0, possible: [None, None] },
        code_dimension: WIDTH,
        models: Some(Arc::new(RerankModels::load(&paths, WIDTH, WIDTH)?)),
        cold_start: None,
        missing: None,
        freshness: Freshness::default(),
        metrics: Metrics::new()?,
    });
    let insights = Insights::new(reranker.clone(), storage.clone(), InsightsSettings::default());
    let audiences = Audiences::new(reranker, storage, None, AudienceSettings::default());
    let request = |number: usize, limit: usize| AudienceRequest {
        items: Some(vec![(number % ITEMS).to_string()]),
        limit: Some(limit),
        candidates: Some(AUDIENCE),
        ..AudienceRequest::default()
    };
    let answer = runtime.block_on(audiences.audience(&request(1, AUDIENCE)))?;
    anyhow::ensure!(answer.consumers.len() == AUDIENCE, "{}", answer.consumers.len());
    for stage in answer.stages {
        println!("  {:<9} {:.1} ms ({})", stage.stage, stage.milliseconds, stage.detail);
    }
    let answer =
        runtime.block_on(insights.insights("1", &InsightsRequest::default(), Viewer::Operator))?;
    println!("insights, {:?} consumers:", answer.sample.consumers);
    for stage in answer.stages {
        println!("  {:<9} {:.1} ms ({})", stage.stage, stage.milliseconds, stage.detail);
    }
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let mut number = 0;
    for limit in [100, AUDIENCE] {
        let name = format!("audience: {AUDIENCE} of {CONSUMERS} consumers ranked, {limit} shown");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                number += 1;
                black_box(runtime.block_on(audiences.audience(&request(number, limit)))).is_ok()
            });
        });
    }
    let more = memory("VmHWM:")?.saturating_sub(before);
    println!("audiences and insights took {more} kB more at most");
    anyhow::ensure!(more <= MOST_MEMORY, "that is more than {MOST_MEMORY} kB");
    criterion.final_summary();
    Ok(())
}

/// Writes made-up consumers and items.
async fn fill(storage: &Storage) -> anyhow::Result<()> {
    storage.ensure(WIDTH, WIDTH).await?;
    let mut random = StdRng::seed_from_u64(7);
    let vector = |random: &mut StdRng| -> Option<Vec<f32>> {
        Some((0..WIDTH).map(|_| random.random_range(-0.5..0.5)).collect())
    };
    let statistics = Statistics {
        count: HISTORY as u64,
        mean_rating: Some(3.5),
        expected_rating: Some(3.5),
        ..Statistics::default()
    };
    let items: Vec<ItemRecord> = (0..ITEMS)
        .map(|number| ItemRecord {
            id: ItemId::from_external(&number.to_string()),
            external_id: number.to_string(),
            title: format!("Item {number}"),
            attributes: Default::default(),
            text: String::new(),
            statistics,
            vector: vector(&mut random),
        })
        .collect();
    for part in items.chunks(1_000) {
        storage.write_items(part).await?;
    }
    for block in 0..CONSUMERS / 1_000 {
        let users: Vec<UserRecord> = (block * 1_000..(block + 1) * 1_000)
            .map(|number| {
                let history: Vec<HistoryEntry> = (0..HISTORY)
                    .map(|time| HistoryEntry {
                        item: items[random.random_range(0..ITEMS)].id,
                        rating: random.random_range(1..=5) as f32,
                        time: time as i64,
                    })
                    .collect();
                UserRecord {
                    id: UserId::from_external(&number.to_string()),
                    external_id: number.to_string(),
                    attributes: Default::default(),
                    seen: history.iter().map(|entry| entry.item).collect(),
                    history,
                    statistics,
                    vector: vector(&mut random),
                    taste: vector(&mut random).map(|weights| StoredTaste { bias: 0.1, weights }),
                    posted: Vec::new(),
                    revision: None,
                    settled: None,
                }
            })
            .collect();
        storage.write_users(&users).await?;
    }
    let settings = storage.settings();
    for name in [&settings.items, &settings.users] {
        storage.store().optimize(name).await?;
    }
    Ok(())
}

/// A size that the system tells of this process, in kilobytes.
fn memory(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
