//! Two campaigns side by side: whom both reach, and what sets their audiences apart. The consumers of
//! both are grouped together, so that a segment means the same in both.

use std::collections::{BTreeSet, HashMap};

use anyhow::Context;
use whyrank_plugin::UserId;

use super::compare_request::{
    AudienceComparisonRequest, AudienceComparisonResponse, AudienceOverlap, AudienceSummary,
    ComparedSegment,
};
use super::segments::{SMALLEST, about, cluster};
use super::{AudienceRequest, Audiences, Clock, Found};
use crate::compare::{Difference, groups, in_words};
use crate::http::ApiError;
use crate::rerank::CampaignItem;

impl Audiences {
    /// How the audiences of two campaigns overlap, and what differs.
    ///
    /// # Errors
    /// As [`Audiences::audience`], for either of them.
    pub async fn compare(
        &self,
        request: &AudienceComparisonRequest,
    ) -> Result<AudienceComparisonResponse, ApiError> {
        let mut clock = Clock::start();
        let mut found = Vec::with_capacity(2);
        for (name, one) in [("first", &request.first), ("second", &request.second)] {
            let audience = self.found(one, &mut Clock::start()).await.map_err(|error| {
                ApiError::new(error.cause, format!("`{name}`: {}", error.message))
            })?;
            clock.lap(name, format!("{} consumers", audience.shown.len()));
            found.push(audience);
        }
        let segments = self.compared_segments(&found, request.segments).await?;
        clock.lap("segments", format!("{} segments", segments.len()));
        let overlap = overlap(&found[0], &found[1]);
        let differences = differences(&found[0], &found[1]);
        let first = summary(&request.first, &found[0]);
        let second = summary(&request.second, &found[1]);
        let summary = in_one_sentence(&overlap, &segments, &differences);
        clock.lap("answer", format!("{} in both", overlap.consumers));
        let stages = clock.reports;
        Ok(AudienceComparisonResponse {
            first,
            second,
            overlap,
            segments,
            differences,
            summary,
            stages,
        })
    }

    /// The consumers of both audiences grouped by their reasons. A consumer of both is grouped once for
    /// each, because the reasons are about different items.
    async fn compared_segments(
        &self,
        found: &[Found],
        wanted: Option<usize>,
    ) -> Result<Vec<ComparedSegment>, ApiError> {
        let wanted = self.bounded_segments(wanted)?;
        let (mut sides, mut users, mut codes) = (Vec::new(), Vec::new(), Vec::new());
        for (side, audience) in found.iter().enumerate() {
            for response in &audience.shown {
                let Some(code) = response.codes.clone() else { continue };
                sides.push(side);
                users.push(response.user);
                codes.push(code);
            }
        }
        let count = wanted.min(codes.len() / SMALLEST);
        if count == 0 {
            return Ok(Vec::new());
        }
        // Pure computation, which must not hold up other requests.
        let clusters = tokio::task::spawn_blocking(move || cluster(&codes, count))
            .await
            .context("grouping two audiences")??;
        let items: Vec<CampaignItem> =
            found.iter().flat_map(|audience| audience.items.iter().cloned()).collect();
        let about = about(&items)?;
        let described = self.described(&clusters, &about).await?;
        let total = |side: usize| sides.iter().filter(|one| **one == side).count().max(1) as f64;
        let totals = [total(0), total(1)];
        let mut segments: Vec<ComparedSegment> = clusters
            .iter()
            .zip(described)
            .map(|(cluster, described)| {
                let of = |side: usize| {
                    cluster.members.iter().filter(|member| sides[**member] == side).count()
                };
                let (first, second) = (of(0), of(1));
                let distinct: BTreeSet<UserId> =
                    cluster.members.iter().map(|member| users[*member]).collect();
                ComparedSegment {
                    name: described.name,
                    first,
                    second,
                    both: first + second - distinct.len(),
                    share_difference: first as f64 / totals[0] - second as f64 / totals[1],
                    typical: described.typical,
                    objection: described.objection,
                }
            })
            .collect();
        segments.sort_by(|left, right| {
            right.share_difference.abs().total_cmp(&left.share_difference.abs())
        });
        Ok(segments)
    }
}

