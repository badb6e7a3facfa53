//! The drop-in: Whyrank on Qdrant's own protocol, in front of Qdrant.
//!
//! Whatever is not a query on the items collection for a known consumer passes through as it came,
//! streaming, in both directions: requests of newer servers and clients too. A query for a known
//! consumer is asked of Qdrant with a larger limit and without payloads, the [`CandidateReranker`]
//! orders what comes back, and the payloads of the few that are shown are fetched afterwards; the
//! answer has Qdrant's shape.
//!
//! # Who the consumer is
//! `lookup_from` on the users collection with a point id as the query, or the header (in gRPC the
//! metadata) `x-whyrank-user` with the id that the data gave, percent-encoded where it is not ASCII.
//!
//! # Which queries
//! Query, query batch and query groups, on every kind of query except those that ask for an order of
//! their own (`order_by`, `sample`, and none at all). With `offset + limit` beyond the largest pool
//! the query passes through.
//!
//! # Failing open
//! A fault, a missed deadline or a full house gives the client the answer that Qdrant gives to the
//! request as it came, and the header `x-whyrank-degraded` says why. Qdrant's errors stay its own.

mod exchange;
mod flow;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod keys;
mod proxy;
mod queries;
mod rest;
mod serve;
mod settings;
mod upstream;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::Body;
use axum::extract::State;
use http::{Request, Response};
use tokio::sync::Semaphore;

pub use serve::{BoundGateway, GatewayError};
pub use settings::{GatewayKeys, GatewayScore, GatewaySettings, Mode};
pub use upstream::Upstream;

use crate::allowance::held_to_the_end;
use crate::bodies::Bounds;
use crate::domain::{Candidate, Ranked};
use crate::id::PointId;

/// The request header that names the consumer.
pub const USER_HEADER: &str = "x-whyrank-user";
/// The request header that chooses the [`Mode`] of one request.
pub const MODE_HEADER: &str = "x-whyrank-mode";
/// The answer's header that says what was done: `reranked`, `shadow` or `degraded`.
pub const STATE_HEADER: &str = "x-whyrank-state";
/// The answer's header that says in one word why Qdrant's own answer was given.
pub const DEGRADED_HEADER: &str = "x-whyrank-degraded";

/// The outcome of a request whose client left before there was an answer.
pub const GATEWAY_CANCELLED: &str = "cancelled";

/// The values of [`DEGRADED_HEADER`].
pub const GATEWAY_DEGRADATIONS: [&str; 12] = [
    "unknown_user",
    "unknown_mode",
    "no_model",
    "model",
    "store",
    "deadline",
    "busy",
    "too_many",
    "too_large",
    "slow_body",
    "newer_request",
    "upstream",
];

/// Why a client got an answer that the gateway made in place of the server behind: it could not be connected
/// to, or ended the connection before its answer; it did not answer in time.
pub const GATEWAY_UPSTREAM_FAILURES: [&str; 2] = ["unreachable", "timeout"];

/// Why the gateway does not let a request in: it has no key that is known, or its key has reached one of
/// its limits.
pub const GATEWAY_REFUSALS: [&str; 3] =
    ["unauthorized", "requests_per_second", "concurrent_requests"];

/// One of Qdrant's two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// JSON over HTTP.
    Rest,
    /// Protocol buffers over HTTP/2.
    Grpc,
}

impl Protocol {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
        }
    }
}

/// How a request names its consumer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ConsumerReference {
    /// The point in the users collection.
    Point(PointId),
    /// The id that the data gave.
    External(String),
}

/// What a reranker is asked to do.
#[derive(Debug, Clone)]
pub struct RerankTask {
    /// For whom.
    pub consumer: ConsumerReference,
    /// What Qdrant found, in its order; no item twice.
    pub candidates: Vec<Candidate>,
    /// The places of the new order that the client will see.
    pub shown: Range<usize>,
    /// Whether texts and contributions of what is shown are wanted.
    pub explain: bool,
}

/// Why a reranker gave no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct RerankFault {
    /// One of [`GATEWAY_DEGRADATIONS`].
    pub reason: &'static str,
    /// What happened, for the log.
    pub message: String,
}

impl RerankFault {
    /// A fault of this kind.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What orders candidates.
#[async_trait]
pub trait CandidateReranker: fmt::Debug + Send + Sync + 'static {
    /// All candidates in their new order. The gateway checks that the answer is a permutation.
    ///
    /// # Errors
    /// When there is no order better than Qdrant's own; the client then gets that.
    async fn rerank(&self, task: RerankTask) -> Result<Vec<Ranked>, RerankFault>;
}

