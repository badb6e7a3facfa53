//! Imports from all formats: what is kept, what is refused and why, and that no row goes missing.

mod fixtures;

use std::path::Path;

use proptest::prelude::*;
use whyrank_models::progress::Silent;

use super::*;
use fixtures::{Files, movielens, parquet_rows, three_formats};

/// Settings for interactions only, in the columns user, item, rating, time.
fn interactions(path: &Path) -> ImportSettings {
    ImportSettings {
        interactions: InteractionTable {
            path: Some(path.to_owned()),
            ..InteractionTable::default()
        },
        ..ImportSettings::default()
    }
}

fn run(settings: &ImportSettings) -> (Dataset, ImportReport) {
    let (dataset, report) = import(settings, &Silent).expect("imported");
    for table in [&report.interactions, &report.items, &report.users] {
        assert_eq!(table.read, table.kept + table.refused_total(), "{table:?}");
    }
    assert_eq!(report.interactions.kept, dataset.interactions.len() as u64);
    (dataset, report)
}

fn check_error(settings: &ImportSettings, expected: &[&str]) {
    // As the command line tells it, with its causes.
    let fault = anyhow::Error::from(import(settings, &Silent).expect_err("must fail"));
    let message = format!("{fault:#}");
    for part in expected {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

/// Imports interactions and compares refusals as (line, reason) in the order of discovery.
fn check_refused(settings: &ImportSettings, kept: u64, expected: &[(u64, Reason)]) {
    let (_, report) = run(settings);
    let table = &report.interactions;
    assert_eq!(table.kept, kept, "{report}");
    let lines: Vec<u64> = table.examples.iter().filter(|e| e.refused).map(|e| e.line).collect();
    assert_eq!(lines, expected.iter().map(|(line, _)| *line).collect::<Vec<_>>(), "{report}");
    for (_, reason) in expected {
        let count = expected.iter().filter(|(_, other)| other == reason).count() as u64;
        assert_eq!(table.refused.get(reason), Some(&count), "{report}");
    }
}

#[test]
fn movielens_is_imported_whole() {
    let (dataset, report) = run(&movielens());
    assert_eq!(report.interactions.kept, 100_000, "{report}");
    assert_eq!((report.items.kept, report.users.kept), (1682, 943), "{report}");
    let toy_story = &dataset.items[0];
    assert_eq!((toy_story.id.as_str(), toy_story.title.as_str()), ("1", "Toy Story"));
    assert_eq!(toy_story.text, "Toy Story. Animation Children's Comedy");
    assert_eq!(toy_story.attributes[0].joined(), "Animation, Children's, Comedy");
    assert_eq!(toy_story.attributes[1].values, ["1995"]);
    assert_eq!(dataset.users[0].attributes[2].values, ["technician"]);
    assert!(dataset.interactions.is_sorted_by_key(|row| row.time));
}

#[test]
fn all_formats_give_the_same_data_and_fingerprint() {
    let files = Files::new();
    let mut fingerprints = Vec::new();
    for (rows, items) in three_formats(&files) {
        let mut settings = interactions(&rows);
        settings.items = ItemTable {
            path: Some(items),
            text: vec!["title".to_owned()],
            attributes: vec![AttributeColumn {
                column: "words".to_owned(),
                label: "words".to_owned(),
                separator: Some("|".to_owned()),
            }],
            vector: "vector".to_owned(),
            ..ItemTable::default()
        };
        settings.time_unit = TimeUnit::Seconds;
        let (dataset, report) = run(&settings);
        assert_eq!(
            dataset.interactions.iter().map(|row| row.time).collect::<Vec<_>>(),
            [10, 20, 30]
        );
        assert_eq!(dataset.items[0].title, "One, or\ntwo", "{report}");
        assert_eq!(dataset.items[0].attributes[0].values, ["a", "b"]);
        assert_eq!(dataset.items[1].vector.as_deref(), Some(&[0.25, -1.0][..]));
        assert_eq!((dataset.items[2].attributes.len(), &dataset.items[2].vector), (0, &None));
        fingerprints.push(report.fingerprint);
    }
    assert_eq!(fingerprints[0], fingerprints[1]);
    assert_eq!(fingerprints[0], fingerprints[2]);
    let other = files.write("rows.csv", "user,item,rating,time\nu1,i1,4.5,10\n");
    assert_ne!(run(&interactions(&other)).1.fingerprint, fingerprints[0]);
}

#[test]
fn each_fault_of_an_interaction_is_refused_by_line_and_reason() {
    let files = Files::new();
    let rows = "user,item,rating,time\n\
                a,1,3,10\n\
                ,1,3,10\n\
                a,2,high,10\n\
                a,3,NaN,10\n\
                a,4,inf,10\n\
                a,5,9,10\n\
                a,6,3,soon\n\
                a,7,3\n\
                \n\
                b,1,3,10\n";
    let mut settings = interactions(&files.write("rows.csv", rows));
    settings.rating_maximum = Some(5.0);
    check_refused(
        &settings,
        2,
        &[
            (3, Reason::MissingId),
            (4, Reason::InvalidRating),
            (5, Reason::InvalidRating),
            (6, Reason::InvalidRating),
            (7, Reason::RatingOutOfRange),
            (8, Reason::InvalidTime),
            (9, Reason::Malformed),
        ],
    );
}

#[test]
fn json_lines_are_refused_one_by_one() {
    let files = Files::new();
    let mut rows = b"{\"user\":1,\"item\":2,\"rating\":3,\"time\":4}\n[1,2]\n{\"user\":\n".to_vec();
    rows.extend_from_slice(b"{\"user\":\"\xff\",\"item\":2,\"rating\":3,\"time\":4}\n");
    rows.extend_from_slice(b"{\"user\":{},\"item\":2,\"rating\":3,\"time\":4}\n\n");
    rows.extend_from_slice(b"{\"user\":9007199254740993,\"item\":2,\"rating\":3,\"time\":4}");
    let settings = interactions(&files.write("rows.jsonl", rows));
    let expected = [
        (2, Reason::Malformed),
        (3, Reason::Malformed),
        (4, Reason::InvalidUtf8),
        (5, Reason::MissingId),
    ];
    check_refused(&settings, 2, &expected);
    assert_eq!(
        run(&settings).0.interactions[1].user,
        "9007199254740993",
        "no digit is lost in a float"
    );
}

#[test]
fn text_that_is_not_utf8_costs_one_row_in_csv_and_parquet() {
    let files = Files::new();
    let settings = interactions(
        &files.write("rows.csv", b"user,item,rating,time\na,1,3,4\n\xff,1,3,4\nb,1,3,4\n"),
    );
    check_refused(&settings, 2, &[(3, Reason::InvalidUtf8)]);

    let path =
        parquet_rows(&files, &[("a", "1", 3.0, 4), ("MARK", "1", 3.0, 4), ("b", "1", 3.0, 4)]);
    let mut bytes = std::fs::read(&path).expect("readable");
    // The text stands in the data and in the statistics of its column.
    let mut position = 0;
    while let Some(found) = bytes[position..].windows(4).position(|window| window == b"MARK") {
        bytes[position + found..position + found + 4].copy_from_slice(b"\xff\xfe\xff\xfe");
        position += found;
    }
    std::fs::write(&path, bytes).expect("written");
    check_refused(&interactions(&path), 2, &[(2, Reason::InvalidUtf8)]);
}

#[test]
fn the_latest_of_double_interactions_is_kept() {
    let files = Files::new();
    let rows = "user,item,rating,time\na,1,1,20\na,1,2,30\na,1,3,10\na,1,4,30\n";
    let settings = interactions(&files.write("rows.csv", rows));
    check_refused(
        &settings,
        1,
        &[(2, Reason::Duplicate), (4, Reason::Duplicate), (3, Reason::Duplicate)],
    );
    assert_eq!(run(&settings).0.interactions[0].rating, 4.0);
}

#[test]
fn a_line_that_is_too_long_costs_one_row() {
    let files = Files::new();
    let rows = format!("user,item,rating,time\na,1,3,4\n{},1,3,4\nb,1,3,4\n", "x".repeat(200));
    let settings =
        ImportSettings { maximum_line_bytes: 100, ..interactions(&files.write("rows.csv", rows)) };
    check_refused(&settings, 2, &[(3, Reason::TooLong)]);
}

#[test]
fn an_unclosed_quote_costs_one_row_and_not_the_rest_of_the_file() {
    let files = Files::new();
    let rows = "user,item,rating,time\na,1,3,4\n\"b,1,3,4\nc,1,3,4\nd,1,3,4\n";
    check_refused(&interactions(&files.write("rows.csv", rows)), 3, &[(3, Reason::Malformed)]);
    let rows = format!("user,item,rating,time\n\"b,1,3,4\n{}", "c,1,3,4\n".repeat(50));
    let mut settings = interactions(&files.write("rows.csv", rows));
    settings.maximum_line_bytes = 60;
    settings.examples = 1;
    check_refused_first(&settings, 2, Reason::Malformed);
}

fn check_refused_first(settings: &ImportSettings, line: u64, reason: Reason) {
    let (_, report) = run(settings);
    assert_eq!(report.interactions.examples[0].line, line, "{report}");
    assert_eq!(report.interactions.refused.get(&reason), Some(&1), "{report}");
}

#[test]
fn unknown_references_are_kept_with_a_warning_or_refused() {
    let files = Files::new();
    let mut settings = interactions(
        &files.write("rows.csv", "user,item,rating,time\na,1,3,4\na,2,3,4\nb,1,3,4\n"),
    );
    settings.items.path = Some(files.write("items.csv", "id,title\n1,One\n"));
    settings.users.path = Some(files.write("users.csv", "id\na\n"));
    let (_, report) = run(&settings);
    assert_eq!(report.interactions.kept, 3);
    assert_eq!(report.interactions.warnings.get(&Warning::UnknownItem), Some(&1));
    assert_eq!(report.interactions.warnings.get(&Warning::UnknownUser), Some(&1));
    settings.unknown_references = UnknownReferences::Refuse;
    check_refused(&settings, 1, &[(3, Reason::UnknownItem), (4, Reason::UnknownUser)]);
}

#[test]
fn items_are_checked_for_ids_text_and_vectors() {
    let files = Files::new();
    let items = "id,title,text,vector\n\
                 1,One,words,1 2\n\
                 2,,,\n\
                 1,Again,words,1 2\n\
                 3,Three,words,1 2 3\n\
                 4,Four,words,1 NaN\n\
                 5,Five,words,\"[1, \"\n";
    let mut settings = interactions(&files.write("rows.csv", "user,item,rating,time\na,1,3,4\n"));
    settings.items = ItemTable {
        path: Some(files.write("items.csv", items)),
        text: vec!["text".to_owned()],
        vector: "vector".to_owned(),
        ..ItemTable::default()
    };
    let (dataset, report) = run(&settings);
    let table = &report.items;
    assert_eq!(table.kept, 2, "{report}");
    for (reason, count) in
        [(Reason::Duplicate, 1), (Reason::VectorDimension, 1), (Reason::InvalidVector, 2)]
    {
        assert_eq!(table.refused.get(&reason), Some(&count), "{report}");
    }
    for warning in [Warning::MissingText, Warning::MissingTitle, Warning::MissingVector] {
        assert_eq!(table.warnings.get(&warning), Some(&1), "{report}");
    }
    assert_eq!((dataset.items[1].title.as_str(), dataset.items[1].text.as_str()), ("2", ""));
}

#[test]
fn ratings_and_times_may_be_absent() {
    let files = Files::new();
    let mut settings = interactions(&files.write("rows.csv", "user,item\nb,1\na,1\n"));
    settings.interactions.rating = String::new();
    settings.interactions.time = String::new();
    let (dataset, _) = run(&settings);
    let rows: Vec<_> =
        dataset.interactions.iter().map(|row| (row.user.as_str(), row.rating)).collect();
    assert_eq!(rows, [("b", 1.0), ("a", 1.0)], "in the order of the file");
    let times = |settings: &ImportSettings| -> Vec<i64> {
        run(settings).0.interactions.iter().map(|row| row.time).collect()
    };
    assert_eq!(times(&settings), [0, 0], "nothing is older or newer");
    settings.interactions.rows_in_order = true;
    assert_eq!(times(&settings), [2, 3]);
}

#[test]
fn windows_files_with_marks_and_carriage_returns_are_read() {
    let files = Files::new();
    let settings =
        interactions(&files.write("rows.csv", "\u{feff}user,item,rating,time\r\na,1,3,4\r\n"));
    assert_eq!(run(&settings).0.interactions[0].time, 4);
}

#[test]
fn a_table_that_cannot_be_read_is_one_clear_error() {
    let files = Files::new();
    check_error(&ImportSettings::default(), &["import.interactions.path"]);
    check_error(
        &interactions(&files.0.path().join("none.csv")),
        &["interactions file", "none.csv", "No such file"],
    );
    check_error(
        &interactions(&files.write("rows.dat", "")),
        &["rows.dat", "import.interactions.format"],
    );
    check_error(&interactions(&files.write("empty.csv", "")), &["empty.csv", "it is empty"]);
    check_error(
        &interactions(&files.write("other.csv", "user,movie,stars\n")),
        &["other.csv", "no column `item`, `rating`, `time`", "`user`, `movie`, `stars`"],
    );
    check_error(
        &interactions(&files.write("other.jsonl", "{\"user\":1,\"movie\":2}\n")),
        &["other.jsonl", "no column `item`", "`movie`, `user`"],
    );
    check_error(
        &interactions(&files.write("broken.parquet", "PAR1 nothing")),
        &["broken.parquet", "as Parquet"],
    );
    // Found by fuzzing: the crate that reads it panicked.
    let bytes = include_bytes!("tests/row-group-without-size.parquet");
    check_error(
        &interactions(&files.write("damaged.parquet", bytes)),
        &["damaged.parquet", "as Parquet", "is damaged"],
    );
    let whole = std::fs::read(parquet_rows(&files, &[("a", "1", 3.0, 4)])).expect("readable");
    check_error(
        &interactions(&files.write("cut.parquet", &whole[..whole.len() / 2])),
        &["cut.parquet", "as Parquet"],
    );
    let mut odd = interactions(&files.write("rows.csv", "user\n"));
    odd.interactions.delimiter = "::".to_owned();
    check_error(&odd, &["import.interactions.delimiter", "one ASCII character"]);
}

#[test]
fn settings_survive_being_written_and_refuse_unknown_keys() {
    let text = toml_edit::ser::to_string(&movielens()).expect("written");
    assert_eq!(toml_edit::de::from_str::<ImportSettings>(&text).expect("read"), movielens());
    let message =
        toml_edit::de::from_str::<ImportSettings>("colour = 1").expect_err("unknown").to_string();
    assert!(message.contains("colour"), "{message}");
}

#[test]
fn parquet_is_read_across_batches_and_row_groups() {
    let files = Files::new();
    let names: Vec<String> = (0..2500).map(|number| format!("u{number}")).collect();
    let rows: Vec<_> =
        names.iter().enumerate().map(|(at, name)| (name.as_str(), "i", 1.0, at as i64)).collect();
    let (dataset, _) = run(&interactions(&parquet_rows(&files, &rows)));
    assert_eq!(dataset.interactions.len(), 2500);
    let in_step = |(name, row): (&String, &ImportedInteraction)| row.user == *name;
    assert!(names.iter().zip(&dataset.interactions).all(in_step), "columns stay in step");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever bytes a file has, no row goes missing and the import does not end early.
    #[test]
    fn read_is_kept_plus_refused(
        lines in prop::collection::vec(
            prop_oneof![
                "[ab]?,[12]?,[0-9]{0,2},[0-9]{0,3}",
                "[ab12,\"\r]{0,12}",
                "[\\PC]{0,20}",
            ],
            0..30,
        ),
        json in any::<bool>(),
    ) {
        let files = Files::new();
        let body = lines.join("\n");
        let path = if json {
            files.write("rows.jsonl", format!("{{\"user\":1,\"item\":2,\"rating\":3,\"time\":4}}\n{body}"))
        } else {
            files.write("rows.csv", format!("user,item,rating,time\n{body}\nz,9,1,1\n"))
        };
        let settings = ImportSettings { maximum_line_bytes: 64, ..interactions(&path) };
        let (dataset, report) = run(&settings);
        prop_assert!(report.interactions.kept >= 1, "{}", report);
        let again = run(&settings);
        prop_assert_eq!((dataset, report), again);
    }
}
