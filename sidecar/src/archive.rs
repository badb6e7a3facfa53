//! Texts that an LLM wrote, kept in a JSON Lines file apart from any store, so that nobody has to write
//! them again: an evaluation makes many stores, and a text may be the work of half a minute. What one seed had
//! written serves all others that learn from the same part of the data, as in operation a text outlives the vectors
//! that chose its evidence.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use whyrank_plugin::{Explanation, Provenance};

/// A JSON Lines file that is read once and then only added to.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Opens or makes the file, with what it holds. A last line that was cut off is dropped.
    ///
    /// # Errors
    /// When the file cannot be read, or a whole line of it is something else.
    pub(crate) fn open<Line: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<Line>)> {
        let named = || format!("the lines of {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(named)?;
        let mut all = String::new();
        file.read_to_string(&mut all).with_context(named)?;
        let whole = all.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)
            .and_then(|()| file.seek(std::io::SeekFrom::End(0)))
            .with_context(named)?;
        let lines = all[..whole].lines().enumerate().map(|(number, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("line {} of {}", number + 1, path.display()))
        });
        let lines = lines.collect::<Result<_>>()?;
        Ok((Self { path: path.to_owned(), file }, lines))
    }

    /// Adds a line; on return it is with the operating system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let adding = || format!("adding to {}", self.path.display());
        self.file.write_all(&bytes).with_context(adding)
    }
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchivedText {
    /// The consumer's id as the data gave it.
    pub user: String,
    /// The item's id as the data gave it.
    pub item: String,
    /// Why the consumer would like the item.
    pub positive: String,
    /// Why the consumer would not.
    pub negative: String,
    /// What wrote it, from what.
    pub provenance: Provenance,
    /// Digest of all that its writer could be told from.
    pub part: String,
}

/// Pair, generator, version of the prompt, and part: a text is of use only where all agree.
type Key = (String, String, String, String, String);

impl ArchivedText {
    fn key(&self) -> Key {
        let Provenance { generator, prompt_version, .. } = &self.provenance;
        key(&self.user, &self.item, [generator, prompt_version, &self.part])
    }
}

fn key(user: &str, item: &str, [generator, prompt, part]: [&str; 3]) -> Key {
    (user.to_owned(), item.to_owned(), generator.to_owned(), prompt.to_owned(), part.to_owned())
}

/// The texts and the file that they are appended to.
#[derive(Debug)]
pub struct TextArchive {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    texts: HashMap<Key, ArchivedText>,
    lines: Lines,
}

impl TextArchive {
    /// Opens or makes the file. A last line that was cut off is dropped: its text is written again.
    ///
    /// # Errors
    /// When the file cannot be read, or a whole line of it is no text.
    pub fn open(path: &Path) -> Result<Self> {
        let (lines, known) = Lines::open(path)?;
        let texts = known.into_iter().map(|text: ArchivedText| (text.key(), text)).collect();
        Ok(Self { inner: Mutex::new(Inner { texts, lines }) })
    }

    /// The text of a pair by this generator and version of prompts, told from this part of the data.
    pub fn find(&self, user: &str, item: &str, written: [&str; 3]) -> Option<ArchivedText> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.texts.get(&key(user, item, written)).cloned()
    }

    /// Adds a text; on return it is with the operating system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&self, text: ArchivedText) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.lines.add(&text)?;
        inner.texts.insert(text.key(), text);
        Ok(())
    }
}

impl ArchivedText {
    /// Both sides.
    pub fn explanation(&self) -> Explanation {
        Explanation { positive: self.positive.clone(), negative: self.negative.clone() }
    }
}

#[cfg(test)]
mod tests {
    use whyrank_plugin::Source;

    use super::*;

    fn text(user: &str, positive: &str) -> ArchivedText {
        ArchivedText {
            user: user.to_owned(),
            item: "item".to_owned(),
            positive: positive.to_owned(),
            negative: "line\nbreak".to_owned(),
            provenance: Provenance {
                generator: "g".to_owned(),
                prompt_version: "p".to_owned(),
                profile_version: "v".to_owned(),
                source: Source::Llm,
                seed: u64::MAX,
                attempts: 1,
                written_at: 0,
            },
            part: "all".to_owned(),
        }
    }

    #[test]
    fn what_is_added_is_found_again_after_a_cut_off_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("texts.jsonl");
        let archive = TextArchive::open(&path).expect("made");
        archive.add(text("one", "a")).expect("added");
        archive.add(text("two", "b")).expect("added");
        drop(archive);
        let bytes = std::fs::read(&path).expect("there");
        std::fs::write(&path, &bytes[..bytes.len() - 3]).expect("cut");
        let archive = TextArchive::open(&path).expect("opened");
        let written = ["g", "p", "all"];
        assert_eq!(archive.find("one", "item", written), Some(text("one", "a")));
        assert_eq!(archive.find("two", "item", written), None);
        assert_eq!(archive.find("one", "item", ["g", "p", "half"]), None);
        archive.add(text("two", "c")).expect("added after the cut");
        drop(archive);
        let archive = TextArchive::open(&path).expect("opened");
        assert_eq!(archive.find("two", "item", written), Some(text("two", "c")));
    }

    #[test]
    fn a_file_of_something_else_is_refused_by_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("texts.jsonl");
        std::fs::write(&path, "{}\n").expect("written");
        let refused = TextArchive::open(&path).expect_err("no text");
        assert!(refused.to_string().contains("line 1"), "{refused}");
    }
}
