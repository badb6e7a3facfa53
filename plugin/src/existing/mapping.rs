//! From a foreign point to the point of an item record, and the translation of what is asked.

use qdrant_edge::{JsonPath, PayloadSelector};
use serde_json::{Map, Value, json};

use super::settings::ExistingItemsSettings;
use crate::filter::{Filter, FilterError};
use crate::records::{EXTERNAL_ID_KEY, ITEM_VECTOR, Statistics};
use crate::store::{
    Payload, PayloadSelection, Point, Selection, StoreError, StoreResult, VectorSelection,
};
use crate::validate;

/// The payload key of an item's statistics.
pub(super) const STATISTICS_KEY: &str = "statistics";

/// The settings with their keys parsed.
#[derive(Debug)]
pub(super) struct Mapping {
    items: String,
    vector: String,
    title: Option<JsonPath>,
    text: Vec<JsonPath>,
    attributes: Vec<(String, JsonPath)>,
    /// All keys that are read.
    keys: Vec<String>,
}

impl Mapping {
    pub(super) fn new(items: &str, settings: &ExistingItemsSettings) -> StoreResult<Self> {
        let path = |key: &String| validate::payload_key(items, key);
        let attributes = settings
            .attributes
            .iter()
            .map(|attribute| Ok((attribute.label.clone(), path(&attribute.key)?)));
        let keys = settings.title.iter().chain(&settings.text);
        let keys = keys.chain(settings.attributes.iter().map(|attribute| &attribute.key));
        Ok(Self {
            items: items.to_owned(),
            vector: settings.vector.clone(),
            title: settings.title.as_ref().map(path).transpose()?,
            text: settings.text.iter().map(path).collect::<StoreResult<_>>()?,
            attributes: attributes.collect::<StoreResult<_>>()?,
            keys: keys.cloned().collect(),
        })
    }

    /// The name of a vector in the existing collection.
    pub(super) fn vector(&self, name: &str) -> StoreResult<String> {
        if name == ITEM_VECTOR { Ok(self.vector.clone()) } else { Err(self.unknown(name)) }
    }

    /// What to read of the existing collection for this selection.
    pub(super) fn foreign_selection(&self, selection: &Selection) -> StoreResult<Selection> {
        let vectors = match &selection.vectors {
            VectorSelection::None => VectorSelection::None,
            // Only the item's vector: the collection may have many more.
            VectorSelection::All => VectorSelection::Named(vec![self.vector.clone()]),
            VectorSelection::Named(names) => {
                let names = names.iter().map(|name| self.vector(name));
                VectorSelection::Named(names.collect::<StoreResult<_>>()?)
            }
        };
        self.check_keys(&selection.payload)?;
        let payload = if selection.payload == PayloadSelection::None {
            PayloadSelection::None
        } else {
            PayloadSelection::Include(self.keys.clone())
        };
        Ok(Selection { vectors, payload })
    }

    fn check_keys(&self, selection: &PayloadSelection) -> StoreResult<()> {
        match selection {
            PayloadSelection::Include(keys) | PayloadSelection::Exclude(keys) => {
                keys.iter().try_for_each(|key| validate::payload_key(&self.items, key).map(drop))
            }
            PayloadSelection::None | PayloadSelection::All => Ok(()),
        }
    }

    /// The filter with the item vector's name as the existing collection has it. Payload conditions
    /// are the caller's, on the existing payload, and stay.
    pub(super) fn filter(&self, filter: &Filter) -> Result<Filter, FilterError> {
        let mut json = filter.to_json();
        self.rename_vector(&mut json);
        Filter::from_json(json)
    }

    fn rename_vector(&self, filter: &mut Value) {
        let Some(parts) = filter.as_object_mut() else { return };
        for part in ["must", "should", "must_not"] {
            match parts.get_mut(part) {
                Some(Value::Array(conditions)) => {
                    conditions.iter_mut().for_each(|condition| self.rename_vector(condition));
                }
                Some(single) => self.rename_vector(single),
                None => {}
            }
        }
        if let Some(Value::Array(conditions)) =
            parts.get_mut("min_should").and_then(|min_should| min_should.get_mut("conditions"))
        {
            conditions.iter_mut().for_each(|condition| self.rename_vector(condition));
        }
        if let Some(name) = parts.get_mut("has_vector").filter(|name| *name == ITEM_VECTOR) {
            *name = self.vector.as_str().into();
        }
    }

    /// The item point of a foreign one that was read by [`Self::foreign_selection`].
    pub(super) fn item(
        &self,
        mut foreign: Point,
        statistics: Statistics,
        selection: &PayloadSelection,
    ) -> Point {
        let vector = foreign.vectors.remove(&self.vector);
        let payload = match selection {
            PayloadSelection::None => Payload::default(),
            PayloadSelection::All => self.payload(&foreign, statistics),
            PayloadSelection::Include(keys) => selected(
                PayloadSelector::new_include(paths(keys)),
                self.payload(&foreign, statistics),
            ),
            PayloadSelection::Exclude(keys) => selected(
                PayloadSelector::new_exclude(paths(keys)),
                self.payload(&foreign, statistics),
            ),
        };
        let vectors = vector.map(|vector| (ITEM_VECTOR.to_owned(), vector)).into_iter().collect();
        Point { id: foreign.id, vectors, payload }
    }

