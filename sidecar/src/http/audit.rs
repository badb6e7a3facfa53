//! What the audit log tells of a request: besides who asked and by which route, what was asked for.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::{Method, StatusCode};

/// The target of the audit log's lines, by which a collector tells them from others.
pub(super) const TARGET: &str = "whyrank::audit";

/// What a request asks for: the query of its address or, once it is read, its body. Bounded, because a
/// body may be as large as the server takes.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    characters: usize,
    query: String,
    body: Arc<OnceLock<String>>,
}

impl Asked {
    /// What a request asks for by its address. Whoever reads the body finds this in the extensions.
    pub(super) fn of(request: &mut Request, characters: usize) -> Self {
        let query = bounded(request.uri().query().unwrap_or_default().as_bytes(), characters);
        let asked = Self { characters, query, body: Arc::default() };
        request.extensions_mut().insert(asked.clone());
        asked
    }

    /// The body was read.
    pub(super) fn read(&self, body: &[u8]) {
        // A request has one body; should it be read again, the first reading stays.
        let _ = self.body.set(bounded(body, self.characters));
    }

    /// The query, and the body if there was one.
    pub(super) fn text(&self) -> String {
        let body = self.body.get().map_or("", String::as_str);
        let between = if self.query.is_empty() || body.is_empty() { "" } else { " " };
        format!("{}{between}{body}", self.query)
    }
}

/// The line about a request with a key. It is told when the request is answered, and just as well when its
/// caller leaves before: what was begun may go on all the same.
#[derive(Debug)]
pub(super) struct Line {
    key: String,
    role: &'static str,
    method: Method,
    path: String,
    asked: Asked,
    /// None until it is answered.
    status: Option<u16>,
}

impl Line {
    /// The line about a request that has been let in.
    pub(super) fn of(
        key: String,
        role: &'static str,
        method: Method,
        path: String,
        asked: Asked,
    ) -> Self {
        Self { key, role, method, path, asked, status: None }
    }

    /// The request is answered.
    pub(super) fn answered(mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { key, role, method, path, asked, status } = self;
        let (asked, outcome) = (asked.text(), status.is_none().then_some("left"));
        tracing::info!(target: TARGET, key, role, %method, path, asked, status, outcome);
    }
}

/// The first characters of a text, marked if more follow.
fn bounded(bytes: &[u8], characters: usize) -> String {
    // No character takes more than four bytes.
    let start = &bytes[..bytes.len().min(characters.saturating_mul(4))];
    let text = String::from_utf8_lossy(start);
    let kept: String = text.chars().take(characters).collect();
    if kept.len() == bytes.len() || kept.is_empty() { kept } else { kept + "…" }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(address: &str, characters: usize) -> Asked {
        let mut request = Request::builder().uri(address).body(Body::empty()).unwrap();
        let asked = Asked::of(&mut request, characters);
        assert!(request.extensions().get::<Asked>().is_some());
        asked
    }

    #[test]
    fn query_and_body_are_told_together() {
        let one = asked("/v1/items/a/insights?competitor=b", 100);
        assert_eq!(one.text(), "competitor=b");
        one.read(b"{}");
        one.read(b"again");
        assert_eq!(one.text(), "competitor=b {}");
        assert_eq!(asked("/v1/recommend", 100).text(), "");
    }

    #[test]
    fn only_so_much_is_told() {
        let one = asked("/", 3);
        one.read("åß∂ƒ".as_bytes());
        assert_eq!(one.text(), "åß∂…");
        let none = asked("/?user=1", 0);
        none.read(b"{}");
        assert_eq!(none.text(), "", "turned off");
        let whole = asked("/?ab", 2);
        whole.read(&[0xff]);
        assert_eq!(whole.text(), "ab \u{fffd}…", "not UTF-8");
    }
}
