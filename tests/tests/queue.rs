//! The durable queue, interactions and staleness through the real binary: alone on the embedded store,
//! and with several processes on one engine.

use anyhow::{Context, Result};
use reqwest::StatusCode;
use serde_json::{Value, json};
use whyrank_tests::soak::{Behaviour, StandIn};
use whyrank_tests::{Installation, Server, until};

/// Written at once, by the template: what is tested is who writes, when, and how often.
const TEMPLATE: &str =
    "[generator]\nkind = \"template\"\n\n[queue]\npoll_milliseconds = 20\nlease_seconds = 2\n";

async fn post(server: &Server, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
    let url = format!("{}{path}", server.url);
    let response = reqwest::Client::new().post(url).json(body).send().await?;
    Ok((response.status(), response.json().await?))
}

async fn get(server: &Server, path: &str) -> Result<Value> {
    Ok(reqwest::get(format!("{}{path}", server.url)).await?.json().await?)
}

/// The value of one series, labels and all as they are written.
async fn metric(server: &Server, series: &str) -> Result<f64> {
    let text = reqwest::get(format!("{}/metrics", server.url)).await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no series {series}"))?.parse()?)
}

fn pairs(user: &str, items: std::ops::RangeInclusive<u32>) -> Value {
    let pairs: Vec<Value> =
        items.map(|item| json!({ "user": user, "item": item.to_string() })).collect();
    json!({ "pairs": pairs })
}

#[tokio::test]
async fn what_is_queued_outlives_the_process_and_can_be_steered() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure(TEMPLATE)?;
    // Without a worker nothing is written, but everything is kept.
    let server = installation.serve(&["--role", "api"])?;
    let (status, offered) = post(&server, "/v1/queue", &pairs("1", 1..=5)).await?;
    assert_eq!((status, &offered["queued"]), (StatusCode::ACCEPTED, &json!(5)), "{offered}");
    let (_, again) = post(&server, "/v1/queue", &pairs("1", 4..=6)).await?;
    assert_eq!((&again["queued"], &again["known"]), (&json!(1), &json!(2)));
    post(&server, "/v1/queue/control", &json!({ "action": "drain" })).await?;
    let (_, refused) = post(&server, "/v1/queue", &pairs("1", 7..=7)).await?;
    assert_eq!((&refused["refused"], &refused["reason"]), (&json!(1), &json!("draining")));
    let (status, _) = post(&server, "/v1/queue/control", &json!({ "action": "stop" })).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    // Killed, not stopped.
    drop(server);
    let shown = installation.json(&["queue", "show"])?;
    assert_eq!((&shown["depth"], &shown["draining"]), (&json!(6), &json!(true)), "{shown}");
    assert_eq!(shown["lanes"]["backfill"], 6);
    installation.succeed(&["queue", "resume"])?;
    assert_eq!(installation.json(&["queue", "pause"])?["paused"], true);

    let server = installation.serve(&[])?;
    // Who waits is served while the queue is paused.
    let wait = json!({ "user": "2", "item": "9", "wait": true });
    assert_eq!(post(&server, "/v1/explain", &wait).await?.0, StatusCode::OK);
    assert_eq!(get(&server, "/v1/queue").await?["depth"], 6);
    post(&server, "/v1/queue/control", &json!({ "action": "resume" })).await?;
    until("the queue is empty", async || Ok(get(&server, "/v1/queue").await?["depth"] == 0))
        .await?;
    assert_eq!(metric(&server, "whyrank_queue_jobs_total{outcome=\"written\"}").await?, 6.0);
    let (status, answer) =
        post(&server, "/v1/explain", &json!({ "user": "1", "item": "6" })).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");

    // A pair of somebody who does not exist is given up at once, can be read and tried again.
    post(&server, "/v1/queue", &pairs("nobody", 1..=1)).await?;
    until("it is given up", async || Ok(get(&server, "/v1/queue").await?["dead"] == 1)).await?;
    let letters = get(&server, "/v1/queue/dead").await?;
    assert!(
        letters[0]["error"].as_str().is_some_and(|why| why.contains("no consumer")),
        "{letters}"
    );
    let one = json!({ "pairs": [{ "user": letters[0]["user"], "item": letters[0]["item"] }] });
    assert_eq!(post(&server, "/v1/queue/replay", &one).await?.1["replayed"], 1);
    drop(server);
    until("it is among the dead letters again", async || {
        let server = installation.serve(&[])?;
        until("it is given up", async || Ok(get(&server, "/v1/queue").await?["dead"] == 1)).await?;
        Ok(true)
    })
    .await?;
    let dead = installation.json(&["queue", "dead"])?;
    assert_eq!(dead.as_array().map(Vec::len), Some(1), "{dead}");
    assert_eq!(installation.json(&["queue", "replay"])?["replayed"], 1);
    Ok(())
}

