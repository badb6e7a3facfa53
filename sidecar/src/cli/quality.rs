//! `whyrank quality`.

use anyhow::Result;
use whyrank_models::metrics::Interval;

use super::output::{plain, print, table};
use super::runtime::Runtime;
use super::train::interruptible;
use crate::config::Settings;
use crate::generator::GeneratorKind;
use crate::quality::{QualityOf, QualityReport, quality};

/// How much is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct QualityArguments {
    /// Explanations to look at, a random choice; all if there are no more.
    #[arg(long, default_value_t = 1_000)]
    sample: usize,
}

pub(super) async fn report(
    settings: Settings,
    arguments: &QualityArguments,
    json: bool,
) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let (progress, _) = interruptible();
    // Nothing is written, so that no LLM is loaded.
    let writer = runtime.writer(Some(GeneratorKind::Template), None).await?;
    let report = quality(&runtime.storage, &writer, arguments.sample, progress.as_ref()).await?;
    runtime.close().await?;
    print(json, &report, || described(&report))
}

/// The report for people, in lines.
pub(super) fn described(report: &QualityReport) -> String {
    let mut text = format!(
        "{} explanations are stored; looked at: {}, chosen at random. Means with 95 % intervals.\n",
        report.stored, report.sample
    );
    let mut table = table(["", "source", "mean", "95 %"]);
    for source in &report.sources {
        for (name, share) in figures(source) {
            let Some(Interval { mean, low, high }) = share else { continue };
            let interval = format!("{low:.3} to {high:.3}");
            table.add_row([
                name.to_owned(),
                source.source.name().to_owned(),
                format!("{mean:.3}"),
                interval,
            ]);
        }
    }
    text.push_str(&table.to_string());
    if let Some(Interval { mean, low, high }) = report.given_up {
        text.push_str(&format!(
            "\nOf those that an LLM was asked for, {mean:.3} ({low:.3} to {high:.3}) were given up: every text \
             was refused, and the template wrote them.\n"
        ));
    }
    for source in &report.sources {
        let name = source.source.name();
        let QualityOf { explanations, comparable, attempts, refusals, .. } = source;
        text.push_str(&format!(
            "\n{name}: {explanations} explanations, {attempts:.2} attempts each; {comparable} are of the \
             evidence as it is now, the others cannot be held against it.\n"
        ));
        for (reason, count) in refusals {
            text.push_str(&format!(
                "  validation would refuse {count} as {}\n",
                reason.replace('_', " ")
            ));
        }
        for example in &source.examples {
            let (title, side) = (plain(&example.title), plain(&example.text));
            text.push_str(&format!("  not told of {title:?}: {side}\n"));
        }
    }
    text
}

fn figures(of: &QualityOf) -> [(&'static str, Option<Interval>); 6] {
    [
        ("accepted at the first attempt", of.accepted_at_once),
        ("sides that refer to item, evidence or consumer", of.grounded),
        ("sides that name an item of the evidence", of.names_evidence),
        ("words that both sides share", of.shared_words),
        ("explanations with a title nobody told of", of.unknown_titles),
        ("explanations that validation would refuse now", of.refused),
    ]
}
