//! Killing the process at any instant loses no acknowledged write: a child of this test binary writes,
//! acknowledges over a pipe and is killed; the parent reopens its store and compares it with a model.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use whyrank_plugin::records::{NEGATIVE_VECTOR, POSITIVE_VECTOR, explanations_schema};
use whyrank_plugin::{
    EmbeddedSettings, EmbeddedStore, Point, PointId, PointVectors, Scroll, Selection, Store,
    StoreError,
};

const FOLDER_VARIABLE: &str = "WHYRANK_CRASH_TEST_FOLDER";
const COLLECTION: &str = "explanations";
const ACKNOWLEDGED: &str = "acknowledged ";
const STEPS: usize = 120;

type Model = BTreeMap<PointId, Point>;

enum Step {
    Upsert(Vec<Point>),
    Encode(Vec<PointVectors>),
    Mark(Vec<PointId>, String),
    Delete(Vec<PointId>),
    Optimize,
}

fn settings(folder: &Path) -> EmbeddedSettings {
    EmbeddedSettings {
        minimum_free_bytes: 0,
        // Small, so that checkpoints and indexed segments take part.
        checkpoint_bytes: 60_000,
        indexing_threshold_kilobytes: 1,
        write_batch: 40,
        ..EmbeddedSettings::in_folder(folder)
    }
}

fn point(id: u64, step: usize, encoded: bool) -> Point {
    let payload = json!({"user": format!("{}", id % 7), "text": format!("step {step}")});
    let code = |sign: f32| vec![sign * step as f32, id as f32];
    let vectors = if encoded {
        [(POSITIVE_VECTOR.to_owned(), code(1.0)), (NEGATIVE_VECTOR.to_owned(), code(-1.0))].into()
    } else {
        Default::default()
    };
    Point { id: id.into(), vectors, payload: payload.as_object().unwrap().clone() }
}

/// What the child does at a step. Steps write new points, rewrite old ones with and without codes,
/// and touch points that an optimisation moved into another segment.
fn script(step: usize, model: &Model) -> Step {
    let old = |part: usize| -> Vec<PointId> {
        model.keys().skip(step % 5).step_by(part).copied().collect()
    };
    let number = |id: &PointId| match id {
        PointId::Number(number) => *number,
        PointId::Uuid(_) => unreachable!("the script has integer ids"),
    };
    let fresh = (step as u64 * 60)..(step as u64 * 60 + 60);
    match step % 8 {
        0 | 1 => Step::Upsert(fresh.map(|id| point(id, step, false)).collect()),
        2 => Step::Encode(
            old(3)
                .iter()
                .map(|id| PointVectors { id: *id, vectors: point(number(id), step, true).vectors })
                .collect(),
        ),
        3 => Step::Mark(old(4), format!("marked at {step}")),
        4 => {
            Step::Upsert(old(5).iter().map(|id| point(number(id), step, step % 16 == 4)).collect())
        }
        5 if step % 16 == 5 => Step::Optimize,
        5 => Step::Upsert(fresh.map(|id| point(id, step, true)).collect()),
        6 => Step::Delete(old(6)),
        _ => Step::Upsert(old(2).iter().map(|id| point(number(id), step, true)).collect()),
    }
}

fn apply_to_model(step: &Step, model: &mut Model) {
    match step {
        Step::Upsert(points) => model.extend(points.iter().map(|point| (point.id, point.clone()))),
        Step::Encode(updates) => {
            for update in updates {
                let point = model.get_mut(&update.id).unwrap();
                point.vectors.extend(update.vectors.clone());
            }
        }
        Step::Mark(ids, text) => {
            for id in ids {
                model.get_mut(id).unwrap().payload.insert("mark".to_owned(), text.clone().into());
            }
        }
        Step::Delete(ids) => model.retain(|id, _| !ids.contains(id)),
        Step::Optimize => {}
    }
}

async fn apply_to_store(step: Step, store: &EmbeddedStore) {
    match step {
        Step::Upsert(points) => store.upsert(COLLECTION, points).await,
        Step::Encode(updates) => store.update_vectors(COLLECTION, updates).await,
        Step::Mark(ids, text) => {
            let payload = json!({"mark": text}).as_object().unwrap().clone();
            store.set_payload(COLLECTION, &ids, payload).await
        }
        Step::Delete(ids) => store.delete(COLLECTION, &ids).await,
        Step::Optimize => store.optimize(COLLECTION).await,
    }
    .unwrap();
}

