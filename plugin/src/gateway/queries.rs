//! The queries that can be reranked, as the flow sees them, whichever protocol they came in.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{GatewayRules, Protocol, RerankFault, grpc, rest};
use crate::bodies::{self, Bounds, Share};
use crate::id::PointId;

/// The three shapes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One query.
    Single,
    /// Several queries on one collection.
    Batch,
    /// One query whose results are grouped by a payload key.
    Groups,
}

/// A request that can be reranked, by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) shape: Shape,
    /// The collection, where the path names it.
    pub(super) collection: Option<String>,
}

impl Route {
    /// The route of a request, or none if it is not one that can be reranked.
    pub(super) fn recognise(protocol: Protocol, method: &Method, path: &str) -> Option<Self> {
        if *method != Method::POST {
            return None;
        }
        let (shape, collection) = match protocol {
            Protocol::Grpc => match path {
                "/qdrant.Points/Query" => (Shape::Single, None),
                "/qdrant.Points/QueryBatch" => (Shape::Batch, None),
                "/qdrant.Points/QueryGroups" => (Shape::Groups, None),
                _ => return None,
            },
            Protocol::Rest => {
                let rest = path.strip_prefix("/collections/")?;
                let (name, operation) = rest.split_once('/')?;
                let shape = match operation {
                    "points/query" => Shape::Single,
                    "points/query/batch" => Shape::Batch,
                    "points/query/groups" => Shape::Groups,
                    _ => return None,
                };
                let name = percent_decode_str(name).decode_utf8().ok()?;
                (shape, Some(name.into_owned()))
            }
        };
        Some(Self { shape, collection })
    }
}

/// What one query of a request asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Asked {
    /// Whether its order may be changed: not where the client asked for an order of its own.
    pub(super) reorders: bool,
    /// The consumer, if `lookup_from` names one.
    pub(super) consumer: Option<PointId>,
    /// Results, or groups, to return.
    pub(super) limit: usize,
    /// Results to skip.
    pub(super) offset: usize,
    /// Results in a group, if results are grouped.
    pub(super) group_size: Option<usize>,
    /// Whether payloads are asked for.
    pub(super) payload: bool,
    /// Whether vectors are asked for.
    pub(super) vectors: bool,
}

impl Asked {
    /// How many results, or groups, are asked of Qdrant instead, or why it cannot be reranked.
    pub(super) fn pool(&self, rules: &GatewayRules) -> Result<usize, RerankFault> {
        let wanted = self.offset.saturating_add(self.limit);
        let per_result = self.group_size.unwrap_or(1).max(1);
        if wanted.saturating_mul(per_result) > rules.maximum_candidates {
            let most = rules.maximum_candidates;
            let message = format!("offset and limit reach beyond {most} candidates");
            return Err(RerankFault::new("too_many", message));
        }
        Ok(wanted.max(rules.candidates.div_ceil(per_result)))
    }
}

/// A decoded request.
#[derive(Debug)]
pub(super) enum Queries {
    /// In JSON.
    Rest(rest::RestQueries),
    /// In protocol buffers.
    Grpc(grpc::GrpcQueries),
}

/// One place of a new order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    /// The place in Qdrant's order, from 0.
    pub(super) index: usize,
    /// The score that orders.
    pub(super) score: f32,
    /// What is written under the payload key.
    pub(super) note: Value,
}

/// The new order of one query's results.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arrangement {
    /// All results, best first.
    pub(super) placed: Vec<Placed>,
    /// Whether the answer carries the ranker's score or keeps Qdrant's.
    pub(super) replace_scores: bool,
    /// The key under which the note rides in a payload.
    pub(super) payload_key: String,
}

impl Queries {
    /// Reads a request's body within bounds. The share is that of what was decompressed; it is to be
    /// kept as long as the queries are.
    pub(super) async fn read_within(
        bounds: &Bounds,
        protocol: Protocol,
        shape: Shape,
        body: &Bytes,
        encoding: Option<&str>,
    ) -> Result<(Self, Share), Unread> {
        let (message, share) = match protocol {
            Protocol::Rest => (body.clone(), Share::default()),
            Protocol::Grpc => grpc::request_message(body, encoding, bounds).await?,
        };
        Ok((Self::read(protocol, shape, &message)?, share))
    }

