//! The console's pages: answers of the API as HTML. Templates, style sheet and icon are embedded; plots
//! are SVG. Everything that comes from data is escaped by the template engine, and a template that
//! names what it was not given is an error.

mod format;
mod plots;

use std::sync::LazyLock;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::http::{ApiError, Cause};

/// The style sheet of all pages.
pub(crate) const STYLE: &str = include_str!("templates/style.css");
/// The icon of all pages.
pub(crate) const ICON: &str = include_str!("templates/icon.svg");

/// The pages and the parts that they share.
const TEMPLATES: [(&str, &str); 9] = [
    ("base", include_str!("templates/base.html")),
    ("parts", include_str!("templates/parts.html")),
    ("login", include_str!("templates/login.html")),
    ("error", include_str!("templates/error.html")),
    ("search", include_str!("templates/search.html")),
    ("compare", include_str!("templates/compare.html")),
    ("audience", include_str!("templates/audience.html")),
    ("seller", include_str!("templates/seller.html")),
    ("system", include_str!("templates/system.html")),
];

static PAGES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(pages);

fn pages() -> Result<Environment<'static>, minijinja::Error> {
    let mut pages = Environment::new();
    pages.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    pages.set_trim_blocks(true);
    pages.set_lstrip_blocks(true);
    format::add(&mut pages);
    plots::add(&mut pages);
    for (name, source) in TEMPLATES {
        pages.add_template(name, source)?;
    }
    Ok(pages)
}

/// One page as HTML.
///
/// # Errors
/// When the template cannot be filled, which the tests rule out for every page.
pub(crate) fn render(page: &str, context: impl Serialize) -> Result<String, ApiError> {
    let failed = |error: &minijinja::Error| {
        ApiError::new(Cause::Internal, format!("the page {page:?} cannot be made: {error:#}"))
    };
    let pages = PAGES.as_ref().map_err(failed)?;
    let template = pages.get_template(page).map_err(|error| failed(&error))?;
    template.render(Value::from_serialize(context)).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests;