#[tokio::test]
async fn processes_on_one_store_share_the_queue_and_no_pair_is_written_twice() -> Result<()> {
    let installation = Installation::trained()?;
    let engine = installation.serve(&["--role", "gateway"])?;
    let front = Installation::beside(&engine)?;
    front.configure(TEMPLATE)?;
    let api = front.serve(&["--role", "api"])?;
    post(&api, "/v1/queue/control", &json!({ "action": "pause" })).await?;
    let (_, offered) = post(&api, "/v1/queue", &pairs("3", 1..=150)).await?;
    assert_eq!(offered["queued"], 150, "{offered}");
    let workers = [
        front.serve(&["--role", "worker", "--role", "api"])?,
        front.serve(&["--role", "worker", "--role", "api"])?,
    ];
    post(&api, "/v1/queue/control", &json!({ "action": "resume" })).await?;
    // Who waits at a process without a worker goes first in line and gets the text of one.
    let wait = json!({ "user": "4", "item": "20", "wait": true });
    let (status, answer) = post(&api, "/v1/explain", &wait).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(post(&api, "/v1/explain", &json!({ "user": "4", "item": "20" })).await?.1, answer);
    until("the queue is empty", async || Ok(get(&api, "/v1/queue").await?["depth"] == 0)).await?;
    let (mut done, mut busy) = (0.0, 0);
    for worker in &workers {
        // `generate` has written some of them before.
        let written = metric(worker, "whyrank_queue_jobs_total{outcome=\"written\"}").await?;
        let current = metric(worker, "whyrank_queue_jobs_total{outcome=\"current\"}").await?;
        busy += usize::from(written > 0.0);
        done += written + current;
        for outcome in ["retried", "dead", "lost"] {
            let series = format!("whyrank_queue_jobs_total{{outcome=\"{outcome}\"}}");
            assert_eq!(metric(worker, &series).await?, 0.0, "{outcome}");
        }
    }
    // Those that `generate` has written before are found current by nobody: another profile may be.
    assert_eq!((done, busy), (151.0, 2), "each pair once, and both did their part");
    Ok(())
}

