//! What an import gives: interactions, items and users under the ids that the files use.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The kept rows of all tables.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Dataset {
    /// By time, those of one time in the order of the file; at most one for a user and an item.
    pub interactions: Vec<ImportedInteraction>,
    /// The items table in the order of the file; empty if there is none.
    pub items: Vec<ImportedItem>,
    /// The users table in the order of the file; empty if there is none.
    pub users: Vec<ImportedUser>,
}

/// One consumer rated one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportedInteraction {
    /// The consumer's id, as given.
    pub user: String,
    /// The item's id, as given.
    pub item: String,
    /// The rating; finite.
    pub rating: f32,
    /// Seconds since 1970. Where the table has no times, the row's line if rows are in order, or else 0.
    pub time: i64,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportedItem {
    /// Its id, as given.
    pub id: String,
    /// Its title; the id where there is none.
    pub title: String,
    /// Its text; empty where there is none.
    pub text: String,
    /// What else is known of it, in the order of the configuration.
    pub attributes: Vec<Attribute>,
    /// Its vector, if the table has one; finite numbers, of one dimension in the whole table.
    pub vector: Option<Vec<f32>>,
}

/// One consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportedUser {
    /// The consumer's id, as given.
    pub id: String,
    /// What is known of the consumer, in the order of the configuration.
    pub attributes: Vec<Attribute>,
    /// The consumer's vector, if the table has one; finite numbers, of one dimension in the whole table.
    pub vector: Option<Vec<f32>>,
}

/// A labelled property with at least one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// What it is called.
    pub label: String,
    /// Its values.
    pub values: Vec<String>,
}

impl Attribute {
    /// All values in one text, separated by commas.
    pub fn joined(&self) -> String {
        self.values.join(", ")
    }
}

impl Dataset {
    /// The SHA-256, in hexadecimal, over all rows in a canonical order and form: the same data give the
    /// same fingerprint, whatever format and order the files had.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Canonical(Sha256::new());
        let mut interactions: Vec<_> = self.interactions.iter().collect();
        interactions.sort_by_key(|row| (&row.user, &row.item));
        hasher.section("interactions", interactions.len());
        for row in interactions {
            hasher.text(&row.user);
            hasher.text(&row.item);
            hasher.0.update(row.rating.to_bits().to_le_bytes());
            hasher.0.update(row.time.to_le_bytes());
        }
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by_key(|row| &row.id);
        hasher.section("items", items.len());
        for row in items {
            hasher.text(&row.id);
            hasher.text(&row.title);
            hasher.text(&row.text);
            hasher.attributes(&row.attributes);
            hasher.vector(row.vector.as_deref());
        }
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by_key(|row| &row.id);
        hasher.section("users", users.len());
        for row in users {
            hasher.text(&row.id);
            hasher.attributes(&row.attributes);
            hasher.vector(row.vector.as_deref());
        }
        format!("{:x}", hasher.0.finalize())
    }
}

/// Hashes values so that no two different sequences of values look alike: each with its length first.
struct Canonical(Sha256);

impl Canonical {
    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_le_bytes());
    }

    fn section(&mut self, name: &str, length: usize) {
        self.text(name);
        self.length(length);
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text.as_bytes());
    }

    fn attributes(&mut self, attributes: &[Attribute]) {
        self.length(attributes.len());
        for attribute in attributes {
            self.text(&attribute.label);
            self.length(attribute.values.len());
            for value in &attribute.values {
                self.text(value);
            }
        }
    }

    fn vector(&mut self, vector: Option<&[f32]>) {
        // No vector and an empty one are different things.
        self.length(vector.map_or(0, |vector| vector.len() + 1));
        for value in vector.unwrap_or_default() {
            self.0.update(value.to_bits().to_le_bytes());
        }
    }
}
