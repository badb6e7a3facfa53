//! Why one item stands above another for a consumer: the ranker's account of both, taken apart.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use whyrank_plugin::{Contributions, ExplanationRecord, ExplanationState, ItemRecord, UserRecord};

use crate::http::{ApiError, Cause};
use crate::rerank::{CampaignItem, ContributionsView, Reasons, Reranker};
use crate::storage::Storage;

/// A request to compare two items for a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareRequest {
    /// The consumer's id as the data gave it.
    pub user: String,
    /// The two items, by the ids that the data gave them.
    pub items: [String; 2],
}

/// Which of two items stands above the other for a consumer, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompareResponse {
    /// The consumer.
    pub user: String,
    /// The item that stands above.
    pub above: ComparedItem,
    /// The item that stands below.
    pub below: ComparedItem,
    /// What each input group adds to the distance between the two scores; they sum to it. The largest
    /// is first, and one below zero speaks for the item below.
    pub differences: Vec<Difference>,
    /// The answer in words.
    pub summary: String,
}

/// One of the two items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparedItem {
    /// The item's id as the data gave it.
    pub item: String,
    /// Its title.
    pub title: String,
    /// What it is ranked by.
    pub score: f32,
    /// The predicted probability of a like.
    pub like: f32,
    /// The predicted rating.
    pub rating: f32,
    /// Where the explanation codes came from: `written`, `predicted` or `absent`.
    #[schema(value_type = String)]
    pub state: ExplanationState,
    /// The written reasons, where there are some.
    pub explanation: Option<Reasons>,
    /// The account of the score.
    pub contributions: ContributionsView,
}

/// What one input group adds to the distance between two scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// The group, as in the account of a score: `user_item`, `positive`, `negative`, `history` or
    /// `context`.
    pub group: String,
    /// The contribution for the item above minus that for the item below.
    pub value: f32,
}

/// Compares two stored items for a stored consumer.
///
/// # Errors
/// When there is no trained ranker, a side has no vector yet, or the store cannot be read.
pub async fn compare(
    reranker: &Reranker,
    storage: &Storage,
    user: UserRecord,
    items: [ItemRecord; 2],
) -> Result<CompareResponse, ApiError> {
    let pairs = items.each_ref().map(|item| (user.id, item.id));
    if items[0].id == items[1].id {
        let named = &items[0].external_id;
        let message = format!("`items` names {named:?} twice; give two different items");
        return Err(ApiError::new(Cause::Invalid, message));
    }
    let mut reasons = storage.explanations(&pairs).await?.into_iter();
    let mut compared = Vec::with_capacity(2);
    for item in items {
        let written = reasons.next().flatten();
        compared.push(accounted(reranker, &user, item, written).await?);
    }
    // The first stays above when both are equal.
    compared.sort_by(|left, right| right.score.total_cmp(&left.score));
    let [above, below] = <[ComparedItem; 2]>::try_from(compared)
        .map_err(|_| ApiError::new(Cause::Internal, "two items were to be compared"))?;
    let differences = differences(&above.contributions, &below.contributions);
    let summary = summary(&above, &below, &differences);
    Ok(CompareResponse { user: user.external_id, above, below, differences, summary })
}

/// What the ranker makes of an item for a consumer.
async fn accounted(
    reranker: &Reranker,
    user: &UserRecord,
    item: ItemRecord,
    written: Option<ExplanationRecord>,
) -> Result<ComparedItem, ApiError> {
    let (external_id, title) = (item.external_id.clone(), item.title.clone());
    let missing = |side: String| {
        let message = format!("{side} has no vector yet; run `whyrank train vectors`");
        ApiError::new(Cause::NotReady, message)
    };
    if item.vector.is_none() {
        return Err(missing(format!("item {external_id:?}")));
    }
    let kind = Some(reranker.score());
    let stored = [CampaignItem::stored(item)];
    let mut responses = reranker.responses(vec![user.clone()], &stored, kind).await?;
    let response =
        responses.pop().ok_or_else(|| missing(format!("consumer {:?}", user.external_id)))?;
    let account = response
        .contributions
        .ok_or_else(|| ApiError::new(Cause::Internal, "the ranker gave no account of a score"))?;
    Ok(ComparedItem {
        item: external_id,
        title,
        score: account.base + groups(&account).iter().map(|(_, value)| value).sum::<f32>(),
        like: response.score.like,
        rating: response.score.rating,
        state: response.state,
        explanation: written.map(|record| {
            let stale = reranker.freshness().stale(&record);
            Reasons::of(record.explanation, record.provenance).but_stale(stale)
        }),
        contributions: account.into(),
    })
}

/// What moved a score, beside what is written about the pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mattered {
    /// What the pair is ranked by.
    pub score: f32,
    /// The predicted probability of a like.
    pub like: f32,
    /// The predicted rating.
    pub rating: f32,
    /// The account of the score.
    pub contributions: ContributionsView,
    /// The account in words: what moved the score most, for and against. It names inputs of the ranker, so
    /// that without them the score were another one; an evaluation tests that.
    pub summary: String,
}

