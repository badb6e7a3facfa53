//! Qdrant's gRPC interface: the generated services over the operations, and what is said to a method
//! that is not answered.
//!
//! A field that is newer than the generated types cannot be seen here: the protocol's rule is that a
//! reader skips it.

mod answer;
mod collections;
mod points;
mod query;
mod selector;

use axum::Router;
use axum::http::Uri;
use axum::response::Response;
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer};
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use tonic::service::Routes;
use tonic::{Request, Status};

use super::fault::Fault;
use super::operations::Operations;
use super::{TITLE, VERSION};
use crate::wire::WireError;

pub(super) fn router(operations: Operations) -> Router {
    let largest = operations.settings().maximum_body_bytes;
    let points = PointsServer::new(Service { operations: operations.clone() });
    let collections = CollectionsServer::new(Service { operations: operations.clone() });
    Routes::new(points.max_decoding_message_size(largest))
        .add_service(collections.max_decoding_message_size(largest))
        .add_service(QdrantServer::new(Service { operations }))
        .into_axum_router()
        .fallback(unknown)
}

/// The services over the operations.
#[derive(Debug)]
struct Service {
    operations: Operations,
}

#[tonic::async_trait]
impl Qdrant for Service {
    async fn health_check(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckReply>, Status> {
        let (title, version) = (TITLE.to_owned(), VERSION.to_owned());
        Ok(tonic::Response::new(HealthCheckReply { title, version, commit: None }))
    }
}

/// The answer to methods of other services, and of newer versions of these.
async fn unknown(uri: Uri) -> Response {
    Status::from(unanswered(uri.path())).into_http()
}

/// The refusal of a method, by its full name.
fn unanswered(method: &str) -> Fault {
    Fault::unimplemented(format!("the method {method}"))
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Unsupported { what, hint } => Self::unimplemented(format!("{what}{hint}")),
            error @ (WireError::Missing { .. }
            | WireError::Invalid { .. }
            | WireError::Filter(_)) => Self::input(error),
        }
    }
}

/// Writes the methods of a generated service that are not answered.
macro_rules! unanswered_methods {
    ($service:literal: $($method:ident = $name:literal($request:ty) -> $answer:ty;)*) => {
        // What `async_trait` makes of an async method: it does not look into macros.
        $(
            fn $method<'this, 'async_trait>(
                &'this self,
                _request: tonic::Request<$request>,
            ) -> std::pin::Pin<Box<
                dyn Future<Output = Result<tonic::Response<$answer>, tonic::Status>>
                    + Send
                    + 'async_trait,
            >>
            where
                'this: 'async_trait,
                Self: 'async_trait,
            {
                let method = concat!("/qdrant.", $service, "/", $name);
                Box::pin(std::future::ready(Err($crate::listener::grpc::unanswered(method).into())))
            }
        )*
    };
}
use unanswered_methods;
