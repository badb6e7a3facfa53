//! Whether audiences find those who will like an item: on MovieLens-100k every consumer's newest fifth is
//! held back before anything is learned; of each item's audience it is then counted who liked the item in
//! the part held back. Compared with the consumers who like most (popularity) and with the user vectors
//! nearest to the item alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::Installation;
use anyhow::{Context, Result};
use whyrank::artifacts::{ArtifactPaths, RerankModels};
use whyrank::audience::{AudienceRequest, AudienceSettings, Audiences};
use whyrank::features::RatingScale;
use whyrank::metrics::Metrics;
use whyrank::rerank::{RerankSettings, Reranker, RerankerParts};
use whyrank::storage::{Storage, StoreSettings};
use whyrank_models::metrics::{Interval, bootstrap};
use whyrank_models::ranker::calibration_error;
use whyrank_models::weights;
use whyrank_plugin::EmbeddedSettings;

/// The share of each consumer's interactions, the newest, that is held back.
const HELD: f64 = 0.2;
/// A rating from here on is a like.
const LIKE: f64 = 4.0;
/// Sizes of the audience that the precision is told at.
pub const CUTS: [usize; 3] = [10, 50, 100];
/// Width of vectors and codes.
const WIDTH: usize = 32;
/// What orders the consumers of an audience.
pub const METHODS: [&str; 3] = ["audience", "user vectors alone", "popularity"];

/// How much is learned from and looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Explanations that the template writes for training.
    pub explanations: usize,
    /// Rated pairs that networks learn from at most.
    pub maximum_pairs: usize,
    /// Items with fewer likers in the part held back are left out.
    pub least_likers: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The precision of each item: `[method][cut][item]`, in the order of [`METHODS`] and [`CUTS`].
    pub precision: Vec<Vec<Vec<f64>>>,
    /// How many were expected to take an item up and like it, in a time as long as the part held back.
    pub expected: f64,
    /// How many did.
    pub came: usize,
    /// Held-back ratings of consumers in an audience.
    pub ratings: usize,
    /// Calibration error of a like on them, before and after calibration.
    pub calibration_errors: [f64; 2],
}

impl Found {
    /// The mean precision of a method with its 95 % interval over items.
    ///
    /// # Errors
    /// When there are too few items.
    pub fn mean(&self, method: usize, cut: usize) -> Result<Interval> {
        bootstrap(&self.precision[method][cut], 0.95, 2_000, 1).context("items")
    }

    /// By how much the audience is better than a method, with its 95 % interval over items.
    ///
    /// # Errors
    /// When there are too few items.
    pub fn better_than(&self, method: usize, cut: usize) -> Result<Interval> {
        let pairs = self.precision[0][cut].iter().zip(&self.precision[method][cut]);
        let less: Vec<f64> = pairs.map(|(ours, theirs)| ours - theirs).collect();
        bootstrap(&less, 0.95, 2_000, 1).context("items")
    }
}

#[derive(Debug, Clone)]
struct Row {
    user: String,
    item: String,
    rating: f64,
    line: String,
}

/// The header, the rows learned from, and those held back.
fn divided() -> Result<(String, Vec<Row>, Vec<Row>)> {
    let text = std::fs::read_to_string(weights::require("movielens-100k", "ml-100k.inter")?)?;
    let header = text.lines().next().context("a header")?.to_owned();
    let mut of_user: BTreeMap<String, Vec<(f64, Row)>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [user, item, rating, time] = fields[..] else { continue };
        let row = Row {
            user: user.to_owned(),
            item: item.to_owned(),
            rating: rating.parse()?,
            line: line.to_owned(),
        };
        of_user.entry(row.user.clone()).or_default().push((time.parse()?, row));
    }
    let (mut learned, mut held) = (Vec::new(), Vec::new());
    for mut rows in of_user.into_values() {
        rows.sort_by(|l, r| l.0.total_cmp(&r.0).then_with(|| l.1.item.cmp(&r.1.item)));
        let kept = rows.len() - (rows.len() as f64 * HELD) as usize;
        let mut rows = rows.into_iter().map(|(_, row)| row);
        learned.extend(rows.by_ref().take(kept));
        held.extend(rows);
    }
    Ok((header, learned, held))
}

