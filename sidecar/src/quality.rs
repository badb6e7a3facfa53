//! How good the written explanations are: a random sample of what is stored, held against what its writer
//! was told and against the catalogue. Nothing is written or changed.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use whyrank_models::metrics::{Interval, bootstrap};
use whyrank_models::progress::Progress;
use whyrank_plugin::{ExplanationRecord, ItemId, ItemRecord, Provenance, Source};

use crate::generator::{Review, TEMPLATE, title_as_named};
use crate::queue::label_time;
use crate::storage::Storage;
use crate::writing::{Pair, PairWriter};

/// Decides which explanations are looked at and the bootstrap's samples.
const SEED: u64 = 42;
/// Resamples of the bootstrap.
const RESAMPLES: usize = 2_000;
/// Of intervals.
const CONFIDENCE: f64 = 0.95;
/// Texts with an unknown title that a report shows.
const SHOWN: usize = 5;
/// Titles of fewer words are words of the language, too.
const TITLE_WORDS: usize = 2;
/// As are shorter ones.
const TITLE_CHARACTERS: usize = 8;

/// Who wrote an explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// An LLM.
    Llm,
    /// The template, after every text of an LLM was refused.
    StandIn,
    /// The template, which alone was asked.
    Template,
}

impl Author {
    const ALL: [Self; 3] = [Self::Llm, Self::StandIn, Self::Template];

    fn of(provenance: &Provenance) -> Self {
        let asked = provenance.generator.split_once('/').map_or("", |(kind, _)| kind);
        match provenance.source {
            Source::Llm => Self::Llm,
            Source::Template if asked == TEMPLATE => Self::Template,
            Source::Template => Self::StandIn,
        }
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llm => "LLM",
            Self::StandIn => "template in place of an LLM",
            Self::Template => "template",
        }
    }
}

/// The explanations of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityOf {
    /// Who wrote them.
    pub source: Author,
    /// Explanations looked at.
    pub explanations: usize,
    /// Of those, whose evidence is still what the writer was told. Only these can be held against it.
    pub comparable: usize,
    /// Share that validation accepted at the first attempt.
    pub accepted_at_once: Option<Interval>,
    /// Attempts, on average.
    pub attempts: f64,
    /// Share of sides that refer to the item, the evidence or the consumer.
    pub grounded: Option<Interval>,
    /// Share of sides that name an item of the consumer's own, which the evidence holds.
    pub names_evidence: Option<Interval>,
    /// Words that both sides have in common, of those of the shorter one.
    pub shared_words: Option<Interval>,
    /// Share that validation would refuse today.
    pub refused: Option<Interval>,
    /// Why, and how often.
    pub refusals: BTreeMap<String, usize>,
    /// Share that names a title of the catalogue that the writer was not told of.
    pub unknown_titles: Option<Interval>,
    /// Some of those: the title and the text.
    pub examples: Vec<UnknownTitle>,
}

/// A text with a title that its writer was not told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownTitle {
    /// The title, as the catalogue has it.
    pub title: String,
    /// The side that names it.
    pub text: String,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityReport {
    /// Explanations in the store.
    pub stored: usize,
    /// Explanations looked at.
    pub sample: usize,
    /// Of those that an LLM was asked for, the share that the template wrote because every text was refused.
    pub given_up: Option<Interval>,
    /// By source, where there are any.
    pub sources: Vec<QualityOf>,
}

/// Finds titles of a catalogue in texts.
struct Catalogue {
    titles: Vec<String>,
    finder: AhoCorasick,
}

