//! Starts llama.cpp's OpenAI-compatible server for tests, and a proxy that makes it look busy.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The Python package that carries llama.cpp's own HTTP server, built for any x86-64 processor.
/// Others were tried: source packages compile for minutes, and a prebuilt `llama-server` of another
/// package was compiled for one kind of processor and stopped on this one's instructions.
const PACKAGE: &str = "xllamacpp";
const VERSION: &str = "2026.10.11549";
const SHA256: &str = "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261";
const KEY: &str = "sk-test-key";
const SCRIPT: &str = include_str!("serve.py");

/// A running server. It ends when its standard input closes, which it does however the test process
/// ends: the value that holds the server is a static, and statics are never dropped.
pub(crate) struct LlamaServer {
    /// Address up to and with `/v1`.
    pub base_url: String,
    /// File that holds the API key that the server wants.
    pub key_file: PathBuf,
    address: SocketAddr,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl LlamaServer {
    /// Installs the server where it is not yet, starts it on a free port, and waits until it listens.
    pub(crate) async fn start() -> Self {
        let start = tokio::task::spawn_blocking(start_process);
        let (child, folder, address) = tokio::time::timeout(Duration::from_secs(300), start)
            .await
            .expect("the server listens in time")
            .expect("the server starts");
        let health =
            reqwest::get(format!("http://{address}/health")).await.expect("the server answers");
        assert!(health.status().is_success(), "{health:?}");
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, KEY).unwrap();
        Self {
            base_url: format!("http://{address}/v1"),
            key_file,
            address,
            _child: child,
            _folder: folder,
        }
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn start_process() -> (Child, tempfile::TempDir, SocketAddr) {
    let package = install();
    let model = whyrank_models::weights::require("smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf")
        .expect("weights for the tests are fetched by `make test`");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut child = Command::new("python3")
        .args(["-c", SCRIPT])
        .args([&package, &model])
        .arg(KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .expect("python3 starts");
    let output = BufReader::new(child.stdout.take().unwrap());
    let address = output.lines().map_while(Result::ok).find_map(|line| {
        line.strip_prefix("listening on http://").and_then(|address| address.trim().parse().ok())
    });
    let address = address.unwrap_or_else(|| {
        panic!("the server ended:\n{}", std::fs::read_to_string(&log).unwrap_or_default())
    });
    (child, folder, address)
}

/// Installs the package into the cache folder, once, and names its folder.
fn install() -> PathBuf {
    let weights = whyrank_models::weights::folder().expect("a cache folder");
    let tools = weights.parent().expect("the weights have a parent folder").join("tools");
    let home = tools.join(format!("{PACKAGE}-{VERSION}"));
    if is_installed(&home) {
        return home;
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
        assert!(is_installed(&home), "{}: {error}", home.display());
    }
    home
}

fn is_installed(home: &Path) -> bool {
    home.join(PACKAGE).join("__init__.py").exists()
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
