//! What became of every row: kept, kept with a warning, or refused and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImportReport {
    /// What became of the interactions.
    pub interactions: TableReport,
    /// What became of the items.
    pub items: TableReport,
    /// What became of the users.
    pub users: TableReport,
    /// Identifies the kept rows, whatever file, format and order they came from: see
    /// [`Dataset::fingerprint`](super::Dataset::fingerprint).
    pub fingerprint: String,
}

/// What became of the rows of one table: `read` is always `kept` plus all of `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableReport {
    /// Rows read. Empty lines are no rows.
    pub read: u64,
    /// Rows kept.
    pub kept: u64,
    /// Rows refused, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Things worth knowing of rows that were kept.
    pub warnings: BTreeMap<Warning, u64>,
    /// The first refusals and warnings, as many as configured, in the order of discovery.
    pub examples: Vec<Example>,
    #[serde(skip)]
    examples_wanted: usize,
}

/// One row that was refused, or kept with a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Its line, or its row in a Parquet file, counted from 1.
    pub line: u64,
    /// Whether it was refused.
    pub refused: bool,
    /// What was wrong, in words.
    pub message: String,
}

/// Why a row was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The line, or the row of several lines, is longer than allowed.
    TooLong,
    /// The row is not of the file's format.
    Malformed,
    /// A configured field holds bytes that are not UTF-8.
    InvalidUtf8,
    /// An id is missing.
    MissingId,
    /// The rating is missing, is no number, or is not finite.
    InvalidRating,
    /// The rating is outside the configured range.
    RatingOutOfRange,
    /// The time is missing or cannot be read.
    InvalidTime,
    /// A later interaction of the same user and item replaces this one, or an earlier row has this id.
    Duplicate,
    /// The item is not in the items table.
    UnknownItem,
    /// The user is not in the users table.
    UnknownUser,
    /// The vector is no list of finite numbers.
    InvalidVector,
    /// The vector has another dimension than the others.
    VectorDimension,
}

/// What is worth knowing of a row that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// The item has no text.
    MissingText,
    /// The item has no title; its id stands for it.
    MissingTitle,
    /// The table has vectors, but not for this row.
    MissingVector,
    /// The item is not in the items table.
    UnknownItem,
    /// The user is not in the users table.
    UnknownUser,
}

impl TableReport {
    pub(super) fn new(examples_wanted: usize) -> Self {
        Self { examples_wanted, ..Self::default() }
    }

    /// Rows refused, for whatever reason.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    pub(super) fn refuse(&mut self, line: u64, refusal: Refusal) {
        *self.refused.entry(refusal.reason).or_default() += 1;
        self.example(line, true, refusal.message);
    }

    pub(super) fn warn(&mut self, line: u64, warning: Warning, message: impl FnOnce() -> String) {
        *self.warnings.entry(warning).or_default() += 1;
        if self.examples.len() < self.examples_wanted {
            self.example(line, false, message());
        }
    }

    fn example(&mut self, line: u64, refused: bool, message: String) {
        if self.examples.len() < self.examples_wanted {
            self.examples.push(Example { line, refused, message });
        }
    }
}

/// A refusal on its way to the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables =
            [("interactions", &self.interactions), ("items", &self.items), ("users", &self.users)];
        for (name, table) in tables {
            writeln!(
                formatter,
                "{name}: {} rows read, {} kept, {} refused",
                table.read,
                table.kept,
                table.refused_total()
            )?;
            for (reason, count) in &table.refused {
                writeln!(formatter, "  {count} refused: {}", name_of(reason))?;
            }
            for (warning, count) in &table.warnings {
                writeln!(formatter, "  {count} kept with a warning: {}", name_of(warning))?;
            }
            for example in &table.examples {
                let what = if example.refused { "refused" } else { "warning" };
                writeln!(formatter, "  line {}: {what}: {}", example.line, example.message)?;
            }
        }
        write!(formatter, "fingerprint: {}", self.fingerprint)
    }
}

/// The name that the JSON form uses, in words.
fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name.replace('_', " "),
        _ => unreachable!("reasons and warnings are written as text"),
    }
}
