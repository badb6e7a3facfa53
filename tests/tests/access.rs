//! API keys and their roles, through the real binary: who gets in, who is refused and told why, and
//! what a key for campaigns does not see; over the embedded engine, and over a real Qdrant server where there
//! is one.

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use whyrank_tests::{Installation, RealQdrant};

/// A role and the key that was made for it.
struct Made {
    role: &'static str,
    key: String,
}

/// Makes a key for each role and configures them.
fn with_keys(installation: &Installation) -> Result<Vec<Made>> {
    let mut made = Vec::new();
    for role in ["admin", "search", "campaign"] {
        let answer = installation.json(&["key", "--name", role, "--role", role])?;
        let digest = answer["entry"]["sha256"].as_str().context("sha256")?;
        let entry =
            format!("[[server.keys]]\nname = \"{role}\"\nrole = \"{role}\"\nsha256 = \"{digest}\"");
        made.push((role, answer["key"].as_str().context("key")?.to_owned(), entry));
    }
    let entries: Vec<&str> = made.iter().map(|(_, _, entry)| entry.as_str()).collect();
    installation.configure(&entries.join("\n"))?;
    Ok(made.into_iter().map(|(role, key, _)| Made { role, key }).collect())
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Value)> {
    let response = request.send().await?;
    Ok((response.status(), response.json().await?))
}

#[tokio::test]
async fn every_role_reaches_its_own_routes_and_is_told_why_not_others() -> Result<()> {
    roles_hold(&Installation::trained()?).await
}

#[tokio::test]
async fn a_campaign_key_sees_consumers_but_no_text_about_one() -> Result<()> {
    campaigns_see_no_histories(&Installation::trained()?).await
}

#[tokio::test]
async fn roles_hold_over_a_real_server() -> Result<()> {
    let Some(real) = RealQdrant::named() else { return Ok(()) };
    let (installation, _) = Installation::in_server(&real.grpc, &real.rest)?;
    roles_hold(&installation).await?;
    let (installation, _) = Installation::in_server(&real.grpc, &real.rest)?;
    campaigns_see_no_histories(&installation).await
}

async fn roles_hold(installation: &Installation) -> Result<()> {
    let keys = with_keys(installation)?;
    let server = installation.serve(&["--role", "api"])?;
    let client = Client::new();
    let post = |path: &str, body: &Value| client.post(format!("{}{path}", server.url)).json(body);
    let routes = [
        ("/v1/recommend", json!({ "user": "1" }), ["admin", "search"].as_slice()),
        ("/v1/audiences", json!({ "items": ["1"] }), ["admin", "campaign"].as_slice()),
        (
            "/v1/audiences/export?format=jsonl",
            json!({ "items": ["1"], "limit": 1 }),
            ["admin", "campaign"].as_slice(),
        ),
        (
            "/",
            json!({ "inputs": [{ "data": "sea", "data_type": "text", "model": "whyrank/text",
                "options": null }], "inference": "search", "token": null }),
            ["admin", "search"].as_slice(),
        ),
    ];
    for (path, body, roles) in &routes {
        let route = path.split('?').next().unwrap_or_default();
        let (status, refused) = answer(post(path, body)).await?;
        ensure!(status == StatusCode::UNAUTHORIZED, "{path}: {status}");
        ensure!(refused["error_type"] == "unauthorized", "{refused}");
        let (status, _) = answer(post(path, body).header("api-key", "wrong")).await?;
        ensure!(status == StatusCode::UNAUTHORIZED, "{path}: {status}");
        for Made { role, key } in &keys {
            let given = answer(post(path, body).header("api-key", key)).await?;
            let bearer = answer(post(path, body).bearer_auth(key)).await?;
            let expected =
                if roles.contains(role) { StatusCode::OK } else { StatusCode::FORBIDDEN };
            ensure!((given.0, bearer.0) == (expected, expected), "{path} as {role}: {}", given.1);
            if expected == StatusCode::FORBIDDEN {
                let message = given.1["error"].as_str().unwrap_or_default();
                ensure!(message.contains(role) && message.contains(route), "{message}");
                let named = roles.iter().all(|role| message.contains(&format!("`{role}`")));
                ensure!(named, "who may ask is not said: {message}");
                ensure!(!message.contains(key.as_str()), "a key in an answer");
            }
        }
    }
    for open in ["/healthz", "/livez", "/readyz", "/metrics"] {
        let status = client.get(format!("{}{open}", server.url)).send().await?.status();
        ensure!(status == StatusCode::OK, "{open}: {status}");
    }
    let description = client.get(format!("{}/openapi.json", server.url)).send().await?.status();
    ensure!(description == StatusCode::UNAUTHORIZED, "{description}");
    Ok(())
}

