//! Pages filled with what a hostile catalogue could hold.

use minijinja::{Value, context};
use serde_json::json;

use super::*;

const HOSTILE: &str = "<script>document.title='owned'</script>\"'&";

fn frame() -> Value {
    context! {
        links => [context! { href => "/console/search", name => "Search", current => true }],
        session => context! { name => HOSTILE, role => "admin" },
        notice => context! { title => "T", message => HOSTILE },
    }
}

/// Nothing of the hostile text is markup, in text or in an attribute.
fn escaped(html: &str) {
    assert!(!html.contains("<script"), "{html}");
    assert!(!html.contains("owned'<"), "{html}");
    assert!(html.contains("&lt;script&gt;"), "the text is not there at all: {html}");
    assert!(!html.contains("style=\"") && !html.contains("onclick"), "the policy forbids these");
}

fn account() -> serde_json::Value {
    json!({ "base": 0.4, "user_item": 0.1, "positive": 0.2, "negative": -0.1, "history": 0.0,
            "context": 0.05 })
}

fn reasons() -> serde_json::Value {
    json!({ "positive": HOSTILE, "negative": HOSTILE, "source": "llm", "generator": HOSTILE,
            "stale": HOSTILE })
}

#[test]
fn search_and_comparison_escape_everything() {
    let result = |rank: i32, before: i32, explanation: serde_json::Value| {
        json!({
            "item": HOSTILE, "title": HOSTILE, "rank": rank, "retrieval_rank": before, "score": 0.6,
            "rating": 4.0, "like": 0.6, "take_up": (rank > 1).then_some(0.25), "retrieval_score": 0.3,
            "state": "predicted", "explanation": explanation, "contributions": account(),
        })
    };
    let answer = json!({
        "user": HOSTILE, "degraded": { "reason": HOSTILE, "message": HOSTILE }, "candidates": 1200,
        "results": [result(1, 9, reasons()), result(2, 2, json!(null)), result(3, 1, json!(null))],
        "stages": [{ "stage": HOSTILE, "milliseconds": 1.0, "detail": HOSTILE }],
    });
    let form = context! { user => HOSTILE, limit => "", candidates => "", known => true };
    let examples: Vec<String> = Vec::new();
    let html = render("search", context! { frame => frame(), form, answer, examples }).unwrap();
    escaped(&html);
    for part in [
        "▲ 8 up",
        "= same place",
        "takes it up <b>25 %</b>",
        "▼ 2 down",
        "1,200 candidates",
        "−0.100",
        "<svg",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    let none: Option<i32> = None;
    let form = context! { user => "", limit => "", candidates => "", known => false };
    let examples = vec![HOSTILE.to_owned()];
    let empty = context! { frame => frame(), form, answer => none, examples };
    let html = render("search", empty).unwrap();
    escaped(&html);
    assert!(html.contains("user=%3Cscript%3E"), "{html}");

    let side = json!({ "item": HOSTILE, "title": HOSTILE, "score": 0.6, "like": 0.6, "rating": 4.0,
                       "state": "written", "explanation": reasons(), "contributions": account() });
    let answer = json!({ "user": "1", "above": side, "below": side, "summary": HOSTILE,
                         "differences": [{ "group": "positive", "value": 0.2 }] });
    let form = context! { user => HOSTILE, first => HOSTILE, second => HOSTILE };
    let context = context! { frame => frame(), form, answer, most => 0.2, sides_most => 0.2 };
    escaped(&render("compare", context).unwrap());
}

#[test]
fn audience_escapes_everything_and_its_plot_too() {
    let text = json!({ "text": HOSTILE, "item": HOSTILE });
    let answer = json!({
        "items": [{ "item": HOSTILE, "title": HOSTILE }], "campaign": HOSTILE, "candidates": 10,
        "expected": { "threshold": 0.5, "consumers": 2, "responses": 1.2, "responses_of_all": 3.4 },
        "consumers": [{ "user": HOSTILE, "rank": 1, "probability": 0.7, "take_up": 0.2, "item": HOSTILE, "segment": 0,
            "state": "written", "explanation": reasons(), "reasons_about": HOSTILE,
            "contributions": account() }],
        "segments": [{ "name": HOSTILE, "size": 1, "mean_probability": 0.7, "typical": text,
            "objection": text }],
        "stages": [],
    });
    let form = context! { campaign => HOSTILE, items => HOSTILE, limit => "", threshold => "",
    segments => "", known => false };
    let context = context! { frame => frame(), form, answer, sizes => [(HOSTILE, 1)],
    withheld => true, query => HOSTILE, shown => 100 };
    let html = render("audience", context).unwrap();
    escaped(&html);
    assert!(html.contains("format=parquet") && html.contains("70 %"), "{html}");
}

#[test]
fn the_item_s_page_escapes_everything_and_says_what_is_withheld() {
    let estimate = json!({ "mean": 3.0, "low": 1.0, "high": 5.0, "confidence": 0.95 });
    let theme = json!({
        "name": HOSTILE, "terms": [HOSTILE], "consumers": 20, "written": null, "share": 0.4,
        "representative": HOSTILE, "effect": -0.1, "direction": HOSTILE,
        "trend": [{ "from": 0, "until": 1, "reasons": 2, "share": 0.5 }],
        "if_answered": { "consumers": 20, "places": estimate, "score": estimate, "summary": HOSTILE },
    });
    let spread = json!({ "mean": null, "quartiles": [1.0, 2.0, 3.0], "buckets": [
        { "from": 1.0, "to": 10.0, "consumers": 12 }] });
    let effect = json!({ "score": null, "places": 1.5 });
    let answer = json!({
        "item": HOSTILE, "title": HOSTILE,
        "anonymity": { "minimum_consumers": 10, "note": HOSTILE },
        "sample": { "drawn": null, "consumers": 40, "candidates": 200, "explanations": null },
        "rank": spread, "score": spread,
        "influence": { "positive": effect, "negative": effect, "both": effect },
        "themes_for": [theme], "themes_against": [theme],
        "competitors": [{ "item": HOSTILE, "title": HOSTILE, "above": null, "share_above": 0.6,
            "differences": [{ "group": "history", "value": 0.1 }], "they_win_on": [HOSTILE],
            "you_win_on": [], "summary": HOSTILE }],
        "stages": [],
    });
    let form = context! { item => HOSTILE, competitor => HOSTILE };
    let examples: Vec<i32> = Vec::new();
    let context = context! { frame => frame(), form, answer, ranks => [("1–10", 12)], examples,
    places_most => 5.0, rivals_most => 0.1, own => false };
    let html = render("seller", context).unwrap();
    escaped(&html);
    assert!(html.contains("withheld") && html.contains("nothing that stands out"), "{html}");
}

#[test]
fn what_a_template_was_not_given_is_an_error() {
    assert!(render("login", context! { frame => frame() }).is_err());
    assert!(render("no such page", context! {}).is_err());
    escaped(&render("login", context! { frame => frame(), next => HOSTILE }).unwrap());
}
