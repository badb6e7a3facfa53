//! `/console`: the API's answers as pages for people. Every page asks the handler of the route that
//! answers the same for programs, so that limits, roles and what is withheld are the same ones. Where
//! keys are configured a browser signs in with one and gets a session.

mod fields;
mod pages;
mod sessions;
mod system;

use axum::Router;
use axum::extract::{Extension, Form, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use whyrank_plugin::allowance::held;

pub use sessions::ConsoleSettings;
pub(super) use sessions::Sessions;

use self::sessions::{encrypted, given_token, no_cookie, same_origin};
use super::audit::{self, Asked, Line};
use super::authentication::{Caller, given_key};
use super::callers::{self, Known};
use super::{Api, ApiError, Cause, bodies};
use crate::console::{ICON, STYLE, render};

/// What pages may load and do: only what this server sends, no script at all, in no other page's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// The pages: path, name, and the route of the API whose answer each one shows.
const PAGES: [(&str, &str, &str); 4] = [
    ("/console/search", "Search", "/v1/recommend"),
    ("/console/audience", "Audience", "/v1/audiences"),
    ("/console/seller", "Item", "/v1/items/any/insights"),
    ("/console/system", "System", "/v1/queue"),
];

/// The largest sign-in form in bytes.
const FORM_BYTES: usize = 16 << 10;

/// Who looks at a page; nobody in particular where no keys are configured.
#[derive(Debug, Clone, Default)]
struct Visitor {
    caller: Option<Caller>,
    signed_in: bool,
}

impl Visitor {
    fn may(&self, route: &str) -> bool {
        self.caller.as_ref().is_none_or(|caller| caller.role.may(route))
    }

    fn caller(&self) -> Option<Extension<Caller>> {
        self.caller.clone().map(Extension)
    }

    /// Refuses whose role does not reach the route that a page shows.
    fn require(&self, route: &str) -> Result<(), ApiError> {
        match &self.caller {
            Some(caller) if !caller.role.may(route) => {
                let message = caller.role.refusal(&caller.name, route, "this page");
                Err(ApiError::new(Cause::Forbidden, message))
            }
            _ => Ok(()),
        }
    }
}

/// What stands around every page.
#[derive(Debug, Serialize)]
struct Frame {
    links: Vec<Link>,
    session: Option<Value>,
    notice: Option<Value>,
}

#[derive(Debug, Serialize)]
struct Link {
    href: &'static str,
    name: &'static str,
    current: bool,
}

impl Frame {
    fn new(visitor: &Visitor, current: &str) -> Self {
        let links = PAGES.iter().filter(|(_, _, route)| visitor.may(route));
        let link = |(href, name, _): &(&'static str, &'static str, &str)| Link {
            href,
            name,
            current: current.starts_with(href),
        };
        let session = visitor.caller.as_ref().filter(|_| visitor.signed_in);
        let session =
            session.map(|caller| context! { name => caller.name, role => caller.role.name() });
        Self { links: links.map(link).collect(), session, notice: None }
    }

    /// Without links, for who is not known yet.
    fn empty() -> Self {
        Self { links: Vec::new(), session: None, notice: None }
    }
}

/// The routes of the console, with their own way in.
pub(super) fn router(api: &Api) -> Router<Api> {
    let pages = Router::new()
        .route("/console", get(pages::home))
        .route("/console/", get(pages::home))
        .route("/console/search", get(pages::search))
        .route("/console/compare", get(pages::compare))
        .route("/console/audience", get(pages::audience))
        .route("/console/audience/export", get(pages::export))
        .route("/console/seller", get(pages::seller))
        .route("/console/system", get(system::page))
        .route("/console/{*path}", get(pages::unknown))
        .layer(from_fn_with_state(api.clone(), enter));
    pages
        .route("/console/login", post(sign_in))
        .route("/console/logout", post(sign_out))
        .layer(from_fn_with_state(api.clone(), admit))
        .layer(from_fn_with_state(api.clone(), read))
        .route("/console/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/console/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
        .layer(from_fn(protect))
}

fn asset(media: &'static str, text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, media), (header::CACHE_CONTROL, "max-age=300")];
    (headers, text).into_response()
}

/// Tells the browser what these pages may do. Answers are about people and are kept nowhere.
async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Reads a form before it takes a place, as bodies of the API are read.
async fn read(State(api): State<Api>, request: Request, next: Next) -> Response {
    match bodies::whole(request, &api.inner.bodies.at_most(FORM_BYTES)).await {
        Ok(request) => next.run(request).await,
        Err(error) => error_page(&Frame::empty(), &error),
    }
}

/// Lets a request in if the server has a place for it, as for the API.
async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Ok(place) = api.inner.admission.clone().try_acquire_owned() else {
        let message = "too many requests are in hand (`server.maximum_requests`); try again";
        return error_page(&Frame::empty(), &ApiError::new(Cause::Full, message));
    };
    let response = next.run(request).await;
    held(response, place)
}

/// Finds out who asks, by session or by key; who is not known gets the form to sign in.
async fn enter(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if api.inner.callers.none() {
        request.extensions_mut().insert(Visitor::default());
        return next.run(request).await;
    }
    let headers = request.headers();
    // A session does not outlive its key, and may do what the key may do now.
    let session = given_token(headers)
        .and_then(|token| api.inner.sessions.key(token))
        .and_then(|digest| api.inner.callers.still(&digest));
    let signed_in = session.is_some();
    let by_key = || given_key(headers).and_then(|given| api.inner.callers.find(given));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let found = session.or_else(by_key);
    let found = found.map(|known| (Caller::of(&known.key), known.allowance));
    let asked = Asked::of(&mut request, api.inner.settings.audit_characters);
    let Some((caller, allowance)) = found else {
        let next = request.uri().path_and_query().filter(|_| method == Method::GET);
        let next = next.map(|next| next.as_str().to_owned()).unwrap_or_default();
        return login_page(&next, None, StatusCode::UNAUTHORIZED);
    };
    let (key, role) = (caller.name.clone(), caller.role.name());
    let place = match allowance.admit() {
        Ok(place) => place,
        Err(exhausted) => {
            let error = callers::error(&exhausted);
            let (outcome, message) = (error.cause.row().0, &error.message);
            api.inner.metrics.requests.with_label_values(&["access", outcome]).inc();
            let asked = asked.text();
            tracing::warn!(target: audit::TARGET, key, role, %method, path, asked, outcome, message);
            let mut response = error_page(&Frame::empty(), &error);
            exhausted.mark(&mut response);
            return response;
        }
    };
    request.extensions_mut().insert(Visitor { caller: Some(caller), signed_in });
    let line = Line::of(key, role, method, path, asked);
    let response = held(next.run(request).await, place);
    line.answered(response.status());
    response
}

/// What the form to sign in sends.
#[derive(Debug, Deserialize)]
struct SignIn {
    #[serde(default)]
    key: String,
    #[serde(default)]
    next: String,
}

/// Begins a session. The answer to a wrong key says no more than that.
async fn sign_in(
    State(api): State<Api>,
    headers: axum::http::HeaderMap,
    form: Result<Form<SignIn>, axum::extract::rejection::FormRejection>,
) -> Response {
    let counted = |outcome: &str| {
        api.inner.metrics.requests.with_label_values(&["console_login", outcome]).inc();
    };
    let refused = |cause: Cause, next: &str, message: String| {
        let (outcome, status, _) = cause.row();
        counted(outcome);
        tracing::warn!(target: audit::TARGET, path = "/console/login", outcome, message);
        login_page(next, Some(("Not signed in", message)), status)
    };
    let form = match form {
        Ok(Form(form)) => form,
        Err(rejection) => return refused(Cause::Malformed, "", rejection.body_text()),
    };
    if !same_origin(&headers) {
        let message =
            "the form was not sent by a page of this server; open the console and sign in there";
        return refused(Cause::Forbidden, "", message.to_owned());
    }
    let Some(Known { key, .. }) = api.inner.callers.find(form.key.trim()) else {
        let message = "This key is not known here.".to_owned();
        return refused(Cause::Unauthorized, &form.next, message);
    };
    let token = match api.inner.sessions.begin(&key.sha256) {
        Ok(token) => token,
        Err(error) => return refused(Cause::Internal, &form.next, error.to_string()),
    };
    if let Some(old) = given_token(&headers) {
        api.inner.sessions.end(old);
    }
    counted("ok");
    tracing::info!(target: audit::TARGET, key = key.name, role = key.role.name(), "signed in");
    let cookie = api.inner.sessions.cookie(&token, encrypted(&headers));
    let next = if safe(&form.next) { form.next.as_str() } else { "/console" };
    see(next, Some(&cookie))
}

/// Whether a path leads back into the console and nowhere else.
fn safe(next: &str) -> bool {
    let inside = next == "/console" || next.starts_with("/console/");
    inside && next.chars().all(|c| c.is_ascii_graphic() && c != '\\')
}

/// Ends the session.
async fn sign_out(State(api): State<Api>, headers: axum::http::HeaderMap) -> Response {
    if !same_origin(&headers) {
        let message = "the form was not sent by a page of this server";
        return error_page(&Frame::empty(), &ApiError::new(Cause::Forbidden, message));
    }
    if let Some(token) = given_token(&headers) {
        api.inner.sessions.end(token);
    }
    see("/console", Some(&no_cookie()))
}

/// Sends the browser on, with a cookie if one is given.
fn see(path: &str, cookie: Option<&str>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    for (name, value) in [(header::LOCATION, Some(path)), (header::SET_COOKIE, cookie)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

fn login_page(next: &str, notice: Option<(&str, String)>, status: StatusCode) -> Response {
    let mut frame = Frame::empty();
    frame.notice = notice.map(|(title, message)| context! { title, message });
    page("login", status, &frame, context! { next })
}

/// An error that has no page of its own.
fn error_page(frame: &Frame, error: &ApiError) -> Response {
    let (code, status, again) = error.cause.row();
    let advice = again.then_some("The same request may succeed in a moment.");
    let context =
        context! { title => title(error.cause), message => error.message, status => code, advice };
    let mut response = page("error", status, frame, context);
    if again {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// An error's heading.
fn title(cause: Cause) -> &'static str {
    match cause {
        Cause::Malformed | Cause::Invalid => "That cannot be asked",
        Cause::Unauthorized => "Sign in first",
        Cause::Forbidden => "Not for this key",
        Cause::UnknownUser => "No such consumer",
        Cause::UnknownItem => "No such item",
        Cause::NoExplanation => "Nothing is written",
        Cause::TooLarge => "Too large",
        Cause::SlowBody => "Too slow",
        Cause::Full => "The server is busy",
        Cause::NotReady => "Not ready",
        Cause::Deadline => "It took too long",
        Cause::UnknownRoute => "There is no such page",
        Cause::WrongMethod => "That cannot be asked this way",
        Cause::Internal => "Something failed",
    }
}

/// A page in its frame. A page that cannot be made is a fault of this build; it is told in plain text.
fn page(name: &str, status: StatusCode, frame: &Frame, content: Value) -> Response {
    let frame = Value::from_serialize(frame);
    match render(name, context! { frame, ..content }) {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(page = name, error = error.message, "a page cannot be made");
            error.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_out_of_the_console() {
        for inside in ["/console", "/console/search?user=%20a&limit=3"] {
            assert!(safe(inside), "{inside}");
        }
        for outside in [
            "",
            "/",
            "//evil",
            "/console.evil",
            "https://evil",
            "/console/\r\nx: y",
            "/console/\\e",
        ] {
            assert!(!safe(outside), "{outside}");
        }
    }

    #[test]
    fn every_error_is_a_page() {
        for cause in Cause::ALL {
            let response = error_page(&Frame::empty(), &ApiError::new(cause, "<script>"));
            assert_eq!(response.status(), cause.row().1);
            assert!(response.headers()[header::CONTENT_TYPE].to_str().unwrap().contains("html"));
        }
    }
}
