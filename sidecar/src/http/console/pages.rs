//! The pages that answer: search, comparison, audience and item. A form that cannot be answered comes
//! back as it was sent, with what was wrong.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use minijinja::{Value, context};
use whyrank_plugin::{Filter, ItemRecord, Scroll, Selection, UserRecord};

use super::fields::Fields;
use super::{Frame, PAGES, Visitor, error_page, page, see, title};
use crate::access::KeyRole;
use crate::audience::AudienceResponse;
use crate::compare::{CompareRequest, CompareResponse};
use crate::http::audience_export::streamed;
use crate::http::json::Json;
use crate::http::{Api, ApiError, Cause, audience as audiences, compare as compares};
use crate::http::{insights, recommend};
use crate::insights::{InsightsRequest, InsightsResponse};
use crate::rerank::{RecommendRequest, RecommendResponse};

/// Consumers or items that an empty page offers.
const EXAMPLES: usize = 12;

/// Shows a form with its answer, or with what was wrong. The context is made from the answer.
fn shown<Answer>(
    name: &str,
    visitor: &Visitor,
    asked: Option<Result<Answer, ApiError>>,
    context: impl FnOnce(Option<Answer>) -> Value,
) -> Response {
    let mut frame = Frame::new(visitor, &format!("/console/{name}"));
    match asked {
        Some(Err(error)) => {
            let status = error.cause.row().1;
            frame.notice = Some(context! { title => title(error.cause), message => error.message });
            page(name, status, &frame, context(None))
        }
        asked => page(name, StatusCode::OK, &frame, context(asked.and_then(Result::ok))),
    }
}

/// The fields of the address, for a visitor whose role reaches the route that the page shows.
fn asked(visitor: &Visitor, uri: &Uri, route: &str) -> Result<Fields, Box<Response>> {
    let fields = visitor.require(route).and_then(|()| Fields::of(uri));
    fields.map_err(|error| Box::new(error_page(&Frame::new(visitor, uri.path()), &error)))
}

/// Leads to the first page that the visitor may see.
pub(super) async fn home(Extension(visitor): Extension<Visitor>) -> Response {
    let first = PAGES.iter().find(|(_, _, route)| visitor.may(route));
    see(first.map_or("/console/search", |(path, _, _)| path), None)
}

/// There is no such page.
pub(super) async fn unknown(Extension(visitor): Extension<Visitor>, uri: Uri) -> Response {
    let content = context! {
        title => "No such page", status => "not found",
        message => format!("There is nothing at {}.", uri.path()),
    };
    page("error", StatusCode::NOT_FOUND, &Frame::new(&visitor, ""), content)
}

