//! Configurations that are read, and the faults in them.

use super::*;
use serde::Deserialize;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Inner {
    limit: usize,
    name: String,
    kind: Kind,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Red,
    Blue,
}

#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Outer {
    inner: Inner,
}

impl Default for Inner {
    fn default() -> Self {
        Self { limit: 10, name: "plain".to_owned(), kind: Kind::Red }
    }
}

fn check(text: &str, environment: &[(&str, &str)]) -> Result<Outer, Vec<String>> {
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load_text::<Outer>(text, "test".to_owned(), &environment)
        .and_then(Loaded::finish)
        .map_err(|faults| faults.faults.iter().map(ToString::to_string).collect())
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(check("", &[]), Ok(Outer::default()));
}

#[test]
fn the_environment_wins_over_the_file() {
    let settings = check(
        "[inner]\nlimit = 3\n",
        &[("WHYRANK__INNER__LIMIT", "7"), ("WHYRANK__INNER__NAME", "12")],
    );
    assert_eq!(
        settings.map(|outer| (outer.inner.limit, outer.inner.name)),
        Ok((7, "12".to_owned()))
    );
}

#[test]
fn every_fault_is_reported_with_key_and_line() {
    let faults = check(
        "[inner]\nlimit = \"many\"\nnmae = \"x\"\nkind = \"green\"\n\n[other]\na = 1\n",
        &[("WHYRANK__INNER__NAME", "ok"), ("WHYRANK__INER__X", "1")],
    )
    .unwrap_err();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    assert!(faults[0].starts_with("line 2: inner.limit: invalid type"), "{}", faults[0]);
    assert_eq!(faults[1], "line 3: inner.nmae: unknown key; did you mean `name`?");
    assert!(faults[2].starts_with("line 4: inner.kind: unknown variant `green`"), "{}", faults[2]);
    assert!(faults[3].starts_with("line 6: other: unknown key"), "{}", faults[3]);
    assert!(
        faults[4].starts_with("environment variable WHYRANK__INER__X: iner: unknown key"),
        "{}",
        faults[4]
    );
}

/// What is said of a secret at fault tells what is expected, and does not show what was given.
fn check_secret(text: &str, environment: &[(String, String)], key: &str, expected: &str) {
    let said = crate::config::read_text(text, environment).unwrap_err().to_string();
    let told = format!("{key}: must be {expected}; ");
    assert!(said.contains(&told), "{said} does not contain {told}");
    assert!(!said.contains("hunter2") && !said.contains("7002"), "{said}");
}

#[test]
fn a_secret_of_a_wrong_type_in_the_file_is_not_shown() {
    for (section, line, key, expected) in [
        ("gateway", "api_keys = \"hunter2\"", "gateway.api_keys", "a sequence"),
        ("gateway", "api_keys = [70027002]", "gateway.api_keys", "a string"),
        ("gateway", "upstream_api_key = 70027002", "gateway.upstream_api_key", "a string"),
        ("server", "inference_token = 70027002", "server.inference_token", "a string"),
        ("server", "inference_token = [\"hunter2\"]", "server.inference_token", "a string"),
        ("server", "keys = \"hunter2\"", "server.keys", "a sequence"),
        ("store.server", "api_key = 7002.7002", "store.server.api_key", "a string"),
        ("insights", "noise_secret = 70027002", "insights.noise_secret", "a string"),
    ] {
        check_secret(&format!("[{section}]\n{line}\n"), &[], key, expected);
    }
    let digest = "[[server.keys]]\nname = \"x\"\nrole = \"admin\"\nsha256 = 70027002\n";
    check_secret(digest, &[], "server.keys[0].sha256", "a string");
}

#[test]
fn a_secret_of_a_wrong_type_in_the_environment_is_not_shown() {
    for (name, value, key, expected) in [
        ("GATEWAY__API_KEYS", "hunter2", "gateway.api_keys", "a sequence"),
        ("GATEWAY__API_KEYS", "x, expected hunter2", "gateway.api_keys", "a sequence"),
        ("GATEWAY__API_KEYS", "70027002", "gateway.api_keys", "a sequence"),
        ("GATEWAY__UPSTREAM_API_KEY", "70027002", "gateway.upstream_api_key", "a string"),
        ("SERVER__INFERENCE_TOKEN", "70027002", "server.inference_token", "a string"),
        ("SERVER__KEYS", "hunter2", "server.keys", "a sequence"),
        ("INSIGHTS__NOISE_SECRET", "70027002", "insights.noise_secret", "a string"),
    ] {
        let variable = (format!("{ENVIRONMENT_PREFIX}{name}"), value.to_owned());
        check_secret("", &[variable], key, expected);
    }
}

#[test]
fn text_that_is_no_toml_names_the_line() {
    let faults = check("[inner]\nlimit = = 3\n", &[]).unwrap_err();
    assert!(faults[0].starts_with("line 2: "), "{}", faults[0]);
}

#[test]
fn meaning_can_add_faults_at_the_given_line() {
    let mut loaded = load_text::<Outer>("[inner]\n\nlimit = 0\n", "test".to_owned(), &[]).unwrap();
    loaded.fault("inner.limit", "must be at least 1");
    assert_eq!(
        loaded.finish().unwrap_err().faults[0].to_string(),
        "line 3: inner.limit: must be at least 1"
    );
}
