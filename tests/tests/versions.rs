//! Versions of the trained models, through the real binary: made by training, verified, switched under
//! requests, rolled back, and never switched to when damaged.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use whyrank::artifacts::{ArtifactPaths, RerankModels};
use whyrank::versions::Golden;
use whyrank_tests::{Installation, Server, until};

/// A trained installation with a second version whose ranker is another.
fn with_two_versions() -> Result<(Installation, String, String)> {
    let installation = Installation::trained()?;
    let first = live(&installation)?;
    let seed = [("WHYRANK__RANKER__TRAINING__SEED", "99")];
    let mut train = installation.command(&["train", "explainer", "ranker", "--json"]);
    let output = train.envs(seed).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let second = live(&installation)?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told["version"] == second.as_str() && first != second, "{told}");
    Ok((installation, first, second))
}

/// The version that `whyrank models list` says is live.
fn live(installation: &Installation) -> Result<String> {
    let versions = installation.json(&["models", "list"])?;
    let versions = versions.as_array().context("a list")?;
    let live: Vec<&Value> = versions.iter().filter(|one| one["live"] == true).collect();
    ensure!(live.len() == 1, "{versions:?}");
    Ok(live[0]["version"].as_str().context("version")?.to_owned())
}

fn version_folder(installation: &Installation, version: &str) -> std::path::PathBuf {
    installation.path().join("models").join("versions").join(version)
}

/// All recommendations of a consumer: their items, and their scores.
async fn ranked(client: &Client, url: &str) -> Result<(BTreeSet<String>, Vec<f64>)> {
    let body = json!({ "user": "1", "limit": 50, "candidates": 50, "explain": false });
    let response = client.post(format!("{url}/v1/recommend")).json(&body).send().await?;
    ensure!(response.status() == StatusCode::OK, "{}", response.text().await?);
    let answer: Value = response.json().await?;
    ensure!(answer["degraded"].is_null(), "{answer}");
    let results = answer["results"].as_array().context("results")?;
    let items: BTreeSet<String> =
        results.iter().filter_map(|one| one["item"].as_str().map(str::to_owned)).collect();
    ensure!(items.len() == 50 && results.len() == 50, "no permutation: {answer}");
    let scores = results.iter().filter_map(|one| one["like"].as_f64()).collect();
    Ok((items, scores))
}

async fn answering(client: &Client, server: &Server) -> Result<String> {
    let answer = client.get(format!("{}/v1/models", server.url)).send().await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    Ok(answer["answering"].as_str().context("answering")?.to_owned())
}

/// Asks until the server answers with this version.
async fn until_answering(client: &Client, server: &Server, version: &str) -> Result<()> {
    until("the server switches", async || Ok(answering(client, server).await? == version)).await
}

