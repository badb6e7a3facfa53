//! Opens a table, whatever its format, as one sequence of rows.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::cell::Cell;
use super::csv_rows::CsvRows;
use super::error::{ImportError, Result};
use super::json_rows::JsonRows;
use super::parquet_rows::ParquetRows;
use super::report::Refusal;
use super::settings::Format;

/// A table as the configuration describes it.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    /// Its name in messages.
    pub(super) table: &'static str,
    pub(super) path: &'a Path,
    pub(super) format: Format,
    pub(super) delimiter: &'a str,
    pub(super) quote: &'a str,
    pub(super) maximum_line_bytes: usize,
    /// The columns to read, in the order in which a row's cells come.
    pub(super) columns: Vec<String>,
}

/// A row, as far as it can be taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    /// Its line, or its number in a file without lines, counted from 1.
    pub(super) line: u64,
    /// A cell for each wanted column, or why there are none.
    pub(super) cells: std::result::Result<Vec<Cell>, Refusal>,
}

/// The rows of one table.
pub(super) trait Rows {
    /// The next row; an error means that nothing more can be read.
    fn next_row(&mut self) -> Result<Option<Row>>;
    /// How far the reading is, in the unit of [`Rows::total`].
    fn position(&self) -> u64;
    /// The size of the table, in bytes or rows.
    fn total(&self) -> u64;
    /// To be called after the last row: whether the wanted columns were there at all.
    fn check_columns(&self) -> Result<()> {
        Ok(())
    }
}

/// Opens the table and checks, as far as the format tells beforehand, that it has the wanted columns.
pub(super) fn open(source: Source<'_>) -> Result<Box<dyn Rows>> {
    let format = match source.format {
        Format::Automatic => format_of(&source)?,
        given => given,
    };
    let file = File::open(source.path).map_err(|error| source.file_error(error))?;
    let metadata = file.metadata().map_err(|error| source.file_error(error))?;
    if metadata.is_dir() {
        return Err(source.file_error(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok(match format {
        Format::Csv => Box::new(CsvRows::open(&source, BufReader::new(file), metadata.len())?),
        Format::JsonLines => Box::new(JsonRows::new(&source, BufReader::new(file), metadata.len())),
        Format::Parquet => Box::new(ParquetRows::open(&source, file)?),
        Format::Automatic => unreachable!("resolved above"),
    })
}

fn format_of(source: &Source<'_>) -> Result<Format> {
    let extension = source.path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("csv" | "tsv" | "txt") => Ok(Format::Csv),
        Some("jsonl" | "ndjson" | "json") => Ok(Format::JsonLines),
        Some("parquet" | "pq") => Ok(Format::Parquet),
        _ => Err(ImportError::Format { table: source.table, path: source.path.to_owned() }),
    }
}

/// Which file an error is about, for readers that outlive their [`Source`].
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) table: &'static str,
    pub(super) path: PathBuf,
}

impl Origin {
    pub(super) fn file_error(&self, source: std::io::Error) -> ImportError {
        ImportError::File { table: self.table, path: self.path.clone(), source }
    }

    pub(super) fn content_error(
        &self,
        format: &'static str,
        reason: impl Into<String>,
    ) -> ImportError {
        ImportError::Content {
            table: self.table,
            path: self.path.clone(),
            format,
            reason: reason.into(),
        }
    }

    /// An error if any wanted column is not among those found.
    pub(super) fn check_columns(&self, wanted: &[String], found: &[String]) -> Result<()> {
        let missing: Vec<String> =
            wanted.iter().filter(|name| !found.contains(name)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ImportError::Columns {
            table: self.table,
            path: self.path.clone(),
            missing,
            found: found.to_vec(),
        })
    }
}

impl Source<'_> {
    pub(super) fn origin(&self) -> Origin {
        Origin { table: self.table, path: self.path.to_owned() }
    }

    fn file_error(&self, source: std::io::Error) -> ImportError {
        self.origin().file_error(source)
    }
}
