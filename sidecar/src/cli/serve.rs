//! `whyrank serve`: the boot order, and the way down.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Role;
use super::runtime::Runtime;
use crate::config::Settings;
use crate::http::{Api, ApiParts};
use crate::inference::Inference;
use crate::queue::{self, Started, WritingDesk};
use crate::staleness::Freshness;
use crate::writing::PairWriter;

pub(super) async fn serve(settings: Settings, roles: &[Role]) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let roles = if roles.is_empty() { Role::value_variants() } else { roles };
    let writer = if roles.contains(&Role::Worker) {
        let codes = runtime.codes(&runtime.embedder()?)?;
        Some(runtime.writer(None, codes).await?)
    } else {
        None
    };
    serve_with(runtime, writer, roles).await
}

/// Serves until a signal comes; then lets requests end, stops the worker and closes the store.
pub(super) async fn serve_with(
    runtime: Runtime,
    writer: Option<PairWriter>,
    roles: &[Role],
) -> Result<()> {
    let address = &runtime.settings.server.address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address} (`server.address`)"))?;
    let bound = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let (jobs, freshness) = (runtime.jobs(), Freshness::default());
    let mut tasks = Vec::new();
    // Without a worker here the queue is for those that share the store; with the embedded one there
    // are none.
    let (desk, missing) = if writer.is_some() || runtime.storage.is_shared() {
        let (missing, task) = queue::start_offering(&jobs, shutdown.clone());
        tasks.push(task);
        let desk = match writer {
            Some(writer) => {
                let (jobs, freshness) = (jobs.clone(), freshness.clone());
                let Started { desk, worker } =
                    queue::start(writer, jobs, freshness, shutdown.clone());
                tasks.push(worker);
                desk
            }
            None => WritingDesk::Elsewhere(Box::new(jobs.clone())),
        };
        (Some(desk), Some(missing))
    } else {
        (None, None)
    };
    tasks.push(tokio::spawn(freshness.clone().follow(jobs.clone(), shutdown.clone())));
    let embedder = runtime.embedder()?;
    let reranker = runtime.reranker(&embedder, missing.clone(), freshness).await?;
    let reranker = runtime.observed(reranker)?;
    let models = runtime.keeper(&reranker);
    tasks.push(tokio::spawn(models.clone().follow(shutdown.clone())));
    let interactions = runtime.interactions(&reranker, &embedder, jobs.clone());
    let inference = Inference::new(reranker.clone(), embedder.clone(), runtime.codes(&embedder)?);
    let gateway = if roles.contains(&Role::Gateway) {
        let gateway = runtime.gateway(reranker.clone())?.bind()?;
        let scheme = if runtime.settings.gateway.certificate.is_some() { "https" } else { "http" };
        let (rest, grpc) = (gateway.rest_address, gateway.grpc_address);
        eprintln!("gateway on {scheme}://{rest} (Qdrant's REST) and {scheme}://{grpc} (its gRPC)");
        Some(gateway)
    } else {
        None
    };
    let settings = runtime.settings.server.clone();
    let grace = Duration::from_secs(settings.grace_seconds);
    let (storage, metrics) = (runtime.storage.clone(), runtime.metrics.clone());
    let audiences = runtime.audiences(reranker.clone(), &embedder)?;
    let insights = runtime.insights(reranker.clone());
    let api = Api::new(ApiParts {
        reranker,
        audiences,
        insights,
        storage,
        inference,
        interactions,
        jobs,
        models,
        missing,
        desk,
        metrics,
        settings,
    });
    let api = if roles.contains(&Role::Api) { api } else { api.health_only() };
    // The address is the one thing that a script which started the server waits for.
    eprintln!(
        "serving on http://{bound} (http://{bound}/openapi.json describes it); stop with Ctrl-C"
    );
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping");
        stop.cancel();
    });
    let serving = async {
        let served = api.serve(listener, shutdown.clone()).await.context("serving");
        shutdown.cancel();
        served
    };
    let passing = async {
        let Some(gateway) = gateway else { return Ok(()) };
        let served = gateway.serve(shutdown.clone(), grace).await.context("serving the gateway");
        shutdown.cancel();
        served
    };
    let (served, passed) = tokio::join!(serving, passing);
    for task in tasks {
        task.await.context("a background task ended badly")?;
    }
    runtime.close().await?;
    served.and(passed)
}

/// Ends when the process is asked to stop.
async fn stop_signal() {
    let interrupt = async {
        // Without a handler for it the process ends by the signal itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
