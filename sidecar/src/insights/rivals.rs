//! The items that stand above the one asked about: how often, by what, and what speaks for them more.

use std::collections::BTreeMap;

use whyrank_plugin::{ExplanationRecord, ItemId, ItemRecord, UserId};

use super::Insights;
use super::influence::Bounds;
use super::publish::Publisher;
use super::request::Competitor;
use super::sample::Sample;
use super::themes::{held, title_words};
use crate::compare::{Difference, groups, in_words};
use crate::grouping::telling_words;
use crate::http::{ApiError, Cause, known_item};
use crate::rerank::{CampaignItem, Placed, Response};

/// Words that are told of what speaks for either.
const WORDS: usize = 3;
/// A group that makes up less of all differences than this is not won by anybody.
const NOTABLE: f32 = 0.1;

impl Insights {
    /// The named competitor, or those that outrank the item most often.
    pub(super) async fn competitors(
        &self,
        item: &ItemRecord,
        named: Option<&str>,
        sample: &Sample,
        written: &[ExplanationRecord],
        publisher: &Publisher,
        bounds: Bounds,
    ) -> Result<Vec<Competitor>, ApiError> {
        let rivals = match named {
            Some(named) => vec![self.named(item, named).await?],
            None => self.most_above(sample, publisher).await?,
        };
        let mut competitors = Vec::with_capacity(rivals.len());
        for rival in rivals {
            let texts = self.written(rival.id).await?;
            let campaign = [CampaignItem::stored(rival.clone())];
            let kind = Some(self.reranker.score());
            let responses = self.reranker.responses(sample.users.clone(), &campaign, kind).await?;
            let comparison = Comparison { item, rival: &rival, publisher, bounds };
            competitors.push(comparison.told(&sample.placed, &responses, [written, &texts]));
        }
        Ok(competitors)
    }

    async fn named(&self, item: &ItemRecord, named: &str) -> Result<ItemRecord, ApiError> {
        let rival = known_item(&self.storage, named).await?;
        if rival.id == item.id {
            let message = format!("`competitor` {named:?} is the item itself");
            return Err(ApiError::new(Cause::Invalid, message));
        }
        if rival.vector.is_none() {
            let message = format!("item {named:?} has no vector yet; run `whyrank train vectors`");
            return Err(ApiError::new(Cause::NotReady, message));
        }
        Ok(rival)
    }

    /// The items that stand above most often.
    async fn most_above(
        &self,
        sample: &Sample,
        publisher: &Publisher,
    ) -> Result<Vec<ItemRecord>, ApiError> {
        let mut counts: BTreeMap<ItemId, usize> = BTreeMap::new();
        for above in sample.placed.iter().flat_map(Placed::above) {
            *counts.entry(above).or_default() += 1;
        }
        let mut counts: Vec<(usize, ItemId)> = counts
            .into_iter()
            .filter_map(|(item, count)| {
                Some((publisher.count(&format!("above {item}"), count)?, item))
            })
            .collect();
        counts.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
        counts.truncate(self.settings.competitors);
        let ids: Vec<ItemId> = counts.into_iter().map(|(_, item)| item).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.storage.items(&ids).await?.into_iter().flatten().collect())
    }
}

/// Two items over the same consumers.
struct Comparison<'a> {
    item: &'a ItemRecord,
    rival: &'a ItemRecord,
    publisher: &'a Publisher,
    bounds: Bounds,
}

