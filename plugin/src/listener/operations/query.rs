//! The nearest points to a vector or to another point, and plain pages through the same request.

use super::{Fault, Operations};
use crate::filter::Filter;
use crate::id::PointId;
use crate::store::{ScoredPoint, Scroll, Search, Selection};

/// The score of points that were not compared with anything: what Qdrant gives them.
const UNSCORED: f32 = 1.0;

/// A query as Qdrant has it, cut down to what the store does exactly.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::listener) struct Query {
    /// What to be near to; none takes the points in the order of their ids.
    pub(in crate::listener) nearest: Option<Nearest>,
    /// The vector to compare; empty for the unnamed one.
    pub(in crate::listener) using: String,
    /// Where the vector of a point id is taken from, if not from this collection.
    pub(in crate::listener) lookup: Option<Lookup>,
    /// Only points that match.
    pub(in crate::listener) filter: Option<Filter>,
    /// How many points at most.
    pub(in crate::listener) limit: usize,
    /// How many to skip.
    pub(in crate::listener) offset: usize,
    /// Only points nearer than this.
    pub(in crate::listener) score_threshold: Option<f32>,
    /// Whether to compare with every point.
    pub(in crate::listener) exact: bool,
    /// What to return of each point.
    pub(in crate::listener) selection: Selection,
}

/// What to be near to.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::listener) enum Nearest {
    /// A vector.
    Vector(Vec<f32>),
    /// The vector of a point, which is itself left out of the answer.
    Point(PointId),
}

/// Where the vector of a point id is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::listener) struct Lookup {
    /// The collection.
    pub(in crate::listener) collection: String,
    /// The vector there; the one that is compared if not given.
    pub(in crate::listener) vector: Option<String>,
}

/// A query whose point id was replaced by its vector.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resolved {
    vector: Option<Vec<f32>>,
    using: String,
    pub(super) filter: Option<Filter>,
    score_threshold: Option<f32>,
    exact: bool,
}

impl Operations {
    pub(in crate::listener) async fn query(
        &self,
        collection: &str,
        query: Query,
    ) -> Result<Vec<ScoredPoint>, Fault> {
        self.check_limit("limit", query.limit)?;
        self.check_results("limit and offset together", query.limit.saturating_add(query.offset))?;
        let (limit, offset, selection) = (query.limit, query.offset, query.selection.clone());
        let resolved = self.resolve(collection, query).await?;
        self.run(collection, resolved, limit, offset, selection).await
    }

    /// Answers all queries, or fails as the first that fails.
    pub(in crate::listener) async fn query_batch(
        &self,
        collection: &str,
        queries: Vec<Query>,
    ) -> Result<Vec<Vec<ScoredPoint>>, Fault> {
        let (given, limit) = (queries.len(), self.settings().maximum_queries);
        if given > limit {
            return Err(Fault::too_many("the number of queries", given, "maximum_queries", limit));
        }
        // An empty batch names a missing collection too.
        self.store.schema(collection).await?;
        let mut answers = Vec::with_capacity(given);
        for query in queries {
            answers.push(self.query(collection, query).await?);
        }
        Ok(answers)
    }

    /// Replaces a point id by the vector of that point, and leaves the point out of the answer if it
    /// is of the collection that is searched.
    pub(super) async fn resolve(&self, collection: &str, query: Query) -> Result<Resolved, Fault> {
        let Query { nearest, using, lookup, mut filter, score_threshold, exact, .. } = query;
        if nearest.is_none() && score_threshold.is_some() {
            return Err(Fault::input(
                "A query is needed to use the score_threshold. \
                 Can't have score_threshold without defining a query.",
            ));
        }
        let vector = match nearest {
            None => None,
            Some(Nearest::Vector(vector)) => Some(vector),
            Some(Nearest::Point(id)) => {
                let (from, name) = match &lookup {
                    None => (collection, &using),
                    Some(lookup) => {
                        (lookup.collection.as_str(), lookup.vector.as_ref().unwrap_or(&using))
                    }
                };
                if from == collection {
                    let others = Filter::without_ids([id]);
                    filter = Some(match filter {
                        None => others,
                        Some(filter) => filter.and(others),
                    });
                }
                Some(self.vector_of(from, id, name).await?)
            }
        };
        Ok(Resolved { vector, using, filter, score_threshold, exact })
    }

    async fn vector_of(
        &self,
        collection: &str,
        id: PointId,
        name: &str,
    ) -> Result<Vec<f32>, Fault> {
        let selection = Selection::vectors([name]);
        let mut points = self.store.read(collection, &[id], &selection).await?;
        let mut point = points.pop().flatten().ok_or_else(|| Fault::no_point(id))?;
        point.vectors.remove(name).ok_or_else(|| {
            Fault::input(format!("point {id} of collection `{collection}` has no vector `{name}`"))
        })
    }

    pub(super) async fn run(
        &self,
        collection: &str,
        resolved: Resolved,
        limit: usize,
        offset: usize,
        selection: Selection,
    ) -> Result<Vec<ScoredPoint>, Fault> {
        let Resolved { vector, using, filter, score_threshold, exact } = resolved;
        let Some(query) = vector else {
            let limit = limit.saturating_add(offset);
            let scroll = Scroll { filter, from: None, limit, selection };
            let page = self.store.scroll(collection, scroll).await?;
            let points = page.points.into_iter().skip(offset);
            return Ok(points.map(|point| ScoredPoint { score: UNSCORED, point }).collect());
        };
        let vector_name = using;
        let search =
            Search { vector_name, query, filter, limit, offset, score_threshold, exact, selection };
        Ok(self.store.search(collection, search).await?)
    }
}
