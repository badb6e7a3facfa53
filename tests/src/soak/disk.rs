//! A disk that is full, and model files that are damaged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::site::{Site, serve};
use super::stand_in::StandIn;
use super::workload::Workload;
use super::{Findings, Plan};
use crate::{Installation, RealQdrant};

/// Megabytes of the disk that is filled.
const DISK: usize = 512;

/// A file system of its own in memory; taken away with the value.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Nothing where mounting is not permitted.
    fn mount(at: &Path) -> Option<Self> {
        let size = format!("size={DISK}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(at);
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then(|| Self { at: at.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A folder that is in use stays until it is not.
        let done = Command::new("umount").arg("-l").arg(&self.at).output();
        if !done.is_ok_and(|output| output.status.success()) {
            eprintln!("{} stays mounted", self.at.display());
        }
    }
}

pub(super) async fn full(plan: &Plan, found: &mut Findings) -> Result<()> {
    let model = StandIn::start().await?;
    let Site { installation, users } = Site::new(&model.base_url, None).await?;
    let (store, moved) = (installation.path().join("store"), installation.path().join("moved"));
    std::fs::rename(&store, &moved)?;
    std::fs::create_dir(&store)?;
    let Some(disk) = SmallDisk::mount(&store) else {
        found.skip("a small file system cannot be mounted here (needs the right to mount)");
        return Ok(());
    };
    crate::copy(&moved, &store)?;
    let workload = Workload::new(plan.seed)?;
    let server = serve(&installation, &[]).await?;
    let running = workload.start(&server, 0);
    tokio::time::sleep(Duration::from_millis(plan.kill_within)).await;
    let ballast = store.join("ballast");
    fill(&ballast)?;
    // Nothing is acknowledged now, and what needs no writing is answered.
    let refused = refusals(&workload, &server.url).await;
    found.require(refused.is_ok(), || format!("a full disk: {refused:?}"));
    let read = workload.ranks_of(&server.url, "1").await;
    found.require(read == Some(None), || format!("recommending on a full disk: {read:?}"));
    tokio::time::sleep(Duration::from_millis(plan.kill_within)).await;
    std::fs::remove_file(&ballast)?;
    let freed = Instant::now();
    let again = loop {
        let body = json!({ "interactions": [{
            "id": "after", "user": "1", "item": "1", "rating": 3,
        }] });
        match workload.post(&server.url, "/v1/interactions", &body).await {
            Some((status, _)) if status.is_success() => break freed.elapsed().as_secs_f64(),
            _ if freed.elapsed().as_secs() > plan.recovery_seconds => break f64::INFINITY,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    found.require(again.is_finite(), || {
        format!("nothing is written {} s after there was room again", plan.recovery_seconds)
    });
    found.figure("writes_again_after_seconds", again);
    running.stop().await?;
    // And what was acknowledged is there after a kill on top.
    drop(server);
    let server = serve(&installation, &[]).await?;
    found.figure("drained_seconds", workload.drained(&server, 300).await?);
    workload.audit(&server, &users, found).await?;
    drop(server);
    drop(disk);
    Ok(())
}

/// Writes until there is no room.
fn fill(path: &Path) -> Result<()> {
    use std::io::{ErrorKind, Write};
    let mut file = std::fs::File::create(path)?;
    let block = vec![7_u8; 1 << 20];
    loop {
        match file.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("filling the disk"),
        }
    }
}

/// Asks for writes until one is refused as documented; what else comes is told.
async fn refusals(workload: &Workload, url: &str) -> Result<(), String> {
    let body = json!({ "pairs": [{ "user": "900", "item": "1" }] });
    match workload.post(url, "/v1/queue", &body).await {
        Some((status, answer)) if status.as_u16() == 503 || status.as_u16() == 500 => {
            let named = answer["error"].as_str().is_some_and(|text| !text.is_empty());
            if named { Ok(()) } else { Err(format!("no reason in {answer}")) }
        }
        other => Err(format!("a write was answered with {other:?}")),
    }
}

/// Each file of the live version cut off, emptied, replaced by another, or with bytes changed: the process
/// says so and does not start. Put back, it works as before.
pub(super) async fn corrupted_models(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let model = StandIn::start().await?;
    let Site { installation, .. } = Site::new(&model.base_url, qdrant).await?;
    let folder = installation.live_models()?;
    let files = [
        "ranker.onnx",
        "explainer.onnx",
        "encoder.onnx",
        "decoder.onnx",
        "factorisation.safetensors",
        "factorisation.rows.json",
        "golden.json",
        "manifest.json",
    ];
    let mut random = StdRng::seed_from_u64(plan.seed);
    let (mut refused, mut unnoticed, mut started) = (0, 0, Vec::new());
    for file in files {
        let path = folder.join(file);
        let good = std::fs::read(&path)?;
        let mut flipped = good.clone();
        for _ in 0..64 {
            let place = random.random_range(0..flipped.len());
            flipped[place] ^= 1 << random.random_range(0..8);
        }
        let cases = [
            ("cut", good[..good.len() / 2].to_vec()),
            ("empty", Vec::new()),
            ("text", b"<html>not found</html>".to_vec()),
            ("flipped", flipped),
        ];
        for (kind, bytes) in cases {
            std::fs::write(&path, bytes)?;
            match serve_or_say(&installation).await? {
                Err(said) => {
                    refused += 1;
                    found.require(said.contains(file), || {
                        format!("{file}, {kind}: the refusal does not name the file: {said}")
                    });
                }
                Ok(server) => {
                    drop(server);
                    unnoticed += 1;
                    found.require(false, || format!("{file}, {kind}: it starts"));
                }
            }
        }
        std::fs::write(&path, &good)?;
        let from = Instant::now();
        let server = serve(&installation, &[]).await?;
        let workload = Workload::new(plan.seed)?;
        started.push(workload.ready(&server, from, plan.recovery_seconds).await?);
    }
    found.figure("refused", refused);
    found.figure("damage_not_noticed", unnoticed);
    found.figure("start_seconds_worst", started.into_iter().fold(0.0, f64::max));
    Ok(())
}

/// A started server, or what it said instead.
async fn serve_or_say(installation: &Arc<Installation>) -> Result<Result<crate::Server, String>> {
    Ok(serve(installation, &[]).await.map_err(|error| format!("{error:#}")))
}
