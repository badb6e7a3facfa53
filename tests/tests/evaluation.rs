//! `whyrank eval` through the real binary: it judges every arm, goes on where it was stopped, and what
//! it predicts does not depend on what the test part was rated.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use whyrank_tests::Installation;

const SMALL: &str = "
[training]
maximum_pairs = 150

[evaluation]
shares = [0.5, 1.0]
seeds = [1, 2]
maximum_test_pairs = 120
resamples = 200
";

fn eval(installation: &Installation, more: &[&str]) -> Result<Value> {
    installation.json(&[&["eval", "--generator", "template"], more].concat())
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("`{key}` in {value}"))
}

#[test]
fn all_arms_are_judged_and_a_finished_run_is_not_made_again() -> Result<()> {
    let installation = Installation::new()?;
    installation.configure(SMALL)?;
    let report = eval(&installation, &["--output", "out"])?;
    let shares = report["shares"].as_array().context("shares")?;
    ensure!(shares.len() == 2, "{report}");
    for share in shares {
        let arms = share["arms"].as_array().context("arms")?;
        let names: Vec<&str> = arms.iter().filter_map(|arm| arm["arm"].as_str()).collect();
        let expected = ["features", "positive", "negative", "both", "shuffled", "profile"];
        ensure!(names == expected, "{names:?}");
        ensure!(number(share, "test_pairs")? > 20.0 && number(share, "training_pairs")? > 20.0);
        let ordering = &share["ordering"];
        let orders = ordering["orders"].as_array().context("orders")?;
        ensure!(orders.len() == 1 + expected.len() && orders[0]["arm"].is_null(), "{ordering}");
        let found = number(ordering, "found")?;
        ensure!(0.0 < found && found <= 1.0, "{ordering}");
        for order in orders {
            let recall = number(&order["recall"], "mean")?;
            ensure!((0.0..=found).contains(&recall), "{order}");
            ensure!((0.0..=1.0).contains(&number(&order["ndcg"], "mean")?), "{order}");
        }
        for arm in arms {
            ensure!(arm["calibration"].as_array().is_some_and(|bins| !bins.is_empty()), "{arm}");
            let (rmse, mae) = (number(arm, "rmse")?, number(arm, "mae")?);
            ensure!(0.0 < mae && mae <= rmse && rmse < 4.0, "{arm}");
            ensure!((0.0..=1.0).contains(&number(arm, "auc")?), "{arm}");
        }
    }
    let page = std::fs::read_to_string(installation.path().join("out/report.html"))?;
    ensure!(page.matches("<svg").count() == 3 && page.matches("shuffled").count() > 4, "{page}");
    ensure!(!page.contains("NaN") && !page.contains("src=") && !page.contains("href="), "{page}");
    let run = installation.path().join("out/share-1-seed-2.json");
    let written = std::fs::metadata(&run)?.modified()?;
    // One run is missing, as if the evaluation had been stopped before it.
    std::fs::remove_file(installation.path().join("out/share-0.5-seed-1.json"))?;
    let again = eval(&installation, &["--output", "out"])?;
    ensure!(again == report, "the same seeds gave another report");
    ensure!(std::fs::metadata(&run)?.modified()? == written, "a finished run was made again");

    installation.configure("[ranker.training]\nepochs = 1")?;
    let refused = installation.fail(&["eval", "--generator", "template", "--output", "out"])?;
    ensure!(refused.contains("other data or settings"), "{refused}");
    Ok(())
}

/// What each arm of a run predicted.
fn predictions(folder: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(folder.join("share-1-seed-1.json"))?;
    let run: Value = serde_json::from_str(&text)?;
    let arms = run["outcome"]["arms"].as_array().context("arms")?;
    Ok(arms.iter().map(|arm| arm["ratings"].clone()).collect())
}

#[test]
fn predictions_do_not_depend_on_what_the_test_part_was_rated() -> Result<()> {
    let installation = Installation::new()?;
    installation.configure(&SMALL.replace("[0.5, 1.0]", "[1.0]"))?;
    let path = installation.path();
    let text = std::fs::read_to_string(path.join("interactions.tsv"))?;
    let mut rows: Vec<Vec<String>> =
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    let header = rows.remove(0);
    // By time over all consumers: nothing of the test is older than what is learned from.
    rows.sort_by_key(|row| row[3].parse::<f64>().map_or(0, |time| time as i64));
    let test = rows.split_off(rows.len() * 4 / 5);
    let write = |name: &str, rows: &[Vec<String>]| {
        let lines = std::iter::once(&header).chain(rows).map(|row| row.join("\t") + "\n");
        std::fs::write(path.join(name), lines.collect::<String>())
    };
    write("train.tsv", &rows)?;
    write("test.tsv", &test)?;
    let turned: Vec<Vec<String>> = test
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row[2] = if row[2].starts_with(['4', '5']) { "1".to_owned() } else { "5".to_owned() };
            row
        })
        .collect();
    write("turned.tsv", &turned)?;
    let mut found = Vec::new();
    for test in ["test.tsv", "turned.tsv"] {
        let folder = format!("out-{test}");
        eval(&installation, &["--train", "train.tsv", "--test", test, "--output", &folder])?;
        found.push(predictions(&path.join(folder))?);
    }
    ensure!(found[0] == found[1], "the ratings of the test part reached the predictions");
    ensure!(found[0].iter().all(|ratings| ratings.as_array().is_some_and(|all| all.len() > 10)));

    let both = ["eval", "--train", "train.tsv", "--test", "train.tsv"];
    let refused = installation.fail(&both)?;
    ensure!(refused.contains("must not be learned from"), "{refused}");
    Ok(())
}

