//! What a caller asks of an audience and what is answered, as they stand on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use whyrank_plugin::ExplanationState;
use whyrank_plugin::records::EXTERNAL_ID_KEY;

use crate::http::{ApiError, Cause};
use crate::rerank::{ContributionsView, Reasons, StageReport};

/// A request for the consumers most likely to respond to items, or to a campaign in words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AudienceRequest {
    /// The items, by the ids the data gave them. Either these or a `campaign`.
    pub items: Option<Vec<String>>,
    /// A campaign described in words.
    pub campaign: Option<String>,
    /// How many consumers; the configured limit if absent.
    pub limit: Option<usize>,
    /// How many consumers are retrieved and ranked; the configured number if absent.
    pub candidates: Option<usize>,
    /// A filter on consumers, in Qdrant's JSON.
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// Whether consumers who have interacted with one of the items are left out; the configured
    /// choice if absent.
    pub exclude_seen: Option<bool>,
    /// The probability from which on a consumer counts to the expected size.
    pub threshold: Option<f32>,
    /// How many groups the audience is divided into by its reasons; 0 for none.
    pub segments: Option<usize>,
}

/// The consumers most likely to respond, with an account of why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudienceResponse {
    /// The items that were asked for.
    pub items: Vec<AudienceItem>,
    /// The campaign, if one was described.
    pub campaign: Option<String>,
    /// How many consumers were retrieved and ranked.
    pub candidates: usize,
    /// How large a response is expected among them.
    pub expected: ExpectedSize,
    /// The consumers, most likely first.
    pub consumers: Vec<AudienceMember>,
    /// The returned consumers grouped by their reasons, largest group first.
    pub segments: Vec<Segment>,
    /// What each stage did and how long it took, in order.
    pub stages: Vec<StageReport>,
}

/// Keys of a consumer's payload that a campaign may be planned by. The others tell the history.
fn is_profile(key: &str) -> bool {
    key == EXTERNAL_ID_KEY || key == "attributes" || key.starts_with("attributes.")
}

/// The first payload key of a filter that is not of the profile, wherever it stands.
fn history_key(filter: &serde_json::Value) -> Option<&str> {
    match filter {
        serde_json::Value::Array(all) => all.iter().find_map(history_key),
        serde_json::Value::Object(all) => {
            let own = all.get("key").and_then(serde_json::Value::as_str);
            let own = own.filter(|key| !is_profile(key));
            own.or_else(|| all.values().find_map(history_key))
        }
        _ => None,
    }
}

impl AudienceRequest {
    /// Refuses what would tell a caller who may see users, but not their histories, what somebody has
    /// interacted with.
    ///
    /// # Errors
    /// [`Cause::Forbidden`] naming what is not for this caller.
    pub fn keep_histories_out(&mut self) -> Result<(), ApiError> {
        let refused = |message: String| Err(ApiError::new(Cause::Forbidden, message));
        if self.exclude_seen == Some(false) {
            return refused(
                "`exclude_seen` must stay true for a key of the role campaign: the difference would tell \
                 who knows the items"
                    .to_owned(),
            );
        }
        self.exclude_seen = Some(true);
        match self.filter.as_ref().and_then(history_key) {
            Some(key) => refused(format!(
                "`filter` asks for {key:?}; a key of the role campaign may filter by `attributes` and \
                 `external_id`, which the roles admin and search are not bound to"
            )),
            None => Ok(()),
        }
    }
}

impl AudienceResponse {
    /// Takes away the texts about single consumers: they name what somebody liked and disliked, which
    /// whoever only plans a campaign is not to learn. The texts of segments of at least `minimum`
    /// consumers stay; they do not say whose they are.
    pub fn withhold_texts(&mut self, minimum: usize) {
        for member in &mut self.consumers {
            member.explanation = None;
            member.reasons_about = None;
        }
        for segment in self.segments.iter_mut().filter(|segment| segment.size < minimum) {
            segment.typical = None;
            segment.objection = None;
            segment.name = FEW.to_owned();
        }
    }
}

