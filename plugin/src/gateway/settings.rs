//! The settings of the gateway: where it listens, what it stands in front of, and its limits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::allowance::KeyLimits;
use crate::secret::Secret;

/// Where the gateway listens, what it stands in front of, and the limits it keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Address and port of Qdrant's REST; port 0 takes a free one.
    pub rest_address: String,
    /// Address and port of Qdrant's gRPC; port 0 takes a free one.
    pub grpc_address: String,
    /// The REST address of the Qdrant server behind; not used with the embedded store.
    pub upstream_rest: String,
    /// The gRPC address of the Qdrant server behind; absent means the one of `store.server.url`.
    pub upstream_grpc: Option<String>,
    /// Further names under which clients query the items collection, such as an alias of it.
    pub collections: Vec<String>,
    /// What happens to a query for a known consumer, unless the request says otherwise.
    pub mode: Mode,
    /// Which score a reranked answer carries.
    pub score: GatewayScore,
    /// The key under which reasons, scores and ranks ride in a payload.
    pub payload_key: String,
    /// Milliseconds for reranking one request; half of the client's own timeout if that is shorter.
    /// Afterwards the client gets Qdrant's own answer.
    pub deadline_milliseconds: u64,
    /// Requests reranked at the same time; more get Qdrant's own answer.
    pub maximum_reranks: usize,
    /// Requests reranked in the shadow at the same time; more are not shadowed.
    pub maximum_shadows: usize,
    /// The largest query that is read in order to be reranked, decompressed where it is compressed; a
    /// larger one passes through.
    pub maximum_body_bytes: usize,
    /// Bytes of queries that are held at the same time in order to be reranked; what does not fit passes
    /// through.
    pub maximum_buffered_bytes: usize,
    /// Seconds for a query to arrive whole; one that takes longer passes through as it comes.
    pub body_seconds: u64,
    /// Connections to the server behind that gRPC requests share.
    pub upstream_connections: usize,
    /// Milliseconds to connect to the server behind.
    pub connect_timeout_milliseconds: u64,
    /// Seconds until the server behind must begin its answer.
    pub upstream_timeout_seconds: u64,
    /// Keys that clients must present as `api-key` or `Authorization: Bearer`; none lets all in, and
    /// leaves refusing to the server behind.
    pub api_keys: Vec<Secret>,
    /// A file with further such keys, one a line; read again while serving, as keys are.
    pub api_keys_file: Option<PathBuf>,
    /// The key for the server behind, in place of the client's; absent passes the client's on.
    pub upstream_api_key: Option<Secret>,
    /// A file with that key, read again while serving, as keys are; instead of `upstream_api_key`.
    pub upstream_api_key_file: Option<PathBuf>,
    /// A file with further certificate authorities (PEM) to trust in the server behind.
    pub upstream_certificate_authority: Option<PathBuf>,
    /// The gateway's certificate chain (PEM); with it and the key the gateway speaks TLS.
    pub certificate: Option<PathBuf>,
    /// The key of the certificate (PEM).
    pub certificate_key: Option<PathBuf>,
    /// The authorities of the clients' certificates (PEM); with them a client without such a certificate
    /// is refused.
    pub client_certificate_authority: Option<PathBuf>,
    /// What one of the keys may ask for.
    pub key_limits: KeyLimits,
    /// What was read from `api_keys_file`; no setting of its own.
    #[serde(skip)]
    pub api_keys_read: Vec<Secret>,
}

/// The keys that clients present, what each may ask for, and the key that the server behind is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GatewayKeys {
    /// Keys that let clients in; none lets all in.
    pub clients: Vec<Secret>,
    /// What each of them may ask for.
    pub limits: KeyLimits,
    /// The key for the server behind, in place of the client's.
    pub upstream: Option<Secret>,
}

impl GatewaySettings {
    /// All keys, those of the file included.
    pub fn keys(&self) -> GatewayKeys {
        let clients = self.api_keys.iter().chain(&self.api_keys_read).cloned().collect();
        let (limits, upstream) = (self.key_limits, self.upstream_api_key.clone());
        GatewayKeys { clients, limits, upstream }
    }
}

/// What happens to a query for a known consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It passes through.
    Off,
    /// It passes through, and is reranked beside that, for the log and the metrics only.
    Shadow,
    /// It is reranked.
    Rerank,
}

/// Which score a reranked answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayScore {
    /// The ranker's, by which the answer is ordered.
    Ranker,
    /// Qdrant's, for clients that compare it with a threshold of their own.
    Original,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            rest_address: "127.0.0.1:6343".to_owned(),
            grpc_address: "127.0.0.1:6344".to_owned(),
            upstream_rest: "http://localhost:6333".to_owned(),
            upstream_grpc: None,
            collections: Vec::new(),
            mode: Mode::Rerank,
            score: GatewayScore::Ranker,
            payload_key: "whyrank".to_owned(),
            deadline_milliseconds: 500,
            maximum_reranks: 64,
            maximum_shadows: 16,
            maximum_body_bytes: 32 << 20,
            maximum_buffered_bytes: 256 << 20,
            body_seconds: 10,
            upstream_connections: 4,
            connect_timeout_milliseconds: 2_000,
            upstream_timeout_seconds: 300,
            api_keys: Vec::new(),
            api_keys_file: None,
            api_keys_read: Vec::new(),
            upstream_api_key: None,
            upstream_api_key_file: None,
            upstream_certificate_authority: None,
            certificate: None,
            certificate_key: None,
            client_certificate_authority: None,
            key_limits: KeyLimits::default(),
        }
    }
}