impl Catalogue {
    fn new<'a>(titles: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut titles: Vec<String> = titles.map(title_as_named).collect();
        titles.retain(|title| {
            title.split_whitespace().count() >= TITLE_WORDS
                && title.chars().count() >= TITLE_CHARACTERS
        });
        titles.sort_unstable();
        titles.dedup();
        // The longest counts, so that a title within another one is not taken for it. The spelling counts
        // too: in lower case, words of a title are ordinary words.
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&titles);
        Ok(Self { finder: finder.context("the titles of the catalogue")?, titles })
    }

    /// The first title in the text that is not told.
    fn unknown(&self, text: &str, told: &[String]) -> Option<&str> {
        let whole = |found: &aho_corasick::Match| {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        };
        self.finder
            .find_iter(text)
            .filter(whole)
            .map(|found| self.titles[found.pattern().as_usize()].as_str())
            .find(|title| !told.iter().any(|told| told.contains(title)))
    }
}

/// Looks at up to `sample` explanations.
///
/// # Errors
/// When the store cannot be read.
pub async fn quality(
    storage: &Storage,
    writer: &PairWriter,
    sample: usize,
    progress: &dyn Progress,
) -> Result<QualityReport> {
    let (stored, records) = sampled(storage, sample).await?;
    let items: HashMap<ItemId, ItemRecord> =
        storage.all_items().await?.into_iter().map(|item| (item.id, item)).collect();
    let catalogue = Catalogue::new(items.values().map(|item| item.title.as_str()))?;
    let mut found: HashMap<Author, Vec<Looked>> = HashMap::new();
    progress.begin("looking at explanations", records.len() as u64);
    let mut sample = 0;
    for record in records {
        // What was looked at until an interrupt is a random choice, too.
        if progress.cancelled() {
            break;
        }
        let review = review(storage, writer, &items, &record).await?;
        let unknown = review.as_ref().and_then(|review| {
            let sides = [&record.explanation.positive, &record.explanation.negative];
            sides.into_iter().find_map(|text| {
                let title = catalogue.unknown(text, &review.told)?.to_owned();
                Some(UnknownTitle { title, text: text.clone() })
            })
        });
        let author = Author::of(&record.provenance);
        let accepted_at_once = author != Author::StandIn && record.provenance.attempts <= 1;
        let attempts = record.provenance.attempts;
        let looked = Looked { attempts, accepted_at_once, review, unknown };
        found.entry(author).or_default().push(looked);
        sample += 1;
        progress.advance(sample as u64);
    }
    progress.end();
    let count = |author| found.get(&author).map_or(0, Vec::len);
    let mut given_up = vec![0.0; count(Author::Llm)];
    given_up.resize(given_up.len() + count(Author::StandIn), 1.0);
    let sources = Author::ALL
        .into_iter()
        .filter_map(|author| found.remove(&author).map(|looked| summary(author, looked)))
        .collect();
    Ok(QualityReport { stored, sample, given_up: share(&given_up), sources })
}

/// An explanation that was looked at.
struct Looked {
    attempts: u32,
    accepted_at_once: bool,
    review: Option<Review>,
    unknown: Option<UnknownTitle>,
}

/// Every explanation is as likely to be chosen as any other.
async fn sampled(storage: &Storage, sample: usize) -> Result<(usize, Vec<ExplanationRecord>)> {
    let mut random = StdRng::seed_from_u64(SEED);
    let (mut seen, mut kept) = (0, Vec::new());
    let take = |record| {
        seen += 1;
        if kept.len() < sample {
            kept.push(record);
        } else if let Some(place) = kept.get_mut(random.random_range(0..seen)) {
            *place = record;
        }
    };
    storage.each_explanation(None, take).await?;
    Ok((seen, kept))
}

/// The text held against what its writer was told; nothing if that is no longer known.
async fn review(
    storage: &Storage,
    writer: &PairWriter,
    items: &HashMap<ItemId, ItemRecord>,
    record: &ExplanationRecord,
) -> Result<Option<Review>> {
    let Some(item) = items.get(&record.item) else { return Ok(None) };
    let Some(user) = storage.user(record.user).await? else { return Ok(None) };
    let pair = Pair { user: &user, item, before: label_time(&user, item.id) };
    writer.review(pair, record).await
}

