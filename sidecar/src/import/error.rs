//! What ends an import: a table that cannot be read at all. A bad row never does.

use std::path::PathBuf;

/// The result of reading tables.
pub type Result<T, E = ImportError> = std::result::Result<T, E>;

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The configuration names no interactions file.
    #[error("there is nothing to import: set `import.interactions.path`")]
    NoInteractions,
    /// A setting cannot be used.
    #[error("setting `import.{key}` is {value}: {reason}")]
    Setting {
        /// The key below `import`.
        key: String,
        /// Its value.
        value: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The format of a file is not known.
    #[error(
        "the format of {} cannot be told from its name: set `import.{table}.format` to csv, json-lines or parquet",
        path.display()
    )]
    Format {
        /// The table.
        table: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("the {table} file {} cannot be read", path.display())]
    File {
        /// The table.
        table: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The content is not of the format.
    #[error("the {table} file {} cannot be read as {format}: {reason}", path.display())]
    Content {
        /// The table.
        table: &'static str,
        /// The file.
        path: PathBuf,
        /// The format.
        format: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// A configured column is not there.
    #[error(
        "the {table} file {} has no column {}, which the configuration names; it has: {}",
        path.display(),
        quoted(missing),
        quoted(found)
    )]
    Columns {
        /// The table.
        table: &'static str,
        /// The file.
        path: PathBuf,
        /// The configured columns that are not there.
        missing: Vec<String>,
        /// The columns that are.
        found: Vec<String>,
    },
    /// There is nothing to learn from.
    #[error("the {table} file {} has no rows", path.display())]
    NoRows {
        /// The table.
        table: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The caller asked to stop.
    #[error("the import was cancelled")]
    Cancelled,
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}
