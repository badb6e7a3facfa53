//! Which version is live, which was before, which go, and when one that was refused is verified again.

use std::time::{Duration, Instant};

use super::folder::{POINTER, VERSIONS};
use super::{Dimensions, LiveModels, ModelFolder, ModelKeeper, ModelSettings};
use crate::metrics::Metrics;

/// A models folder with these versions, whose files are not looked at here.
fn folder(versions: &[&str]) -> (tempfile::TempDir, ModelFolder) {
    let root = tempfile::tempdir().unwrap();
    for version in versions {
        std::fs::create_dir_all(root.path().join(VERSIONS).join(version)).unwrap();
    }
    let folder = ModelFolder::new(root.path());
    (root, folder)
}

#[test]
fn rolling_back_twice_goes_back_two_versions() {
    let (_root, folder) = folder(&["1", "2", "3"]);
    assert_eq!(folder.live_version().unwrap(), None);
    assert!(folder.before().is_err());
    for version in ["1", "2", "3", "3"] {
        folder.activate(version).unwrap();
    }
    for expected in ["2", "1"] {
        let before = folder.before().unwrap();
        assert_eq!(before, expected);
        folder.roll_back_to(&before).unwrap();
        assert_eq!(folder.live_version().unwrap().as_deref(), Some(expected));
    }
    let error = folder.before().unwrap_err().to_string();
    assert!(error.contains("no version before 1"), "{error}");
    // What was left can be made live again.
    folder.activate("3").unwrap();
    assert_eq!(folder.before().unwrap(), "1");
}

#[test]
fn a_version_that_is_gone_is_passed_over() {
    let (root, folder) = folder(&["1", "2", "3"]);
    for version in ["1", "2", "3"] {
        folder.activate(version).unwrap();
    }
    std::fs::remove_dir(root.path().join(VERSIONS).join("2")).unwrap();
    assert_eq!(folder.before().unwrap(), "1");
    assert!(folder.activate("2").is_err());
}

#[test]
fn old_versions_go_and_the_live_one_and_the_one_before_stay() {
    let (_root, folder) = folder(&["1", "2", "3", "4", "5"]);
    folder.activate("1").unwrap();
    folder.activate("2").unwrap();
    let removed = folder.prune(2, &[]).unwrap();
    assert_eq!(removed, ["3"], "1 was before, 2 is live, 4 and 5 are the newest");
    assert_eq!(folder.prune(1, &["4"]).unwrap(), Vec::<String>::new());
    assert_eq!(folder.ids().unwrap(), ["1", "2", "4", "5"]);
}

#[test]
fn an_id_does_not_lead_out_of_the_folder() {
    let (root, folder) = folder(&["1"]);
    std::fs::create_dir(root.path().join("other")).unwrap();
    for id in ["", "..", "../other", "1/../../other", "/tmp", "2"] {
        assert!(folder.version(id).is_err(), "{id}");
        assert!(folder.activate(id).is_err(), "{id}");
    }
}

#[test]
fn a_damaged_pointer_is_told_and_can_be_written_anew() {
    let (root, folder) = folder(&["1"]);
    let pointer = root.path().join(POINTER);
    for damage in ["", "{\"live\": \"1\"", "<html>", "{\"live\": 1, \"previous\": []}"] {
        std::fs::write(&pointer, damage).unwrap();
        let error = format!("{:#}", folder.live().unwrap_err());
        assert!(error.contains("live.json is damaged"), "{error}");
        assert!(error.contains("whyrank models activate"), "{error}");
    }
    folder.activate("1").unwrap();
    assert_eq!(folder.live().unwrap().version(), Some("1"));
    std::fs::write(&pointer, r#"{"live": "9", "previous": []}"#).unwrap();
    let error = format!("{:#}", folder.live().unwrap_err());
    assert!(error.contains("there is no version 9"), "{error}");
}

/// A keeper over versions that are empty folders, which no verification lets pass, and its metrics.
fn keeper(folder: &ModelFolder) -> (ModelKeeper, Metrics) {
    let metrics = Metrics::new().unwrap();
    let (settings, dimensions) = (ModelSettings::default(), Dimensions { vector: 32, code: 32 });
    let live = LiveModels::new(None);
    let keeper =
        ModelKeeper::new(folder.clone(), settings, dimensions, live, None, metrics.clone());
    (keeper, metrics)
}

/// How often a version was verified and refused.
fn verified(metrics: &Metrics) -> u64 {
    metrics.model_switches.with_label_values(&["refused"]).get()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

#[tokio::test]
async fn a_version_that_was_refused_is_verified_again_later_and_later() {
    let (_root, folder) = folder(&["1"]);
    folder.activate("1").unwrap();
    let (keeper, metrics) = keeper(&folder);
    let begin = Instant::now();
    // The waits are 5, 10, 20, 40 and 60 minutes, and 60 from then on.
    for (minute, expected) in [
        (0, 1),
        (4, 1),
        (5, 2),
        (14, 2),
        (15, 3),
        (34, 3),
        (35, 4),
        (74, 4),
        (75, 5),
        (134, 5),
        (135, 6),
        (194, 6),
        (195, 7),
    ] {
        keeper.look(false, begin + minutes(minute)).await.unwrap();
        assert_eq!(verified(&metrics), expected, "after {minute} minutes");
        assert_eq!(metrics.models_refused.get(), 1, "after {minute} minutes");
    }
}

#[tokio::test]
async fn a_refused_version_is_verified_when_asked_for_and_another_one_at_once() {
    let (root, folder) = folder(&["1", "2"]);
    folder.activate("1").unwrap();
    let (keeper, metrics) = keeper(&folder);
    let begin = Instant::now();
    for (asked, minute, expected) in
        [(false, 0, 1), (false, 5, 2), (true, 6, 3), (false, 10, 3), (false, 11, 4)]
    {
        keeper.look(asked, begin + minutes(minute)).await.unwrap();
        assert_eq!(verified(&metrics), expected, "after {minute} minutes");
    }
    folder.activate("2").unwrap();
    keeper.look(false, begin + minutes(12)).await.unwrap();
    assert_eq!((verified(&metrics), metrics.models_refused.get()), (5, 1));
    // Where no version is to be live, none is refused.
    std::fs::remove_file(root.path().join(POINTER)).unwrap();
    keeper.look(false, begin + minutes(13)).await.unwrap();
    assert_eq!((verified(&metrics), metrics.models_refused.get()), (5, 0));
}
