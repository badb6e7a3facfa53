//! Fuzz targets: what reads bytes from elsewhere, fed with seeds that were damaged at random. The
//! test `fuzz` runs each for a moment, the example `fuzz` for as long as one likes.

use std::path::Path;
use std::sync::OnceLock;

use prost::Message;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use whyrank::config;
use whyrank::generator::{MistralrsGenerator, MistralrsSettings};
use whyrank::import::{ImportSettings, TableReport, import};
use whyrank_models::onnx::OnnxModel;
use whyrank_models::progress::Silent;
use whyrank_plugin::Filter;
use whyrank_plugin::gateway::fuzzing::read_frames;
use whyrank_plugin::wire::filter_from_proto;

/// Something that takes bytes from elsewhere.
#[derive(Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Inputs that are right, to be damaged.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes bytes; a panic is a fault.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 8] = [
    Target { name: "import_csv", seeds: csv_seeds, run: |bytes| imported(bytes, "csv") },
    Target { name: "import_jsonl", seeds: jsonl_seeds, run: |bytes| imported(bytes, "jsonl") },
    Target { name: "import_parquet", seeds: parquet_seeds, run: |b| imported(b, "parquet") },
    Target { name: "filters", seeds: filter_seeds, run: filters },
    Target { name: "gateway_frames", seeds: frame_seeds, run: read_frames },
    Target { name: "onnx", seeds: onnx_seeds, run: onnx },
    Target { name: "gguf", seeds: gguf_seeds, run: gguf },
    Target { name: "configuration", seeds: configuration_seeds, run: configuration },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Damaged seeds without end, the same for the same number.
pub fn inputs(target: &Target, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let seeds = (target.seeds)();
    let mut random = StdRng::seed_from_u64(seed);
    let whole = seeds.clone();
    whole.into_iter().chain(std::iter::repeat_with(move || damaged(&seeds, &mut random)))
}

/// Numbers that readers of lengths stumble over.
const NUMBERS: [u64; 9] =
    [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX / 2, u64::MAX];

/// Pieces that mean something to some reader.
const PIECES: [&[u8]; 16] = [
    b"\"",
    b"\n",
    b"\t",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"1e999",
    b"-1",
    b"\\ud800",
    b"\xff\xfe",
    b"\0",
    b"NaN",
    b"'''",
];

