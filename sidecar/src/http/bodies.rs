//! Reads the body of a request before the request takes a place: who sends slowly holds a connection of its
//! own and nothing else.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Api, ApiError, Cause};

/// Goes on with the whole body, or refuses one that is too large or too slow.
pub(super) async fn read(State(api): State<Api>, request: Request, next: Next) -> Response {
    let settings = &api.inner.settings;
    match whole(request, settings.maximum_body_bytes, settings.body_seconds).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The request with its body read to the end.
///
/// # Errors
/// When the body has more than `most` bytes, takes more than `seconds`, or breaks off.
pub(super) async fn whole(
    request: Request,
    most: usize,
    seconds: u64,
) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let too_large = || {
        ApiError::new(Cause::TooLarge, format!("the body is larger than the limit of {most} bytes"))
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let read = axum::body::to_bytes(body, most);
    let bytes = match tokio::time::timeout(Duration::from_secs(seconds), read).await {
        Ok(Ok(bytes)) => bytes,
        // The library tells a length limit only in words.
        Ok(Err(error)) if error.to_string().contains("length limit") => return Err(too_large()),
        Ok(Err(error)) => {
            return Err(ApiError::new(Cause::Malformed, format!("the body broke off: {error}")));
        }
        Err(_) => {
            let message =
                format!("the body took longer than {seconds} seconds (`server.body_seconds`)");
            return Err(ApiError::new(Cause::SlowBody, message));
        }
    };
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

#[cfg(test)]
mod tests {
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
        whole(request, 8, 1).await.err().map(|error| error.cause)
    }

    #[tokio::test]
    async fn a_body_is_read_whole_within_its_bounds() {
        let read = whole(request(vec!["four", "four"], true), 8, 1).await.unwrap();
        assert_eq!(axum::body::to_bytes(read.into_body(), 100).await.unwrap(), "fourfour");
        assert_eq!(cause(request(vec!["four", "four", "1"], true)).await, Some(Cause::TooLarge));
        assert_eq!(cause(Request::new(Body::from("nine char"))).await, Some(Cause::TooLarge));
        assert_eq!(cause(request(vec!["four"], false)).await, Some(Cause::SlowBody));
        assert_eq!(cause(Request::new(Body::empty())).await, None);
    }
}
