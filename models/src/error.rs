//! Everything that can go wrong while a network is trained, saved, loaded or run.

use std::path::{Path, PathBuf};

use crate::settings::SettingFault;

/// The result of the calls in this crate that work on networks and vectors.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault in the input, in a model file, or in the computation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An array does not have the size that the model or the other arrays need.
    #[error("{what} has {got}, but needs {expected}")]
    Shape {
        /// The array at fault.
        what: String,
        /// What was needed, such as "width 32".
        expected: String,
        /// What was given, such as "width 16".
        got: String,
    },
    /// An array holds NaN or an infinity.
    #[error(
        "{what} holds {value} at row {row}, column {column}; every value must be a finite number"
    )]
    NotFinite {
        /// The array at fault.
        what: String,
        /// The offending value.
        value: f32,
        /// Row of the first offending value, counted from 0.
        row: usize,
        /// Column of the first offending value, counted from 0.
        column: usize,
    },
    /// There is nothing to work on.
    #[error("{what} is empty: {remedy}")]
    Empty {
        /// What is empty.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A setting has a value that cannot work.
    #[error(transparent)]
    Setting(#[from] SettingFault),
    /// A model file is not there.
    #[error("the model file {} does not exist; run `whyrank train` to make it", path.display())]
    Missing {
        /// Where the file was expected.
        path: PathBuf,
    },
    /// A model file cannot be read as what it claims to be.
    #[error(
        "the model file {} cannot be read ({reason}); it is truncated or was not written by Whyrank: \
         run `whyrank train` again",
        path.display()
    )]
    Unreadable {
        /// The file at fault.
        path: PathBuf,
        /// What the reader tripped over.
        reason: String,
    },
    /// A model file holds another kind of model.
    #[error(
        "the model file {} holds `{got}`, but `{expected}` is needed; check which file the configuration names",
        path.display()
    )]
    Kind {
        /// The file at fault.
        path: PathBuf,
        /// The kind that was needed.
        expected: String,
        /// The kind that the file states.
        got: String,
    },
    /// A model file states a contract that does not fit the data it shall be used on.
    #[error(
        "the model file {} does not fit: {reason}; train it again on the present data",
        path.display()
    )]
    Contract {
        /// The file at fault.
        path: PathBuf,
        /// Which part of the contract differs, and how.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("{stage} was cancelled")]
    Cancelled {
        /// What was under way.
        stage: String,
    },
    /// Training produced numbers that are not finite.
    #[error(
        "{stage} diverged in epoch {epoch}: the loss is not a finite number; lower `learning_rate`"
    )]
    Diverged {
        /// What was under way.
        stage: String,
        /// The epoch, counted from 1.
        epoch: usize,
    },
    /// A system of equations has no stable solution.
    #[error("{what} cannot be solved: the system is singular; raise its regularisation")]
    Singular {
        /// What was being solved.
        what: String,
    },
    /// A file could not be written or read.
    #[error("{action} {} failed", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The training library failed.
    #[error("a tensor operation failed while training")]
    Training(#[from] candle_core::Error),
    /// The inference library failed.
    #[error("running the model file {} failed: {reason}", path.display())]
    Inference {
        /// The model that was run.
        path: PathBuf,
        /// What the runtime reported.
        reason: String,
    },
}

impl Error {
    pub(crate) fn shape(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self::Shape { what: what.into(), expected: expected.into(), got: got.into() }
    }

    pub(crate) fn empty(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Empty { what: what.into(), remedy: remedy.into() }
    }

    pub(crate) fn contract(path: &Path, reason: impl Into<String>) -> Self {
        Self::Contract { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unreadable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason.into() }
    }

    /// The error of reading a model file: a file that is not there is its own case.
    pub(crate) fn reading(path: &Path, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            Self::Missing { path: path.to_owned() }
        } else {
            Self::File { action: "reading", path: path.to_owned(), source }
        }
    }
}
