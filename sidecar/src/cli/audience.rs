//! `whyrank audience`.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::output::{plain, print, table};
use super::runtime::Runtime;
use crate::audience::export::{Format, write};
use crate::audience::{AudienceRequest, AudienceResponse};
use crate::config::Settings;
use crate::progress::Terminal;
use crate::staleness::Freshness;

/// Consumers that the table for people shows.
const ROWS: usize = 20;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("subject").required(true).args(["items", "campaign"])))]
pub(super) struct AudienceArguments {
    /// The items, by the ids that the data gave them.
    items: Vec<String>,
    /// A campaign described in words, in place of items.
    #[arg(long)]
    campaign: Option<String>,
    /// How many consumers.
    #[arg(long)]
    limit: Option<usize>,
    /// How many consumers are retrieved and ranked.
    #[arg(long)]
    candidates: Option<usize>,
    /// A filter on consumers, in Qdrant's JSON.
    #[arg(long)]
    filter: Option<String>,
    /// Also those who have interacted with an item.
    #[arg(long)]
    include_seen: bool,
    /// The probability from which on a consumer counts to the expected size.
    #[arg(long)]
    threshold: Option<f32>,
    /// How many groups the audience is divided into; 0 for none.
    #[arg(long)]
    segments: Option<usize>,
    /// The form of the exported file.
    #[arg(long, value_enum, requires = "output")]
    format: Option<Format>,
    /// Writes all consumers to this file, as CSV unless `--format` says otherwise.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub(super) async fn audience(
    settings: Settings,
    arguments: AudienceArguments,
    json: bool,
) -> Result<()> {
    let filter = arguments.filter.as_deref().map(serde_json::from_str).transpose();
    let request = AudienceRequest {
        items: arguments.campaign.is_none().then_some(arguments.items),
        campaign: arguments.campaign,
        limit: arguments.limit,
        candidates: arguments.candidates,
        filter: filter.context("--filter is not JSON")?,
        exclude_seen: arguments.include_seen.then_some(false),
        threshold: arguments.threshold,
        segments: arguments.segments,
    };
    let runtime = Runtime::open(settings).await?;
    let embedder = runtime.embedder()?;
    let reranker = runtime.reranker(&embedder, None, Freshness::default()).await?;
    let response = runtime.audiences(reranker, &embedder)?.audience(&request).await?;
    runtime.close().await?;
    if let Some(path) = &arguments.output {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let format = arguments.format.unwrap_or(Format::Csv);
        write(&response, format, BufWriter::new(file), &Terminal::new())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    print(json, &response, || text(&response))
}

fn text(response: &AudienceResponse) -> String {
    let mut consumers = table([
        "rank", "was", "consumer", "takes up", "likes", "item", "segment", "why", "why not",
    ]);
    for member in response.consumers.iter().take(ROWS) {
        let reasons = member.explanation.as_ref();
        let reason = |text: Option<&str>| text.map_or_else(|| "(predicted)".to_owned(), plain);
        consumers.add_row([
            member.rank.to_string(),
            member.retrieval_rank.to_string(),
            plain(&member.user),
            member.take_up.map_or_else(|| "-".to_owned(), |take_up| format!("{take_up:.3}")),
            format!("{:.3}", member.probability),
            plain(member.item.as_deref().unwrap_or("-")),
            member.segment.map_or_else(|| "-".to_owned(), |place| (place + 1).to_string()),
            reason(reasons.map(|reasons| reasons.positive.as_str())),
            reason(reasons.map(|reasons| reasons.negative.as_str())),
        ]);
    }
    let mut segments =
        table(["segment", "name", "size", "probability", "typical reason", "objection to answer"]);
    for (segment, number) in response.segments.iter().zip(1..) {
        let text = |text: Option<&crate::audience::SegmentText>| {
            text.map_or_else(|| "-".to_owned(), |text| plain(&text.text))
        };
        segments.add_row([
            number.to_string(),
            plain(&segment.name),
            segment.size.to_string(),
            format!("{:.3}", segment.mean_probability),
            text(segment.typical.as_ref()),
            text(segment.objection.as_ref()),
        ]);
    }
    let (expected, shown) = (response.expected, response.consumers.len());
    let stages: Vec<String> = response
        .stages
        .iter()
        .map(|stage| format!("{} {:.2} ms ({})", stage.stage, stage.milliseconds, stage.detail))
        .collect();
    format!(
        "{consumers}\n{} of {shown} consumers shown\n{segments}\nof {} candidates {} have a probability \
         of {} or more; {:.1} of them are expected to respond\n{}",
        shown.min(ROWS),
        response.candidates,
        expected.consumers,
        expected.threshold,
        expected.responses,
        stages.join(" · ")
    )
}
