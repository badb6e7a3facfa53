//! Stage 1: who the consumer is, and which items Qdrant finds near.

use ndarray::Array2;
use whyrank_plugin::records::{EXTERNAL_ID_KEY, ITEM_VECTOR};
use whyrank_plugin::{
    Candidate, Filter, ItemId, ItemRecord, PayloadSelection, Point, ScoredPoint, Search, Selection,
    Statistics, UserId, VectorSelection,
};

use super::request::RecommendRequest;
use super::{Reranker, StageClock, consumer};
use crate::features::ConsumerState;
use crate::http::{ApiError, Cause};

/// A candidate with what the later stages need of it.
#[derive(Debug, Clone)]
pub(super) struct RetrievedItem {
    pub(super) candidate: Candidate,
    pub(super) external_id: String,
    pub(super) title: String,
    pub(super) vector: Vec<f32>,
    pub(super) statistics: Statistics,
}

/// What retrieval found for a consumer, in Qdrant's order.
#[derive(Debug, Clone)]
pub(super) struct Retrieved {
    /// The consumer in the store, if one was named.
    pub(super) user: Option<(UserId, String)>,
    pub(super) consumer: ConsumerState,
    pub(super) items: Vec<RetrievedItem>,
}

impl Retrieved {
    /// The consumer's id, if they are in the store.
    pub(super) fn user_id(&self) -> Option<UserId> {
        self.user.as_ref().map(|(id, _)| *id)
    }

    /// The candidates' ids, in Qdrant's order.
    pub(super) fn item_ids(&self) -> impl ExactSizeIterator<Item = ItemId> {
        self.items.iter().map(|item| item.candidate.item)
    }
}

pub(super) async fn retrieve(
    reranker: &Reranker,
    request: &RecommendRequest,
    clock: &mut StageClock,
) -> Result<Retrieved, ApiError> {
    let settings = &reranker.settings;
    let limit = request.candidates.unwrap_or(settings.candidates);
    let wanted = request.limit.unwrap_or(settings.limit);
    let bound = |what: &str, value: usize, most: usize, setting: &str| {
        if (1..=most).contains(&value) {
            return Ok(());
        }
        let message = format!("`{what}` is {value}; it must be from 1 to {most} (`{setting}`)");
        Err(ApiError::new(Cause::Invalid, message))
    };
    bound("limit", wanted, settings.maximum_limit, "rerank.maximum_limit")?;
    bound("candidates", limit, settings.maximum_candidates, "rerank.maximum_candidates")?;
    let consumer = match (&request.history, &request.user) {
        (Some(history), _) => consumer::from_history(reranker, history).await?,
        (None, Some(user)) => consumer::by_name(reranker, user).await?,
        (None, None) => {
            let message = "give a `user`, or a `history` of at least one interaction";
            return Err(ApiError::new(Cause::Invalid, message));
        }
    };
    let exclude = request.exclude_seen.unwrap_or(settings.exclude_seen);
    let filter = item_filter(request, if exclude { &consumer.seen } else { &[] })?;
    let search = Search {
        filter,
        selection: RetrievedItem::selection(),
        ..Search::new(ITEM_VECTOR, consumer.state.vector.clone(), limit.max(wanted))
    };
    let storage = &reranker.storage;
    let found = storage.store().search(&storage.settings().items, search).await?;
    let items: Vec<RetrievedItem> = found
        .into_iter()
        .enumerate()
        .map(|(place, ScoredPoint { score, point })| {
            let item = ItemId(point.id);
            let retrieval_rank = place as u32 + 1;
            let candidate = Candidate { item, retrieval_score: score, retrieval_rank };
            RetrievedItem::new(candidate, point)
        })
        .collect();
    clock.lap("retrieve", format!("{} candidates", items.len()));
    Ok(Retrieved { user: consumer.user, consumer: consumer.state, items })
}

/// The caller's filter and the items to leave out, as one filter in Qdrant's JSON.
fn item_filter(request: &RecommendRequest, exclude: &[ItemId]) -> Result<Option<Filter>, ApiError> {
    let invalid = |error: &dyn std::fmt::Display| {
        ApiError::new(Cause::Invalid, format!("`filter` cannot be used: {error}"))
    };
    let given =
        request.filter.clone().map(Filter::from_json).transpose().map_err(|e| invalid(&e))?;
    if exclude.is_empty() {
        return Ok(given);
    }
    let unseen = Filter::without_ids(exclude.iter().map(ItemId::point));
    let Some(given) = given else { return Ok(Some(unseen)) };
    let both = serde_json::json!({ "must": [given.to_json(), unseen.to_json()] });
    Filter::from_json(both).map(Some).map_err(|error| invalid(&error))
}

impl RetrievedItem {
    /// What is read of an item's point.
    pub(super) fn selection() -> Selection {
        Selection {
            vectors: VectorSelection::Named(vec![ITEM_VECTOR.to_owned()]),
            payload: PayloadSelection::Include(
                [EXTERNAL_ID_KEY, "title", "statistics"].map(str::to_owned).to_vec(),
            ),
        }
    }

    /// The candidate with its whole record.
    pub(super) fn of_record(candidate: Candidate, record: ItemRecord) -> Self {
        Self {
            candidate,
            external_id: record.external_id,
            title: record.title,
            vector: record.vector.unwrap_or_default(),
            statistics: record.statistics,
        }
    }

    /// The candidate with what was read of its point.
    pub(super) fn new(candidate: Candidate, mut point: Point) -> Self {
        let mut text = |key: &str| match point.payload.remove(key) {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        let (external_id, title) = (text(EXTERNAL_ID_KEY), text("title"));
        let statistics =
            point.payload.remove("statistics").and_then(|v| serde_json::from_value(v).ok());
        Self {
            candidate,
            external_id: external_id.unwrap_or_else(|| point.id.to_string()),
            title: title.unwrap_or_default(),
            vector: point.vectors.remove(ITEM_VECTOR).unwrap_or_default(),
            statistics: statistics.unwrap_or_default(),
        }
    }

    /// The vectors of all items as one table `[n, d]`.
    pub(super) fn table(items: &[Self], dimension: usize) -> Result<Array2<f32>, String> {
        let mut values = Vec::with_capacity(items.len() * dimension);
        for item in items {
            if item.vector.len() != dimension {
                let (id, width) = (&item.external_id, item.vector.len());
                return Err(format!("item {id} has a vector of {width} numbers, not {dimension}"));
            }
            values.extend_from_slice(&item.vector);
        }
        Array2::from_shape_vec((items.len(), dimension), values).map_err(|error| error.to_string())
    }
}
