//! `whyrank queue`: the queue of pairs that wait to be explained, on the store itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Subcommand;
use serde_json::json;
use whyrank_models::progress::Progress;

use super::output::{plain, print, table};
use super::runtime::Runtime;
use super::train::{describe, interruptible};
use crate::config::Settings;
use crate::queue::Jobs;

/// What to do with the queue.
#[derive(Debug, Subcommand)]
pub(super) enum QueueAction {
    /// Prints depth, age and dead letters.
    Show,
    /// Lets workers take no further job; requests that wait for their answer are served.
    Pause,
    /// Lets workers take jobs again, and takes new ones in.
    Resume,
    /// Takes nothing new in and waits until the workers have done what there is; can be stopped and run
    /// again. `resume` ends it.
    Drain {
        /// Does not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Prints pairs that were given up, and why.
    Dead {
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Lets dead letters be tried again: all, or one pair by its point ids as `dead` prints them.
    Replay {
        /// The consumer's point id.
        #[arg(long, requires = "item")]
        user: Option<String>,
        /// The item's point id.
        #[arg(long, requires = "user")]
        item: Option<String>,
    },
}

pub(super) async fn queue(settings: Settings, action: QueueAction, json: bool) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let jobs = runtime.jobs();
    match action {
        QueueAction::Show => {}
        QueueAction::Pause => jobs.pause(true).await?,
        QueueAction::Resume => {
            jobs.pause(false).await?;
            jobs.drain(false).await?;
        }
        QueueAction::Drain { no_wait } => {
            jobs.drain(true).await?;
            if !no_wait {
                ensure!(
                    runtime.storage.is_shared(),
                    "nobody else works on an embedded store while this command holds it: use --no-wait"
                );
                wait_until_empty(&jobs).await?;
            }
        }
        QueueAction::Dead { limit } => {
            let letters = jobs.dead_letters(limit).await?;
            runtime.close().await?;
            return print(json, &letters, || {
                let mut rows = table(["user", "item", "attempts", "since", "why"]);
                for letter in &letters {
                    let since = chrono::DateTime::from_timestamp(letter.since, 0);
                    rows.add_row([
                        letter.user.clone(),
                        letter.item.clone(),
                        letter.attempts.to_string(),
                        since.map(|since| since.to_string()).unwrap_or_default(),
                        plain(&letter.error),
                    ]);
                }
                format!("{rows}\n{} dead letters", letters.len())
            });
        }
        QueueAction::Replay { user, item } => {
            let pair = match (user, item) {
                (Some(user), Some(item)) => Some([(user.parse()?, item.parse()?)]),
                _ => None,
            };
            let replayed = jobs.replay(pair.as_ref().map(|pair| pair.as_slice())).await?;
            runtime.close().await?;
            return print(json, &json!({ "replayed": replayed }), || {
                format!("{replayed} dead letters wait again")
            });
        }
    }
    let status = jobs.status().await?;
    runtime.close().await?;
    print(json, &status, || describe(&status))
}

async fn wait_until_empty(jobs: &Jobs) -> Result<()> {
    let (progress, cancel) = interruptible();
    let mut looks = tokio::time::interval(Duration::from_millis(jobs.settings().poll_milliseconds));
    let mut most = 0;
    loop {
        looks.tick().await;
        let left = jobs.status().await?.depth;
        if left > most {
            progress.begin("draining the queue", left);
            most = left;
        }
        progress.advance(most - left);
        if left == 0 || cancel.is_cancelled() {
            progress.end();
            return Ok(());
        }
    }
}
