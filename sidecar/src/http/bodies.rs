//! Reads the body of a request before the request takes a place: who sends slowly holds a connection of its
//! own and a share of what all bodies may take, and nothing else.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use whyrank_plugin::bodies::{Bounds, Read, Unread, read as read_body};

use super::{Api, ApiError, Cause};

/// Goes on with the whole body, or refuses one that is too large or too slow.
pub(super) async fn read(State(api): State<Api>, request: Request, next: Next) -> Response {
    match whole(request, &api.inner.bodies).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The request with its body read to the end; its share of what all bodies may take rides along.
///
/// # Errors
/// When the body is beyond the bounds, or breaks off.
pub(super) async fn whole(request: Request, bounds: &Bounds) -> Result<Request, ApiError> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let (mut parts, body) = request.into_parts();
    // One that says itself that it is too large is not begun.
    if body.size_hint().lower() > bounds.most() as u64 {
        return Err(refused(Unread::TooLarge, bounds));
    }
    match read_body(body, bounds).await {
        Read::Whole(bytes, share) => {
            parts.extensions.insert(Arc::new(share));
            Ok(Request::from_parts(parts, Body::from(bytes)))
        }
        Read::More(_, why) => Err(refused(why, bounds)),
    }
}

/// As the API tells why a body was not read to its end.
fn refused(why: Unread, bounds: &Bounds) -> ApiError {
    let (cause, message) = match why {
        Unread::TooLarge => (
            Cause::TooLarge,
            format!("the body is larger than the limit of {} bytes", bounds.most()),
        ),
        Unread::TooSlow => (
            Cause::SlowBody,
            format!("the body took longer than {:?} (`server.body_seconds`)", bounds.time()),
        ),
        Unread::NoRoom => (
            Cause::Full,
            "the bodies in hand leave no room (`server.maximum_buffered_bytes`); try again".into(),
        ),
        Unread::BrokenOff => (Cause::Malformed, "the body broke off".to_owned()),
    };
    ApiError::new(cause, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Bytes;
    use futures::StreamExt;

    use super::*;

    fn request(pieces: Vec<&'static str>, ends: bool) -> Request {
        let pieces =
            futures::stream::iter(pieces).map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        let body = if ends {
            Body::from_stream(pieces)
        } else {
            Body::from_stream(pieces.chain(futures::stream::pending()))
        };
        Request::new(body)
    }

    async fn cause(request: Request) -> Option<Cause> {
        let bounds = Bounds::new(8, Duration::from_secs(1), 1 << 20);
        whole(request, &bounds).await.err().map(|error| error.cause)
    }

    #[tokio::test]
    async fn a_body_is_read_whole_within_its_bounds() {
        let bounds = Bounds::new(8, Duration::from_secs(1), 1 << 20);
        let read = whole(request(vec!["four", "four"], true), &bounds).await.unwrap();
        assert_eq!(axum::body::to_bytes(read.into_body(), 100).await.unwrap(), "fourfour");
        assert_eq!(cause(request(vec!["four", "four", "1"], true)).await, Some(Cause::TooLarge));
        assert_eq!(cause(Request::new(Body::from("nine char"))).await, Some(Cause::TooLarge));
        assert_eq!(cause(request(vec!["four"], false)).await, Some(Cause::SlowBody));
        assert_eq!(cause(Request::new(Body::empty())).await, None);
        let full = Bounds::new(8, Duration::from_secs(1), 0);
        let refused = whole(request(vec!["four"], true), &full).await.unwrap_err();
        assert_eq!(refused.cause, Cause::Full);
    }
}