fn damaged(seeds: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seeds.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..=6) {
        let place = random.random_range(0..=bytes.len());
        let rest = bytes.len() - place;
        match random.random_range(0..8) {
            0 if rest > 0 => bytes[place] ^= 1 << random.random_range(0..8),
            1 if rest > 0 => bytes[place] = random.random(),
            2 => bytes.truncate(place),
            3 => drop(bytes.drain(place..place + random.random_range(0..=rest.min(32)))),
            4 => {
                let piece = PIECES.choose(random).copied().unwrap_or_default();
                bytes.splice(place..place, piece.iter().copied());
            }
            5 if rest >= 8 => {
                let number = NUMBERS.choose(random).copied().unwrap_or_default().to_le_bytes();
                let width = *[1, 2, 4, 8].choose(random).unwrap_or(&8);
                bytes[place..place + width].copy_from_slice(&number[..width]);
            }
            6 => {
                let other = seeds.choose(random).cloned().unwrap_or_default();
                bytes.truncate(place);
                bytes.extend_from_slice(&other[random.random_range(0..=other.len())..]);
            }
            _ => {
                let piece = bytes[place..place + rest.min(16)].to_vec();
                for _ in 0..random.random_range(1..20) {
                    bytes.splice(place..place, piece.iter().copied());
                }
            }
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

/// A folder for files that only exist while a target reads them.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| TempDir::new().expect("a temporary folder")).path()
}

fn file(bytes: &[u8], ending: &str) -> std::path::PathBuf {
    let path = folder().join(format!("{:?}.{ending}", std::thread::current().id()));
    std::fs::write(&path, bytes).expect("written");
    path
}

/// The same bytes as all three tables, each row accounted for.
fn imported(bytes: &[u8], ending: &str) {
    let path = file(bytes, ending);
    let mut settings = ImportSettings::default();
    settings.interactions.path = Some(path.clone());
    settings.items.path = Some(path.clone());
    settings.users.path = Some(path);
    settings.maximum_line_bytes = 4096;
    let Ok((dataset, report)) = import(&settings, &Silent) else { return };
    let accounted = |table: &TableReport| {
        assert_eq!(table.read, table.kept + table.refused.values().sum::<u64>(), "{table:?}");
    };
    accounted(&report.interactions);
    accounted(&report.items);
    accounted(&report.users);
    assert!(dataset.interactions.iter().all(|one| one.rating.is_finite()));
}

fn csv_seeds() -> Vec<Vec<u8>> {
    let rows = [
        "user,item,rating,time,id,title,text\nu1,i1,4.5,880000000,i1,\"A \"\"quoted\"\" title\",text\n",
        "user,item,rating,time,id\nu1,i1,4,2020-01-01T00:00:00Z,u1\r\nu2,i2,,1,u2\n",
        "\u{feff}user,item,rating,time,id\n\"u\n1\",i1,1e3,-1,x\n",
    ];
    rows.iter().map(|row| row.as_bytes().to_vec()).collect()
}

fn jsonl_seeds() -> Vec<Vec<u8>> {
    let rows = [
        "{\"user\":\"u1\",\"item\":1,\"rating\":4.5,\"time\":880000000,\"id\":\"i1\",\"title\":\"A\",\"vector\":[1,2]}\n",
        "{\"user\":7,\"item\":\"i\",\"rating\":\"3\",\"time\":\"2020-01-01\",\"id\":9}\n\n{\"id\":null}\n",
        "{\"id\":\"\\u00e9\\ud83d\\ude00\",\"user\":[1],\"item\":{\"a\":1},\"rating\":1e400,\"time\":-5}\n",
    ];
    rows.iter().map(|row| row.as_bytes().to_vec()).collect()
}

fn parquet_seeds() -> Vec<Vec<u8>> {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let schema = "message rows { required binary user (UTF8); required binary item (UTF8); \
                  required float rating; required int64 time; required binary id (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut bytes = Vec::new();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer =
        SerializedFileWriter::new(&mut bytes, schema, properties).expect("a Parquet writer");
    let mut group = writer.next_row_group().expect("a row group");
    let texts: Vec<ByteArray> = ["a", "b", "c"].into_iter().map(ByteArray::from).collect();
    let mut number = 0;
    while let Some(mut column) = group.next_column().expect("a column") {
        match number {
            2 => drop(column.typed::<FloatType>().write_batch(&[1.0, 2.5, 5.0], None, None)),
            3 => drop(column.typed::<Int64Type>().write_batch(&[1, 2, 3], None, None)),
            _ => drop(column.typed::<ByteArrayType>().write_batch(&texts, None, None)),
        }
        column.close().expect("a whole column");
        number += 1;
    }
    group.close().expect("a whole group");
    writer.close().expect("a whole file");
    vec![bytes]
}

/// In JSON and in protocol buffers; what is read is written and read again, and means the same.
fn filters(bytes: &[u8]) {
    if let Ok(json) = serde_json::from_slice(bytes)
        && let Ok(filter) = Filter::from_json(json)
    {
        // Not compared as JSON: lists of ids are sets and have no order.
        let again = Filter::from_json(filter.to_json()).expect("a filter that was written");
        assert_eq!(again, filter);
    }
    if let Ok(message) = qdrant_client::qdrant::Filter::decode(bytes)
        && let Ok(filter) = filter_from_proto(message)
    {
        let _ = filter.to_json();
    }
}

fn filter_seeds() -> Vec<Vec<u8>> {
    use qdrant_client::qdrant::{Condition, Filter, Range};

    let json = r#"{"must":[{"key":"a.b[]","match":{"value":"x"}},{"key":"n","range":{"gte":1.5,"lt":1e9}},
        {"has_id":[1,"5c56c793-69f3-4fbf-87e6-c4bf54c28c26"]},{"is_empty":{"key":"e"}},
        {"nested":{"key":"n","filter":{"must_not":[{"is_null":{"key":"z"}}]}}}],
        "should":[{"key":"t","match":{"any":["a","b"]}},{"key":"d","range":{"gt":"2020-01-01T00:00:00Z"}},
        {"key":"g","geo_radius":{"center":{"lon":1,"lat":2},"radius":5}}],
        "min_should":{"conditions":[{"key":"k","match":{"text":"w"}}],"min_count":1}}"#;
    let proto = Filter::must([
        Condition::matches("city", "London".to_owned()),
        Condition::range("n", Range { gte: Some(1.0), ..Range::default() }),
        Condition::has_id([1, 2]),
    ]);
    vec![json.as_bytes().to_vec(), proto.encode_to_vec()]
}

