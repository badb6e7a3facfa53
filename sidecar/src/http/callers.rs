//! The API keys in force and what each may still ask for: requests per second and at the same time. Keys
//! are replaced while serving; a key that stays keeps its count.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use whyrank_plugin::Secret;
use whyrank_plugin::allowance::{Allowance, Exhausted};

use super::{ApiError, Cause};
use crate::access::{self, AccessKey};
use crate::config::ServerSettings;

/// As the API tells that a key has nothing left.
pub(super) fn error(exhausted: &Exhausted) -> ApiError {
    ApiError::new(Cause::Full, exhausted.message.clone())
}

/// A key that was found, with what it has left.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) key: AccessKey,
    pub(super) allowance: Arc<Allowance>,
}

#[derive(Debug)]
struct InForce {
    keys: Vec<AccessKey>,
    allowances: HashMap<String, Arc<Allowance>>,
    inference_token: Option<Secret>,
}

impl InForce {
    fn new(settings: &ServerSettings, before: Option<&Self>) -> Self {
        let keys = settings.all_keys();
        let allowances = keys.iter().map(|key| {
            let limits = key.limits.unwrap_or(settings.key_limits);
            let known = before.and_then(|before| before.allowances.get(&key.name));
            (key.name.clone(), Allowance::kept(known, limits))
        });
        let inference_token = settings.inference_token.clone();
        Self { allowances: allowances.collect(), keys, inference_token }
    }
}

/// The keys in force.
#[derive(Debug)]
pub(super) struct Callers {
    in_force: ArcSwap<InForce>,
}

impl Callers {
    pub(super) fn new(settings: &ServerSettings) -> Self {
        Self { in_force: ArcSwap::from_pointee(InForce::new(settings, None)) }
    }

    /// Whether nobody needs a key.
    pub(super) fn none(&self) -> bool {
        self.in_force.load().keys.is_empty()
    }

    /// What a Qdrant server must send to have its inputs turned into vectors, if anything.
    pub(super) fn inference_token(&self) -> Option<Secret> {
        self.in_force.load().inference_token.clone()
    }

    /// The holder of a given key.
    pub(super) fn find(&self, given: &str) -> Option<Known> {
        let in_force = self.in_force.load();
        let key = access::find(&in_force.keys, given)?.clone();
        let allowance = in_force.allowances.get(&key.name)?.clone();
        Some(Known { key, allowance })
    }

    /// The key with this digest as it is now, if it is still in force.
    pub(super) fn still(&self, digest: &str) -> Option<Known> {
        let in_force = self.in_force.load();
        let key = in_force.keys.iter().find(|key| key.sha256.eq_ignore_ascii_case(digest))?.clone();
        let allowance = in_force.allowances.get(&key.name)?.clone();
        Some(Known { key, allowance })
    }

    /// From the next request on these keys count.
    pub(super) fn replace(&self, settings: &ServerSettings) {
        let new = InForce::new(settings, Some(&self.in_force.load()));
        self.in_force.store(Arc::new(new));
    }
}

#[cfg(test)]
mod tests {
    use whyrank_plugin::KeyLimits;
    use whyrank_plugin::allowance::ReachedLimit;

    use super::*;
    use crate::access::{KeyRole, digest};

    fn settings(limits: KeyLimits, names: &[&str]) -> ServerSettings {
        let keys = names.iter().map(|name| AccessKey {
            name: (*name).to_owned(),
            role: KeyRole::Search,
            sha256: digest(name),
            items: None,
            limits: None,
        });
        ServerSettings { keys: keys.collect(), key_limits: limits, ..ServerSettings::default() }
    }

    #[test]
    fn a_key_is_bounded_by_itself_and_told_so() {
        let limits = KeyLimits { requests_per_second: 1, burst: 2, concurrent_requests: 0 };
        let callers = Callers::new(&settings(limits, &["one", "two"]));
        let admit = |key: &str| callers.find(key).unwrap().allowance.admit();
        assert!(admit("one").is_ok() && admit("one").is_ok());
        let exhausted = admit("one").unwrap_err();
        assert_eq!(exhausted.limit, ReachedLimit::RequestsPerSecond);
        assert_eq!(error(&exhausted).cause, Cause::Full);
        assert!(admit("two").is_ok(), "another key has its own");
    }

    #[test]
    fn places_come_back_and_stay_taken_over_a_replacement() {
        let limits = KeyLimits { concurrent_requests: 1, ..KeyLimits::default() };
        let callers = Callers::new(&settings(limits, &["one"]));
        let place = callers.find("one").unwrap().allowance.admit().unwrap();
        callers.replace(&settings(limits, &["one", "two"]));
        let again = callers.find("one").unwrap().allowance.admit();
        assert!(again.unwrap_err().message.contains("concurrent_requests"));
        assert!(callers.find("two").unwrap().allowance.admit().is_ok());
        drop(place);
        assert!(callers.find("one").unwrap().allowance.admit().is_ok());
        callers.replace(&settings(limits, &["two"]));
        assert!(callers.find("one").is_none() && callers.still(&digest("one")).is_none());
        assert!(callers.still(&digest("two")).is_some());
    }
}
