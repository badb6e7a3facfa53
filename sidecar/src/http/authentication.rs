//! Lets in only callers with a key whose role covers the route, and records who asked what.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use whyrank_plugin::allowance::held;

use super::audit::{self, Asked, Line};
use super::callers::{self, Known};
use super::{Api, ApiError, Cause};
use crate::access::{AccessKey, KeyRole};

/// Who sent a request, where keys are configured.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: KeyRole,
    /// The items that a seller may ask about, as a filter in Qdrant's JSON.
    pub(super) items: Option<serde_json::Value>,
}

impl Caller {
    /// The holder of a key.
    pub(super) fn of(key: &AccessKey) -> Self {
        Self { name: key.name.clone(), role: key.role, items: key.items.clone() }
    }
}

/// Checks the key. Without configured keys everybody may ask everything.
pub(super) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let settings = &api.inner.settings;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // A Qdrant server can send no header; it proves itself by the token in its request.
    let by_token = path == "/" && api.inner.callers.inference_token().is_some();
    if api.inner.callers.none() || by_token {
        return next.run(request).await;
    }
    let asked = Asked::of(&mut request, settings.audit_characters);
    let refused = |cause: Cause, message: String| {
        let outcome = cause.row().0;
        api.inner.metrics.requests.with_label_values(&["access", outcome]).inc();
        let asked = asked.text();
        tracing::warn!(target: audit::TARGET, %method, path, asked, outcome, message);
        ApiError::new(cause, message).into_response()
    };
    let given = given_key(request.headers());
    let Some(Known { key, allowance }) = given.and_then(|given| api.inner.callers.find(given))
    else {
        let found = if given.is_some() { "the given key is not known" } else { "no key was given" };
        let message = format!("{found}; send one as `api-key: ...` or `authorization: Bearer ...`");
        return refused(Cause::Unauthorized, message);
    };
    if !key.role.may(&path) {
        let message = key.role.refusal(&key.name, &path, &path);
        return refused(Cause::Forbidden, message);
    }
    let place = match allowance.admit() {
        Ok(place) => place,
        Err(exhausted) => {
            let (error, name) = (callers::error(&exhausted), &key.name);
            let mut response = refused(error.cause, format!("key {name:?}: {}", error.message));
            exhausted.mark(&mut response);
            return response;
        }
    };
    request.extensions_mut().insert(Caller::of(&key));
    let line = Line::of(key.name, key.role.name(), method, path, asked);
    let response = held(next.run(request).await, place);
    line.answered(response.status());
    response
}

/// The key as Qdrant's clients send it, or as a bearer token.
pub(super) fn given_key(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    text("api-key").or(bearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_either_header() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                header::HeaderName::from_static(name),
                header::HeaderValue::from_static(value),
            )])
        };
        assert_eq!(given_key(&headers("api-key", "k")), Some("k"));
        assert_eq!(given_key(&headers("authorization", "bearer k")), Some("k"));
        assert_eq!(given_key(&headers("authorization", "Basic k")), None);
        assert_eq!(given_key(&HeaderMap::new()), None);
    }
}
