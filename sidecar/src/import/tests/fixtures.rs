//! Test data: MovieLens as the tests configure it, and one small data set in all formats.

use std::path::PathBuf;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;
use whyrank_models::weights;

use super::super::*;

/// A folder of test files.
pub(super) struct Files(pub(super) TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

pub(super) fn movielens() -> ImportSettings {
    let file = |name| {
        Some(weights::require("movielens-100k", name).unwrap_or_else(|error| panic!("{error}")))
    };
    let tab = || "\t".to_owned();
    let attribute = |column: &str, label: &str, separator: Option<&str>| AttributeColumn {
        column: column.to_owned(),
        label: label.to_owned(),
        separator: separator.map(str::to_owned),
    };
    ImportSettings {
        interactions: InteractionTable {
            path: file("ml-100k.inter"),
            format: Format::Csv,
            delimiter: tab(),
            quote: String::new(),
            user: "user_id:token".to_owned(),
            item: "item_id:token".to_owned(),
            rating: "rating:float".to_owned(),
            time: "timestamp:float".to_owned(),
            rows_in_order: false,
        },
        items: ItemTable {
            path: file("ml-100k.item"),
            format: Format::Csv,
            delimiter: tab(),
            quote: String::new(),
            id: "item_id:token".to_owned(),
            title: "movie_title:token_seq".to_owned(),
            text: vec!["movie_title:token_seq".to_owned(), "class:token_seq".to_owned()],
            attributes: vec![
                attribute("class:token_seq", "genres", Some(" ")),
                attribute("release_year:token", "year", None),
            ],
            vector: String::new(),
        },
        users: UserTable {
            path: file("ml-100k.user"),
            format: Format::Csv,
            delimiter: tab(),
            quote: String::new(),
            id: "user_id:token".to_owned(),
            attributes: vec![
                attribute("age:token", "age", None),
                attribute("gender:token", "gender", None),
                attribute("occupation:token", "occupation", None),
            ],
            vector: String::new(),
        },
        rating_minimum: Some(1.0),
        rating_maximum: Some(5.0),
        unknown_references: UnknownReferences::Refuse,
        ..ImportSettings::default()
    }
}

/// The same small data as CSV, JSON Lines and Parquet.
pub(super) fn three_formats(files: &Files) -> [(PathBuf, PathBuf); 3] {
    let rows = [("u1", "i1", 4.5, 10), ("u2", "ü2", 1.0, 30), ("u1", "ü2", 3.0, 20)];
    let mut csv = "user,item,rating,time\n".to_owned();
    let mut json = String::new();
    for (user, item, rating, time) in rows {
        csv += &format!("{user},{item},{rating},{time}\n");
        json += &format!(
            "{{\"user\":\"{user}\",\"item\":\"{item}\",\"rating\":{rating},\"time\":{time}}}\n"
        );
    }
    let item_csv = "id,title,words,vector\ni1,\"One, or\ntwo\",a|b,\"[0.5, 1.5]\"\nü2,Zwei,c,0.25 -1\ni3,Three,,\n";
    let item_json = "{\"id\":\"i1\",\"title\":\"One, or\\ntwo\",\"words\":[\"a\",\"b\"],\"vector\":[0.5,1.5]}\n\
                     {\"id\":\"ü2\",\"title\":\"Zwei\",\"words\":[\"c\"],\"vector\":[0.25,-1]}\n\
                     {\"id\":\"i3\",\"title\":\"Three\",\"words\":[]}\n";
    [
        (files.write("rows.csv", csv), files.write("items.csv", item_csv)),
        (files.write("rows.jsonl", json), files.write("items.jsonl", item_json)),
        (parquet_rows(files, &rows), parquet_items(files)),
    ]
}

pub(super) fn parquet_rows(files: &Files, rows: &[(&str, &str, f32, i64)]) -> PathBuf {
    let schema = "message rows { required binary user (UTF8); required binary item (UTF8);
                  required float rating; required int64 time; required int64 unused (TIMESTAMP_MILLIS); }";
    let path = files.0.path().join("rows.parquet");
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default()))
        .expect("a writer");
    for rows in rows.chunks(1500) {
        let mut group = writer.next_row_group().expect("a group");
        for text in [
            rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            rows.iter().map(|row| row.1).collect(),
        ] {
            let values: Vec<ByteArray> = text.into_iter().map(ByteArray::from).collect();
            let mut column = group.next_column().expect("ok").expect("a column");
            column.typed::<ByteArrayType>().write_batch(&values, None, None).expect("written");
            column.close().expect("closed");
        }
        let ratings: Vec<f32> = rows.iter().map(|row| row.2).collect();
        let mut column = group.next_column().expect("ok").expect("a column");
        column.typed::<FloatType>().write_batch(&ratings, None, None).expect("written");
        column.close().expect("closed");
        for _ in ["time", "unused"] {
            let times: Vec<i64> = rows.iter().map(|row| row.3).collect();
            let mut column = group.next_column().expect("ok").expect("a column");
            column.typed::<Int64Type>().write_batch(&times, None, None).expect("written");
            column.close().expect("closed");
        }
        group.close().expect("closed");
    }
    writer.close().expect("closed");
    path
}

fn parquet_items(files: &Files) -> PathBuf {
    let schema = "message items { required binary id (UTF8); required binary title (UTF8);
                  required group words (LIST) { repeated group list { required binary element (UTF8); } }
                  optional group vector (LIST) { repeated group list { required float element; } } }";
    let path = files.0.path().join("items.parquet");
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default()))
        .expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let mut text = |values: &[&str], levels: Option<(&[i16], &[i16])>| {
        let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(*value)).collect();
        let mut column = group.next_column().expect("ok").expect("a column");
        let (definition, repetition) = levels.unzip();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, definition, repetition)
            .expect("written");
        column.close().expect("closed");
    };
    text(&["i1", "ü2", "i3"], None);
    text(&["One, or\ntwo", "Zwei", "Three"], None);
    text(&["a", "b", "c"], Some((&[1, 1, 1, 0], &[0, 1, 0, 0])));
    let mut column = group.next_column().expect("ok").expect("a column");
    column
        .typed::<FloatType>()
        .write_batch(&[0.5, 1.5, 0.25, -1.0], Some(&[2, 2, 2, 2, 0]), Some(&[0, 1, 0, 1, 0]))
        .expect("written");
    column.close().expect("closed");
    group.close().expect("closed");
    writer.close().expect("closed");
    path
}
