//! An audience as a file for other programs: CSV, JSON Lines or Parquet, one row a consumer.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde::Deserialize;
use utoipa::ToSchema;
use whyrank_models::progress::Progress;

use super::{AudienceMember, AudienceResponse};

/// The forms of an exported audience.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header.
    #[default]
    Csv,
    /// One JSON object a line, as the API answers it.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// What the name of such a file ends with.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// Its media type.
    pub fn media(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Rows of a Parquet row group, and between two notes of progress.
const BLOCK: usize = 1_000;

/// The columns of text; with those of numbers they make a row of CSV or Parquet.
const TEXTS: [&str; 6] = ["user", "item", "segment", "positive", "negative", "reasons_source"];
/// The columns of numbers.
const NUMBERS: [&str; 9] = [
    "probability",
    "take_up",
    "score",
    "rating",
    "user_item",
    "positive_share",
    "negative_share",
    "history",
    "context",
];

/// Writes all consumers of the answer, block by block.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    response: &AudienceResponse,
    format: Format,
    file: impl Write + Send,
    progress: &dyn Progress,
) -> Result<()> {
    progress.begin("export", response.consumers.len() as u64);
    match format {
        Format::Csv => csv(response, file, progress)?,
        Format::Jsonl => json_lines(response, file, progress)?,
        Format::Parquet => parquet(response, file, progress)?,
    }
    progress.end();
    Ok(())
}

fn csv(response: &AudienceResponse, file: impl Write, progress: &dyn Progress) -> Result<()> {
    let mut writer = csv::Writer::from_writer(file);
    writer.write_record(["rank"].iter().chain(&TEXTS).chain(&NUMBERS))?;
    for (member, done) in response.consumers.iter().zip(1..) {
        let mut row = vec![member.rank.to_string()];
        row.extend(texts(response, member).map(|text| inert(text.unwrap_or_default())));
        row.extend(numbers(member).map(|n| n.map_or_else(String::new, |n| n.to_string())));
        writer.write_record(&row)?;
        progress.advance(done);
    }
    Ok(writer.flush()?)
}

fn json_lines(
    response: &AudienceResponse,
    mut file: impl Write,
    progress: &dyn Progress,
) -> Result<()> {
    for (member, done) in response.consumers.iter().zip(1..) {
        serde_json::to_writer(&mut file, member)?;
        file.write_all(b"\n")?;
        progress.advance(done);
    }
    Ok(file.flush()?)
}

fn parquet(
    response: &AudienceResponse,
    file: impl Write + Send,
    progress: &dyn Progress,
) -> Result<()> {
    let texts_of = TEXTS.map(|name| format!("optional binary {name} (UTF8);")).concat();
    let numbers_of = NUMBERS.map(|name| format!("optional float {name};")).concat();
    let schema = format!("message audience {{ required int32 rank; {texts_of} {numbers_of} }}");
    let schema = Arc::new(parse_message_type(&schema)?);
    let properties = Arc::new(WriterProperties::default());
    let mut writer = SerializedFileWriter::new(file, schema, properties)?;
    let mut done = 0;
    for block in response.consumers.chunks(BLOCK) {
        let mut group = writer.next_row_group()?;
        let missing = "the schema has as many columns as are written";
        let mut column = group.next_column()?.context(missing)?;
        let ranks: Vec<i32> = block.iter().map(|member| member.rank as i32).collect();
        column.typed::<Int32Type>().write_batch(&ranks, None, None)?;
        column.close()?;
        for place in 0..TEXTS.len() {
            let values = block.iter().map(|member| texts(response, member)[place].clone());
            let (levels, values): (Vec<i16>, Vec<Option<String>>) =
                values.map(|value| (i16::from(value.is_some()), value)).unzip();
            let values: Vec<ByteArray> =
                values.into_iter().flatten().map(|text| text.into_bytes().into()).collect();
            let mut column = group.next_column()?.context(missing)?;
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
            column.close()?;
        }
        for place in 0..NUMBERS.len() {
            let values: Vec<Option<f32>> =
                block.iter().map(|member| numbers(member)[place]).collect();
            let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
            let values: Vec<f32> = values.into_iter().flatten().collect();
            let mut column = group.next_column()?.context(missing)?;
            column.typed::<FloatType>().write_batch(&values, Some(&levels), None)?;
            column.close()?;
        }
        group.close()?;
        done += block.len() as u64;
        progress.advance(done);
    }
    // Flushed here, where a full disk or a caller who left is still an error.
    Ok(writer.into_inner()?.flush()?)
}