fn trained(header: &str, learned: &[Row], plan: &Plan) -> Result<Installation> {
    let installation = Installation::new()?;
    let rows: String = learned.iter().map(|row| format!("{}\n", row.line)).collect();
    std::fs::write(installation.path().join("interactions.tsv"), format!("{header}\n{rows}"))?;
    let users = weights::require("movielens-100k", "ml-100k.user")?;
    std::fs::copy(users, installation.path().join("users.tsv"))?;
    // Take-up is told for a time as long as the validation part's: as long as what is held back.
    let validation = HELD / (1.0 - HELD);
    let most = plan.maximum_pairs;
    installation.configure(&format!(
        "[split]\nvalidation = {validation}\n\n[training]\nmaximum_pairs = {most}\n"
    ))?;
    installation.succeed(&["import"])?;
    installation.succeed(&["train", "vectors"])?;
    let pairs = plan.explanations.to_string();
    installation.succeed(&["generate", "--generator", "template", "--pairs", &pairs])?;
    installation.succeed(&["train", "autoencoder", "explainer", "ranker"])?;
    Ok(installation)
}

/// Learns from the older part and looks at the newer one.
///
/// # Errors
/// When the data is not fetched, or a command fails.
pub async fn measure(plan: &Plan) -> Result<Found> {
    let (header, learned, held) = divided()?;
    let installation = trained(&header, &learned, plan)?;
    let embedded = EmbeddedSettings::in_folder(installation.path().join("store"));
    let storage = Storage::open(&StoreSettings { embedded, ..StoreSettings::default() }).await?;
    let paths = ArtifactPaths::new(installation.live_models()?);
    let reranker = Reranker::new(RerankerParts {
        storage: storage.clone(),
        settings: RerankSettings::default(),
        scale: RatingScale { like_from: LIKE as f32, dislike_to: 2.0, possible: [None, None] },
        code_dimension: WIDTH,
        models: Some(Arc::new(RerankModels::load(&paths, WIDTH, WIDTH)?)),
        cold_start: None,
        missing: None,
        freshness: whyrank::staleness::Freshness::default(),
        metrics: Metrics::new()?,
    });
    let audiences = Audiences::new(reranker, storage, None, AudienceSettings::default());

    let mut activity: HashMap<&str, usize> = HashMap::new();
    for row in learned.iter().filter(|row| row.rating >= LIKE) {
        *activity.entry(&row.user).or_default() += 1;
    }
    let mut likers: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    let mut ratings: HashMap<(&str, &str), f64> = HashMap::new();
    for row in &held {
        ratings.insert((&row.user, &row.item), row.rating);
        if row.rating >= LIKE {
            likers.entry(&row.item).or_default().insert(&row.user);
        }
    }
    likers.retain(|_, users| users.len() >= plan.least_likers);
    let mut precision = vec![vec![Vec::new(); CUTS.len()]; METHODS.len()];
    let (mut raw, mut calibrated, mut liked) = (Vec::new(), Vec::new(), Vec::new());
    let (mut expected, mut came) = (0.0, 0);
    for (item, likers) in &likers {
        let request = AudienceRequest {
            items: Some(vec![(*item).to_owned()]),
            limit: Some(1_000),
            candidates: Some(1_000),
            segments: Some(0),
            exclude_seen: Some(true),
            ..AudienceRequest::default()
        };
        let consumers = audiences.audience(&request).await?.consumers;
        expected += consumers
            .iter()
            .map(|one| f64::from(one.probability * one.take_up.unwrap_or(1.0)))
            .sum::<f64>();
        came += consumers.iter().filter(|one| likers.contains(&*one.user)).count();
        for consumer in &consumers {
            if let Some(rating) = ratings.get(&(consumer.user.as_str(), *item)) {
                raw.push(consumer.score);
                calibrated.push(consumer.probability);
                liked.push(*rating >= LIKE);
            }
        }
        let mut near = consumers.clone();
        near.sort_by_key(|consumer| consumer.retrieval_rank);
        let mut active = near.clone();
        active.sort_by_key(|one| {
            std::cmp::Reverse(activity.get(one.user.as_str()).copied().unwrap_or_default())
        });
        for (method, order) in [&consumers, &near, &active].into_iter().enumerate() {
            for (cut, size) in CUTS.into_iter().enumerate() {
                let found = order.iter().take(size).filter(|one| likers.contains(&*one.user));
                precision[method][cut].push(found.count() as f64 / size as f64);
            }
        }
    }
    Ok(Found {
        precision,
        expected,
        came,
        ratings: liked.len(),
        calibration_errors: [
            calibration_error(&raw, &liked),
            calibration_error(&calibrated, &liked),
        ],
    })
}
