//! Everything of Whyrank that runs.
//!
//! Bird's-eye view, in the order in which data flows:
//! - [`config`] reads the settings; [`import`] reads the data and [`ingest`] stores it in the three
//!   collections behind [`storage`];
//! - [`training`] learns vectors, codes and the ranker ([`artifacts`] knows their files, [`versions`]
//!   keeps and switches them) and brings the store up to date; [`features`] is what training and serving compute alike;
//! - [`evidence`] finds what an explanation stands on, [`generator`] writes it, [`writing`] puts it into
//!   the store; [`generate`] does so for many pairs, [`queue`] for those that requests ask for;
//! - [`interactions`] takes in what consumers do from day to day, [`staleness`] knows which explanations
//!   that leaves behind;
//! - [`rerank`] answers requests in six stages, [`cold_start`] makes vectors for unknown consumers;
//! - [`compare`] says why one item stands above another for a consumer;
//! - [`access`] knows the API keys and what their roles reach;
//! - [`audience`] asks the same ranker the other way round: which consumers an item or a campaign reaches;
//! - [`insights`] tells a seller why an item ranks where it ranks, and what would change;
//! - `console` makes pages for people of the same answers;
//! - `reload` brings keys and certificates that have changed into force;
//! - [`http`] and [`cli`] are the surfaces, [`metrics`], [`telemetry`] and [`progress`] tell
//!   what is going on.
//!
//! Invariants: no request waits for the LLM unless it asked to; the generator never sees the label of
//! the pair it explains; an answer is a permutation of what was retrieved, cut at the limit; what is
//! acknowledged is durable. The plugin and the models do not know each other; only this crate knows both.

pub mod access;
pub mod archive;
pub mod artifacts;
pub mod audience;
pub mod cli;
pub mod cold_start;
pub mod compare;
mod computation;
pub mod config;
mod console;
pub mod evaluation;
pub mod evidence;
pub mod features;
pub mod generate;
pub mod generator;
mod grouping;
mod hangups;
pub mod http;
pub mod import;
pub mod inference;
pub mod ingest;
pub mod insights;
pub mod interactions;
pub mod metrics;
pub mod progress;
pub mod quality;
pub mod queue;
mod reload;
pub mod rerank;
mod spans;
pub mod split;
pub mod staleness;
pub mod storage;
pub mod telemetry;
pub mod training;
pub mod versions;
pub mod writing;
