//! TLS of the API and the gateway through the real binary: who is let in, and keys and certificates that
//! change while the server serves.

mod certificates;

#[cfg(unix)]
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use certificates::Authority;
use reqwest::{Client, StatusCode, Version};
use serde_json::json;
use whyrank_tests::{Installation, Server, until};

/// Both listeners with one certificate.
const TLS: &str = "certificate = \"server.pem\"\ncertificate_key = \"server.key\"\n";

/// Puts settings at the head of both sections.
fn configure(installation: &Installation, server: &str, gateway: &str) -> Result<()> {
    installation.replace("[server]\n", &format!("[server]\n{server}"))?;
    installation.replace("[gateway]\n", &format!("[gateway]\n{gateway}"))
}

async fn status(client: &Client, url: String) -> Result<StatusCode> {
    Ok(client.get(url).send().await?.status())
}

fn gateway(server: &Server) -> Result<String> {
    Ok(server.gateway.as_ref().context("a gateway")?.rest.clone())
}

#[tokio::test]
async fn with_mutual_tls_only_clients_of_the_authority_get_in() -> Result<()> {
    let (servers, clients, others) =
        (Authority::new("servers")?, Authority::new("clients")?, Authority::new("others")?);
    let installation = Installation::new()?;
    servers.sign()?.write(installation.path())?;
    std::fs::write(installation.path().join("clients.pem"), clients.pem())?;
    let mutual = format!("{TLS}client_certificate_authority = \"clients.pem\"\n");
    let with_health = format!("{mutual}health_address = \"127.0.0.1:0\"\n");
    configure(&installation, &with_health, &mutual)?;
    let server = installation.serve(&["--role", "api", "--role", "gateway"])?;
    let (api, rest) = (server.url.clone(), gateway(&server)?);
    ensure!(api.starts_with("https://") && rest.starts_with("https://"), "{api} {rest}");

    let known = servers.client(Some(&clients.sign()?))?;
    let answer = known.get(format!("{api}/healthz")).send().await?;
    ensure!((answer.status(), answer.version()) == (StatusCode::OK, Version::HTTP_2), "{answer:?}");
    ensure!(status(&known, format!("{rest}/collections")).await? == StatusCode::OK);

    let refused = [
        ("no certificate", servers.client(None)?),
        ("another authority's certificate", servers.client(Some(&others.sign()?))?),
        ("no trust in the server", others.client(Some(&clients.sign()?))?),
    ];
    for (what, client) in &refused {
        for url in [format!("{api}/healthz"), format!("{rest}/collections")] {
            ensure!(client.get(&url).send().await.is_err(), "{what}: {url} answered");
        }
    }
    let plain = format!("{}/healthz", api.replace("https", "http"));
    ensure!(Client::new().get(&plain).send().await.is_err(), "{plain} answered");

    // Probes have no certificate; they reach health and metrics, and nothing else.
    let health = server.health.as_ref().context("an address for health")?;
    ensure!(status(&Client::new(), format!("{health}/healthz")).await? == StatusCode::OK);
    ensure!(status(&Client::new(), format!("{health}/metrics")).await? == StatusCode::OK);
    let other = status(&Client::new(), format!("{health}/openapi.json")).await?;
    ensure!(other == StatusCode::NOT_FOUND, "{other}");
    Ok(())
}

/// Makes a key for the API and the text of the file that lets its holder in.
fn made(installation: &Installation, name: &str) -> Result<(String, String)> {
    let made = installation.json(&["key", "--name", name, "--role", "search"])?;
    let (key, digest) = (made["key"].as_str(), made["entry"]["sha256"].as_str());
    let (key, digest) = key.zip(digest).context("a key and its digest")?;
    let entry = format!("[[keys]]\nname = \"{name}\"\nrole = \"search\"\nsha256 = \"{digest}\"\n");
    Ok((key.to_owned(), entry))
}

/// How often keys and certificates were read again, with this outcome.
async fn reloads(client: &Client, server: &Server, outcome: &str) -> Result<bool> {
    let metrics = client.get(format!("{}/metrics", server.url)).send().await?.text().await?;
    Ok(metrics.contains(&format!("whyrank_reloads_total{{outcome=\"{outcome}\"}} 1")))
}

/// Whether the API knows a key; what it answers then does not matter.
async fn known(client: &Client, server: &Server, key: &str) -> Result<bool> {
    let request = client.post(format!("{}/v1/recommend", server.url)).header("api-key", key);
    let status = request.json(&json!({ "user": "1" })).send().await?.status();
    Ok(status != StatusCode::UNAUTHORIZED)
}

