//! What one caller may ask for, of the API and of the gateway, and what happens to work that nobody waits
//! for any longer.

use anyhow::{Context, Result, ensure};
use qdrant_client::{Qdrant, QdrantError};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use whyrank_tests::soak::{Behaviour, StandIn};
use whyrank_tests::{Installation, Server, until};

/// Makes a key with these limits of its own, configured.
fn key(installation: &Installation, name: &str, limits: &str) -> Result<String> {
    let made = installation.json(&["key", "--name", name, "--role", "search"])?;
    let digest = made["entry"]["sha256"].as_str().context("a digest")?;
    installation.configure(&format!(
        "[[server.keys]]\nname = \"{name}\"\nrole = \"search\"\nsha256 = \"{digest}\"\n{limits}"
    ))?;
    Ok(made["key"].as_str().context("a key")?.to_owned())
}

fn post(server: &Server, path: &str, key: &str, body: &Value) -> RequestBuilder {
    let request = Client::new().post(format!("{}{path}", server.url)).header("api-key", key);
    request.json(body)
}

/// What a request gets that a key needs a place for, and that asks nothing of the model.
async fn free(server: &Server, key: &str) -> Result<StatusCode> {
    let request = Client::new().get(format!("{}/openapi.json", server.url)).header("api-key", key);
    Ok(request.send().await?.status())
}

async fn metric(server: &Server, line: &str) -> Result<bool> {
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await?.text().await?;
    Ok(metrics.lines().any(|told| told == line))
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() -> Result<()> {
    let installation = Installation::new()?;
    let eager = key(&installation, "eager", "limits = { requests_per_second = 1, burst = 2 }\n")?;
    let other = key(&installation, "other", "")?;
    let server = installation.serve(&["--role", "api"])?;
    let body = json!({ "user": "1" });
    let mut statuses = Vec::new();
    let asked = (0..8).map(|_| post(&server, "/v1/recommend", &eager, &body).send());
    for answer in futures::future::join_all(asked).await {
        let answer = answer?;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let again: u64 = answer.headers()["retry-after"].to_str()?.parse()?;
            ensure!((1..=2).contains(&again), "{again}");
            let told: Value = answer.json().await?;
            ensure!(told["error_type"] == "full" && told["error"].to_string().contains("eager"));
            statuses.push(429);
        } else {
            statuses.push(answer.status().as_u16());
        }
    }
    // Two at once, and perhaps one more for each second that all of this took.
    let refused = statuses.iter().filter(|status| **status == 429).count();
    ensure!((1..=6).contains(&refused), "{statuses:?}");
    let answer = post(&server, "/v1/recommend", &other, &body).send().await?;
    ensure!(answer.status() != StatusCode::TOO_MANY_REQUESTS, "another key is bounded too");

    // The console asks with the same allowance, and what is refused is told in the audit log everywhere.
    let console = format!("{}/console", server.url);
    let visit = || async { Client::new().get(&console).header("api-key", &eager).send().await };
    let answers = futures::future::join_all((0..8).map(|_| visit())).await;
    let mut visits = 0;
    for answer in answers {
        visits += usize::from(answer?.status() == StatusCode::TOO_MANY_REQUESTS);
    }
    ensure!((1..=8).contains(&visits), "{visits}");
    let told = |path: &str| {
        let named = |line: &String| line.contains(path) && line.contains("eager");
        let of_audit = server.log().into_iter().filter(|line| line.contains("whyrank::audit"));
        of_audit.filter(named).filter(|line| line.contains("outcome=\"full\"")).count()
    };
    until("what was refused is in the audit log", async || {
        Ok(told("path=\"/v1/recommend\"") == refused && told("path=\"/console\"") == visits)
    })
    .await
}

/// Regression: bodies that never came held the places of the whole API, and needed no key for it.
#[tokio::test]
async fn who_sends_slowly_holds_no_place() -> Result<()> {
    let installation = Installation::new()?;
    installation.replace("[server]", "[server]\nmaximum_requests = 1\nbody_seconds = 2")?;
    let server = installation.serve(&["--role", "api"])?;
    let host = server.url.strip_prefix("http://").context("an address")?;
    let mut slow = Vec::new();
    for path in ["/console/login", "/v1/recommend", "/console/login", "/v1/recommend"] {
        let mut stream = TcpStream::connect(host).await?;
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 500\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await?;
        slow.push(stream);
    }
    let answer = post(&server, "/v1/recommend", "", &json!({ "user": "1" })).send().await?;
    ensure!(answer.status() != StatusCode::TOO_MANY_REQUESTS, "{}", answer.text().await?);
    for mut stream in slow {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let closes = answer.contains("connection: close");
        ensure!(answer.starts_with("HTTP/1.1 408") && closes, "{answer}");
    }
    Ok(())
}

/// A gateway on the embedded engine with these keys and limits.
fn gateway(installation: &Installation, keys: &str, limits: &str) -> Result<Server> {
    installation.configure(&format!("[gateway.key_limits]\n{limits}"))?;
    installation.replace("[gateway]", "[gateway]\napi_keys_file = \"keys\"")?;
    installation.replace("[server]", "[server]\nreload_seconds = 1")?;
    std::fs::write(installation.path().join("keys"), keys)?;
    installation.serve(&["--role", "gateway"])
}