/// Results for a consumer, before and after.
pub(super) async fn search(
    State(api): State<Api>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response {
    let fields = match asked(&visitor, &uri, "/v1/recommend") {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let user = fields.get("user");
    let answer = if user.is_empty() { None } else { Some(recommended(&api, &fields).await) };
    let examples = if answer.is_none() { some_users(&api).await } else { Vec::new() };
    let form = context! {
        user, limit => fields.get("limit"), candidates => fields.get("candidates"),
        known => fields.ticked("known"),
    };
    shown("search", &visitor, answer, |answer| context! { form, answer, examples })
}

async fn recommended(api: &Api, fields: &Fields) -> Result<RecommendResponse, ApiError> {
    let request = RecommendRequest {
        user: Some(fields.get("user").to_owned()),
        limit: fields.number("limit")?,
        candidates: fields.number("candidates")?,
        exclude_seen: fields.ticked("known").then_some(false),
        explain: Some(true),
        ..RecommendRequest::default()
    };
    let answer = recommend::recommend(State(api.clone()), Json(request)).await?;
    Ok(answer.0)
}

/// Two items for a consumer.
pub(super) async fn compare(
    State(api): State<Api>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response {
    let fields = match asked(&visitor, &uri, "/v1/compare") {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let items: Vec<&str> = fields.all("item").collect();
    let item = |place: usize| items.get(place).copied().unwrap_or_default();
    let form = context! { user => fields.get("user"), first => item(0), second => item(1) };
    let answer = compared(&api, &fields, &items).await;
    shown("compare", &visitor, Some(answer), |answer: Option<CompareResponse>| {
        let differences = answer.iter().flat_map(|answer| &answer.differences);
        let most = strongest(differences.map(|one| one.value));
        let sides = answer.iter().flat_map(|answer| [&answer.above, &answer.below]);
        let sides_most = strongest(sides.flat_map(|side| side.contributions.parts()));
        context! { form, answer, most, sides_most }
    })
}

async fn compared(api: &Api, fields: &Fields, items: &[&str]) -> Result<CompareResponse, ApiError> {
    let [first, second] = items else {
        let message = format!("{} items are marked; mark two to compare them", items.len());
        return Err(ApiError::new(Cause::Invalid, message));
    };
    let user = fields.get("user").to_owned();
    let request = CompareRequest { user, items: [(*first).to_owned(), (*second).to_owned()] };
    Ok(compares::compare(State(api.clone()), Json(request)).await?.0)
}

/// The consumers whom items or a campaign reach.
pub(super) async fn audience(
    State(api): State<Api>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response {
    let fields = match asked(&visitor, &uri, "/v1/audiences") {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let answer = reached(&api, &visitor, &fields).await.transpose();
    let form = context! {
        campaign => fields.get("campaign"), items => fields.get("items"),
        limit => fields.get("limit"), threshold => fields.get("threshold"),
        segments => fields.get("segments"), known => fields.ticked("known"),
    };
    let withheld = visitor.caller.as_ref().is_some_and(|caller| caller.role == KeyRole::Campaign);
    let rows = api.inner.settings.console.rows;
    shown("audience", &visitor, answer, |answer: Option<AudienceResponse>| {
        let segments = answer.iter().flat_map(|answer| &answer.segments);
        let sizes: Vec<(String, usize)> =
            segments.map(|segment| (segment.name.clone(), segment.size)).collect();
        let query = uri.query().unwrap_or_default();
        context! { form, answer, sizes, withheld, query, shown => rows }
    })
}

async fn reached(
    api: &Api,
    visitor: &Visitor,
    fields: &Fields,
) -> Result<Option<AudienceResponse>, ApiError> {
    let Some(request) = fields.audience()? else { return Ok(None) };
    let caller = visitor.caller();
    Ok(Some(audiences::audience(State(api.clone()), caller, Json(request)).await?.0))
}

/// The whole audience as a file.
pub(super) async fn export(
    State(api): State<Api>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response {
    let fields = match asked(&visitor, &uri, "/v1/audiences") {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let file = async {
        let format = fields.format()?;
        let nothing = || {
            ApiError::new(Cause::Invalid, "give `items` or a `campaign` to export an audience of")
        };
        let answer = reached(&api, &visitor, &fields).await?.ok_or_else(nothing)?;
        Ok(streamed(answer, format))
    };
    let refused = |error| error_page(&Frame::new(&visitor, "/console/audience"), &error);
    file.await.unwrap_or_else(refused)
}

/// Why an item ranks where it ranks.
pub(super) async fn seller(
    State(api): State<Api>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
) -> Response {
    let fields = match asked(&visitor, &uri, "/v1/items/any/insights") {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let item = fields.get("item");
    let answer = if item.is_empty() { None } else { Some(told(&api, &visitor, &fields).await) };
    let own = visitor.caller.as_ref().and_then(|caller| caller.items.clone());
    let examples = if answer.is_none() { some_items(&api, own.as_ref()).await } else { Vec::new() };
    let own = own.is_some();
    let form = context! { item, competitor => fields.get("competitor") };
    shown("seller", &visitor, answer, |answer: Option<InsightsResponse>| {
        let buckets = answer.iter().flat_map(|answer| &answer.rank.buckets);
        let ranks: Vec<(String, usize)> =
            buckets.map(|bucket| (range(bucket.from, bucket.to), bucket.consumers)).collect();
        let changes = answer.iter().flat_map(|answer| &answer.themes_against);
        let places = changes.filter_map(|theme| theme.if_answered.as_ref()).map(|one| one.places);
        let places_most = strongest(places.flat_map(|one| [one.low as f32, one.high as f32]));
        let rivals = answer.iter().flat_map(|answer| &answer.competitors);
        let rivals_most = strongest(rivals.flat_map(|one| &one.differences).map(|one| one.value));
        context! { form, answer, ranks, places_most, rivals_most, examples, own }
    })
}

async fn told(api: &Api, visitor: &Visitor, fields: &Fields) -> Result<InsightsResponse, ApiError> {
    let competitor = Some(fields.get("competitor").to_owned()).filter(|id| !id.is_empty());
    let request = InsightsRequest { competitor, ..InsightsRequest::default() };
    let id = Ok(Path(fields.get("item").to_owned()));
    let answer = insights::insights(State(api.clone()), visitor.caller(), id, Ok(Query(request)));
    Ok(answer.await?.0)
}

/// A range of ranks in words.
fn range(from: f64, to: f64) -> String {
    if from == to { format!("{from:.0}") } else { format!("{from:.0}–{to:.0}") }
}

/// The greatest magnitude: where bars end.
fn strongest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).fold(0.0, f32::max)
}

/// The ids of some consumers. An empty page without examples is still a page.
async fn some_users(api: &Api) -> Vec<String> {
    let storage = &api.inner.storage;
    let selection = Selection::payload();
    let scroll = Scroll { filter: None, from: None, limit: EXAMPLES, selection };
    let page = storage.store().scroll(&storage.settings().users, scroll).await;
    let points = page.map(|page| page.points).unwrap_or_default();
    let users = points.into_iter().filter_map(|point| UserRecord::from_point(point).ok());
    users.map(|user| user.external_id).collect()
}

/// Some items, of a seller only its own.
async fn some_items(api: &Api, own: Option<&serde_json::Value>) -> Vec<Value> {
    let filter = match own.map(|own| Filter::from_json(own.clone())) {
        Some(Err(_)) => return Vec::new(),
        Some(Ok(filter)) => Some(filter),
        None => None,
    };
    let storage = &api.inner.storage;
    let selection = Selection::payload();
    let scroll = Scroll { filter, from: None, limit: EXAMPLES, selection };
    let page = storage.store().scroll(&storage.settings().items, scroll).await;
    let points = page.map(|page| page.points).unwrap_or_default();
    let items = points.into_iter().filter_map(|point| ItemRecord::from_point(point).ok());
    items.map(|item| context! { id => item.external_id, title => item.title }).collect()
}
