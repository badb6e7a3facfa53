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
use tables::{Columns, Ids, Items, Table, Users};

/// The name of the one table that there must be.
const INTERACTIONS: &str = "interactions";
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

    if let Some((source, mut items)) = items_table(settings) {
        report.items = read(source, settings.examples, &mut items, progress)?;
        dataset.items = items.rows;
        known_items = Some(items.ids);
    }
    if let Some((source, mut users)) = users_table(settings) {
        report.users = read(source, settings.examples, &mut users, progress)?;
        dataset.users = users.rows;
        known_users = Some(users.ids);
    }
    let (source, mut interactions) = interactions_table(settings, known_users, known_items)?;
    let (table, path) = (source.table, source.path.to_owned());
    report.interactions = read(source, settings.examples, &mut interactions, progress)?;
    if report.interactions.read == 0 {
        return Err(ImportError::NoRows { table, path });
    }
    dataset.interactions = interactions.into_rows();

    report.fingerprint = dataset.fingerprint();
    Ok((dataset, report))
}

/// Whether each configured table can be opened, has the configured columns as far as its format tells before
/// its rows, and a first row where one is needed. What the rows hold is not looked at.
pub fn check_heads(settings: &ImportSettings) -> Vec<(&'static str, Result<()>)> {
    let mut sources = Vec::new();
    sources.extend(interactions_table(settings, None, None).ok().map(|(source, _)| source));
    sources.extend(items_table(settings).map(|(source, _)| source));
    sources.extend(users_table(settings).map(|(source, _)| source));
    let check = |source: Source<'_>| {
        let (table, path) = (source.table, source.path.to_owned());
        let needed = table == INTERACTIONS;
        let mut rows = source::open(source)?;
        let empty = needed && rows.next_row()?.is_none();
        if empty { Err(ImportError::NoRows { table, path }) } else { Ok(()) }
    };
    sources.into_iter().map(|source| (source.table, check(source))).collect()
}

fn items_table(settings: &ImportSettings) -> Option<(Source<'_>, Items<'_>)> {
    let table = &settings.items;
    let path = table.path.as_ref()?;
    let mut columns = Columns::default();
    let items = Items::new(settings, &mut columns);
    let (format, delimiter, quote) = (table.format, &table.delimiter, &table.quote);
    Some((source(settings, "items", path, format, delimiter, quote, columns), items))
}

fn users_table(settings: &ImportSettings) -> Option<(Source<'_>, Users<'_>)> {
    let table = &settings.users;
    let path = table.path.as_ref()?;
    let mut columns = Columns::default();
    let users = Users::new(settings, &mut columns);
    let (format, delimiter, quote) = (table.format, &table.delimiter, &table.quote);
    Some((source(settings, "users", path, format, delimiter, quote, columns), users))
}

fn interactions_table(
    settings: &ImportSettings,
    known_users: Option<Ids>,
    known_items: Option<Ids>,
) -> Result<(Source<'_>, Interactions<'_>)> {
    let table = &settings.interactions;
    let path = table.path.as_ref().ok_or(ImportError::NoInteractions)?;
    let mut columns = Columns::default();
    let interactions = Interactions::new(settings, &mut columns, known_users, known_items);
    let (format, delimiter, quote) = (table.format, &table.delimiter, &table.quote);
    Ok((source(settings, INTERACTIONS, path, format, delimiter, quote, columns), interactions))
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
