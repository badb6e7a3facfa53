//! How the points of an existing collection become items.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Which vector and which payload fields of an existing collection make an item.
///
/// Payload keys are JSON paths: `title`, `meta.title`, `cast[].name`. The values of a list are joined
/// by commas; numbers and booleans become text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExistingItemsSettings {
    /// The named vector to retrieve by; empty for the unnamed vector.
    pub vector: String,
    /// The payload key of the title; without it, and where it is empty, the point's id is the title.
    pub title: Option<String>,
    /// The payload keys of the description, in the order in which they are put together.
    pub text: Vec<String>,
    /// What else is known of an item.
    pub attributes: Vec<ExistingAttribute>,
    /// The collection that Whyrank makes for the items' rating statistics, so that it need not write
    /// into theirs.
    pub statistics_collection: String,
}

/// A payload field that is an attribute of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExistingAttribute {
    /// The payload key.
    pub key: String,
    /// The attribute's name as readers and language models see it.
    pub label: String,
}

impl Default for ExistingItemsSettings {
    fn default() -> Self {
        Self {
            vector: String::new(),
            title: None,
            text: Vec::new(),
            attributes: Vec::new(),
            statistics_collection: "whyrank_item_statistics".to_owned(),
        }
    }
}

impl ExistingItemsSettings {
    /// What is wrong with the settings for this items collection, the first fault only.
    pub fn fault(&self, items: &str) -> Option<String> {
        if self.statistics_collection == items {
            return Some(format!(
                "`statistics_collection` is the items collection `{items}` itself; name another"
            ));
        }
        let keys = self.title.iter().chain(&self.text);
        let keys = keys.chain(self.attributes.iter().map(|attribute| &attribute.key));
        for key in keys {
            if key.parse::<qdrant_edge::JsonPath>().is_err() {
                return Some(format!(
                    "{key:?} is not a payload key: write it as `key`, `key.nested` or `list[].key`"
                ));
            }
        }
        let mut labels = BTreeSet::new();
        for ExistingAttribute { key, label } in &self.attributes {
            if label.is_empty() {
                return Some(format!("the attribute of `{key}` has no label"));
            }
            if !labels.insert(label) {
                return Some(format!("two attributes have the label {label:?}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_and_a_missing_one_has_its_default() {
        let json = r#"{"title": "meta.title", "attributes": [{"key": "year", "label": "Year"}]}"#;
        let settings: ExistingItemsSettings = serde_json::from_str(json).unwrap();
        let attribute = ExistingAttribute { key: "year".to_owned(), label: "Year".to_owned() };
        let expected = ExistingItemsSettings {
            title: Some("meta.title".to_owned()),
            attributes: vec![attribute],
            ..ExistingItemsSettings::default()
        };
        assert_eq!(settings, expected);
        let error = serde_json::from_str::<ExistingItemsSettings>(r#"{"vectr": ""}"#).unwrap_err();
        assert!(error.to_string().contains("vectr"), "{error}");
    }

    #[test]
    fn faults_are_named() {
        let check = |change: &dyn Fn(&mut ExistingItemsSettings), word: &str| {
            let mut settings = ExistingItemsSettings::default();
            change(&mut settings);
            let fault = settings.fault("items").expect(word);
            assert!(fault.contains(word), "{fault}");
        };
        let attribute = |key: &str, label: &str| ExistingAttribute {
            key: key.to_owned(),
            label: label.to_owned(),
        };
        assert_eq!(ExistingItemsSettings::default().fault("items"), None);
        check(&|settings| settings.statistics_collection = "items".to_owned(), "itself");
        check(&|settings| settings.title = Some("a[".to_owned()), "a[");
        check(&|settings| settings.attributes = vec![attribute("a", "")], "no label");
        check(
            &|settings| settings.attributes = vec![attribute("a", "A"), attribute("b", "A")],
            "two attributes",
        );
    }
}
