//! The command `whyrank`: logging first, then the command that was typed.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = whyrank::cli::Arguments::parse();
    // Libraries are quiet unless asked: an LLM's loader would fill the terminal.
    let filter = EnvFilter::try_from_env("WHYRANK_LOG").unwrap_or_else(|_| {
        EnvFilter::new("warn,whyrank=info,mistralrs_core=error,qdrant_edge::common=error")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match whyrank::cli::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whyrank: {error:#}");
            ExitCode::FAILURE
        }
    }
}