#[tokio::test]
async fn keys_and_certificates_rotate_and_faulty_ones_leave_the_old_in_force() -> Result<()> {
    let (first, second) = (Authority::new("first")?, Authority::new("second")?);
    let installation = Installation::new()?;
    let folder = installation.path().to_owned();
    let ((old, old_entry), (new, new_entry)) =
        (made(&installation, "old")?, made(&installation, "new")?);
    first.sign()?.write(&folder)?;
    std::fs::write(folder.join("keys.toml"), &old_entry)?;
    let server = format!("{TLS}keys_file = \"keys.toml\"\nreload_seconds = 0\n");
    configure(&installation, &server, TLS)?;
    let server = installation.serve(&["--role", "api", "--role", "gateway"])?;
    let hang_up = || -> Result<()> {
        let told = Command::new("kill").args(["-HUP", &server.id().to_string()]).status()?;
        ensure!(told.success(), "{told}");
        Ok(())
    };
    let client = first.client(None)?;
    ensure!(known(&client, &server, &old).await? && !known(&client, &server, &new).await?);

    second.sign()?.write(&folder)?;
    std::fs::write(folder.join("keys.toml"), &new_entry)?;
    hang_up()?;
    // The old connection is still open, and the only one that trusts the old authority.
    until("the new files are in force", async || reloads(&client, &server, "ok").await).await?;
    let client = second.client(None)?;
    ensure!(!known(&client, &server, &old).await?, "the old key is still let in");
    ensure!(known(&client, &server, &new).await?, "the new key is not let in");
    ensure!(status(&client, format!("{}/collections", gateway(&server)?)).await?.is_success());
    for url in [format!("{}/healthz", server.url), format!("{}/collections", gateway(&server)?)] {
        ensure!(first.client(None)?.get(&url).send().await.is_err(), "{url}: the old certificate");
    }

    // A good key file does not count either while the certificate is damaged.
    std::fs::write(folder.join("server.pem"), "no certificate")?;
    std::fs::write(folder.join("keys.toml"), &old_entry)?;
    hang_up()?;
    until("the fault is told", async || reloads(&client, &server, "failed").await).await?;
    let fresh = second.client(None)?;
    ensure!(known(&fresh, &server, &new).await? && !known(&fresh, &server, &old).await?);
    let metrics = fresh.get(format!("{}/metrics", server.url)).send().await?.text().await?;
    ensure!(metrics.contains("whyrank_reload_faulty 1"), "{metrics}");
    let told = server.log().iter().any(|line| line.contains("server.pem"));
    ensure!(told, "the log does not name the file: {:?}", server.log());

    // A file without keys would let everybody in.
    second.sign()?.write(&folder)?;
    std::fs::write(folder.join("keys.toml"), "keys = []\n")?;
    hang_up()?;
    until("the empty file is told", async || {
        Ok(server.log().iter().any(|line| line.contains("holds no `[[keys]]`")))
    })
    .await?;
    let nobody = status(&fresh, format!("{}/openapi.json", server.url)).await?;
    ensure!(nobody == StatusCode::UNAUTHORIZED, "{nobody}");
    Ok(())
}

#[tokio::test]
async fn changed_files_are_found_without_a_signal() -> Result<()> {
    let installation = Installation::new()?;
    let keys = installation.path().join("gateway.keys");
    std::fs::write(&keys, "old\n")?;
    configure(&installation, "reload_seconds = 1\n", "api_keys_file = \"gateway.keys\"\n")?;
    let server = installation.serve(&["--role", "gateway"])?;
    let (client, url) = (Client::new(), format!("{}/collections", gateway(&server)?));
    let asked = async |key: &str| -> Result<StatusCode> {
        Ok(client.get(&url).header("api-key", key).send().await?.status())
    };
    ensure!(asked("old").await? == StatusCode::OK);
    ensure!(asked("new").await? == StatusCode::UNAUTHORIZED);
    std::fs::write(&keys, "new\n")?;
    until("the new key is let in", async || Ok(asked("new").await? == StatusCode::OK)).await?;
    ensure!(asked("old").await? == StatusCode::UNAUTHORIZED);
    Ok(())
}

/// Starts the gateway on a trained installation with the key `old`, and makes the key `new` in its place while
/// the server waits for its models, after it has read its settings. Then `meanwhile` gets the server's
/// process id.
#[cfg(unix)]
fn rotated_during_the_start(
    server: &str,
    meanwhile: impl FnOnce(&str) -> Result<()> + Send + 'static,
) -> Result<(Installation, Server)> {
    let installation = Installation::trained()?;
    let folder = installation.path().to_owned();
    std::fs::write(folder.join("gateway.keys"), "old\n")?;
    configure(&installation, server, "api_keys_file = \"gateway.keys\"\n")?;
    // A pipe in the place of the file that says which models are live: the server reads it when it loads
    // them, and waits until somebody writes.
    let (pointer, whole) = (folder.join("models/live.json"), folder.join("live.json"));
    std::fs::rename(&pointer, &whole)?;
    ensure!(Command::new("mkfifo").arg(&pointer).status()?.success(), "no pipe");
    std::thread::spawn(move || -> Result<()> {
        // Opening it waits for the server. If anything fails, the server reads nothing and ends.
        let mut pipe = std::fs::OpenOptions::new().write(true).open(&pointer)?;
        std::fs::write(folder.join("gateway.keys"), "new\n")?;
        meanwhile(std::fs::read_to_string(folder.join("process"))?.trim())?;
        std::fs::rename(&whole, &pointer)?;
        Ok(pipe.write_all(&std::fs::read(&pointer)?)?)
    });
    // The shell becomes the server, so that its process id is known before it serves.
    let mut command = Command::new("sh");
    command
        .current_dir(installation.path())
        .args(["-c", "echo $$ > process; exec \"$0\" \"$@\""])
        .arg(whyrank_tests::binary())
        .args(["--config", "whyrank.toml", "serve", "--role", "gateway"]);
    let server = Server::started(command)?;
    Ok((installation, server))
}