async fn activate(client: &Client, server: &Server, version: &str) -> Result<(StatusCode, Value)> {
    let url = format!("{}/v1/models/activate", server.url);
    let response = client.post(url).json(&json!({ "version": version })).send().await?;
    Ok((response.status(), response.json().await?))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

#[test]
fn training_makes_versions_and_one_command_goes_back() -> Result<()> {
    let (installation, first, second) = with_two_versions()?;
    let versions = installation.json(&["models", "list"])?;
    let newest = versions.as_array().and_then(|all| all.last()).context("versions")?;
    assert_eq!(newest["trained"], json!(["explainer.onnx", "ranker.onnx"]), "{versions}");
    let verified = installation.json(&["models", "verify"])?;
    for one in verified.as_array().context("a list")? {
        assert!(one["fault"].is_null(), "{one}");
    }
    let verified = installation.json(&["models", "verify", &second])?;
    // 40 rows with two codes of 32 and two scores, 32 texts with codes, four folded histories.
    assert!(verified[0]["compared"].as_u64() > Some(3_000), "{verified}");
    let with_second = installation.json(&["recommend", "1"])?;
    installation.succeed(&["models", "rollback"])?;
    assert_eq!(live(&installation)?, first);
    let with_first = installation.json(&["recommend", "1"])?;
    assert_ne!(with_first["results"], with_second["results"]);
    installation.succeed(&["models", "activate", &second])?;
    assert_eq!(installation.json(&["recommend", "1"])?["results"], with_second["results"]);
    // The first version of all has vectors and nothing else: the store holds codes it knows nothing of.
    let oldest = versions[0]["version"].as_str().context("version")?;
    assert_ne!(oldest, first);
    let said = installation.fail(&["models", "activate", oldest])?;
    assert!(said.contains("--index"), "{said}");
    assert_eq!(live(&installation)?, second);
    installation.succeed(&["models", "activate", oldest, "--index"])?;
    let degraded = installation.json(&["recommend", "1"])?;
    assert_eq!(degraded["degraded"]["reason"], "no_model");
    Ok(())
}

#[test]
fn a_candidate_is_not_live_and_old_versions_go() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure("[models]\nkeep = 1\n")?;
    let first = live(&installation)?;
    let trained = installation.json(&["train", "ranker", "--candidate"])?;
    let candidate = trained["version"].as_str().context("version")?;
    assert_eq!(live(&installation)?, first);
    let said = installation.fail(&["train", "autoencoder", "--candidate"])?;
    assert!(said.contains("what the store holds"), "{said}");
    let versions = installation.json(&["models", "list"])?;
    let ids: Vec<&str> =
        versions.as_array().into_iter().flatten().filter_map(|v| v["version"].as_str()).collect();
    assert!(ids.contains(&first.as_str()) && ids.contains(&candidate), "{versions}");
    Ok(())
}

