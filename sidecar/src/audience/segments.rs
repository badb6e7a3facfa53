//! Segments: consumers of an audience whose reasons are alike. The codes of both sides are grouped by
//! k-means with a fixed seed; a segment's words, its typical reason and the objection to answer are
//! the written texts whose codes lie nearest to its centre.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use linfa::DatasetBase;
use linfa::traits::{Fit, Predict};
use linfa_clustering::KMeans;
use ndarray_linfa::Array2;
use serde_json::json;
use whyrank_plugin::records::{ITEM_KEY, NEGATIVE_VECTOR, POSITIVE_VECTOR};
use whyrank_plugin::{Codes, ExplanationRecord, Filter, Search, Selection};

use super::{AudienceMember, Audiences, Segment, SegmentText};
use crate::http::ApiError;
use crate::rerank::{CampaignItem, Response};

/// A segment has at least this many consumers on average; smaller audiences have fewer segments.
const SMALLEST: usize = 5;
/// Written texts near a centre that its name is drawn from.
const TEXTS: usize = 20;
/// Words of a name.
const WORDS: usize = 3;
/// Shorter words say little about a reason.
const SHORTEST_WORD: usize = 4;

impl Audiences {
    /// Groups the consumers and tells each its segment.
    pub(super) async fn segments(
        &self,
        shown: &[Response],
        items: &[CampaignItem],
        wanted: usize,
        consumers: &mut [AudienceMember],
    ) -> Result<Vec<Segment>, ApiError> {
        let coded: Vec<(usize, Codes)> = shown
            .iter()
            .enumerate()
            .filter_map(|(place, response)| Some((place, response.codes.clone()?)))
            .collect();
        let count = wanted.min(coded.len() / SMALLEST);
        if count == 0 {
            return Ok(Vec::new());
        }
        let (places, codes): (Vec<usize>, Vec<Codes>) = coded.into_iter().unzip();
        // Pure computation, which must not hold up other requests.
        let clusters = tokio::task::spawn_blocking(move || cluster(&codes, count))
            .await
            .context("grouping an audience")??;
        let about = about(items)?;
        let mut near = Vec::with_capacity(clusters.len());
        for cluster in &clusters {
            let positive =
                self.nearest_texts(POSITIVE_VECTOR, &cluster.centre.positive, &about).await?;
            let negative =
                self.nearest_texts(NEGATIVE_VECTOR, &cluster.centre.negative, &about).await?;
            near.push((positive, negative));
        }
        let texts: Vec<Vec<&str>> = near
            .iter()
            .map(|(near, _)| near.iter().map(|r| r.explanation.positive.as_str()).collect())
            .collect();
        let names = names(&texts);
        let mut segments = Vec::with_capacity(clusters.len());
        for (number, (cluster, name)) in clusters.iter().zip(names).enumerate() {
            let mut sum = 0.0;
            for member in &cluster.members {
                let consumer = &mut consumers[places[*member]];
                consumer.segment = Some(number);
                sum += consumer.probability;
            }
            let (positive, negative) = &near[number];
            segments.push(Segment {
                name,
                size: cluster.members.len(),
                mean_probability: sum / cluster.members.len() as f32,
                typical: positive.first().map(|record| SegmentText {
                    text: record.explanation.positive.clone(),
                    item: record.item_external_id.clone(),
                }),
                objection: negative.first().map(|record| SegmentText {
                    text: record.explanation.negative.clone(),
                    item: record.item_external_id.clone(),
                }),
            });
        }
        Ok(segments)
    }

    /// The written explanations nearest to a code: of the items in question, or where nothing is
    /// written about them, of all.
    async fn nearest_texts(
        &self,
        vector: &str,
        centre: &[f32],
        about: &Option<Filter>,
    ) -> Result<Vec<ExplanationRecord>, ApiError> {
        let collection = &self.storage.settings().explanations;
        let mut filters = vec![about.clone()];
        if about.is_some() {
            filters.push(None);
        }
        for filter in filters {
            let search = Search {
                filter,
                selection: Selection::payload(),
                ..Search::new(vector, centre.to_vec(), TEXTS)
            };
            let found = self.storage.store().search(collection, search).await?;
            if !found.is_empty() {
                let records = found.into_iter().map(|hit| ExplanationRecord::from_point(hit.point));
                return Ok(records.collect::<Result<_, _>>().map_err(anyhow::Error::from)?);
            }
        }
        Ok(Vec::new())
    }
}

