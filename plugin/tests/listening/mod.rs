//! A listener on ports of this machine, with a client, and a collection to ask about.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use qdrant_client::Qdrant;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tower::ServiceExt;
use whyrank_plugin::{
    CollectionSchema, Distance, EmbeddedSettings, EmbeddedStore, Listener, ListenerSettings, Point,
    PointId, Store, VectorSchema,
};

/// The collection that [`filled`] makes.
pub(crate) const NAMED: &str = "named";

/// A served listener.
pub(crate) struct Listening {
    pub store: Arc<dyn Store>,
    pub client: Qdrant,
    rest: Router,
    _folder: TempDir,
}

impl Listening {
    pub(crate) async fn start(settings: ListenerSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut store = EmbeddedSettings::in_folder(folder.path());
        store.minimum_free_bytes = 0;
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(store).await.unwrap());
        let listener = Listener::new(Arc::clone(&store), settings);
        let grpc = serve(listener.grpc()).await;
        let client = Qdrant::from_url(&format!("http://{grpc}")).skip_compatibility_check();
        let client = client.build().unwrap();
        Self { store, client, rest: listener.rest(), _folder: folder }
    }

    /// Calls the REST interface: the HTTP status and the body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let response = self.rest.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.into()).unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Calls the REST interface, which must answer.
    pub(crate) async fn result(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, mut answer) = self.call(method, path, body).await;
        assert_eq!((status, &answer["status"]), (200, &json!("ok")), "{method} {path}: {answer}");
        assert!(answer["time"].is_number(), "{answer}");
        answer["result"].take()
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Twelve points along a line in `named`, and user 11, who looks the other way.
pub(crate) async fn filled(listening: &Listening) {
    let vector = VectorSchema { dimension: 2, distance: Distance::Dot, indexed: true };
    let schema = |name: &str| CollectionSchema {
        vectors: [(name.to_owned(), vector)].into(),
        ..CollectionSchema::default()
    };
    let points = (0..12_u64).map(|number| Point {
        id: number.into(),
        vectors: [("first".to_owned(), vec![number as f32, 1.0])].into(),
        payload: json!({"parity": number % 2, "third": number % 3, "text": format!("{number}")})
            .as_object()
            .cloned()
            .unwrap(),
    });
    let user = Point {
        id: 11.into(),
        vectors: [("user".to_owned(), vec![-1.0, 0.0])].into(),
        payload: Default::default(),
    };
    listening.store.ensure(NAMED, &schema("first")).await.unwrap();
    listening.store.ensure("users", &schema("user")).await.unwrap();
    listening.store.upsert(NAMED, points.collect()).await.unwrap();
    listening.store.upsert("users", vec![user]).await.unwrap();
}

pub(crate) fn ids(numbers: &[u64]) -> Vec<PointId> {
    numbers.iter().map(|number| PointId::Number(*number)).collect()
}

/// The ids of the points of an answer.
pub(crate) fn point_ids(points: &Value) -> Vec<PointId> {
    let points = points.as_array().expect("points are a list").iter();
    points.map(|point| serde_json::from_value(point["id"].clone()).unwrap()).collect()
}
