//! The plots, as SVG. Colours are the light theme's; the style sheet names the same ones and replaces
//! them in the dark. The engine escapes all text in them.

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::format::fixed;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// What speaks for something. The style sheet knows these colours by their numbers.
const FOR: RGBColor = RGBColor(0x1F, 0x8A, 0x5B);
/// What speaks against it.
const AGAINST: RGBColor = RGBColor(0xC2, 0x45, 0x2D);
/// A quantity that is neither.
const QUANTITY: RGBColor = RGBColor(0x3B, 0x5B, 0xDB);
/// What a bar could fill at most.
const TRACK: RGBColor = RGBColor(0xE3, 0xE8, 0xEF);
/// Axes and the line at zero.
const LINE: RGBColor = RGBColor(0x9A, 0xA5, 0xB4);
/// Text.
const TEXT: RGBColor = RGBColor(0x46, 0x52, 0x63);

/// Width and height of a bar in a row of text.
const BAR: (u32, u32) = (200, 12);
/// Width of a plot with axes: it is as wide as a phone, so that its text stays readable there.
const WIDTH: u32 = 440;
/// Height of a column plot.
const HEIGHT: u32 = 220;
/// Height of one row of a row plot.
const ROW: u32 = 30;
/// Size of text; plotters divides it by 1.24 for SVG.
const SIZE: f64 = 15.0;
/// Characters of a row's name.
const NAME: usize = 26;

/// Registers the plots as functions of the templates.
pub(super) fn add(pages: &mut Environment<'static>) {
    pages.add_function("diverging", |value: f64, most: f64| {
        svg(BAR, |area| diverging(area, value, most))
    });
    pages.add_function("meter", |share: f64| svg(BAR, |area| meter(area, share)));
    pages.add_function("interval", |low: f64, mean: f64, high: f64, most: f64| {
        svg(BAR, |area| interval(area, [low, mean, high], most))
    });
    pages.add_function("columns", |columns: Value, unit: String| {
        let columns = named(&columns)?;
        svg((WIDTH, HEIGHT), |area| column_plot(area, &columns, &unit))
    });
    pages.add_function("rows", |rows: Value, digits: usize| {
        let rows = named(&rows)?;
        let height = ROW * rows.len().max(1) as u32 + 4;
        svg((WIDTH, height), |area| row_plot(area, &rows, digits))
    });
}

/// Pairs of a name and a number, as templates have them.
fn named(pairs: &Value) -> Result<Vec<(String, f64)>, minijinja::Error> {
    let pair = |pair: Value| {
        let name = pair.get_item_by_index(0)?.to_string();
        Ok((name, f64::try_from(pair.get_item_by_index(1)?)?))
    };
    pairs.try_iter()?.map(pair).collect()
}

/// Draws into a fresh picture, which comes back marked as HTML.
fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<Value, minijinja::Error> {
    let mut picture = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut picture, size).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?))
    };
    drawn.map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    Ok(Value::from_safe_string(picture))
}

/// A share of a width, where numbers that are none count as nothing.
fn part(value: f64, most: f64, width: i32) -> i32 {
    if most > 0.0 && value.is_finite() {
        ((value / most).clamp(-1.0, 1.0) * f64::from(width)).round() as i32
    } else {
        0
    }
}

fn rectangle(area: &Area<'_>, corners: [(i32, i32); 2], colour: RGBColor) -> Drawn {
    Ok(area.draw(&Rectangle::new(corners, colour.filled()))?)
}

fn text(area: &Area<'_>, text: &str, place: (i32, i32), at: HPos) -> Drawn {
    let style =
        ("sans-serif", SIZE).into_text_style(area).color(&TEXT).pos(Pos::new(at, VPos::Center));
    Ok(area.draw(&Text::new(text.to_owned(), place, style))?)
}

/// A bar from the middle: to the right what adds, to the left what takes away.
fn diverging(area: &Area<'_>, value: f64, most: f64) -> Drawn {
    let (width, height) = (BAR.0 as i32, BAR.1 as i32);
    let middle = width / 2;
    rectangle(area, [(0, 5), (width, 7)], TRACK)?;
    let end = middle + part(value, most, middle - 1);
    let colour = if value < 0.0 { AGAINST } else { FOR };
    rectangle(area, [(middle.min(end), 1), (middle.max(end), height - 1)], colour)?;
    rectangle(area, [(middle, 0), (middle + 1, height)], LINE)
}

/// A bar that a share from 0 to 1 fills.
fn meter(area: &Area<'_>, share: f64) -> Drawn {
    let (width, height) = (BAR.0 as i32, BAR.1 as i32);
    rectangle(area, [(0, 2), (width, height - 2)], TRACK)?;
    rectangle(area, [(0, 2), (part(share.max(0.0), 1.0, width), height - 2)], QUANTITY)
}

