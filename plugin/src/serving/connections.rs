//! How long the connections of a listener may keep it waiting.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a connection may keep a listener waiting: the same for all listeners of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionSettings {
    /// Seconds that a client may take to send the head of a request (HTTP/1).
    pub head_seconds: u64,
    /// Silent seconds after which a connection of HTTP/2 is probed.
    pub probe_seconds: u64,
    /// Seconds after which a connection ends whose client takes nothing of an answer: who asks for much and
    /// reads none of it would keep its place for ever. On Linux alone.
    pub untaken_seconds: u64,
    /// Seconds for which a client may send on after it was told that it sends too much, or too slowly.
    pub discard_seconds: u64,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self { head_seconds: 30, probe_seconds: 20, untaken_seconds: 120, discard_seconds: 30 }
    }
}

impl ConnectionSettings {
    pub(super) fn head(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }

    pub(super) fn probe(&self) -> Duration {
        Duration::from_secs(self.probe_seconds)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn untaken(&self) -> Duration {
        Duration::from_secs(self.untaken_seconds)
    }

    pub(super) fn discard(&self) -> Duration {
        Duration::from_secs(self.discard_seconds)
    }
}
