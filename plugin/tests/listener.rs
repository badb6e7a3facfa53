//! The listener in front of the embedded store, driven by the real Rust client over gRPC and by HTTP.

mod listening;

use listening::{Listening, NAMED, filled, ids, point_ids};
use proptest::prelude::*;
use qdrant_client::QdrantError;
use qdrant_client::qdrant;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    Condition, CountPoints, CreateCollection, CreateFieldIndexCollection, DeletePoints,
    FacetCounts, FieldType, GetPoints, LookupLocation, PointStruct, PointsIdsList, PointsSelector,
    QueryBatchPoints, QueryPointGroups, QueryPoints, ScrollPoints, SearchPoints, SetPayloadPoints,
    UpsertPoints, VectorInput, VectorParamsBuilder, VectorsConfig, point_id::PointIdOptions,
    query::Variant, vectors_config::Config,
};
use serde_json::json;
use tonic::Code;
use whyrank_plugin::{ListenerSettings, PointId, Search, Selection};

/// The points selected by these ids.
fn selector(numbers: &[u64]) -> Option<PointsSelector> {
    let ids = numbers.iter().map(|number| (*number).into()).collect();
    let list = PointsSelectorOneOf::Points(PointsIdsList { ids });
    Some(PointsSelector { points_selector_one_of: Some(list) })
}

/// The point nearest to `input` in the named vector.
fn near(input: VectorInput, limit: u64) -> QueryPoints {
    QueryPoints {
        collection_name: NAMED.to_owned(),
        query: Some(qdrant::Query { variant: Some(Variant::Nearest(input)) }),
        using: Some("first".to_owned()),
        limit: Some(limit),
        ..QueryPoints::default()
    }
}

fn numbers(points: &[qdrant::ScoredPoint]) -> Vec<u64> {
    let numbers = points.iter().map(|point| match &point.id.as_ref()?.point_id_options {
        Some(PointIdOptions::Num(number)) => Some(*number),
        _ => None,
    });
    numbers.collect::<Option<_>>().expect("the ids are numbers")
}

