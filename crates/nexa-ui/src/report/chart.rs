//! Charts as SVG within a page: no script, nothing to load, the colours of the page.

use maud::{Markup, html};

use crate::leaderboard::{CalibrationBin, Estimate};
use crate::pages::interval::{ends, percent};

/// The height of a bar with its surroundings.
const ROW: f64 = 24.0;
const LABEL_WIDTH: f64 = 230.0;
const BAR_WIDTH: f64 = 420.0;
const VALUE_WIDTH: f64 = 190.0;
/// Characters of a label.
const LABEL_CHARACTERS: usize = 34;

/// Bars from 0 to 1 with their intervals.
pub(super) fn bars(rows: &[(String, Estimate)]) -> Markup {
    let height = ROW * rows.len() as f64 + 22.0;
    let width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH;
    let at = |share: f64| LABEL_WIDTH + share.clamp(0.0, 1.0) * BAR_WIDTH;
    html! {
        svg.chart-bars viewBox=(format!("0 0 {width} {height}")) role="img" aria-label="bars with 95 % intervals" {
            @for step in 0..=4 {
                @let x = px(at(f64::from(step) / 4.0));
                line.grid-line x1=(x) x2=(x) y1="0" y2=(height - 20.0) {}
                text.tick x=(x) y=(height - 6.0) text-anchor="middle" { (step * 25) " %" }
            }
            @for (index, (label, estimate)) in rows.iter().enumerate() {
                @let top = ROW * index as f64;
                @let middle = px(top + ROW / 2.0);
                text.label x=(LABEL_WIDTH - 10.0) y=(px(top + ROW / 2.0 + 4.0)) text-anchor="end" {
                    title { (label) } (crate::format::shorten(label, LABEL_CHARACTERS))
                }
                rect.fill x=(LABEL_WIDTH) y=(px(top + 5.0)) width=(px(at(estimate.value) - LABEL_WIDTH)) height=(ROW - 10.0) rx="2" {}
                @if let Some((low, high)) = estimate.ci_low.zip(estimate.ci_high) {
                    line.whisker x1=(px(at(low))) x2=(px(at(high))) y1=(middle) y2=(middle) {}
                    @for end in [low, high] {
                        line.whisker x1=(px(at(end))) x2=(px(at(end))) y1=(px(top + 8.0)) y2=(px(top + ROW - 8.0)) {}
                    }
                }
                text.value x=(LABEL_WIDTH + BAR_WIDTH + 12.0) y=(px(top + ROW / 2.0 + 4.0)) {
                    (percent(estimate.value)) "  (" (ends(estimate, &percent)) ")"
                }
            }
        }
    }
}

/// How often a model was right against how sure it was; on the diagonal it is as often right as it is sure.
pub(super) fn reliability(bins: &[CalibrationBin]) -> Markup {
    const SIDE: f64 = 260.0;
    const LEFT: f64 = 48.0;
    const TOP: f64 = 10.0;
    let x = |share: f64| px(LEFT + share * SIDE);
    let y = |share: f64| px(TOP + (1.0 - share) * SIDE);
    let largest = bins.iter().map(|bin| bin.n).max().unwrap_or(1).max(1) as f64;
    html! {
        svg.chart-square viewBox=(format!("0 0 {} {}", LEFT + SIDE + 24.0, TOP + SIDE + 44.0)) role="img" aria-label="reliability diagram" {
            @for step in 0..=4 {
                @let share = f64::from(step) / 4.0;
                line.grid-line x1=(x(share)) x2=(x(share)) y1=(y(0.0)) y2=(y(1.0)) {}
                line.grid-line x1=(x(0.0)) x2=(x(1.0)) y1=(y(share)) y2=(y(share)) {}
                text.tick x=(x(share)) y=(px(TOP + SIDE + 16.0)) text-anchor="middle" { (step * 25) " %" }
                text.tick x=(LEFT - 6.0) y=(px(TOP + (1.0 - share) * SIDE + 4.0)) text-anchor="end" { (step * 25) " %" }
            }
            text.label x=(x(0.5)) y=(px(TOP + SIDE + 36.0)) text-anchor="middle" { "how sure" }
            text.label transform=(format!("translate(11 {}) rotate(-90)", TOP + SIDE / 2.0)) text-anchor="middle" { "how often right" }
            line.diagonal x1=(x(0.0)) x2=(x(1.0)) y1=(y(0.0)) y2=(y(1.0)) {}
            @for bin in bins {
                @let place = x(bin.confidence);
                @if let Some((low, high)) = bin.right.ci_low.zip(bin.right.ci_high) {
                    line.whisker x1=(place) x2=(place) y1=(y(low)) y2=(y(high)) {}
                }
                circle.dot cx=(place) cy=(y(bin.right.value)) r=(px(3.0 + 5.0 * (bin.n as f64 / largest).sqrt())) {
                    title { (bin.n) " documents: sure " (percent(bin.confidence)) ", right " (percent(bin.right.value)) ", " (ends(&bin.right, &percent)) }
                }
            }
        }
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_end_where_values_lie_and_labels_are_escaped() {
        let estimate = Estimate { value: 0.5, ci_low: Some(0.25), ci_high: Some(0.75) };
        let svg = bars(&[("<b>".to_owned(), estimate)]).into_string();
        assert!(svg.contains("width=\"210.0\"") && svg.contains("x1=\"335.0\" x2=\"545.0\""), "{svg}");
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        let unknown = Estimate { ci_low: None, ci_high: None, ..estimate };
        assert!(!bars(&[("a".to_owned(), unknown)]).into_string().contains("whisker"));
    }

    #[test]
    fn the_diagonal_is_from_corner_to_corner() {
        let right = Estimate { value: 1.0, ci_low: Some(0.5), ci_high: Some(1.0) };
        let svg = reliability(&[CalibrationBin { confidence: 0.0, right, n: 4 }]).into_string();
        assert!(
            svg.contains("class=\"diagonal\" x1=\"48.0\" x2=\"308.0\" y1=\"270.0\" y2=\"10.0\""),
            "{svg}"
        );
        assert!(svg.contains("cx=\"48.0\" cy=\"10.0\" r=\"8.0\""), "{svg}");
    }
}
