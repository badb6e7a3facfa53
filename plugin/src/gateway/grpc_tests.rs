//! Requests and answers in protocol buffers, read and written.

use super::*;

fn request() -> qdrant::QueryPoints {
    qdrant::QueryPoints {
        collection_name: "items".to_owned(),
        limit: Some(3),
        offset: Some(2),
        query: Some(qdrant::Query {
            variant: Some(Variant::Nearest(qdrant::VectorInput {
                variant: Some(vector_input::Variant::Id(point_id(7.into()))),
            })),
        }),
        lookup_from: Some(qdrant::LookupLocation {
            collection_name: "users".to_owned(),
            ..Default::default()
        }),
        with_payload: Some(true.into()),
        timeout: Some(4),
        ..Default::default()
    }
}

/// Room for every request here.
fn bounds() -> Bounds {
    Bounds::new(1 << 20, Duration::from_secs(60), 1 << 20)
}

async fn read(body: &Bytes, encoding: Option<&str>) -> Result<GrpcQueries, Unread> {
    let (message, _share) = request_message(body, encoding, &bounds()).await?;
    GrpcQueries::read(Shape::Single, &message)
}

/// A frame whose message is compressed.
fn packed(message: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(message).unwrap();
    let packed = encoder.finish().unwrap();
    let mut body = vec![1];
    body.extend((packed.len() as u32).to_be_bytes());
    body.extend(&packed);
    body.into()
}

#[tokio::test]
async fn a_request_is_read_widened_and_keeps_the_rest() {
    let body = frame(&request());
    let queries = read(&body, None).await.unwrap();
    let asked = queries.asked("users").remove(0);
    assert_eq!((asked.limit, asked.offset, asked.payload), (3, 2, true));
    assert_eq!(asked.consumer, Some(7.into()));
    assert_eq!(queries.asked("others")[0].consumer, None);
    let widened = message_of(&queries.widened(&[Some(200)]), None).unwrap();
    let widened = qdrant::QueryPoints::decode(widened).unwrap();
    let expected =
        qdrant::QueryPoints { limit: Some(200), offset: None, with_payload: None, ..request() };
    assert_eq!(widened, expected);
}

#[tokio::test]
async fn fields_of_newer_clients_are_not_lost_but_left_alone() {
    let mut message = request().encode_to_vec();
    // Field 1000, a varint: nothing that this version knows.
    message.extend([0xc0, 0x3e, 0x01]);
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    assert_eq!(read(&body.into(), None).await.unwrap_err(), Unread::Newer);
}

#[tokio::test]
async fn compressed_and_damaged_messages() {
    let body = packed(&request().encode_to_vec());
    assert!(read(&body, Some("gzip")).await.is_ok());
    for (body, encoding) in [
        (body.clone(), Some("zstd")),
        (body.slice(..body.len() - 1), Some("gzip")),
        (Bytes::new(), None),
        (Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]), None),
        // A whole frame around what is no gzip.
        (Bytes::from_static(&[1, 0, 0, 0, 1, 7]), Some("gzip")),
    ] {
        assert_eq!(read(&body, encoding).await.unwrap_err(), Unread::Malformed, "{body:?}");
    }
}

#[tokio::test]
async fn a_small_message_takes_no_more_than_the_bounds_when_it_is_decompressed() {
    let message = vec![0_u8; 64 << 10];
    let body = packed(&message);
    assert!(body.len() < 1 << 10, "{} bytes are not small", body.len());
    let roomy = Bounds::new(64 << 10, Duration::from_secs(60), 100 << 10);
    let narrow = roomy.at_most((64 << 10) - 1);
    let beyond = request_message(&body, Some("gzip"), &narrow).await;
    assert_eq!(beyond.unwrap_err(), Unread::Beyond(bodies::Unread::TooLarge));
    let (whole, share) = request_message(&body, Some("gzip"), &roomy).await.unwrap();
    assert_eq!(whole, message);
    // The first one leaves no room for a second, as long as its share is held.
    let second = request_message(&body, Some("gzip"), &roomy).await;
    assert_eq!(second.unwrap_err(), Unread::Beyond(bodies::Unread::NoRoom));
    drop(share);
    assert!(request_message(&body, Some("gzip"), &roomy).await.is_ok());
}
