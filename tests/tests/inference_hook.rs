//! The inference hook as a real Qdrant server uses it: native queries whose vectors Whyrank makes. The
//! server must have been started with `inference.address` at the address that
//! `WHYRANK_INFERENCE_ADDRESS` names, such as `127.0.0.1:6380`; without it the test says that it is
//! skipped.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use whyrank_tests::{Installation, RealQdrant, Server};

#[test]
fn a_native_query_uses_all_four_models() -> Result<()> {
    let Ok(address) = std::env::var("WHYRANK_INFERENCE_ADDRESS") else {
        eprintln!(
            "skipped: WHYRANK_INFERENCE_ADDRESS does not name where Qdrant asks for inference"
        );
        return Ok(());
    };
    let Some(real) = RealQdrant::named() else { return Ok(()) };
    let (installation, prefix) = Installation::in_server(&real.grpc, &real.rest)?;
    let mut command = installation.command(&["serve", "--role", "api"]);
    command.env("WHYRANK__SERVER__ADDRESS", &address);
    let _server = Server::started(command)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let asked = |collection: &str, using: &str, query: Value| -> Result<Value> {
        let url = format!("{}/collections/{prefix}{collection}/points/query", real.rest);
        let body = json!({ "query": query, "using": using, "limit": 3, "with_payload": true });
        runtime.block_on(async {
            let answer = reqwest::Client::new().post(url).json(&body).send().await?;
            Ok(answer.json::<Value>().await?)
        })
    };
    let found = |answer: &Value| -> Result<Vec<Value>> {
        let points = answer["result"]["points"].as_array().cloned();
        let points = points.with_context(|| format!("no points in {answer}"))?;
        ensure!(!points.is_empty(), "nothing was found: {answer}");
        Ok(points)
    };

    let history = json!([{ "item": "50", "rating": 5 }, { "item": "172", "rating": 5 }]);
    let user = json!({ "object": { "history": history }, "model": "whyrank/user" });
    let near = found(&asked("items", "item", user)?)?;
    let scores: Vec<f64> = near.iter().filter_map(|point| point["score"].as_f64()).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");

    let reasons = json!({ "text": "enjoys old comedies", "model": "whyrank/explanation" });
    let answer = asked("explanations", "positive", reasons)?;
    assert!(found(&answer)?[0]["payload"]["positive"].is_string());
    let usage = &answer["usage"]["inference"]["models"]["whyrank/explanation"]["tokens"];
    assert!(usage.as_u64().is_some_and(|tokens| tokens > 0), "{answer}");

    let known = &found(&answer)?[0]["payload"];
    let pair = json!({
        "user": known["user_external_id"], "item": known["item_external_id"], "side": "positive"
    });
    let pair = json!({ "object": pair, "model": "whyrank/pair" });
    let itself = found(&asked("explanations", "positive", pair)?)?;
    assert!(itself[0]["score"].as_f64().is_some_and(|score| score > 0.999), "{itself:?}");

    // The text model's vectors are wider than the codes: Qdrant itself must refuse them here.
    let wide = json!({ "text": "a quiet evening", "model": "whyrank/text" });
    let refused = asked("explanations", "positive", wide)?["status"]["error"].to_string();
    assert!(refused.contains("dimension"), "{refused}");

    let unknown = json!({ "text": "a", "model": "whyrank/nonsense" });
    let refused = asked("items", "item", unknown)?["status"]["error"].to_string();
    assert!(refused.contains("inputs[0]") && refused.contains("whyrank/text"), "{refused}");
    Ok(())
}