/// The name of a segment whose words would tell of too few consumers.
pub(super) const FEW: &str = "few consumers";

/// An item of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AudienceItem {
    /// The item's id as the data gave it.
    pub item: String,
    /// Its title.
    pub title: String,
}

/// The expected size at a threshold of the probability of a like, over all ranked candidates. The
/// probabilities of a like are calibrated on pairs that were held back when the ranker was trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedSize {
    /// The threshold.
    pub threshold: f32,
    /// Consumers whose probability reaches it.
    pub consumers: usize,
    /// How many of them are expected to take an item up and like it, within a time as long as the one that
    /// the validation part of the interactions spans (`split.validation`); for a campaign in words, to like it
    /// once they take it up, because nobody has yet.
    pub responses: f64,
    /// The sum over all ranked candidates.
    pub responses_of_all: f64,
}

/// One consumer of an audience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudienceMember {
    /// The consumer's id as the data gave it.
    pub user: String,
    /// Place in the audience, from 1.
    pub rank: u32,
    /// Place in the retrieval order, from 1.
    pub retrieval_rank: u32,
    /// The predicted probability of a like, calibrated on pairs held back from training.
    pub probability: f32,
    /// The predicted probability that the consumer takes the item up in the next while, liked or not;
    /// absent for a campaign in words, and if the ranker was trained without. Consumers are ordered by this
    /// times `probability`.
    pub take_up: Option<f32>,
    /// The ranker's own probability of a like, whose account the contributions are.
    pub score: f32,
    /// The predicted rating.
    pub rating: f32,
    /// The item that suits the consumer best; absent for a campaign in words.
    pub item: Option<String>,
    /// The segment, as a place in `segments`.
    pub segment: Option<usize>,
    /// Where the explanation codes came from: `written`, `predicted` or `absent`.
    #[schema(value_type = String)]
    pub state: ExplanationState,
    /// The written reasons, where there are some.
    pub explanation: Option<Reasons>,
    /// The item that these reasons are about, where it is not the one of the request: of a campaign
    /// in words, what the consumer likes for the reason nearest to the words.
    pub reasons_about: Option<String>,
    /// The account of the score.
    pub contributions: Option<ContributionsView>,
}

/// Consumers with like reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    /// The words that set its reasons apart from those of the other segments.
    pub name: String,
    /// Consumers in it.
    pub size: usize,
    /// Their mean probability.
    pub mean_probability: f32,
    /// The written reason for that lies nearest to the segment's centre.
    pub typical: Option<SegmentText>,
    /// The written reason against that lies nearest to the centre: the objection to answer.
    pub objection: Option<SegmentText>,
}

/// A written text and the item that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SegmentText {
    /// The text.
    pub text: String,
    /// The item.
    pub item: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_campaign_is_planned_by_profiles_and_not_by_histories() {
        let ask = |filter, exclude_seen| {
            let request =
                AudienceRequest { filter: Some(filter), exclude_seen, ..Default::default() };
            let mut kept = request;
            kept.keep_histories_out().map(|()| kept.exclude_seen)
        };
        let student = json!({ "key": "attributes.occupation", "match": { "value": "student" } });
        let good = json!({ "must": [student], "should": [{ "has_id": [1] }] });
        assert_eq!(ask(good, None).unwrap(), Some(true));
        for key in ["seen", "history", "history[].item", "posted", "taste.bias", "revision"] {
            let seen = json!({ "key": key, "match": { "value": "x" } });
            let deep = json!({ "must": [student, { "must_not": [{ "should": seen }] }] });
            let nested = json!({ "nested": { "key": key, "filter": { "must": [] } } });
            let empty = json!({ "must": [{ "is_empty": { "key": key } }] });
            for filter in [json!({ "must": [seen] }), deep, nested, empty] {
                let refused = ask(filter, None).unwrap_err();
                assert!(matches!(refused.cause, Cause::Forbidden));
                assert!(refused.message.contains(key), "{}", refused.message);
            }
        }
        let both = ask(json!({}), Some(false)).unwrap_err();
        assert!(both.message.contains("exclude_seen"), "{}", both.message);
    }
}
