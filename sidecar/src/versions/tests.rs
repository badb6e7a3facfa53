//! Which version is live, which was before, and which go.

use super::ModelFolder;
use super::folder::{POINTER, VERSIONS};

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
