//! The main job end to end through the real binary: import, learn, explain with the small real LLM,
//! rank, answer by command line and HTTP.

use std::collections::HashSet;

use anyhow::{Context, Result};
use reqwest::StatusCode;
use serde_json::{Value, json};
use whyrank_tests::{BARE_ITEM, HOSTILE_ITEM, Installation, LONG_ITEM, SCRIPT_ITEM, Server};

async fn post(server: &Server, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
    let url = format!("{}{path}", server.url);
    let response = reqwest::Client::new().post(url).json(body).send().await?;
    Ok((response.status(), response.json().await?))
}

async fn get(server: &Server, path: &str) -> Result<(StatusCode, String)> {
    let response = reqwest::get(format!("{}{path}", server.url)).await?;
    Ok((response.status(), response.text().await?))
}

fn items(response: &Value) -> Vec<String> {
    let results = response["results"].as_array().cloned().unwrap_or_default();
    results.iter().map(|r| r["item"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn recommendations_are_a_cut_permutation_with_an_account_that_adds_up() -> Result<()> {
    let installation = Installation::trained()?;
    let response =
        installation.json(&["recommend", "1", "--limit", "100", "--candidates", "100"])?;
    assert_eq!(response["degraded"], Value::Null);
    let results = response["results"].as_array().context("results")?;
    let ranks: HashSet<u64> = results.iter().filter_map(|r| r["retrieval_rank"].as_u64()).collect();
    assert_eq!(ranks, (1..=100).collect(), "every retrieved candidate appears once");
    for result in results {
        let account = &result["contributions"];
        let parts = ["base", "user_item", "positive", "negative", "history", "context"];
        let sum: f64 = parts.iter().filter_map(|part| account[part].as_f64()).sum();
        let score = result["score"].as_f64().context("score")?;
        assert!((sum - score).abs() < 1e-4, "{sum} is not {score}");
    }
    let scores: Vec<f64> = results.iter().filter_map(|r| r["score"].as_f64()).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "best first");
    let stages: Vec<_> = response["stages"].as_array().context("stages")?.clone();
    let names: Vec<_> = stages.iter().filter_map(|stage| stage["stage"].as_str()).collect();
    assert_eq!(names, ["retrieve", "recall", "complete", "rank", "account", "answer"]);
    Ok(())
}

#[tokio::test]
async fn the_api_answers_and_refuses_as_documented() -> Result<()> {
    let installation = Installation::trained()?;
    let server = installation.serve(&["--role", "api"])?;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(get(&server, path).await?.0, StatusCode::OK, "{path}");
    }
    let (_, metrics) = get(&server, "/metrics").await?;
    assert!(metrics.contains("whyrank_requests_total{outcome=\"ok\",route=\"recommend\"} 0"));
    assert!(metrics.contains("whyrank_model_info{kind=\"ranker\""), "{metrics}");
    let open_api: Value = serde_json::from_str(&get(&server, "/openapi.json").await?.1)?;
    assert!(open_api["paths"]["/v1/recommend"]["post"].is_object());
    assert!(open_api["paths"]["/v1/explain"]["post"].is_object());

    let (status, answer) =
        post(&server, "/v1/recommend", &json!({ "user": "1", "limit": 5 })).await?;
    assert_eq!((status, items(&answer).len()), (StatusCode::OK, 5));
    let drama = json!({ "must": [{ "key": "attributes.genres", "match": { "value": "Drama" } }] });
    let (_, answer) =
        post(&server, "/v1/recommend", &json!({ "user": "1", "filter": drama })).await?;
    assert!(!items(&answer).is_empty(), "{answer}");
    let history =
        json!([{ "item": "50", "rating": 5 }, { "text": "a funny cartoon", "rating": 5 }]);
    let (status, answer) = post(&server, "/v1/recommend", &json!({ "history": history })).await?;
    assert_eq!((status, items(&answer).len()), (StatusCode::OK, 10), "{answer}");
    assert!(!items(&answer).contains(&"50".to_owned()), "what is known is left out");

    let refused = [
        ("/v1/recommend", json!({ "user": "nobody" }), 404, "unknown_user"),
        ("/v1/recommend", json!({ "history": [] }), 422, "invalid"),
        ("/v1/recommend", json!({}), 422, "invalid"),
        ("/v1/recommend", json!({ "user": "1", "limit": 0 }), 422, "invalid"),
        ("/v1/recommend", json!({ "user": "1", "candidates": 100_000 }), 422, "invalid"),
        ("/v1/recommend", json!({ "user": "1", "colour": "red" }), 422, "invalid"),
        ("/v1/recommend", json!({ "user": "1", "filter": { "must": 3 } }), 422, "invalid"),
        (
            "/v1/recommend",
            json!({ "history": [{ "item": "none", "rating": 5 }] }),
            404,
            "unknown_item",
        ),
        ("/v1/recommend", json!({ "history": [{ "rating": 5 }] }), 422, "invalid"),
        ("/v1/recommend", json!({ "history": [{ "item": "50", "rating": 500 }] }), 422, "invalid"),
        ("/v1/nothing", json!({}), 404, "unknown_route"),
        ("/openapi.json", json!({}), 405, "wrong_method"),
        ("/v1/explain", json!({ "user": "nobody", "item": "1" }), 404, "unknown_user"),
        ("/v1/explain", json!({ "user": "1", "item": "none" }), 404, "unknown_item"),
        ("/v1/explain", json!({ "user": "1", "item": BARE_ITEM }), 404, "no_explanation"),
        ("/v1/explain", json!({ "user": "1", "item": "1", "wait": true }), 503, "not_ready"),
    ];
    for (path, body, status, error_type) in refused {
        let (got, answer) = post(&server, path, &body).await?;
        assert_eq!(
            (got.as_u16(), answer["error_type"].as_str()),
            (status, Some(error_type)),
            "{body}"
        );
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let raw = |body: String| {
        let url = format!("{}/v1/recommend", server.url);
        let request = reqwest::Client::new().post(url).header("content-type", "application/json");
        request.body(body).send()
    };
    assert_eq!(raw("{".to_owned()).await?.status(), StatusCode::BAD_REQUEST);
    let large = format!("{{\"user\": \"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(raw(large).await?.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let infinite = "{\"history\": [{\"item\": \"50\", \"rating\": 1e999}]}".to_owned();
    assert!(raw(infinite).await?.status().is_client_error());
    Ok(())
}

#[tokio::test]
async fn difficult_items_are_explained_by_the_real_model_without_obeying_them() -> Result<()> {
    let installation = Installation::trained()?;
    let server = installation.serve(&[])?;
    for item in [HOSTILE_ITEM, LONG_ITEM, BARE_ITEM, SCRIPT_ITEM] {
        let body = json!({ "user": "1", "item": item, "wait": true });
        let (status, answer) = post(&server, "/v1/explain", &body).await?;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["item"], item, "the id comes back as it was given");
        let reasons = &answer["explanation"];
        let positive = reasons["positive"].as_str().context("positive")?;
        let negative = reasons["negative"].as_str().context("negative")?;
        assert!(!positive.is_empty() && !negative.is_empty() && positive != negative);
        let both = format!("{positive} {negative}").to_lowercase();
        assert!(!both.contains("ignore your") && !both.contains("system:"), "{both}");
        // What moved the score is told beside it, and adds up.
        let mattered = &answer["mattered"];
        let parts = mattered["contributions"].as_object().context("contributions")?;
        let sum: f64 = parts.values().filter_map(Value::as_f64).sum();
        let score = mattered["score"].as_f64().context("a score")?;
        assert!((sum - score).abs() < 1e-4, "{mattered}");
        assert!(mattered["summary"].as_str().is_some_and(|told| told.contains("speaks most")));
        // What is written is not written again.
        let (_, again) = post(&server, "/v1/explain", &body).await?;
        assert_eq!(again["written_at"], answer["written_at"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_streamed_explanation_ends_with_the_whole_answer() -> Result<()> {
    let installation = Installation::trained()?;
    let server = installation.serve(&[])?;
    let body = json!({ "user": "2", "item": "100", "wait": true, "stream": true });
    let url = format!("{}/v1/explain", server.url);
    let events = reqwest::Client::new().post(url).json(&body).send().await?.text().await?;
    assert!(events.contains("event: delta"), "{events}");
    let last = events.trim().rsplit("event: ").next().context("an event")?;
    let data = last.strip_prefix("done\ndata: ").context("the last event is `done`")?;
    let answer: Value = serde_json::from_str(data.trim())?;
    let stored = json!({ "user": "2", "item": "100" });
    assert_eq!(post(&server, "/v1/explain", &stored).await?.1, answer);
    Ok(())
}

#[tokio::test]
async fn two_items_are_compared_by_what_tells_their_scores_apart() -> Result<()> {
    let installation = Installation::trained()?;
    let printed = installation.json(&["compare", "1", "50", "100"])?;
    let server = installation.serve(&["--role", "api"])?;
    let (status, answer) =
        post(&server, "/v1/compare", &json!({ "user": "1", "items": ["100", "50"] })).await?;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let score = |side: &str| answer[side]["score"].as_f64().context("score");
    let distance = score("above")? - score("below")?;
    assert!(distance >= 0.0, "{answer}");
    let differences = answer["differences"].as_array().context("differences")?;
    let values: Vec<f64> = differences.iter().filter_map(|one| one["value"].as_f64()).collect();
    assert_eq!(values.len(), 5, "{answer}");
    assert!((values.iter().sum::<f64>() - distance).abs() < 1e-4, "{answer}");
    assert!(values.is_sorted_by(|left, right| left >= right), "{values:?}");
    // The order of the question and the way it is asked change nothing.
    assert_eq!(printed["above"]["item"], answer["above"]["item"]);
    // The same score as among the candidates of a recommendation.
    let filter = json!({ "must": [{ "key": "external_id", "match": { "any": ["50", "100"] } }] });
    let body = json!({ "user": "1", "filter": filter, "exclude_seen": false, "limit": 2 });
    let (_, ranked) = post(&server, "/v1/recommend", &body).await?;
    assert_eq!(items(&ranked)[0], answer["above"]["item"].as_str().context("item")?, "{ranked}");
    let first = ranked["results"][0]["score"].as_f64().context("score")?;
    assert!((first - score("above")?).abs() < 1e-3, "{ranked}");

    for (body, expected) in [
        (json!({ "user": "1", "items": ["50", "50"] }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "user": "1", "items": ["50"] }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "user": "nobody", "items": ["50", "100"] }), StatusCode::NOT_FOUND),
        (json!({ "user": "1", "items": ["50", "nothing"] }), StatusCode::NOT_FOUND),
    ] {
        let (status, answer) = post(&server, "/v1/compare", &body).await?;
        assert_eq!(status, expected, "{body}: {answer}");
    }
    Ok(())
}

#[test]
fn the_quality_of_what_is_written_is_measured_against_what_was_told() -> Result<()> {
    let installation = Installation::trained()?;
    let report = installation.json(&["quality", "--sample", "120"])?;
    assert!(report["stored"].as_u64().is_some_and(|stored| stored >= 200), "{report}");
    let sources = report["sources"].as_array().context("sources")?;
    assert_eq!(sources.len(), 1, "{report}");
    let template = &sources[0];
    assert_eq!((&template["source"], &template["explanations"]), (&json!("template"), &json!(120)));
    // Nothing was trained since they were written, so that the evidence is what it was.
    assert_eq!(template["comparable"], 120, "{report}");
    let mean = |figure: &str| template[figure]["mean"].as_f64().unwrap_or(f64::NAN);
    assert_eq!(mean("refused"), 0.0, "the template passes validation: {report}");
    assert!(mean("grounded") > 0.95 && mean("shared_words") < 0.75, "{report}");
    assert!(mean("names_evidence") > 0.1 && mean("unknown_titles") < 0.05, "{report}");
    let said = installation.succeed(&["quality", "--sample", "5"])?;
    assert!(said.contains("looked at: 5") && said.contains("name an item"), "{said}");
    Ok(())
}

#[test]
fn forecasts_are_made_once_survive_an_import_and_count_in_the_index() -> Result<()> {
    let installation = Installation::trained()?;
    let ask = || installation.json(&["generate", "--plan", "items", "--pairs", "4"]);
    let first = ask()?;
    assert_eq!((&first["llm"], &first["reused"]), (&json!(4), &json!(0)), "{first}");
    installation.succeed(&["import"])?;
    let second = ask()?;
    assert_eq!((&second["llm"], &second["reused"]), (&json!(4), &json!(4)), "{second}");
    // Another question is another forecast.
    installation.configure("[generator.forecast]\nsubject = \"ratings of films\"")?;
    assert_eq!(ask()?["reused"], 0);
    installation.succeed(&["index"])?;
    installation.json(&["recommend", "1", "--limit", "5"])?;

    let refused = installation.fail(&["generate", "--plan", "items", "--generator", "template"])?;
    assert!(
        refused.contains("generator.kind") && refused.contains("foresees nothing"),
        "{refused}"
    );
    installation.configure("examples = []")?;
    let refused = installation.fail(&["generate", "--plan", "items"])?;
    assert!(refused.contains("generator.forecast.examples"), "{refused}");
    Ok(())
}