/// What moved the score of a stored pair; none while there is no trained ranker, or a side has no vector.
///
/// # Errors
/// When the store cannot be read, or an input does not fit.
pub async fn mattered(
    reranker: &Reranker,
    user: &UserRecord,
    item: ItemRecord,
) -> Result<Option<Mattered>, ApiError> {
    match accounted(reranker, user, item, None).await {
        Ok(ComparedItem { score, like, rating, contributions, .. }) => {
            let summary = in_one_sentence(&contributions);
            Ok(Some(Mattered { score, like, rating, contributions, summary }))
        }
        Err(error) if error.cause == Cause::NotReady => Ok(None),
        Err(error) => Err(error),
    }
}

fn in_one_sentence(account: &ContributionsView) -> String {
    let groups = view_groups(account);
    let part = |(group, value): (&str, f32)| format!("{} ({value:+.3})", in_words(group));
    let most = groups.into_iter().max_by(|left, right| left.1.total_cmp(&right.1));
    let least = groups.into_iter().min_by(|left, right| left.1.total_cmp(&right.1));
    let most = most.filter(|(_, value)| *value > 0.0).map(part);
    let least = least.filter(|(_, value)| *value < 0.0).map(part);
    match (most, least) {
        (Some(most), Some(least)) => format!("For it speaks most {most}, against it {least}."),
        (Some(most), None) => format!("For it speaks most {most}, and nothing against it."),
        (None, Some(least)) => format!("Against it speaks most {least}, and nothing for it."),
        (None, None) => "Nothing moves the score from the mean of all.".to_owned(),
    }
}

/// What each input group adds to a score.
pub(crate) fn groups(account: &Contributions) -> [(&'static str, f32); 5] {
    view_groups(&ContributionsView::from(*account))
}

fn view_groups(account: &ContributionsView) -> [(&'static str, f32); 5] {
    [
        ("user_item", account.user_item),
        ("positive", account.positive),
        ("negative", account.negative),
        ("history", account.history),
        ("context", account.context),
    ]
}

/// The base is the same for all candidates, so that the groups make up the whole distance.
fn differences(above: &ContributionsView, below: &ContributionsView) -> Vec<Difference> {
    let pairs = view_groups(above).into_iter().zip(view_groups(below));
    let mut differences: Vec<Difference> = pairs
        .map(|((group, above), (_, below))| Difference {
            group: group.to_owned(),
            value: above - below,
        })
        .collect();
    differences.sort_by(|left, right| right.value.total_cmp(&left.value));
    differences
}

fn summary(above: &ComparedItem, below: &ComparedItem, differences: &[Difference]) -> String {
    let distance = above.score - below.score;
    let (title, other) = (&above.title, &below.title);
    let mut text = format!("{title:?} stands {distance:.3} above {other:?}");
    let Some(first) = differences.first().filter(|first| first.value > 0.0) else {
        return text + "; nothing tells them apart.";
    };
    text += &format!(", most of all by {} ({:+.3})", in_words(&first.group), first.value);
    if let Some(last) = differences.last().filter(|last| last.value < 0.0) {
        text += &format!(
            "; {other:?} has the better of {} ({:+.3})",
            in_words(&last.group),
            last.value
        );
    }
    text + "."
}

/// An input group as people would call it.
pub(crate) fn in_words(group: &str) -> &'static str {
    match group {
        "positive" => "the reasons for it",
        "negative" => "the reasons against it",
        "history" => "what the consumer met lately",
        "context" => "popularity and rating habits",
        _ => "how consumer and item lie to each other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(title: &str, contributions: ContributionsView) -> ComparedItem {
        let score = view_groups(&contributions).iter().map(|(_, value)| value).sum::<f32>();
        ComparedItem {
            item: title.to_owned(),
            title: title.to_owned(),
            score: contributions.base + score,
            like: 0.5,
            rating: 3.0,
            state: ExplanationState::Predicted,
            explanation: None,
            contributions,
        }
    }

    #[test]
    fn one_sentence_says_what_mattered() {
        let told = in_one_sentence(&account(0.3, -0.2));
        assert_eq!(
            told,
            "For it speaks most the reasons for it (+0.300), against it the reasons against it (-0.200)."
        );
        let told = in_one_sentence(&account(0.3, 0.0));
        assert!(told.ends_with("and nothing against it."), "{told}");
    }

    fn account(positive: f32, negative: f32) -> ContributionsView {
        let base = 0.4;
        ContributionsView { base, user_item: 0.1, positive, negative, history: 0.0, context: 0.0 }
    }

    #[test]
    fn the_differences_make_up_the_distance_and_the_largest_is_told() {
        let (above, below) = (item("A", account(0.3, -0.1)), item("B", account(0.05, 0.05)));
        let found = differences(&above.contributions, &below.contributions);
        let sum: f32 = found.iter().map(|one| one.value).sum();
        assert!((sum - (above.score - below.score)).abs() < 1e-6, "{found:?}");
        assert_eq!((found[0].group.as_str(), found[4].group.as_str()), ("positive", "negative"));
        let text = summary(&above, &below, &found);
        assert!(text.contains("by the reasons for it (+0.250)"), "{text}");
        assert!(text.contains("\"B\" has the better of the reasons against it (-0.150)"), "{text}");
    }

    #[test]
    fn equal_items_are_not_told_apart() {
        let same = item("A", account(0.3, -0.1));
        let found = differences(&same.contributions, &same.contributions);
        assert!(summary(&same, &same, &found).ends_with("nothing tells them apart."));
    }
}
