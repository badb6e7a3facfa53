//! A language model that hangs, and one that writes garbage.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::site::{Site, serve};
use super::stand_in::{Behaviour, StandIn};
use super::workload::Workload;
use super::{Findings, Plan};
use crate::RealQdrant;

/// Requests that wait at most so long for a text.
const PATIENT: &str = "[server]\nwrite_timeout_seconds = 2\n";

pub(super) async fn hangs(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let model = StandIn::start().await?;
    model.behave(Behaviour::Hangs);
    let Site { installation, .. } = Site::new(&model.base_url, qdrant).await?;
    installation.replace("[server]\n", PATIENT)?;
    let workload = Workload::new(plan.seed)?;
    let server = serve(&installation, &[]).await?;
    let pairs: Vec<_> =
        (1..=20).map(|item| json!({ "user": "1", "item": item.to_string() })).collect();
    let (status, offered) = workload
        .post(&server.url, "/v1/queue", &json!({ "pairs": pairs }))
        .await
        .unwrap_or_default();
    found.require(offered["queued"] == 20, || format!("{status}: {offered}"));
    // Whoever waits is told in time, and nobody else notices.
    let asked = Instant::now();
    let wait = json!({ "user": "2", "item": "1", "wait": true });
    let answer = workload.post(&server.url, "/v1/explain", &wait).await;
    let took = asked.elapsed().as_secs_f64();
    found.require(answer.as_ref().is_some_and(|(status, _)| status.as_u16() == 504), || {
        format!("a text of a model that hangs: {answer:?}")
    });
    found.require(took < 5.0, || format!("the refusal took {took:.1} s, not about 2"));
    let mut slowest: f64 = 0.0;
    for _ in 0..plan.requests / 4 {
        let asked = Instant::now();
        let answer = workload.ranks_of(&server.url, "1").await;
        slowest = slowest.max(asked.elapsed().as_secs_f64());
        found.require(answer == Some(None), || format!("{answer:?}"));
    }
    found.figure("refusal_seconds", took);
    found.figure("recommend_seconds_worst", slowest);
    // The model is back: what waited is written, nothing was given up.
    model.behave(Behaviour::Writes);
    found.figure("drained_after_seconds", workload.drained(&server, 120).await?);
    let status = workload.get(&format!("{}/v1/queue", server.url)).await.unwrap_or_default().1;
    found.require(status["dead"] == 0, || format!("pairs were given up: {status}"));
    for item in 1..=20 {
        let body = json!({ "user": "1", "item": item.to_string() });
        let answer = workload.post(&server.url, "/v1/explain", &body).await;
        found.require(answer.as_ref().is_some_and(|(status, _)| status.is_success()), || {
            format!("pair 1/{item} is not written: {answer:?}")
        });
    }
    found.figure("peak_memory_kilobytes", server.peak_memory()?);
    Ok(())
}

pub(super) async fn garbage(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let model = StandIn::start().await?;
    model.behave(Behaviour::Garbage);
    let Site { installation, .. } = Site::new(&model.base_url, qdrant).await?;
    installation.replace("[server]\n", PATIENT)?;
    let workload = Workload::new(plan.seed)?;
    let server = serve(&installation, &[]).await?;
    let (mut written, mut refused) = (0, 0);
    for number in 0..plan.requests / 10 {
        let (user, item) = ((number % 7 + 1).to_string(), (number + 1).to_string());
        let body = json!({ "user": user, "item": item, "wait": true });
        match workload.post(&server.url, "/v1/explain", &body).await {
            // Refused texts end with the template, marked as one.
            Some((status, answer)) if status.is_success() => {
                written += 1;
                let reasons = &answer["explanation"];
                let text = format!("{} {}", reasons["positive"], reasons["negative"]);
                found.require(reasons["source"] == "template", || format!("accepted: {answer}"));
                let bad = ["cannot help", "buy now", "Ignore", "SYSTEM", "words words"];
                found.require(!bad.iter().any(|bad| text.contains(bad)), || text.clone());
            }
            Some((status, answer)) => {
                refused += 1;
                let named = answer["error_type"].is_string();
                found.require(named, || format!("{status}: {answer}"));
            }
            None => found.require(false, || format!("no answer for {user}/{item}")),
        }
    }
    found.figure("templates", written);
    found.figure("errors", refused);
    found.figure("calls", model.calls());
    // Nothing is left behind: the next text is the model's.
    model.behave(Behaviour::Writes);
    let body = json!({ "user": "30", "item": "150", "wait": true });
    let answer = workload.post(&server.url, "/v1/explain", &body).await;
    let source = answer.as_ref().map(|(_, answer)| answer["explanation"]["source"].clone());
    found.require(source == Some(json!("llm")), || format!("after the garbage: {answer:?}"));
    let memory = server.peak_memory()?;
    found.figure("peak_memory_kilobytes", memory);
    found.require(memory <= plan.memory_kilobytes, || format!("{memory} kB"));
    tokio::time::timeout(Duration::from_secs(60), workload.drained(&server, 60)).await??;
    Ok(())
}
