//! Keys that stand in files of their own, such as mounted secrets, which the configuration only names.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use whyrank_plugin::Secret;

use super::load::{Loaded, without_value};
use super::settings::Settings;
use crate::access::AccessKey;

/// What `server.keys_file` holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    keys: Vec<AccessKey>,
}

/// Reads the files that the settings name; what is wrong with one is a fault of the setting.
pub(super) fn read(loaded: &mut Loaded<Settings>) {
    if let Some(path) = loaded.settings.server.keys_file.clone() {
        match api_keys(&path) {
            Ok(keys) => loaded.settings.server.keys_read = keys,
            Err(fault) => loaded.fault("server.keys_file", fault),
        }
    }
    if let Some(path) = loaded.settings.gateway.api_keys_file.clone() {
        match gateway_keys(&path) {
            Ok(keys) => loaded.settings.gateway.api_keys_read = keys,
            Err(fault) => loaded.fault("gateway.api_keys_file", fault),
        }
    }
    for secret in SECRETS {
        let (given, Some(path)) = (secret.given)(&loaded.settings) else { continue };
        if given {
            let also = secret.file.trim_end_matches("_file");
            loaded.fault(secret.file, format!("`{also}` is given too; give one of them"));
            continue;
        }
        match one_secret(&path) {
            Ok(read) => (secret.set)(&mut loaded.settings, read),
            Err(fault) => loaded.fault(secret.file, fault),
        }
    }
}

/// A setting that may stand in a file of its own instead.
struct SecretFile {
    /// The setting that names the file.
    file: &'static str,
    /// Whether the secret is given directly, and the file if there is one.
    given: fn(&Settings) -> (bool, Option<PathBuf>),
    set: fn(&mut Settings, Secret),
}

const SECRETS: [SecretFile; 4] = [
    SecretFile {
        file: "store.server.api_key_file",
        given: |settings| {
            let server = &settings.store.server;
            (!server.api_key.is_empty(), server.api_key_file.clone())
        },
        set: |settings, secret| settings.store.server.api_key = secret,
    },
    SecretFile {
        file: "gateway.upstream_api_key_file",
        given: |settings| {
            let gateway = &settings.gateway;
            (gateway.upstream_api_key.is_some(), gateway.upstream_api_key_file.clone())
        },
        set: |settings, secret| settings.gateway.upstream_api_key = Some(secret),
    },
    SecretFile {
        file: "server.inference_token_file",
        given: |settings| {
            let server = &settings.server;
            (server.inference_token.is_some(), server.inference_token_file.clone())
        },
        set: |settings, secret| settings.server.inference_token = Some(secret),
    },
    SecretFile {
        file: "insights.noise_secret_file",
        given: |settings| {
            let insights = &settings.insights;
            (insights.noise_secret.is_some(), insights.noise_secret_file.clone())
        },
        set: |settings, secret| settings.insights.noise_secret = Some(secret),
    },
];

/// The only line of a file; the file's end of line is no part of it.
fn one_secret(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(Secret::new(line)),
        (None, _) => Err(format!("{shown} is empty; it needs the secret on one line")),
        (Some(_), Some(_)) => Err(format!("{shown} has several lines; it needs one")),
    }
}

// A file without a key must not pass: no key at all would let everybody in.
fn api_keys(path: &Path) -> Result<Vec<AccessKey>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    // The parser's own message would show the line or the value, and with it what somebody took for a digest.
    let file: KeysFile = toml_edit::de::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        format!("{shown}, line {line}: {}", without_value(error.message()))
    })?;
    if file.keys.is_empty() {
        return Err(format!("{shown} holds no `[[keys]]`"));
    }
    Ok(file.keys)
}

fn gateway_keys(path: &Path) -> Result<Vec<Secret>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let keys = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<Secret> = keys.map(Secret::new).collect();
    if keys.is_empty() {
        return Err(format!("{shown} holds no key; it needs one a line"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::super::read_text;
    use crate::access::digest;

    #[test]
    fn secrets_of_files_count_like_secrets_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let section = |file: &str, own: &str| {
            let (section, key) = file.rsplit_once('.').unwrap();
            let keyed = "[gateway]\napi_keys = [\"client\"]\n";
            let head =
                if section == "gateway" { keyed.to_owned() } else { format!("[{section}]\n") };
            format!("{head}{own}{key} = {:?}\n", path.display().to_string())
        };
        for secret in &super::SECRETS {
            std::fs::write(&path, "  hunter2\n\n").unwrap();
            let settings = read_text(&section(secret.file, ""), &[]).unwrap();
            assert!((secret.given)(&settings).0, "{} is read", secret.file);
            let shown = serde_json::to_string(&settings).unwrap();
            assert!(!shown.contains("hunter2"), "{}", secret.file);

            let own = secret.file.rsplit('.').next().unwrap().trim_end_matches("_file");
            let own = format!("{own} = \"hunter3\"\n");
            for (content, own, expected) in [
                ("hunter2", own.as_str(), "given too"),
                ("\n", "", "is empty"),
                ("a\nb", "", "several"),
            ] {
                std::fs::write(&path, content).unwrap();
                let said = read_text(&section(secret.file, own), &[]).unwrap_err().to_string();
                assert!(said.contains(secret.file) && said.contains(expected), "{said}");
                assert!(!said.contains("hunter"), "{said}");
            }
        }
    }

    #[test]
    fn keys_of_files_count_beside_those_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let entry = |name: &str| {
            format!("name = \"{name}\"\nrole = \"search\"\nsha256 = \"{}\"\n", digest(name))
        };
        let keys = write("keys.toml", &format!("[[keys]]\n{}", entry("filed")));
        let clients = write("clients", "one\n\n  two \n");
        let text = format!(
            "[server]\nkeys_file = {keys:?}\n[[server.keys]]\n{}[gateway]\napi_keys = [\"zero\"]\n\
             api_keys_file = {clients:?}\n",
            entry("own")
        );
        let settings = read_text(&text, &[]).unwrap();
        let names: Vec<String> =
            settings.server.all_keys().into_iter().map(|key| key.name).collect();
        assert_eq!(names, ["own", "filed"]);
        let gateway = settings.gateway.keys().clients;
        assert!(gateway.len() == 3 && gateway[2].matches(b"two"));

        let fault = |text: String| read_text(&text, &[]).unwrap_err().to_string();
        let twice = format!("{text}[[server.keys]]\n{}", entry("filed"));
        assert!(fault(twice).contains("name twice"));
        for (content, expected) in [
            ("", "missing field `keys`"),
            ("keys = []", "holds no"),
            ("[[keys]]\nname = 3", "line 2"),
            ("keys = \"hunter2\"", "line 1"),
            ("[[keys]]\nname = \"x\"\nrole = \"admin\"\nsha256 = \"plain\"", "hexadecimal"),
        ] {
            let keys = write("faulty.toml", content);
            let said = fault(format!("[server]\nkeys_file = {keys:?}\n"));
            assert!(said.contains(expected), "{content}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let empty = write("empty", "\n");
        let said = fault(format!("[gateway]\napi_keys_file = {empty:?}\n"));
        assert!(said.contains("line 2: gateway.api_keys_file") && said.contains("one a line"));
        let missing = folder.path().join("missing").display().to_string();
        assert!(fault(format!("[server]\nkeys_file = {missing:?}\n")).contains("server.keys_file"));
    }
}
