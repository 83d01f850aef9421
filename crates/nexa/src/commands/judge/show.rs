//! Reports on verdicts as tables for people.

use nexa_eval::judge::bias::{LengthBias, PositionBias, SelfPreference};
use nexa_eval::judge::bradley_terry::BradleyTerry;
use nexa_eval::judge::card::{Card, Repeats};
use nexa_eval::judge::means::MeanScore;
use nexa_eval::judge::win_rate::WinRate;
use nexa_eval::judge::{LabelKind, Report};
use nexa_eval::statistics::Estimate;

use crate::commands::leaderboard::{interval, p_value, percent};
use crate::render::{self, table};

/// The few numbers that one looks at first.
pub(super) fn headlines(report: &Report) {
    warn(report);
    report.means.iter().filter(|mean| mean.is_overall()).for_each(|mean| render::note(&mean_in_words(mean)));
    report.win_rates.iter().for_each(|rate| render::note(&win_rate_in_words(rate)));
}

/// Everything, section by section.
pub(super) fn report(report: &Report) {
    warn(report);
    section(
        "mean scores",
        &["model", "of", "score", "95 % interval", "items"],
        report.means.iter().map(mean),
    );
    section(
        "win rates",
        &[
            "model",
            "against",
            "win rate",
            "95 % interval",
            "by probabilities",
            "95 % interval",
            "wins",
            "ties",
            "losses",
            "at equal length",
            "95 % interval",
            "decided after",
            "interval at every look",
        ],
        report.win_rates.iter().map(win_rate),
    );
    section(
        "win rates by domain",
        &["model", "against", "domain", "win rate", "95 % interval", "items"],
        report.win_rates.iter().flat_map(by_domain),
    );
    if report.incomplete_pairs > 0 {
        render::note(&format!(
            "{} pairs were read in one order only, and count nowhere",
            report.incomplete_pairs
        ));
    }
    if let Some(ratings) = &report.ratings {
        show_ratings(ratings);
    }
    section(
        "position bias",
        &[
            "judge",
            "pairs",
            "same in both orders",
            "95 % interval",
            "first twice",
            "95 % interval",
            "second twice",
            "95 % interval",
            "prefers first",
            "95 % interval",
        ],
        report.position_bias.iter().map(position),
    );
    section(
        "length bias",
        &[
            "judge",
            "prefers the longer",
            "95 % interval",
            "coefficient",
            "95 % interval",
            "correlation",
            "95 % interval",
            "points for a doubling",
            "95 % interval",
        ],
        report.length_bias.iter().map(length),
    );
    section(
        "self-preference",
        &[
            "judge",
            "model of its family",
            "items",
            "gives it",
            "95 % interval",
            "more than other judges",
            "95 % interval",
        ],
        report.self_preference.iter().map(own),
    );
    section(
        "repeats",
        &["judge", "questions", "same each time", "95 % interval", "standard deviation", "95 % interval"],
        report.repeats.iter().map(repeat),
    );
    report.cards.iter().for_each(card);
}

/// What must not be overlooked.
fn warn(report: &Report) {
    for judge in &report.rules {
        render::note(&format!(
            "judge `{judge}` goes by rules and is no model: its scores are for trying things out"
        ));
    }
    if report.unreadable > 0 {
        let share = report.unreadable_share.map(|share| percent(share.value)).unwrap_or_default();
        render::note(&format!(
            "{} of {} verdicts ({share}) could not be read; they count nowhere",
            report.unreadable, report.total
        ));
    }
    for rate in &report.win_rates {
        if rate.length_controlled.as_ref().is_some_and(|controlled| controlled.is_suspicious) {
            render::note(&format!(
                "warning: control for length moves the win rate of {} far from the plain one; the fit may have failed",
                rate.model
            ));
        }
    }
}

/// A mean score in a sentence.
pub(super) fn mean_in_words(mean: &MeanScore) -> String {
    let what = mean.criterion.as_ref().map_or_else(|| "score".to_owned(), |name| format!("`{name}`"));
    let whose = mean.model.as_ref().map(|model| format!(" of {model}")).unwrap_or_default();
    format!(
        "{what}{whose}: {}, 95 % interval {}, {} items",
        two(mean.mean.value),
        interval(&mean.mean, two),
        mean.mean.n
    )
}

/// A win rate in a sentence.
pub(super) fn win_rate_in_words(rate: &WinRate) -> String {
    format!(
        "{} against {}: win rate {}, 95 % interval {}, {} items",
        rate.model,
        rate.other_model,
        percent(rate.win_rate.value),
        interval(&rate.win_rate, percent),
        rate.items
    )
}

fn section(title: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        render::note(title);
        render::out(&table::table(head, &rows));
    }
}

fn mean(mean: &MeanScore) -> Vec<String> {
    let of = [
        mean.criterion.as_ref().map(|name| format!("criterion {name}")),
        mean.task.as_ref().map(|name| format!("task {name}")),
        mean.domain.as_ref().map(|name| format!("domain {name}")),
        mean.turn.map(|turn| format!("turn {turn}")),
    ];
    vec![
        mean.model.clone().unwrap_or_default(),
        of.into_iter().flatten().next().unwrap_or_else(|| "all".to_owned()),
        two(mean.mean.value),
        interval(&mean.mean, two),
        mean.mean.n.to_string(),
    ]
}

