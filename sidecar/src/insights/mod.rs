//! Insights: why an item ranks where it ranks, over the consumers for whom it is a candidate. What
//! consumers say is grouped into themes, and what would change is computed with the real ranker.

mod distribution;
mod influence;
#[cfg(test)]
mod privacy_tests;
mod publish;
mod releases;
mod request;
mod rivals;
mod sample;
mod telling;
mod themes;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use whyrank_plugin::secret::Secret;
use whyrank_plugin::{ExplanationRecord, ItemRecord};

pub use request::{
    Anonymity, Bucket, Competitor, Distribution, Effect, Estimate, Influence, InsightsRequest,
    InsightsResponse, SampleReport, Theme, TrendPeriod, WhatIf,
};

use self::influence::{Bounds, Moved};
use self::publish::{Noise, Publisher};
use self::sample::Sample;
use self::telling::{Measured, Telling};
use self::themes::{Side, Themes, Written};
use crate::audience::Clock;
use crate::computation::{Waited, compute};
use crate::http::{ApiError, Cause, known_item};
use crate::rerank::{Placed, Reranker};
use crate::storage::Storage;

/// Limits and choices of insights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InsightsSettings {
    /// The most consumers of the sample: for whom the item is a candidate.
    pub consumers: usize,
    /// The most consumers that a request may ask for.
    pub maximum_consumers: usize,
    /// The consumers nearest to the item that the sample is drawn from.
    pub pool: usize,
    /// The most written explanations of an item that are read.
    pub explanations: usize,
    /// The most themes of each side.
    pub themes: usize,
    /// The most themes that a request may ask for.
    pub maximum_themes: usize,
    /// Competitors that are shown.
    pub competitors: usize,
    /// Spans of time of a trend.
    pub periods: usize,
    /// Objections of others that are tried in the place of one that is answered.
    pub answers: usize,
    /// Resamples of the bootstrap behind the interval of an estimate.
    pub resamples: usize,
    /// What fewer consumers have in common is not told to a seller.
    pub minimum_consumers: usize,
    /// How much a number told to a seller may depend on one consumer: the epsilon of differential
    /// privacy. Less hides more.
    pub epsilon: f64,
    /// What the noise in numbers told to sellers is made from; needed where a key has the role `seller`.
    pub noise_secret: Option<Secret>,
    /// A file with that secret, read once at start: under another secret the noise is another and could be
    /// averaged away. Instead of `noise_secret`.
    pub noise_secret_file: Option<PathBuf>,
    /// Hours for which sellers are told the same about an item, whatever changes meanwhile; 0 makes a new
    /// answer with every change, whose noise can be averaged away.
    pub release_hours: u64,
    /// Seconds after which a request is given up.
    pub timeout_seconds: u64,
}

impl Default for InsightsSettings {
    fn default() -> Self {
        Self {
            consumers: 200,
            maximum_consumers: 2_000,
            pool: 1_000,
            explanations: 2_000,
            themes: 4,
            maximum_themes: 20,
            competitors: 3,
            periods: 6,
            answers: 24,
            resamples: 1_000,
            minimum_consumers: 10,
            epsilon: 0.5,
            noise_secret: None,
            noise_secret_file: None,
            release_hours: 24,
            timeout_seconds: 60,
        }
    }
}

/// For whom an answer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who may see everything.
    Operator,
    /// A seller, from whom single consumers are hidden.
    Seller,
}

/// Answers questions about items. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Insights {
    reranker: Reranker,
    storage: Storage,
    settings: InsightsSettings,
    /// Held while what sellers are told about an item is read or made.
    releasing: Arc<[Mutex<()>; LOCKS]>,
}

/// Locks for all items.
const LOCKS: usize = 64;

impl Insights {
    /// Over the reranker's models.
    pub fn new(reranker: Reranker, storage: Storage, settings: InsightsSettings) -> Self {
        Self {
            reranker,
            storage,
            settings,
            releasing: Arc::new([const { Mutex::const_new(()) }; LOCKS]),
        }
    }

    /// Seconds after which a request is given up.
    pub fn timeout_seconds(&self) -> u64 {
        self.settings.timeout_seconds
    }

