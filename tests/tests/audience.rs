//! Audiences through the real binary: by command line and HTTP, over the embedded engine, and over a
//! real Qdrant server where there is one.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use whyrank_tests::{BARE_ITEM, Installation, RealQdrant, Server};

/// "Toy Story", which about half of the consumers have rated.
const KNOWN_ITEM: &str = "1";

async fn post(server: &Server, body: &Value) -> Result<(StatusCode, Value)> {
    let url = format!("{}/v1/audiences", server.url);
    let response = reqwest::Client::new().post(url).json(body).send().await?;
    Ok((response.status(), response.json().await?))
}

fn consumers(answer: &Value) -> Result<&Vec<Value>> {
    answer["consumers"].as_array().context("`consumers` is a list")
}

fn users(answer: &Value) -> Result<HashSet<String>> {
    let ids = consumers(answer)?.iter().map(|c| c["user"].as_str().map(str::to_owned));
    ids.collect::<Option<HashSet<_>>>().context("every consumer has an id")
}

/// Who has rated the item, from the data itself.
fn raters(installation: &Installation, item: &str) -> Result<HashSet<String>> {
    let text = std::fs::read_to_string(installation.path().join("interactions.tsv"))?;
    let rows = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    Ok(rows.filter(|row| row[1] == item).map(|row| row[0].to_owned()).collect())
}

/// What must hold of every audience.
fn sound(answer: &Value) -> Result<()> {
    let shown = consumers(answer)?;
    ensure!(!shown.is_empty(), "an empty audience: {answer}");
    let probability = |consumer: &Value| consumer["probability"].as_f64().unwrap_or(f64::NAN);
    let probabilities: Vec<f64> = shown.iter().map(probability).collect();
    ensure!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{probabilities:?}");
    let likelihood = |consumer: &Value| -> Option<f64> {
        let take_up = consumer["take_up"].as_f64().filter(|take_up| (0.0..=1.0).contains(take_up));
        Some(take_up.unwrap_or(1.0) * consumer["probability"].as_f64()?)
    };
    let likelihoods: Vec<f64> = shown.iter().filter_map(likelihood).collect();
    let known = shown.iter().filter(|consumer| consumer["take_up"].is_number()).count();
    let wanted = if answer["campaign"].is_null() { shown.len() } else { 0 };
    ensure!(known == wanted, "take-up of {known} instead of {wanted}: {answer}");
    let ordered = likelihoods.windows(2).all(|pair| pair[0] >= pair[1] - 1e-6);
    ensure!(ordered, "not by take-up times like: {likelihoods:?}");
    ensure!(users(answer)?.len() == shown.len(), "a consumer appears twice");
    for consumer in shown {
        let account = &consumer["contributions"];
        let parts = ["base", "user_item", "positive", "negative", "history", "context"];
        let sum: f64 = parts.iter().filter_map(|part| account[part].as_f64()).sum();
        let score = consumer["score"].as_f64().unwrap_or(f64::NAN);
        ensure!((sum - score).abs() < 1e-3, "{consumer}");
    }
    let segments = answer["segments"].as_array().context("segments")?;
    for (number, segment) in segments.iter().enumerate() {
        let members: Vec<&Value> =
            shown.iter().filter(|c| c["segment"].as_u64() == Some(number as u64)).collect();
        ensure!(segment["size"].as_u64() == Some(members.len() as u64), "{segment}");
        let mean = members.iter().map(|c| probability(c)).sum::<f64>() / members.len() as f64;
        ensure!((mean - segment["mean_probability"].as_f64().unwrap_or_default()).abs() < 1e-3);
        ensure!(!segment["name"].as_str().unwrap_or_default().is_empty(), "{segment}");
    }
    Ok(())
}