/// What a client of the gateway's REST gets.
async fn collections(server: &Server, key: &str) -> Result<reqwest::Response> {
    let rest = &server.gateway.as_ref().context("a gateway")?.rest;
    let request = Client::new().get(format!("{rest}/collections")).header("api-key", key);
    Ok(request.send().await?)
}

async fn refused(server: &Server, protocol: &str, limit: &str) -> Result<f64> {
    let series =
        format!("whyrank_gateway_refused_total{{outcome=\"{limit}\",protocol=\"{protocol}\"}} ");
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await?.text().await?;
    let told = metrics.lines().find_map(|line| line.strip_prefix(&series));
    Ok(told.with_context(|| format!("no series {series}"))?.parse()?)
}

#[tokio::test]
async fn a_key_of_the_gateway_that_asks_too_often_is_told_so_in_qdrants_own_form() -> Result<()> {
    let installation = Installation::new()?;
    let limits = "requests_per_second = 1\nburst = 2\n";
    let server = gateway(&installation, "eager\nother\n", limits)?;
    let answers = futures::future::join_all((0..8).map(|_| collections(&server, "eager"))).await;
    let mut statuses = Vec::new();
    for answer in answers {
        let answer = answer?;
        statuses.push(answer.status().as_u16());
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let again: u64 = answer.headers()["retry-after"].to_str()?.parse()?;
            ensure!((1..=2).contains(&again), "{again}");
            let told: Value = answer.json().await?;
            let error = told["status"]["error"].as_str().context("Qdrant's form of an error")?;
            ensure!(error.contains("requests_per_second"), "{told}");
        }
    }
    // Two at once, and perhaps one more for each second that all of this took.
    let told = statuses.iter().filter(|status| **status == 429).count();
    ensure!((1..=6).contains(&told), "{statuses:?}");
    ensure!(statuses.contains(&200), "{statuses:?}");
    ensure!(refused(&server, "rest", "requests_per_second").await? == told as f64, "{told}");

    // The key's allowance is one for both protocols.
    let grpc = &server.gateway.as_ref().context("a gateway")?.grpc;
    let client = |key: &str| Qdrant::from_url(grpc).api_key(key).skip_compatibility_check().build();
    let eager = client("eager")?;
    let answers = futures::future::join_all((0..8).map(|_| eager.list_collections())).await;
    let told = answers.into_iter().filter_map(Result::err);
    let told: Vec<QdrantError> = told.collect();
    ensure!(!told.is_empty(), "eight at once were let in");
    for error in &told {
        let QdrantError::ResourceExhaustedError { status, retry_after_seconds } = error else {
            anyhow::bail!("{error:?}");
        };
        ensure!(status.message().contains("requests_per_second"), "{status:?}");
        ensure!((1..=2).contains(retry_after_seconds), "{retry_after_seconds}");
    }
    let counted = refused(&server, "grpc", "requests_per_second").await?;
    ensure!(counted == told.len() as f64, "{counted} of {}", told.len());

    ensure!(collections(&server, "other").await?.status() == StatusCode::OK, "another key");
    client("other")?.list_collections().await?;
    ensure!(collections(&server, "unknown").await?.status() == StatusCode::UNAUTHORIZED);
    ensure!(refused(&server, "rest", "unauthorized").await? == 1.0);
    Ok(())
}

#[tokio::test]
async fn a_place_at_the_gateway_is_held_to_the_end_and_over_a_change_of_keys() -> Result<()> {
    let installation = Installation::new()?;
    let server = gateway(&installation, "one\ntwo\n", "concurrent_requests = 1\n")?;
    let at = server.gateway.clone().context("a gateway")?;
    // A request that has begun and does not end.
    let mut slow = TcpStream::connect(at.rest.trim_start_matches("http://")).await?;
    let head = "POST /collections/items/points/query HTTP/1.1\r\nhost: x\r\napi-key: one\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await?;
    let status = async |key: &str| anyhow::Ok(collections(&server, key).await?.status());
    until("the place is taken", async || Ok(status("one").await? == StatusCode::TOO_MANY_REQUESTS))
        .await?;
    ensure!(refused(&server, "rest", "concurrent_requests").await? >= 1.0);
    let client = Qdrant::from_url(&at.grpc).api_key("one").skip_compatibility_check().build()?;
    let error = client.list_collections().await.err().context("a second place")?;
    ensure!(matches!(error, QdrantError::ResourceExhaustedError { .. }), "{error:?}");

    std::fs::write(installation.path().join("keys"), "three\none\n")?;
    until("the new keys are in force", async || Ok(status("three").await? == StatusCode::OK))
        .await?;
    ensure!(status("two").await? == StatusCode::UNAUTHORIZED, "a key that is gone");
    ensure!(status("one").await? == StatusCode::TOO_MANY_REQUESTS, "a key that stayed");
    drop(slow);
    until("the place is free", async || Ok(status("one").await? == StatusCode::OK)).await?;
    Ok(())
}

