//! A search team's own vectors are used as they are: retrieval in their space, users without a vector
//! folded in from their history.

use anyhow::{Context, Result};
use serde_json::json;
use whyrank_tests::Installation;

/// Four corners of a plane: items 0 and 4 point the same way, and so on.
fn corner(number: usize) -> [f32; 2] {
    [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]][number % 4]
}

fn installation(configuration: &str) -> Result<Installation> {
    let installation = Installation::new()?;
    let folder = installation.path();
    let lines = |rows: Vec<serde_json::Value>| -> String {
        rows.iter().map(|row| format!("{row}\n")).collect()
    };
    let items = (0..12)
        .map(
            |n| json!({ "id": format!("i{n}"), "title": format!("Item {n}"), "vector": corner(n) }),
        )
        .collect();
    std::fs::write(folder.join("own-items.jsonl"), lines(items))?;
    let users = vec![json!({ "id": "given", "vector": corner(1) }), json!({ "id": "folded" })];
    std::fs::write(folder.join("own-users.jsonl"), lines(users))?;
    let interaction =
        |item: &str, rating: u8| json!({ "user": "folded", "item": item, "rating": rating });
    let interactions = vec![interaction("i0", 5), interaction("i2", 1)];
    std::fs::write(folder.join("own-interactions.jsonl"), lines(interactions))?;
    std::fs::write(folder.join("whyrank.toml"), configuration)?;
    Ok(installation)
}

const CONFIGURATION: &str = r#"models_folder = "models"
[store.embedded]
folder = "store"
minimum_free_bytes = 1048576
[vectors]
source = "imported"
[vectors.factorisation]
dimension = 2
[import.interactions]
path = "own-interactions.jsonl"
time = ""
rows_in_order = true
[import.items]
path = "own-items.jsonl"
vector = "vector"
[import.users]
path = "own-users.jsonl"
vector = "vector"
"#;

#[test]
fn items_near_a_given_or_folded_in_user_are_the_candidates() -> Result<()> {
    let installation = installation(CONFIGURATION)?;
    installation.succeed(&["import"])?;
    installation.succeed(&["train", "vectors"])?;
    let first = |user: &str, count: usize| -> Result<Vec<String>> {
        let response = installation.json(&["recommend", user])?;
        let results = response["results"].as_array().context("results")?;
        let mut first: Vec<String> = results
            .iter()
            .take(count)
            .filter_map(|r| r["item"].as_str().map(str::to_owned))
            .collect();
        first.sort();
        Ok(first)
    };
    assert_eq!(first("given", 3)?, ["i1", "i5", "i9"]);
    assert_eq!(first("folded", 2)?, ["i4", "i8"], "like what was liked, without what is known");
    Ok(())
}

#[test]
fn a_vector_of_another_dimension_is_refused_before_anything_is_written() -> Result<()> {
    let installation = installation(&CONFIGURATION.replace("dimension = 2", "dimension = 3"))?;
    let said = installation.fail(&["import"])?;
    assert!(said.contains('3') && said.contains('2'), "{said}");
    Ok(())
}
