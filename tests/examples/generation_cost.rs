//! Writes explanations for pairs from a file, shows them, and reports what they cost.
//!
//! `cargo run --release -p whyrank-tests --example generation_cost -- MODEL.gguf PAIRS.jsonl [joint|separate] [PROMPTS]`
//! where each line of the file is a `PairContext` in JSON. Needs no store, so that prompts can be tuned alone.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use whyrank::generator::{
    CancellationToken, GeneratorSettings, MistralrsSettings, PairContext, PromptStyle, Source,
    Usage, Writer, build,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pairs, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: generation_cost MODEL.gguf PAIRS.jsonl [joint|separate] [PROMPTS]");
    };
    let settings = GeneratorSettings {
        mistralrs: MistralrsSettings { model: model.clone(), ..MistralrsSettings::default() },
        prompt_style: match rest.first().map(String::as_str) {
            None | Some("joint") => PromptStyle::Joint,
            Some("separate") => PromptStyle::Separate,
            Some(other) => anyhow::bail!("unknown style {other}"),
        },
        prompts: rest.get(1).map(PathBuf::from),
        ..GeneratorSettings::default()
    };
    let text = std::fs::read_to_string(pairs).with_context(|| format!("reading {pairs}"))?;
    let pairs: Vec<PairContext> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let started = Instant::now();
    let writer = Writer::from_settings(build(&settings).await?, &settings)?;
    println!("loaded in {:.1} s: {:?}", started.elapsed().as_secs_f64(), writer.identity());
    let (mut total, mut by_model, mut at_once) = (Usage::default(), 0, 0);
    for (seed, pair) in pairs.iter().enumerate() {
        let written = writer.write(pair, seed as u64, None, CancellationToken::new()).await?;
        println!("\n{} [{:?}, attempts {}]", pair.item.title, written.source, written.attempts);
        println!(
            "  WHY:     {}\n  WHY NOT: {}",
            written.explanation.positive, written.explanation.negative
        );
        for refusal in &written.refusals {
            println!("  refused: {}", serde_json::to_string(refusal)?);
        }
        by_model += usize::from(written.source == Source::Llm);
        at_once += usize::from(written.source == Source::Llm && written.attempts == 1);
        total += written.usage;
    }
    let count = pairs.len().max(1) as f64;
    let seconds = total.prompt_seconds + total.completion_seconds;
    println!("\n{} pairs: {by_model} by the model, {at_once} at the first attempt", pairs.len());
    println!(
        "per pair: {:.2} s, {:.0} tokens read, {:.0} written; {:.0} % of the time on the prompt; {:.1} tokens/s read, {:.1} written",
        seconds / count,
        total.prompt_tokens as f64 / count,
        total.completion_tokens as f64 / count,
        100.0 * total.prompt_seconds / seconds,
        total.prompt_tokens as f64 / total.prompt_seconds,
        total.completion_tokens as f64 / total.completion_seconds,
    );
    Ok(())
}