/// A trained installation whose LLM is this.
async fn with_model(model: &StandIn) -> Result<Installation> {
    let base = model.base_url.clone();
    tokio::task::spawn_blocking(move || {
        let installation = Installation::trained()?;
        installation.configure(&format!(
            "[generator]\nkind = \"openai\"\n\n[generator.openai]\nbase_url = \"{base}\"\n\
             model = \"stand-in\"\nretries = 0\n"
        ))?;
        Ok(installation)
    })
    .await?
}

/// Regression: the stream of a text that took too long went on without an end, and counted as answered when it
/// began.
#[tokio::test]
async fn a_streamed_text_that_takes_too_long_ends_in_an_error() -> Result<()> {
    let model = StandIn::start().await?;
    model.behave(Behaviour::Hangs);
    let installation = with_model(&model).await?;
    installation.replace("[server]", "[server]\nwrite_timeout_seconds = 1")?;
    let server = installation.serve(&["--role", "api", "--role", "worker"])?;
    // The second waits in the queue of the worker while the first has the model.
    let ask = |item: &str| {
        let body = json!({ "user": "1", "item": item, "wait": true, "stream": true });
        let request = post(&server, "/v1/explain", "", &body);
        async { anyhow::Ok(request.send().await?.text().await?) }
    };
    let (first, second) = tokio::try_join!(ask("9"), ask("10"))?;
    for events in [first, second] {
        let told = events.contains("event: error") && events.contains("write_timeout_seconds");
        ensure!(told && !events.contains("event: done"), "{events}");
    }
    until("the model is let go", async || Ok(model.calls() == model.left())).await?;
    let line = "whyrank_requests_total{outcome=\"deadline\",route=\"explain\"} 2";
    ensure!(metric(&server, line).await?, "the faults are counted when they happen");
    let line = "whyrank_requests_total{outcome=\"ok\",route=\"explain\"} 0";
    ensure!(metric(&server, line).await?, "nothing was answered");
    Ok(())
}

#[tokio::test]
async fn a_caller_that_leaves_stops_the_work_and_frees_its_place() -> Result<()> {
    let model = StandIn::start().await?;
    model.behave(Behaviour::Hangs);
    let installation = with_model(&model).await?;
    let key = key(&installation, "one", "limits = { concurrent_requests = 1 }\n")?;
    let server = installation.serve(&["--role", "api", "--role", "worker"])?;
    for (number, stream) in [(1, false), (2, true)] {
        let body = json!({ "user": "1", "item": "9", "wait": true, "stream": stream });
        let waiting = async {
            let answer = post(&server, "/v1/explain", &key, &body).send().await?;
            answer.bytes().await
        };
        let begun = async {
            until("the model is asked", async || Ok(model.calls() == number)).await?;
            // The place is taken as long as the caller waits, of a stream too.
            free(&server, &key).await
        };
        // Whoever is done first drops the other: here the caller leaves.
        let second = tokio::select! {
            answer = waiting => anyhow::bail!("a model that hangs gave {answer:?}"),
            begun = begun => begun?,
        };
        ensure!(second == StatusCode::TOO_MANY_REQUESTS, "stream {stream}: {second}");
        until("the model is let go", async || Ok(model.left() == number)).await?;
        let line = "whyrank_requests_total{outcome=\"cancelled\",route=\"explain\"}";
        until("it is counted", async || metric(&server, &format!("{line} {number}")).await).await?;
        until("the place is free", async || Ok(free(&server, &key).await? == StatusCode::OK))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_callers_own_deadline_ends_the_work() -> Result<()> {
    let model = StandIn::start().await?;
    model.behave(Behaviour::Hangs);
    let installation = with_model(&model).await?;
    let server = installation.serve(&["--role", "api", "--role", "worker"])?;
    let body = json!({ "user": "1", "item": "9", "wait": true });
    let answer = post(&server, "/v1/explain?timeout=0.5", "", &body).send().await?;
    ensure!(answer.status() == StatusCode::GATEWAY_TIMEOUT, "{answer:?}");
    until("the model is let go", async || Ok(model.calls() == model.left())).await?;
    let faulty = post(&server, "/v1/recommend?timeout=soon", "", &json!({ "user": "1" }));
    let faulty = faulty.send().await?.status();
    ensure!(faulty == StatusCode::UNPROCESSABLE_ENTITY, "{faulty}");
    // Reranking takes half of what is left at most: with next to nothing the answer is the retrieval
    // order, or too late, and never wrong.
    let hasty = post(&server, "/v1/recommend?timeout=0.000001", "", &json!({ "user": "1" }));
    let hasty = hasty.send().await?;
    if hasty.status() != StatusCode::GATEWAY_TIMEOUT {
        let answer: Value = hasty.error_for_status()?.json().await?;
        ensure!(answer["degraded"]["reason"] == "deadline", "{answer}");
    }
    Ok(())
}
