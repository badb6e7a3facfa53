//! What the store holds, and whether it fits the configuration and the models.

use std::time::Duration;

use whyrank_plugin::{CollectionSchema, ExplanationRecord, Scroll, Selection, StoreError, records};

use super::Findings;
use crate::config::Settings;
use crate::storage::{Backend, Storage};

/// Longer than this nobody waits for a store.
const PATIENCE: Duration = Duration::from_secs(60);
/// Explanations whose codes are looked at.
const SAMPLE: usize = 100;

/// Opens the store and looks at its collections. True if a running process holds it.
pub(super) async fn store(
    settings: &Settings,
    encoder: Option<&str>,
    findings: &mut Findings,
) -> bool {
    let embedded = &settings.store.embedded.folder;
    if settings.store.backend == Backend::Embedded && !embedded.exists() {
        let found = format!("{} does not exist yet", embedded.display());
        findings.fault("store", found, "whyrank import, or correct `store.embedded.folder`");
        return false;
    }
    let storage = match tokio::time::timeout(PATIENCE, Storage::open(&settings.store)).await {
        Ok(Ok(storage)) => storage,
        Ok(Err(error)) => {
            if let Some(StoreError::Locked { holder, .. }) = error.downcast_ref() {
                findings.warning(
                    "store",
                    format!(
                        "{} is in use by {holder}, so it was not looked into",
                        embedded.display()
                    ),
                    "ask that server's /readyz, or stop it and run this again",
                );
                return true;
            }
            findings.fault("store", format!("{error:#}"), unreachable(settings));
            return false;
        }
        Err(_) => {
            let found = format!("it did not answer within {} s", PATIENCE.as_secs());
            findings.fault("store", found, unreachable(settings));
            return false;
        }
    };
    let looking = collections(settings, &storage, encoder, findings);
    if tokio::time::timeout(PATIENCE, looking).await.is_err() {
        let found = format!("it did not answer within {} s", PATIENCE.as_secs());
        findings.fault("store", found, unreachable(settings));
    }
    if let Err(error) = storage.store().close().await {
        findings.warning("store", error.to_string(), "look at the disk's health");
    }
    false
}

fn unreachable(settings: &Settings) -> &'static str {
    match settings.store.backend {
        Backend::Embedded => "correct `store.embedded.folder`, or its permissions",
        Backend::Server => {
            "see whether Qdrant runs, and that `store.server.url` and its key are right"
        }
    }
}

async fn collections(
    settings: &Settings,
    storage: &Storage,
    encoder: Option<&str>,
    findings: &mut Findings,
) {
    let names = &settings.store;
    let vector = settings.vectors.factorisation.dimension;
    let code = settings.autoencoder.code;
    let wanted = [
        (&names.items, records::items_schema(vector), Some("whyrank import")),
        (&names.users, records::users_schema(vector), Some("whyrank import")),
        (&names.explanations, records::explanations_schema(code), None),
        (&names.queue, records::queue_schema(), None),
    ];
    for (name, schema, filled_by) in wanted {
        let what = format!("collection {name}");
        let found = match storage.store().schema(name).await {
            Ok(found) => found,
            Err(StoreError::CollectionMissing { .. }) => {
                match filled_by {
                    Some(command) => findings.fault(what, "it does not exist", command),
                    None => findings.ok(what, "it does not exist yet; a server makes it"),
                }
                continue;
            }
            Err(error) => {
                findings.fault("store", error.to_string(), unreachable(settings));
                return;
            }
        };
        if let Some(difference) = difference(&found, &schema) {
            let todo = "take the setting back that was changed (`vectors.factorisation.dimension`, \
                        `autoencoder.code`), or name another collection and index anew";
            findings.fault(what, difference, todo);
            continue;
        }
        match (storage.store().count(name, None).await, filled_by) {
            (Ok(0), Some(command)) => findings.fault(what, "it is empty", command),
            (Ok(count), _) => findings.ok(what, format!("{count} points")),
            (Err(error), _) => findings.fault(what, error.to_string(), unreachable(settings)),
        }
    }
    if let Ok(Some(false)) = storage.items_have_vectors().await {
        let todo = "whyrank index, or whyrank train vectors before it where nothing is trained yet";
        findings.fault(
            "vectors of items",
            "those looked at have none, so that none is found",
            todo,
        );
    }
    if let Some(encoder) = encoder {
        codes(storage, encoder, findings).await;
    }
}

/// The first vector that is other than wanted.
fn difference(found: &CollectionSchema, wanted: &CollectionSchema) -> Option<String> {
    for (name, wanted) in &wanted.vectors {
        match found.vectors.get(name) {
            None => return Some(format!("it has no vector `{name}`")),
            Some(found) if found.dimension != wanted.dimension => {
                return Some(format!(
                    "its vector `{name}` has {} numbers, the configuration says {}",
                    found.dimension, wanted.dimension
                ));
            }
            Some(found) if found.distance != wanted.distance => {
                return Some(format!(
                    "its vector `{name}` is compared by {:?}, not by {:?}",
                    found.distance, wanted.distance
                ));
            }
            Some(_) => {}
        }
    }
    None
}

/// Whether the codes in the store were made by the live encoder.
async fn codes(storage: &Storage, encoder: &str, findings: &mut Findings) {
    let what = "codes of explanations";
    let scroll =
        Scroll { filter: None, from: None, limit: SAMPLE, selection: Selection::payload() };
    let page = match storage.store().scroll(&storage.settings().explanations, scroll).await {
        Ok(page) => page,
        Err(StoreError::CollectionMissing { .. }) => return,
        Err(error) => return findings.warning(what, error.to_string(), "see the lines above"),
    };
    let records: Vec<ExplanationRecord> =
        page.points.into_iter().filter_map(|p| ExplanationRecord::from_point(p).ok()).collect();
    let current = records.iter().filter(|one| one.code_version.as_deref() == Some(encoder)).count();
    if current == records.len() {
        findings.ok(what, format!("all of {current} looked at are of the live encoder"));
    } else {
        let other = records.len() - current;
        let found = format!("{other} of {} are not of the live encoder {encoder}", records.len());
        findings.warning(what, found, "whyrank index");
    }
}