    /// Reads a request's message, decompressed.
    pub(super) fn read(protocol: Protocol, shape: Shape, message: &Bytes) -> Result<Self, Unread> {
        match protocol {
            Protocol::Rest => rest::RestQueries::read(shape, message).map(Self::Rest),
            Protocol::Grpc => grpc::GrpcQueries::read(shape, message).map(Self::Grpc),
        }
    }

    /// The collection, where the message names it.
    pub(super) fn collection(&self) -> Option<&str> {
        match self {
            Self::Rest(_) => None,
            Self::Grpc(queries) => Some(queries.collection()),
        }
    }

    /// What each query asks.
    pub(super) fn asked(&self, users: &str) -> Vec<Asked> {
        match self {
            Self::Rest(queries) => queries.asked(users),
            Self::Grpc(queries) => queries.asked(users),
        }
    }

    /// The client's own time limit, where the message has it.
    pub(super) fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Rest(_) => None,
            Self::Grpc(queries) => queries.timeout(),
        }
    }

    /// The body that asks for pools in place of the results of those queries that have one.
    pub(super) fn widened(&self, pools: &[Option<usize>]) -> Bytes {
        match self {
            Self::Rest(queries) => queries.widened(pools),
            Self::Grpc(queries) => queries.widened(pools),
        }
    }

    /// The body that asks for points by id with what one query selects.
    pub(super) fn fetch(&self, query: usize, ids: &[PointId]) -> Bytes {
        match self {
            Self::Rest(queries) => queries.fetch(query, ids),
            Self::Grpc(queries) => queries.fetch(query, ids),
        }
    }
}

/// Why a request was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is damaged; Qdrant will say so.
    Malformed,
    /// It has fields that this version does not know, which would be lost.
    Newer,
    /// It is compressed, and holds more than the bounds of bodies allow.
    Beyond(bodies::Unread),
}

/// A decoded answer.
#[derive(Debug)]
pub(super) enum Answers {
    /// In JSON.
    Rest(rest::RestAnswers),
    /// In protocol buffers.
    Grpc(grpc::GrpcAnswers),
}

/// Points fetched by id, to complete results with.
#[derive(Debug)]
pub(super) enum Fetched {
    /// In JSON.
    Rest(HashMap<PointId, Value>),
    /// In protocol buffers.
    Grpc(HashMap<PointId, qdrant_client::qdrant::RetrievedPoint>),
}

impl Answers {
    /// Reads an answer to the widened request.
    pub(super) fn read(
        protocol: Protocol,
        shape: Shape,
        body: &Bytes,
        encoding: Option<&str>,
    ) -> Result<Self, RerankFault> {
        match protocol {
            Protocol::Rest => rest::RestAnswers::read(shape, body).map(Self::Rest),
            Protocol::Grpc => grpc::GrpcAnswers::read(shape, body, encoding).map(Self::Grpc),
        }
    }

    /// The results of one query in Qdrant's order, groups one after the other.
    pub(super) fn results(&self, query: usize) -> Result<Vec<(PointId, f32)>, RerankFault> {
        match self {
            Self::Rest(answers) => answers.results(query),
            Self::Grpc(answers) => answers.results(query),
        }
    }

    /// Puts the results of one query into their new order, cut as asked and completed.
    pub(super) fn arrange(
        &mut self,
        query: usize,
        asked: &Asked,
        arrangement: &Arrangement,
        fetched: Option<&Fetched>,
    ) {
        match self {
            Self::Rest(answers) => answers.arrange(query, asked, arrangement, fetched),
            Self::Grpc(answers) => answers.arrange(query, asked, arrangement, fetched),
        }
    }

    /// The answer's body; `seconds` is the time that the whole request took.
    pub(super) fn body(self, seconds: f64) -> Bytes {
        match self {
            Self::Rest(answers) => answers.body(seconds),
            Self::Grpc(answers) => answers.body(seconds),
        }
    }
}

impl Fetched {
    /// Reads the answer to a [`Queries::fetch`].
    pub(super) fn read(
        protocol: Protocol,
        body: &Bytes,
        encoding: Option<&str>,
    ) -> Result<Self, RerankFault> {
        match protocol {
            Protocol::Rest => rest::fetched(body).map(Self::Rest),
            Protocol::Grpc => grpc::fetched(body, encoding).map(Self::Grpc),
        }
    }
}