/// What the gateway tells about its work, for metrics.
pub trait GatewayObserver: fmt::Debug + Send + Sync + 'static {
    /// A request on a route that can be reranked was answered: `reranked`, `shadow`, `passed`, or one
    /// of [`GATEWAY_DEGRADATIONS`]; or the server behind gave no answer, for one of
    /// [`GATEWAY_UPSTREAM_FAILURES`]; or its client left before, which is [`GATEWAY_CANCELLED`].
    fn answered(&self, protocol: Protocol, outcome: &'static str, took: Duration);

    /// A request was not let in, for one of [`GATEWAY_REFUSALS`].
    fn refused(&self, protocol: Protocol, reason: &'static str);

    /// A request on whichever route got no answer of the server behind, for one of
    /// [`GATEWAY_UPSTREAM_FAILURES`].
    fn unanswered(&self, protocol: Protocol, outcome: &'static str);

    /// A reranking in the shadow ended: the share of what the client was shown that it would have
    /// been shown as well.
    fn shadowed(&self, agreement: f64, took: Duration);
}

/// Which collections are meant, and how many candidates are reranked.
#[derive(Debug, Clone)]
pub struct GatewayRules {
    /// The items collection.
    pub items: String,
    /// The users collection, by which `lookup_from` names a consumer.
    pub users: String,
    /// How many candidates are reranked.
    pub candidates: usize,
    /// The most candidates that are reranked, for a client that asks for more results.
    pub maximum_candidates: usize,
}

/// What a [`Gateway`] is made of.
#[derive(Debug)]
pub struct GatewayParts {
    /// Addresses and limits.
    pub settings: GatewaySettings,
    /// Collections and candidates.
    pub rules: GatewayRules,
    /// What it stands in front of.
    pub upstream: Upstream,
    /// What orders candidates.
    pub reranker: Arc<dyn CandidateReranker>,
    /// Where its work is counted.
    pub observer: Arc<dyn GatewayObserver>,
}

/// The gateway. Cheap to clone; keeps no state between requests but what its keys have left.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: GatewaySettings,
    rules: GatewayRules,
    upstream: Upstream,
    reranker: Arc<dyn CandidateReranker>,
    observer: Arc<dyn GatewayObserver>,
    keys: ArcSwap<keys::KeysInForce>,
    bodies: Bounds,
    reranks: Arc<Semaphore>,
    shadows: Arc<Semaphore>,
}

impl Gateway {
    /// Puts a gateway together.
    pub fn new(parts: GatewayParts) -> Self {
        let GatewayParts { settings, rules, upstream, reranker, observer } = parts;
        let reranks = Arc::new(Semaphore::new(settings.maximum_reranks));
        let shadows = Arc::new(Semaphore::new(settings.maximum_shadows));
        let keys = ArcSwap::from_pointee(keys::KeysInForce::new(settings.keys(), None));
        let bodies = Bounds::new(
            settings.maximum_body_bytes,
            Duration::from_secs(settings.body_seconds),
            settings.maximum_buffered_bytes,
        );
        let inner =
            Inner { settings, rules, upstream, reranker, observer, keys, bodies, reranks, shadows };
        Self { inner: Arc::new(inner) }
    }

    /// Whether clients must have one of the gateway's keys.
    pub fn has_keys(&self) -> bool {
        !self.inner.keys.load().none()
    }

    /// From the next request on these keys and their limits count, in all clones.
    pub fn replace_keys(&self, keys: GatewayKeys) {
        let new = keys::KeysInForce::new(keys, Some(&self.inner.keys.load()));
        self.inner.keys.store(Arc::new(new));
    }

    /// Everything that one of the two protocols is asked, as a router.
    pub fn router(&self, protocol: Protocol) -> axum::Router {
        let handle = move |State(gateway): State<Self>, request: Request<Body>| async move {
            gateway.handle(protocol, request).await
        };
        axum::Router::new().fallback(handle).with_state(self.clone())
    }

    async fn handle(&self, protocol: Protocol, mut request: Request<Body>) -> Response<Body> {
        // What is in force now; the load ends here, so that a long request keeps no old keys alive.
        let admitted = self.inner.keys.load().admit(&mut request);
        let place = match admitted {
            Ok(place) => place,
            Err(refused) => {
                self.inner.observer.refused(protocol, refused.reason());
                return refused.answer(protocol);
            }
        };
        let response = self.answer(protocol, request).await;
        match place {
            Some(place) => held_to_the_end(response, place),
            None => response,
        }
    }

    async fn answer(&self, protocol: Protocol, request: Request<Body>) -> Response<Body> {
        let route = queries::Route::recognise(protocol, request.method(), request.uri().path());
        let response = match route {
            Some(route) if self.inner.reranks_on(&route) => {
                flow::answer(&self.inner, protocol, route, request).await
            }
            _ => self.inner.upstream.call(protocol, request).await,
        };
        // Only what clients get counts: a reranking that the server behind fails has Qdrant's own answer.
        if let Some(outcome) = upstream::unanswered(&response) {
            self.inner.observer.unanswered(protocol, outcome);
        }
        response
    }
}

impl Inner {
    /// Whether queries on this route may concern the items collection. In gRPC only the message tells.
    fn reranks_on(&self, route: &queries::Route) -> bool {
        route.collection.as_deref().is_none_or(|name| self.is_items(name))
    }

    fn is_items(&self, name: &str) -> bool {
        name == self.rules.items || self.settings.collections.iter().any(|other| other == name)
    }
}
