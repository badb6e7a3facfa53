//! Reads a configuration and reports every fault in it at once, each with its key and line.
//!
//! Parsing and meaning are apart: this file knows nothing of what the settings mean. It merges the
//! file and the environment over the defaults, finds unknown keys and values of a wrong type, and
//! hands a complete value to [`super::settings`], whose validation adds what only meaning can tell.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Prefix of the environment variables that override settings: `WHYRANK__SECTION__KEY`.
pub const ENVIRONMENT_PREFIX: &str = "WHYRANK__";

/// Last keys of the settings that hold secrets, and of those that hold digests, where somebody may put the
/// key itself.
const SECRETS: [&str; 7] = [
    "api_key",
    "api_keys",
    "inference_token",
    "keys",
    "noise_secret",
    "sha256",
    "upstream_api_key",
];

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, dotted from the top (`rerank.candidates`); empty for the document itself.
    pub key: String,
    /// Where the value was given: a line of the file, or an environment variable.
    pub place: Place,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the configuration file, counted from 1.
    Line(usize),
    /// An environment variable, by name.
    Environment(String),
    /// Not given: the default, or a combination of settings.
    Default,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line(line) => write!(formatter, "line {line}: ")?,
            Place::Environment(name) => write!(formatter, "environment variable {name}: ")?,
            Place::Default => {}
        }
        if self.key.is_empty() {
            formatter.write_str(&self.message)
        } else {
            write!(formatter, "{}: {}", self.key, self.message)
        }
    }
}

/// All faults of one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The file that was read, as the caller named it.
    pub source: String,
    /// The faults, in the order of the file.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.faults.len() == 1 { "fault" } else { "faults" };
        write!(formatter, "{}: {} {noun} in the configuration", self.source, self.faults.len())?;
        for fault in &self.faults {
            write!(formatter, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A configuration merged from defaults, file and environment, with the place of every given key.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    /// The settings. Keys at fault keep their default.
    pub(super) settings: T,
    /// Where each given key stands, so that validation can name it.
    places: BTreeMap<String, Place>,
    source: String,
    faults: Vec<Fault>,
}

impl<T> Loaded<T> {
    /// Adds a fault that only the meaning of the settings can tell.
    pub(super) fn fault(&mut self, key: &str, message: impl Into<String>) {
        let place = self.places.get(key).cloned().unwrap_or(Place::Default);
        self.faults.push(Fault { key: key.to_owned(), place, message: message.into() });
    }

    /// The settings, or all faults together.
    ///
    /// # Errors
    /// [`Faults`] when there is at least one.
    pub(super) fn finish(mut self) -> Result<T, Faults> {
        if self.faults.is_empty() {
            return Ok(self.settings);
        }
        self.faults.sort_by_key(|fault| match &fault.place {
            Place::Line(line) => (0, *line, fault.key.clone()),
            Place::Environment(name) => (1, 0, name.clone()),
            Place::Default => (2, 0, fault.key.clone()),
        });
        Err(Faults { source: self.source, faults: self.faults })
    }
}

/// Reads `path` (or only defaults when there is none) and the given environment.
///
/// # Errors
/// Only a file that cannot be read or is no TOML at all ends here; every other fault is collected.
pub(super) fn load<T>(
    path: Option<&Path>,
    environment: &[(String, String)],
) -> Result<Loaded<T>, Faults>
where
    T: Serialize + DeserializeOwned + Default,
{
    let source = path.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let text = match path {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| Faults {
            source: source.clone(),
            faults: vec![Fault {
                key: String::new(),
                place: Place::Default,
                message: format!("cannot read the configuration file: {error}"),
            }],
        })?,
    };
    load_text(&text, source, environment)
}

/// The same as [`load`], from text.
///
/// # Errors
/// See [`load`].
pub(super) fn load_text<T>(
    text: &str,
    source: String,
    environment: &[(String, String)],
) -> Result<Loaded<T>, Faults>
where
    T: Serialize + DeserializeOwned + Default,
{
    let document = toml_edit::Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        Faults {
            source: source.clone(),
            faults: vec![Fault {
                key: String::new(),
                place: Place::Line(line),
                message: error.message().to_owned(),
            }],
        }
    })?;
    let defaults = serde_json::to_value(T::default()).unwrap_or(Value::Null);
    let mut places = BTreeMap::new();
    let mut given = Value::Object(Map::new());
    read_table(text, document.as_table(), String::new(), &mut given, &mut places);
    read_environment(environment, &defaults, &mut given, &mut places);
    let mut faults = Vec::new();
    remove_unknown(&mut given, &defaults, "", &places, &mut faults);
    let settings = fit(given, &defaults, &places, &mut faults);
    Ok(Loaded { settings, places, source, faults })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Copies a TOML table into JSON and notes the line of every key.
fn read_table(
    text: &str,
    table: &dyn toml_edit::TableLike,
    prefix: String,
    into: &mut Value,
    places: &mut BTreeMap<String, Place>,
) {
    for (key, item) in table.iter() {
        let path = join(&prefix, key);
        let span = table.key(key).and_then(|key| key.span()).or_else(|| item.span());
        places.insert(path.clone(), Place::Line(span.map_or(1, |span| line_of(text, span.start))));
        let mut value = Value::Object(Map::new());
        if let Some(inner) = item.as_table_like() {
            read_table(text, inner, path, &mut value, places);
        } else if let Some(tables) = item.as_array_of_tables() {
            let rows = tables.iter().enumerate().map(|(index, inner)| {
                let mut row = Value::Object(Map::new());
                read_table(text, inner, format!("{path}[{index}]"), &mut row, places);
                row
            });
            value = Value::Array(rows.collect());
        } else if let Some(plain) = item.as_value() {
            value = json_of(plain);
        }
        into[key] = value;
    }
}

