//! What the scenarios run on: a trained installation whose language model is the stand-in, with its data in
//! its own process or on a real Qdrant server.

use std::sync::Arc;

use anyhow::Result;

use crate::{Installation, RealQdrant, Server};

/// Settings of the queue that do not make a suite wait for minutes.
pub(super) const QUICK_QUEUE: &str = "[queue]\nlease_seconds = 3\nretry_initial_seconds = 1\n\
     retry_maximum_seconds = 2\npoll_milliseconds = 50\nattempts = 50\n";

/// An installation and where it keeps its consumers.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) installation: Arc<Installation>,
    /// The name of the consumers' collection.
    pub(super) users: String,
}

impl Site {
    /// With its data on the server, or in its own process where none is given.
    pub(super) async fn new(base_url: &str, qdrant: Option<&RealQdrant>) -> Result<Self> {
        let (qdrant, lines) = (qdrant.cloned(), stand_in(base_url, QUICK_QUEUE));
        tokio::task::spawn_blocking(move || {
            let (installation, prefix) = match qdrant {
                None => (Installation::trained()?, String::new()),
                Some(qdrant) => Installation::in_server(&qdrant.grpc, &qdrant.rest)?,
            };
            installation.configure(&lines)?;
            Ok(Self { installation: Arc::new(installation), users: format!("{prefix}users") })
        })
        .await?
    }
}

/// A trained installation in its own process, with these settings besides.
pub(super) async fn installation(base_url: &str, settings: &str) -> Result<Arc<Installation>> {
    let lines = stand_in(base_url, settings);
    tokio::task::spawn_blocking(move || {
        let installation = Installation::trained()?;
        installation.configure(&lines)?;
        Ok(Arc::new(installation))
    })
    .await?
}

/// Settings under which the stand-in writes.
pub(super) fn stand_in(base_url: &str, settings: &str) -> String {
    format!(
        "[generator]\nkind = \"openai\"\n\n[generator.openai]\nbase_url = \"{base_url}\"\n\
         model = \"stand-in\"\ntimeout_seconds = 5.0\nretries = 0\n\n{settings}"
    )
}

/// Starts the server of an installation off the async threads.
pub(super) async fn serve(installation: &Arc<Installation>, roles: &[&str]) -> Result<Server> {
    let installation = installation.clone();
    let arguments: Vec<String> =
        roles.iter().flat_map(|role| ["--role".to_owned(), (*role).to_owned()]).collect();
    tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        installation.serve(&arguments)
    })
    .await?
}
