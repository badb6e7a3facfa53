//! Callers that are slow, and four times as many as there is room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::site::{Site, serve};
use super::stand_in::StandIn;
use super::workload::Workload;
use super::{Findings, Plan};
use crate::RealQdrant;

/// Requests that the server answers at the same time in these scenarios.
const PLACES: usize = 8;
/// Connections of slow callers.
const SLOW: usize = 200;

/// Middle and slowest hundredth of some seconds.
fn percentiles(mut seconds: Vec<f64>) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (seconds.len() as f64 * share) as usize;
        seconds.get(place.min(seconds.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    (at(0.5), at(0.99))
}

/// Asks one after the other; seconds of each.
async fn one_by_one(workload: &Workload, url: &str, requests: usize) -> Result<Vec<f64>, String> {
    let mut seconds = Vec::with_capacity(requests);
    for number in 0..requests {
        let asked = Instant::now();
        match workload.ranks_of(url, &(number % 50 + 1).to_string()).await {
            Some(None) => seconds.push(asked.elapsed().as_secs_f64()),
            other => return Err(format!("request {number}: {other:?}")),
        }
    }
    Ok(seconds)
}

/// Connections that send a request byte by byte and never end it, or never read the answer.
pub(super) async fn slow_clients(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let model = StandIn::start().await?;
    let Site { installation, .. } = Site::new(&model.base_url, qdrant).await?;
    let workload = Workload::new(plan.seed)?;
    let server = serve(&installation, &[]).await?;
    workload.ready(&server, Instant::now(), plan.recovery_seconds).await?;
    let requests = plan.requests / 2;
    let alone = one_by_one(&workload, &server.url, requests).await.map_err(anyhow::Error::msg)?;
    let before = server.resident_memory()?;
    let address = server.url.trim_start_matches("http://").to_owned();
    let gateway = server.gateway.as_ref().context("a gateway")?.rest[7..].to_owned();
    let mut slow = Vec::with_capacity(SLOW);
    for number in 0..SLOW {
        let to = if number % 2 == 0 { &address } else { &gateway };
        let mut stream = TcpStream::connect(to).await?;
        let body = json!({ "user": "1", "limit": 30, "candidates": 30 }).to_string();
        let head = format!(
            "POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        slow.push(tokio::spawn(async move {
            if number % 4 == 0 {
                // A whole request whose answer is never read.
                stream.write_all(body.as_bytes()).await?;
                std::future::pending::<()>().await;
            }
            for byte in body.as_bytes() {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await
        }));
    }
    let beside = one_by_one(&workload, &server.url, requests).await;
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    drop(slow);
    let beside = match beside {
        Ok(seconds) => seconds,
        Err(fault) => {
            found.require(false, || format!("beside {SLOW} slow callers: {fault}"));
            return Ok(());
        }
    };
    let (alone, beside) = (percentiles(alone), percentiles(beside));
    let memory = server.resident_memory()?;
    found.figure("slow_callers", SLOW);
    found.figure("recommend_seconds_p50_p99_alone", [alone.0, alone.1]);
    found.figure("recommend_seconds_p50_p99_beside", [beside.0, beside.1]);
    found.figure("memory_kilobytes_before_after", [before, memory]);
    found.require(beside.0 < 10.0 * alone.0 + 0.05, || {
        format!("the middle answer took {} s beside slow callers, {} s alone", beside.0, alone.0)
    });
    found
        .require(memory < before + 200_000, || format!("memory went from {before} to {memory} kB"));
    Ok(())
}

/// Four times as many callers as places, each asking again at once.
pub(super) async fn overload(
    plan: &Plan,
    qdrant: Option<&RealQdrant>,
    found: &mut Findings,
) -> Result<()> {
    let model = StandIn::start().await?;
    let Site { installation, .. } = Site::new(&model.base_url, qdrant).await?;
    let places = format!("[server]\nmaximum_requests = {PLACES}\n");
    installation.replace("[server]\n", &places)?;
    let workload = Workload::new(plan.seed)?;
    let server = serve(&installation, &[]).await?;
    workload.ready(&server, Instant::now(), plan.recovery_seconds).await?;
    let alone =
        one_by_one(&workload, &server.url, plan.requests / 4).await.map_err(anyhow::Error::msg)?;
    let before = server.resident_memory()?;
    let (answered, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let callers = (0..4 * PLACES).map(|caller| {
        let (http, url) = (workload.http.clone(), server.url.clone());
        let (answered, refused) = (answered.clone(), refused.clone());
        let requests = plan.requests / 4;
        async move {
            let mut faults = Vec::new();
            let mut seconds = Vec::with_capacity(requests);
            for _ in 0..requests {
                let user = (caller % 50 + 1).to_string();
                let body = json!({ "user": user, "limit": 30, "candidates": 30 });
                let asked = Instant::now();
                let answer = http.post(format!("{url}/v1/recommend")).json(&body).send().await;
                let Ok(answer) = answer else {
                    faults.push("no answer".to_owned());
                    continue;
                };
                let again = answer.headers().contains_key("retry-after");
                let status = answer.status().as_u16();
                let body: serde_json::Value = answer.json().await.unwrap_or_default();
                match status {
                    200 => {
                        answered.fetch_add(1, Ordering::SeqCst);
                        seconds.push(asked.elapsed().as_secs_f64());
                        let results = body["results"].as_array().cloned().unwrap_or_default();
                        let mut ranks: Vec<u64> = results
                            .iter()
                            .filter_map(|result| result["retrieval_rank"].as_u64())
                            .collect();
                        ranks.sort_unstable();
                        if !ranks.iter().copied().eq(1..=30) {
                            faults.push(format!("no permutation: {ranks:?}"));
                        }
                    }
                    429 if again && body["error_type"] == "full" => {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                    other => faults.push(format!("{other}, retry-after {again}: {body}")),
                }
            }
            (seconds, faults)
        }
    });
    let ended = futures::future::join_all(callers).await;
    let took = started.elapsed().as_secs_f64();
    let mut seconds = Vec::new();
    for (own, faults) in ended {
        seconds.extend(own);
        found.violations.extend(faults.into_iter().take(3));
    }
    let memory = server.peak_memory()?;
    let after =
        one_by_one(&workload, &server.url, plan.requests / 4).await.map_err(anyhow::Error::msg)?;
    let (alone, during, after) = (percentiles(alone), percentiles(seconds), percentiles(after));
    let (answered, refused) = (answered.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    found.figure("callers", 4 * PLACES);
    found.figure("places", PLACES);
    found.figure("answered", answered);
    found.figure("refused", refused);
    found.figure("answered_per_second", answered as f64 / took);
    found.figure("recommend_seconds_p50_p99_alone", [alone.0, alone.1]);
    found.figure("recommend_seconds_p50_p99_overloaded", [during.0, during.1]);
    found.figure("recommend_seconds_p50_p99_after", [after.0, after.1]);
    found.figure("memory_kilobytes_before_peak", [before, memory]);
    found.require(answered > 0 && refused > 0, || {
        format!("{answered} answered, {refused} refused: it was no overload")
    });
    found.require(after.0 < 5.0 * alone.0 + 0.05, || {
        format!("the middle answer takes {} s afterwards, {} s before", after.0, alone.0)
    });
    found.require(memory <= plan.memory_kilobytes, || format!("{memory} kB"));
    Ok(())
}
