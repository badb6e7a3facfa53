//! `whyrank insights`.

use anyhow::Result;

use super::output::{plain, print, table};
use super::runtime::Runtime;
use crate::config::Settings;
use crate::insights::{
    Distribution, Effect, Estimate, InsightsRequest, InsightsResponse, Theme, Viewer,
};
use crate::staleness::Freshness;

#[derive(Debug, clap::Args)]
pub(super) struct InsightsArguments {
    /// The item's id as the data gave it.
    item: String,
    /// An item to compare with; those that outrank it most often if absent.
    #[arg(long)]
    competitor: Option<String>,
    /// The most consumers of the sample.
    #[arg(long, conflicts_with = "as_seller")]
    consumers: Option<usize>,
    /// The most themes of each side.
    #[arg(long, conflicts_with = "as_seller")]
    themes: Option<usize>,
    /// Shows what a seller would see: single consumers hidden.
    #[arg(long)]
    as_seller: bool,
}

pub(super) async fn insights(
    settings: Settings,
    arguments: InsightsArguments,
    json: bool,
) -> Result<()> {
    let InsightsArguments { item, competitor, consumers, themes, as_seller } = arguments;
    let request = InsightsRequest { competitor, consumers, themes };
    let viewer = if as_seller { Viewer::Seller } else { Viewer::Operator };
    let runtime = Runtime::open(settings).await?;
    let reranker = runtime.reranker(&runtime.embedder()?, None, Freshness::default()).await?;
    let response = runtime.insights(reranker).insights(&item, &request, viewer).await?;
    runtime.close().await?;
    print(json, &response, || text(&response))
}

fn text(response: &InsightsResponse) -> String {
    let sample = &response.sample;
    let count = |count: Option<usize>| count.map_or("withheld".to_owned(), |n| n.to_string());
    let mut parts = vec![format!(
        "{} ({}): a candidate for {} of the {} consumers looked at; {} written explanations",
        plain(&response.title),
        plain(&response.item),
        count(sample.consumers),
        count(sample.drawn),
        count(sample.explanations)
    )];
    if let Some(anonymity) = &response.anonymity {
        parts.push(anonymity.note.clone());
    }
    parts.push(format!("rank of {}: {}", sample.candidates, distribution(&response.rank, 1)));
    parts.push(format!("score: {}", distribution(&response.score, 3)));
    let influence = &response.influence;
    parts.push(format!(
        "the reasons for: {}; against: {}; both: {}",
        effect(influence.positive),
        effect(influence.negative),
        effect(influence.both)
    ));
    for (title, themes) in
        [("speaks for it", &response.themes_for), ("speaks against it", &response.themes_against)]
    {
        parts.push(rows(title, themes).to_string());
    }
    let rivals = response.competitors.iter().map(|competitor| plain(&competitor.summary));
    parts.push(rivals.collect::<Vec<_>>().join("\n"));
    let stages = response
        .stages
        .iter()
        .map(|stage| format!("{} {:.0} ms ({})", stage.stage, stage.milliseconds, stage.detail));
    parts.push(stages.collect::<Vec<_>>().join(" · "));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn rows(title: &str, themes: &[Theme]) -> comfy_table::Table {
    let header = [title, "consumers", "written", "effect", "trend", "sentence", "if answered"];
    let mut rows = table(header);
    for theme in themes {
        rows.add_row([
            plain(&theme.name),
            format!("{} ({:.0} %)", theme.consumers, 100.0 * theme.share),
            theme.written.map_or("-".to_owned(), |written| written.to_string()),
            theme.effect.map_or("-".to_owned(), |effect| format!("{effect:+.3}")),
            theme.direction.clone().unwrap_or_else(|| "-".to_owned()),
            theme.representative.as_deref().map_or("-".to_owned(), plain),
            theme
                .if_answered
                .as_ref()
                .map_or("-".to_owned(), |change| format!("{} places", estimate(change.places))),
        ]);
    }
    rows
}

fn distribution(of: &Distribution, digits: usize) -> String {
    let number = |value: f64| format!("{value:.digits$}");
    let mean = of.mean.map_or("mean withheld".to_owned(), |mean| format!("mean {}", number(mean)));
    let quartiles =
        of.quartiles.map(|quartiles| format!(", quartiles {}", quartiles.map(number).join(" / ")));
    let buckets = of.buckets.iter().filter(|bucket| bucket.consumers > 0).map(|bucket| {
        format!("{}-{}: {}", number(bucket.from), number(bucket.to), bucket.consumers)
    });
    format!("{mean}{} | {}", quartiles.unwrap_or_default(), buckets.collect::<Vec<_>>().join(", "))
}

fn effect(effect: Effect) -> String {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{value:+.digits$}"))
    };
    format!("score {}, places {}", number(effect.score, 3), number(effect.places, 1))
}

fn estimate(estimate: Estimate) -> String {
    format!("{:+.1} ({:+.1} to {:+.1})", estimate.mean, estimate.low, estimate.high)
}
