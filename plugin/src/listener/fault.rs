//! What can go wrong with a request, and the one table that gives each cause its HTTP and gRPC status,
//! which are Qdrant's.

use axum::http::StatusCode;
use tonic::{Code, Status};

use crate::id::PointId;
use crate::store::StoreError;

/// The cause of a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It cannot be read, or does not fit the collection.
    Input,
    /// It can be read, but a value is out of its range.
    Range,
    /// A collection or point is missing.
    Missing,
    /// The collection exists already.
    Exists,
    /// Qdrant can do it, this engine cannot.
    Unimplemented,
    /// It may succeed later.
    Unavailable,
    /// The store failed.
    Internal,
}

impl Cause {
    pub(super) fn http(self) -> StatusCode {
        match self {
            Self::Input => StatusCode::BAD_REQUEST,
            Self::Range => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Missing => StatusCode::NOT_FOUND,
            Self::Exists => StatusCode::CONFLICT,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn grpc(self) -> Code {
        match self {
            Self::Input | Self::Range => Code::InvalidArgument,
            Self::Missing => Code::NotFound,
            Self::Exists => Code::AlreadyExists,
            Self::Unimplemented => Code::Unimplemented,
            Self::Unavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }
}

/// Why a request is refused, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) message: String,
}

impl Fault {
    fn new(cause: Cause, message: String) -> Self {
        Self { cause, message }
    }

    /// A request that does not fit.
    pub(super) fn input(detail: impl std::fmt::Display) -> Self {
        Self::new(Cause::Input, format!("Wrong input: {detail}"))
    }

    /// A request that cannot be read.
    pub(super) fn format(part: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(Cause::Input, format!("Format error in {part}: {detail}"))
    }

    /// A value out of its range.
    pub(super) fn range(field: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(Cause::Range, format!("Validation error: [{field}: {detail}]"))
    }

    /// A point that a request needs and that is not there.
    pub(super) fn no_point(id: PointId) -> Self {
        Self::new(Cause::Missing, format!("Not found: No point with id {id} found"))
    }

    /// The point of a request for one point.
    pub(super) fn no_such_point(id: PointId) -> Self {
        Self::new(Cause::Missing, format!("Not found: Point with id {id} does not exists!"))
    }

    /// A collection that was to be made.
    pub(super) fn exists(collection: &str) -> Self {
        let message = format!("Wrong input: Collection `{collection}` already exists!");
        Self::new(Cause::Exists, message)
    }

    /// Something that Qdrant can do and this engine cannot.
    pub(super) fn unimplemented(what: impl std::fmt::Display) -> Self {
        let message = format!("Unimplemented: the embedded engine does not support {what}");
        Self::new(Cause::Unimplemented, message)
    }

    /// More than a limit allows.
    pub(super) fn too_many(what: &str, given: usize, setting: &str, limit: usize) -> Self {
        Self::input(format!("{what} is {given}, more than `{setting}` = {limit} allows"))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            // Clients look for these two messages, so they are Qdrant's to the letter.
            StoreError::CollectionMissing { collection } => Self::new(
                Cause::Missing,
                format!("Not found: Collection `{collection}` doesn't exist!"),
            ),
            StoreError::PointsMissing { first, .. } => Self::no_point(first),
            error @ (StoreError::CollectionName { .. }
            | StoreError::SchemaMismatch { .. }
            | StoreError::InvalidPoint { .. }
            | StoreError::InvalidRequest { .. }
            | StoreError::Filter(_)
            | StoreError::TooMany { .. }) => Self::input(error),
            error @ (StoreError::Locked { .. }
            | StoreError::DiskFull { .. }
            | StoreError::Closed
            | StoreError::Unavailable { .. }) => {
                Self::new(Cause::Unavailable, format!("Service unavailable: {error}"))
            }
            error @ (StoreError::Io { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Engine { .. }
            | StoreError::Server { .. }) => {
                tracing::error!(%error, "a request failed in the store");
                Self::new(Cause::Internal, format!("Service internal error: {error}"))
            }
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        Self::new(fault.cause.grpc(), fault.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_s_errors_have_qdrant_s_statuses() {
        let check = |error: StoreError, http: u16, grpc: Code, words: &str| {
            let fault = Fault::from(error);
            assert_eq!(fault.cause.http().as_u16(), http, "{fault:?}");
            let status = Status::from(fault);
            assert_eq!(status.code(), grpc);
            assert!(status.message().contains(words), "{}", status.message());
        };
        let collection = || "items".to_owned();
        let missing = StoreError::CollectionMissing { collection: collection() };
        check(missing, 404, Code::NotFound, "Collection `items` doesn't exist!");
        let points =
            StoreError::PointsMissing { collection: collection(), first: 7.into(), count: 2 };
        check(points, 404, Code::NotFound, "No point with id 7 found");
        let request =
            StoreError::InvalidRequest { collection: collection(), detail: "odd".to_owned() };
        check(request, 400, Code::InvalidArgument, "odd");
        check(StoreError::Closed, 503, Code::Unavailable, "closed");
        let engine = StoreError::Engine { collection: collection(), detail: "broken".to_owned() };
        check(engine, 500, Code::Internal, "broken");
        let name = StoreError::CollectionName { name: "a/b".to_owned() };
        check(name, 400, Code::InvalidArgument, "a/b");
    }
}