fn summary(request: &AudienceRequest, found: &Found) -> AudienceSummary {
    let count = found.shown.len();
    let sum: f64 = found.shown.iter().map(|one| f64::from(one.probability)).sum();
    AudienceSummary {
        items: found.named(),
        campaign: request.campaign.clone(),
        candidates: found.candidates,
        consumers: count,
        mean_probability: (count > 0).then(|| sum / count as f64),
        expected: found.expected,
    }
}

fn overlap(first: &Found, second: &Found) -> AudienceOverlap {
    let probabilities = |found: &Found| -> HashMap<UserId, f32> {
        found.shown.iter().map(|one| (one.user, one.probability)).collect()
    };
    let (left, right) = (probabilities(first), probabilities(second));
    let both: BTreeSet<UserId> =
        left.keys().filter(|user| right.contains_key(user)).copied().collect();
    let either = left.len() + right.len() - both.len();
    let share = |of: usize| both.len() as f64 / of.max(1) as f64;
    let sum: f64 = both.iter().map(|user| f64::from(left[user] - right[user])).sum();
    AudienceOverlap {
        consumers: both.len(),
        share_of_first: share(left.len()),
        share_of_second: share(right.len()),
        share_of_either: share(either),
        probability_difference: (!both.is_empty()).then(|| sum / both.len() as f64),
    }
}

fn differences(first: &Found, second: &Found) -> Vec<Difference> {
    let means = |found: &Found| -> Vec<(&'static str, f32)> {
        let accounts: Vec<_> =
            found.shown.iter().filter_map(|one| one.contributions.as_ref().map(groups)).collect();
        let mut means = accounts.first().map(|account| account.to_vec()).unwrap_or_default();
        for (group, (_, mean)) in means.iter_mut().enumerate() {
            *mean = accounts.iter().map(|account| account[group].1).sum::<f32>()
                / accounts.len() as f32;
        }
        means
    };
    let pairs = means(first).into_iter().zip(means(second));
    let mut differences: Vec<Difference> = pairs
        .map(|((group, first), (_, second))| Difference {
            group: group.to_owned(),
            value: first - second,
        })
        .collect();
    differences.sort_by(|left, right| right.value.total_cmp(&left.value));
    differences
}

pub(super) fn in_one_sentence(
    overlap: &AudienceOverlap,
    segments: &[ComparedSegment],
    differences: &[Difference],
) -> String {
    let mut text = format!(
        "{} consumers are in both audiences ({:.0} % of the first, {:.0} % of the second)",
        overlap.consumers,
        100.0 * overlap.share_of_first,
        100.0 * overlap.share_of_second
    );
    if let Some(segment) = segments.first().filter(|segment| segment.share_difference != 0.0) {
        let which = if segment.share_difference > 0.0 { "first" } else { "second" };
        text += &format!(
            "; the {which} has more of {:?} ({:+.0} points)",
            segment.name,
            100.0 * segment.share_difference
        );
    }
    let decisive =
        differences.iter().max_by(|left, right| left.value.abs().total_cmp(&right.value.abs()));
    if let Some(decisive) = decisive {
        text += &format!(
            "; the scores differ most by {} ({:+.3} for the first)",
            in_words(&decisive.group),
            decisive.value
        );
    }
    text + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_what_differs_most() {
        let overlap = AudienceOverlap {
            consumers: 5,
            share_of_first: 0.5,
            share_of_second: 0.25,
            share_of_either: 0.2,
            probability_difference: None,
        };
        let segment = ComparedSegment {
            name: "space".to_owned(),
            first: 1,
            second: 4,
            both: 0,
            share_difference: -0.3,
            typical: None,
            objection: None,
        };
        let difference = |group: &str, value: f32| Difference { group: group.to_owned(), value };
        let differences = [difference("positive", 0.1), difference("negative", -0.2)];
        let text = in_one_sentence(&overlap, &[segment], &differences);
        assert_eq!(
            text,
            "5 consumers are in both audiences (50 % of the first, 25 % of the second); the second \
             has more of \"space\" (-30 points); the scores differ most by the reasons against it \
             (-0.200 for the first)."
        );
    }
}
