//! Sessions of the console: a random token in the browser's cookie stands for a key that was given
//! once. They live in memory, only as digests of their tokens, and end by themselves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};

use crate::access::digest;

/// The cookie's name.
const COOKIE: &str = "whyrank_session";
/// Random bytes of a token.
const BYTES: usize = 32;

/// The console under `/console`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleSettings {
    /// Whether there is one.
    pub enabled: bool,
    /// Minutes after which a signed-in browser must give its key again.
    pub session_minutes: u64,
    /// Sessions at the same time; beyond it the one that would end first ends.
    pub maximum_sessions: usize,
    /// Rows of an audience that are listed; the export has all.
    pub rows: usize,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self { enabled: true, session_minutes: 480, maximum_sessions: 1_000, rows: 100 }
    }
}

#[derive(Debug)]
struct Session {
    /// Digest of the key that it began with.
    key: String,
    ends: Instant,
}

/// The sessions of this process.
#[derive(Debug)]
pub(in crate::http) struct Sessions {
    lifetime: Duration,
    most: usize,
    by_digest: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    pub(in crate::http) fn new(settings: &ConsoleSettings) -> Self {
        let lifetime = Duration::from_secs(settings.session_minutes.saturating_mul(60));
        Self { lifetime, most: settings.maximum_sessions, by_digest: Mutex::default() }
    }

    fn held(&self, now: Instant) -> MutexGuard<'_, HashMap<String, Session>> {
        let mut held = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, session| session.ends > now);
        held
    }

    /// A new session for the key with this digest; the token comes back and is kept nowhere.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn begin(&self, key: &str) -> Result<String, rand::rand_core::OsError> {
        let mut bytes = [0_u8; BYTES];
        OsRng.try_fill_bytes(&mut bytes)?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Instant::now();
        let mut held = self.held(now);
        while held.len() >= self.most.max(1) {
            let first = held.iter().min_by_key(|(_, session)| session.ends);
            let Some(first) = first.map(|(digest, _)| digest.clone()) else { break };
            held.remove(&first);
        }
        held.insert(digest(&token), Session { key: key.to_owned(), ends: now + self.lifetime });
        Ok(token)
    }

    /// The digest of the key that this token's session began with.
    pub(super) fn key(&self, token: &str) -> Option<String> {
        let held = self.held(Instant::now());
        held.get(&digest(token)).map(|session| session.key.clone())
    }

    /// The session of this token is over.
    pub(super) fn end(&self, token: &str) {
        self.held(Instant::now()).remove(&digest(token));
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.held(Instant::now()).len()
    }

    /// The header that gives a browser its token. `secure` keeps it from being sent unencrypted.
    pub(super) fn cookie(&self, token: &str, secure: bool) -> String {
        cookie(token, self.lifetime.as_secs(), secure)
    }
}

/// The header that takes the token from a browser.
pub(super) fn no_cookie() -> String {
    cookie("", 0, false)
}

fn cookie(token: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={token}; Path=/console; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// The token that a browser sent.
pub(super) fn given_token(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE).map(|(_, token)| token.trim())
}

/// Whether a request that changes something comes from a page of this server, as the browser itself
/// says. A page elsewhere can send a form here, but not with this origin.
pub(super) fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some((_, origin)) = text("origin").and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    // A proxy may have put its own name in `host`; no page can make a form carry the other header.
    ["host", "x-forwarded-host"]
        .iter()
        .any(|name| text(name).is_some_and(|host| host.eq_ignore_ascii_case(origin)))
}

/// Whether the browser speaks to the server, or to a proxy before it, through TLS.
pub(super) fn encrypted(headers: &HeaderMap) -> bool {
    let origin = headers.get("origin").and_then(|value| value.to_str().ok());
    origin.is_some_and(|origin| origin.starts_with("https://"))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_session_is_found_by_its_token_until_it_ends() {
        let sessions = Sessions::new(&ConsoleSettings::default());
        let (one, two) = (sessions.begin("one").unwrap(), sessions.begin("two").unwrap());
        assert_ne!(one, two);
        assert_eq!(sessions.key(&one), Some("one".to_owned()));
        assert!(sessions.key(&digest(&one)).is_none(), "what is kept is no token");
        sessions.end(&one);
        assert!(sessions.key(&one).is_none() && sessions.key(&two).is_some());
        let over = ConsoleSettings { session_minutes: 0, ..ConsoleSettings::default() };
        let over = Sessions::new(&over);
        let token = over.begin("late").unwrap();
        assert!(over.key(&token).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_the_first_to_end_gives_way() {
        let settings = ConsoleSettings { maximum_sessions: 2, ..ConsoleSettings::default() };
        let sessions = Sessions::new(&settings);
        let tokens: Vec<String> = (0..3).map(|n| sessions.begin(&n.to_string()).unwrap()).collect();
        assert_eq!(sessions.count(), 2);
        assert!(sessions.key(&tokens[0]).is_none() && sessions.key(&tokens[2]).is_some());
    }

    #[test]
    fn a_form_from_elsewhere_is_known_by_its_origin() {
        let host = ("host", "a:1");
        assert!(same_origin(&headers(&[host, ("origin", "http://a:1")])));
        assert!(same_origin(&headers(&[host, ("origin", "https://b"), ("x-forwarded-host", "b")])));
        for origin in ["http://b:1", "null", "http://a:2", "a:1"] {
            assert!(!same_origin(&headers(&[host, ("origin", origin)])), "{origin}");
        }
        assert!(!same_origin(&headers(&[host])));
    }

    #[test]
    fn the_cookie_goes_to_the_console_alone_and_no_script_reads_it() {
        let sessions = Sessions::new(&ConsoleSettings::default());
        let cookie = sessions.cookie("abc", true);
        for part in
            ["whyrank_session=abc", "Path=/console", "HttpOnly", "SameSite=Strict", "Secure"]
        {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert_eq!(given_token(&headers(&[("cookie", "x=1; whyrank_session=abc")])), Some("abc"));
        assert_eq!(given_token(&headers(&[("cookie", "x=1")])), None);
    }
}