/// Waits until the gateway lets the key `new` in, and `old` no more.
#[cfg(unix)]
async fn until_rotated(server: &Server) -> Result<()> {
    let (client, url) = (Client::new(), format!("{}/collections", gateway(server)?));
    let asked = async |key: &str| -> Result<StatusCode> {
        Ok(client.get(&url).header("api-key", key).send().await?.status())
    };
    until("the new key is let in", async || Ok(asked("new").await? == StatusCode::OK)).await?;
    ensure!(asked("old").await? == StatusCode::UNAUTHORIZED);
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn keys_that_rotate_during_the_start_are_found() -> Result<()> {
    let (_installation, server) = rotated_during_the_start("reload_seconds = 1\n", |_| Ok(()))?;
    until_rotated(&server).await
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_during_the_start_counts_and_does_not_end_the_process() -> Result<()> {
    let hang_up = |process: &str| -> Result<()> {
        ensure!(Command::new("kill").args(["-HUP", process]).status()?.success(), "no signal");
        Ok(())
    };
    let (_installation, server) = rotated_during_the_start("reload_seconds = 0\n", hang_up)?;
    until_rotated(&server).await
}

/// Status of a request that needs the store, and of one that needs the token of inference.
async fn by_file(
    client: &Client,
    server: &Server,
    token: &str,
) -> Result<(StatusCode, StatusCode)> {
    let recommend =
        client.post(format!("{}/v1/recommend", server.url)).json(&json!({ "user": "1" }));
    let input =
        json!({ "data": "sea", "data_type": "text", "model": "whyrank/text", "options": null });
    let body = json!({ "inputs": [input], "inference": "search", "token": token });
    let inference = client.post(format!("{}/", server.url)).json(&body);
    Ok((recommend.send().await?.status(), inference.send().await?.status()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_the_store_and_of_inference_change_without_a_restart() -> Result<()> {
    let behind = Installation::trained()?;
    std::fs::write(behind.path().join("keys"), "old\n")?;
    configure(&behind, "reload_seconds = 1\n", "api_keys_file = \"keys\"\n")?;
    let engine = behind.serve(&["--role", "gateway"])?;

    let front = Installation::beside(&engine)?;
    for name in ["store.key", "token"] {
        std::fs::write(front.path().join(name), "old\n")?;
    }
    let server = "reload_seconds = 1\ninference_token_file = \"token\"\n";
    configure(&front, server, "")?;
    let named = "[store.server]\napi_key_file = \"store.key\"\n";
    front.replace("[store.server]\n", named)?;
    let server = front.serve(&["--role", "api"])?;
    let client = Client::new();
    let both = (StatusCode::OK, StatusCode::OK);
    ensure!(by_file(&client, &server, "old").await? == both);

    std::fs::write(behind.path().join("keys"), "new\n")?;
    until("the engine refuses the old key", async || {
        Ok(by_file(&client, &server, "old").await?.0 != StatusCode::OK)
    })
    .await?;
    for name in ["store.key", "token"] {
        std::fs::write(front.path().join(name), "new\n")?;
    }
    until("the new key and token count", async || {
        Ok(by_file(&client, &server, "new").await? == both)
    })
    .await?;
    ensure!(by_file(&client, &server, "old").await?.1 == StatusCode::UNAUTHORIZED);

    // Without a token everybody could ask for vectors.
    front.replace("inference_token_file = \"token\"\n", "")?;
    until("the missing token is told", async || {
        Ok(server.log().iter().any(|line| line.contains("`server.inference_token` would be gone")))
    })
    .await?;
    ensure!(by_file(&client, &server, "none").await?.1 == StatusCode::UNAUTHORIZED);
    Ok(())
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_at_the_start() -> Result<()> {
    let installation = Installation::new()?;
    Authority::new("one")?.sign()?.write(installation.path())?;
    let other = Authority::new("two")?.sign()?;
    std::fs::write(installation.path().join("server.key"), &other.key)?;
    configure(&installation, TLS, "")?;
    let said = installation.fail(&["serve", "--role", "api"])?;
    ensure!(said.contains("server.certificate") && said.contains("server.pem"), "{said}");
    Ok(())
}
