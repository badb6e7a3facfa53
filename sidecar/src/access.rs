//! Who may ask what: API keys with roles. The configuration holds only their SHA-256 digests; keys are
//! made by `whyrank key` from 256 random bits, so that a digest cannot be turned back by guessing.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use whyrank_plugin::{Filter, KeyLimits};

/// Hexadecimal digits of a SHA-256 digest.
const DIGITS: usize = 64;

/// What a key's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Everything.
    Admin,
    /// Recommendations, explanations, comparisons, interactions and inference.
    Search,
    /// Audiences: the consumers, without the texts that tell what one of them likes.
    Campaign,
    /// Insights into the seller's own items, with single consumers hidden.
    Seller,
}

impl KeyRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Search, Self::Campaign, Self::Seller];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Search => "search",
            Self::Campaign => "campaign",
            Self::Seller => "seller",
        }
    }

    /// Whether requests to this path are the role's.
    pub fn may(self, path: &str) -> bool {
        match (self, path) {
            (Self::Admin, _) | (_, "/openapi.json") => true,
            (Self::Search, path) => {
                matches!(
                    path,
                    "/" | "/v1/recommend" | "/v1/explain" | "/v1/compare" | "/v1/interactions"
                )
            }
            (Self::Campaign, path) => {
                matches!(path, "/v1/audiences" | "/v1/audiences/compare" | "/v1/audiences/export")
            }
            (Self::Seller, path) => insights_of(path).is_some(),
        }
    }

    /// What the holder of a key is told whose role does not reach a path, and who would reach it.
    pub(crate) fn refusal(self, key: &str, path: &str, what: &str) -> String {
        let roles = Self::ALL.into_iter().filter(|role| role.may(path));
        let roles: Vec<String> = roles.map(|role| format!("`{}`", role.name())).collect();
        format!(
            "key {key:?} has the role `{}`, which does not reach {what}; it takes a key with the role {}",
            self.name(),
            roles.join(" or ")
        )
    }
}

/// One key as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// Whose key it is, for the audit log.
    pub name: String,
    /// What its holder may do.
    pub role: KeyRole,
    /// SHA-256 of the key, in 64 hexadecimal digits.
    pub sha256: String,
    /// With the role `seller`: a filter on items in Qdrant's JSON; the key reaches those that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Value>,
    /// What the key may ask for, in place of `server.key_limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<KeyLimits>,
}

impl AccessKey {
    /// What is wrong with it, if something is.
    pub fn fault(&self) -> Option<String> {
        if self.name.trim().is_empty() {
            return Some("a key needs a `name`".to_owned());
        }
        let digest = &self.sha256;
        let fits = digest.len() == DIGITS && digest.chars().all(|c| c.is_ascii_hexdigit());
        if !fits {
            return Some(format!(
                "the `sha256` of key {:?} is not {DIGITS} hexadecimal digits; `whyrank key` makes one",
                self.name
            ));
        }
        match (&self.items, self.role) {
            (Some(items), KeyRole::Seller) => {
                let unusable = Filter::from_json(items.clone()).err();
                unusable.map(|error| format!("the `items` of key {:?}: {error}", self.name))
            }
            (None, KeyRole::Seller) => Some(format!(
                "key {:?} has the role `seller` and needs `items`: a filter on the items that are its own, \
                 such as {{ must = [{{ key = \"attributes.brand\", match = {{ value = \"X\" }} }}] }}",
                self.name
            )),
            (Some(_), _) => Some(format!(
                "key {:?} has `items`, which only keys with the role `seller` are bound to",
                self.name
            )),
            (None, _) => None,
        }
    }
}

/// The item whose insights a path is, as it stands in the path.
fn insights_of(path: &str) -> Option<&str> {
    let item = path.strip_prefix("/v1/items/")?.strip_suffix("/insights")?;
    (!item.is_empty() && !item.contains('/')).then_some(item)
}

/// The digest of a key, as the configuration has it.
pub fn digest(key: &str) -> String {
    format!("{:x}", Sha256::digest(key.as_bytes()))
}

/// The entry that a given key belongs to. Every entry is compared, in constant time, so that the time
/// tells nothing about any of them.
pub fn find<'a>(keys: &'a [AccessKey], given: &str) -> Option<&'a AccessKey> {
    let given = digest(given);
    keys.iter().fold(None, |found, key| {
        let same = key.sha256.to_ascii_lowercase().as_bytes().ct_eq(given.as_bytes());
        if bool::from(same) { Some(key) } else { found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, role: KeyRole) -> AccessKey {
        AccessKey { name: name.to_owned(), role, sha256: digest(name), items: None, limits: None }
    }

    #[test]
    fn a_key_is_found_by_itself_and_by_nothing_else() {
        let keys = [key("one", KeyRole::Search), key("two", KeyRole::Campaign)];
        assert_eq!(find(&keys, "two").map(|key| key.role), Some(KeyRole::Campaign));
        assert_eq!(find(&keys, &keys[0].sha256), None, "a digest is no key");
        assert_eq!((find(&keys, ""), find(&[], "one")), (None, None));
    }

    #[test]
    fn a_digest_in_capitals_is_the_same_digest() {
        let mut keys = [key("one", KeyRole::Admin)];
        keys[0].sha256 = keys[0].sha256.to_uppercase();
        assert!(keys[0].fault().is_none() && find(&keys, "one").is_some());
    }

    #[test]
    fn what_cannot_be_a_key_is_told() {
        let good = key("one", KeyRole::Admin);
        assert_eq!(good.fault(), None);
        let short = AccessKey { sha256: "abc".to_owned(), ..good.clone() };
        assert!(short.fault().is_some_and(|fault| fault.contains("one")));
        assert!(AccessKey { name: " ".to_owned(), ..good }.fault().is_some());
    }

    #[test]
    fn roles_reach_their_own_routes_only() {
        let reached = |role: KeyRole| {
            [
                "/",
                "/v1/recommend",
                "/v1/explain",
                "/v1/audiences",
                "/v1/audiences/export",
                "/v1/items/7/insights",
                "/v1/new",
            ]
            .map(|path| role.may(path))
        };
        assert_eq!(reached(KeyRole::Admin), [true; 7]);
        assert_eq!(reached(KeyRole::Search), [true, true, true, false, false, false, false]);
        assert_eq!(reached(KeyRole::Campaign), [false, false, false, true, true, false, false]);
        assert_eq!(reached(KeyRole::Seller), [false, false, false, false, false, true, false]);
        let refused = KeyRole::Seller.refusal("shop", "/v1/recommend", "/v1/recommend");
        assert!(refused.ends_with("with the role `admin` or `search`"), "{refused}");
    }

    #[test]
    fn a_seller_is_bound_to_items_and_nobody_else_is() {
        let items = serde_json::json!({ "must": [{ "key": "a", "match": { "value": "x" } }] });
        let seller = key("shop", KeyRole::Seller);
        assert!(seller.fault().is_some_and(|fault| fault.contains("needs `items`")));
        let bound = AccessKey { items: Some(items.clone()), ..seller.clone() };
        assert_eq!(bound.fault(), None);
        let odd = AccessKey { items: Some(serde_json::json!({ "must": 3 })), ..seller };
        assert!(odd.fault().is_some_and(|fault| fault.contains("shop")));
        let search = AccessKey { items: Some(items), ..key("one", KeyRole::Search) };
        assert!(search.fault().is_some_and(|fault| fault.contains("only keys with the role")));
        assert_eq!(insights_of("/v1/items/a/b/insights"), None);
        assert_eq!(insights_of("/v1/items//insights"), None);
    }
}
