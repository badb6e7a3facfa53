//! What a form of the console sent, read with every refusal naming the field.

use std::str::FromStr;

use axum::extract::Query;
use axum::http::Uri;

use super::super::{ApiError, Cause};
use crate::audience::AudienceRequest;
use crate::audience::export::Format;

/// The fields of a query, in their order; a name may stand more than once.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The fields of an address.
    ///
    /// # Errors
    /// When its query is not of a form's form.
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) =
            pairs.map_err(|rejection| ApiError::new(Cause::Malformed, rejection.body_text()))?;
        Ok(Self(pairs))
    }

    /// The first value of a field without the white space around it; empty where it was not sent.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// All values of a field that are not empty.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let of_name = self.0.iter().filter(move |(given, _)| given == name);
        of_name.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether a box was ticked.
    pub(super) fn ticked(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// The number in a field; none where it is empty.
    ///
    /// # Errors
    /// When it holds something else.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let given = self.get(name);
        if given.is_empty() {
            return Ok(None);
        }
        let wrong = |_| {
            let message =
                format!("`{name}` is {given:?}; give a number that fits, or leave it empty");
            ApiError::new(Cause::Invalid, message)
        };
        given.parse().map(Some).map_err(wrong)
    }

    /// What the form of audiences asks for; none where it was not filled in.
    ///
    /// # Errors
    /// When a number is none.
    pub(super) fn audience(&self) -> Result<Option<AudienceRequest>, ApiError> {
        let campaign = Some(self.get("campaign").to_owned()).filter(|words| !words.is_empty());
        let apart = |c: char| c == ',' || c.is_whitespace();
        let items: Vec<String> =
            self.get("items").split(apart).filter(|id| !id.is_empty()).map(str::to_owned).collect();
        if campaign.is_none() && items.is_empty() {
            return Ok(None);
        }
        Ok(Some(AudienceRequest {
            items: (!items.is_empty()).then_some(items),
            campaign,
            limit: self.number("limit")?,
            threshold: self.number("threshold")?,
            segments: self.number("segments")?,
            exclude_seen: self.ticked("known").then_some(false),
            ..AudienceRequest::default()
        }))
    }

    /// The form of an exported file.
    ///
    /// # Errors
    /// When there is no such form.
    pub(super) fn format(&self) -> Result<Format, ApiError> {
        let given = self.get("format");
        <Format as clap::ValueEnum>::from_str(given, true).map_err(|_| {
            let message = format!("`format` is {given:?}; it must be csv, jsonl or parquet");
            ApiError::new(Cause::Invalid, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(query: &str) -> Fields {
        Fields::of(&format!("/console/audience?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn fields_are_read_as_a_browser_sends_them() {
        let fields = fields("item=a%26b&item=+c+&limit=&threshold=0.5&segments=x");
        assert_eq!(fields.all("item").collect::<Vec<_>>(), ["a&b", "c"]);
        assert_eq!(fields.number::<usize>("limit").unwrap(), None);
        assert_eq!(fields.number::<f32>("threshold").unwrap(), Some(0.5));
        let refused = fields.number::<usize>("segments").unwrap_err();
        assert!(refused.message.contains("segments") && refused.message.contains("\"x\""));
    }

    #[test]
    fn an_audience_is_asked_for_by_items_or_words() {
        assert_eq!(fields("campaign=&items=").audience().unwrap(), None);
        let items = fields("items=1%2C+2%203&known=yes").audience().unwrap().unwrap();
        assert_eq!(items.items, Some(["1", "2", "3"].map(str::to_owned).to_vec()));
        assert_eq!((items.campaign, items.exclude_seen), (None, Some(false)));
        assert!(fields("format=exe").format().is_err());
        assert_eq!(fields("format=csv").format().unwrap(), Format::Csv);
    }
}
