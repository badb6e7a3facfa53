//! What the gateway reads of a request's headers, and writes around an answer.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full};
use percent_encoding::percent_decode;

use super::{DEGRADED_HEADER, MODE_HEADER, Mode, RerankFault, STATE_HEADER, USER_HEADER};

pub(super) fn compose(
    mut head: http::response::Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
) -> Response<Body> {
    for name in ["grpc-encoding", "content-encoding", "content-length"] {
        head.headers.remove(name);
    }
    let body = Full::new(body);
    let body = match trailers {
        Some(trailers) => Body::new(body.with_trailers(async move { Some(Ok(trailers)) })),
        None => Body::new(body),
    };
    Response::from_parts(head, body)
}

pub(super) fn degraded(response: Response<Body>, reason: &'static str) -> Response<Body> {
    with_header(with_header(response, STATE_HEADER, "degraded"), DEGRADED_HEADER, reason)
}

pub(super) fn with_header(
    mut response: Response<Body>,
    name: &'static str,
    value: &'static str,
) -> Response<Body> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

pub(super) fn encoding(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-encoding")?.to_str().ok()
}

/// How a header wants the request to be treated.
pub(super) fn mode(headers: &HeaderMap) -> Result<Option<Mode>, RerankFault> {
    let Some(value) = headers.get(MODE_HEADER) else { return Ok(None) };
    match value.as_bytes() {
        b"off" => Ok(Some(Mode::Off)),
        b"shadow" => Ok(Some(Mode::Shadow)),
        b"rerank" => Ok(Some(Mode::Rerank)),
        _ => {
            let message = format!("`{MODE_HEADER}` takes off, shadow or rerank");
            Err(RerankFault::new("unknown_mode", message))
        }
    }
}

/// The consumer that a header names.
pub(super) fn named_consumer(headers: &HeaderMap) -> Result<Option<String>, RerankFault> {
    let Some(value) = headers.get(USER_HEADER) else { return Ok(None) };
    let name = percent_decode(value.as_bytes()).decode_utf8();
    let name = name.map_err(|_| {
        RerankFault::new("unknown_user", format!("`{USER_HEADER}` is not percent-encoded UTF-8"))
    })?;
    Ok(Some(name.into_owned()))
}

/// The time limit in the query part of a REST request, in seconds.
pub(super) fn timeout_parameter(parts: &Parts) -> Option<Duration> {
    let seconds =
        parts.uri.query()?.split('&').find_map(|parameter| parameter.strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// The time limit in a gRPC request's headers: a number and a unit.
pub(super) fn grpc_timeout(parts: &Parts) -> Option<Duration> {
    let value = parts.headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3_600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}
