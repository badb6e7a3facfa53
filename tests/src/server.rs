//! Servers to talk to: one of Whyrank's own, and a real Qdrant where there is one.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// Lines of its log that a server keeps.
const LOG_LINES: usize = 500;

/// A real Qdrant server to test against, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealQdrant {
    /// The address of its gRPC, which the variable `QDRANT_URL` holds.
    pub grpc: String,
    /// The address of its REST, one port below.
    pub rest: String,
}

impl RealQdrant {
    /// The server that `QDRANT_URL` names.
    pub fn named() -> Option<Self> {
        let Ok(grpc) = std::env::var("QDRANT_URL") else {
            eprintln!("skipped: QDRANT_URL does not name the gRPC address of a Qdrant server");
            return None;
        };
        let (host, number) = grpc.rsplit_once(':')?;
        let rest = format!("{host}:{}", number.parse::<u16>().ok()?.checked_sub(1)?);
        Some(Self { grpc, rest })
    }

    /// The ports of REST and gRPC.
    pub fn ports(&self) -> (u16, u16) {
        (port(&self.rest), port(&self.grpc))
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens, such as `http://127.0.0.1:41234`.
    pub url: String,
    /// Where its gateway listens, if it has one.
    pub gateway: Option<Gateway>,
    /// Where health and metrics are served besides, if they are.
    pub health: Option<String>,
    log: Arc<Mutex<VecDeque<String>>>,
}

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Qdrant's REST, such as `http://127.0.0.1:41235`.
    pub rest: String,
    /// Its gRPC.
    pub grpc: String,
}

impl Gateway {
    /// The ports of REST and gRPC.
    pub fn ports(&self) -> (u16, u16) {
        (port(&self.rest), port(&self.grpc))
    }
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
}

impl Server {
    /// Starts a command that serves, and waits until it tells its address.
    ///
    /// # Errors
    /// When it ends before.
    pub fn started(mut command: Command) -> Result<Server> {
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let (mut said, mut gateway, mut health) = (String::new(), None, None);
        let mut lines = BufReader::new(stderr).lines();
        for line in lines.by_ref() {
            let line = line?;
            if let Some(addresses) = line.strip_prefix("gateway on ") {
                let mut urls = addresses.split_whitespace().filter(|word| word.contains("://"));
                gateway = urls
                    .next()
                    .zip(urls.next())
                    .map(|(rest, grpc)| Gateway { rest: rest.to_owned(), grpc: grpc.to_owned() });
            }
            health = health
                .or_else(|| line.strip_prefix("health and metrics also on ").map(str::to_owned));
            if let Some(address) = line.strip_prefix("serving on ") {
                let url = address.split_whitespace().next().unwrap_or_default().to_owned();
                // Goes on reading, so that the server never waits for a full pipe.
                let log = Arc::<Mutex<VecDeque<String>>>::default();
                let kept = log.clone();
                std::thread::spawn(move || {
                    for line in lines.map_while(Result::ok) {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.push_back(line);
                        if kept.len() > LOG_LINES {
                            kept.pop_front();
                        }
                    }
                });
                return Ok(Server { child, url, gateway, health, log });
            }
            said.push_str(&line);
            said.push('\n');
        }
        anyhow::bail!("the server ended before it served:\n{said}")
    }

    /// The last lines that it has logged since it served.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that the process ever had resident, in kilobytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// The memory that the process has resident now, in kilobytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_memory(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, key: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
