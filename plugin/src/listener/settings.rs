//! The limits of the listener.

use serde::{Deserialize, Serialize};

/// What one request may ask for. Requests beyond a limit are refused with a message that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerSettings {
    /// The most points that a query (with its offset), a page, a facet or all groups together may
    /// return. The store has a limit of its own; the smaller one holds.
    pub maximum_limit: usize,
    /// The most points that one write or one read by id may name.
    pub maximum_batch: usize,
    /// The most queries in one batch.
    pub maximum_queries: usize,
    /// The most bytes of a request's body.
    pub maximum_body_bytes: usize,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            maximum_limit: 10_000,
            maximum_batch: 10_000,
            maximum_queries: 1_000,
            // Qdrant's own default.
            maximum_body_bytes: 32 * 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_and_a_missing_one_has_its_default() {
        let settings: ListenerSettings =
            serde_json::from_str(r#"{"maximum_batch": 5}"#).expect("a known key is taken");
        assert_eq!(settings, ListenerSettings { maximum_batch: 5, ..ListenerSettings::default() });
        let error = serde_json::from_str::<ListenerSettings>(r#"{"maximum": 5}"#).unwrap_err();
        assert!(error.to_string().contains("maximum"), "{error}");
    }
}
