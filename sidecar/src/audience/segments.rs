//! Segments: consumers of an audience whose reasons are alike. The codes of both sides are grouped by
//! k-means with a fixed seed; a segment's words, its typical reason and the objection to answer are
//! the written texts whose codes lie nearest to its centre.

use anyhow::{Context, Result};
use serde_json::json;
use whyrank_plugin::records::{ITEM_KEY, NEGATIVE_VECTOR, POSITIVE_VECTOR};
use whyrank_plugin::{Codes, ExplanationRecord, Filter, Search, Selection};

use super::{AudienceMember, Audiences, Segment, SegmentText};
use crate::grouping::{self, Held};
use crate::http::ApiError;
use crate::rerank::{CampaignItem, Response};

/// A segment has at least this many consumers on average; smaller audiences have fewer segments.
pub(super) const SMALLEST: usize = 5;
/// Written texts near a centre that its name is drawn from.
const TEXTS: usize = 20;
/// Words of a name.
const WORDS: usize = 3;

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
        let described = self.described(&clusters, &about).await?;
        let mut segments = Vec::with_capacity(clusters.len());
        for (number, (cluster, described)) in clusters.iter().zip(described).enumerate() {
            let mut sum = 0.0;
            for member in &cluster.members {
                let consumer = &mut consumers[places[*member]];
                consumer.segment = Some(number);
                sum += consumer.probability;
            }
            segments.push(Segment {
                name: described.name,
                size: cluster.members.len(),
                mean_probability: sum / cluster.members.len() as f32,
                typical: described.typical,
                objection: described.objection,
            });
        }
        Ok(segments)
    }

    /// Name, typical reason and objection of each cluster: the written texts nearest to its centre.
    pub(super) async fn described(
        &self,
        clusters: &[Cluster],
        about: &Option<Filter>,
    ) -> Result<Vec<Described>, ApiError> {
        let mut near = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            let positive =
                self.nearest_texts(POSITIVE_VECTOR, &cluster.centre.positive, about).await?;
            let negative =
                self.nearest_texts(NEGATIVE_VECTOR, &cluster.centre.negative, about).await?;
            near.push((positive, negative));
        }
        let texts: Vec<Vec<&str>> = near
            .iter()
            .map(|(near, _)| near.iter().map(|r| r.explanation.positive.as_str()).collect())
            .collect();
        let text = |text: &str, record: &ExplanationRecord| SegmentText {
            text: text.to_owned(),
            item: record.item_external_id.clone(),
        };
        let described =
            names(&texts).into_iter().zip(&near).map(|(name, (positive, negative))| Described {
                name,
                typical: positive.first().map(|r| text(&r.explanation.positive, r)),
                objection: negative.first().map(|r| text(&r.explanation.negative, r)),
            });
        Ok(described.collect())
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
pub(super) fn about(items: &[CampaignItem]) -> Result<Option<Filter>> {
    let stored = items.iter().filter(|item| !item.external_id().is_empty());
    let stored: Vec<String> = stored.map(|item| item.id().to_string()).collect();
    if stored.is_empty() {
        return Ok(None);
    }
    let filter = json!({ "must": [{ "key": ITEM_KEY, "match": { "any": stored } }] });
    Ok(Some(Filter::from_json(filter)?))
}

/// What is said in a cluster.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) typical: Option<SegmentText>,
    pub(super) objection: Option<SegmentText>,
}

/// Places of codes that belong together, and the mean of the codes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cluster {
    pub(super) members: Vec<usize>,
    pub(super) centre: Codes,
}

/// At most `count` clusters, none of them empty, the largest first.
pub(super) fn cluster(codes: &[Codes], count: usize) -> Result<Vec<Cluster>> {
    let width = codes.first().map_or(0, |codes| codes.positive.len());
    let both: Vec<Vec<f32>> =
        codes.iter().map(|codes| [codes.positive.as_slice(), &codes.negative].concat()).collect();
    let clusters = grouping::group(&both, count)?.into_iter().map(|group| {
        let (positive, negative) = group.centre.split_at(width);
        let centre = Codes { positive: positive.to_vec(), negative: negative.to_vec() };
        Cluster { members: group.members, centre }
    });
    Ok(clusters.collect())
}

/// For each group of texts the words that set it apart from the others.
fn names(groups: &[Vec<&str>]) -> Vec<String> {
    let held: Vec<Vec<Held<'_>>> = groups
        .iter()
        .map(|texts| texts.iter().enumerate().map(|(holder, text)| Held { holder, text }).collect())
        .collect();
    let words = grouping::telling_words(&held, held.len(), WORDS, |_, _, _| true);
    let name = |(number, words): (usize, Vec<String>)| {
        if words.is_empty() { format!("segment {}", number + 1) } else { words.join(", ") }
    };
    words.into_iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_a_centre_of_both_sides() {
        let code = |place: usize| {
            let side = if place.is_multiple_of(3) { 1.0 } else { -1.0 };
            Codes { positive: vec![side, 0.0], negative: vec![0.0, side] }
        };
        let codes: Vec<Codes> = (0..30).map(code).collect();
        let clusters = cluster(&codes, 2).unwrap();
        assert_eq!(clusters.iter().map(|c| c.members.len()).collect::<Vec<_>>(), [20, 10]);
        assert!((clusters[1].centre.negative[1] - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_segment_without_telling_words_is_numbered() {
        let names = names(&[vec!["space battles"], vec!["of"]]);
        assert_eq!(names, ["battles, space", "segment 2"]);
    }
}