/// An estimate with its uncertainty around zero.
fn interval(area: &Area<'_>, [low, mean, high]: [f64; 3], most: f64) -> Drawn {
    let (width, height) = (BAR.0 as i32, BAR.1 as i32);
    let middle = width / 2;
    let at = |value| middle + part(value, most, middle - 3);
    rectangle(area, [(0, 5), (width, 7)], TRACK)?;
    rectangle(area, [(middle, 0), (middle + 1, height)], LINE)?;
    let colour = if mean < 0.0 { AGAINST } else { FOR };
    rectangle(area, [(at(low), 4), (at(high).max(at(low) + 1), 8)], colour)?;
    Ok(area.draw(&Circle::new((at(mean), 6), 5, colour.filled()))?)
}

/// Columns side by side, each with its number above and its range below.
fn column_plot(area: &Area<'_>, columns: &[(String, f64)], unit: &str) -> Drawn {
    let (left, right, top, bottom) = (6, WIDTH as i32 - 6, 26, HEIGHT as i32 - 46);
    let most = columns.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let slot = f64::from(right - left) / columns.len().max(1) as f64;
    // Where names would touch, every second or third is written.
    let widest = columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let every = ((widest as f64 * 7.5 + 8.0) / slot).ceil().max(1.0) as usize;
    for (place, (name, value)) in columns.iter().enumerate() {
        let start = f64::from(left) + slot * place as f64;
        let (from, to) = ((start + slot * 0.1) as i32, (start + slot * 0.9) as i32);
        let middle = (from + to) / 2;
        let height = part(*value, most, bottom - top);
        rectangle(area, [(from, bottom - height), (to, bottom)], QUANTITY)?;
        text(area, &fixed(*value, 0), (middle, bottom - height - 10), HPos::Center)?;
        if place.is_multiple_of(every) {
            text(area, name, (middle, bottom + 14), HPos::Center)?;
        }
    }
    rectangle(area, [(left, bottom), (right, bottom + 1)], LINE)?;
    text(area, unit, ((left + right) / 2, bottom + 36), HPos::Center)
}

/// Rows below each other: a name, a bar, its number.
fn row_plot(area: &Area<'_>, rows: &[(String, f64)], digits: usize) -> Drawn {
    let (start, end) = (190, WIDTH as i32 - 62);
    let most = rows.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    for (place, (name, value)) in rows.iter().enumerate() {
        let middle = (ROW * place as u32 + ROW / 2) as i32 + 2;
        text(area, &short(name), (0, middle), HPos::Left)?;
        let length = part(*value, most, end - start).max(1);
        rectangle(area, [(start, middle - 8), (start + length, middle + 8)], QUANTITY)?;
        text(area, &fixed(*value, digits), (start + length + 6, middle), HPos::Left)?;
    }
    Ok(())
}

/// The beginning of a name that is too long for its place.
fn short(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The widths of the filled rectangles of a colour.
    fn widths(picture: &str, colour: RGBColor) -> Vec<i32> {
        let fill = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
        let rectangles =
            picture.lines().filter(|line| line.contains("<rect") && line.contains(&fill));
        let width = |line: &str| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
        rectangles.filter_map(width).collect()
    }

    fn drawn(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
        svg(size, draw).unwrap().to_string()
    }

    #[test]
    fn a_bar_is_as_long_as_its_number_and_has_its_colour() {
        let full = drawn(BAR, |area| diverging(area, 2.0, 2.0));
        let half = drawn(BAR, |area| diverging(area, -1.0, 2.0));
        let (full, half) = (widths(&full, FOR), widths(&half, AGAINST));
        assert_eq!((full.len(), half.len()), (1, 1));
        assert!((full[0] - 2 * half[0]).abs() <= 1, "{full:?} {half:?}");
        assert_eq!(widths(&drawn(BAR, |area| meter(area, 0.25)), QUANTITY), [50]);
    }

    #[test]
    fn text_in_a_plot_stays_text() {
        let rows = [("<script>alert(1)</script>".to_owned(), 1.0)];
        let picture = drawn((WIDTH, ROW), |area| row_plot(area, &rows, 0));
        assert!(picture.contains("&lt;script&gt;") && !picture.contains("<script"), "{picture}");
        assert!(short(&"ä".repeat(40)).chars().count() <= NAME);
    }

    #[test]
    fn a_plot_of_nothing_is_a_picture_too() {
        for picture in [
            drawn((WIDTH, HEIGHT), |area| column_plot(area, &[], "")),
            drawn((WIDTH, ROW), |area| row_plot(area, &[], 0)),
            drawn(BAR, |area| diverging(area, f64::NAN, 0.0)),
        ] {
            assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        }
    }

    proptest! {
        #[test]
        fn no_bar_leaves_its_picture(value in -1e6..1e6_f64, most in 0.0..1e3_f64) {
            for picture in [
                drawn(BAR, |area| diverging(area, value, most)),
                drawn(BAR, |area| meter(area, value)),
                drawn(BAR, |area| interval(area, [value - 1.0, value, value + 1.0], most)),
            ] {
                let all = [FOR, AGAINST, QUANTITY].map(|colour| widths(&picture, colour)).concat();
                prop_assert!(all.iter().all(|width| (0..=BAR.0 as i32).contains(width)), "{picture}");
            }
        }
    }
}