fn win_rate(rate: &WinRate) -> Vec<String> {
    let controlled = rate.length_controlled.as_ref();
    let decided = rate.sequential.decided.map(|decided| format!("{} items", decided.items));
    let (low, high) = rate.anytime_interval;
    vec![
        rate.model.clone(),
        rate.other_model.clone(),
        percent(rate.win_rate.value),
        interval(&rate.win_rate, percent),
        rate.expected_win_rate.map(|expected| percent(expected.value)).unwrap_or_default(),
        rate.expected_win_rate.map(|expected| interval(&expected, percent)).unwrap_or_default(),
        rate.wins.to_string(),
        rate.ties.to_string(),
        rate.losses.to_string(),
        controlled.map(|controlled| percent(controlled.win_rate.value)).unwrap_or_default(),
        controlled.map(|controlled| interval(&controlled.win_rate, percent)).unwrap_or_default(),
        decided.unwrap_or_else(|| format!("not (p {})", p_value(rate.sequential.p_value))),
        format!("{} to {}", percent(low), percent(high)),
    ]
}

fn by_domain(rate: &WinRate) -> impl Iterator<Item = Vec<String>> {
    rate.by_domain.iter().map(|(domain, share)| {
        vec![
            rate.model.clone(),
            rate.other_model.clone(),
            domain.clone(),
            percent(share.value),
            interval(share, percent),
            share.n.to_string(),
        ]
    })
}

fn show_ratings(found: &BradleyTerry) {
    let rows = found.ratings.iter().map(|rating| {
        let ends = rating.ci_low.zip(rating.ci_high).map(|(low, high)| format!("{low:.0} to {high:.0}"));
        vec![
            rating.rank.to_string(),
            rating.model.clone(),
            format!("{:.0}", rating.rating),
            ends.unwrap_or_else(|| "unknown".to_owned()),
            rating.wins.to_string(),
            rating.ties.to_string(),
            rating.losses.to_string(),
        ]
    });
    section("ratings", &["rank", "model", "rating", "95 % interval", "wins", "ties", "losses"], rows);
    if found.groups > 1 {
        render::note(&format!(
            "warning: the models fall into {} groups that were never compared with each other; ratings tell nothing between them",
            found.groups
        ));
    }
}

fn position(bias: &PositionBias) -> Vec<String> {
    vec![
        bias.judge.clone(),
        bias.pairs.to_string(),
        percent(bias.consistent.value),
        interval(&bias.consistent, percent),
        percent(bias.follows_first.value),
        interval(&bias.follows_first, percent),
        percent(bias.follows_second.value),
        interval(&bias.follows_second, percent),
        percent(bias.prefers_first.value),
        interval(&bias.prefers_first, percent),
    ]
}

fn length(bias: &LengthBias) -> Vec<String> {
    let ends = |estimate: Option<Estimate>, format: fn(f64) -> String| {
        estimate.map(|estimate| interval(&estimate, format)).unwrap_or_default()
    };
    vec![
        bias.judge.clone(),
        bias.prefers_longer.map(|longer| percent(longer.value)).unwrap_or_default(),
        ends(bias.prefers_longer, percent),
        bias.length_coefficient.map(|coefficient| two(coefficient.value)).unwrap_or_default(),
        ends(bias.length_coefficient, two),
        bias.correlation.map(|correlation| two(correlation.value)).unwrap_or_default(),
        ends(bias.correlation, two),
        bias.points_per_doubling.map(|points| two(points.value)).unwrap_or_default(),
        ends(bias.points_per_doubling, two),
    ]
}

fn own(found: &SelfPreference) -> Vec<String> {
    vec![
        found.judge.clone(),
        found.model.clone(),
        found.items.to_string(),
        two(found.own.value),
        interval(&found.own, two),
        found.more_than_others.map_or_else(|| "no other judge".to_owned(), |more| two(more.value)),
        found.more_than_others.map(|more| interval(&more, two)).unwrap_or_default(),
    ]
}

fn repeat(repeats: &Repeats) -> Vec<String> {
    vec![
        repeats.judge.clone(),
        repeats.questions.to_string(),
        percent(repeats.same.value),
        interval(&repeats.same, percent),
        two(repeats.standard_deviation.value),
        interval(&repeats.standard_deviation, two),
    ]
}

fn card(card: &Card) {
    let what = match card.labels {
        LabelKind::Score => "scores of people",
        LabelKind::Preference => "preferences of people",
        LabelKind::Acceptance => "what reviewers accept",
    };
    let who = card.judge.as_deref().unwrap_or("all judges");
    let line = |name: &str, estimate: Option<Estimate>| {
        let estimate = estimate?;
        Some(vec![name.to_owned(), two(estimate.value), interval(&estimate, two)])
    };
    let rows = [
        line("agreement", Some(card.agreement)),
        line("Cohen's kappa", card.kappa),
        line("Krippendorff's alpha, nominal", card.alpha_nominal),
        line("Krippendorff's alpha, ordinal", card.alpha_ordinal),
        line("Krippendorff's alpha, interval", card.alpha_interval),
        line("Pearson", card.pearson),
        line("Spearman", card.spearman),
        line("Kendall", card.kendall),
        line("judge above people", Some(card.bias)),
        line("judge off people", Some(card.mean_absolute_error)),
        line("mean of the judge, all items", Some(card.judged_mean)),
        line("corrected by people, all items", card.corrected_mean),
    ];
    let title = format!("{who} beside {what} ({}), {} items with a label", card.source, card.items);
    section(&title, &["measure", "value", "95 % interval"], rows.into_iter().flatten());
}

/// A number with two decimals.
fn two(value: f64) -> String {
    format!("{value:.2}")
}
