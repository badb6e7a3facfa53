//! The alert rules and the dashboard in `config/` name only metrics and labels that a running server
//! exports, and the rules fire when they should.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use whyrank_tests::Installation;

/// What every metric of Whyrank begins with.
const PREFIX: &str = "whyrank_";

/// Labels that Prometheus itself adds to everything that it scrapes.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// A metric and the labels that go with it.
type Selector = (String, BTreeSet<String>);

fn shipped(file: &str) -> Result<String> {
    let path = repository().join("config").join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The labels between braces, such as `route` and `outcome` of `{route="a", outcome=~"b|c"}`, and how
/// many bytes the braces and what is between them take; none if the text does not begin with one.
fn labels(text: &str) -> (BTreeSet<String>, usize) {
    let mut found = BTreeSet::new();
    if !text.starts_with('{') {
        return (found, 0);
    }
    let (mut name, mut quoted, mut escaped) = (String::new(), false, false);
    for (at, character) in text.char_indices() {
        if quoted {
            quoted = escaped || character != '"';
            escaped = character == '\\' && !escaped;
            continue;
        }
        match character {
            '"' => {
                found.insert(std::mem::take(&mut name));
                quoted = true;
            }
            '}' => return (found, at + 1),
            _ if is_of_name(character) => name.push(character),
            _ => {}
        }
    }
    (found, text.len())
}

/// Every metric of Whyrank that a text names, with its labels.
fn selectors(text: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(PREFIX) {
        if text[..at].chars().next_back().is_some_and(is_of_name) {
            continue;
        }
        let rest = &text[at..];
        let end = rest.find(|character: char| !is_of_name(character)).unwrap_or(rest.len());
        found.push((rest[..end].to_owned(), labels(&rest[end..]).0));
    }
    found
}

/// The series that `/metrics` tells, each with all labels that it has.
fn exported(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        for (name, labels) in selectors(line) {
            series.entry(name).or_default().extend(labels);
        }
    }
    series
}

/// Every query of a dashboard, wherever it stands.
fn queries(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) if matches!(key.as_str(), "expr" | "definition") => {
                        into.push(text.clone());
                    }
                    other => queries(other, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, into)),
        _ => {}
    }
}

fn check(
    file: &str,
    named: &[Selector],
    exported: &BTreeMap<String, BTreeSet<String>>,
) -> Result<()> {
    ensure!(!named.is_empty(), "{file} names no metric");
    for (metric, labels) in named {
        let known = exported
            .get(metric)
            .with_context(|| format!("{file} names `{metric}`, which is not exported"))?;
        for label in labels {
            ensure!(
                known.contains(label) || OF_PROMETHEUS.contains(&label.as_str()),
                "{file} names the label `{label}` of `{metric}`, which has {known:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn alerts_and_dashboard_name_only_what_is_exported() -> Result<()> {
    let installation = Installation::trained()?;
    let server = installation.serve(&["--role", "api"])?;
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await?.text().await?;
    let exported = exported(&metrics);

    let alerts = shipped("alerts.yaml")?;
    check("config/alerts.yaml", &selectors(&alerts), &exported)?;

    let dashboard: Value = serde_json::from_str(&shipped("dashboard.json")?)?;
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    for query in &asked {
        check("config/dashboard.json", &selectors(query), &exported)
            .with_context(|| query.clone())?;
    }
    ensure!(asked.len() > 10, "the dashboard asks only {asked:?}");
    Ok(())
}

#[test]
fn a_metric_or_label_that_is_not_exported_is_noticed() {
    let exported = exported(
        "# HELP whyrank_helped_total Not a series.\n\
         whyrank_requests_total{outcome=\"ok\",route=\"a \\\"b} c\"} 3\nwhyrank_queue_depth 0\n",
    );
    let holds = |text: &str| check("text", &selectors(text), &exported).is_ok();
    assert!(holds("sum(rate(whyrank_requests_total{route=\"x}\", outcome=~\"a|b\"}[5m])) > 1"));
    assert!(holds("whyrank_queue_depth{job=\"x\"} / whyrank_requests_total"));
    assert!(!holds("whyrank_queue_depths"));
    assert!(!holds("whyrank_helped_total"));
    assert!(!holds("whyrank_queue_depth{route=\"x\"}"));
    assert!(!holds("my_whyrank_queue_depth"), "a text that names no metric of ours says nothing");
}

/// The alerts that the unit tests of the rules expect to fire. What they expect stands below the expression
/// that it is the value of.
fn expected_to_fire(text: &str) -> BTreeSet<&str> {
    let mut fired = BTreeSet::new();
    let mut firing = false;
    for line in text.lines() {
        if line.contains("expr: ") {
            firing = line.contains("alertstate=\"firing\"");
        } else if let Some((_, rest)) = line.split_once("alertname=\"")
            && let Some((name, _)) = rest.split_once('"')
            && firing
        {
            fired.insert(name);
        }
    }
    fired
}

#[test]
fn every_alert_has_a_unit_test_in_which_it_fires() -> Result<()> {
    let rules = shipped("alerts.yaml")?;
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let path = repository().join("tests/tests/observability/alerts.yaml");
    let tests = std::fs::read_to_string(path)?;
    ensure!(alerts.len() > 10, "the rules have only {alerts:?}");
    assert_eq!(expected_to_fire(&tests), alerts);
    Ok(())
}

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() -> Result<()> {
    let checks = [
        ["check", "rules", "config/alerts.yaml"],
        ["test", "rules", "tests/tests/observability/alerts.yaml"],
    ];
    for arguments in checks {
        let run = Command::new("promtool").current_dir(repository()).args(arguments).output();
        let output = match run {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: there is no promtool here (Debian: apt install prometheus)");
                return Ok(());
            }
            other => other.context("running promtool")?,
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success(), "promtool {arguments:?}:\n{said}");
    }
    Ok(())
}