#[tokio::test]
async fn the_rust_client_does_every_operation() {
    let listening = Listening::start(ListenerSettings::default()).await;
    let client = &listening.client;
    assert_eq!(client.health_check().await.unwrap().version, "1.18.3");
    let single = VectorParamsBuilder::new(2, qdrant::Distance::Dot).build();
    let create = CreateCollection {
        collection_name: "single".to_owned(),
        vectors_config: Some(VectorsConfig { config: Some(Config::Params(single)) }),
        ..CreateCollection::default()
    };
    assert!(client.create_collection(create.clone()).await.unwrap().result);
    let status = refused(client.create_collection(create).await);
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(client.collection_exists("single").await.unwrap());
    assert!(!client.collection_exists("none").await.unwrap());

    let payload = |json| qdrant_client::Payload::try_from(json).unwrap();
    let points = vec![
        PointStruct::new(1, vec![1.0, 0.5], payload(json!({"kind": "a", "deep": {"x": [1, 0.1]}}))),
        PointStruct::new(2, vec![0.25, 2.0], payload(json!({"kind": "b"}))),
        PointStruct::new(3, vec![3.0, 0.1], payload(json!({"kind": "a", "gone": true}))),
    ];
    let upsert = UpsertPoints {
        collection_name: "single".to_owned(),
        points: points.clone(),
        ..UpsertPoints::default()
    };
    client.upsert_points(upsert).await.unwrap();
    let get = GetPoints {
        collection_name: "single".to_owned(),
        ids: vec![2.into(), 1.into(), 9.into(), 1.into()],
        with_payload: Some(true.into()),
        with_vectors: Some(true.into()),
        ..GetPoints::default()
    };
    let read = client.get_points(get).await.unwrap().result;
    assert_eq!(read.len(), 2, "a missing point and a repetition are left out");
    assert_eq!(read[1].payload, points[0].payload, "integers and doubles come back as given");
    let index = CreateFieldIndexCollection {
        collection_name: "single".to_owned(),
        field_name: "kind".to_owned(),
        field_type: Some(FieldType::Keyword.into()),
        ..CreateFieldIndexCollection::default()
    };
    client.create_field_index(index).await.unwrap();
    let facet = FacetCounts {
        collection_name: "single".to_owned(),
        key: "kind".to_owned(),
        ..FacetCounts::default()
    };
    let hits = client.facet(facet).await.unwrap().hits;
    assert_eq!(hits.iter().map(|hit| hit.count).collect::<Vec<_>>(), [2, 1]);

    let set = SetPayloadPoints {
        collection_name: "single".to_owned(),
        payload: payload(json!({"gone": null, "new": 1})).into(),
        points_selector: selector(&[3]),
        ..SetPayloadPoints::default()
    };
    client.set_payload(set).await.unwrap();
    let scroll = ScrollPoints {
        collection_name: "single".to_owned(),
        limit: Some(2),
        with_payload: Some(true.into()),
        ..ScrollPoints::default()
    };
    let page = client.scroll(scroll.clone()).await.unwrap();
    assert_eq!((page.result.len(), &page.result[0].vectors), (2, &None));
    let page =
        client.scroll(ScrollPoints { offset: page.next_page_offset, ..scroll }).await.unwrap();
    assert_eq!(page.next_page_offset, None);
    assert_eq!(page.result[0].payload, payload(json!({"kind": "a", "new": 1})).into());

    let delete = DeletePoints {
        collection_name: "single".to_owned(),
        points: Some(PointsSelector {
            points_selector_one_of: Some(PointsSelectorOneOf::Filter(qdrant::Filter::must([
                Condition::matches("kind", "a".to_owned()),
            ]))),
        }),
        ..DeletePoints::default()
    };
    client.delete_points(delete).await.unwrap();
    let count = CountPoints { collection_name: "single".to_owned(), ..CountPoints::default() };
    assert_eq!(client.count(count).await.unwrap().result.map(|result| result.count), Some(1));
    let info = client.collection_info("single").await.unwrap().result.unwrap();
    assert_eq!((info.points_count, info.payload_schema.len()), (Some(1), 1));
    let names = client.list_collections().await.unwrap().collections;
    assert_eq!(names.len(), 1);
    assert!(client.delete_collection("single").await.unwrap().result);
    assert!(!client.delete_collection("single").await.unwrap().result);
}

#[tokio::test]
async fn the_rust_client_queries_in_every_form() {
    let listening = Listening::start(ListenerSettings::default()).await;
    filled(&listening).await;
    let client = &listening.client;
    let all = client.query(near(vec![1.0, 0.0].into(), 3)).await.unwrap().result;
    assert_eq!(numbers(&all), [11, 10, 9]);
    assert!(all.iter().all(|point| point.payload.is_empty() && point.vectors.is_none()));
    let own = client.query(near(VectorInput::new_id(11), 2)).await.unwrap().result;
    assert_eq!(numbers(&own), [10, 9], "the point itself is left out");
    // The same number in another collection is another point, so it stays in the answer.
    let lookup_from = Some(LookupLocation {
        collection_name: "users".to_owned(),
        vector_name: Some("user".to_owned()),
        ..LookupLocation::default()
    });
    let near_user = QueryPoints { lookup_from, ..near(VectorInput::new_id(11), 2) };
    assert_eq!(numbers(&client.query(near_user.clone()).await.unwrap().result), [0, 1]);
    let filter = Some(qdrant::Filter::must([Condition::matches("parity", 1)]));
    let odd = QueryPoints { filter, offset: Some(1), ..near(vec![1.0, 0.0].into(), 2) };
    assert_eq!(numbers(&client.query(odd.clone()).await.unwrap().result), [9, 7]);
    let batch = QueryBatchPoints {
        collection_name: NAMED.to_owned(),
        query_points: vec![near_user, odd],
        ..QueryBatchPoints::default()
    };
    let answers = client.query_batch(batch).await.unwrap().result;
    let answers: Vec<_> = answers.iter().map(|answer| numbers(&answer.result)).collect();
    assert_eq!(answers, [[0, 1], [9, 7]]);
    let QueryPoints { query, using, .. } = near(vec![1.0, 0.0].into(), 0);
    let groups = QueryPointGroups {
        collection_name: NAMED.to_owned(),
        query,
        using,
        group_by: "third".to_owned(),
        group_size: Some(2),
        limit: Some(2),
        ..QueryPointGroups::default()
    };
    let groups = client.query_groups(groups).await.unwrap().result.unwrap().groups;
    let groups: Vec<_> = groups.iter().map(|group| numbers(&group.hits)).collect();
    assert_eq!(groups, [[11, 8], [10, 7]]);
    let page = QueryPoints { query: None, ..near(vec![0.0].into(), 2) };
    assert_eq!(numbers(&client.query(page).await.unwrap().result), [0, 1]);
}

