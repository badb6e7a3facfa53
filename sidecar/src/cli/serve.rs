//! `whyrank serve`: the boot order, and the way down.

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Role;
use super::runtime::Runtime;
use crate::config::Settings;
use crate::http::Api;
use crate::queue::{self, WritingDesk};
use crate::writing::PairWriter;

pub(super) async fn serve(settings: Settings, roles: &[Role]) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let has = |role| roles.is_empty() || roles.contains(&role);
    let writer = if has(Role::Worker) {
        let codes = runtime.codes(&runtime.embedder()?)?;
        Some(runtime.writer(None, codes).await?)
    } else {
        None
    };
    serve_with(runtime, writer, has(Role::Api)).await
}

/// Serves until a signal comes; then lets requests end, stops the worker and closes the store.
pub(super) async fn serve_with(
    runtime: Runtime,
    writer: Option<PairWriter>,
    api: bool,
) -> Result<()> {
    let address = &runtime.settings.server.address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address} (`server.address`)"))?;
    let bound = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let worker = writer.map(|writer| {
        let queue = &runtime.settings.queue;
        let storage = runtime.storage.clone();
        queue::start(writer, storage, queue, &runtime.metrics, shutdown.clone())
    });
    let (desk, worker) = worker.unzip();
    let server = build_api(&runtime, desk).await?;
    let server = if api { server } else { server.health_only() };
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
    let served = server.serve(listener, shutdown.clone()).await;
    shutdown.cancel();
    if let Some(worker) = worker {
        worker.await.context("the worker ended badly")?;
    }
    runtime.close().await?;
    served.context("serving")
}

async fn build_api(runtime: &Runtime, desk: Option<WritingDesk>) -> Result<Api> {
    let missing = desk
        .as_ref()
        .filter(|_| runtime.settings.queue.write_missing)
        .map(|desk| desk.missing().clone());
    let reranker = runtime.reranker(&runtime.embedder()?, missing).await?;
    let (storage, metrics) = (runtime.storage.clone(), runtime.metrics.clone());
    Ok(Api::new(reranker, storage, desk, metrics, runtime.settings.server.clone()))
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
