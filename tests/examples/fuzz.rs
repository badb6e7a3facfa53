//! Runs a fuzz target for some minutes, or all of them, each with inputs that no run had before.
//!
//! `cargo run --release -p whyrank-tests --example fuzz -- TARGET|all MINUTES [SEED]`. The input in hand lies in
//! `fuzz-TARGET.bin` of the temporary folder, so that one that ends the process is not lost.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use whyrank_tests::fuzz;

fn main() -> Result<()> {
    let usage = "usage: fuzz TARGET|all MINUTES [SEED]";
    let mut arguments = std::env::args().skip(1);
    let (name, minutes) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let minutes: f64 = minutes.parse().context(usage)?;
    let seed = match arguments.next() {
        Some(seed) => seed.parse().context(usage)?,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let chosen: Vec<_> = match name.as_str() {
        "all" => fuzz::TARGETS.iter().collect(),
        name => vec![fuzz::target(name).with_context(|| {
            let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            format!("no target {name:?}; there are {}", names.join(", "))
        })?],
    };
    for target in chosen {
        let kept = std::env::temp_dir().join(format!("fuzz-{}.bin", target.name));
        let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
        let mut count = 0_u64;
        for bytes in fuzz::inputs(target, seed) {
            std::fs::write(&kept, &bytes)?;
            (target.run)(&bytes);
            count += 1;
            if Instant::now() >= until {
                break;
            }
        }
        std::fs::remove_file(&kept)?;
        println!("{}: {count} inputs, seed {seed}, no fault", target.name);
    }
    Ok(())
}
