//! What commands print: JSON for programs, or text and tables for people. The only place that writes
//! to standard output.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, Table, Width};
use serde::Serialize;

use crate::rerank::{ContributionsView, RecommendResponse, Recommendation};

/// Width of a table where no terminal tells one.
const WIDTH: u16 = 150;

/// Prints a value as JSON or, for people, as the given text.
pub(super) fn print(
    json: bool,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(value)? } else { text() };
    match writeln!(std::io::stdout(), "{text}") {
        // A reader that has seen enough, such as `head`, is no fault.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Text that came from data, without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An empty table with these titles, as wide as the terminal.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header(header.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    table
}

/// Recommendations as a table: new and old rank, scores, reasons and their share in the score.
pub(super) fn recommendations(response: &RecommendResponse) -> String {
    let mut table = table([
        "rank", "was", "item", "takes up", "likes", "rating", "Qdrant", "why", "share", "why not",
        "share",
    ]);
    for (place, width) in [(2, 11), (7, 26), (9, 26)] {
        if let Some(column) = table.column_mut(place) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Percentage(width)));
        }
    }
    for result in &response.results {
        table.add_row(row(result));
    }
    let mut text = table.to_string();
    if response.results.is_empty() {
        text = "Nothing is left to recommend: no item that the consumer has not rated passes the filter.".to_owned();
    }
    if let Some(degraded) = &response.degraded {
        text.push_str(&format!("\nIn retrieval order ({}): {}", degraded.reason, degraded.message));
    }
    let stages: Vec<String> = response
        .stages
        .iter()
        .map(|stage| format!("{} {:.2} ms ({})", stage.stage, stage.milliseconds, stage.detail))
        .collect();
    text.push_str(&format!("\n{}", stages.join(" · ")));
    text
}

fn row(result: &Recommendation) -> Vec<String> {
    let number = |value: Option<f32>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    let share = |group: fn(&ContributionsView) -> f32| {
        result.contributions.map_or_else(
            || "-".to_owned(),
            |all| format!("{:+.3} ({:.0}%)", group(&all), 100.0 * all.share(group(&all))),
        )
    };
    let (positive, negative) = match &result.explanation {
        Some(reasons) if reasons.source == "llm" => {
            (plain(&reasons.positive), plain(&reasons.negative))
        }
        Some(reasons) => (
            format!("{} [template]", plain(&reasons.positive)),
            format!("{} [template]", plain(&reasons.negative)),
        ),
        None => ("(predicted, not written)".to_owned(), "(predicted, not written)".to_owned()),
    };
    vec![
        result.rank.to_string(),
        result.retrieval_rank.to_string(),
        plain(&result.title),
        number(result.take_up),
        number(result.like),
        number(result.rating),
        format!("{:.2}", result.retrieval_score),
        positive,
        share(|all| all.positive),
        negative,
        share(|all| all.negative),
    ]
}
