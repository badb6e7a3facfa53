//! A real headless Chromium, driven through its DevTools protocol: opens pages, presses keys, changes
//! screen and colour scheme, and asks the page what it shows.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The names under which Chromium is installed.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// How long the browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running browser with one page; killed when dropped.
pub(crate) struct Browser {
    child: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    last: u64,
    /// Pages that were loaded while something else was awaited.
    loaded: usize,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A browser that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where Chromium is. `WHYRANK_BROWSER=required` makes its absence a failure; `.ci/run` sets it.
fn program() -> Result<Option<PathBuf>> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&folders)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|program| program.is_file());
    let required = std::env::var("WHYRANK_BROWSER").is_ok_and(|value| value == "required");
    ensure!(
        programs.is_some() || !required,
        "there is no Chromium, and WHYRANK_BROWSER requires one"
    );
    if programs.is_none() {
        eprintln!("NOT RUN: there is no Chromium (Debian: apt install chromium)");
    }
    Ok(programs)
}

impl Browser {
    /// Starts it with an empty profile; none where there is no Chromium.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let Some(program) = program()? else { return Ok(None) };
        let profile = TempDir::new()?;
        let mut child = Command::new(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .args(["--remote-debugging-port=0", "--hide-scrollbars", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("starting Chromium")?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        let address = loop {
            let Some(line) = lines.next() else { bail!("Chromium ended at once:\n{said}") };
            let line = line?;
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.trim().to_owned();
            }
            said.push_str(&line);
            said.push('\n');
        };
        // Goes on reading, so that the browser never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = connect_async(address).await.context("connecting to Chromium")?;
        let session = String::new();
        let mut browser = Self { child, socket, session, last: 0, loaded: 0, _profile: profile };
        let made = browser.ask("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": made["targetId"], "flatten": true });
        let attached = browser.ask("Target.attachToTarget", attach).await?;
        browser.session = attached["sessionId"].as_str().context("a session")?.to_owned();
        browser.ask("Page.enable", json!({})).await?;
        browser.ask("Runtime.enable", json!({})).await?;
        Ok(Some(browser))
    }

    /// The next message; pages that are loaded are counted.
    async fn message(&mut self) -> Result<Value> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let message = next.context("Chromium is silent")?.context("Chromium has left")??;
            if let Message::Text(text) = message {
                let value: Value = serde_json::from_str(&text)?;
                self.loaded += usize::from(value["method"] == "Page.loadEventFired");
                return Ok(value);
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(command.to_string())).await?;
        loop {
            let mut message = self.message().await?;
            if message["id"].as_u64() == Some(self.last) {
                ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
                return Ok(message["result"].take());
            }
        }
    }

    /// Waits until a page was loaded since `loaded` was noted.
    async fn wait(&mut self, before: usize) -> Result<()> {
        while self.loaded <= before {
            self.message().await?;
        }
        Ok(())
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn open(&mut self, url: &str) -> Result<()> {
        let before = self.loaded;
        let answer = self.ask("Page.navigate", json!({ "url": url })).await?;
        ensure!(answer["errorText"].is_null(), "{url}: {answer}");
        self.wait(before).await
    }

    /// What a JavaScript expression is on the page. It runs beside the page's own policy.
    pub(crate) async fn value(&mut self, expression: &str) -> Result<Value> {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", parameters).await?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        Ok(answer["result"]["value"].take())
    }

    /// The same as text.
    pub(crate) async fn text(&mut self, expression: &str) -> Result<String> {
        let value = self.value(expression).await?;
        Ok(value.as_str().with_context(|| format!("{expression} is {value}"))?.to_owned())
    }

    /// Presses and releases a key: `Tab`, `Enter` or `Space`.
    pub(crate) async fn press(&mut self, key: &str) -> Result<()> {
        let (name, code, number, text) = match key {
            "Tab" => ("Tab", "Tab", 9, ""),
            "Enter" => ("Enter", "Enter", 13, "\r"),
            "Space" => (" ", "Space", 32, " "),
            other => bail!("the key {other:?} is not known here"),
        };
        let mut event = json!({ "type": "keyDown", "key": name, "code": code,
                                "windowsVirtualKeyCode": number });
        if !text.is_empty() {
            event["text"] = json!(text);
        }
        self.ask("Input.dispatchKeyEvent", event.clone()).await?;
        event["type"] = json!("keyUp");
        if let Some(event) = event.as_object_mut() {
            event.remove("text");
        }
        self.ask("Input.dispatchKeyEvent", event).await?;
        Ok(())
    }

    /// Presses a key that leads to another page, and waits for it.
    pub(crate) async fn press_and_load(&mut self, key: &str) -> Result<()> {
        let before = self.loaded;
        self.press(key).await?;
        self.wait(before).await
    }

    /// Types a text where the focus is.
    pub(crate) async fn type_text(&mut self, text: &str) -> Result<()> {
        self.ask("Input.insertText", json!({ "text": text })).await?;
        Ok(())
    }

    /// Presses Tab until the expression, which sees the element in focus as `e`, holds.
    pub(crate) async fn tab_to(&mut self, holds: &str) -> Result<()> {
        for _ in 0..200 {
            self.press("Tab").await?;
            let found = format!("(e => Boolean({holds}))(document.activeElement)");
            if self.value(&found).await? == true {
                return Ok(());
            }
        }
        bail!("no element with {holds} is reached by the Tab key")
    }

    /// A screen of this size; a phone's where it is narrow.
    pub(crate) async fn screen(&mut self, width: u32, height: u32) -> Result<()> {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
                                 "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", parameters).await?;
        Ok(())
    }

    /// The reader's choice between `light` and `dark`.
    pub(crate) async fn scheme(&mut self, scheme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": features })).await?;
        Ok(())
    }

    /// Takes a picture of the whole page where `WHYRANK_SCREENSHOTS` names a folder.
    pub(crate) async fn picture(&mut self, name: &str) -> Result<()> {
        use base64::Engine;
        let Some(folder) = std::env::var_os("WHYRANK_SCREENSHOTS") else { return Ok(()) };
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.ask("Page.captureScreenshot", parameters).await?;
        let data = answer["data"].as_str().context("a picture")?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(data)?;
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), bytes)?)
    }
}
