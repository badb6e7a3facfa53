//! Which files are imported, which columns mean what, and what is refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What to import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportSettings {
    /// Who rated what, and when.
    pub interactions: InteractionTable,
    /// What there is to recommend. Without a path the items are those that the interactions name.
    pub items: ItemTable,
    /// Who the consumers are. Without a path they are those that the interactions name.
    pub users: UserTable,
    /// Lowest rating that is possible; a lower one is refused.
    pub rating_minimum: Option<f32>,
    /// Highest rating that is possible; a higher one is refused.
    pub rating_maximum: Option<f32>,
    /// The rating of every interaction in a table that has no rating column.
    pub implicit_rating: f32,
    /// How times are written.
    pub time_unit: TimeUnit,
    /// What happens to an interaction whose item or user is not in its table.
    pub unknown_references: UnknownReferences,
    /// Numbers that a given vector must have; the first vector of a table decides when absent.
    pub vector_dimension: Option<usize>,
    /// Longest line, and longest row of several lines, in bytes; a longer one is refused.
    pub maximum_line_bytes: usize,
    /// Refused rows, and kept ones with a warning, that the report tells one by one, for each table.
    pub examples: usize,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            interactions: InteractionTable::default(),
            items: ItemTable::default(),
            users: UserTable::default(),
            rating_minimum: None,
            rating_maximum: None,
            implicit_rating: 1.0,
            time_unit: TimeUnit::Automatic,
            unknown_references: UnknownReferences::Keep,
            vector_dimension: None,
            maximum_line_bytes: 1 << 20,
            examples: 20,
        }
    }
}

/// The interactions file. A column set to "" is one that the table does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InteractionTable {
    /// The file.
    pub path: Option<PathBuf>,
    /// Its format.
    pub format: Format,
    /// What stands between the fields of a CSV file; "" means a tab in `.tsv` files, else a comma.
    pub delimiter: String,
    /// What encloses a CSV field that holds a delimiter; "" if nothing does.
    pub quote: String,
    /// The column with the consumer's id.
    pub user: String,
    /// The column with the item's id.
    pub item: String,
    /// The column with the rating; "" if every interaction counts the same.
    pub rating: String,
    /// The column with the time; "" if there is none.
    pub time: String,
    /// Without a time: whether the rows stand in the order in which they happened. Otherwise nothing is
    /// taken for older or newer, as in a table that is sorted by item.
    pub rows_in_order: bool,
}

impl Default for InteractionTable {
    fn default() -> Self {
        Self {
            path: None,
            format: Format::Automatic,
            delimiter: String::new(),
            quote: "\"".to_owned(),
            user: "user".to_owned(),
            item: "item".to_owned(),
            rating: "rating".to_owned(),
            time: "time".to_owned(),
            rows_in_order: false,
        }
    }
}

/// The items file. A column set to "" is one that the table does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ItemTable {
    /// The file.
    pub path: Option<PathBuf>,
    /// Its format.
    pub format: Format,
    /// What stands between the fields of a CSV file; "" means a tab in `.tsv` files, else a comma.
    pub delimiter: String,
    /// What encloses a CSV field that holds a delimiter; "" if nothing does.
    pub quote: String,
    /// The column with the item's id.
    pub id: String,
    /// The column with the title.
    pub title: String,
    /// The columns that make up the text, joined in this order.
    pub text: Vec<String>,
    /// What a language model is told of an item besides its title and text.
    pub attributes: Vec<AttributeColumn>,
    /// The column with an existing vector: a list of numbers, or text that holds one.
    pub vector: String,
}

impl Default for ItemTable {
    fn default() -> Self {
        Self {
            path: None,
            format: Format::Automatic,
            delimiter: String::new(),
            quote: "\"".to_owned(),
            id: "id".to_owned(),
            title: "title".to_owned(),
            text: Vec::new(),
            attributes: Vec::new(),
            vector: String::new(),
        }
    }
}

/// The users file. A column set to "" is one that the table does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserTable {
    /// The file.
    pub path: Option<PathBuf>,
    /// Its format.
    pub format: Format,
    /// What stands between the fields of a CSV file; "" means a tab in `.tsv` files, else a comma.
    pub delimiter: String,
    /// What encloses a CSV field that holds a delimiter; "" if nothing does.
    pub quote: String,
    /// The column with the consumer's id.
    pub id: String,
    /// What a language model is told of a consumer.
    pub attributes: Vec<AttributeColumn>,
    /// The column with an existing vector: a list of numbers, or text that holds one.
    pub vector: String,
}

impl Default for UserTable {
    fn default() -> Self {
        Self {
            path: None,
            format: Format::Automatic,
            delimiter: String::new(),
            quote: "\"".to_owned(),
            id: "id".to_owned(),
            attributes: Vec::new(),
            vector: String::new(),
        }
    }
}

/// A column whose values are shown under a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeColumn {
    /// The column.
    pub column: String,
    /// What the values are called, such as "genres".
    pub label: String,
    /// What stands between several values in one field; nothing if there is one value.
    #[serde(default)]
    pub separator: Option<String>,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// By the extension: csv, tsv, txt; jsonl, ndjson, json; parquet, pq.
    #[default]
    Automatic,
    /// Delimited text with the columns' names in the first line.
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// Numbers are taken as seconds, milliseconds, microseconds or nanoseconds by their size
    /// (below 10^11, 10^14, 10^17, or above), everything else as a date.
    #[default]
    Automatic,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Dates: RFC 3339, `2014-05-03 10:11:12` or `2014-05-03` in UTC.
    Date,
}

/// What happens to an interaction whose item or user is not in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownReferences {
    /// It is kept, with a warning in the report.
    #[default]
    Keep,
    /// It is refused.
    Refuse,
}