#[tokio::test]
async fn an_interaction_counts_once_moves_the_vector_and_leaves_stale_reasons() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure(TEMPLATE)?;
    let server = installation.serve(&[])?;
    let recommend = json!({ "user": "7", "limit": 5, "candidates": 50 });
    let (_, before) = post(&server, "/v1/recommend", &recommend).await?;
    let first = before["results"][0]["item"].as_str().context("an item")?.to_owned();
    let explain = json!({ "user": "7", "item": first, "wait": true });
    let (_, written) = post(&server, "/v1/explain", &explain).await?;
    assert_eq!(written["explanation"]["stale"], Value::Null);
    until("what was shown is written", async || {
        let status = get(&server, "/v1/queue").await?;
        let (_, now) = post(&server, "/v1/recommend", &recommend).await?;
        let results = now["results"].as_array().cloned().unwrap_or_default();
        Ok(status["depth"] == 0 && results.iter().all(|result| result["state"] == "written"))
    })
    .await?;
    post(&server, "/v1/queue/control", &json!({ "action": "pause" })).await?;

    let loved = before["results"][1]["item"].clone();
    let one = json!({ "id": "order-1", "user": "7", "item": loved, "rating": 5 });
    let (status, report) =
        post(&server, "/v1/interactions", &json!({ "interactions": [one, one] })).await?;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert_eq!((&report["accepted"], &report["known"]), (&json!(1), &json!(1)), "{report}");
    assert_eq!(report["vectors"], 1);
    assert!(report["stale"].as_u64().is_some_and(|stale| stale >= 5), "{report}");
    let (_, again) = post(&server, "/v1/interactions", &json!({ "interactions": [one] })).await?;
    assert_eq!((&again["accepted"], &again["known"]), (&json!(0), &json!(1)));

    // It is seen, the scores have moved, and the old reasons say that they are.
    let (_, after) = post(&server, "/v1/recommend", &recommend).await?;
    let results = after["results"].as_array().context("results")?;
    assert!(results.iter().all(|result| result["item"] != loved), "what is rated is not shown");
    assert_ne!(after["results"][0]["retrieval_score"], before["results"][0]["retrieval_score"]);
    let read = json!({ "user": "7", "item": first });
    let (_, stale) = post(&server, "/v1/explain", &read).await?;
    assert_eq!(stale["explanation"]["stale"], "profile", "{stale}");
    let states: Vec<&Value> = results.iter().map(|result| &result["state"]).collect();
    assert!(states.contains(&&json!("stale")), "{states:?}");

    // Shown, they are written again; what then stands there is current.
    post(&server, "/v1/queue/control", &json!({ "action": "resume" })).await?;
    until("the shown reasons are current", async || {
        Ok(post(&server, "/v1/explain", &read).await?.1["explanation"]["stale"].is_null())
    })
    .await?;

    // Somebody new has a history and a vector at once.
    let many: Vec<Value> = [(50, 5), (181, 5), (172, 4)]
        .map(|(item, rating)| {
            json!({ "user": "new", "item": item.to_string(), "rating": rating, "time": 893_286_638 })
        })
        .into();
    let (_, report) = post(&server, "/v1/interactions", &json!({ "interactions": many })).await?;
    assert_eq!((&report["new_users"], &report["vectors"]), (&json!(1), &json!(1)), "{report}");
    let (status, answer) = post(&server, "/v1/recommend", &json!({ "user": "new" })).await?;
    assert_eq!((status, &answer["degraded"]), (StatusCode::OK, &Value::Null), "{answer}");

    for (body, expected) in [
        (json!([{ "user": "7", "item": "none", "rating": 3, "time": 1 }]), 404),
        (json!([{ "user": "7", "item": "1", "rating": 9, "time": 1 }]), 422),
        (json!([{ "user": "7", "item": "1", "rating": 3 }]), 422),
        (json!([]), 422),
    ] {
        let body = json!({ "interactions": body });
        let (status, answer) = post(&server, "/v1/interactions", &body).await?;
        assert_eq!(status.as_u16(), expected, "{body}: {answer}");
    }
    drop(server);

    // Another import of the table forgets none of it, and the file form knows it again.
    installation.succeed(&["import"])?;
    let line = format!("{one}\n");
    std::fs::write(installation.path().join("more.jsonl"), line)?;
    let report = installation.json(&["interactions", "more.jsonl"])?;
    assert_eq!((&report["accepted"], &report["known"]), (&json!(0), &json!(1)), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_budget_that_is_spent_refuses_until_the_next_hour() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure(&format!("{TEMPLATE}pairs_per_hour = 1\n"))?;
    let server = installation.serve(&[])?;
    let ask = |item: &str| json!({ "user": "5", "item": item, "wait": true });
    assert_eq!(post(&server, "/v1/explain", &ask("300")).await?.0, StatusCode::OK);
    let (status, answer) = post(&server, "/v1/explain", &ask("301")).await?;
    let said = answer["error"].as_str().unwrap_or_default();
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{answer}");
    assert!(said.contains("queue.pairs_per_hour"), "{said}");
    assert_eq!(metric(&server, "whyrank_queue_refused_total{reason=\"budget\"}").await?, 1.0);
    // What is written already costs nothing, and a restart forgets no cost.
    assert_eq!(post(&server, "/v1/explain", &ask("300")).await?.0, StatusCode::OK);
    drop(server);
    let server = installation.serve(&[])?;
    let (status, _) = post(&server, "/v1/explain", &ask("301")).await?;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    Ok(())
}

#[tokio::test]
async fn who_waits_at_a_process_without_a_worker_is_served_in_a_pause_and_told_of_the_budget()
-> Result<()> {
    let installation = Installation::trained()?;
    let engine = installation.serve(&["--role", "gateway"])?;
    let front = Installation::beside(&engine)?;
    front.configure(&format!("{TEMPLATE}pairs_per_hour = 1\n"))?;
    let api = front.serve(&["--role", "api"])?;
    let _worker = front.serve(&["--role", "worker", "--role", "api"])?;
    post(&api, "/v1/queue/control", &json!({ "action": "pause" })).await?;
    let (_, offered) = post(&api, "/v1/queue", &pairs("6", 1..=1)).await?;
    assert_eq!(offered["queued"], 1, "{offered}");
    let ask = |item: &str| json!({ "user": "5", "item": item, "wait": true });
    let (status, answer) = post(&api, "/v1/explain", &ask("300")).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(get(&api, "/v1/queue").await?["depth"], 1, "the background stays paused");
    let (status, answer) = post(&api, "/v1/explain", &ask("301")).await?;
    let said = answer["error"].as_str().unwrap_or_default();
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{answer}");
    assert!(said.contains("queue.pairs_per_hour"), "{said}");
    // What is written already costs nothing.
    assert_eq!(post(&api, "/v1/explain", &ask("300")).await?.0, StatusCode::OK);
    Ok(())
}