/// Moves the chosen elements out of a list, in the order of the choice; each at most once.
pub(super) fn take<T>(list: Vec<T>, chosen: impl Iterator<Item = usize>) -> Vec<(usize, T)> {
    let mut list: Vec<Option<T>> = list.into_iter().map(Some).collect();
    chosen.filter_map(|index| Some((index, list.get_mut(index)?.take()?))).collect()
}

/// The new order of grouped results: within a group by place, groups by their best place. `sizes` are
/// the numbers of results per group; the answer has, per group that is kept, its old place and the
/// old places of its results within it, and for each result its entry in the arrangement.
pub(super) fn group_order(
    sizes: &[usize],
    placed: &[Placed],
    limit: usize,
) -> Vec<(usize, Vec<(usize, usize)>)> {
    let mut owner = Vec::with_capacity(placed.len());
    for (group, size) in sizes.iter().enumerate() {
        owner.extend((0..*size).map(|within| (group, within)));
    }
    let mut order: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
    let mut at: HashMap<usize, usize> = HashMap::new();
    for (entry, place) in placed.iter().enumerate() {
        let Some((group, within)) = owner.get(place.index).copied() else { continue };
        let slot = *at.entry(group).or_insert_with(|| {
            order.push((group, Vec::new()));
            order.len() - 1
        });
        order[slot].1.push((within, entry));
    }
    order.truncate(limit);
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> GatewayRules {
        GatewayRules {
            items: "items".to_owned(),
            users: "users".to_owned(),
            candidates: 200,
            maximum_candidates: 1_000,
        }
    }

    #[test]
    fn routes_are_recognised_by_method_and_path() {
        let check = |protocol, path: &str, expected: Option<(Shape, Option<&str>)>| {
            let route = Route::recognise(protocol, &Method::POST, path);
            let expected = expected.map(|(shape, collection)| Route {
                shape,
                collection: collection.map(str::to_owned),
            });
            assert_eq!(route, expected, "{path}");
        };
        let (rest, grpc) = (Protocol::Rest, Protocol::Grpc);
        check(
            rest,
            "/collections/my%20items/points/query",
            Some((Shape::Single, Some("my items"))),
        );
        check(rest, "/collections/a/points/query/batch", Some((Shape::Batch, Some("a"))));
        check(rest, "/collections/a/points/query/groups", Some((Shape::Groups, Some("a"))));
        check(rest, "/collections/a/points/search", None);
        check(rest, "/collections/a/points/query/newer", None);
        check(grpc, "/qdrant.Points/Query", Some((Shape::Single, None)));
        check(grpc, "/qdrant.Points/Upsert", None);
        assert_eq!(Route::recognise(rest, &Method::GET, "/collections/a/points/query"), None);
    }

    #[test]
    fn a_pool_holds_the_candidates_and_whatever_page_is_asked() {
        let check = |limit, offset, group_size, expected: Option<usize>| {
            let asked = Asked { limit, offset, group_size, ..Asked::default() };
            assert_eq!(asked.pool(&rules()).ok(), expected);
        };
        check(10, 0, None, Some(200));
        check(10, 300, None, Some(310));
        check(10, 995, None, None);
        check(5, 0, Some(3), Some(67));
        check(500, 0, Some(3), None);
    }

    proptest! {
        #[test]
        fn groups_keep_their_results_and_follow_the_best(
            sizes in prop::collection::vec(0_usize..5, 0..6), seed in any::<u64>(), limit in 0_usize..8,
        ) {
            let total: usize = sizes.iter().sum();
            let mut indexes: Vec<usize> = (0..total).collect();
            indexes.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(seed | 1) >> 7);
            let placed: Vec<Placed> = indexes
                .iter()
                .map(|index| Placed { index: *index, score: 0.0, note: Value::Null })
                .collect();
            let order = group_order(&sizes, &placed, limit);
            let filled = sizes.iter().filter(|size| **size > 0).count();
            prop_assert_eq!(order.len(), filled.min(limit));
            let best: Vec<usize> = order.iter().map(|(_, hits)| hits[0].1).collect();
            prop_assert!(best.windows(2).all(|pair| pair[0] < pair[1]));
            for (group, hits) in order {
                let mut within: Vec<usize> = hits.iter().map(|hit| hit.0).collect();
                within.sort_unstable();
                prop_assert_eq!(within, (0..sizes[group]).collect::<Vec<_>>());
                prop_assert!(hits.windows(2).all(|pair| pair[0].1 < pair[1].1));
            }
        }
    }
}
