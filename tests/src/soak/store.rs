//! The store is out of reach for a while: a proxy between the process and the engine is cut, connections
//! and all, and comes back where it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::site::{QUICK_QUEUE, installation, serve, stand_in};
use super::stand_in::StandIn;
use super::workload::Workload;
use super::{Findings, Plan};
use crate::{Gateway, Installation, RealQdrant};

/// Milliseconds that an answer may take while the store is away.
const TOLD_WITHIN: f64 = 15.0;

/// A proxy that can be cut.
struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Proxy {
    async fn start(target: &str) -> Result<Self> {
        let target = target.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut state) = (target.clone(), state.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(&target).await else { return };
                    tokio::select! {
                        // Whoever leaves first ends it; that is no fault of the proxy.
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Ok(Self { address, open })
    }
}

pub(super) async fn unreachable(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let model = StandIn::start().await?;
    // The engine: a real Qdrant, or the embedded one in a process of its own.
    let (installation, users, engine) = match qdrant {
        Some(qdrant) => {
            let (qdrant, proxy) = (qdrant.clone(), Proxy::start(&qdrant.grpc).await?);
            let (installation, prefix) = tokio::task::spawn_blocking(move || {
                Installation::in_server(&qdrant.grpc, &qdrant.rest)
            })
            .await??;
            let through = format!("http://{}", proxy.address);
            let grpc = std::env::var("QDRANT_URL").unwrap_or_default();
            installation.replace(&format!("url = \"{grpc}\""), &format!("url = \"{through}\""))?;
            let gateway = format!("upstream_grpc = \"{grpc}\"\n");
            installation.replace("[gateway]\n", &format!("[gateway]\n{gateway}"))?;
            installation.configure(&stand_in(&model.base_url, QUICK_QUEUE))?;
            (Arc::new(installation), format!("{prefix}users"), (None, proxy))
        }
        None => {
            let behind = installation(&model.base_url, "").await?;
            let engine = serve(&behind, &["gateway"]).await?;
            let at = engine.gateway.clone().context("the engine's gateway")?;
            let proxy = Proxy::start(&at.grpc).await?;
            let installation = in_front(&model.base_url, &at, proxy.address).await?;
            (installation, "users".to_owned(), (Some((behind, engine)), proxy))
        }
    };
    let (_behind, proxy) = engine;
    let workload = Workload::new(plan.seed)?;
    let server = serve(&installation, &[]).await?;
    workload.ready(&server, Instant::now(), plan.recovery_seconds).await?;
    let running = workload.start(&server, 0);
    tokio::time::sleep(Duration::from_millis(plan.kill_within)).await;
    proxy.open.send(false)?;
    let away = Instant::now();
    let (mut slowest, mut asked, mut answered): (f64, usize, usize) = (0.0, 0, 0);
    while away.elapsed().as_secs() < plan.store_away {
        let (from, body) = (Instant::now(), json!({ "user": "1", "item": "1" }));
        let answer = workload.post(&server.url, "/v1/explain", &body).await;
        slowest = slowest.max(from.elapsed().as_secs_f64());
        asked += 1;
        match answer {
            Some((status, _)) if status.is_success() => answered += 1,
            Some((status, body)) => found
                .require(status.as_u16() == 503 && body["error"].is_string(), || {
                    format!("the store is away: {status}: {body}")
                }),
            None => found.require(false, || "the store is away, and no answer came".to_owned()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.open.send(true)?;
    let back = Instant::now();
    let recovered = workload.ready(&server, back, plan.recovery_seconds).await?;
    let again = loop {
        if workload.ranks_of(&server.url, "1").await == Some(None) {
            break back.elapsed().as_secs_f64();
        }
        if back.elapsed().as_secs() > plan.recovery_seconds {
            break f64::INFINITY;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    tokio::time::sleep(Duration::from_millis(plan.kill_within)).await;
    running.stop().await?;
    found.figure("asked_while_away", asked);
    found.figure("answered_while_away", answered);
    found.figure("slowest_answer_while_away_seconds", slowest);
    found.figure("ready_after_seconds", recovered);
    found.figure("recommends_after_seconds", again);
    found.require(slowest <= TOLD_WITHIN, || {
        format!("an answer took {slowest:.1} s while the store was away, more than {TOLD_WITHIN}")
    });
    found.require(again <= plan.recovery_seconds as f64, || {
        format!("no recommendation {} s after the store was back", plan.recovery_seconds)
    });
    found.figure("drained_seconds", workload.drained(&server, 600).await?);
    let status = workload.get(&format!("{}/v1/queue", server.url)).await.unwrap_or_default().1;
    found.require(status["dead"] == 0, || format!("an absent store cost pairs: {status}"));
    found.figure("peak_memory_kilobytes", server.peak_memory()?);
    workload.audit(&server, &users, found).await
}

/// An installation whose store is the engine behind the proxy.
async fn in_front(
    base_url: &str,
    behind: &Gateway,
    proxy: SocketAddr,
) -> Result<Arc<Installation>> {
    let store = format!("[store.server]\nurl = \"http://{proxy}\"\ntotal_timeout_seconds = 8.0\n");
    let front = installation(base_url, &format!("{QUICK_QUEUE}\n{store}")).await?;
    front.replace("[store.embedded]", "[store]\nbackend = \"server\"\n\n[store.embedded]")?;
    let gateway = format!(
        "[gateway]\nupstream_rest = \"{}\"\nupstream_grpc = \"{}\"\n",
        behind.rest, behind.grpc
    );
    front.replace("[gateway]\n", &gateway)?;
    Ok(front)
}
