//! What others' models predict of the same test pairs: the split is written down for them, and what they
//! answer comes into the report beside our own.
//!
//! `tests/peers/run.py` installs such models and has them answer; any other program may do the same.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use whyrank_models::metrics::{auc, mae, rmse};

use super::paired::{Common, Predicted};
use crate::import::ImportedInteraction;

/// Training interactions, with the columns user, item, rating, time.
const TRAINING: &str = "split/train.csv";
/// Test interactions, with the same columns; answers are in its order.
const TEST: &str = "split/test.csv";
/// The answers.
const ANSWERS: &str = "peers.json";
/// The digest of the two tables that answers are of; who answers may leave it beside them.
const MARK: &str = "peers-split.sha256";

/// What one model of others predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAnswers {
    /// What it is called in reports.
    pub name: String,
    /// The package that it is from, with its version.
    pub package: String,
    /// For each of its seeds the ratings of all test interactions, in the order of the table.
    pub ratings: Vec<Vec<f32>>,
}

/// How one model of others did, mean over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerSummary {
    /// What it is called.
    pub name: String,
    /// The package that it is from, with its version.
    pub package: String,
    /// How many seeds it has.
    pub seeds: usize,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Area under the ROC curve, by the predicted rating; none if all or none were liked.
    pub auc: Option<f64>,
}

/// Writes the training and the test part down for others. The test part keeps its order.
///
/// # Errors
/// When a table cannot be written.
pub fn write_split(
    folder: &Path,
    training: &[ImportedInteraction],
    test: &[ImportedInteraction],
) -> Result<()> {
    for (name, rows) in [(TRAINING, training), (TEST, test)] {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let write = || -> Result<()> {
            let mut table = csv::Writer::from_path(&path)?;
            table.write_record(["user", "item", "rating", "time"])?;
            for row in rows {
                let (rating, time) = (row.rating.to_string(), row.time.to_string());
                table.write_record([&row.user, &row.item, &rating, &time])?;
            }
            Ok(table.flush()?)
        };
        write().with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// What others answered, if anything; each checked to be about these test interactions, which are written
/// down.
///
/// # Errors
/// When the file is there and is not what it should be.
pub fn read_answers(folder: &Path, test: usize) -> Result<Vec<PeerAnswers>> {
    let path = folder.join(ANSWERS);
    let Ok(text) = std::fs::read(&path) else { return Ok(Vec::new()) };
    let answers: Vec<PeerAnswers> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a list of answers; remove it", path.display()))?;
    if let Ok(mark) = std::fs::read_to_string(folder.join(MARK)) {
        let mut tables = Vec::new();
        for name in [TRAINING, TEST] {
            let table = folder.join(name);
            tables.extend(
                std::fs::read(&table).with_context(|| format!("reading {}", table.display()))?,
            );
        }
        ensure!(
            mark.trim() == format!("{:x}", Sha256::digest(&tables)),
            "{} is of another split than {TRAINING} and {TEST}: have the models answer anew, or remove it",
            path.display()
        );
    }
    for peer in &answers {
        ensure!(!peer.ratings.is_empty(), "{}: {} has no seed", path.display(), peer.name);
        for ratings in &peer.ratings {
            ensure!(
                ratings.len() == test && ratings.iter().all(|rating| rating.is_finite()),
                "{}: {} answers {} of {test} test interactions, or not with numbers; make it again from {TEST}",
                path.display(),
                peer.name,
                ratings.len()
            );
        }
    }
    Ok(answers)
}

impl PeerAnswers {
    /// What it predicted of the test interactions at these places. Likes are ordered by the rating.
    pub(super) fn at(&self, places: &[usize]) -> Predicted {
        let chosen =
            |ratings: &Vec<f32>| places.iter().map(|place| ratings[*place]).collect::<Vec<f32>>();
        let ratings: Vec<Vec<f32>> = self.ratings.iter().map(chosen).collect();
        Predicted { likes: ratings.clone(), ratings }
    }

    /// How it did on the common test pairs.
    pub(super) fn summary(&self, common: &Common, predicted: &Predicted) -> PeerSummary {
        let Common { actual, liked, .. } = common;
        let mean = |figure: &dyn Fn(&[f32]) -> f64| {
            let figures = predicted.ratings.iter().map(|ratings| figure(ratings));
            figures.sum::<f64>() / predicted.ratings.len() as f64
        };
        let areas: Vec<f64> =
            predicted.likes.iter().filter_map(|ratings| auc(ratings, liked)).collect();
        PeerSummary {
            name: self.name.clone(),
            package: self.package.clone(),
            seeds: self.ratings.len(),
            rmse: mean(&|ratings| rmse(ratings, actual)),
            mae: mean(&|ratings| mae(ratings, actual)),
            auc: (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ratings: Vec<Vec<f32>>) -> PeerAnswers {
        PeerAnswers { name: "SVD".to_owned(), package: "p 1".to_owned(), ratings }
    }

    #[test]
    fn answers_about_other_pairs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_answers(folder.path(), 3).unwrap(), []);
        let good = vec![peer(vec![vec![1.0, 2.0, 3.0]])];
        let path = folder.path().join(ANSWERS);
        std::fs::write(&path, serde_json::to_vec(&good).unwrap()).unwrap();
        assert_eq!(read_answers(folder.path(), 3).unwrap(), good);
        let error = read_answers(folder.path(), 4).unwrap_err().to_string();
        assert!(error.contains("SVD answers 3 of 4"), "{error}");
        // Regression: as many answers about another split were taken for answers about this one.
        write_split(folder.path(), &[], &[]).unwrap();
        std::fs::write(folder.path().join(MARK), "0123").unwrap();
        let error = read_answers(folder.path(), 3).unwrap_err().to_string();
        assert!(error.contains("another split"), "{error}");
        std::fs::remove_file(folder.path().join(MARK)).unwrap();
        std::fs::write(&path, "{}").unwrap();
        assert!(read_answers(folder.path(), 4).unwrap_err().to_string().contains("remove it"));
    }
}