fn json_of(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(flag) => Value::from(*flag.value()),
        toml_edit::Value::Datetime(time) => Value::from(time.value().to_string()),
        toml_edit::Value::Array(array) => Value::Array(array.iter().map(json_of).collect()),
        toml_edit::Value::InlineTable(table) => Value::Object(
            table.iter().map(|(key, value)| (key.to_owned(), json_of(value))).collect(),
        ),
    }
}

/// Lays `WHYRANK__SECTION__KEY` variables over what the file gave.
fn read_environment(
    environment: &[(String, String)],
    defaults: &Value,
    given: &mut Value,
    places: &mut BTreeMap<String, Place>,
) {
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let keys: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let default = keys.iter().try_fold(defaults, |value, key| value.get(key.as_str()));
        // A setting whose default is text takes the variable as it stands, so that `1234` can be a key.
        let value = match default {
            Some(Value::String(_)) => Value::from(text.as_str()),
            _ => text
                .parse::<toml_edit::Value>()
                .map_or_else(|_| Value::from(text.as_str()), |value| json_of(&value)),
        };
        let mut place = &mut *given;
        for key in &keys {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[key.as_str()];
        }
        *place = value;
        places.insert(keys.join("."), Place::Environment(name.clone()));
    }
}

/// Takes out every key that the defaults do not have, with a fault each.
///
/// A default that is an empty table or absent (`null`) is free-form: any key may stand in it. One that
/// is a `kind` alone is a choice whose other kinds have keys of their own, which it checks itself.
fn remove_unknown(
    given: &mut Value,
    defaults: &Value,
    prefix: &str,
    places: &BTreeMap<String, Place>,
    faults: &mut Vec<Fault>,
) {
    let (Some(entries), Some(known)) = (given.as_object_mut(), defaults.as_object()) else {
        return;
    };
    if known.is_empty() || (known.len() == 1 && known.contains_key("kind")) {
        return;
    }
    entries.retain(|key, value| {
        let path = join(prefix, key);
        if let Some(default) = known.get(key) {
            remove_unknown(value, default, &path, places, faults);
            return true;
        }
        let nearest = known.keys().min_by_key(|candidate| strsim::levenshtein(candidate, key));
        let hint = nearest.filter(|name| strsim::levenshtein(name, key) <= 3).map_or_else(
            || format!("known here: {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
            |name| format!("did you mean `{name}`?"),
        );
        faults.push(Fault {
            place: places
                .get(&path)
                .or_else(|| first_below(places, &path))
                .cloned()
                .unwrap_or(Place::Default),
            key: path,
            message: format!("unknown key; {hint}"),
        });
        false
    });
}

fn first_below<'a>(places: &'a BTreeMap<String, Place>, path: &str) -> Option<&'a Place> {
    places.iter().find(|(key, _)| key.starts_with(path)).map(|(_, place)| place)
}

/// Deserialises; a value that does not fit is noted, put back to its default, and the rest is tried
/// again, so that one wrong type does not hide the next.
fn fit<T>(
    mut given: Value,
    defaults: &Value,
    places: &BTreeMap<String, Place>,
    faults: &mut Vec<Fault>,
) -> T
where
    T: DeserializeOwned + Default,
{
    loop {
        let mut merged = defaults.clone();
        merge(&mut merged, &given);
        let error = match serde_path_to_error::deserialize::<_, T>(merged) {
            Ok(settings) => return settings,
            Err(error) => error,
        };
        let reported = error.path().to_string();
        let message = without_secret(&reported, error.into_inner().to_string());
        // The reported path can reach into a list or an enum; the key to reset is the longest given one.
        let key = places
            .keys()
            .filter(|key| is_at_or_below(&reported, key))
            .max_by_key(|key| key.len())
            .cloned();
        let Some(key) = key.filter(|key| remove(&mut given, key)) else {
            faults.push(Fault { key: reported, place: Place::Default, message });
            return T::default();
        };
        faults.push(Fault { place: places[&key].clone(), key, message });
    }
}

/// What serde says about the value at `path`, which quotes it, without the value where that may be a secret:
/// faults are logged.
fn without_secret(path: &str, message: String) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    let key = key.split('[').next().unwrap_or(key);
    if !SECRETS.contains(&key) {
        return message;
    }
    without_value(&message)
}

/// The same without the value, whatever the key.
pub(super) fn without_value(message: &str) -> String {
    // The last such words are serde's own; the value, which comes before them, may hold others.
    match message.rsplit_once(", expected ") {
        Some((told, expected)) if told.starts_with("invalid ") => {
            format!("must be {expected}; what was given may be secret and is not shown")
        }
        _ => message.to_owned(),
    }
}

fn is_at_or_below(path: &str, key: &str) -> bool {
    path == key || (path.starts_with(key) && matches!(path.as_bytes()[key.len()], b'.' | b'['))
}

fn remove(value: &mut Value, path: &str) -> bool {
    match path.split_once('.') {
        None => {
            let key = path.split('[').next().unwrap_or(path);
            value.as_object_mut().is_some_and(|entries| entries.remove(key).is_some())
        }
        Some((head, rest)) => {
            let key = head.split('[').next().unwrap_or(head);
            if key != head {
                return value.as_object_mut().is_some_and(|entries| entries.remove(key).is_some());
            }
            value.get_mut(key).is_some_and(|inner| remove(inner, rest))
        }
    }
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