fn frame_seeds() -> Vec<Vec<u8>> {
    use qdrant_client::qdrant::{QueryPoints, QueryResponse, ScoredPoint};

    let framed = |message: Vec<u8>| {
        let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
        [&[0], length.as_slice(), &message].concat()
    };
    let query = QueryPoints {
        collection_name: "items".to_owned(),
        limit: Some(10),
        timeout: Some(3),
        ..QueryPoints::default()
    };
    let point = |id: u64| ScoredPoint { id: Some(id.into()), score: 0.5, ..ScoredPoint::default() };
    let answer = QueryResponse { result: vec![point(1), point(2)], ..QueryResponse::default() };
    let rest = r#"{"query":{"nearest":7},"lookup_from":{"collection":"users"},"limit":3,"offset":1,"with_payload":true,
        "result":{"points":[{"id":1,"score":0.5,"payload":{}},{"id":"5c56c793-69f3-4fbf-87e6-c4bf54c28c26","score":1}]}}"#;
    let batch = r#"{"searches":[{"query":1},{"query":[0.1]}],"result":[{"points":[]},{"points":[{"id":3,"score":1}]}]}"#;
    let groups = r#"{"query":1,"group_by":"g","group_size":2,"result":{"groups":[{"id":"a","hits":[{"id":1,"score":1}]}]}}"#;
    let rest = [rest, batch, groups].map(|text| text.as_bytes().to_vec());
    let grpc = [framed(query.encode_to_vec()), framed(answer.encode_to_vec())];
    rest.into_iter().chain(grpc).collect()
}

fn onnx(bytes: &[u8]) {
    let path = file(bytes, "onnx");
    let _ = OnnxModel::load(&path, "encoder");
}

/// A small real encoder, trained for a moment.
fn onnx_seeds() -> Vec<Vec<u8>> {
    use whyrank_models::TrainingSettings;
    use whyrank_models::autoencoder::{Autoencoder, AutoencoderSettings};

    let mut random = StdRng::seed_from_u64(1);
    let rows = ndarray::Array2::from_shape_fn((40, 4), |_| random.random_range(-1.0_f32..1.0));
    let loop_of = || TrainingSettings { epochs: 1, batch: 16, ..TrainingSettings::default() };
    let settings = AutoencoderSettings {
        code: 2,
        hidden: 3,
        pretrain: loop_of(),
        fine_tune: loop_of(),
        ..AutoencoderSettings::default()
    };
    let trained = Autoencoder::pretrain(rows.view(), &settings, &Silent).expect("it trains");
    let (encoder, decoder) = (folder().join("encoder.onnx"), folder().join("decoder.onnx"));
    trained.export(&encoder, &decoder).expect("it is written");
    vec![std::fs::read(&encoder).expect("it is read")]
}

fn gguf(bytes: &[u8]) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime"));
    let path = file(bytes, "gguf");
    let settings = MistralrsSettings {
        model: path.to_string_lossy().into_owned(),
        ..MistralrsSettings::default()
    };
    let loaded = runtime.block_on(MistralrsGenerator::load(&settings));
    assert!(loaded.is_err(), "a header without weights is no model");
}

/// A header with metadata and the description of one tensor, and no tensor.
fn gguf_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let pair = |key: &str, kind: u32, value: Vec<u8>| {
        [text(key), kind.to_le_bytes().to_vec(), value].concat()
    };
    let (number, string, list) = (4_u32, 8_u32, 9_u32);
    let tokens =
        [string.to_le_bytes().to_vec(), 2_u64.to_le_bytes().to_vec(), text("<s>"), text("a")]
            .concat();
    let tensor = [
        text("token_embd.weight"),
        2_u32.to_le_bytes().to_vec(),
        [4_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat(),
        0_u32.to_le_bytes().to_vec(),
        0_u64.to_le_bytes().to_vec(),
    ];
    let header = [
        b"GGUF".to_vec(),
        3_u32.to_le_bytes().to_vec(),
        1_u64.to_le_bytes().to_vec(),
        4_u64.to_le_bytes().to_vec(),
        pair("general.architecture", string, text("llama")),
        pair("llama.block_count", number, 1_u32.to_le_bytes().to_vec()),
        pair("tokenizer.ggml.model", string, text("gpt2")),
        pair("tokenizer.ggml.tokens", list, tokens),
        tensor.concat(),
    ];
    vec![header.concat()]
}

fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(faults) = config::read_text(&text, &[]) {
        assert!(!faults.faults.is_empty(), "a refusal says why");
        assert!(!faults.to_string().is_empty());
    }
}

fn configuration_seeds() -> Vec<Vec<u8>> {
    let shipped = include_bytes!("../../config/whyrank.toml").to_vec();
    let small = b"[rerank]\nlimit = 5\nscore = \"rating\"\n[store.server]\nurl = \"http://h:1\"\n\
        [[import.items.attributes]]\ncolumn = \"a\"\nlabel = \"b\"\n[server]\naddress = \"127.0.0.1:0\"\n";
    vec![small.to_vec(), shipped]
}
