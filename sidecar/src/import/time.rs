//! Reads the time of an interaction.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use super::cell::Cell;
use super::settings::TimeUnit;

/// Seconds since 1970, or nothing if the value is no time in this unit.
pub(super) fn seconds(cell: &Cell, unit: TimeUnit) -> Option<i64> {
    if let Cell::Time(seconds) = cell {
        return Some(*seconds);
    }
    match unit {
        TimeUnit::Seconds => whole(cell.number()?),
        TimeUnit::Milliseconds => whole(cell.number()? / 1e3),
        TimeUnit::Date => date(cell),
        TimeUnit::Automatic => match cell.number() {
            Some(number) => whole(number / divisor(number)),
            None => date(cell),
        },
    }
}

/// How many of the unit that a number of this size is likely in make a second. Seconds reach 10^11
/// in the year 5138, milliseconds had passed it in 1973.
fn divisor(number: f64) -> f64 {
    match number.abs() {
        size if size < 1e11 => 1.0,
        size if size < 1e14 => 1e3,
        size if size < 1e17 => 1e6,
        _ => 1e9,
    }
}

fn whole(seconds: f64) -> Option<i64> {
    // Beyond this, seconds are no longer whole numbers in a float, and no calendar has them.
    const LARGEST: f64 = 9e15;
    (seconds.is_finite() && seconds.abs() < LARGEST).then(|| seconds.floor() as i64)
}

fn date(cell: &Cell) -> Option<i64> {
    let text = cell.text()?;
    if let Ok(time) = DateTime::parse_from_rfc3339(&text) {
        return Some(time.timestamp());
    }
    if let Ok(time) = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S") {
        return Some(time.and_utc().timestamp());
    }
    let day = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, unit: TimeUnit, expected: Option<i64>) {
        assert_eq!(seconds(&Cell::Text(text.to_owned()), unit), expected, "{text}");
    }

    #[test]
    fn times_are_read_in_every_spelling() {
        use TimeUnit::{Automatic, Date, Milliseconds, Seconds};
        check("881250949", Automatic, Some(881_250_949));
        check("881250949.0", Automatic, Some(881_250_949));
        check("881250949123", Automatic, Some(881_250_949));
        check("881250949123456", Automatic, Some(881_250_949));
        check("1997-12-04T15:55:49Z", Automatic, Some(881_250_949));
        check("1997-12-04T16:55:49+01:00", Date, Some(881_250_949));
        check("1997-12-04 15:55:49", Date, Some(881_250_949));
        check("1997-12-04", Automatic, Some(881_193_600));
        check("1500", Milliseconds, Some(1));
        check("-1500", Milliseconds, Some(-2));
        check("881250949123", Seconds, Some(881_250_949_123));
        check("yesterday", Automatic, None);
        check("NaN", Automatic, None);
        check("1e300", Seconds, None);
        check("1997-12-04", Seconds, None);
        assert_eq!(seconds(&Cell::Time(7), Seconds), Some(7));
        assert_eq!(seconds(&Cell::Absent, Automatic), None);
    }
}
