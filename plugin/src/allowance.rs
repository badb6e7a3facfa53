//! What one key may ask for: requests per second and at the same time. The HTTP API and the gateway bound
//! their keys by this alike, each with its own answer to who asks for more.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderValue, Response, header};
use hyper::body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one key may ask for; 0 is without a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyLimits {
    /// Requests per second over time.
    pub requests_per_second: u32,
    /// Requests that may come at once after a pause; 0 is as many as `requests_per_second`.
    pub burst: u32,
    /// Requests answered at the same time.
    pub concurrent_requests: usize,
}

impl KeyLimits {
    /// Whether they bound anything.
    pub fn bound(&self) -> bool {
        self.requests_per_second > 0 || self.concurrent_requests > 0
    }
}

/// What one key has left.
#[derive(Debug)]
pub struct Allowance {
    limits: KeyLimits,
    rate: Option<DefaultDirectRateLimiter>,
    places: Option<Arc<Semaphore>>,
}

/// Which of a key's limits was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReachedLimit {
    /// [`KeyLimits::requests_per_second`].
    RequestsPerSecond,
    /// [`KeyLimits::concurrent_requests`].
    ConcurrentRequests,
}

impl ReachedLimit {
    /// The name in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::ConcurrentRequests => "concurrent_requests",
        }
    }
}

/// Why a key's request was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// The limit.
    pub limit: ReachedLimit,
    /// What is told to who asked.
    pub message: String,
    again_in: Duration,
}

impl Allowance {
    /// The whole of it.
    pub fn new(limits: KeyLimits) -> Self {
        let rate = NonZeroU32::new(limits.requests_per_second).map(|rate| {
            let burst = NonZeroU32::new(limits.burst).unwrap_or(rate);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        });
        let concurrent = limits.concurrent_requests.min(Semaphore::MAX_PERMITS);
        let places = (concurrent > 0).then(|| Arc::new(Semaphore::new(concurrent)));
        Self { limits, rate, places }
    }

    /// The allowance of a key after keys were replaced: what it had before, if its limits are the same.
    pub fn kept(before: Option<&Arc<Self>>, limits: KeyLimits) -> Arc<Self> {
        let kept = before.filter(|before| before.limits == limits).cloned();
        kept.unwrap_or_else(|| Arc::new(Self::new(limits)))
    }

    /// Takes a place for one request, to be held until its answer is out.
    ///
    /// # Errors
    /// When the key has none left.
    pub fn admit(&self) -> Result<Option<OwnedSemaphorePermit>, Exhausted> {
        // The place comes first: a request that finds none does not count against the rate.
        let place = match &self.places {
            None => None,
            Some(places) => Some(places.clone().try_acquire_owned().map_err(|_| Exhausted {
                limit: ReachedLimit::ConcurrentRequests,
                message: format!(
                    "this key has {} requests in hand, as many as it may (`concurrent_requests`)",
                    self.limits.concurrent_requests
                ),
                again_in: Duration::from_secs(1),
            })?),
        };
        if let Some(rate) = &self.rate
            && let Err(early) = rate.check()
        {
            return Err(Exhausted {
                limit: ReachedLimit::RequestsPerSecond,
                message: format!(
                    "this key may ask {} times a second (`requests_per_second`)",
                    self.limits.requests_per_second
                ),
                again_in: early.wait_time_from(rate.clock().now()),
            });
        }
        Ok(place)
    }
}

impl Exhausted {
    /// Says in a response when to come back, in whole seconds.
    pub fn mark<B>(&self, response: &mut Response<B>) {
        let seconds = self.again_in.as_secs_f64().ceil().max(1.0) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// Keeps places until the last byte of an answer is out or its reader has left.
pub fn held_to_the_end<T: Send + 'static>(response: Response<Body>, places: T) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| Body::new(Held { body, places: Some(Box::new(places)) }))
}

/// The same for answers made in this process: one that is complete already is only copied to the network,
/// and gives the places back at once.
pub fn held<T: Send + 'static>(response: Response<Body>, places: T) -> Response<Body> {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    held_to_the_end(response, places)
}

/// A body that looks as it did before, length and end included, so that the answer on the wire is the same.
struct Held<T> {
    body: Body,
    places: Option<Box<T>>,
}

impl<T: Send + 'static> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.places = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_reached_is_named_and_tells_when_to_come_back() {
        let limits = KeyLimits { requests_per_second: 1, burst: 2, concurrent_requests: 3 };
        let allowance = Allowance::new(limits);
        let taken = [allowance.admit().unwrap(), allowance.admit().unwrap()];
        let early = allowance.admit().unwrap_err();
        assert_eq!(early.limit, ReachedLimit::RequestsPerSecond);
        let mut response = Response::new(());
        early.mark(&mut response);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        drop(taken);
        let one = KeyLimits { concurrent_requests: 1, ..KeyLimits::default() };
        let narrow = Allowance::new(one);
        let _taken = narrow.admit().unwrap();
        let full = narrow.admit().unwrap_err();
        assert_eq!(full.limit, ReachedLimit::ConcurrentRequests);
        assert!(full.message.contains(full.limit.name()), "{}", full.message);
        assert!(!KeyLimits { burst: 3, ..KeyLimits::default() }.bound() && one.bound());
    }

    #[test]
    fn what_a_key_has_left_stays_while_its_limits_do() {
        let limits = KeyLimits { concurrent_requests: 1, ..KeyLimits::default() };
        let before = Allowance::kept(None, limits);
        let _taken = before.admit().unwrap();
        assert!(Allowance::kept(Some(&before), limits).admit().is_err());
        let wider = KeyLimits { concurrent_requests: 2, ..limits };
        assert!(Allowance::kept(Some(&before), wider).admit().is_ok());
    }

    #[tokio::test]
    async fn an_answer_holds_its_place_to_its_end_and_looks_the_same() {
        let places = Arc::new(Semaphore::new(1));
        let place = || places.clone().try_acquire_owned();
        let whole = || Response::new(Body::from("piece"));
        let complete = held(whole(), place().unwrap());
        assert!(place().is_ok(), "a complete answer of this process");
        drop(complete);
        let passed = held_to_the_end(whole(), place().unwrap());
        assert!(place().is_err(), "an answer that was not read");
        assert_eq!(passed.body().size_hint().exact(), Some(5));
        assert_eq!(axum::body::to_bytes(passed.into_body(), 100).await.unwrap(), "piece");
        assert!(place().is_ok(), "an answer that was read");
        let pieces = futures::stream::iter([Ok::<_, std::io::Error>("piece")]);
        let streamed = held(Response::new(Body::from_stream(pieces)), place().unwrap());
        assert!(place().is_err(), "a stream that was not read");
        drop(streamed);
        assert!(place().is_ok(), "a stream whose reader has left");
        let empty = held_to_the_end(Response::new(Body::empty()), place().unwrap());
        assert!(place().is_ok() && empty.body().is_end_stream(), "an answer without a body");
    }
}
