//! The API keys in force and what each may still ask for: requests per second and at the same time. Keys
//! are replaced while serving; a key that stays keeps its count.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ApiError, Cause};
use crate::access::{self, AccessKey};
use crate::config::ServerSettings;

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

/// What one key has left.
#[derive(Debug)]
pub(super) struct Allowance {
    limits: KeyLimits,
    rate: Option<DefaultDirectRateLimiter>,
    places: Option<Arc<Semaphore>>,
}

/// Why a key's request was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exhausted {
    message: String,
    again_in: Duration,
}

impl Allowance {
    fn new(limits: KeyLimits) -> Self {
        let rate = NonZeroU32::new(limits.requests_per_second).map(|rate| {
            let burst = NonZeroU32::new(limits.burst).unwrap_or(rate);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        });
        let concurrent = limits.concurrent_requests;
        let places = (concurrent > 0).then(|| Arc::new(Semaphore::new(concurrent)));
        Self { limits, rate, places }
    }

    /// Takes a place for one request, to be held until its answer is out.
    ///
    /// # Errors
    /// When the key has none left.
    pub(super) fn admit(&self) -> Result<Option<OwnedSemaphorePermit>, Exhausted> {
        // The place comes first: a request that finds none does not count against the rate.
        let place = match &self.places {
            None => None,
            Some(places) => Some(places.clone().try_acquire_owned().map_err(|_| Exhausted {
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
    /// As the API tells it.
    pub(super) fn error(&self) -> ApiError {
        ApiError::new(Cause::Full, self.message.clone())
    }

    /// Says in a response when to come back, in whole seconds.
    pub(super) fn mark(&self, response: &mut Response) {
        let seconds = self.again_in.as_secs_f64().ceil().max(1.0) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

impl IntoResponse for Exhausted {
    fn into_response(self) -> Response {
        let mut response = self.error().into_response();
        self.mark(&mut response);
        response
    }
}

/// A key that was found, with what it has left.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) key: AccessKey,
    pub(super) allowance: Arc<Allowance>,
}

#[derive(Debug)]
struct InForce {
    keys: Vec<AccessKey>,
    allowances: HashMap<String, Arc<Allowance>>,
}

impl InForce {
    fn new(settings: &ServerSettings, before: Option<&Self>) -> Self {
        let keys = settings.all_keys();
        let allowances = keys.iter().map(|key| {
            let limits = key.limits.unwrap_or(settings.key_limits);
            let kept = before.and_then(|before| before.allowances.get(&key.name));
            let kept = kept.filter(|kept| kept.limits == limits).cloned();
            (key.name.clone(), kept.unwrap_or_else(|| Arc::new(Allowance::new(limits))))
        });
        Self { allowances: allowances.collect(), keys }
    }
}

/// The keys in force.
#[derive(Debug)]
pub(super) struct Callers {
    in_force: ArcSwap<InForce>,
}

impl Callers {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        Self { in_force: ArcSwap::from_pointee(InForce::new(settings, None)) }
    }

    /// Whether nobody needs a key.
    pub(super) fn none(&self) -> bool {
        self.in_force.load().keys.is_empty()
    }

    /// The holder of a given key.
    pub(super) fn find(&self, given: &str) -> Option<Known> {
        let in_force = self.in_force.load();
        let key = access::find(&in_force.keys, given)?.clone();
        let allowance = in_force.allowances.get(&key.name)?.clone();
        Some(Known { key, allowance })
    }

    /// What the holder of a key has left, if the key with this digest is still in force.
    pub(super) fn still(&self, digest: &str) -> Option<Arc<Allowance>> {
        let in_force = self.in_force.load();
        let key = in_force.keys.iter().find(|key| key.sha256.eq_ignore_ascii_case(digest))?;
        in_force.allowances.get(&key.name).cloned()
    }

    /// From the next request on these keys count.
    pub(super) fn replace(&self, settings: &ServerSettings) {
        let new = InForce::new(settings, Some(&self.in_force.load()));
        self.in_force.store(Arc::new(new));
    }
}

/// Keeps places until the last byte of a streamed answer is out; an answer that is complete already is
/// only copied to the network, and gives them back at once.
pub(super) fn held<T: Send + 'static>(response: Response, places: T) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held_until_the_body_is_dropped = &places;
            frame
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{KeyRole, digest};

    fn settings(limits: KeyLimits, names: &[&str]) -> ServerSettings {
        let keys = names.iter().map(|name| AccessKey {
            name: (*name).to_owned(),
            role: KeyRole::Search,
            sha256: digest(name),
            items: None,
            limits: None,
        });
        ServerSettings { keys: keys.collect(), key_limits: limits, ..ServerSettings::default() }
    }

    #[test]
    fn a_key_is_bounded_by_itself_and_told_when_to_come_back() {
        let limits = KeyLimits { requests_per_second: 1, burst: 2, concurrent_requests: 0 };
        let callers = Callers::new(&settings(limits, &["one", "two"]));
        let admit = |key: &str| callers.find(key).unwrap().allowance.admit();
        assert!(admit("one").is_ok() && admit("one").is_ok());
        let response = admit("one").unwrap_err().into_response();
        assert_eq!(response.status(), axum::http::StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert!(admit("two").is_ok(), "another key has its own");
    }

    #[test]
    fn places_come_back_and_stay_taken_over_a_replacement() {
        let limits = KeyLimits { concurrent_requests: 1, ..KeyLimits::default() };
        let callers = Callers::new(&settings(limits, &["one"]));
        let place = callers.find("one").unwrap().allowance.admit().unwrap();
        callers.replace(&settings(limits, &["one", "two"]));
        let again = callers.find("one").unwrap().allowance.admit();
        assert!(again.unwrap_err().message.contains("concurrent_requests"));
        assert!(callers.find("two").unwrap().allowance.admit().is_ok());
        drop(place);
        assert!(callers.find("one").unwrap().allowance.admit().is_ok());
        callers.replace(&settings(limits, &["two"]));
        assert!(callers.find("one").is_none() && callers.still(&digest("one")).is_none());
        assert!(callers.still(&digest("two")).is_some());
    }

    #[tokio::test]
    async fn a_stream_holds_its_place_and_a_complete_answer_does_not() {
        let places = Arc::new(Semaphore::new(1));
        let place = || places.clone().try_acquire_owned();
        let complete = held("done".into_response(), place().unwrap());
        assert!(place().is_ok(), "a complete answer");
        drop(complete);
        let pieces = futures::stream::iter([Ok::<_, std::io::Error>("piece")]);
        let streamed = held(Body::from_stream(pieces).into_response(), place().unwrap());
        assert!(place().is_err(), "a stream that was not read");
        let bytes = axum::body::to_bytes(streamed.into_body(), 100).await.unwrap();
        assert_eq!(bytes, "piece");
        assert!(place().is_ok(), "a stream that was read");
    }
}