/// A Qdrant server can send no key; it proves itself by the token in its request, and reaches nothing else by
/// it.
#[tokio::test]
async fn a_token_opens_inference_and_nothing_else() -> Result<()> {
    let installation = Installation::trained()?;
    with_keys(&installation)?;
    installation.replace("[server]", "[server]\ninference_token = \"of Qdrant\"")?;
    let server = installation.serve(&["--role", "api"])?;
    let client = Client::new();
    let input =
        json!({ "data": "sea", "data_type": "text", "model": "whyrank/text", "options": null });
    for (token, expected) in [
        (json!("of Qdrant"), StatusCode::OK),
        (json!("of Qdran"), StatusCode::UNAUTHORIZED),
        (json!(""), StatusCode::UNAUTHORIZED),
        (json!(null), StatusCode::UNAUTHORIZED),
    ] {
        let body = json!({ "inputs": [input], "inference": "search", "token": token });
        let (status, told) = answer(client.post(format!("{}/", server.url)).json(&body)).await?;
        ensure!(status == expected, "{token}: {status} {told}");
    }
    let recommend = client.post(format!("{}/v1/recommend", server.url));
    let request = recommend.json(&json!({ "user": "1" })).header("api-key", "of Qdrant");
    ensure!(answer(request).await?.0 == StatusCode::UNAUTHORIZED, "the token is no key");
    Ok(())
}

async fn campaigns_see_no_histories(installation: &Installation) -> Result<()> {
    let keys = with_keys(installation)?;
    let server = installation.serve(&["--role", "api"])?;
    let url = format!("{}/v1/audiences", server.url);
    // Words find consumers by the explanations that are written about what they know.
    let body = json!({ "campaign": "loud battles in space", "limit": 120 });
    let mut texts = Vec::new();
    for Made { role, key } in keys.iter().filter(|made| made.role != "search") {
        let request = Client::new().post(&url).json(&body).header("api-key", key);
        let (status, audience) = answer(request).await?;
        ensure!(status == StatusCode::OK, "{audience}");
        let shown = audience["consumers"].as_array().context("consumers")?;
        let told = shown.iter().filter(|consumer| !consumer["explanation"].is_null()).count();
        texts.push((*role, shown.len(), told));
    }
    ensure!(texts[0].0 == "admin" && texts[0].2 > 0, "nothing is written: {texts:?}");
    ensure!(texts[1].2 == 0 && texts[1].1 == texts[0].1, "{texts:?}");

    // Nor does it learn who knows an item: not by a filter on histories, not by the difference that
    // leaving out makes, and neither through a comparison.
    let campaign = keys.iter().find(|made| made.role == "campaign").context("a key")?;
    let item = json!({ "items": ["50"], "limit": 5 });
    let seen = json!({ "must": [{ "key": "seen", "match": { "value": "x" } }] });
    let (mut filtered, mut known) = (item.clone(), item.clone());
    filtered["filter"] = seen;
    known["exclude_seen"] = false.into();
    for (asked, named) in [(filtered, "seen"), (known, "exclude_seen")] {
        let both = json!({ "first": item, "second": asked });
        for (url, asked) in [(url.clone(), asked), (format!("{url}/compare"), both)] {
            let request = Client::new().post(&url).json(&asked).header("api-key", &campaign.key);
            let (status, refused) = answer(request).await?;
            ensure!(status == StatusCode::FORBIDDEN, "{url}: {refused}");
            ensure!(refused["error"].as_str().is_some_and(|e| e.contains(named)), "{refused}");
        }
    }
    let request = Client::new().post(&url).json(&item).header("api-key", &campaign.key);
    ensure!(answer(request).await?.0 == StatusCode::OK);
    Ok(())
}

#[test]
fn an_unusable_key_is_a_fault_of_the_configuration() -> Result<()> {
    let installation = Installation::new()?;
    let key = "[[server.keys]]\nname = \"shop\"\nrole = \"search\"\nsha256 = \"plain text\"";
    installation.configure(key)?;
    let said = installation.fail(&["check"])?;
    ensure!(said.contains("server.keys") && said.contains("shop"), "{said}");
    Ok(())
}
