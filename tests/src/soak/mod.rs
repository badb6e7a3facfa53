//! The soak and fault suite: a real installation under writes, reads and generation while something
//! goes wrong, and a program that checks what must hold whatever goes wrong:
//!
//! - no acknowledged write is lost, and none counts twice;
//! - no pair is written twice at the same version;
//! - a rerank answer is a permutation of what was retrieved;
//! - memory stays within a bound;
//! - the service recovers within a stated time.
//!
//! `cargo run --release -p whyrank-tests --example soak` runs it whole and writes a report; the test
//! `soak` runs a short form. Everything but the language model is real: that one is a stand-in, because
//! it must hang, write garbage and count its calls on command.

mod clock;
mod crashes;
mod disk;
mod language_model;
mod load;
mod site;
mod stand_in;
mod store;
mod workload;

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use stand_in::{Behaviour, StandIn};

/// How long and how hard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// How often the process is killed.
    pub kills: usize,
    /// Milliseconds after which it is killed at the latest.
    pub kill_within: u64,
    /// Seconds for which the store is out of reach.
    pub store_away: u64,
    /// Requests of each load scenario.
    pub requests: usize,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Seconds within which the service must answer again.
    pub recovery_seconds: u64,
    /// Kilobytes that the process may have resident at the most.
    pub memory_kilobytes: u64,
}

impl Plan {
    /// The whole suite.
    pub fn long(seed: u64) -> Self {
        Self {
            kills: 100,
            kill_within: 3_000,
            store_away: 60,
            requests: 2_000,
            seed,
            recovery_seconds: 30,
            memory_kilobytes: 1_500_000,
        }
    }

    /// What a test has time for.
    pub fn short(seed: u64) -> Self {
        Self { kills: 3, kill_within: 1_500, store_away: 3, requests: 200, ..Self::long(seed) }
    }
}

/// One scenario: what was measured, and what did not hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// `embedded`, or `server` where it ran against a Qdrant server.
    pub backend: &'static str,
    /// Why it could not run here, if so.
    pub skipped: Option<String>,
    /// Seconds it took.
    pub seconds: f64,
    /// What was measured.
    pub figures: Map<String, Value>,
    /// What did not hold; empty is good.
    pub violations: Vec<String>,
}

/// The whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How long and how hard.
    pub plan: Plan,
    /// The scenarios in the order in which they ran.
    pub scenarios: Vec<Scenario>,
    /// Whether everything held.
    pub passed: bool,
}

/// Collects what a scenario measures and finds.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    figures: Map<String, Value>,
    violations: Vec<String>,
    skipped: Option<String>,
}

impl Findings {
    pub(crate) fn figure(&mut self, name: &str, value: impl Serialize) {
        self.figures.insert(name.to_owned(), json!(value));
    }

    /// What must hold; the message says what was found instead.
    pub(crate) fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        let why = why.into();
        eprintln!("skipped: {why}");
        self.skipped = Some(why);
    }
}

/// The names of all scenarios.
pub const SCENARIOS: [&str; 9] = [
    "kills",
    "disk_full",
    "corrupted_models",
    "clock_jumps",
    "store_unreachable",
    "model_hangs",
    "model_writes_garbage",
    "slow_clients",
    "overload",
];

/// Runs the named scenarios, or all. A scenario that cannot be run to its end is a violation too.
///
/// # Errors
/// Never for what a scenario finds; only when nothing can run at all.
pub async fn run(plan: &Plan, names: &[String]) -> Result<Report> {
    let qdrant = crate::RealQdrant::named();
    let mut scenarios = Vec::new();
    for name in SCENARIOS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let mut backends = vec![("embedded", None)];
        // A full disk and a store out of reach are the same to a process whose store is a server.
        if name != "disk_full" {
            backends.extend(qdrant.as_ref().map(|qdrant| ("server", Some(qdrant))));
        }
        for (backend, qdrant) in backends {
            eprintln!("soak: {name} ({backend})");
            let (started, mut findings) = (Instant::now(), Findings::default());
            let found = &mut findings;
            let ended = match name {
                "kills" => crashes::kills(plan, qdrant, found).await,
                "disk_full" => disk::full(plan, found).await,
                "corrupted_models" => disk::corrupted_models(plan, qdrant, found).await,
                "clock_jumps" => clock::jumps(plan, qdrant, found).await,
                "store_unreachable" => store::unreachable(plan, qdrant, found).await,
                "model_hangs" => language_model::hangs(plan, qdrant, found).await,
                "model_writes_garbage" => language_model::garbage(plan, qdrant, found).await,
                "slow_clients" => load::slow_clients(plan, qdrant, found).await,
                _ => load::overload(plan, qdrant, found).await,
            };
            if let Err(error) = ended {
                findings.violations.push(format!("it did not run to its end: {error:#}"));
            }
            let Findings { figures, violations, skipped } = findings;
            for violation in &violations {
                eprintln!("soak: {name} ({backend}): {violation}");
            }
            let seconds = started.elapsed().as_secs_f64();
            scenarios.push(Scenario { name, backend, skipped, seconds, figures, violations });
        }
    }
    let passed = scenarios.iter().all(|scenario| scenario.violations.is_empty());
    Ok(Report { plan: plan.clone(), scenarios, passed })
}
