//! What every passed request needs: the headers that belong to one connection only, and answers in
//! Qdrant's shape for what the server behind did not answer.

use axum::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{MODE_HEADER, Protocol, USER_HEADER};

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
            // The status codes of gRPC: 3 invalid argument, 4 deadline exceeded, 8 resource exhausted,
            // 14 unavailable, 16 unauthenticated. A fault has headers alone, which are its trailers.
            let code = match status {
                StatusCode::BAD_REQUEST => "3",
                StatusCode::GATEWAY_TIMEOUT => "4",
                StatusCode::TOO_MANY_REQUESTS => "8",
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
    fn a_fault_in_grpc_is_a_status() {
        let response = fault(Protocol::Grpc, StatusCode::BAD_GATEWAY, "no ✓");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "no%20%E2%9C%93");
    }
}
