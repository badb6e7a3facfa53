//! What the gateway reads of a request besides its queries, and writes around an answer: bodies of bounded
//! size, and headers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use percent_encoding::percent_decode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    DEGRADED_HEADER, GATEWAY_CANCELLED, MODE_HEADER, Mode, RerankFault, STATE_HEADER, USER_HEADER,
};

/// How much of a body is read, for how long, and how much of all bodies together.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Bytes of one body.
    pub(super) most: usize,
    /// Time from its head to its end.
    pub(super) time: Duration,
    /// Kibibytes that are free for all bodies.
    pub(super) free: Arc<Semaphore>,
}

/// A body that was read to its end, or is not to be.
pub(super) enum Read {
    /// The body, and its share of what is free for all.
    Whole(Bytes, Option<OwnedSemaphorePermit>),
    /// What was read already and all that follows, and why it was not read on.
    More(Body, &'static str),
}

pub(super) async fn read_body(mut body: Body, bounds: &Bounds) -> Read {
    let mut read = BytesMut::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
    let until = tokio::time::Instant::now() + bounds.time;
    let why = loop {
        if read.len() > bounds.most {
            break "too_large";
        }
        let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else {
            break "slow_body";
        };
        let data = match frame {
            None => return Read::Whole(read.freeze(), share),
            // Requests carry no trailers in either protocol.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            // The client broke off: the server sees the same.
            Some(Err(error)) => {
                let first = stream::once(async move { Ok(Frame::data(read.freeze())) });
                let broken = first.chain(stream::once(async move { Err(error) }));
                return Read::More(Body::new(StreamBody::new(broken)), GATEWAY_CANCELLED);
            }
        };
        read.extend_from_slice(&data);
        let size = u32::try_from(data.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let Ok(more) = bounds.free.clone().try_acquire_many_owned(size) else { break "busy" };
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
    };
    let first = stream::once(async move { Ok(Frame::data(read.freeze())) });
    let rest = body.into_data_stream().map_ok(Frame::data);
    Read::More(Body::new(StreamBody::new(first.chain(rest))), why)
}

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

pub(super) fn mode(headers: &HeaderMap) -> Option<Mode> {
    match headers.get(MODE_HEADER)?.as_bytes() {
        b"off" => Some(Mode::Off),
        b"shadow" => Some(Mode::Shadow),
        b"rerank" => Some(Mode::Rerank),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(most: usize, free: usize) -> Bounds {
        Bounds { most, time: Duration::from_secs(1), free: Arc::new(Semaphore::new(free)) }
    }

    fn body(pieces: usize, ends: bool) -> Body {
        let pieces = stream::iter(vec!["x".repeat(1024); pieces]).map(Ok::<_, std::io::Error>);
        if ends {
            Body::from_stream(pieces)
        } else {
            Body::from_stream(pieces.chain(stream::pending()))
        }
    }

    #[tokio::test]
    async fn a_body_is_read_within_its_bounds_and_passes_on_whole_beyond_them() {
        let roomy = bounds(4 << 10, 8);
        let Read::Whole(first, share) = read_body(body(4, true), &roomy).await else { panic!() };
        assert_eq!((first.len(), roomy.free.available_permits()), (4 << 10, 4));
        drop(share);
        assert_eq!(roomy.free.available_permits(), 8);
        for (bounds, pieces, ends, why) in [
            (&roomy, 5, true, "too_large"),
            (&bounds(4 << 10, 2), 4, true, "busy"),
            (&roomy, 2, false, "slow_body"),
        ] {
            let Read::More(rest, told) = read_body(body(pieces, ends), bounds).await else {
                panic!()
            };
            assert_eq!(told, why);
            if ends {
                let rest = axum::body::to_bytes(rest, usize::MAX).await.unwrap();
                assert_eq!(rest.len(), pieces << 10, "{why}");
            }
        }
        assert_eq!(roomy.free.available_permits(), 8);
    }
}
