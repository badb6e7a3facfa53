//! `whyrank serve`: the boot order, and the way down.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::Router;
use clap::ValueEnum;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinHandle;
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
use crate::reload::{self, Fingerprint, Reloading};
use crate::staleness::Freshness;
use crate::telemetry;
use crate::writing::PairWriter;

/// What is begun before anything is loaded, which can take minutes: a SIGHUP must not end the process
/// meanwhile, and a change of keys and certificates must not go unseen.
#[derive(Debug)]
struct Watching {
    of_models: Hangups,
    of_keys: Hangups,
    seen: Option<Fingerprint>,
}

impl Watching {
    fn begin(settings: &Settings) -> Result<Self> {
        let hangups = || Hangups::listen().context("listening for the signal SIGHUP");
        let (of_models, of_keys) = (hangups()?, hangups()?);
        Ok(Self { of_models, of_keys, seen: reload::seen(settings) })
    }
}

pub(super) async fn serve(settings: Settings, roles: &[Role]) -> Result<()> {
    let watching = Watching::begin(&settings)?;
    let runtime = Runtime::open(settings).await?;
    let roles = if roles.is_empty() { Role::value_variants() } else { roles };
    let writer = if roles.contains(&Role::Worker) {
        let codes = runtime.codes(&runtime.embedder()?)?;
        Some(runtime.writer(None, codes).await?)
    } else {
        None
    };
    serve_watching(runtime, writer, roles, watching).await
}

/// Serves until a signal comes; then lets requests end, stops the worker and closes the store.
pub(super) async fn serve_with(
    runtime: Runtime,
    writer: Option<PairWriter>,
    roles: &[Role],
) -> Result<()> {
    let watching = Watching::begin(&runtime.settings)?;
    serve_watching(runtime, writer, roles, watching).await
}

async fn serve_watching(
    runtime: Runtime,
    writer: Option<PairWriter>,
    roles: &[Role],
    watching: Watching,
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
    let shutdown = CancellationToken::new();
    let (jobs, freshness) = (runtime.jobs(), Freshness::default());
    let mut tasks: Vec<Task> = Vec::new();
    // Without a worker here the queue is for those that share the store; with the embedded one there
    // are none.
    let (desk, missing) = if writer.is_some() || runtime.storage.is_shared() {
        let (missing, task) = queue::start_offering(&jobs, shutdown.clone());
        tasks.push(("offering", task));
        let measuring = queue::measure(jobs.clone(), writer.is_some(), shutdown.clone());
        tasks.push(("measuring", tokio::spawn(measuring)));
        let desk = match writer {
            Some(writer) => {
                let (jobs, freshness) = (jobs.clone(), freshness.clone());
                let Started { desk, worker } =
                    queue::start(writer, jobs, freshness, shutdown.clone());
                tasks.push(("worker", worker));
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
    let following = freshness.clone().follow(jobs.clone(), shutdown.clone());
    tasks.push(("freshness", tokio::spawn(following)));
    let embedder = runtime.embedder()?;
    let reranker = runtime.reranker(&embedder, missing.clone(), freshness).await?;
    let reranker = runtime.observed(reranker)?;
    let models = runtime.keeper(&reranker);
    let following = models.clone().follow(watching.of_models, shutdown.clone());
    tasks.push(("models", tokio::spawn(following)));
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
    let connections = settings.connections;
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
        seen: watching.seen,
    };
    let following = reloading.follow(watching.of_keys, shutdown.clone());
    tasks.push(("reload", tokio::spawn(following)));
    if let Some((listener, _)) = health {
        let router = api.clone().health_only().router();
        let shutdown = shutdown.clone();
        let serving = async move {
            let served = serving::serve(listener, router, None, connections, shutdown, grace).await;
            if let Err(error) = served {
                tracing::error!(%error, "health and metrics are served no longer");
            }
        };
        tasks.push(("health", tokio::spawn(serving)));
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
        let served = gateway.serve(observed, connections, shutdown.clone(), grace).await;
        let served = served.context("serving the gateway");
        shutdown.cancel();
        served
    };
    let (served, passed, ended) =
        tokio::join!(serving, passing, supervise(tasks, shutdown.clone()));
    runtime.close().await?;
    // A task that ended too early is why the others did.
    ended.and(served).and(passed)
}

/// A task in the background, and its name in the log. None of them ends before `shutdown` fires.
type Task = (&'static str, JoinHandle<()>);

/// Waits until all tasks have ended. One that panics, or ends before `shutdown` fired, stops the process: it
/// would look sound and do only a part of its work, and whatever started it would not start it again.
///
/// # Errors
/// Names the first such task.
async fn supervise(tasks: Vec<Task>, shutdown: CancellationToken) -> Result<()> {
    let named = |(name, task): Task| async move { (name, task.await) };
    let mut running: FuturesUnordered<_> = tasks.into_iter().map(named).collect();
    let mut outcome = Ok(());
    while let Some((name, ended)) = running.next().await {
        let fault = match ended {
            Err(error) => format!("the background task `{name}` ended badly: {error}"),
            Ok(()) if shutdown.is_cancelled() => continue,
            Ok(()) => format!("the background task `{name}` ended before the process was to stop"),
        };
        tracing::error!("{fault}; the process stops");
        shutdown.cancel();
        outcome = outcome.and(Err(anyhow!(fault)));
    }
    outcome
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A task as all should be.
    fn sound(shutdown: &CancellationToken) -> Task {
        ("sound", tokio::spawn(shutdown.clone().cancelled_owned()))
    }

    async fn panics() {
        panic!("on purpose");
    }

    #[tokio::test]
    async fn a_task_that_panics_stops_the_process_and_is_named() {
        let shutdown = CancellationToken::new();
        let tasks = vec![sound(&shutdown), ("broken", tokio::spawn(panics()))];
        let error = supervise(tasks, shutdown.clone()).await.unwrap_err().to_string();
        assert!(shutdown.is_cancelled());
        assert!(error.contains("`broken`") && error.contains("on purpose"), "{error}");
    }

    #[tokio::test]
    async fn a_task_that_ends_too_early_stops_the_process_and_is_named() {
        let shutdown = CancellationToken::new();
        let tasks = vec![sound(&shutdown), ("hasty", tokio::spawn(async {}))];
        let error = supervise(tasks, shutdown.clone()).await.unwrap_err().to_string();
        assert!(shutdown.is_cancelled());
        assert!(error.contains("`hasty`"), "{error}");
    }

    #[tokio::test]
    async fn tasks_that_end_when_the_process_is_to_stop_are_no_fault() {
        let shutdown = CancellationToken::new();
        let tasks = vec![sound(&shutdown), sound(&shutdown)];
        shutdown.cancel();
        supervise(tasks, shutdown).await.unwrap();
    }
}
