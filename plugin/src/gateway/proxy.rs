//! What every passed request needs: the headers that belong to one connection only, the gateway's own
//! keys, and answers in Qdrant's shape for what the server behind did not answer.

use axum::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{GatewayKeys, MODE_HEADER, Protocol, USER_HEADER};

const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Headers about one connection (RFC 9110, section 7.6.1), which a proxy must not pass on.
const OF_ONE_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes away what must not go on to the server.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    strip_response(headers);
    // The gateway has answered the expectation itself by reading on.
    headers.remove(header::EXPECT);
    headers.remove(USER_HEADER);
    headers.remove(MODE_HEADER);
}

/// Takes away what must not go back to the client.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
}

/// Lets a request in if the gateway asks for no key or it carries one of the gateway's, and gives it
/// the key for the server if there is one. The error says what is missing.
pub(super) fn authenticate(
    keys: &GatewayKeys,
    request: &mut Request<Body>,
) -> Result<(), &'static str> {
    let open = matches!(
        request.uri().path(),
        "/" | "/healthz" | "/livez" | "/readyz" | "/grpc.health.v1.Health/Check"
    );
    let headers = request.headers_mut();
    if !keys.clients.is_empty() && !open {
        let bearer = || headers.get(header::AUTHORIZATION)?.as_bytes().strip_prefix(b"Bearer ");
        let given = headers.get(API_KEY).map(HeaderValue::as_bytes).or_else(bearer);
        // All keys are compared, so that the time does not tell which one came close.
        let known = given.is_some_and(|given| {
            keys.clients.iter().fold(false, |known, key| known | key.matches(given))
        });
        if !known {
            return Err("Must provide an API key or an Authorization bearer token");
        }
    }
    if let Some(key) = &keys.upstream {
        headers.remove(header::AUTHORIZATION);
        headers.remove(API_KEY);
        if let Ok(mut value) = HeaderValue::from_str(key.expose()) {
            value.set_sensitive(true);
            headers.insert(API_KEY, value);
        }
    }
    Ok(())
}

/// An answer in Qdrant's shape for what Qdrant did not answer.
pub(super) fn fault(protocol: Protocol, status: StatusCode, message: &str) -> Response<Body> {
    tracing::warn!(protocol = protocol.name(), %status, message, "a request was not passed on");
    match protocol {
        Protocol::Rest => {
            let body = serde_json::json!({ "status": { "error": message }, "time": 0.0 });
            let mut response = Response::new(Body::from(body.to_string()));
            *response.status_mut() = status;
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Protocol::Grpc => {
            // The status codes of gRPC: 3 invalid argument, 4 deadline exceeded, 14 unavailable,
            // 16 unauthenticated.
            let code = match status {
                StatusCode::BAD_REQUEST => "3",
                StatusCode::GATEWAY_TIMEOUT => "4",
                StatusCode::UNAUTHORIZED => "16",
                _ => "14",
            };
            let mut response = Response::new(Body::empty());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static(code));
            let message = utf8_percent_encode(message, NON_ALPHANUMERIC).to_string();
            if let Ok(message) = HeaderValue::from_str(&message) {
                headers.insert("grpc-message", message);
            }
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn headers_of_one_connection_stay_and_others_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("x-whyrank-user", "7"),
            ("api-key", "k"),
            ("te", "trailers"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_request(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["api-key", "te"]);
    }

    #[test]
    fn the_gateways_keys_let_in_and_the_servers_key_goes_on() {
        let keys = GatewayKeys {
            clients: vec![Secret::new("one"), Secret::new("two")],
            upstream: Some(Secret::new("inner")),
        };
        let check = |path: &str, header: Option<(&'static str, &'static str)>, lets_in: bool| {
            let mut request = Request::builder().uri(path);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let mut request = request.body(Body::empty()).unwrap();
            let answer = authenticate(&keys, &mut request);
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
    fn a_fault_in_grpc_is_a_status() {
        let response = fault(Protocol::Grpc, StatusCode::BAD_GATEWAY, "no ✓");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "no%20%E2%9C%93");
    }
}
