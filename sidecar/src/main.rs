//! The command `whyrank`: the command that was typed, and how it ended.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = whyrank::cli::Arguments::parse();
    match whyrank::cli::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whyrank: {error:#}");
            ExitCode::FAILURE
        }
    }
}