    fn payload(&self, foreign: &Point, statistics: Statistics) -> Payload {
        let id = foreign.id.to_string();
        let title = self.title.as_ref().and_then(|path| text_at(&foreign.payload, path));
        let text: Vec<String> =
            self.text.iter().filter_map(|path| text_at(&foreign.payload, path)).collect();
        let attributes: Map<String, Value> = self
            .attributes
            .iter()
            .filter_map(|(label, path)| {
                Some((label.clone(), text_at(&foreign.payload, path)?.into()))
            })
            .collect();
        let mut payload = Payload::new();
        payload.insert("title".to_owned(), title.unwrap_or_else(|| id.clone()).into());
        payload.insert(EXTERNAL_ID_KEY.to_owned(), id.into());
        payload.insert("text".to_owned(), text.join("\n").into());
        payload.insert("attributes".to_owned(), attributes.into());
        payload.insert(STATISTICS_KEY.to_owned(), json!(statistics));
        payload
    }

    fn unknown(&self, name: &str) -> StoreError {
        StoreError::InvalidRequest {
            collection: self.items.clone(),
            detail: format!(
                "it has no vector `{name}`: of an existing collection only `{ITEM_VECTOR}` (its \
                 vector {:?}) is used",
                self.vector
            ),
        }
    }
}

fn paths(keys: &[String]) -> Vec<JsonPath> {
    keys.iter().filter_map(|key| key.parse().ok()).collect()
}

fn selected(selector: PayloadSelector, payload: Payload) -> Payload {
    selector.process(payload.into()).0
}

/// The values at a path as text; none if there are none or they are empty.
fn text_at(payload: &Payload, path: &JsonPath) -> Option<String> {
    let mut words = Vec::new();
    for value in path.value_get(payload) {
        collect(value, &mut words);
    }
    (!words.is_empty()).then(|| words.join(", "))
}

fn collect(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::String(text) if text.trim().is_empty() => {}
        Value::String(text) => words.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, words)),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => words.push(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::ExistingAttribute;

    fn mapping() -> Mapping {
        let attribute = |key: &str, label: &str| ExistingAttribute {
            key: key.to_owned(),
            label: label.to_owned(),
        };
        let settings = ExistingItemsSettings {
            vector: "image".to_owned(),
            title: Some("meta.title".to_owned()),
            text: vec!["plot".to_owned(), "reviews[].text".to_owned()],
            attributes: vec![attribute("genres", "Genre"), attribute("year", "Year")],
            ..ExistingItemsSettings::default()
        };
        Mapping::new("films", &settings).unwrap()
    }

    #[test]
    fn values_of_every_kind_become_text() {
        let check = |value: Value, expected: Option<&str>| {
            let payload = json!({"key": value}).as_object().cloned().unwrap();
            assert_eq!(text_at(&payload, &"key".parse().unwrap()).as_deref(), expected, "{value}");
        };
        check(json!("Solaris"), Some("Solaris"));
        check(json!(1972), Some("1972"));
        check(json!(7.5), Some("7.5"));
        check(json!(true), Some("true"));
        check(json!(["Drama", ["Sci-Fi", null], 3]), Some("Drama, Sci-Fi, 3"));
        check(json!({"a": 1}), Some(r#"{"a":1}"#));
        for empty in [json!(null), json!(" "), json!([]), json!([null, ""])] {
            check(empty, None);
        }
    }

    #[test]
    fn an_item_is_put_together_and_cut_to_the_selection() {
        let payload = json!({
            "meta": {"title": "Solaris"}, "plot": "An ocean.", "genres": ["Drama", "Sci-Fi"],
            "reviews": [{"text": "Slow."}, {"text": "Deep."}], "secret": "margin",
        });
        let foreign = Point {
            id: 7.into(),
            vectors: [("image".to_owned(), vec![1.0]), ("audio".to_owned(), vec![2.0])].into(),
            payload: payload.as_object().cloned().unwrap(),
        };
        let statistics = Statistics { count: 2, mean_rating: Some(4.5), ..Statistics::default() };
        let item = mapping().item(foreign.clone(), statistics, &PayloadSelection::All);
        assert_eq!(item.vectors, [("item".to_owned(), vec![1.0])].into());
        let expected = json!({
            "external_id": "7", "title": "Solaris", "text": "An ocean.\nSlow., Deep.",
            "attributes": {"Genre": "Drama, Sci-Fi"},
            "statistics": {"count": 2, "mean_rating": 4.5},
        });
        assert_eq!(json!(item.payload), expected);

        let keys = vec!["title".to_owned(), "statistics.count".to_owned()];
        let part = mapping().item(foreign.clone(), statistics, &PayloadSelection::Include(keys));
        assert_eq!(json!(part.payload), json!({"title": "Solaris", "statistics": {"count": 2}}));
        let bare = Point { payload: Payload::new(), ..foreign };
        let item = mapping().item(bare, Statistics::default(), &PayloadSelection::All);
        assert_eq!(item.payload["title"], "7", "the id stands in for a title");
    }

    #[test]
    fn only_the_vector_s_name_of_a_filter_changes() {
        let filter = |name: &str| {
            let json = json!({"must": [{"key": "has_vector", "match": {"value": "item"}},
                {"should": [{"has_vector": name}, {"has_vector": "audio"}]}],
                "min_should": {"conditions": [{"has_vector": name}], "min_count": 1}});
            Filter::from_json(json).unwrap()
        };
        assert_eq!(mapping().filter(&filter("item")), Ok(filter("image")));
    }
}
