//! Keys and certificates that change while the server serves: read again when the process is asked to
//! (SIGHUP) or when one of their files has changed. All of it counts or nothing does: a file at fault
//! leaves everything as it was, is told in the log, and shows in the metrics until it is mended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use whyrank_plugin::gateway::Gateway;
use whyrank_plugin::serving::Tls;

use crate::config::{self, Settings};
use crate::hangups::{Due, Hangups};
use crate::http::Api;
use crate::metrics::Metrics;
use crate::storage::Storage;

/// What is read again, and for whom.
#[derive(Debug)]
pub(crate) struct Reloading {
    /// The settings that the process began with; they name the files.
    pub(crate) settings: Arc<Settings>,
    /// Has keys.
    pub(crate) api: Api,
    /// The API's TLS, if it has any.
    pub(crate) api_tls: Option<Tls>,
    /// The gateway, if there is one, and its TLS.
    pub(crate) gateway: Option<(Gateway, Option<Tls>)>,
    /// Has the key of a server.
    pub(crate) storage: Storage,
    /// Where it is told how it went.
    pub(crate) metrics: Metrics,
    /// What [`seen`] saw before the start, so that what changes during it is found by the first look.
    pub(crate) seen: Option<Fingerprint>,
}

/// What the files hold, in short; the same as long as none has changed.
pub(crate) type Fingerprint = [u8; 32];

/// What the files hold that these settings were read from; none if they hold other settings by now.
pub(crate) fn seen(settings: &Settings) -> Option<Fingerprint> {
    let seen = fingerprint(&watched(settings));
    // What has changed between the reading and this look would otherwise be taken for what was read.
    let same = config::read(settings.source.as_deref()).is_ok_and(|fresh| fresh == *settings);
    same.then_some(seen)
}

impl Reloading {
    /// Reads again whenever that is due, until `shutdown` fires.
    pub(crate) async fn follow(self, mut hangups: Hangups, shutdown: CancellationToken) {
        let this = Arc::new(self);
        let seconds = this.settings.server.reload_seconds;
        let mut seen = this.seen;
        loop {
            let Some(due) = hangups.due(seconds, &shutdown).await else { return };
            // The look comes before the reading: what changes in between is found the next time.
            let now = this.clone().looked().await;
            if due == Due::Asked || now != seen {
                this.clone().attempt().await;
            }
            seen = now;
        }
    }

