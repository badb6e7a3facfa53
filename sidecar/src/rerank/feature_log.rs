//! Logs rankings with their features for later training, if it is asked for: JSON lines in files of
//! bounded size, of which a bounded number is kept.
//!
//! The lines say who was shown what, so that they are personal data: the files can be read by their
//! owner alone, and hold no text, title or name, but the point ids of consumers and items.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use whyrank_plugin::ExplanationState;

use super::observe::{Observed, drawn};
use crate::features::{self, RatingScale};
use crate::metrics::Metrics;

/// What is logged, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureLogSettings {
    /// The file; older ones lie beside it as `NAME.1`, `NAME.2`. Absent logs nothing.
    pub path: Option<PathBuf>,
    /// Share of the rankings that is logged, 0 to 1.
    pub share: f32,
    /// Bytes after which a new file is begun.
    pub maximum_bytes: u64,
    /// Files that are kept, the newest included.
    pub files: usize,
    /// Rankings that may wait to be written; further ones are dropped and counted.
    pub queue: usize,
}

impl Default for FeatureLogSettings {
    fn default() -> Self {
        Self { path: None, share: 0.1, maximum_bytes: 64 << 20, files: 4, queue: 64 }
    }
}

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Seconds since 1970-01-01 UTC.
    time: u64,
    /// The version of the models.
    version: &'a str,
    /// Point id of the consumer; none for one who is only a history.
    user: Option<String>,
    user_vector: &'a [f32],
    /// How many interactions the ranker saw.
    history: usize,
    /// Names of the context features, in the order of `features` below.
    context: &'a [&'static str],
    /// In the order of the answer.
    candidates: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    item: String,
    score: f32,
    retrieval_rank: u32,
    retrieval_score: f32,
    codes: ExplanationState,
    features: Vec<f32>,
}

/// Hands rankings to the log. Cheap to clone; the log ends when all are gone.
#[derive(Debug, Clone)]
pub(crate) struct FeatureLog {
    share: f32,
    queue: SyncSender<Arc<Observed>>,
    metrics: Metrics,
}

impl FeatureLog {
    /// Opens the log, if one is configured.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn start(
        settings: &FeatureLogSettings,
        scale: RatingScale,
        metrics: &Metrics,
    ) -> Result<Option<Self>> {
        let Some(path) = settings.path.clone() else { return Ok(None) };
        let files = Files::open(path, settings.maximum_bytes, settings.files)?;
        let (queue, waiting) = sync_channel(settings.queue);
        let counted = metrics.clone();
        let writing = move || write(&waiting, files, scale, &counted);
        std::thread::Builder::new()
            .name("feature-log".to_owned())
            .spawn(writing)
            .context("starting the thread of the feature log")?;
        Ok(Some(Self { share: settings.share, queue, metrics: metrics.clone() }))
    }

    pub(super) fn draws(&self) -> bool {
        drawn(self.share)
    }

    pub(super) fn offer(&self, observed: Arc<Observed>) {
        if self.queue.try_send(observed).is_err() {
            self.metrics.feature_log.with_label_values(&["dropped"]).inc();
        }
    }
}

fn write(
    waiting: &Receiver<Arc<Observed>>,
    mut files: Files,
    scale: RatingScale,
    metrics: &Metrics,
) {
    while let Ok(observed) = waiting.recv() {
        let written = line(&observed, scale).and_then(|line| files.append(&line));
        let outcome = if written.is_ok() { "written" } else { "failed" };
        metrics.feature_log.with_label_values(&[outcome]).inc();
        if let Err(error) = written {
            tracing::warn!("a ranking was not logged: {error:#}");
        }
    }
}

fn line(observed: &Observed, scale: RatingScale) -> Result<Vec<u8>> {
    let retrieved = &observed.retrieved;
    let rows = observed.order.iter().map(|place| {
        let item = &retrieved.items[*place];
        Row {
            item: item.candidate.item.to_string(),
            score: observed.values[*place],
            retrieval_rank: item.candidate.retrieval_rank,
            retrieval_score: item.candidate.retrieval_score,
            codes: observed.states[*place],
            features: features::context(&retrieved.consumer, &item.vector, item.statistics, scale),
        }
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = serde_json::to_vec(&Line {
        time: now.as_secs(),
        version: &observed.version,
        user: retrieved.user_id().map(|user| user.to_string()),
        user_vector: &retrieved.consumer.vector,
        history: retrieved.consumer.history.len(),
        context: &features::CONTEXT,
        candidates: rows.collect(),
    })?;
    line.push(b'\n');
    Ok(line)
}

/// The file that is written and the older ones beside it.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    maximum_bytes: u64,
    kept: usize,
    file: File,
    bytes: u64,
}

impl Files {
    fn open(path: PathBuf, maximum_bytes: u64, kept: usize) -> Result<Self> {
        let file = Self::opened(&path)?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Self { path, maximum_bytes, kept, file, bytes })
    }

    fn opened(path: &PathBuf) -> Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).with_context(|| {
            format!("opening the feature log {} (`models.feature_log.path`)", path.display())
        })
    }

    /// Appends a line whole; one that is larger than a file may be is refused.
    fn append(&mut self, line: &[u8]) -> Result<()> {
        let length = line.len() as u64;
        anyhow::ensure!(
            length <= self.maximum_bytes,
            "its line has {length} bytes, more than `models.feature_log.maximum_bytes`"
        );
        if self.bytes + length > self.maximum_bytes {
            self.rotate()?;
        }
        self.file.write_all(line).with_context(|| format!("writing {}", self.path.display()))?;
        self.bytes += length;
        Ok(())
    }

    fn older(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Begins a new file; the oldest one goes.
    fn rotate(&mut self) -> Result<()> {
        for number in (1..self.kept).rev() {
            let from = if number == 1 { self.path.clone() } else { self.older(number - 1) };
            if from.exists() {
                std::fs::rename(&from, self.older(number))
                    .with_context(|| format!("moving {}", from.display()))?;
            }
        }
        if self.kept <= 1 {
            std::fs::remove_file(&self.path)
                .with_context(|| format!("removing {}", self.path.display()))?;
        }
        self.file = Self::opened(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_within_their_bounds_and_lines_whole() {
        let folder = tempfile::tempdir().unwrap();
        for kept in [1, 3] {
            let path = folder.path().join(format!("log-{kept}.jsonl"));
            let mut files = Files::open(path, 100, kept).unwrap();
            for number in 0..40 {
                files.append(format!("{{\"number\":{number:02}}}\n").as_bytes()).unwrap();
            }
            assert!(files.append(&[b'x'; 101]).is_err());
            let mut newest = Vec::new();
            for number in 0..5 {
                let path = if number == 0 { files.path.clone() } else { files.older(number) };
                assert_eq!(path.exists(), number < kept, "{}", path.display());
                if let Ok(text) = std::fs::read_to_string(&path) {
                    assert!(text.len() <= 100 && text.ends_with('\n'), "{text}");
                    newest.extend(text.lines().rev().map(str::to_owned).collect::<Vec<_>>());
                }
            }
            assert_eq!(newest[0], "{\"number\":39}");
            assert_eq!(newest.len(), newest.iter().collect::<std::collections::HashSet<_>>().len());
        }
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        Files::open(path.clone(), 100, 2).unwrap().append(b"one\n").unwrap();
        Files::open(path.clone(), 100, 2).unwrap().append(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(&path).unwrap().permissions(),
            );
            assert_eq!(mode & 0o777, 0o600, "others can read it");
        }
    }
}
