//! Import: tables of interactions, items and users in CSV, JSON Lines or Parquet become one
//! [`Dataset`], and a report that accounts for every row.
//!
//! A bad row is refused with its line and a reason; it never ends an import and never vanishes:
//! `read == kept + refused` for each table. Only a table that cannot be read at all is an error.

mod cell;
mod csv_rows;
mod dataset;
mod error;
mod interactions;
mod json_rows;
mod lines;
mod parquet_rows;
mod report;
mod settings;
mod source;
mod tables;
#[cfg(test)]
mod tests;
mod time;

use std::path::Path;

use whyrank_models::progress::Progress;

pub use dataset::{Attribute, Dataset, ImportedInteraction, ImportedItem, ImportedUser};
pub use error::{ImportError, Result};
pub use report::{Example, ImportReport, Reason, TableReport, Warning};
pub use settings::{
    AttributeColumn, Format, ImportSettings, InteractionTable, ItemTable, TimeUnit,
    UnknownReferences, UserTable,
};

use interactions::Interactions;
use source::Source;
use tables::{Columns, Items, Table, Users};

/// Rows between two reports of the progress.
const ROWS_PER_REPORT: u64 = 1024;

/// Reads the configured tables. The progress has one stage for each table, counted in bytes, or in
/// rows for Parquet.
///
/// # Errors
/// A table that cannot be opened, is not of its format, or lacks a configured column.
pub fn import(
    settings: &ImportSettings,
    progress: &dyn Progress,
) -> Result<(Dataset, ImportReport)> {
    check(settings)?;
    let mut report = ImportReport::default();
    let mut dataset = Dataset::default();
    let mut known_items = None;
    let mut known_users = None;

    let table = &settings.items;
    if let Some(path) = &table.path {
        let mut columns = Columns::default();
        let mut items = Items::new(settings, &mut columns);
        let source =
            source(settings, "items", path, table.format, &table.delimiter, &table.quote, columns);
        report.items = read(source, settings.examples, &mut items, progress)?;
        dataset.items = items.rows;
        known_items = Some(items.ids);
    }
    let table = &settings.users;
    if let Some(path) = &table.path {
        let mut columns = Columns::default();
        let mut users = Users::new(settings, &mut columns);
        let source =
            source(settings, "users", path, table.format, &table.delimiter, &table.quote, columns);
        report.users = read(source, settings.examples, &mut users, progress)?;
        dataset.users = users.rows;
        known_users = Some(users.ids);
    }
    let table = &settings.interactions;
    let path = table.path.as_ref().ok_or(ImportError::NoInteractions)?;
    let mut columns = Columns::default();
    let mut interactions = Interactions::new(settings, &mut columns, known_users, known_items);
    let source = source(
        settings,
        "interactions",
        path,
        table.format,
        &table.delimiter,
        &table.quote,
        columns,
    );
    report.interactions = read(source, settings.examples, &mut interactions, progress)?;
    dataset.interactions = interactions.into_rows();

    report.fingerprint = dataset.fingerprint();
    Ok((dataset, report))
}

fn source<'a>(
    settings: &ImportSettings,
    table: &'static str,
    path: &'a Path,
    format: Format,
    delimiter: &'a str,
    quote: &'a str,
    columns: Columns,
) -> Source<'a> {
    let maximum_line_bytes = settings.maximum_line_bytes;
    Source {
        table,
        path,
        format,
        delimiter,
        quote,
        maximum_line_bytes,
        columns: columns.into_names(),
    }
}

fn read(
    source: Source<'_>,
    examples: usize,
    table: &mut dyn Table,
    progress: &dyn Progress,
) -> Result<TableReport> {
    let stage = format!("importing {}", source.table);
    let mut rows = source::open(source)?;
    let mut report = TableReport::new(examples);
    progress.begin(&stage, rows.total());
    while let Some(row) = rows.next_row()? {
        report.read += 1;
        match row.cells {
            Ok(cells) => table.take(row.line, &cells, &mut report),
            Err(refusal) => report.refuse(row.line, refusal),
        }
        if report.read.is_multiple_of(ROWS_PER_REPORT) {
            progress.advance(rows.position());
            if progress.cancelled() {
                return Err(ImportError::Cancelled);
            }
        }
    }
    rows.check_columns()?;
    progress.advance(rows.position());
    progress.end();
    Ok(report)
}

/// Settings that no file could satisfy.
fn check(settings: &ImportSettings) -> Result<()> {
    let fail = |key: &str, value: String, reason: &str| {
        Err(ImportError::Setting { key: key.to_owned(), value, reason: reason.to_owned() })
    };
    if settings.interactions.user.is_empty() || settings.interactions.item.is_empty() {
        return fail(
            "interactions.user, item",
            "\"\"".to_owned(),
            "interactions need both columns",
        );
    }
    for (key, path, id) in [
        ("items.id", &settings.items.path, &settings.items.id),
        ("users.id", &settings.users.path, &settings.users.id),
    ] {
        if path.is_some() && id.is_empty() {
            return fail(key, "\"\"".to_owned(), "a table needs an id column");
        }
    }
    if !settings.implicit_rating.is_finite() {
        return fail(
            "implicit_rating",
            settings.implicit_rating.to_string(),
            "it must be a finite number",
        );
    }
    match (settings.rating_minimum, settings.rating_maximum) {
        (Some(minimum), Some(maximum)) if minimum > maximum => {
            fail("rating_minimum", minimum.to_string(), "it is above rating_maximum")
        }
        _ => Ok(()),
    }
}