    /// Why an item ranks where it ranks.
    ///
    /// # Errors
    /// When an item is unknown or has no vector, a number is out of its limits, there is no trained
    /// ranker, or the store cannot be read.
    pub async fn insights(
        &self,
        item: &str,
        request: &InsightsRequest,
        viewer: Viewer,
    ) -> Result<InsightsResponse, ApiError> {
        // What a seller may name is chosen from what a seller is told anyway: each further item would be a
        // further number about the same consumers.
        if viewer == Viewer::Seller {
            return self.released(item, request).await;
        }
        self.answered(item, request, viewer).await
    }

    /// An answer from the data as they are now.
    async fn answered(
        &self,
        item: &str,
        request: &InsightsRequest,
        viewer: Viewer,
    ) -> Result<InsightsResponse, ApiError> {
        // Placed and moved items are compared, so that one version of the models must do both.
        let pinned = Self { reranker: self.reranker.pinned(), ..self.clone() };
        pinned.told(item, request, viewer).await
    }

    async fn told(
        &self,
        item: &str,
        request: &InsightsRequest,
        viewer: Viewer,
    ) -> Result<InsightsResponse, ApiError> {
        let mut clock = Clock::start();
        let (consumers, wanted) = self.limits(request)?;
        let item = known_item(&self.storage, item).await?;
        if item.vector.is_none() {
            let id = &item.external_id;
            let message = format!("item {id:?} has no vector yet; run `whyrank train vectors`");
            return Err(ApiError::new(Cause::NotReady, message));
        }
        let sample = Arc::new(self.sample(&item, consumers).await?);
        let (drawn, number) = (sample.drawn, sample.placed.len());
        clock.lap("sample", format!("candidate for {number} of {drawn} consumers"));
        let own = self.written(item.id).await?;
        let others = self.written_of_others(item.id).await?;
        clock.lap("read", format!("{} explanations", own.len() + others.len()));
        let publisher = self.publisher(viewer, &item, &sample, &own)?;
        let written = Arc::new(Written { own, others });
        let [positive, negative] = [
            self.themes(Side::Positive, &item, &sample, &written, wanted).await?,
            self.themes(Side::Negative, &item, &sample, &written, wanted).await?,
        ];
        clock.lap(
            "themes",
            format!("{} for, {} against", positive.found.len(), negative.found.len()),
        );
        let bounds = self.bounds();
        let work = Work {
            insights: self.clone(),
            sample: sample.clone(),
            written: written.clone(),
            bounds,
        };
        let told = publisher.clone();
        // Pure computation of up to seconds, which must not hold up other requests.
        let (moved, measured, positive, negative) = compute("measuring reasons", move |waited| {
            let moved = influence::moved(&work.insights.reranker, &work.sample.placed, waited)?;
            let measured = [
                work.measure(&positive, &moved, &told, waited)?,
                work.measure(&negative, &moved, &told, waited)?,
            ];
            Ok::<_, ApiError>((moved, measured, positive, negative))
        })
        .await??;
        clock.lap("change", format!("{} consumers ranked again", moved.len()));
        let named = request.competitor.as_deref();
        let competitors =
            self.competitors(&item, named, &sample, &written.own, &publisher, bounds).await?;
        clock.lap("compare", format!("{} competitors", competitors.len()));
        let telling = Telling {
            item: &item,
            written: &written,
            publisher: &publisher,
            bound: bounds.score,
            periods: self.settings.periods,
        };
        let [for_it, against_it] = measured;
        let ranks: Vec<f64> = sample.placed.iter().map(|placed| placed.rank as f64).collect();
        let scores: Vec<f64> =
            sample.placed.iter().map(|placed| f64::from(placed.judgement)).collect();
        let candidates = sample.placed.iter().map(Placed::candidates).max().unwrap_or_default();
        let (low, high) = self.reranker.judgement_bounds();
        let most = self.reranker.candidates() as f64;
        Ok(InsightsResponse {
            anonymity: publisher.minimum().map(|minimum_consumers| Anonymity {
                minimum_consumers,
                note: format!(
                    "single consumers are hidden: counts are rounded down to multiples of \
                     {minimum_consumers}, all numbers have noise, and what too few have in common is \
                     left out"
                ),
            }),
            sample: SampleReport {
                drawn: publisher.count("drawn", sample.drawn),
                consumers: publisher.count("consumers", sample.placed.len()),
                candidates: if publisher.hides() { self.reranker.candidates() } else { candidates },
                explanations: publisher.count("explanations", written.own.len()),
            },
            rank: distribution::ranks(&ranks, most, &publisher),
            score: distribution::scores(&scores, low, high, &publisher),
            influence: influence::influence(&moved, &publisher, bounds),
            themes_for: telling.themes(&positive, for_it),
            themes_against: telling.themes(&negative, against_it),
            competitors,
            stages: if publisher.hides() { Vec::new() } else { clock.reports },
            item: item.external_id,
            title: item.title,
        })
    }