async fn audiences_hold(installation: &Installation) -> Result<()> {
    let known = raters(installation, KNOWN_ITEM)?;
    ensure!(known.len() > 10, "the item is known to few consumers");
    let server = installation.serve(&["--role", "api"])?;

    let (status, fresh) = post(&server, &json!({ "items": [KNOWN_ITEM], "limit": 200 })).await?;
    ensure!(status == StatusCode::OK, "{fresh}");
    sound(&fresh)?;
    ensure!(users(&fresh)?.is_disjoint(&known), "consumers who know the item were to be left out");
    ensure!(fresh["segments"].as_array().is_some_and(|s| s.len() > 1), "{}", fresh["segments"]);

    let everyone = json!({ "items": [KNOWN_ITEM], "limit": 200, "exclude_seen": false });
    let (_, everyone) = post(&server, &everyone).await?;
    sound(&everyone)?;
    ensure!(users(&everyone)?.is_superset(&known), "nobody was to be left out");
    ensure!(everyone["candidates"].as_u64() == Some(120), "{}", everyone["candidates"]);

    // The expected size counts all that were ranked, not only those shown.
    let threshold = 0.3;
    let few = json!({
        "items": [KNOWN_ITEM], "limit": 5, "candidates": 120, "exclude_seen": false,
        "threshold": threshold, "segments": 0,
    });
    let (_, few) = post(&server, &few).await?;
    sound(&few)?;
    ensure!(consumers(&few)?.len() == 5 && few["segments"] == json!([]));
    let above: Vec<f64> = consumers(&everyone)?
        .iter()
        .filter_map(|c| Some((c["probability"].as_f64()?, c["take_up"].as_f64()?)))
        .filter(|(like, _)| *like >= threshold)
        .map(|(like, take_up)| like * take_up)
        .collect();
    let expected = &few["expected"];
    ensure!(expected["consumers"].as_u64() == Some(above.len() as u64), "{expected}");
    let responses = expected["responses"].as_f64().context("responses")?;
    ensure!((responses - above.iter().sum::<f64>()).abs() < 1e-2, "{expected}");

    let filter =
        json!({ "must": [{ "key": "attributes.occupation", "match": { "value": "student" } }] });
    let (status, students) =
        post(&server, &json!({ "items": [KNOWN_ITEM], "filter": filter, "limit": 200 })).await?;
    ensure!(status == StatusCode::OK, "{students}");
    let of_all = users(&everyone)?.len();
    ensure!((1..of_all).contains(&users(&students)?.len()), "the filter chose nobody or everybody");

    let words = json!({ "campaign": "loud space battles for people who hate romance" });
    let (status, campaign) = post(&server, &words).await?;
    ensure!(status == StatusCode::OK, "{campaign}");
    sound(&campaign)?;
    ensure!(consumers(&campaign)?.iter().all(|c| c["item"].is_null()));
    // However few a filter leaves and however far their reasons lie: they are found.
    let reasoned = consumers(&campaign)?.iter().filter(|c| c["reasons_about"].is_string());
    let reasoned: Vec<Value> = reasoned.take(2).map(|c| c["user"].clone()).collect();
    ensure!(reasoned.len() == 2, "nobody has reasons: {campaign}");
    for user in reasoned {
        let one = json!({ "must": [{ "key": "external_id", "match": { "value": user } }] });
        let words =
            json!({ "campaign": words["campaign"], "filter": one, "candidates": 1, "limit": 1 });
        let (status, one) = post(&server, &words).await?;
        ensure!(status == StatusCode::OK, "{one}");
        let found = consumers(&one)?;
        ensure!(found.len() == 1 && found[0]["user"] == user, "{one}");
        ensure!(found[0]["reasons_about"].is_string(), "{one}");
    }

    for (body, expected, named) in [
        (json!({ "items": ["no such item"] }), StatusCode::NOT_FOUND, "no such item"),
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY, "campaign"),
        (json!({ "items": [], }), StatusCode::UNPROCESSABLE_ENTITY, "items"),
        (json!({ "items": ["1"], "campaign": "a" }), StatusCode::UNPROCESSABLE_ENTITY, "campaign"),
        (json!({ "campaign": "" }), StatusCode::UNPROCESSABLE_ENTITY, "campaign"),
        (json!({ "items": ["1"], "limit": 0 }), StatusCode::UNPROCESSABLE_ENTITY, "limit"),
        (
            json!({ "items": ["1"], "threshold": 1.5 }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "threshold",
        ),
        (
            json!({ "items": ["1"], "filter": { "must": 3 } }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "filter",
        ),
        (json!({ "unforeseen": ["1"] }), StatusCode::UNPROCESSABLE_ENTITY, "unforeseen"),
    ] {
        let (status, answer) = post(&server, &body).await?;
        ensure!(status == expected, "{body}: {status} {answer}");
        ensure!(answer.to_string().contains(named), "{body}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn audiences_hold_over_the_embedded_engine() -> Result<()> {
    audiences_hold(&Installation::trained()?).await
}

#[tokio::test]
async fn audiences_hold_over_a_real_server() -> Result<()> {
    let Some(real) = RealQdrant::named() else { return Ok(()) };
    let (installation, _) = Installation::in_server(&real.grpc, &real.rest)?;
    audiences_hold(&installation).await
}

/// The consumers in an exported file, in its order.
fn exported(format: &str, bytes: &[u8]) -> Result<Vec<String>> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    match format {
        "parquet" => {
            let mut file = tempfile::tempfile()?;
            std::io::Write::write_all(&mut file, bytes)?;
            let reader = SerializedFileReader::new(file)?;
            let names = reader.metadata().file_metadata().schema_descr().columns().iter();
            let user = names.map(|column| column.name()).position(|name| name == "user");
            let user = user.context("a column of users")?;
            reader.get_row_iter(None)?.map(|row| Ok(row?.get_string(user)?.clone())).collect()
        }
        "csv" => {
            let lines = std::str::from_utf8(bytes)?.lines().skip(1);
            let second = |line: &str| line.split(',').nth(1).map(str::to_owned);
            lines.map(|line| second(line).context("a second column")).collect()
        }
        _ => {
            let rows = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
            rows.map(|row| Ok(row?["user"].as_str().context("user")?.to_owned())).collect()
        }
    }
}

#[tokio::test]
async fn an_audience_is_exported_whole_in_every_format() -> Result<()> {
    let installation = Installation::trained()?;
    let answer = installation.json(&["audience", KNOWN_ITEM, BARE_ITEM, "--limit", "50"])?;
    sound(&answer)?;
    let shown: Vec<&str> =
        consumers(&answer)?.iter().filter_map(|consumer| consumer["user"].as_str()).collect();
    ensure!(shown.len() == 50, "{answer}");
    for format in ["csv", "jsonl", "parquet"] {
        let file = format!("audience.{format}");
        let export = ["--limit", "50", "--format", format, "--output", &file];
        installation.succeed(&[&["audience", KNOWN_ITEM, BARE_ITEM], &export[..]].concat())?;
        let bytes = std::fs::read(installation.path().join(&file))?;
        ensure!(exported(format, &bytes)? == shown, "{format}: another audience");
    }
    let server = installation.serve(&["--role", "api"])?;
    let url = format!("{}/v1/audiences/export", server.url);
    let body = json!({ "items": [KNOWN_ITEM, BARE_ITEM], "limit": 50 });
    for (query, format, media) in [
        ("", "csv", "text/csv; charset=utf-8"),
        ("?format=jsonl", "jsonl", "application/x-ndjson"),
        ("?format=parquet", "parquet", "application/vnd.apache.parquet"),
    ] {
        let request = reqwest::Client::new().post(format!("{url}{query}")).json(&body);
        let response = request.send().await?.error_for_status()?;
        ensure!(response.headers()["content-type"] == media, "{:?}", response.headers());
        ensure!(exported(format, &response.bytes().await?)? == shown, "{format}: over HTTP");
    }
    let request = reqwest::Client::new().post(format!("{url}?format=exe")).json(&body);
    let refused = request.send().await?;
    ensure!(refused.status() == StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.status());
    ensure!(refused.text().await?.contains("parquet"), "the forms are not named");
    drop(server);
    // Regression: what a full disk did not take of the last rows was not noticed.
    if cfg!(target_os = "linux") {
        for format in ["csv", "jsonl", "parquet"] {
            let export = ["audience", KNOWN_ITEM, "--format", format, "--output", "/dev/full"];
            let refused = installation.fail(&export)?;
            ensure!(refused.contains("writing /dev/full"), "{format}: {refused}");
        }
    }
    let refused = installation.fail(&["audience"])?;
    ensure!(refused.contains("--campaign"), "{refused}");
    Ok(())
}