/// How many of four explanations are stale after an interaction, when all have been shown `shown` times and
/// the queue is empty.
async fn stale_after_an_interaction(policy: &str, shown: usize) -> Result<usize> {
    let installation = Installation::trained()?;
    installation.configure(&format!("{TEMPLATE}rewrite_stale = \"{policy}\"\n"))?;
    let server = installation.serve(&[])?;
    post(&server, "/v1/queue", &pairs("8", 1..=4)).await?;
    let empty = async || Ok(get(&server, "/v1/queue").await?["depth"] == 0);
    until("the queue is empty", empty).await?;
    let item = json!({ "id": "new", "user": "8", "item": "300", "rating": 5 });
    let (_, report) = post(&server, "/v1/interactions", &json!({ "interactions": [item] })).await?;
    assert!(report["stale"].as_u64().is_some_and(|stale| stale >= 4), "{report}");
    until("the queue is empty", empty).await?;
    let mut stale = 0;
    for _ in 0..=shown {
        stale = 0;
        for item in 1..=4 {
            let pair = json!({ "user": "8", "item": item.to_string() });
            let (status, read) = post(&server, "/v1/explain", &pair).await?;
            assert_eq!(status, StatusCode::OK, "{read}");
            stale += usize::from(!read["explanation"]["stale"].is_null());
        }
        until("the queue is empty", empty).await?;
    }
    Ok(stale)
}

#[tokio::test]
async fn stale_reasons_are_written_again_by_policy() -> Result<()> {
    let stale = stale_after_an_interaction("never", 2).await?;
    assert_eq!(stale, 4, "they stay, marked as stale, however often they are shown");
    assert_eq!(stale_after_an_interaction("all", 0).await?, 0, "nobody had to look at them");
    Ok(())
}

/// Regression: while the LLM was away, the worker used up the attempts of all pairs that waited, and nothing
/// revived them.
#[tokio::test]
async fn an_llm_that_is_away_costs_no_pair_its_place() -> Result<()> {
    let model = StandIn::start().await?;
    model.behave(Behaviour::Refuses);
    let base = model.base_url.clone();
    let installation = tokio::task::spawn_blocking(move || {
        let installation = Installation::trained()?;
        installation.configure(&format!(
            "[generator]\nkind = \"openai\"\n\n[generator.openai]\nbase_url = \"{base}\"\n\
             model = \"stand-in\"\nretries = 0\n\n[queue]\npoll_milliseconds = 20\nattempts = 2\n\
             retry_initial_seconds = 1\nretry_maximum_seconds = 1\n"
        ))?;
        anyhow::Ok(installation)
    })
    .await??;
    let server = installation.serve(&[])?;
    post(&server, "/v1/queue", &pairs("1", 1..=4)).await?;
    let put_off = "whyrank_queue_jobs_total{outcome=\"put_off\"}";
    until("the worker has seen that the LLM is away", async || {
        Ok(metric(&server, put_off).await? >= 4.0)
    })
    .await?;
    let status = get(&server, "/v1/queue").await?;
    assert_eq!((&status["depth"], &status["dead"]), (&json!(4), &json!(0)), "{status}");
    model.behave(Behaviour::Writes);
    until("the queue is empty", async || Ok(get(&server, "/v1/queue").await?["depth"] == 0))
        .await?;
    let written = "whyrank_queue_jobs_total{outcome=\"written\"}";
    assert_eq!(metric(&server, written).await?, 4.0);
    assert_eq!(get(&server, "/v1/queue").await?["dead"], 0);
    Ok(())
}

/// Regression: batches whose callers had left were kept without a bound.
#[tokio::test]
async fn batches_of_interactions_in_hand_are_bounded() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure(&format!("{TEMPLATE}\n[interactions]\nmaximum_waiting = 1\n"))?;
    let server = installation.serve(&["--role", "api"])?;
    let batch = |number: u32| {
        let one = |user: u32| json!({ "id": format!("{number}"), "user": format!("new-{number}-{user}"), "item": "50", "rating": 4 });
        json!({ "interactions": (0..200).map(one).collect::<Vec<Value>>() })
    };
    let batches: Vec<Value> = (0..8).map(batch).collect();
    let sent = batches.iter().map(|batch| post(&server, "/v1/interactions", batch));
    let mut taken = 0;
    for answer in futures::future::join_all(sent).await {
        let (status, told) = answer?;
        if status == StatusCode::OK {
            assert_eq!(told["accepted"], 200, "{told}");
            taken += 1;
        } else {
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{told}");
            assert!(told["error"].to_string().contains("interactions.maximum_waiting"), "{told}");
        }
    }
    assert!((1..8).contains(&taken), "{taken} of 8 batches that came at once were taken in");
    // What was refused is taken in when it is sent again.
    for batch in &batches {
        let (status, told) = post(&server, "/v1/interactions", batch).await?;
        assert_eq!(status, StatusCode::OK, "{told}");
    }
    Ok(())
}