fn summary(source: Author, looked: Vec<Looked>) -> QualityOf {
    let at_once: Vec<f64> = looked.iter().map(|one| f64::from(one.accepted_at_once)).collect();
    let attempts: f64 = looked.iter().map(|one| f64::from(one.attempts)).sum();
    let reviews: Vec<&Review> = looked.iter().filter_map(|one| one.review.as_ref()).collect();
    let over = |values: Vec<f64>| share(&values);
    let both = |value: fn(&Review) -> [bool; 2]| {
        over(reviews.iter().map(|review| mean_of(value(review))).collect())
    };
    let mut refusals = BTreeMap::new();
    for refusal in reviews.iter().flat_map(|review| &review.refusals) {
        *refusals.entry(refusal.reason().to_owned()).or_default() += 1;
    }
    let unknown = looked.iter().filter(|one| one.review.is_some());
    let unknown = unknown.map(|one| f64::from(one.unknown.is_some())).collect();
    QualityOf {
        source,
        explanations: looked.len(),
        comparable: reviews.len(),
        accepted_at_once: share(&at_once),
        attempts: attempts / looked.len().max(1) as f64,
        grounded: both(|review| review.grounded),
        names_evidence: both(|review| review.names_evidence),
        shared_words: over(reviews.iter().map(|review| review.shared_words).collect()),
        refused: over(reviews.iter().map(|r| f64::from(!r.refusals.is_empty())).collect()),
        refusals,
        unknown_titles: over(unknown),
        examples: looked.iter().filter_map(|one| one.unknown.clone()).take(SHOWN).collect(),
    }
}

fn mean_of(sides: [bool; 2]) -> f64 {
    f64::from(u8::from(sides[0]) + u8::from(sides[1])) / 2.0
}

/// A share or a mean over the sample; nothing for an empty one.
fn share(values: &[f64]) -> Option<Interval> {
    bootstrap(values, CONFIDENCE, RESAMPLES, SEED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_titles_that_were_not_told_and_are_no_ordinary_words_count() {
        let titles = [
            "Star Wars (1977)",
            "Godfather, The (1972)",
            "The Empire Strikes Back",
            "Alien (1979)",
        ];
        let catalogue = Catalogue::new(titles.into_iter()).unwrap();
        let told = vec!["Star Wars".to_owned()];
        let unknown = |text: &str| catalogue.unknown(text, &told);
        assert_eq!(unknown("You liked Star Wars, and this is like it."), None);
        assert_eq!(unknown("You liked The Godfather a lot."), Some("The Godfather"));
        assert_eq!(unknown("You disliked an alien, and star wars at that."), None);
        assert_eq!(unknown("In Star Warship there are none."), None);
        assert_eq!(
            unknown("Unlike The Empire Strikes Back, it is quiet."),
            Some("The Empire Strikes Back")
        );
    }

    #[test]
    fn a_template_in_place_of_an_llm_is_told_from_one_that_was_asked_for() {
        let author = |generator: &str, source| {
            Author::of(&Provenance {
                generator: generator.to_owned(),
                prompt_version: String::new(),
                profile_version: String::new(),
                source,
                seed: 0,
                attempts: 1,
                written_at: 0,
            })
        };
        assert_eq!(author("mistralrs/one@1", Source::Llm), Author::Llm);
        assert_eq!(author("mistralrs/one@1", Source::Template), Author::StandIn);
        assert_eq!(author("template/template@1", Source::Template), Author::Template);
    }

    #[test]
    fn shares_have_intervals_around_them_and_nothing_has_none() {
        assert_eq!(share(&[]), None);
        let half: Vec<f64> = (0..200).map(|number| f64::from(number % 2)).collect();
        let Interval { mean, low, high } = share(&half).unwrap();
        assert!(mean == 0.5 && low < 0.5 && low > 0.4 && high > 0.5 && high < 0.6);
        assert_eq!(mean_of([true, false]), 0.5);
    }
}
