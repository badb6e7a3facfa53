//! Insights through the real binary: a planted catalogue whose decisive attribute must surface, the
//! estimate of what would change against really changing it, and what a seller sees.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use whyrank_tests::{Installation, RealQdrant};

/// Consumers of the planted catalogue.
const CONSUMERS: usize = 100;
/// Its items.
const ITEMS: usize = 60;
/// Items that each consumer rated.
const RATED: usize = 36;
/// The attribute that was made decisive.
const DECISIVE: &str = "gloomy";
/// An item that has it.
const PLANTED: &str = "i0";

const CONFIGURATION: &str = r#"models_folder = "models"

[store.embedded]
folder = "store"
minimum_free_bytes = 1048576

[server]
address = "127.0.0.1:0"

[gateway]
rest_address = "127.0.0.1:0"
grpc_address = "127.0.0.1:0"

[vectors]
source = "imported"

[vectors.factorisation]
dimension = 4

[generate]
candidates_per_user = 24

[import]
rating_minimum = 1.0
rating_maximum = 5.0

[import.interactions]
path = "planted-interactions.jsonl"

[import.items]
path = "planted-items.jsonl"
vector = "vector"
attributes = [
    { column = "atmosphere", label = "atmosphere" },
    { column = "genre", label = "genre" },
    { column = "brand", label = "brand" },
]
"#;

fn genre(item: usize) -> &'static str {
    ["western", "comedy", "romance", "thriller"][item / 2 % 4]
}

/// Every second item is gloomy, whatever else it is.
fn atmosphere(item: usize) -> &'static str {
    if item.is_multiple_of(2) { DECISIVE } else { ["bright", "playful"][item / 8 % 2] }
}

fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

/// Writes the items; the planted one with this atmosphere. Their vectors know genres alone, as those of a
/// search team may: what the atmosphere is worth, only the texts can tell.
fn write_items(installation: &Installation, planted: &str) -> Result<()> {
    let row = |item: usize| {
        let own = if item == 0 { planted } else { atmosphere(item) };
        let brand = if item.is_multiple_of(3) { "north" } else { "south" };
        json!({ "id": format!("i{item}"), "title": format!("Number {item}"), "atmosphere": own,
            "genre": genre(item), "brand": brand,
            "vector": (0..4).map(|place| u8::from(place == item / 2 % 4)).collect::<Vec<_>>() })
    };
    let path = installation.path().join("planted-items.jsonl");
    Ok(std::fs::write(path, lines((0..ITEMS).map(row)))?)
}

/// Four in five consumers cannot stand what is gloomy; all have two genres that they care for.
fn planted() -> Result<Installation> {
    // Held while it is built, so that tests which start together build it once.
    static PLANTED: Mutex<Option<Installation>> = Mutex::new(None);
    let mut planted = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *planted {
        Some(built) => built.copied(),
        empty => empty.insert(plant()?).copied(),
    }
}

fn plant() -> Result<Installation> {
    let installation = Installation::new()?;
    std::fs::write(installation.path().join("whyrank.toml"), CONFIGURATION)?;
    write_items(&installation, DECISIVE)?;
    let mut random = StdRng::seed_from_u64(11);
    let mut rows = Vec::new();
    for consumer in 0..CONSUMERS {
        let sensitive = !consumer.is_multiple_of(5);
        let mut items: Vec<usize> = (0..ITEMS).collect();
        items.shuffle(&mut random);
        for (time, item) in items.into_iter().take(RATED).enumerate() {
            let cares = ["western", "comedy", "romance", "thriller"]
                .iter()
                .position(|known| *known == genre(item))
                .is_some_and(|place| (place + consumer) % 4 < 2);
            let rating = match (sensitive && atmosphere(item) == DECISIVE, cares) {
                (true, _) => 1.0,
                (false, true) => 5.0,
                (false, false) => {
                    if sensitive {
                        4.0
                    } else {
                        2.0
                    }
                }
            };
            let noisy = if random.random_range(0.0..1.0) < 0.05 { 3.0 } else { rating };
            rows.push(json!({ "user": format!("u{consumer}"), "item": format!("i{item}"),
                "rating": noisy, "time": 1_000_000 + time * 60 }));
        }
    }
    std::fs::write(installation.path().join("planted-interactions.jsonl"), lines(rows))?;
    installation.succeed(&["import"])?;
    installation.succeed(&["train", "vectors"])?;
    installation.succeed(&["generate", "--generator", "template", "--pairs", "2400"])?;
    installation.succeed(&["train", "autoencoder", "explainer", "ranker"])?;
    rewrite(&installation)?;
    Ok(installation)
}

