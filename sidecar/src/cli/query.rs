//! `whyrank recommend`, `whyrank explain` and `whyrank compare`.

use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;
use whyrank_plugin::{ItemRecord, UserRecord};

use super::output::{plain, print, recommendations, table};
use super::runtime::Runtime;
use crate::compare::{Mattered, mattered};
use crate::config::Settings;
use crate::http::{ExplainResponse, known_item, known_user};
use crate::queue::label_time;
use crate::rerank::RecommendRequest;
use crate::staleness::Freshness;
use crate::writing::Pair;

/// What `recommend` was asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) user: String,
    pub(super) limit: Option<usize>,
    pub(super) candidates: Option<usize>,
    pub(super) filter: Option<String>,
}

pub(super) async fn recommend(settings: Settings, request: Request, json: bool) -> Result<()> {
    let filter = request.filter.as_deref().map(serde_json::from_str).transpose();
    let filter = filter.context("--filter is not JSON")?;
    let runtime = Runtime::open(settings).await?;
    let reranker = runtime.reranker(&runtime.embedder()?, None, Freshness::default()).await?;
    let request = RecommendRequest {
        user: Some(request.user),
        limit: request.limit,
        candidates: request.candidates,
        filter,
        ..RecommendRequest::default()
    };
    let response = reranker.recommend(&request).await?;
    runtime.close().await?;
    print(json, &response, || recommendations(&response))
}

pub(super) async fn explain(
    settings: Settings,
    user: String,
    item: String,
    stored: bool,
    json: bool,
) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let storage = &runtime.storage;
    let (user_id, item_id) = (storage.user_id(&user)?, storage.item_id(&item)?);
    let user_record = storage.user(user_id).await?;
    let user_record =
        user_record.with_context(|| format!("consumer {user:?} is not in the store"))?;
    let item_record = storage.items(&[item_id]).await?.pop().flatten();
    let item_record = item_record.with_context(|| format!("item {item:?} is not in the store"))?;
    let record = if stored {
        match storage.explanations(&[(user_id, item_id)]).await?.pop().flatten() {
            Some(record) => record,
            None => {
                bail!("nothing is written for this pair; leave out --stored to have it written")
            }
        }
    } else {
        let codes = runtime.codes(&runtime.embedder()?)?;
        let writer = runtime.writer(None, codes).await?;
        let before = label_time(&user_record, item_id);
        let pair = Pair { user: &user_record, item: &item_record, before };
        writer.write(pair, None, CancellationToken::new()).await?.record
    };
    // A text that is there is shown, whatever becomes of its account.
    let mattered = match mattered_now(&runtime, &user_record, item_record.clone()).await {
        Ok(mattered) => mattered,
        Err(error) => {
            eprintln!("what moved the score is not told: {error:#}");
            None
        }
    };
    let response = ExplainResponse::new(record, mattered);
    runtime.close().await?;
    print(json, &response, || {
        let reasons = &response.explanation;
        format!(
            "{} for consumer {}\n  why:     {}\n  why not: {}\n  written by {}{}{}",
            plain(&item_record.title),
            plain(&response.user),
            plain(&reasons.positive),
            plain(&reasons.negative),
            reasons.generator,
            if reasons.source == "template" { " (template)" } else { "" },
            response.mattered.as_ref().map_or_else(String::new, |mattered| format!(
                "\n  like {:.2}, rating {:.1}: {}",
                mattered.like, mattered.rating, mattered.summary
            )),
        )
    })
}

async fn mattered_now(
    runtime: &Runtime,
    user: &UserRecord,
    item: ItemRecord,
) -> Result<Option<Mattered>> {
    let embedder = runtime.embedder()?;
    let reranker = runtime.reranker(&embedder, None, Freshness::default()).await?;
    Ok(mattered(&reranker, user, item).await?)
}

pub(super) async fn compare(
    settings: Settings,
    user: &str,
    items: [&str; 2],
    json: bool,
) -> Result<()> {
    let runtime = Runtime::open(settings).await?;
    let storage = runtime.storage.clone();
    let user = known_user(&storage, user).await?;
    let items = [known_item(&storage, items[0]).await?, known_item(&storage, items[1]).await?];
    let embedder = runtime.embedder()?;
    let reranker = runtime.reranker(&embedder, None, Freshness::default()).await?;
    let response = crate::compare::compare(&reranker, &storage, user, items).await?;
    runtime.close().await?;
    print(json, &response, || {
        let mut rows = table(["", "score", "like", "rating", "why", "why not"]);
        for (place, item) in [("above", &response.above), ("below", &response.below)] {
            let reasons = item.explanation.as_ref();
            let reason = |text: Option<&str>| text.map_or_else(|| "(predicted)".to_owned(), plain);
            rows.add_row([
                format!("{place}: {}", plain(&item.title)),
                format!("{:.3}", item.score),
                format!("{:.2}", item.like),
                format!("{:.2}", item.rating),
                reason(reasons.map(|reasons| reasons.positive.as_str())),
                reason(reasons.map(|reasons| reasons.negative.as_str())),
            ]);
        }
        let groups: Vec<String> = response
            .differences
            .iter()
            .map(|difference| format!("{} {:+.3}", difference.group, difference.value))
            .collect();
        format!("{rows}\n{}\n{}", plain(&response.summary), groups.join(" · "))
    })
}
