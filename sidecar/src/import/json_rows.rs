//! Rows of a JSON Lines file: one object a line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;

use serde_json::{Map, Value};

use super::cell::Cell;
use super::error::Result;
use super::lines::{Line, Lines};
use super::report::{Reason, Refusal};
use super::source::{Origin, Row, Rows, Source};

/// Most field names that are remembered to say what the file has.
const MOST_NAMES: usize = 1000;

pub(super) struct JsonRows {
    lines: Lines<BufReader<File>>,
    origin: Origin,
    columns: Vec<String>,
    /// Which wanted columns were in any row. Rows need not have all fields, but a field that no row
    /// has is a mistake in the configuration.
    seen: Vec<bool>,
    found: BTreeSet<String>,
    objects: u64,
    maximum_bytes: usize,
    size: u64,
}

impl JsonRows {
    pub(super) fn new(source: &Source<'_>, input: BufReader<File>, size: u64) -> Self {
        Self {
            lines: Lines::new(input, source.maximum_line_bytes),
            origin: source.origin(),
            seen: vec![false; source.columns.len()],
            columns: source.columns.clone(),
            found: BTreeSet::new(),
            objects: 0,
            maximum_bytes: source.maximum_line_bytes,
            size,
        }
    }

    fn cells(&mut self, line: Line) -> std::result::Result<Vec<Cell>, Refusal> {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong { bytes } => {
                let message =
                    format!("the line has {bytes} bytes, more than {}", self.maximum_bytes);
                return Err(Refusal::new(Reason::TooLong, message));
            }
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let message = format!("the line is not UTF-8 from byte {} on", error.valid_up_to() + 1);
            Refusal::new(Reason::InvalidUtf8, message)
        })?;
        let mut object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| Refusal::new(Reason::Malformed, format!("no JSON object: {error}")))?;
        self.objects += 1;
        for name in object.keys() {
            if self.found.len() < MOST_NAMES && !self.found.contains(name) {
                self.found.insert(name.clone());
            }
        }
        let cells = self.columns.iter().zip(&mut self.seen).map(|(name, seen)| {
            let value = object.get_mut(name).map(Value::take);
            *seen |= value.is_some();
            value.map_or(Cell::Absent, Cell::from_json)
        });
        Ok(cells.collect())
    }
}

impl Rows for JsonRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            let next = self.lines.next_line().map_err(|error| self.origin.file_error(error))?;
            let Some((number, line)) = next else { return Ok(None) };
            if matches!(&line, Line::Whole(bytes) if bytes.iter().all(u8::is_ascii_whitespace)) {
                continue;
            }
            return Ok(Some(Row { line: number, cells: self.cells(line) }));
        }
    }

    fn position(&self) -> u64 {
        self.lines.consumed()
    }

    fn total(&self) -> u64 {
        self.size
    }

    fn check_columns(&self) -> Result<()> {
        if self.objects == 0 {
            return Ok(());
        }
        let named = self.columns.iter().zip(&self.seen);
        let seen = named.filter(|(_, seen)| **seen).map(|(name, _)| name.clone());
        let found: BTreeSet<String> = self.found.iter().cloned().chain(seen).collect();
        self.origin.check_columns(&self.columns, &found.into_iter().collect::<Vec<_>>())
    }
}
