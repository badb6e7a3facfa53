//! An evaluation as one HTML page that needs nothing else: tables, and plots drawn as SVG.

use anyhow::{Context, Result, anyhow};
use minijinja::{Environment, Value};
use plotters::prelude::*;

use super::{EvaluationReport, ShareSummary};
use crate::training::Arm;

/// Width and height of a plot.
const SIZE: (u32, u32) = (640, 400);
/// Space for the numbers at the axes.
const LABELS: u32 = 56;
const MARGIN: u32 = 12;

/// The page of a report.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn page(report: &EvaluationReport) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("page.html", include_str!("page.html"))?;
    let last = report.shares.last().context("a report has at least one share")?;
    let mut plots = Vec::new();
    if report.shares.len() > 1 {
        plots.push(("RMSE by share of the training data", learning_curve(report)?));
    }
    // With the features alone there is nothing to draw.
    if last.arms.iter().any(|arm| arm.versus_features.is_some()) {
        plots.push(("Squared error less than with features alone", ablation(last)?));
    }
    plots.push(("Predicted probability of a like, and share liked", calibration(last)?));
    let plots: Vec<Value> = plots
        .into_iter()
        .map(|(title, svg)| {
            minijinja::context! { title, svg => Value::from_safe_string(svg) }
        })
        .collect();
    let page = environment.get_template("page.html")?;
    Ok(page.render(minijinja::context! { report, plots })?)
}

/// One colour for each arm, told apart by those who see few colours too (Okabe and Ito).
fn colour(arm: Arm) -> RGBColor {
    match arm {
        Arm::Features => RGBColor(110, 110, 110),
        Arm::Positive => RGBColor(0, 158, 115),
        Arm::Negative => RGBColor(213, 94, 0),
        Arm::Both => RGBColor(0, 114, 178),
        Arm::Forecast => RGBColor(0, 0, 0),
        Arm::Misplaced => RGBColor(240, 228, 66),
        Arm::Shuffled => RGBColor(204, 121, 167),
        Arm::Template => RGBColor(230, 159, 0),
        Arm::Profile => RGBColor(86, 180, 233),
    }
}

/// The least and the greatest value with some room; 0 and 1 where there is none, because the library
/// never ends the marks of an axis without bounds.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.1).max(1e-6);
    (low - room, high + room)
}

/// The library's errors borrow what they drew on.
fn fault<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}

fn learning_curve(report: &EvaluationReport) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let shares = report.shares.iter().map(|share| f64::from(share.share) * 100.0);
        let (left, right) = span(shares);
        let all = report.shares.iter().flat_map(|share| share.arms.iter().map(|arm| arm.rmse));
        let (low, high) = span(all);
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
            .x_label_area_size(LABELS)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(left..right, low..high)
            .map_err(fault)?;
        chart.configure_mesh().x_desc("training data, %").y_desc("RMSE").draw().map_err(fault)?;
        for arm in Arm::ALL {
            let points = report.shares.iter().filter_map(|share| {
                let summary = share.arms.iter().find(|one| one.arm == arm)?;
                Some((f64::from(share.share) * 100.0, summary.rmse))
            });
            let points: Vec<(f64, f64)> = points.collect();
            if points.is_empty() {
                continue;
            }
            let style = colour(arm).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, style).point_size(3))
                .map_err(fault)?
                .label(arm.name())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()
            .map_err(fault)?;
        area.present().map_err(fault)?;
    }
    Ok(svg)
}

/// A bar for each arm with the interval of the paired bootstrap; above zero is better.
fn ablation(share: &ShareSummary) -> Result<String> {
    let bars: Vec<_> = share
        .arms
        .iter()
        .filter_map(|arm| Some((arm.arm, arm.versus_features.as_ref()?.squared_error_less)))
        .collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let ends = bars.iter().flat_map(|(_, interval)| [interval.low, interval.high, 0.0]);
        let (low, high) = span(ends);
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
            .x_label_area_size(LABELS)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(-0.5..bars.len() as f64 - 0.5, low..high)
            .map_err(fault)?;
        let name = |place: &f64| {
            let whole = (place - place.round()).abs() < 0.01;
            let bar = bars.get(place.round().max(0.0) as usize).filter(|_| whole);
            bar.map_or(String::new(), |(arm, _)| arm.name().to_owned())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(2 * bars.len() + 1)
            .x_label_formatter(&name)
            .y_desc("squared error less")
            .draw()
            .map_err(fault)?;
        for (place, (arm, interval)) in bars.iter().enumerate() {
            let x = place as f64;
            let corners = [(x - 0.3, 0.0), (x + 0.3, interval.mean)];
            let bar = Rectangle::new(corners, colour(*arm).filled());
            chart.draw_series([bar]).map_err(fault)?;
            let whisker =
                PathElement::new([(x, interval.low), (x, interval.high)], BLACK.stroke_width(2));
            chart.draw_series([whisker]).map_err(fault)?;
        }
        area.present().map_err(fault)?;
    }
    Ok(svg)
}

fn calibration(share: &ShareSummary) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
            .x_label_area_size(LABELS)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)
            .map_err(fault)?;
        chart.configure_mesh().x_desc("predicted").y_desc("liked").draw().map_err(fault)?;
        let ideal = LineSeries::new([(0.0, 0.0), (1.0, 1.0)], BLACK.mix(0.3));
        chart.draw_series(ideal).map_err(fault)?;
        let shown = share.arms.iter().filter(|arm| matches!(arm.arm, Arm::Features | Arm::Both));
        for arm in shown {
            let points = arm.calibration.iter().map(|bin| (bin.predicted, bin.liked));
            let style = colour(arm.arm).stroke_width(2);
            let label = format!("{}, error {:.3}", arm.arm.name(), arm.calibration_error);
            chart
                .draw_series(LineSeries::new(points, style).point_size(3))
                .map_err(fault)?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()
            .map_err(fault)?;
        area.present().map_err(fault)?;
    }
    Ok(svg)
}