impl Comparison<'_> {
    fn told(
        &self,
        placed: &[Placed],
        responses: &[Response],
        written: [&[ExplanationRecord]; 2],
    ) -> Competitor {
        let label = |what: &str| format!("rival {} {what}", self.rival.id);
        let theirs: BTreeMap<UserId, _> = responses
            .iter()
            .filter_map(|response| Some((response.user, response.contributions?)))
            .collect();
        let pairs: Vec<_> = placed
            .iter()
            .filter_map(|placed| Some((placed.contributions, *theirs.get(&placed.user)?)))
            .collect();
        let above = pairs.iter().filter(|(own, theirs)| theirs.total() > own.total()).count();
        let above = self.publisher.count(&label("above"), above);
        let compared = self.publisher.count(&label("compared"), pairs.len());
        let share = above
            .zip(compared)
            .map(|(above, compared)| (above as f64 / compared.max(1) as f64).min(1.0));
        let differences = self.differences(&label("differences"), &pairs);
        let [you, they] = self.words(written);
        let sum: f32 = differences.iter().map(|difference| difference.value.abs()).sum();
        let won = |sign: f32| {
            let of = differences.iter().filter(move |difference| {
                sign * difference.value > 0.0 && difference.value.abs() >= NOTABLE * sum
            });
            let mut of: Vec<&Difference> = of.collect();
            of.sort_by(|left, right| right.value.abs().total_cmp(&left.value.abs()));
            of.into_iter().map(|difference| in_words(&difference.group).to_owned())
        };
        let they_win_on: Vec<String> = won(-1.0).chain(they).collect();
        let you_win_on: Vec<String> = won(1.0).chain(you).collect();
        let list = |words: &[String]| {
            if words.is_empty() { "nothing that stands out".to_owned() } else { words.join(", ") }
        };
        let summary = format!(
            "{:?} stands above with {}; they win on {}; you win on {}",
            self.rival.title,
            share.map_or_else(
                || "an untold share of the consumers".to_owned(),
                |share| format!("{:.0} % of the consumers", 100.0 * share)
            ),
            list(&they_win_on),
            list(&you_win_on)
        );
        Competitor {
            item: self.rival.external_id.clone(),
            title: self.rival.title.clone(),
            above,
            share_above: share,
            differences,
            they_win_on,
            you_win_on,
            summary,
        }
    }

    /// The mean difference of each input group.
    fn differences(
        &self,
        label: &str,
        pairs: &[(whyrank_plugin::Contributions, whyrank_plugin::Contributions)],
    ) -> Vec<Difference> {
        let count = pairs.first().map_or(0, |(own, _)| groups(own).len());
        let bound = self.bounds.score / 2.0;
        let mut differences: Vec<Difference> = (0..count)
            .filter_map(|group| {
                let values: Vec<f64> = pairs
                    .iter()
                    .map(|(own, theirs)| f64::from(groups(own)[group].1 - groups(theirs)[group].1))
                    .collect();
                let name = groups(&pairs[0].0)[group].0;
                let value =
                    self.publisher.mean(&format!("{label} {name}"), &values, -bound, bound)?;
                Some(Difference { group: name.to_owned(), value: value as f32 })
            })
            .collect();
        differences.sort_by(|left, right| right.value.total_cmp(&left.value));
        differences
    }

    /// The words that tell the reasons for the one from those for the other.
    fn words(&self, written: [&[ExplanationRecord]; 2]) -> [Vec<String>; 2] {
        if written.iter().any(|records| records.is_empty()) {
            return [Vec::new(), Vec::new()];
        }
        let groups = written.map(|records| {
            let texts = records.iter().map(|record| (record.user, &*record.explanation.positive));
            held(texts)
        });
        // What is written about the competitor is no part of what the publisher knows.
        let theirs = written[1].iter().map(|record| record.explanation.positive.as_str());
        let publisher = self.publisher.over(theirs);
        let mut titles = title_words(&self.item.title);
        titles.extend(title_words(&self.rival.title));
        let words = telling_words(&groups, 2, WORDS, |group, word, holders| {
            let label = format!("rival {} {group} word {word}", self.rival.id);
            !titles.contains(word) && publisher.common(&label, holders)
        });
        let mut words = words.into_iter();
        [words.next().unwrap_or_default(), words.next().unwrap_or_default()]
    }
}
