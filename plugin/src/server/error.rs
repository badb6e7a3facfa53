//! What a failed gRPC call means: whether to try again, and the seam's error for it.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};

use crate::store::StoreError;

/// Whether the same call may succeed if it is tried again.
pub(super) fn is_retryable(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {
            true
        }
        // A connection that broke in the middle of the call: only a fault on this side has a source.
        Code::Unknown | Code::Internal | Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}

/// Whether the fault says that the server is down, as opposed to busy or of another opinion.
pub(super) fn is_outage(status: &Status) -> bool {
    is_retryable(status) && !matches!(status.code(), Code::ResourceExhausted | Code::Aborted)
}

/// How long the server wants to be left alone.
pub(super) fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.metadata().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What the status says, with the causes that tonic hides behind "transport error".
pub(super) fn words(status: &Status) -> String {
    let mut words = match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    };
    let mut cause = status.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = next.source();
    }
    words
}

/// The seam's error for a call on a collection that will not be tried again.
pub(super) fn store_error(url: &str, collection: &str, status: &Status) -> StoreError {
    let detail = words(status);
    if is_retryable(status) {
        return StoreError::Unavailable { detail: format!("{detail} ({url})") };
    }
    let collection = collection.to_owned();
    match status.code() {
        Code::NotFound if detail.contains("ollection") => {
            StoreError::CollectionMissing { collection }
        }
        Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::AlreadyExists => StoreError::InvalidRequest { collection, detail },
        Code::Unauthenticated | Code::PermissionDenied => StoreError::Server {
            url: url.to_owned(),
            detail: format!("it refuses the API key ({detail}); correct `api_key`"),
        },
        Code::Unimplemented => StoreError::Server {
            url: url.to_owned(),
            detail: format!("it does not know the call ({detail}); is it an older Qdrant?"),
        },
        _ => StoreError::Engine { collection, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_error() {
        let check = |status: Status, expected: &str, retryable: bool, outage: bool| {
            assert_eq!(
                (is_retryable(&status), is_outage(&status)),
                (retryable, outage),
                "{status}"
            );
            let error = store_error("http://q", "items", &status);
            assert_eq!(error.is_retryable(), retryable);
            let error = format!("{error:?}");
            assert!(error.starts_with(expected), "{error}");
        };
        check(Status::unavailable("down"), "Unavailable", true, true);
        check(Status::deadline_exceeded("late"), "Unavailable", true, true);
        check(Status::resource_exhausted("full"), "Unavailable", true, false);
        check(Status::aborted("moved"), "Unavailable", true, false);
        let missing = "Not found: Collection `items` doesn't exist!";
        check(Status::not_found(missing), "CollectionMissing", false, false);
        check(Status::not_found("No point with id 5"), "InvalidRequest", false, false);
        check(Status::invalid_argument("bad"), "InvalidRequest", false, false);
        check(Status::failed_precondition("bad"), "InvalidRequest", false, false);
        check(Status::unauthenticated("who"), "Server", false, false);
        check(Status::permission_denied("no"), "Server", false, false);
        check(Status::unimplemented("what"), "Server", false, false);
        check(Status::internal("broken"), "Engine", false, false);
        check(Status::data_loss("lost"), "Engine", false, false);
    }

    #[test]
    fn a_broken_connection_is_an_outage_and_its_cause_is_said() {
        let broken = std::io::Error::other("connection reset");
        let status = Status::from_error(Box::new(std::io::Error::other(broken)));
        let status = Status::from_error(Box::new(status));
        assert!(words(&status).contains("connection reset"), "{status:?}");
        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(std::io::Error::other("connection reset")));
        assert!(is_outage(&status));
        assert_eq!(words(&status), "transport error: connection reset");
        assert!(!is_retryable(&Status::unknown("a fault of the server")));
    }

    #[test]
    fn the_wait_that_the_server_asks_for_is_read() {
        let mut status = Status::resource_exhausted("full");
        assert_eq!(retry_after(&status), None);
        status.metadata_mut().insert("retry-after", "7".parse().unwrap());
        assert_eq!(retry_after(&status), Some(Duration::from_secs(7)));
    }
}
