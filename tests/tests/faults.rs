//! What goes wrong in real installations: killed processes, damaged files, two processes on one
//! store, a configuration full of faults.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use whyrank_tests::Installation;

#[test]
fn a_second_process_on_one_store_is_refused() -> Result<()> {
    let installation = Installation::trained()?;
    let server = installation.serve(&["--role", "api"])?;
    let said = installation.fail(&["recommend", "1"])?;
    assert!(said.contains("in use by") && said.contains(&server.id().to_string()), "{said}");
    drop(server);
    installation.succeed(&["recommend", "1"])?;
    Ok(())
}

/// Starts a command, kills it without warning once it says `sign`, and lets `check` look at what is left.
fn kill_when(installation: &Installation, arguments: &[&str], sign: &str) -> Result<()> {
    let mut child = installation.command(arguments).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().context("standard error is piped")?;
    let seen =
        BufReader::new(stderr).lines().any(|line| line.is_ok_and(|line| line.contains(sign)));
    child.kill()?;
    child.wait()?;
    assert!(seen, "{arguments:?} never said {sign:?}");
    Ok(())
}

#[test]
fn generating_goes_on_after_a_kill_and_writes_nothing_twice() -> Result<()> {
    let installation = Installation::new()?;
    installation.succeed(&["import"])?;
    installation.succeed(&["train", "vectors"])?;
    let arguments = ["generate", "--generator", "template", "--pairs", "2000"];
    kill_when(&installation, &arguments, "writing explanations")?;
    let second = installation.json(&arguments)?;
    let count = |report: &serde_json::Value, key: &str| report[key].as_u64().unwrap_or(u64::MAX);
    assert_eq!(count(&second, "template") + count(&second, "reused"), 2000, "{second}");
    let third = installation.json(&arguments)?;
    assert_eq!((count(&third, "template"), count(&third, "reused")), (0, 2000), "{third}");
    Ok(())
}

#[test]
fn indexing_goes_on_after_a_kill() -> Result<()> {
    let installation = Installation::trained()?;
    for sign in ["writing item vectors", "writing user vectors", "building search indexes"] {
        kill_when(&installation, &["index"], sign)?;
    }
    let report = installation.json(&["index"])?;
    assert_eq!(report["encoded"], 0, "all codes were written before: {report}");
    assert_eq!(report["current"], 300, "{report}");
    let response = installation.json(&["recommend", "1"])?;
    assert_eq!(response["degraded"], serde_json::Value::Null);
    Ok(())
}

#[test]
fn a_training_that_is_killed_leaves_the_live_models() -> Result<()> {
    let installation = Installation::trained()?;
    let live = installation.live_models()?;
    let versions = installation.json(&["models", "list"])?;
    let before = installation.json(&["recommend", "1"])?;
    kill_when(&installation, &["train", "explainer", "ranker"], "gathering rated pairs")?;
    assert_eq!(installation.live_models()?, live);
    assert_eq!(installation.json(&["models", "list"])?, versions, "half a version is none");
    assert_eq!(installation.json(&["recommend", "1"])?["results"], before["results"]);
    installation.succeed(&["train", "ranker"])?;
    assert_ne!(installation.live_models()?, live);
    Ok(())
}

#[test]
fn a_damaged_or_foreign_model_is_refused_at_start() -> Result<()> {
    let installation = Installation::trained()?;
    // Of no version, so that only their contracts tell what they are.
    installation.without_versions()?;
    let models = installation.path().join("models");
    let ranker = models.join("ranker.onnx");
    let good = std::fs::read(&ranker)?;
    let check = |bytes: &[u8], expected: &str| -> Result<()> {
        std::fs::write(&ranker, bytes)?;
        let said = installation.fail(&["recommend", "1"])?;
        assert!(said.contains("ranker.onnx") && said.contains(expected), "{said}");
        Ok(())
    };
    check(&good[..good.len() / 2], "whyrank train")?;
    check(b"", "whyrank train")?;
    check(&std::fs::read(models.join("explainer.onnx"))?, "`explainer`")?;
    std::fs::write(&ranker, &good)?;
    // Another code width in the configuration than in the files.
    let other = [("WHYRANK__AUTOENCODER__CODE", "16")];
    let output = installation.command(&["recommend", "1"]).envs(other).output()?;
    assert!(!output.status.success());
    std::fs::remove_file(&ranker)?;
    let degraded = installation.json(&["recommend", "1"])?;
    assert_eq!(
        degraded["degraded"]["reason"], "no_model",
        "without a ranker the order is Qdrant's"
    );
    Ok(())
}

#[test]
fn a_configuration_tells_all_its_faults() -> Result<()> {
    let installation = Installation::new()?;
    let text = "[rerank]\nlimit = 0\nlimt = 3\n[server]\naddress = \"here\"\n";
    std::fs::write(installation.path().join("whyrank.toml"), text)?;
    let said = installation.fail(&["check"])?;
    for expected in
        ["3 faults", "line 2: rerank.limit", "line 3: rerank.limt", "line 5: server.address"]
    {
        assert!(said.contains(expected), "{said}");
    }
    Ok(())
}

#[test]
fn a_check_tells_which_column_a_table_lacks_and_that_it_has_no_rows() -> Result<()> {
    let installation = Installation::new()?;
    let checked = || -> Result<(bool, String)> {
        let output = installation.command(&["check"]).output()?;
        Ok((output.status.success(), String::from_utf8(output.stdout)?))
    };
    let (sound, said) = checked()?;
    assert!(sound, "{said}");
    installation.replace("\"rating:float\"", "\"stars\"")?;
    let (sound, said) = checked()?;
    assert!(!sound && said.contains("no column `stars`"), "{said}");
    installation.replace("\"stars\"", "\"rating:float\"")?;
    let table = installation.path().join("interactions.tsv");
    let header = std::fs::read_to_string(&table)?.lines().next().map(str::to_owned);
    std::fs::write(&table, header.context("a header")? + "\n")?;
    let (sound, said) = checked()?;
    assert!(!sound && said.contains("has no rows"), "{said}");
    let said = installation.fail(&["import"])?;
    assert!(said.contains("has no rows"), "{said}");
    Ok(())
}

#[test]
fn missing_weights_are_told_with_the_command_that_fetches_them() -> Result<()> {
    let installation = Installation::trained()?;
    let empty = installation.path().join("empty");
    std::fs::create_dir(&empty)?;
    let output =
        installation.command(&["explain", "1", "50"]).env("WHYRANK_WEIGHTS", &empty).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("whyrank fetch"), "{said}");
    Ok(())
}