#[test]
fn what_is_written_about_some_pairs_tells_of_all_others() -> Result<()> {
    let installation = Installation::new()?;
    let arms = "arms = [\"features\", \"both\"]";
    installation.configure(&format!("{SMALL}{arms}\n").replace("[0.5, 1.0]", "[1.0]"))?;
    let path = installation.path();
    eval(&installation, &["--output", "all"])?;
    installation.replace("resamples = 200", "resamples = 200\nwritten_pairs = 40")?;
    let report = eval(&installation, &["--output", "some"])?;
    let [all, some] = [predictions(&path.join("all"))?, predictions(&path.join("some"))?];
    ensure!(all[0] == some[0], "what is written reached the features");
    ensure!(all[1] != some[1], "explanations of 40 pairs gave the same as those of all");
    let rated = some[1].as_array().context("ratings")?;
    ensure!(rated.len() > 20 && rated.iter().all(Value::is_number), "{report}");
    Ok(())
}

#[test]
fn what_one_seed_had_written_serves_the_others() -> Result<()> {
    let installation = Installation::new()?;
    let path = installation.path();
    // Few enough that every seed learns from all pairs.
    let rows = std::fs::read_to_string(path.join("interactions.tsv"))?;
    let of_few = rows.lines().enumerate().filter(|(number, line)| {
        let user = line.split('\t').next().and_then(|user| user.parse::<u32>().ok());
        *number == 0 || user.is_some_and(|user| user <= 8)
    });
    let of_few: String = of_few.map(|(_, line)| format!("{line}\n")).collect();
    std::fs::write(path.join("interactions.tsv"), of_few)?;
    let plan = SMALL.replace("[0.5, 1.0]", "[1.0]").replace("= 150", "= 100000");
    installation
        .configure(&format!("{plan}written_pairs = 4\narms = [\"features\", \"both\"]\n"))?;
    let report = installation.json(&["eval", "--output", "out"])?;
    let quality = &report["shares"][0]["quality"];
    ensure!(quality["stored"] == 4 && quality["sample"] == 4, "{quality}");
    let sources = quality["sources"].as_array().context("sources")?;
    let comparable: f64 = sources.iter().filter_map(|one| one["comparable"].as_f64()).sum();
    ensure!(comparable == 4.0, "who wrote was told the same: {quality}");
    let page = std::fs::read_to_string(path.join("out/report.html"))?;
    ensure!(page.contains("Quality of 4 explanations"), "{page}");
    let kept = path.join("out/explanations.jsonl");
    let told = std::fs::read_to_string(&kept)?;
    ensure!(told.lines().count() == 4, "each pair is written once for both seeds: {told}");

    // Another part of the data is told otherwise: nothing that was written from all of it may be taken, and
    // each seed has a half of its own.
    installation.replace("shares = [1.0]", "shares = [0.5]")?;
    let texts = ["--texts", "out/explanations.jsonl"];
    installation.json(&[&["eval", "--output", "half"][..], &texts].concat())?;
    let all = std::fs::read_to_string(&kept)?;
    ensure!(all.starts_with(&told) && all.lines().count() == 12, "{all}");
    Ok(())
}

#[test]
fn what_an_llm_foresees_of_items_is_judged_beside_that_of_other_items() -> Result<()> {
    let installation = Installation::new()?;
    let arms = "resamples = 200\narms = [\"features\", \"forecast\", \"misplaced\"]";
    let one = SMALL.replace("[0.5, 1.0]", "[1.0]");
    installation.configure(&one.replace("resamples = 200", arms))?;
    let path = installation.path();
    // Each question takes the real model a second.
    let items = std::fs::read_to_string(path.join("items.jsonl"))?;
    let all: Vec<&str> = items.lines().collect();
    // The last ones are those that have a plot, which the configuration wants.
    let few = [&all[..26], &all[all.len() - 4..]].concat();
    std::fs::write(path.join("items.jsonl"), few.join("\n") + "\n")?;
    let report = installation.json(&["eval", "--output", "out"])?;
    let judged = report["shares"][0]["arms"].as_array().context("arms")?;
    let names: Vec<&str> = judged.iter().filter_map(|arm| arm["arm"].as_str()).collect();
    ensure!(names == ["features", "forecast", "misplaced"], "{names:?}");
    let forecast = &judged[1];
    ensure!(forecast["versus_shuffled"].is_object() && forecast["gain"].is_boolean(), "{forecast}");
    let told = std::fs::read_to_string(path.join("out/forecasts.jsonl"))?;
    ensure!(told.lines().count() == 30, "{told}");
    for line in told.lines() {
        let rating = number(&serde_json::from_str(line)?, "rating")?;
        ensure!((1.0..=10.0).contains(&rating), "the form is enforced: {line}");
    }
    let found = predictions(&path.join("out"))?;
    ensure!(found[0] != found[1] && found[1] != found[2], "forecasts changed nothing");

    // What is known is not asked again, and what was cut off is.
    std::fs::remove_file(path.join("out/share-1-seed-1.json"))?;
    std::fs::write(path.join("out/forecasts.jsonl"), &told[..told.len() - 2])?;
    let again = installation.json(&["eval", "--output", "out"])?;
    ensure!(again == report, "the same forecasts gave another report");
    ensure!(std::fs::read_to_string(path.join("out/forecasts.jsonl"))? == told);
    Ok(())
}