/// The status of a refused call.
fn refused<T: std::fmt::Debug>(result: Result<T, QdrantError>) -> tonic::Status {
    match result {
        Err(QdrantError::ResponseError { status }) => status,
        other => panic!("{other:?} is not a refusal"),
    }
}

#[tokio::test]
async fn what_grpc_does_not_answer_is_named() {
    let listening = Listening::start(ListenerSettings::default()).await;
    filled(&listening).await;
    let client = &listening.client;
    let check = |status: tonic::Status, code: Code, words: &str| {
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(words), "{status:?}");
    };
    let search = refused(client.search_points(SearchPoints::default()).await);
    check(search, Code::Unimplemented, "/qdrant.Points/Search");
    let aliases = refused(client.list_aliases().await);
    check(aliases, Code::Unimplemented, "/qdrant.Collections/ListAliases");
    let snapshots = refused(client.list_full_snapshots().await);
    check(snapshots, Code::Unimplemented, "/qdrant.Snapshots/ListFull");
    let fusion = qdrant::Query { variant: Some(Variant::Fusion(0)) };
    let fusion = QueryPoints { query: Some(fusion), ..near(vec![0.0].into(), 1) };
    check(refused(client.query(fusion).await), Code::Unimplemented, "fusion");
    let gone = refused(client.query(near(VectorInput::new_id(99), 1)).await);
    check(gone, Code::NotFound, "No point with id 99 found");
    let short = refused(client.query(near(vec![1.0].into(), 1)).await);
    check(short, Code::InvalidArgument, "1 components instead of 2");
    let zero = refused(client.query(near(vec![1.0, 0.0].into(), 0)).await);
    check(zero, Code::InvalidArgument, "limit");
    let missing = refused(client.collection_info("none").await);
    check(missing, Code::NotFound, "Collection `none` doesn't exist!");
}

#[test]
fn any_limit_and_offset_give_what_the_store_finds() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listening = runtime.block_on(Listening::start(ListenerSettings::default()));
    runtime.block_on(filled(&listening));
    let strategy = (1_usize..20, 0_usize..20, prop::array::uniform2(-4.0_f32..4.0), any::<bool>());
    proptest!(ProptestConfig::with_cases(64), |((limit, offset, vector, exact) in strategy)| {
        let search = Search {
            offset,
            exact,
            selection: Selection::none(),
            ..Search::new("first", vector.to_vec(), limit)
        };
        let expected = runtime.block_on(listening.store.search(NAMED, search)).unwrap();
        let (wanted, scores): (Vec<PointId>, Vec<f32>) =
            expected.iter().map(|hit| (hit.point.id, hit.score)).unzip();
        let (status, answer) = runtime.block_on(listening.call(
            "POST",
            "/collections/named/points/query",
            json!({"query": vector, "using": "first", "limit": limit, "offset": offset,
                "params": {"exact": exact}}),
        ));
        prop_assert_eq!(status, 200);
        prop_assert_eq!(point_ids(&answer["result"]["points"]), wanted.clone());
        let request = QueryPoints {
            offset: Some(offset as u64),
            ..near(vector.to_vec().into(), limit as u64)
        };
        let found = runtime.block_on(listening.client.query(request)).unwrap().result;
        prop_assert_eq!(ids(&numbers(&found)), wanted);
        prop_assert_eq!(found.iter().map(|hit| hit.score).collect::<Vec<_>>(), scores);
    });
}
