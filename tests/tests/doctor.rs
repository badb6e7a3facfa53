//! `whyrank doctor` on a healthy installation and on sick ones: each sickness is found, told with what
//! to do, and decides the exit status.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use whyrank_tests::Installation;

/// What the doctor says, and whether it calls the installation healthy.
fn examined(
    installation: &Installation,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<(bool, Vec<Value>)> {
    let arguments = [&["doctor", "--json"], arguments].concat();
    let output = installation.command(&arguments).envs(variables.iter().copied()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let told: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("no findings: {said}"))?;
    let findings = told["findings"].as_array().cloned().context("findings")?;
    for finding in &findings {
        let sick = finding["state"] != "ok";
        ensure!(
            sick == finding["todo"].is_string(),
            "what to do goes with what is wrong: {finding}"
        );
    }
    Ok((output.status.success(), findings))
}

/// Looks for a finding about `what` in this state whose text holds `words`; a fault must fail the
/// command, and nothing else may.
fn finds(
    installation: &Installation,
    variables: &[(&str, &str)],
    what: &str,
    state: &str,
    words: &str,
) -> Result<()> {
    let (healthy, findings) = examined(installation, &["--no-generate"], variables)?;
    finds_in(healthy, &findings, what, state, words)
}

fn finds_in(healthy: bool, findings: &[Value], what: &str, state: &str, words: &str) -> Result<()> {
    let holds = |finding: &&Value| {
        let text = format!("{} {}", finding["found"], finding["todo"]);
        finding["what"].as_str().is_some_and(|own| own.starts_with(what))
            && finding["state"] == state
            && text.contains(words)
    };
    ensure!(findings.iter().any(|one| holds(&one)), "no {state} of {what}: {findings:#?}");
    let faults = findings.iter().filter(|finding| finding["state"] == "fault").count();
    ensure!(healthy == (faults == 0), "{faults} faults, but success is {healthy}");
    Ok(())
}

#[test]
fn items_without_vectors_are_a_fault_though_models_are_there() -> Result<()> {
    let installation = Installation::trained()?;
    std::fs::remove_dir_all(installation.path().join("store"))?;
    installation.succeed(&["import"])?;
    finds(&installation, &[], "vectors of items", "fault", "whyrank index")?;
    installation.succeed(&["index"])?;
    let (healthy, findings) = examined(&installation, &["--no-generate"], &[])?;
    ensure!(healthy, "{findings:#?}");
    Ok(())
}

#[test]
fn a_healthy_installation_is_called_so() -> Result<()> {
    let installation = Installation::trained()?;
    let (healthy, findings) = examined(&installation, &[], &[])?;
    ensure!(healthy, "{findings:#?}");
    for what in [
        "configuration",
        "weights minilm-int8",
        "weights smollm2-135m",
        "models",
        "disk of the store",
        "collection items",
        "collection users",
        "collection explanations",
        "codes of explanations",
        "server.address",
    ] {
        finds_in(healthy, &findings, what, "ok", "")?;
    }
    // The smallest of models answers; whether all that it writes passes is not a matter of health.
    let generator = findings.iter().find(|one| one["what"] == "generator").context("generator")?;
    ensure!(generator["state"] != "fault", "{generator}");
    let text = installation.succeed(&["doctor", "--no-generate"])?;
    ensure!(text.contains("ok      models: ") && text.contains("0 faults"), "{text}");
    Ok(())
}

#[test]
fn an_installation_without_data_is_told_the_next_command() -> Result<()> {
    let installation = Installation::new()?;
    finds(&installation, &[], "store", "fault", "whyrank import")?;
    finds(&installation, &[], "models", "fault", "whyrank train")?;
    installation.succeed(&["import"])?;
    finds(&installation, &[], "collection items", "ok", "points")?;
    let config = installation.path().join("whyrank.toml");
    std::fs::write(&config, "[rerank]\nlimit = 0\nlimt = 3\n")?;
    finds(&installation, &[], "configuration", "fault", "line 2: rerank.limit")?;
    finds(&installation, &[], "configuration", "fault", "line 3: rerank.limt")
}

#[test]
fn damaged_models_and_missing_weights_are_found() -> Result<()> {
    let installation = Installation::trained()?;
    let empty = installation.path().join("empty");
    std::fs::create_dir(&empty)?;
    let empty = empty.to_string_lossy().into_owned();
    let variables = [("WHYRANK_WEIGHTS", empty.as_str())];
    finds(&installation, &variables, "weights minilm-int8", "fault", "whyrank fetch minilm-int8")?;
    finds(
        &installation,
        &variables,
        "weights smollm2-135m",
        "fault",
        "whyrank fetch smollm2-135m",
    )?;
    let (of_other_settings, live) =
        ([("WHYRANK__RANKER__TRAINING__SEED", "99")], installation.live_models()?);
    finds(&installation, &of_other_settings, "models and settings", "warning", "whyrank train")?;
    let pointer = installation.path().join("models").join("live.json");
    let good = std::fs::read(&pointer)?;
    std::fs::write(&pointer, "{")?;
    finds(&installation, &[], "models", "fault", "live.json is damaged")?;
    std::fs::write(&pointer, &good)?;
    let encoder = live.join("encoder.onnx");
    let mut bytes = std::fs::read(&encoder)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&encoder, &bytes)?;
    finds(&installation, &[], "models", "fault", "encoder.onnx has the SHA-256")?;
    bytes[middle] ^= 1;
    std::fs::write(&encoder, &bytes)?;
    installation.without_versions()?;
    finds(&installation, &[], "models", "warning", "whyrank models adopt")
}

