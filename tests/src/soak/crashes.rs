//! The process is killed without warning, again and again, under writes, reads and generation.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::site::{Site, serve};
use super::stand_in::StandIn;
use super::workload::Workload;
use super::{Findings, Plan};
use crate::RealQdrant;

/// Seconds that the queue may take to empty after the last kill.
const DRAINED_WITHIN: u64 = 600;

pub(super) async fn kills(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let model = StandIn::start().await?;
    let Site { installation, users } = Site::new(&model.base_url, qdrant).await?;
    let workload = Workload::new(plan.seed)?;
    let mut random = StdRng::seed_from_u64(plan.seed);
    let (mut recoveries, mut memory) = (Vec::with_capacity(plan.kills), 0);
    for round in 0..plan.kills {
        let started = Instant::now();
        let server = serve(&installation, &[]).await?;
        recoveries.push(workload.ready(&server, started, plan.recovery_seconds).await?);
        let running = workload.start(&server, round as u64);
        let life = Duration::from_millis(random.random_range(1..=plan.kill_within));
        tokio::time::sleep(life).await;
        memory = memory.max(server.peak_memory()?);
        // Dropping sends the signal that cannot be caught.
        drop(server);
        running.stop().await?;
    }
    let started = Instant::now();
    let server = serve(&installation, &[]).await?;
    recoveries.push(workload.ready(&server, started, plan.recovery_seconds).await?);
    found.figure("drained_seconds", workload.drained(&server, DRAINED_WITHIN).await?);
    workload.audit(&server, &users, found).await?;
    let worst = recoveries.iter().copied().fold(0.0, f64::max);
    let mean = recoveries.iter().sum::<f64>() / recoveries.len() as f64;
    found.figure("kills", plan.kills);
    found.figure("recovery_seconds_worst", worst);
    found.figure("recovery_seconds_mean", mean);
    found.figure("peak_memory_kilobytes", memory);
    found.figure("generations", model.calls());
    found.require(worst <= plan.recovery_seconds as f64, || {
        format!("recovery took {worst:.1} s, more than {} s", plan.recovery_seconds)
    });
    found.require(memory <= plan.memory_kilobytes, || {
        format!("the process had {memory} kB, more than {}", plan.memory_kilobytes)
    });
    Ok(())
}
