//! A number with its interval, in words and on a scale.

use maud::{Markup, html};

use crate::leaderboard::Estimate;

/// A share as people read it.
pub(crate) fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

/// The ends of an interval in words.
pub(crate) fn ends(estimate: &Estimate, show: &dyn Fn(f64) -> String) -> String {
    match estimate.ci_low.zip(estimate.ci_high) {
        Some((low, high)) => format!("{} to {}", show(low), show(high)),
        None => "unknown".to_owned(),
    }
}

/// The largest value that a scale for some numbers must reach.
pub(crate) fn most<'e>(estimates: impl Iterator<Item = &'e Estimate>) -> f64 {
    estimates.map(|estimate| estimate.ci_high.unwrap_or(estimate.value)).fold(0.0, f64::max)
}

/// A number, its interval in words, and both on a scale from 0 to `most`.
pub(crate) fn interval(estimate: &Estimate, most: f64, show: &dyn Fn(f64) -> String) -> Markup {
    const WIDTH: f64 = 140.0;
    let place =
        |value: f64| if most > 0.0 { (value / most).clamp(0.0, 1.0) * (WIDTH - 8.0) + 4.0 } else { 4.0 };
    let at = |value: f64| format!("{:.1}", place(value));
    let words = ends(estimate, show);
    html! {
        span.interval title=(format!("95 % confidence interval: {words}")) {
            svg width=(WIDTH) height="16" role="img" aria-label=(words) {
                rect.track x="0" y="6" width=(WIDTH) height="4" rx="2" {}
                @if let Some((low, high)) = estimate.ci_low.zip(estimate.ci_high) {
                    @let (low, high) = (at(low), at(high));
                    line.range x1=(low) x2=(high) y1="8" y2="8" {}
                    line.end x1=(low) x2=(low) y1="4" y2="12" {}
                    line.end x1=(high) x2=(high) y1="4" y2="12" {}
                }
                circle.dot cx=(at(estimate.value)) cy="8" r="4" {}
            }
            span { strong { (show(estimate.value)) } small.muted { (words) } }
        }
    }
}