/// The values of [`TEXTS`].
fn texts(response: &AudienceResponse, member: &AudienceMember) -> [Option<String>; TEXTS.len()] {
    let segment = member.segment.and_then(|place| response.segments.get(place));
    let reasons = member.explanation.as_ref();
    [
        Some(member.user.clone()),
        member.item.clone(),
        segment.map(|segment| segment.name.clone()),
        reasons.map(|reasons| reasons.positive.clone()),
        reasons.map(|reasons| reasons.negative.clone()),
        reasons.map(|reasons| reasons.source.clone()),
    ]
}

/// The values of [`NUMBERS`].
fn numbers(member: &AudienceMember) -> [Option<f32>; NUMBERS.len()] {
    let account = member.contributions;
    [
        Some(member.probability),
        member.take_up,
        Some(member.score),
        Some(member.rating),
        account.map(|all| all.user_item),
        account.map(|all| all.positive),
        account.map(|all| all.negative),
        account.map(|all| all.history),
        account.map(|all| all.context),
    ]
}

/// A spreadsheet takes a cell that begins with one of these for a formula and runs it; item texts
/// come from sellers, so such a cell is marked as text.
fn inert(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use whyrank_models::progress::Silent;
    use whyrank_plugin::ExplanationState;

    use super::*;
    use crate::audience::ExpectedSize;
    use crate::rerank::Reasons;

    fn response() -> AudienceResponse {
        let member = |rank: u32, positive: Option<&str>| AudienceMember {
            user: format!("u,{rank}"),
            rank,
            retrieval_rank: rank,
            probability: 0.5,
            take_up: Some(0.25),
            score: 0.6,
            rating: 4.0,
            item: None,
            segment: None,
            state: ExplanationState::Predicted,
            explanation: positive.map(|positive| Reasons {
                positive: positive.to_owned(),
                negative: "no".to_owned(),
                source: "llm".to_owned(),
                generator: "g".to_owned(),
                stale: None,
            }),
            reasons_about: None,
            contributions: None,
        };
        AudienceResponse {
            items: Vec::new(),
            campaign: None,
            candidates: 2,
            expected: ExpectedSize {
                threshold: 0.5,
                consumers: 2,
                responses: 1.0,
                responses_of_all: 1.0,
            },
            consumers: vec![member(1, Some("=1+1")), member(2, None)],
            segments: Vec::new(),
            stages: Vec::new(),
        }
    }

    fn written(format: Format) -> Vec<u8> {
        let mut file = Vec::new();
        write(&response(), format, &mut file, &Silent).unwrap();
        file
    }

    #[test]
    fn csv_quotes_what_it_must_and_defuses_formulas() {
        let text = String::from_utf8(written(Format::Csv)).unwrap();
        assert!(text.starts_with("rank,user,item,segment,positive,negative"), "{text}");
        assert!(text.contains("1,\"u,1\",,,'=1+1,no,llm,0.5,0.25,0.6,4,"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn json_lines_hold_the_answer_s_members() {
        let text = String::from_utf8(written(Format::Jsonl)).unwrap();
        let members: Vec<AudienceMember> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(members, response().consumers);
    }

    #[test]
    fn parquet_can_be_read_back_with_what_is_absent() {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), written(Format::Parquet)).unwrap();
        let reader = SerializedFileReader::new(file.reopen().unwrap()).unwrap();
        let rows: Vec<String> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains("positive: \"=1+1\""), "{}", rows[0]);
        assert!(rows[1].contains("positive: null"), "{}", rows[1]);
    }
}
