//! The clock of the machine jumps under writes and generation. Debian's `libfaketime` moves it for one process;
//! where it is not installed the scenario says so and is not run, unless `WHYRANK_FAKETIME=required`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::site::Site;
use super::stand_in::StandIn;
use super::workload::Workload;
use super::{Findings, Plan};
use crate::{Installation, RealQdrant, Server};

/// What the clock shows one after the other, beside the real time.
const JUMPS: [&str; 5] = ["+2h", "-1h", "+400d", "-2h", "+0"];
/// Seconds that the queue may take to empty afterwards.
const DRAINED_WITHIN: u64 = 600;

pub(super) async fn jumps(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let Some(library) = library() else {
        ensure!(
            std::env::var("WHYRANK_FAKETIME").as_deref() != Ok("required"),
            "WHYRANK_FAKETIME is required, and libfaketime is not installed"
        );
        found.skip("the clock cannot be moved here (Debian: apt install libfaketime)");
        return Ok(());
    };
    let model = StandIn::start().await?;
    let Site { installation, users } = Site::new(&model.base_url, qdrant).await?;
    let clock = installation.path().join("clock");
    std::fs::write(&clock, "+0")?;
    let workload = Workload::new(plan.seed)?;
    let started = Instant::now();
    let server = serve(&installation, library, clock.clone()).await?;
    workload.ready(&server, started, plan.recovery_seconds).await?;
    let running = workload.start(&server, 0);
    for jump in JUMPS {
        std::fs::write(&clock, jump)?;
        tokio::time::sleep(Duration::from_millis(plan.kill_within)).await;
        let before = workload.answers.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(plan.kill_within)).await;
        let answered = workload.answers.load(Ordering::SeqCst) - before;
        found.require(answered > 0, || {
            format!("nothing was answered after the clock went to {jump}")
        });
    }
    running.stop().await?;
    found.figure("drained_seconds", workload.drained(&server, DRAINED_WITHIN).await?);
    workload.audit(&server, &users, found).await?;
    let memory = server.peak_memory()?;
    found.figure("peak_memory_kilobytes", memory);
    found.require(memory <= plan.memory_kilobytes, || {
        format!("the process had {memory} kB, more than {}", plan.memory_kilobytes)
    });
    Ok(())
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    paths.find(|path| path.exists())
}

/// Starts the server with a clock that a file moves while it runs.
async fn serve(
    installation: &Arc<Installation>,
    library: PathBuf,
    clock: PathBuf,
) -> Result<Server> {
    let installation = installation.clone();
    tokio::task::spawn_blocking(move || {
        let mut command = installation.command(&["serve"]);
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", clock)
            .env("FAKETIME_NO_CACHE", "1")
            // Waits are measured by the clock that no administrator sets.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Server::started(command)
    })
    .await?
}
