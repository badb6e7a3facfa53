//! `whyrank compare-audiences`.

use anyhow::{Context, Result, bail};

use super::output::{plain, print, table};
use super::runtime::Runtime;
use crate::audience::{
    AudienceComparisonRequest, AudienceComparisonResponse, AudienceRequest, AudienceSummary,
};
use crate::config::Settings;
use crate::staleness::Freshness;

#[derive(Debug, clap::Args)]
pub(super) struct ComparisonArguments {
    /// The items of the first audience, by the ids that the data gave them.
    #[arg(long, num_args = 1.., value_name = "ITEM", conflicts_with = "first_campaign")]
    first: Vec<String>,
    /// A campaign described in words, in place of the first audience's items.
    #[arg(long, value_name = "WORDS")]
    first_campaign: Option<String>,
    /// The items of the second audience.
    #[arg(long, num_args = 1.., value_name = "ITEM", conflicts_with = "second_campaign")]
    second: Vec<String>,
    /// A campaign described in words, in place of the second audience's items.
    #[arg(long, value_name = "WORDS")]
    second_campaign: Option<String>,
    /// How many consumers each audience has.
    #[arg(long)]
    limit: Option<usize>,
    /// How many consumers are retrieved and ranked for each.
    #[arg(long)]
    candidates: Option<usize>,
    /// A filter on the consumers of both, in Qdrant's JSON.
    #[arg(long)]
    filter: Option<String>,
    /// Also those who have interacted with an item.
    #[arg(long)]
    include_seen: bool,
    /// The probability from which on a consumer counts to the expected size.
    #[arg(long)]
    threshold: Option<f32>,
    /// How many groups the consumers of both are divided into; 0 for none.
    #[arg(long)]
    segments: Option<usize>,
}

pub(super) async fn compare(
    settings: Settings,
    arguments: ComparisonArguments,
    json: bool,
) -> Result<()> {
    let filter = arguments.filter.as_deref().map(serde_json::from_str).transpose();
    let filter = filter.context("--filter is not JSON")?;
    let one = |name: &str, items: &[String], campaign: &Option<String>| {
        if items.is_empty() && campaign.is_none() {
            bail!("give --{name} ITEM... or --{name}-campaign WORDS");
        }
        Ok(AudienceRequest {
            items: campaign.is_none().then(|| items.to_vec()),
            campaign: campaign.clone(),
            limit: arguments.limit,
            candidates: arguments.candidates,
            filter: filter.clone(),
            exclude_seen: arguments.include_seen.then_some(false),
            threshold: arguments.threshold,
            segments: None,
        })
    };
    let request = AudienceComparisonRequest {
        first: one("first", &arguments.first, &arguments.first_campaign)?,
        second: one("second", &arguments.second, &arguments.second_campaign)?,
        segments: arguments.segments,
    };
    let runtime = Runtime::open(settings).await?;
    let embedder = runtime.embedder()?;
    let reranker = runtime.reranker(&embedder, None, Freshness::default()).await?;
    let response = runtime.audiences(reranker, &embedder)?.compare(&request).await?;
    runtime.close().await?;
    print(json, &response, || text(&response))
}

fn text(response: &AudienceComparisonResponse) -> String {
    let mut sides = table(["audience", "of", "consumers", "probability", "expected to respond"]);
    for (name, side) in [("first", &response.first), ("second", &response.second)] {
        let AudienceSummary { consumers, candidates, mean_probability, expected, .. } = side;
        let items: Vec<String> = side.items.iter().map(|item| plain(&item.title)).collect();
        sides.add_row([
            name.to_owned(),
            side.campaign.as_deref().map_or_else(|| items.join(", "), plain),
            format!("{consumers} of {candidates}"),
            mean_probability.map_or("-".to_owned(), |mean| format!("{mean:.3}")),
            format!(
                "{:.1} of the {} from {} on",
                expected.responses, expected.consumers, expected.threshold
            ),
        ]);
    }
    let mut segments =
        table(["segment", "first", "second", "share", "typical reason", "objection"]);
    for segment in &response.segments {
        let text = |text: Option<&crate::audience::SegmentText>| {
            text.map_or_else(|| "-".to_owned(), |text| plain(&text.text))
        };
        segments.add_row([
            plain(&segment.name),
            segment.first.to_string(),
            segment.second.to_string(),
            format!("{:+.1} %", 100.0 * segment.share_difference),
            text(segment.typical.as_ref()),
            text(segment.objection.as_ref()),
        ]);
    }
    let groups: Vec<String> = response
        .differences
        .iter()
        .map(|difference| format!("{} {:+.3}", difference.group, difference.value))
        .collect();
    let stages: Vec<String> = response
        .stages
        .iter()
        .map(|stage| format!("{} {:.0} ms ({})", stage.stage, stage.milliseconds, stage.detail))
        .collect();
    format!(
        "{sides}\n{segments}\n{}\nscores, first less second: {}\n{}",
        plain(&response.summary),
        groups.join(" · "),
        stages.join(" · ")
    )
}
