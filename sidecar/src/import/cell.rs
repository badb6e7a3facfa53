//! One value of a table, whatever format it came from, and what it may be read as.

use serde_json::Value;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// The row has no such field, or its value is null.
    Absent,
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction; may be NaN or infinite.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// A point in time, in seconds since 1970.
    Time(i64),
    /// Several values.
    List(Vec<Cell>),
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// A value that is none of these, such as an object inside a row.
    Other(&'static str),
}

impl Cell {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok("") => Self::Absent,
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::InvalidUtf8,
        }
    }

    pub(super) fn from_json(value: Value) -> Self {
        match value {
            Value::Null => Self::Absent,
            Value::Bool(value) => Self::Boolean(value),
            Value::String(text) => Self::Text(text),
            Value::Array(values) => Self::List(values.into_iter().map(Self::from_json).collect()),
            Value::Object(_) => Self::Other("an object"),
            Value::Number(number) => number
                .as_i128()
                .map(Self::Integer)
                .or_else(|| number.as_f64().map(Self::Float))
                .unwrap_or(Self::Other("a number that is too large")),
        }
    }

    /// The value as text without surrounding blanks; nothing if there is no text in it.
    pub(super) fn text(&self) -> Option<String> {
        let text = match self {
            Self::Text(text) => text.trim().to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Time(seconds) => seconds.to_string(),
            Self::List(cells) => {
                let texts: Vec<String> = cells.iter().filter_map(Self::text).collect();
                texts.join(", ")
            }
            Self::Absent | Self::InvalidUtf8 | Self::Other(_) => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The value as several texts: a list's elements, or a text split at the separator.
    pub(super) fn texts(&self, separator: Option<&str>) -> Vec<String> {
        match (self, separator) {
            (Self::List(cells), _) => cells.iter().filter_map(Self::text).collect(),
            (cell, Some(separator)) if !separator.is_empty() => {
                let text = cell.text().unwrap_or_default();
                text.split(separator)
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect()
            }
            (cell, _) => cell.text().into_iter().collect(),
        }
    }

    /// The value as a number; may be NaN or infinite, as files spell them.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The value as a vector: a list of numbers, or text such as `[0.1, 0.2]`, `0.1,0.2` or `0.1 0.2`.
    pub(super) fn vector(&self) -> Option<Vec<f32>> {
        match self {
            Self::List(cells) => {
                cells.iter().map(|cell| cell.number().map(|number| number as f32)).collect()
            }
            Self::Text(text) => {
                let inner = text.trim();
                let inner = inner
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'))
                    .unwrap_or(inner);
                inner
                    .split(|c: char| matches!(c, ',' | ';') || c.is_whitespace())
                    .filter(|part| !part.is_empty())
                    .map(|part| part.parse().ok())
                    .collect()
            }
            _ => None,
        }
    }

    /// The value as a reader of a report should see it, cut to a length that fits a line.
    pub(super) fn shown(&self) -> String {
        const LONGEST: usize = 60;
        let text = match self {
            Self::Absent => return "nothing".to_owned(),
            Self::InvalidUtf8 => return "bytes that are not UTF-8".to_owned(),
            Self::Other(what) => return (*what).to_owned(),
            cell => cell.text().unwrap_or_default(),
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("`{}…`", &text[..end]),
            None => format!("`{text}`"),
        }
    }

    /// Whether any part of the value is not UTF-8.
    pub(super) fn has_invalid_utf8(&self) -> bool {
        match self {
            Self::InvalidUtf8 => true,
            Self::List(cells) => cells.iter().any(Self::has_invalid_utf8),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_from_lists_and_text() {
        let check =
            |cell: Cell, expected: Option<&[f32]>| assert_eq!(cell.vector().as_deref(), expected);
        check(Cell::List(vec![Cell::Integer(1), Cell::Float(0.5)]), Some(&[1.0, 0.5]));
        check(Cell::Text("[0.5, -2e1]".to_owned()), Some(&[0.5, -20.0]));
        check(Cell::Text("0.5 1;2".to_owned()), Some(&[0.5, 1.0, 2.0]));
        check(Cell::Text("0.5 one".to_owned()), None);
        check(Cell::Boolean(true), None);
    }

    #[test]
    fn lists_are_split_only_when_a_separator_is_given() {
        let check = |text: &str, separator: Option<&str>, expected: &[&str]| {
            assert_eq!(Cell::Text(text.to_owned()).texts(separator), expected);
        };
        check("Comedy|Film Noir", Some("|"), &["Comedy", "Film Noir"]);
        check("Comedy Drama", Some(" "), &["Comedy", "Drama"]);
        check("Comedy Drama", None, &["Comedy Drama"]);
        check(" | ", Some("|"), &[]);
    }

    #[test]
    fn a_shown_value_is_short_and_cut_between_characters() {
        assert_eq!(Cell::Text("é".repeat(100)).shown(), format!("`{}…`", "é".repeat(60)));
    }
}