    async fn attempt(self: Arc<Self>) {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.reload()).await;
        let outcome = match read.context("reading").and_then(std::convert::identity) {
            Ok(()) => {
                tracing::info!("keys and certificates were read again and are in force");
                "ok"
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "keys and certificates could not be read again; the old ones stay in force"
                );
                "failed"
            }
        };
        self.metrics.reloads.with_label_values(&[outcome]).inc();
        self.metrics.reload_faulty.set(i64::from(outcome != "ok"));
    }

    fn reload(&self) -> Result<()> {
        let fresh = config::read(self.settings.source.as_deref())?;
        // No keys would let everybody in. That is for the operator to say by a restart, not for a file
        // that was emptied by mistake.
        if self.api.has_keys() && fresh.server.all_keys().is_empty() {
            bail!(
                "`server.keys` would be empty, which lets everybody in; restart if that is meant"
            );
        }
        if self.api.has_inference_token() && fresh.server.inference_token.is_none() {
            bail!(
                "`server.inference_token` would be gone, which lets everybody ask for vectors; restart if that is meant"
            );
        }
        let new = fresh.gateway.keys();
        let asks = self.gateway.as_ref().is_some_and(|(gateway, _)| gateway.has_keys());
        if asks && new.clients.is_empty() {
            bail!(
                "`gateway.api_keys` would be empty, which lets everybody in; restart if that is meant"
            );
        }
        // A listener keeps to TLS, or to doing without, as it began.
        let read =
            |tls: Option<&Tls>, files: Option<whyrank_plugin::serving::TlsFiles>, name| match (
                tls, files,
            ) {
                (Some(tls), Some(files)) => Ok(Some((tls.clone(), files.read()?))),
                (None, None) => Ok(None),
                _ => bail!("`{name}` begins or ends TLS, which needs a restart"),
            };
        // Nor does it begin or end to ask its clients for certificates: a line that went missing must not
        // open the door.
        for (name, before, now) in [
            ("server", self.settings.server.tls_files(), fresh.server.tls_files()),
            ("gateway", self.settings.gateway.tls_files(), fresh.gateway.tls_files()),
        ] {
            let asks = |files: Option<whyrank_plugin::serving::TlsFiles>| {
                files.is_some_and(|files| files.client_authority.is_some())
            };
            if asks(before) != asks(now) {
                bail!("`{name}.client_certificate_authority` came or went, which needs a restart");
            }
        }
        let api = read(self.api_tls.as_ref(), fresh.server.tls_files(), "server.certificate")?;
        let gateway = match &self.gateway {
            Some((_, tls)) => read(tls.as_ref(), fresh.gateway.tls_files(), "gateway.certificate")?,
            None => None,
        };
        self.storage.replace_api_key(&fresh.store.server.api_key)?;
        // From here on nothing fails.
        for (tls, config) in api.into_iter().chain(gateway) {
            tls.replace(config);
        }
        self.api.replace_keys(&fresh.server);
        if let Some((gateway, _)) = &self.gateway {
            gateway.replace_keys(new);
        }
        Ok(())
    }

    async fn looked(self: Arc<Self>) -> Option<Fingerprint> {
        tokio::task::spawn_blocking(move || fingerprint(&watched(&self.settings))).await.ok()
    }
}

/// The configuration and the files that it names.
fn watched(settings: &Settings) -> Vec<PathBuf> {
    let (server, gateway) = (&settings.server, &settings.gateway);
    let named = [
        &settings.source,
        &server.keys_file,
        &server.inference_token_file,
        &settings.store.server.api_key_file,
        &gateway.api_keys_file,
        &gateway.upstream_api_key_file,
    ];
    let tls = [server.tls_files(), gateway.tls_files()];
    let tls = tls.iter().flatten().flat_map(|files| files.paths().map(Path::to_owned));
    named.into_iter().flatten().cloned().chain(tls).collect()
}

/// Contents rather than times: a mounted secret is replaced by turning a link, and a copy may keep its time.
fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    let mut hash = Sha256::new();
    for path in paths {
        let content = std::fs::read(path).ok();
        let length = content.as_ref().map_or(u64::MAX, |content| content.len() as u64);
        hash.update(length.to_le_bytes());
        hash.update(content.unwrap_or_default());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_changes_with_what_files_hold_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("one"), folder.path().join("two")];
        let write = |one: &str, two: &str| {
            std::fs::write(&paths[0], one).unwrap();
            std::fs::write(&paths[1], two).unwrap();
            fingerprint(&paths)
        };
        let first = write("ab", "c");
        assert_eq!(write("ab", "c"), first);
        assert_ne!(write("a", "bc"), first, "what moves from one file to the next");
        std::fs::remove_file(&paths[1]).unwrap();
        let gone = fingerprint(&paths);
        assert_ne!(gone, write("a", ""));
    }

    #[test]
    fn what_changes_after_the_settings_were_read_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, keys) = (folder.path().join("whyrank.toml"), folder.path().join("keys"));
        let named = keys.display().to_string();
        std::fs::write(&path, format!("[gateway]\napi_keys_file = {named:?}\n")).unwrap();
        std::fs::write(&keys, "old\n").unwrap();
        let settings = config::read(Some(&path)).unwrap();
        let begun = seen(&settings);
        assert_eq!(begun, Some(fingerprint(&watched(&settings))));
        std::fs::write(&keys, "new\n").unwrap();
        // During the start, and between the reading of the settings and the look before it.
        assert_ne!(begun, Some(fingerprint(&watched(&settings))));
        assert_eq!(seen(&settings), None);
    }
}