/// Writes the reasons of what reranking will show, as they are now.
fn rewrite(installation: &Installation) -> Result<()> {
    let plan = ["generate", "--generator", "template", "--plan", "candidates", "--pairs", "9999"];
    installation.succeed(&plan).map(drop)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn a_planted_objection_is_first_and_answering_it_is_worth_what_was_estimated() -> Result<()> {
    let installation = planted()?;
    let before = installation.json(&["insights", PLANTED])?;
    let first = &before["themes_against"][0];
    ensure!(
        list(&first["terms"]).iter().any(|term| term == DECISIVE),
        "{DECISIVE:?} is not the first objection: {}",
        before["themes_against"]
    );
    ensure!(number(&first["share"]) > 0.5 && number(&first["effect"]) < 0.0, "{first}");
    let sentence = first["representative"].as_str().context("a sentence")?;
    ensure!(sentence.contains(DECISIVE), "{sentence}");

    // Now the attribute is really changed, and the reasons are written again.
    write_items(&installation, "bright")?;
    installation.succeed(&["import"])?;
    rewrite(&installation)?;
    let after = installation.json(&["insights", PLANTED])?;
    ensure!(before["sample"]["consumers"] == after["sample"]["consumers"], "another sample");
    // What those wrote who rated it before still stands; of those it is a candidate for nobody objects.
    for theme in list(&after["themes_against"]) {
        let named = list(&theme["terms"]).iter().any(|term| term == DECISIVE);
        ensure!(!named || theme["if_answered"].is_null(), "{theme}");
    }

    // Over all consumers of the sample: those who hold the objection gain, the others stay.
    let estimate = &first["if_answered"];
    let consumers = number(&before["sample"]["consumers"]);
    let share = number(&estimate["consumers"]) / consumers;
    let gained = number(&before["rank"]["mean"]) - number(&after["rank"]["mean"]);
    let grown = number(&after["score"]["mean"]) - number(&before["score"]["mean"]);
    for (what, gained) in [("places", gained), ("score", grown)] {
        let [mean, low, high] =
            ["mean", "low", "high"].map(|end| number(&estimate[what][end]) * share);
        eprintln!("{what}: estimated {mean:.3} ({low:.3} to {high:.3}), really {gained:.3}");
        ensure!(mean > 0.0 && gained > 0.0, "{what}: {estimate}, really {gained}");
        // Places are what is ranked for; the score of few consumers is moved by other things too, such
        // as the reasons for, which changed with the attribute.
        if what == "places" {
            ensure!((low..=high).contains(&gained), "{what}: {low} to {high}, really {gained}");
        }
    }
    Ok(())
}

/// What must hold of every answer for an operator.
fn sound(answer: &Value) -> Result<()> {
    let consumers = number(&answer["sample"]["consumers"]);
    for which in ["rank", "score"] {
        let buckets = list(&answer[which]["buckets"]);
        let sum: f64 = buckets.iter().map(|bucket| number(&bucket["consumers"])).sum();
        ensure!(sum == consumers, "{which}: {sum} of {consumers}");
    }
    for side in ["themes_for", "themes_against"] {
        let themes = list(&answer[side]);
        ensure!(!themes.is_empty(), "{answer}");
        let sum: f64 = themes.iter().map(|theme| number(&theme["share"])).sum();
        ensure!((sum - 1.0).abs() < 1e-6, "{side}: {sum}");
        for theme in themes {
            ensure!(!theme["name"].as_str().unwrap_or_default().is_empty(), "{theme}");
            let estimate = &theme["if_answered"]["places"];
            ensure!(estimate.is_null() || number(&estimate["low"]) <= number(&estimate["high"]));
            ensure!((side == "themes_for") <= theme["if_answered"].is_null(), "{theme}");
        }
    }
    let both = &answer["influence"]["both"];
    ensure!(number(&both["score"]).is_finite() && number(&both["places"]).is_finite(), "{both}");
    ensure!(!list(&answer["competitors"]).is_empty(), "{answer}");
    for competitor in list(&answer["competitors"]) {
        ensure!((0.0..=1.0).contains(&number(&competitor["share_above"])), "{competitor}");
        ensure!(list(&competitor["differences"]).len() == 5, "{competitor}");
    }
    Ok(())
}

async fn get(client: &Client, url: &str, key: Option<&str>) -> Result<(StatusCode, Value)> {
    let mut request = client.get(url);
    if let Some(key) = key {
        request = request.header("api-key", key);
    }
    let response = request.send().await?;
    Ok((response.status(), response.json().await?))
}

async fn insights_hold(installation: &Installation) -> Result<()> {
    let server = installation.serve(&["--role", "api"])?;
    let (client, base) = (Client::new(), format!("{}/v1/items", server.url));
    let (status, answer) = get(&client, &format!("{base}/1/insights"), None).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    sound(&answer)?;
    let (_, again) = get(&client, &format!("{base}/1/insights"), None).await?;
    for part in ["sample", "rank", "themes_for", "themes_against", "competitors"] {
        ensure!(answer[part] == again[part], "{part} is not the same twice");
    }
    let named = format!("{base}/1/insights?competitor=50&consumers=40&themes=2");
    let (status, named) = get(&client, &named, None).await?;
    ensure!(status == StatusCode::OK, "{named}");
    sound(&named)?;
    ensure!(named["competitors"][0]["item"] == "50" && list(&named["competitors"]).len() == 1);
    ensure!(number(&named["sample"]["consumers"]) <= 40.0 && list(&named["themes_for"]).len() <= 2);
    for (path, expected, told) in [
        ("nothing/insights", StatusCode::NOT_FOUND, "nothing"),
        ("1/insights?competitor=nothing", StatusCode::NOT_FOUND, "nothing"),
        ("1/insights?competitor=1", StatusCode::UNPROCESSABLE_ENTITY, "itself"),
        ("1/insights?consumers=0", StatusCode::UNPROCESSABLE_ENTITY, "consumers"),
        ("1/insights?themes=x", StatusCode::BAD_REQUEST, "themes"),
        ("1/insights?unforeseen=1", StatusCode::BAD_REQUEST, "unforeseen"),
    ] {
        let (status, refused) = get(&client, &format!("{base}/{path}"), None).await?;
        ensure!(status == expected && refused.to_string().contains(told), "{path}: {refused}");
    }
    let printed = installation.succeed(&["check"])?;
    ensure!(!printed.is_empty());
    Ok(())
}

#[tokio::test]
async fn insights_hold_over_the_embedded_engine() -> Result<()> {
    insights_hold(&Installation::trained()?).await
}

#[tokio::test]
async fn insights_hold_over_a_real_server() -> Result<()> {
    let Some(real) = RealQdrant::named() else { return Ok(()) };
    let (installation, _) = Installation::in_server(&real.grpc, &real.rest)?;
    insights_hold(&installation).await
}

#[tokio::test]
async fn audiences_are_compared() -> Result<()> {
    let installation = Installation::trained()?;
    let same = installation.json(&["compare-audiences", "--first", "1", "--second", "1"])?;
    ensure!(same["overlap"]["share_of_either"] == json!(1.0), "{}", same["overlap"]);
    ensure!(list(&same["differences"]).iter().all(|one| number(&one["value"]) == 0.0));
    let server = installation.serve(&["--role", "api"])?;
    let url = format!("{}/v1/audiences/compare", server.url);
    let body = json!({ "first": { "items": ["1"], "limit": 40 },
        "second": { "campaign": "war films without romance", "limit": 60 } });
    let response = Client::new().post(&url).json(&body).send().await?;
    ensure!(response.status() == StatusCode::OK, "{}", response.status());
    let answer: Value = response.json().await?;
    let (first, second) = (&answer["first"], &answer["second"]);
    ensure!(first["consumers"] == 40 && second["consumers"] == 60, "{first} {second}");
    let both = number(&answer["overlap"]["consumers"]);
    ensure!((both / 40.0 - number(&answer["overlap"]["share_of_first"])).abs() < 1e-9);
    let segments = list(&answer["segments"]);
    for (side, size) in [("first", 40.0), ("second", 60.0)] {
        let sum: f64 = segments.iter().map(|segment| number(&segment[side])).sum();
        ensure!(sum == size, "{side}: {sum}");
    }
    ensure!(answer["summary"].as_str().is_some_and(|text| text.contains("both audiences")));
    let body = json!({ "first": { "items": ["1"] }, "second": {} });
    let refused = Client::new().post(&url).json(&body).send().await?;
    ensure!(refused.status() == StatusCode::UNPROCESSABLE_ENTITY);
    let refused: Value = refused.json().await?;
    ensure!(refused["error"].as_str().is_some_and(|text| text.contains("`second`")), "{refused}");
    Ok(())
}

/// Makes a key of each role, the seller's for the brand "north", and configures them. The noise is smaller
/// than by default: among so few consumers that would leave no competitor to be told about, as chance has it.
fn with_keys(installation: &Installation) -> Result<[String; 2]> {
    let filter = json!({ "must": [{ "key": "attributes.brand", "match": { "value": "north" } }] })
        .to_string();
    let mut keys = Vec::new();
    installation.configure("[insights]\nnoise_secret = \"of the test\"\nepsilon = 4.0")?;
    for arguments in [
        vec!["key", "--name", "boss", "--role", "admin"],
        vec!["key", "--name", "shop", "--role", "seller", "--items", &filter],
    ] {
        // What is printed for people is what the configuration takes.
        let printed = installation.succeed(&arguments)?;
        let (said, entry) = printed.split_once("[[server.keys]]").context("an entry")?;
        installation.configure(&format!("[[server.keys]]{entry}"))?;
        let key = said.lines().find(|line| line.len() == 64).context("a key")?;
        keys.push(key.to_owned());
    }
    let [admin, seller] = keys.try_into().map_err(|_| anyhow::anyhow!("two keys"))?;
    Ok([admin, seller])
}

/// All texts in an answer.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(entries) => entries.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn a_seller_sees_its_own_items_and_no_consumer() -> Result<()> {
    let installation = planted()?;
    let refused = installation.fail(&["key", "--name", "shop", "--role", "seller"])?;
    ensure!(refused.contains("items"), "{refused}");
    let [admin, seller] = with_keys(&installation)?;
    let server = installation.serve(&["--role", "api"])?;
    let (client, base) = (Client::new(), format!("{}/v1/items", server.url));
    let (status, whole) = get(&client, &format!("{base}/{PLANTED}/insights"), Some(&admin)).await?;
    ensure!(status == StatusCode::OK, "{whole}");
    sound(&whole)?;
    let (status, told) = get(&client, &format!("{base}/{PLANTED}/insights"), Some(&seller)).await?;
    ensure!(status == StatusCode::OK, "{told}");

    ensure!(told["anonymity"]["minimum_consumers"] == 10, "{}", told["anonymity"]);
    let first = &told["themes_against"][0];
    ensure!(list(&first["terms"]).iter().any(|term| term == DECISIVE), "{told}");
    // No sentence, no id of a consumer, no count below the minimum or between its multiples.
    let mut said = Vec::new();
    texts(&told, &mut said);
    for consumer in 0..CONSUMERS {
        ensure!(!said.iter().any(|text| text == &format!("u{consumer}")), "u{consumer} is named");
    }
    let sentences: BTreeSet<&str> = ["themes_for", "themes_against"]
        .iter()
        .flat_map(|side| list(&whole[side]))
        .filter_map(|theme| theme["representative"].as_str())
        .collect();
    ensure!(!sentences.is_empty() && sentences.iter().all(|one| !told.to_string().contains(one)));
    let mut counts: Vec<&Value> = vec![&told["sample"]["consumers"], &told["sample"]["drawn"]];
    for side in ["themes_for", "themes_against"] {
        counts.extend(list(&told[side]).iter().map(|theme| &theme["consumers"]));
        ensure!(list(&told[side]).iter().all(|theme| theme["representative"].is_null()));
    }
    for which in ["rank", "score"] {
        ensure!(told[which]["quartiles"].is_null(), "{}", told[which]);
        counts.extend(list(&told[which]["buckets"]).iter().map(|bucket| &bucket["consumers"]));
    }
    for count in counts.into_iter().filter(|count| !count.is_null()) {
        ensure!(count.as_u64().is_some_and(|n| n >= 10 && n.is_multiple_of(10)), "{count}");
    }

    // Whatever is asked is cut out of one and the same release: no query is a second look.
    let (_, again) = get(&client, &format!("{base}/{PLANTED}/insights"), Some(&seller)).await?;
    ensure!(again == told, "asking again gave other numbers");
    let competitors = list(&told["competitors"]);
    ensure!(!competitors.is_empty(), "{told}");
    for competitor in competitors {
        let id = competitor["item"].as_str().context("item")?;
        let url = format!("{base}/{PLANTED}/insights?competitor={id}");
        let (status, mut one) = get(&client, &url, Some(&seller)).await?;
        ensure!(status == StatusCode::OK && one["competitors"] == json!([competitor]), "{one}");
        one["competitors"] = told["competitors"].clone();
        ensure!(one == told, "another competitor gave other numbers");
    }

    // Nor is a change of the data: noise that were drawn anew with every interaction could be averaged away.
    let rated = |consumer: usize| json!({ "user": format!("u{consumer}"), "item": PLANTED, "rating": 5.0, "time": 2_000_000 });
    let interactions: Vec<Value> = (0..40).map(rated).collect();
    let post = client.post(format!("{}/v1/interactions", server.url)).header("api-key", &admin);
    let status = post.json(&json!({ "interactions": interactions })).send().await?.status();
    ensure!(status.is_success(), "{status}");
    let (_, moved) = get(&client, &format!("{base}/{PLANTED}/insights"), Some(&admin)).await?;
    let numbers = |answer: &Value| {
        (answer["sample"].clone(), answer["rank"].clone(), answer["score"].clone())
    };
    ensure!(numbers(&moved) != numbers(&whole), "the interactions changed nothing");
    let (_, again) = get(&client, &format!("{base}/{PLANTED}/insights"), Some(&seller)).await?;
    ensure!(again == told, "a change of the data gave other numbers");

    let forbidden = [
        ("i2/insights", "items"),
        // What is not there is refused in the same words.
        ("nothing/insights", "\"nothing\" is not among the items of key"),
        ("i0/insights?consumers=30", "consumers"),
        ("i0/insights?themes=1", "themes"),
        ("i0/insights?competitor=i2", "competitor"),
    ];
    for (path, told) in forbidden {
        let (status, refused) = get(&client, &format!("{base}/{path}"), Some(&seller)).await?;
        ensure!(status == StatusCode::FORBIDDEN, "{path}: {status} {refused}");
        ensure!(refused["error"].as_str().is_some_and(|error| error.contains(told)), "{refused}");
    }
    let post =
        client.post(format!("{}/v1/audiences", server.url)).json(&json!({ "items": ["i0"] }));
    let status = post.header("api-key", &seller).send().await?.status();
    ensure!(status == StatusCode::FORBIDDEN, "{status}");
    Ok(())
}
