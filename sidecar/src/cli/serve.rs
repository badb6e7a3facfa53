//! `whyrank serve`: the boot order, and the way down.

use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;
use whyrank_plugin::gateway::Protocol;
use whyrank_plugin::serving::{self, Tls};

use super::Role;
use super::runtime::Runtime;
use crate::config::Settings;
use crate::hangups::Hangups;
use crate::http::{Api, ApiParts};
use crate::inference::Inference;
use crate::queue::{self, ElsewhereDesk, Started, WritingDesk};
use crate::reload::Reloading;
use crate::staleness::Freshness;
use crate::telemetry;
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
    for role in roles {
        let name = role.to_possible_value().context("a role has a name")?;
        runtime.metrics.role.with_label_values(&[name.get_name()]).set(1);
    }
    let address = &runtime.settings.server.address;
    let (listener, bound) = serving::listen(address)
        .with_context(|| format!("listening on {address} (`server.address`)"))?;
    let health = match &runtime.settings.server.health_address {
        Some(address) => Some(
            serving::listen(address)
                .with_context(|| format!("listening on {address} (`server.health_address`)"))?,
        ),
        None => None,
    };
    let tls = match runtime.settings.server.tls_files() {
        Some(files) => Some(Tls::new(files.read().context("`server.certificate`")?)),
        None => None,
    };
    let hangups = || Hangups::listen().context("listening for the signal SIGHUP");
    let (hangups_of_models, hangups) = (hangups()?, hangups()?);
    let shutdown = CancellationToken::new();
    let (jobs, freshness) = (runtime.jobs(), Freshness::default());
    let mut tasks = Vec::new();
    // Without a worker here the queue is for those that share the store; with the embedded one there
    // are none.
    let (desk, missing) = if writer.is_some() || runtime.storage.is_shared() {
        let (missing, task) = queue::start_offering(&jobs, shutdown.clone());
        tasks.push(task);
        tasks.push(tokio::spawn(queue::measure(jobs.clone(), writer.is_some(), shutdown.clone())));
        let desk = match writer {
            Some(writer) => {
                let (jobs, freshness) = (jobs.clone(), freshness.clone());
                let Started { desk, worker } =
                    queue::start(writer, jobs, freshness, shutdown.clone());
                tasks.push(worker);
                desk
            }
            None => WritingDesk::Elsewhere(Box::new(ElsewhereDesk::new(
                jobs.clone(),
                freshness.clone(),
            ))),
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
    tasks.push(tokio::spawn(models.clone().follow(hangups_of_models, shutdown.clone())));
    let interactions = runtime.interactions(&reranker, &embedder, jobs.clone());
    let inference = Inference::new(reranker.clone(), embedder.clone(), runtime.codes(&embedder)?);
    let gateway = if roles.contains(&Role::Gateway) {
        let gateway = runtime.gateway(reranker.clone())?;
        let control = gateway.clone();
        let gateway = gateway.bind()?;
        let scheme = if runtime.settings.gateway.certificate.is_some() { "https" } else { "http" };
        let (rest, grpc) = (gateway.rest_address, gateway.grpc_address);
        eprintln!("gateway on {scheme}://{rest} (Qdrant's REST) and {scheme}://{grpc} (its gRPC)");
        Some((control, gateway))
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
    let scheme = if tls.is_some() { "https" } else { "http" };
    if let Some((_, bound)) = &health {
        eprintln!("health and metrics also on http://{bound}");
    }
    eprintln!(
        "serving on {scheme}://{bound} ({scheme}://{bound}/openapi.json describes it); stop with Ctrl-C"
    );
    let (control, gateway) = gateway.unzip();
    let reloading = Reloading {
        settings: runtime.settings.clone(),
        api: api.clone(),
        api_tls: tls.clone(),
        gateway: control.zip(gateway.as_ref().map(|gateway| gateway.tls().cloned())),
        storage: runtime.storage.clone(),
        metrics: runtime.metrics.clone(),
    };
    tasks.push(tokio::spawn(reloading.follow(hangups, shutdown.clone())));
    if let Some((listener, _)) = health {
        let router = api.clone().health_only().router();
        let shutdown = shutdown.clone();
        tasks.push(tokio::spawn(async move {
            let served = serving::serve(listener, router, None, shutdown.clone(), grace).await;
            if let Err(error) = served {
                tracing::error!(%error, "health and metrics are served no longer");
                shutdown.cancel();
            }
        }));
    }
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping");
        stop.cancel();
    });
    let serving = async {
        let served = api.serve(listener, tls, shutdown.clone()).await.context("serving");
        shutdown.cancel();
        served
    };
    let passing = async {
        let Some(gateway) = gateway else { return Ok(()) };
        let served = gateway.serve(observed, shutdown.clone(), grace).await;
        let served = served.context("serving the gateway");
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

/// The gateway's requests have ids and spans as the API's have.
fn observed(protocol: Protocol, router: Router) -> Router {
    let surface = match protocol {
        Protocol::Rest => "gateway rest",
        Protocol::Grpc => "gateway grpc",
    };
    router.layer(axum::middleware::from_fn(move |request, next| {
        telemetry::observe(surface, request, next)
    }))
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
