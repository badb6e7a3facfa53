//! `whyrank key`: makes an API key.

use anyhow::{Context, Result, bail};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use serde_json::Value;

use super::output::print;
use crate::access::{AccessKey, KeyRole, digest};

/// Random bytes of a key.
const BYTES: usize = 32;

/// A key that was just made.
#[derive(Debug, Serialize)]
struct MadeKey {
    /// The key itself; nothing keeps it.
    key: String,
    /// What the configuration keeps.
    entry: AccessKey,
}

pub(super) fn make(name: String, role: KeyRole, items: Option<String>, json: bool) -> Result<()> {
    let items: Option<Value> =
        items.as_deref().map(serde_json::from_str).transpose().context("--items is not JSON")?;
    let mut bytes = [0_u8; BYTES];
    OsRng.try_fill_bytes(&mut bytes).context("reading random bytes from the system")?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let made =
        MadeKey { entry: AccessKey { name, role, sha256: digest(&key), items, limits: None }, key };
    if let Some(fault) = made.entry.fault() {
        bail!("{fault}; give the filter as JSON with --items");
    }
    let entry = toml_edit::ser::to_string(&made.entry)?;
    print(json, &made, || {
        format!(
            "The key, which is shown this once:\n\n{}\n\nWhat the configuration needs:\n\n\
             [[server.keys]]\n{entry}",
            made.key
        )
    })
}