/// Explanations of the stored items of a campaign, if it has any.
fn about(items: &[CampaignItem]) -> Result<Option<Filter>> {
    let stored = items.iter().filter(|item| !item.external_id().is_empty());
    let stored: Vec<String> = stored.map(|item| item.id().to_string()).collect();
    if stored.is_empty() {
        return Ok(None);
    }
    let filter = json!({ "must": [{ "key": ITEM_KEY, "match": { "any": stored } }] });
    Ok(Some(Filter::from_json(filter)?))
}

/// Places of codes that belong together, and the mean of the codes.
#[derive(Debug, Clone, PartialEq)]
struct Cluster {
    members: Vec<usize>,
    centre: Codes,
}

/// At most `count` clusters, none of them empty, the largest first.
fn cluster(codes: &[Codes], count: usize) -> Result<Vec<Cluster>> {
    let width = codes.first().map_or(0, |codes| codes.positive.len());
    let values: Vec<f64> = codes
        .iter()
        .flat_map(|codes| codes.positive.iter().chain(&codes.negative).map(|v| f64::from(*v)))
        .collect();
    let table = Array2::from_shape_vec((codes.len(), 2 * width), values)
        .context("the codes are not all of one width")?;
    // `params` starts from a fixed seed: the same audience has the same segments.
    let model = KMeans::params(count).n_runs(3).fit(&DatasetBase::from(table.clone()))?;
    let labels = model.predict(&table);
    let mut clusters: Vec<Cluster> = (0..count)
        .map(|label| {
            let members: Vec<usize> =
                (0..codes.len()).filter(|place| labels[*place] == label).collect();
            let centre: Vec<f32> =
                model.centroids().row(label).iter().map(|value| *value as f32).collect();
            let (positive, negative) = centre.split_at(width);
            let centre = Codes { positive: positive.to_vec(), negative: negative.to_vec() };
            Cluster { members, centre }
        })
        .filter(|cluster| !cluster.members.is_empty())
        .collect();
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.members.len()));
    Ok(clusters)
}

/// For each group of texts the words that are in more of its texts than of the others'.
fn names(groups: &[Vec<&str>]) -> Vec<String> {
    let shares: Vec<HashMap<String, f64>> = groups.iter().map(|texts| shares(texts)).collect();
    let name = |group: usize| {
        let elsewhere = |word: &String| {
            let others = shares.iter().enumerate().filter(|(place, _)| *place != group);
            others.filter_map(|(_, share)| share.get(word)).copied().fold(0.0, f64::max)
        };
        let mut words: Vec<(f64, f64, &String)> = shares[group]
            .iter()
            .map(|(word, share)| (share - elsewhere(word), *share, word))
            .collect();
        // The word itself decides last, so that a name does not depend on the map's order.
        words.sort_by(|l, r| {
            r.0.total_cmp(&l.0).then(r.1.total_cmp(&l.1)).then_with(|| l.2.cmp(r.2))
        });
        let words: Vec<&str> = words.iter().take(WORDS).map(|(_, _, word)| word.as_str()).collect();
        if words.is_empty() { format!("segment {}", group + 1) } else { words.join(", ") }
    };
    (0..groups.len()).map(name).collect()
}

/// The share of texts that have each word.
fn shares(texts: &[&str]) -> HashMap<String, f64> {
    let mut shares = HashMap::new();
    for text in texts {
        let words: HashSet<String> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() >= SHORTEST_WORD)
            .map(str::to_lowercase)
            .collect();
        for word in words {
            *shares.entry(word).or_insert(0.0) += 1.0 / texts.len() as f64;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_lie_apart_are_told_apart_the_same_way_each_time() {
        let code = |place: usize| {
            let side = if place.is_multiple_of(3) { 1.0 } else { -1.0 };
            let jitter = place as f32 * 1e-3;
            Codes { positive: vec![side + jitter, 0.0], negative: vec![0.0, side] }
        };
        let codes: Vec<Codes> = (0..30).map(code).collect();
        let clusters = cluster(&codes, 2).unwrap();
        assert_eq!(clusters.iter().map(|c| c.members.len()).collect::<Vec<_>>(), [20, 10]);
        assert!(clusters[1].members.iter().all(|place| place.is_multiple_of(3)));
        assert!((clusters[1].centre.negative[1] - 1.0).abs() < 1e-5);
        assert_eq!(clusters, cluster(&codes, 2).unwrap());
    }

    #[test]
    fn a_name_is_made_of_the_words_that_set_a_group_apart() {
        let groups = [
            vec!["you like Space battles", "you like space travel"],
            vec!["you like quiet drama", "you like drama"],
        ];
        let names = names(&groups);
        assert!(names[0].starts_with("space"), "{names:?}");
        assert!(names[1].starts_with("drama"), "{names:?}");
    }
}