    fn limits(&self, request: &InsightsRequest) -> Result<(usize, usize), ApiError> {
        let settings = &self.settings;
        let bound = |what: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                return Ok(value);
            }
            let message = format!(
                "`{what}` is {value}; it must be from 1 to {most} (`insights.maximum_{what}`)"
            );
            Err(ApiError::new(Cause::Invalid, message))
        };
        let consumers = request.consumers.unwrap_or(settings.consumers);
        let themes = request.themes.unwrap_or(settings.themes);
        Ok((
            bound("consumers", consumers, settings.maximum_consumers)?,
            bound("themes", themes, settings.maximum_themes)?,
        ))
    }

    /// What may be told to whom.
    fn publisher(
        &self,
        viewer: Viewer,
        item: &ItemRecord,
        sample: &Sample,
        written: &[ExplanationRecord],
    ) -> Result<Publisher, ApiError> {
        if viewer == Viewer::Operator {
            return Ok(Publisher::Whole);
        }
        let InsightsSettings { minimum_consumers, epsilon, noise_secret, .. } = &self.settings;
        let secret =
            noise_secret.as_ref().filter(|secret| !secret.is_empty()).ok_or_else(|| {
                let message = "sellers can be answered when `insights.noise_secret` is set";
                ApiError::new(Cause::NotReady, message)
            })?;
        let data = sample::digest(item.id, sample, written);
        Ok(Publisher::Anonymous(Noise::new(*minimum_consumers, *epsilon, secret.expose(), &data)))
    }

    /// The greatest changes that count in what sellers are told: without a bound one consumer could
    /// move a mean as far as noise cannot hide.
    fn bounds(&self) -> Bounds {
        let (low, high) = self.reranker.judgement_bounds();
        Bounds { score: (high - low) / 2.0, places: self.reranker.candidates() as f64 / 4.0 }
    }
}

/// What is measured on the sample.
struct Work {
    insights: Insights,
    sample: Arc<Sample>,
    written: Arc<Written>,
    bounds: Bounds,
}

impl Work {
    /// What moves with those who hold each theme, and what would if it were answered.
    fn measure(
        &self,
        themes: &Themes,
        moved: &[Moved],
        publisher: &Publisher,
        waited: &Waited,
    ) -> Result<Vec<Measured>, ApiError> {
        let Themes { side, reasons, found } = themes;
        let mut measured = Vec::with_capacity(found.len());
        for (number, theme) in found.iter().enumerate() {
            let places: Vec<usize> =
                theme.members.iter().filter_map(|member| reasons[*member].placed).collect();
            let of = |place: &usize| match side {
                Side::Positive => moved[*place].positive.score,
                Side::Negative => moved[*place].negative.score,
            };
            let effects = places.iter().map(of).collect();
            let mut if_answered = None;
            if *side == Side::Negative {
                let holders: Vec<&Placed> =
                    places.iter().map(|place| &self.sample.placed[*place]).collect();
                let most = self.insights.settings.answers;
                let answers = themes.answers(number, most, &self.written);
                let changes =
                    influence::answered(&self.insights.reranker, &holders, &answers, waited)?;
                let label = format!("{} {number} answered", side.name());
                let resamples = self.insights.settings.resamples;
                if_answered =
                    influence::what_if(&label, &changes, resamples, publisher, self.bounds);
            }
            measured.push(Measured { effects, if_answered });
        }
        Ok(measured)
    }
}