#[test]
fn models_of_no_version_still_load_and_become_one() -> Result<()> {
    let installation = Installation::trained()?;
    let before = installation.json(&["recommend", "1"])?;
    installation.without_versions()?;
    assert_eq!(installation.json(&["recommend", "1"])?["results"], before["results"]);
    installation.succeed(&["models", "adopt"])?;
    let version = live(&installation)?;
    assert!(installation.json(&["models", "verify", &version])?[0]["fault"].is_null());
    assert_eq!(installation.json(&["recommend", "1"])?["results"], before["results"]);
    assert!(installation.fail(&["models", "adopt"])?.contains(&version));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_under_requests_is_not_noticed_but_by_the_scores() -> Result<()> {
    let (installation, first, second) = with_two_versions()?;
    installation.configure("[models]\npoll_seconds = 1\n")?;
    let server = Arc::new(installation.serve(&["--role", "api"])?);
    let client = Client::new();
    let (items, of_second) = ranked(&client, &server.url).await?;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (client, url) = (client.clone(), server.url.clone());
            let (stop, asked, items) = (stop.clone(), asked.clone(), items.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let (found, scores) = ranked(&client, &url).await?;
                    ensure!(found == items, "other candidates than before");
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !seen.contains(&scores) {
                        seen.push(scores);
                    }
                }
                Ok(seen)
            })
        })
        .collect();
    for version in [&first, &second, &first, &second, &first] {
        let (status, answer) = activate(&client, &server, version).await?;
        ensure!(status == StatusCode::OK && answer["live"] == version.as_str(), "{answer}");
        ensure!(answering(&client, &server).await? == **version, "{version} does not answer");
    }
    let response = client.post(format!("{}/v1/models/rollback", server.url)).send().await?;
    let answer: Value = response.error_for_status()?.json().await?;
    ensure!(answer["live"] == second.as_str() && answer["before"] == first.as_str(), "{answer}");
    ensure!(live(&installation)? == second, "other processes are not told");
    // Another process switches, and this one notices by itself.
    installation.succeed(&["models", "activate", &first])?;
    until_answering(&client, &server, &first).await?;
    let (_, of_first) = ranked(&client, &server.url).await?;
    stop.store(true, Ordering::Relaxed);
    ensure!(of_first != of_second, "both versions score alike");
    for caller in callers {
        // Each answer is of one version or of the other, and of no mixture.
        for scores in caller.await?? {
            ensure!(scores == of_first || scores == of_second, "scores of neither version");
        }
    }
    ensure!(asked.load(Ordering::Relaxed) > 20, "too few requests to tell");
    Ok(())
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_switches_and_a_damaged_version_is_refused_with_every_damage() -> Result<()> {
    let (installation, first, second) = with_two_versions()?;
    installation.configure("[models]\npoll_seconds = 0\n")?;
    let server = installation.serve(&["--role", "api"])?;
    let client = Client::new();
    installation.succeed(&["models", "activate", &first])?;
    let hangup = ["-HUP", &server.id().to_string()].map(str::to_owned);
    ensure!(std::process::Command::new("kill").args(&hangup).status()?.success(), "no signal");
    until_answering(&client, &server, &first).await?;
    let (_, of_first) = ranked(&client, &server.url).await?;

    let folder = version_folder(&installation, &second);
    let good = installation.path().join("good");
    copy_folder(&folder, &good)?;
    let mut refused = 0;
    for entry in std::fs::read_dir(&good)? {
        let name = entry?.file_name();
        let bytes = std::fs::read(good.join(&name))?;
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        let damages = [
            ("gone", None),
            ("cut", Some(bytes[..bytes.len() / 2].to_vec())),
            ("empty", Some(Vec::new())),
            ("one bit", Some(flipped)),
        ];
        let file = name.to_string_lossy();
        for (kind, damage) in damages {
            match damage {
                Some(damage) => std::fs::write(folder.join(&name), damage)?,
                None => std::fs::remove_file(folder.join(&name))?,
            }
            let (status, answer) = activate(&client, &server, &second).await?;
            let message = answer["error"].as_str().unwrap_or_default();
            ensure!(status == StatusCode::UNPROCESSABLE_ENTITY, "{file}, {kind}: {answer}");
            ensure!(message.contains(file.as_ref()), "{file}, {kind}: {message}");
            let said = installation.fail(&["models", "activate", &second])?;
            ensure!(said.contains(file.as_ref()), "{file}, {kind}: {said}");
            refused += 1;
        }
        std::fs::write(folder.join(&name), &bytes)?;
    }
    ensure!(refused == 32, "{refused} damages");
    ensure!(
        answering(&client, &server).await? == first && live(&installation)? == first,
        "switched"
    );
    ensure!(ranked(&client, &server.url).await?.1 == of_first, "other scores than before");
    let metrics = client.get(format!("{}/metrics", server.url)).send().await?.text().await?;
    let counted = format!("whyrank_model_switches_total{{outcome=\"refused\"}} {refused}");
    ensure!(metrics.contains(&counted), "{metrics}");
    // Whole again, it is switched to.
    let (status, answer) = activate(&client, &server, &second).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    let (status, answer) = activate(&client, &server, "../../models").await?;
    ensure!(status == StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    Ok(())
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_comes_after_it_was_announced_is_refused_until_it_is_there() -> Result<()> {
    let (installation, first, second) = with_two_versions()?;
    installation.configure("[models]\npoll_seconds = 1\n")?;
    installation.succeed(&["models", "activate", &first])?;
    let server = installation.serve(&["--role", "api"])?;
    let client = Client::new();
    let refused = async || -> Result<bool> {
        let metrics = client.get(format!("{}/metrics", server.url)).send().await?.text().await?;
        Ok(metrics.lines().any(|line| line == "whyrank_models_refused 1"))
    };
    ensure!(!refused().await?, "refused without a version to refuse");
    // So does rsync: the file before the folder that it names.
    let (folder, away) = (version_folder(&installation, &second), installation.path().join("away"));
    std::fs::rename(&folder, &away)?;
    let pointer = json!({ "live": second, "previous": [first] });
    std::fs::write(installation.path().join("models/live.json"), pointer.to_string())?;
    until("the version is refused", async || refused().await).await?;
    std::fs::rename(&away, &folder)?;
    let hangup = ["-HUP", &server.id().to_string()].map(str::to_owned);
    ensure!(std::process::Command::new("kill").args(&hangup).status()?.success(), "no signal");
    until_answering(&client, &server, &second).await?;
    until("nothing is refused any more", async || Ok(!refused().await?)).await
}

#[test]
fn models_whose_outputs_are_others_than_the_golden_ones_are_refused() -> Result<()> {
    let (installation, first, second) = with_two_versions()?;
    let paths = |version: &str| ArtifactPaths::new(version_folder(&installation, version));
    let (first, second) = (paths(&first), paths(&second));
    for (models, golden, same) in
        [(&first, &first, true), (&second, &second, true), (&first, &second, false)]
    {
        let models = RerankModels::load(models, 32, 32)?;
        let checked = Golden::read(golden)?.check_rerank(&models, golden);
        match checked {
            Ok(compared) => ensure!(same && compared == 40 * (32 + 32 + 2), "{compared}"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(!same && said.contains("ranker.onnx does not give"), "{said}");
            }
        }
    }
    Ok(())
}

#[test]
fn two_versions_are_compared_on_held_back_pairs() -> Result<()> {
    let (installation, first, second) = with_two_versions()?;
    let compared = installation.json(&["models", "compare", &first, &second])?;
    ensure!(compared["pairs"].as_u64() > Some(100), "{compared}");
    let differences = compared["differences"].as_array().context("differences")?;
    ensure!(differences.len() == 4, "{compared}");
    let number = |value: &Value| value.as_f64().context("a number");
    for one in differences {
        let better = &one["better"];
        let (low, mean) = (number(&better["low"])?, number(&better["mean"])?);
        let high = number(&better["high"])?;
        ensure!(low <= mean && mean <= high && low < high, "{one}");
        ensure!(one["apart"] == (low > 0.0 || high < 0.0), "{one}");
    }
    // The mean difference of squared errors is that of the squares of the RMSE.
    let squared =
        |version: &str| -> Result<f64> { Ok(number(&compared[version]["rmse"])?.powi(2)) };
    let less = squared("first")? - squared("second")?;
    ensure!((less - number(&differences[0]["better"]["mean"])?).abs() < 1e-6, "{compared}");
    // A version is as good as itself.
    let same = installation.json(&["models", "compare", &first, &first])?;
    for one in same["differences"].as_array().context("differences")? {
        ensure!(one["better"]["mean"] == 0.0 && one["apart"] == false, "{same}");
    }
    Ok(())
}

#[test]
fn a_manifest_that_was_changed_is_refused_and_one_command_goes_back() -> Result<()> {
    let (installation, first, second) = with_two_versions()?;
    // The other version's golden outputs, with a manifest that names their hash.
    let (from, to) =
        (version_folder(&installation, &first), version_folder(&installation, &second));
    let golden = from.join("golden.json");
    std::fs::copy(&golden, to.join("golden.json"))?;
    let read = |folder: &Path| -> Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?)
    };
    let entry = |manifest: &Value| -> Option<Value> {
        let files = manifest["files"].as_array()?;
        files.iter().find(|file| file["name"] == "golden.json").cloned()
    };
    let good = entry(&read(&from)?).context("an entry")?;
    let mut manifest = read(&to)?;
    for file in manifest["files"].as_array_mut().context("files")? {
        if file["name"] == "golden.json" {
            *file = good.clone();
        }
    }
    std::fs::write(to.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    // The id is the digest of the manifest, so that even this is told.
    let said = installation.fail(&["models", "verify", &second])?;
    ensure!(said.contains("do not verify"), "{said}");
    let said = installation.fail(&["recommend", "1"])?;
    ensure!(said.contains("manifest.json is not that of version"), "{said}");
    installation.succeed(&["models", "rollback"])?;
    installation.json(&["recommend", "1"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_in_the_shadow_is_measured_and_answers_nothing() -> Result<()> {
    let installation = Installation::trained()?;
    let seed = [("WHYRANK__RANKER__TRAINING__SEED", "99")];
    let mut train = installation.command(&["train", "ranker", "--candidate", "--json"]);
    let told: Value = serde_json::from_slice(&train.envs(seed).output()?.stdout)?;
    let candidate = told["version"].as_str().context("version")?;
    let alone = installation.json(&["recommend", "1"])?;
    installation.configure(&format!(
        "[models]\nshadow = \"{candidate}\"\nshadow_share = 1.0\n\
         [models.feature_log]\npath = \"features.jsonl\"\nshare = 1.0\n"
    ))?;
    let server = installation.serve(&["--role", "api"])?;
    let client = Client::new();
    let body = json!({ "user": "1" });
    const REQUESTS: usize = 20;
    for _ in 0..REQUESTS {
        let response = client.post(format!("{}/v1/recommend", server.url)).json(&body);
        let answer: Value = response.send().await?.error_for_status()?.json().await?;
        ensure!(answer["results"] == alone["results"], "the candidate answers");
    }
    let value = |metrics: &str, series: &str| -> Option<f64> {
        let line = metrics.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let outcome = |kind: &str| format!("whyrank_shadow_model_rankings_total{{outcome=\"{kind}\"}}");
    let wait = async {
        loop {
            let metrics = client.get(format!("{}/metrics", server.url)).send().await?;
            let metrics = metrics.text().await?;
            let done = value(&metrics, &outcome("scored")).unwrap_or_default()
                + value(&metrics, &outcome("dropped")).unwrap_or_default();
            let logged = value(&metrics, "whyrank_feature_log_total{outcome=\"written\"}");
            if done as usize == REQUESTS && logged == Some(REQUESTS as f64) {
                return anyhow::Ok(metrics);
            }
        }
    };
    let limit = std::time::Duration::from_secs(60);
    let metrics = tokio::time::timeout(limit, wait).await.context("not all are counted")??;
    let scored = value(&metrics, &outcome("scored")).context("scored")?;
    let observed = value(&metrics, "whyrank_shadow_model_rank_correlation_count");
    ensure!(observed == Some(scored), "{metrics}");
    let sum = value(&metrics, "whyrank_shadow_model_rank_correlation_sum").context("sum")?;
    let mean = sum / scored;
    ensure!(mean > 0.0 && mean < 0.999, "rank correlation {mean} of another seed");
    let difference = value(&metrics, "whyrank_shadow_model_score_difference_sum");
    ensure!(difference > Some(0.0), "{metrics}");
    // What was logged is what was answered, without a text or a title.
    let log = std::fs::read_to_string(installation.path().join("features.jsonl"))?;
    ensure!(log.lines().count() == REQUESTS, "{} lines", log.lines().count());
    let line: Value = serde_json::from_str(log.lines().next().context("a line")?)?;
    let candidates = line["candidates"].as_array().context("candidates")?;
    let shown = alone["results"].as_array().context("results")?;
    let features = line["context"].as_array().map(Vec::len);
    for (logged, shown) in candidates.iter().zip(shown) {
        let (logged_score, score) = (logged["score"].as_f64(), shown["score"].as_f64());
        ensure!(logged_score.is_some() && logged_score == score, "{logged} and {shown}");
        ensure!(logged["features"].as_array().map(Vec::len) == features, "{logged}");
        ensure!(!log.contains(shown["title"].as_str().context("title")?), "a title in the log");
    }
    ensure!(line["user"].is_string() && features > Some(0), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_cannot_be_used_is_left_out() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure("[models]\nshadow = \"20260101T000000Z-000000000000\"\n")?;
    let server = installation.serve(&["--role", "api"])?;
    let client = Client::new();
    ranked(&client, &server.url).await?;
    let metrics = client.get(format!("{}/metrics", server.url)).send().await?.text().await?;
    ensure!(metrics.contains("whyrank_model_switches_total{outcome=\"refused\"} 1"), "{metrics}");
    Ok(())
}
