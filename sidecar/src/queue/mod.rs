//! The generation queue: pairs that wait for the LLM, kept in the store so that they outlive the
//! process and are shared by all that work on it.
//!
//! # The choice: leases in Qdrant by conditional updates
//! A job is a point whose id is that of the explanation, so a pair waits once. A worker takes a job by
//! a payload change that Qdrant applies only where a filter still holds (the job is due, and its number
//! of attempts is the one that was read), writes its own token, and reads back whose token stands there.
//! While it works it moves the time at which the job is due; a job whose worker died is due again after
//! `queue.lease_seconds`. The other choice was to give each worker the pairs whose hash falls to it. That
//! needs a list of the workers that are alive, which is the same lease in another place, and leaves the
//! pairs of a dead worker waiting until the list is right. Both backends have the conditional update; the
//! embedded store, which one process holds, runs the same code.
//!
//! # What is promised
//! At least once: a job leaves the queue only after its explanation is durable. Writing is idempotent,
//! because the explanation's id is that of the pair and what is current is not written again. Before a
//! text is stored the worker looks again whether it still has the lease and whether another text has
//! come meanwhile; then its own is dropped.
//!
//! # Failure cases
//! - **A worker dies**: its job is due when the lease ends, and the attempt counts, so that a pair that
//!   kills its workers ends among the dead letters.
//! - **A worker hangs longer than its lease** (a stopped machine): another takes the job; the first finds
//!   its token gone and drops its text.
//! - **Clocks differ or jump**: a lease may end early (as above) or late (the pair waits longer). Clocks
//!   must agree to within `queue.lease_seconds` for leases to mean what they say; no order and no
//!   durability depends on them.
//! - **Two processes queue the same pair at the same instant**: the second writes the same point. If a
//!   worker took the job in between, its lease is gone and it drops its text: one wasted generation.
//! - **Two requests wait for one pair at two replicas**: a request that waits does not take a lease, so
//!   both may generate; the later finds the text of the earlier and returns that.
//! - **A pair is asked for again while it is written**, because the profile changed: the job carries when
//!   it was asked for, and is not removed if that has changed.
//! - **The store is away**: nothing is taken, nothing counts as an attempt, offers of pairs that requests
//!   found missing are dropped and counted (`queue_refused_total{reason="store"}`); they come back when
//!   the pair is shown again. A request to queue pairs fails, and is not acknowledged.
//! - **A replica of Qdrant is behind**: conditional updates go through the leader of the shard.
//!
//! # Requests that wait
//! They stand in a lane of their own in memory, before all jobs, and touch no job: nobody waits for
//! them after their process is gone. A process without the LLM queues them in the store, first in
//! line, and watches for the explanation.

mod budget;
mod desk;
mod jobs;
mod outage;
mod overview;
mod worker;

use serde::{Deserialize, Serialize};

pub use budget::{Budget, Spent};
pub use desk::{ElsewhereDesk, MissingPairs, WritingDesk};
pub use jobs::{Claim, Failure, Jobs, Offered, Wanted};
pub use overview::{DeadLetter, QueueStatus};
pub use worker::{Started, measure, start, start_offering};

use whyrank_plugin::{ItemId, UserRecord};

/// How much work may wait for the LLM, how it is tried again, and what it may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// Requests that may wait for an explanation to be written.
    pub live: usize,
    /// Pairs that may wait to be written in the background, over all processes that share the store.
    pub capacity: usize,
    /// Whether shown pairs that nothing is written for are queued.
    pub write_missing: bool,
    /// Which explanations are written again when what they stand on has changed.
    pub rewrite_stale: RewriteStale,
    /// How often a pair is tried before it goes to the dead letters.
    pub attempts: u32,
    /// Seconds before the second attempt; each further wait is twice as long.
    pub retry_initial_seconds: u64,
    /// The longest wait before an attempt in seconds.
    pub retry_maximum_seconds: u64,
    /// Seconds for which a worker has a pair to itself without saying that it still works on it.
    pub lease_seconds: u64,
    /// Seconds after which the writing of a pair in the background is given up.
    pub job_timeout_seconds: u64,
    /// Milliseconds between looks at a queue that had nothing to do.
    pub poll_milliseconds: u64,
    /// Pairs that the LLM writes about in an hour, over all workers; 0 is no limit.
    pub pairs_per_hour: u64,
    /// Tokens that the LLM reads and writes in an hour, over all workers; 0 is no limit.
    pub tokens_per_hour: u64,
}

/// Which stale explanations are written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RewriteStale {
    /// None; they are shown as stale.
    Never,
    /// Those that a request shows.
    Shown,
    /// All of them, in the background.
    All,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            live: 16,
            capacity: 10_000,
            write_missing: true,
            rewrite_stale: RewriteStale::Shown,
            attempts: 5,
            retry_initial_seconds: 5,
            retry_maximum_seconds: 600,
            lease_seconds: 60,
            job_timeout_seconds: 300,
            poll_milliseconds: 500,
            pairs_per_hour: 0,
            tokens_per_hour: 0,
        }
    }
}

/// Why a job waits; what stands first goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// A request waits for it in another process.
    Live,
    /// A request showed the pair, and nothing was written for it.
    Shown,
    /// Something is written, and what it stands on has changed.
    Stale,
    /// Somebody asked for many pairs.
    Backfill,
}

impl Lane {
    /// All lanes in the order in which they are served.
    pub const ALL: [Self; 4] = [Self::Live, Self::Shown, Self::Stale, Self::Backfill];

    /// Its number in the store.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// The name of the lane with this number in the store; a later version may have more of them.
    pub(crate) fn named(number: i64) -> &'static str {
        Self::ALL.iter().find(|lane| lane.number() == number).map_or("unknown", |lane| lane.name())
    }

    /// Its name in metrics and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Shown => "shown",
            Self::Stale => "stale",
            Self::Backfill => "backfill",
        }
    }
}

/// When the consumer rated the item, if ever: what came then and later must not be told.
pub fn label_time(user: &UserRecord, item: ItemId) -> Option<i64> {
    user.history.iter().find(|entry| entry.item == item).map(|entry| entry.time)
}
