//! Whether the server is a Qdrant that is new enough.

use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};

use super::call::Caller;
use super::connect::Clients;
use crate::store::{StoreError, StoreResult};

/// The oldest version that has all that is asked of it: queries, exact facets, the condition
/// `has_vector`.
const OLDEST: (u32, u32) = (1, 13);

/// Asks the server for its version and checks it.
pub(super) async fn check(url: &str, caller: &Caller, clients: &Clients) -> StoreResult<String> {
    let answer = caller
        .call("", || {
            let mut client = clients.health();
            async move { client.health_check(HealthCheckRequest {}).await }
        })
        .await;
    let refuse = |detail: String| StoreError::Server { url: url.to_owned(), detail };
    match answer {
        Ok(reply) => fits(&reply).map_err(refuse).map(|()| reply.version),
        Err(StoreError::Unavailable { detail }) => {
            let hint = "is it running, and is `url` its gRPC address (port 6334, not 6333)?";
            Err(StoreError::Unavailable { detail: format!("{detail}; {hint}") })
        }
        Err(error @ StoreError::Server { .. }) => Err(error),
        Err(error) => Err(refuse(format!(
            "it does not answer as a Qdrant does ({error}); is `url` its gRPC address (port 6334)?"
        ))),
    }
}

fn fits(reply: &HealthCheckReply) -> Result<(), String> {
    let (title, version) = (&reply.title, &reply.version);
    if !title.to_lowercase().contains("qdrant") {
        return Err(format!("it is {title:?} {version}, not a Qdrant"));
    }
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => Ok(()),
        (Some(Ok(_)), Some(Ok(_))) => {
            let (major, minor) = OLDEST;
            Err(format!("it is Qdrant {version}; {major}.{minor} or newer is needed"))
        }
        _ => Err(format!("it gives {version:?} as its version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_and_other_servers_are_refused() {
        let check = |title: &str, version: &str, expected: Option<&str>| {
            let reply = HealthCheckReply {
                title: title.to_owned(),
                version: version.to_owned(),
                commit: None,
            };
            match (fits(&reply), expected) {
                (Ok(()), None) => {}
                (Err(fault), Some(word)) => assert!(fault.contains(word), "{fault}"),
                (found, _) => panic!("{title} {version}: {found:?}"),
            }
        };
        let qdrant = "qdrant - vector search engine";
        check(qdrant, "1.18.3", None);
        check(qdrant, "1.13.0", None);
        check(qdrant, "1.19.0-dev", None);
        check(qdrant, "2.0.0", None);
        check(qdrant, "1.9.7", Some("1.13 or newer"));
        check(qdrant, "latest", Some("latest"));
        check("weaviate", "1.30.0", Some("not a Qdrant"));
    }
}
