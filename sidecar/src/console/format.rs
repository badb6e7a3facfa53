//! How numbers and names are written on a page.

use minijinja::Environment;
use minijinja::value::Value;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The groups of inputs of an account, in the order in which they are shown.
const GROUPS: [(&str, &str); 5] = [
    ("user_item", "Taste match"),
    ("positive", "Reasons for"),
    ("negative", "Reasons against"),
    ("history", "Recent history"),
    ("context", "Popularity and habits"),
];

/// Registers the filters.
pub(super) fn add(pages: &mut Environment<'static>) {
    pages.add_filter("fixed", fixed);
    pages.add_filter("signed", signed);
    pages.add_filter("percent", percent);
    pages.add_filter("grouped", grouped);
    pages.add_filter("groups", |account: Value| groups(&account).map(Value::from_serialize));
    pages.add_filter("urlencode", |text: String| urlencode(&text));
    pages.add_filter("strongest", strongest);
    pages.add_filter("group_name", |name: String| group_name(&name).to_owned());
    pages.add_filter("letter", letter);
    pages.add_filter("month", month);
}

/// With so many digits after the point.
pub(super) fn fixed(value: f64, digits: usize) -> String {
    // "-0.0" says nothing that "0.0" does not.
    let text = format!("{value:.digits$}");
    let zero = text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
    if zero { text.trim_start_matches('-').to_owned() } else { text.replace('-', "−") }
}

/// With a sign, so that what adds and what takes away is told apart without colours.
pub(super) fn signed(value: f64, digits: usize) -> String {
    let text = fixed(value, digits);
    let zero = text.chars().all(|c| matches!(c, '0' | '.'));
    if zero || text.starts_with('−') { text } else { format!("+{text}") }
}

/// A share from 0 to 1; small ones keep a digit.
pub(super) fn percent(share: f64) -> String {
    let digits = if share > 0.0 && share < 0.0995 { 1 } else { 0 };
    format!("{} %", fixed(share * 100.0, digits))
}

/// A count with its thousands apart.
pub(super) fn grouped(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if count < 0 {
        text.push('−');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An input group as the console calls it.
pub(super) fn group_name(group: &str) -> &'static str {
    GROUPS.iter().find(|(key, _)| *key == group).map_or("Everything else", |(_, name)| name)
}

/// The parts of an account: name and number.
fn groups(account: &Value) -> Result<Vec<(String, f64)>, minijinja::Error> {
    let part = |(key, name): &(&str, &str)| {
        Ok(((*name).to_owned(), f64::try_from(account.get_attr(key)?)?))
    };
    GROUPS.iter().map(part).collect()
}

/// The greatest magnitude of any part of the accounts of these results: where their bars end.
fn strongest(results: Value) -> Result<f64, minijinja::Error> {
    let mut most = 0.0_f64;
    for result in results.try_iter()? {
        let account = result.get_attr("contributions")?;
        if !account.is_none() && !account.is_undefined() {
            most = groups(&account)?.iter().map(|(_, value)| value.abs()).fold(most, f64::max);
        }
    }
    Ok(most)
}

/// A text as a value in a query.
fn urlencode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What stands for a segment in a plot: A, B, ... and after Z its number.
pub(super) fn letter(place: usize) -> String {
    match u8::try_from(place) {
        Ok(place @ 0..26) => char::from(b'A' + place).to_string(),
        _ => (place + 1).to_string(),
    }
}

/// The month of a time in seconds since 1970.
fn month(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .map_or_else(String::new, |time| time.format("%Y-%m").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!((fixed(-0.001, 2), fixed(-1.5, 1)), ("0.00".to_owned(), "−1.5".to_owned()));
        assert_eq!((signed(0.25, 2), signed(-0.25, 2)), ("+0.25".to_owned(), "−0.25".to_owned()));
        assert_eq!(signed(0.0001, 2), "0.00");
        assert_eq!((percent(0.031), percent(0.5)), ("3.1 %".to_owned(), "50 %".to_owned()));
        assert_eq!((percent(0.0), percent(1.0)), ("0 %".to_owned(), "100 %".to_owned()));
        assert_eq!(
            [0, 999, 1_000, -1_234_567].map(grouped),
            ["0", "999", "1,000", "−1,234,567"].map(str::to_owned)
        );
        assert_eq!((letter(0), letter(25), letter(26)), ("A".into(), "Z".into(), "27".into()));
    }
}