#[test]
fn a_store_that_does_not_fit_is_found() -> Result<()> {
    let installation = Installation::trained()?;
    let code = [("WHYRANK__AUTOENCODER__CODE", "16")];
    finds(&installation, &code, "collection explanations", "fault", "has 32 numbers")?;
    let room = [("WHYRANK__STORE__EMBEDDED__MINIMUM_FREE_BYTES", "1000000000000000")];
    finds(&installation, &room, "disk of the store", "fault", "make room")?;
    // Codes of an encoder that is not live any more.
    let pointer = installation.path().join("models").join("live.json");
    let before = std::fs::read(&pointer)?;
    let seed = [("WHYRANK__AUTOENCODER__PRETRAIN__SEED", "99")];
    let trained = installation.command(&["train", "autoencoder"]).envs(seed).output()?;
    ensure!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    std::fs::write(&pointer, before)?;
    finds(&installation, &[], "codes of explanations", "warning", "whyrank index")?;
    installation.succeed(&["index"])?;
    finds(&installation, &[], "codes of explanations", "ok", "")?;
    let server = installation.serve(&["--role", "api"])?;
    finds(&installation, &[], "store", "warning", "in use")?;
    drop(server);
    finds(&installation, &[], "collection items", "ok", "points")
}

#[test]
fn servers_that_do_not_answer_and_ports_that_are_taken_are_found() -> Result<()> {
    let installation = Installation::trained()?;
    // A port that nothing listens on, as it was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let url = format!("http://{free}");
    let away =
        [("WHYRANK__STORE__BACKEND", "server"), ("WHYRANK__STORE__SERVER__URL", url.as_str())];
    finds(&installation, &away, "store", "fault", "store.server.url")?;
    let base = format!("{url}/v1");
    let llm = [
        ("WHYRANK__GENERATOR__KIND", "openai"),
        ("WHYRANK__GENERATOR__OPENAI__BASE_URL", base.as_str()),
        ("WHYRANK__GENERATOR__OPENAI__MODEL", "m"),
        ("WHYRANK__GENERATOR__OPENAI__RETRIES", "0"),
    ];
    let (healthy, findings) = examined(&installation, &[], &llm)?;
    finds_in(healthy, &findings, "generator", "fault", "generator.openai.base_url")?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let variables = [("WHYRANK__SERVER__ADDRESS", address.as_str())];
    finds(&installation, &variables, "server.address", "warning", "is in use")?;
    let foreign = [("WHYRANK__SERVER__ADDRESS", "203.0.113.1:6380")];
    finds(&installation, &foreign, "server.address", "fault", "cannot be listened on")?;
    let open = [("WHYRANK__SERVER__ADDRESS", "0.0.0.0:0")];
    finds(&installation, &open, "server.keys", "warning", "may ask everything")?;
    let digest = "0".repeat(64);
    installation.configure(&format!(
        "[[server.keys]]\nname = \"a\"\nrole = \"search\"\nsha256 = \"{digest}\"\n\
         [[server.keys]]\nname = \"b\"\nrole = \"search\"\nsha256 = \"{digest}\"\n"
    ))?;
    finds(&installation, &[], "server.keys", "warning", "none has the role `admin`")?;
    finds(&installation, &[], "server.keys", "warning", "are the same key")
}
