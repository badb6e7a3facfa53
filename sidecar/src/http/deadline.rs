//! The caller's own deadline: `timeout` in the query, in seconds, as Qdrant's clients send it. It goes
//! inward with the request, so that reranking gives up early enough for the retrieval order to be
//! answered in time, and ends all work when it has passed.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ApiError, Cause};

tokio::task_local! {
    /// When the answer must be there.
    static DEADLINE: Instant;
}

/// Gives up on a request whose caller's time is over.
pub(super) async fn keep(mut request: Request, next: Next) -> Response {
    let limit = match timeout(request.uri().query()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(limit)) => limit,
        Err(given) => {
            let message = format!("`timeout` is {given:?}; it must be a number of seconds above 0");
            return ApiError::new(Cause::Invalid, message).into_response();
        }
    };
    // No route has to know the parameter, and those that refuse unknown ones do not see it.
    if let Some(uri) = without_timeout(request.uri()) {
        *request.uri_mut() = uri;
    }
    let Some(deadline) = Instant::now().checked_add(limit) else { return next.run(request).await };
    let work = DEADLINE.scope(deadline, next.run(request));
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("the answer took longer than the {limit:?} of `timeout`");
        ApiError::new(Cause::Deadline, message).into_response()
    })
}

/// The time for a stage that something can still be answered after: the configured one, or half of what
/// the caller has left if that is less.
pub(crate) fn within(configured: Duration) -> Duration {
    let left = DEADLINE.try_with(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(configured, |left| configured.min(left / 2))
}

/// The time limit in the query part, or what stands in its place.
fn timeout(query: Option<&str>) -> Result<Option<Duration>, String> {
    let given = query.and_then(|query| {
        query.split('&').find_map(|parameter| parameter.strip_prefix("timeout="))
    });
    let Some(given) = given else { return Ok(None) };
    let seconds = given.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    limit.map(Some).ok_or_else(|| given.to_owned())
}

/// The address without the time limit in its query part.
fn without_timeout(uri: &Uri) -> Option<Uri> {
    let others = uri.query()?.split('&').filter(|parameter| !parameter.starts_with("timeout="));
    let others: Vec<&str> = others.collect();
    let mark = if others.is_empty() { "" } else { "?" };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{}{mark}{}", uri.path(), others.join("&")).parse().ok();
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_do_not_see_the_time_limit() {
        for (given, seen) in [
            ("/v1/queue/dead?timeout=5", "/v1/queue/dead"),
            ("/a?x=1&timeout=5&y=%20", "/a?x=1&y=%20"),
            ("http://host/a?timeouts=1", "http://host/a?timeouts=1"),
        ] {
            assert_eq!(without_timeout(&given.parse().unwrap()).unwrap(), seen);
        }
    }

    #[test]
    fn a_time_limit_is_seconds_above_zero() {
        assert_eq!(timeout(None), Ok(None));
        assert_eq!(timeout(Some("a=1")), Ok(None));
        assert_eq!(timeout(Some("a=1&timeout=1.5")), Ok(Some(Duration::from_millis(1_500))));
        for faulty in ["", "0", "-1", "soon", "inf", "NaN"] {
            assert_eq!(timeout(Some(&format!("timeout={faulty}"))), Err(faulty.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_stage_gets_half_of_what_is_left_and_never_more_than_configured() {
        let (configured, long) = (Duration::from_millis(200), Duration::from_secs(60));
        assert_eq!(within(configured), configured);
        let soon = Instant::now() + Duration::from_millis(100);
        let given = DEADLINE.scope(soon, async { within(configured) }).await;
        assert!(given <= Duration::from_millis(50), "{given:?}");
        let later = Instant::now() + long;
        assert_eq!(DEADLINE.scope(later, async { within(configured) }).await, configured);
    }
}
