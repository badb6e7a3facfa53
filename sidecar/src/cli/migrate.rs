//! `whyrank migrate`: the collections from the embedded engine to a server, or back.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use whyrank_models::progress::Progress;
use whyrank_plugin::migrate::{Migrated, migrate};

use super::output::print;
use super::train::interruptible;
use crate::config::Settings;
use crate::storage::{Backend, Storage, StoreSettings};

/// Which way, and what the copies are called.
#[derive(Debug, clap::Args)]
pub(super) struct MigrateArguments {
    /// The store that is read.
    #[arg(long, value_enum)]
    from: Backend,
    /// The store that is written.
    #[arg(long, value_enum)]
    to: Backend,
    /// Begins the names of the collections in the store that is written.
    #[arg(long, default_value = "")]
    prefix: String,
}

pub(super) async fn run(settings: Settings, arguments: MigrateArguments, json: bool) -> Result<()> {
    let MigrateArguments { from, to, prefix } = arguments;
    ensure!(from != to, "`--from` and `--to` name the same store");
    let open = async |backend: Backend| {
        Storage::open(&StoreSettings { backend, ..settings.store.clone() }).await
    };
    let (source, target) = (open(from).await?, open(to).await?);
    let (progress, _) = interruptible();
    let StoreSettings { items, users, explanations, queue, existing_items, .. } = source.settings();
    // A search team's own collection stays where it is; what Whyrank knows of its items goes along.
    let items = existing_items.as_ref().map_or(items, |existing| &existing.statistics_collection);
    let mut report: BTreeMap<String, Migrated> = BTreeMap::new();
    let mut names = vec![items, users, explanations];
    // A store that was made before there was a queue has none.
    names.extend(source.engine().collections().await?.contains(queue).then_some(queue));
    for name in names {
        let copy = format!("{prefix}{name}");
        let total = source.engine().count(name, None).await?;
        progress.begin(&format!("copying {name}"), total);
        let copied =
            migrate(source.engine().as_ref(), name, target.engine().as_ref(), &copy, |done| {
                progress.advance(done)
            });
        let copied = copied.await.with_context(|| format!("copying {name} to {copy}"))?;
        progress.end();
        report.insert(copy, copied);
    }
    source.engine().close().await?;
    target.engine().close().await?;
    print(json, &report, || {
        let lines = report.iter().map(|(name, Migrated { points, written })| {
            format!("{name}: {points} points, {written} written, read back and equal")
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}
