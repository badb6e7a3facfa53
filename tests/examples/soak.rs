//! The whole soak and fault suite, with a report:
//! `cargo run --release -p whyrank-tests --example soak -- --output soak.json`
//! after `cargo build --release`. With `QDRANT_URL` it runs against that server too.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use whyrank_tests::soak::{self, Plan, SCENARIOS};

/// Runs a real installation while something goes wrong, and checks what must hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// The scenarios to run; all if none is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(SCENARIOS))]
    scenarios: Vec<String>,
    /// Decides everything that is left to chance.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How often the process is killed.
    #[arg(long)]
    kills: Option<usize>,
    /// The short form, as the test runs it.
    #[arg(long)]
    short: bool,
    /// Where the report goes.
    #[arg(long, default_value = "soak.json")]
    output: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut plan =
        if arguments.short { Plan::short(arguments.seed) } else { Plan::long(arguments.seed) };
    plan.kills = arguments.kills.unwrap_or(plan.kills);
    let report = soak::run(&plan, &arguments.scenarios).await?;
    let text = serde_json::to_string_pretty(&report)?;
    std::fs::write(&arguments.output, &text)?;
    eprintln!("{text}\nthe report is in {}", arguments.output.display());
    ensure!(report.passed, "something did not hold; see `violations`");
    Ok(())
}
