//! Who may ask the gateway, and how much: the keys in force and what each of them has left. Keys are
//! replaced while serving; one that stays keeps its count.

use std::sync::Arc;

use axum::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::{GatewayKeys, Protocol, proxy};
use crate::allowance::{Allowance, Exhausted};
use crate::secret::Secret;

const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The keys in force.
#[derive(Debug)]
pub(super) struct KeysInForce {
    clients: Vec<(Secret, Arc<Allowance>)>,
    upstream: Option<Secret>,
}

/// Why a request was not let in.
#[derive(Debug)]
pub(super) enum Refused {
    /// It has no key, or none that is known.
    Unauthorized,
    /// Its key has nothing left.
    Exhausted(Exhausted),
}

impl KeysInForce {
    /// These keys, of which those that were in force `before` keep what they had left.
    pub(super) fn new(keys: GatewayKeys, before: Option<&Self>) -> Self {
        let GatewayKeys { clients, limits, upstream } = keys;
        let mut in_force = Self { clients: Vec::with_capacity(clients.len()), upstream };
        for key in clients {
            // A key that is given twice has its allowance once.
            if in_force.find(key.expose().as_bytes()).is_none() {
                let known = before.and_then(|before| before.find(key.expose().as_bytes()));
                in_force.clients.push((key, Allowance::kept(known, limits)));
            }
        }
        in_force
    }

    /// Whether nobody needs a key.
    pub(super) fn none(&self) -> bool {
        self.clients.is_empty()
    }

    /// What the holder of a given key has left. All keys are compared, so that the time does not tell
    /// which one came close.
    fn find(&self, given: &[u8]) -> Option<&Arc<Allowance>> {
        self.clients.iter().fold(
            None,
            |found, (key, allowance)| {
                if key.matches(given) { Some(allowance) } else { found }
            },
        )
    }

    /// Lets a request in if the gateway asks for no key, or it carries one of the gateway's that has
    /// something left, and gives it the key for the server if there is one. The place that comes back is
    /// to be held until the answer is out.
    pub(super) fn admit(
        &self,
        request: &mut Request<Body>,
    ) -> Result<Option<OwnedSemaphorePermit>, Refused> {
        let open = matches!(
            request.uri().path(),
            "/" | "/healthz" | "/livez" | "/readyz" | "/grpc.health.v1.Health/Check"
        );
        let headers = request.headers_mut();
        let mut place = None;
        if !self.none() && !open {
            let bearer = || headers.get(header::AUTHORIZATION)?.as_bytes().strip_prefix(b"Bearer ");
            let given = headers.get(API_KEY).map(HeaderValue::as_bytes).or_else(bearer);
            let allowance =
                given.and_then(|given| self.find(given)).ok_or(Refused::Unauthorized)?;
            place = allowance.admit().map_err(Refused::Exhausted)?;
        }
        if let Some(key) = &self.upstream {
            headers.remove(header::AUTHORIZATION);
            headers.remove(API_KEY);
            if let Ok(mut value) = HeaderValue::from_str(key.expose()) {
                value.set_sensitive(true);
                headers.insert(API_KEY, value);
            }
        }
        Ok(place)
    }
}

impl Refused {
    /// One of [`super::GATEWAY_REFUSALS`].
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Exhausted(exhausted) => exhausted.limit.name(),
        }
    }

    /// As Qdrant tells it.
    pub(super) fn answer(&self, protocol: Protocol) -> Response<Body> {
        match self {
            Self::Unauthorized => {
                let message = "Must provide an API key or an Authorization bearer token";
                proxy::fault(protocol, StatusCode::UNAUTHORIZED, message)
            }
            Self::Exhausted(exhausted) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let mut response = proxy::fault(protocol, status, &exhausted.message);
                // Qdrant's clients read it in both protocols.
                exhausted.mark(&mut response);
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::GATEWAY_REFUSALS;
    use super::*;
    use crate::allowance::KeyLimits;

    fn keys(clients: &[&str], limits: KeyLimits) -> GatewayKeys {
        let clients = clients.iter().map(|key| Secret::new(*key)).collect();
        GatewayKeys { clients, limits, upstream: Some(Secret::new("inner")) }
    }

    fn request(path: &str, header: Option<(&str, &str)>) -> Request<Body> {
        let mut request = Request::builder().uri(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn the_gateways_keys_let_in_and_the_servers_key_goes_on() {
        let keys = KeysInForce::new(keys(&["one", "two"], KeyLimits::default()), None);
        let check = |path: &str, header: Option<(&str, &str)>, lets_in: bool| {
            let mut request = request(path, header);
            let answer = keys.admit(&mut request);
            assert_eq!(answer.is_ok(), lets_in, "{path} {header:?}");
            if lets_in {
                assert_eq!(request.headers()["api-key"], "inner");
                assert!(!request.headers().contains_key("authorization"));
            }
        };
        check("/collections", Some(("api-key", "two")), true);
        check("/collections", Some(("authorization", "Bearer one")), true);
        check("/collections", Some(("api-key", "three")), false);
        check("/collections", None, false);
        check("/healthz", None, true);
    }

    #[test]
    fn a_key_is_bounded_by_itself_and_told_so_in_its_protocol() {
        let limits = KeyLimits { requests_per_second: 1, ..KeyLimits::default() };
        let keys = KeysInForce::new(keys(&["one", "two"], limits), None);
        let admit = |key| keys.admit(&mut request("/collections", Some(("api-key", key))));
        assert!(admit("one").is_ok());
        let refused = admit("one").unwrap_err();
        assert_eq!(refused.reason(), "requests_per_second");
        let rest = refused.answer(Protocol::Rest);
        assert_eq!(rest.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(rest.headers()[header::RETRY_AFTER], "1");
        let grpc = refused.answer(Protocol::Grpc);
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(grpc.headers()["grpc-status"], "8");
        assert_eq!(grpc.headers()[header::RETRY_AFTER], "1");
        assert!(admit("two").is_ok(), "another key has its own");
        assert!(keys.admit(&mut request("/livez", None)).is_ok(), "health is without a bound");
        let unknown = admit("three").unwrap_err();
        for refused in [refused, unknown] {
            assert!(GATEWAY_REFUSALS.contains(&refused.reason()), "{refused:?}");
        }
    }

    #[test]
    fn a_key_that_stays_keeps_its_places_over_a_replacement() {
        let limits = KeyLimits { concurrent_requests: 1, ..KeyLimits::default() };
        let admit = |keys: &KeysInForce, key| {
            keys.admit(&mut request("/collections", Some(("api-key", key))))
        };
        let before = KeysInForce::new(keys(&["one", "one"], limits), None);
        let place = admit(&before, "one").unwrap();
        let after = KeysInForce::new(keys(&["two", "one"], limits), Some(&before));
        assert_eq!(admit(&after, "one").unwrap_err().reason(), "concurrent_requests");
        assert!(admit(&after, "two").is_ok());
        drop(place);
        assert!(admit(&after, "one").is_ok());
        let gone = KeysInForce::new(keys(&["two"], limits), Some(&after));
        assert_eq!(admit(&gone, "one").unwrap_err().reason(), "unauthorized");
    }
}
