//! Rows of a delimited text file with the columns' names in its first line.
//!
//! Built on the parser below the csv crate, one physical line at a time: so the length of what is
//! held in memory is bounded, and a quote that is never closed costs one row instead of swallowing
//! the rest of the file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::cell::Cell;
use super::error::{ImportError, Result};
use super::lines::{Line, Lines};
use super::report::{Reason, Refusal};
use super::source::{Origin, Row, Rows, Source};

/// Most lines that a quoted field may span. A bound, because each line behind an unclosed quote is
/// read again.
const MOST_LINES: usize = 1000;

pub(super) struct CsvRows {
    lines: Lines<BufReader<File>>,
    /// Lines that were read ahead for a row that turned out to be a single line.
    pending: VecDeque<(u64, Line)>,
    parser: Reader,
    origin: Origin,
    /// Where each wanted column is.
    positions: Vec<usize>,
    header_length: usize,
    maximum_bytes: usize,
    size: u64,
}

/// A record, as the fields' bytes one after another and where each ends.
#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Record {
    fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

impl CsvRows {
    pub(super) fn open(source: &Source<'_>, input: BufReader<File>, size: u64) -> Result<Self> {
        let origin = source.origin();
        let mut rows = Self {
            lines: Lines::new(input, source.maximum_line_bytes),
            pending: VecDeque::new(),
            parser: parser(source)?,
            origin,
            positions: Vec::new(),
            header_length: 0,
            maximum_bytes: source.maximum_line_bytes,
            size,
        };
        let header = match rows.next_record()? {
            Some((_, Ok(record))) => record,
            Some((line, Err(refusal))) => {
                let reason =
                    format!("line {line}, which should name the columns: {}", refusal.message);
                return Err(rows.origin.content_error("CSV", reason));
            }
            None => {
                return Err(rows
                    .origin
                    .content_error("CSV", "it is empty; its first line must name the columns"));
            }
        };
        let names: Vec<String> = (0..header.ends.len())
            .map(|index| String::from_utf8_lossy(header.field(index)).trim().to_owned())
            .collect();
        rows.origin.check_columns(&source.columns, &names)?;
        let position = |wanted: &String| names.iter().position(|name| name == wanted);
        rows.positions = source.columns.iter().filter_map(position).collect();
        rows.header_length = names.len();
        Ok(rows)
    }

    /// The next record and the line it starts on.
    fn next_record(&mut self) -> Result<Option<(u64, std::result::Result<Record, Refusal>)>> {
        loop {
            let Some((number, line)) = self.next_line()? else { return Ok(None) };
            match line {
                Line::TooLong { bytes } => {
                    let message =
                        format!("the line has {bytes} bytes, more than {}", self.maximum_bytes);
                    return Ok(Some((number, Err(Refusal::new(Reason::TooLong, message)))));
                }
                Line::Whole(bytes) if is_blank(&bytes) => {}
                Line::Whole(bytes) => return Ok(Some((number, self.parse_from(bytes)?))),
            }
        }
    }

    /// Parses a record that starts with `first` and may need further lines.
    fn parse_from(&mut self, first: Vec<u8>) -> Result<std::result::Result<Record, Refusal>> {
        self.parser.reset();
        let mut record = Record::default();
        let mut length = first.len();
        if self.feed(&mut record, first) {
            return Ok(Ok(record));
        }
        let mut read_ahead = Vec::new();
        while read_ahead.len() < MOST_LINES {
            let Some((number, line)) = self.next_line()? else { break };
            let Line::Whole(bytes) = line else {
                read_ahead.push((number, line));
                break;
            };
            length += bytes.len();
            if length > self.maximum_bytes {
                read_ahead.push((number, Line::Whole(bytes)));
                break;
            }
            let complete = self.feed(&mut record, bytes.clone());
            if complete {
                return Ok(Ok(record));
            }
            read_ahead.push((number, Line::Whole(bytes)));
        }
        for line in read_ahead.into_iter().rev() {
            self.pending.push_front(line);
        }
        let message = format!(
            "a quote is opened and not closed within {} bytes and {MOST_LINES} lines",
            self.maximum_bytes
        );
        Ok(Err(Refusal::new(Reason::Malformed, message)))
    }

    /// Gives one line to the parser; whether the record is complete.
    fn feed(&mut self, record: &mut Record, mut line: Vec<u8>) -> bool {
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        line.push(b'\n');
        let mut written = record.bytes.len();
        let mut fields = record.ends.len();
        let mut input = line.as_slice();
        // A field is never longer than its source.
        record.bytes.resize(written + input.len(), 0);
        loop {
            record.ends.resize(fields.max(8) * 2, 0);
            let (result, consumed, produced, ended) = self.parser.read_record(
                input,
                &mut record.bytes[written..],
                &mut record.ends[fields..],
            );
            input = &input[consumed..];
            written += produced;
            fields += ended;
            match result {
                ReadRecordResult::OutputEndsFull => {}
                ReadRecordResult::OutputFull => record.bytes.resize(record.bytes.len() * 2 + 1, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::Record | ReadRecordResult::End => {
                    record.bytes.truncate(written);
                    record.ends.truncate(fields);
                    return matches!(result, ReadRecordResult::Record);
                }
            }
        }
    }

    fn next_line(&mut self) -> Result<Option<(u64, Line)>> {
        match self.pending.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next_line().map_err(|error| self.origin.file_error(error)),
        }
    }
}

impl Rows for CsvRows {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some((line, record)) = self.next_record()? else { return Ok(None) };
        let cells = record.and_then(|record| {
            if record.ends.len() == self.header_length {
                Ok(self
                    .positions
                    .iter()
                    .map(|position| Cell::from_bytes(record.field(*position)))
                    .collect())
            } else {
                let message = format!(
                    "{} fields, but the first line names {} columns",
                    record.ends.len(),
                    self.header_length
                );
                Err(Refusal::new(Reason::Malformed, message))
            }
        });
        Ok(Some(Row { line, cells }))
    }

    fn position(&self) -> u64 {
        self.lines.consumed()
    }

    fn total(&self) -> u64 {
        self.size
    }
}

/// A line without fields. A line of tabs is one with fields: they are all empty.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b'\n' | b'\r' | b' '))
}

fn parser(source: &Source<'_>) -> Result<Reader> {
    let is_tsv =
        source.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    let delimiter = match single_byte(source, "delimiter", source.delimiter)? {
        Some(delimiter) => delimiter,
        None if is_tsv => b'\t',
        None => b',',
    };
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).terminator(Terminator::Any(b'\n'));
    match single_byte(source, "quote", source.quote)? {
        Some(quote) => builder.quote(quote),
        None => builder.quoting(false),
    };
    Ok(builder.build())
}

fn single_byte(source: &Source<'_>, key: &str, value: &str) -> Result<Option<u8>> {
    match value.as_bytes() {
        [] => Ok(None),
        [byte] if byte.is_ascii() && *byte != b'\n' => Ok(Some(*byte)),
        _ => Err(ImportError::Setting {
            key: format!("{}.{key}", source.table),
            value: format!("{value:?}"),
            reason: "it must be one ASCII character".to_owned(),
        }),
    }
}