/// The child's part; without the variable there is nothing to write and it ends at once.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else { return };
    let store = EmbeddedStore::open(settings(Path::new(&folder))).await.unwrap();
    store.ensure(COLLECTION, &explanations_schema(2)).await.unwrap();
    let mut model = Model::new();
    let mut output = std::io::stdout().lock();
    for number in 0..STEPS {
        let step = script(number, &model);
        apply_to_model(&step, &mut model);
        apply_to_store(step, &store).await;
        writeln!(output, "\n{ACKNOWLEDGED}{number}").unwrap();
        output.flush().unwrap();
    }
    // Killed here at the latest: the parent does not close the pipe that this waits for.
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

/// Lets a child write on the folder and kills it after `kill_after` acknowledgements; returns how many
/// steps it acknowledged.
async fn killed_child(folder: &Path, kill_after: usize) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
        .env(FOLDER_VARIABLE, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let process = child.id();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = 0;
    for line in lines {
        let Some(number) = line.unwrap().strip_prefix(ACKNOWLEDGED).map(str::to_owned) else {
            continue;
        };
        acknowledged = number.parse::<usize>().unwrap() + 1;
        if acknowledged == 1 {
            let error = EmbeddedStore::open(settings(folder)).await.unwrap_err();
            let expected = format!("process {process}");
            assert!(
                matches!(&error, StoreError::Locked { holder, .. } if *holder == expected),
                "the holder is named: {error}"
            );
        }
        if acknowledged == kill_after {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child was killed, not finished");
    assert!(acknowledged >= kill_after);
    acknowledged
}

async fn stored(store: &EmbeddedStore) -> Model {
    let scroll = Scroll { filter: None, from: None, limit: 10_000, selection: Selection::all() };
    let page = store.scroll(COLLECTION, scroll).await.unwrap();
    assert_eq!(page.next, None);
    page.points.into_iter().map(|point| (point.id, point)).collect()
}

/// Kills a child after so many acknowledgements and compares what is left.
async fn check(kill_after: usize) {
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = killed_child(folder.path(), kill_after).await;
    let mut before = Model::new();
    for number in 0..acknowledged {
        apply_to_model(&script(number, &before), &mut before);
    }
    // The step that was cut off may have been done for any of its points.
    let mut after = before.clone();
    if acknowledged < STEPS {
        apply_to_model(&script(acknowledged, &before), &mut after);
    }
    let store = EmbeddedStore::open(settings(folder.path())).await.unwrap();
    let found = stored(&store).await;
    let ids = before.keys().chain(after.keys()).chain(found.keys());
    for id in ids {
        let point = found.get(id);
        let (old, new) = (before.get(id), after.get(id));
        assert!(
            point == old || point == new,
            "killed after {acknowledged} steps, point {id} is {point:?}, not {old:?} or {new:?}"
        );
    }
    let count = store.count(COLLECTION, None).await.unwrap();
    assert_eq!(count as usize, found.len(), "no point is there twice");
    // The store goes on: the same steps again, and another opening.
    let mut model = found;
    for number in acknowledged..(acknowledged + 8) {
        let step = script(number, &model);
        apply_to_model(&step, &mut model);
        apply_to_store(step, &store).await;
    }
    assert_eq!(stored(&store).await, model);
    drop(store);
    let store = EmbeddedStore::open(settings(folder.path())).await.unwrap();
    assert_eq!(stored(&store).await, model);
    assert_eq!(store.count(COLLECTION, None).await.unwrap() as usize, model.len());
}

#[tokio::test]
async fn a_process_killed_at_its_first_writes_loses_nothing() {
    for kill_after in [1, 2, 3, 5] {
        check(kill_after).await;
    }
}

#[tokio::test]
async fn a_process_killed_while_it_changes_optimised_points_loses_nothing() {
    // Step 5 and every sixteenth after it optimises: 21 and 37 kill in it, the others in the changes
    // of the points that it moved.
    for kill_after in [6, 7, 8, 10, 21, 22, 23, 24, 29, 37] {
        check(kill_after).await;
    }
}

#[tokio::test]
async fn a_process_killed_after_many_writes_loses_nothing() {
    for kill_after in [55, 87, 119] {
        check(kill_after).await;
    }
}
