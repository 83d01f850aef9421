//! The report of a feedback, for people: Markdown.

use std::fmt::{self, Write};

use crate::Evaluation;
use crate::feedback::Slice;
use crate::statistics::Estimate;

/// Writes the report.
pub(super) fn render(evaluation: &Evaluation, overall: &Estimate, bar: f64, slices: &[Slice]) -> String {
    let mut out = String::new();
    write(&mut out, evaluation, overall, bar, slices).expect("writing to a string does not fail");
    out
}

fn write(
    out: &mut String,
    evaluation: &Evaluation,
    overall: &Estimate,
    bar: f64,
    slices: &[Slice],
) -> fmt::Result {
    let test_set = &evaluation.test_set;
    writeln!(out, "# Feedback on {}\n", evaluation.id())?;
    writeln!(
        out,
        "Model `{}` ({}) answered {} of {} items of split `{}` of {} right{}.\n",
        evaluation.model,
        evaluation.checkpoint.id,
        (overall.value * overall.n as f64).round(),
        overall.n,
        test_set.split.as_str(),
        test_set.dataset,
        match overall.ci_low.zip(overall.ci_high) {
            Some((low, high)) =>
                format!(": {} (95% interval {} to {})", percent(overall.value), percent(low), percent(high)),
            None => String::new(),
        },
    )?;
    writeln!(out, "A domain is weak where its whole interval lies below {}.\n", percent(bar))?;
    writeln!(out, "| domain | right | of | share | 95% interval | training rows | weak | new prompts |")?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|---|---:|")?;
    for slice in slices {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} to {} | {} | {} | {} |",
            slice.domain.replace('|', "\\|"),
            slice.correct,
            slice.n,
            percent(slice.accuracy),
            percent(slice.ci_low),
            percent(slice.ci_high),
            slice.training_rows.map_or_else(|| "–".to_owned(), |rows| rows.to_string()),
            if slice.is_weak { "yes" } else { "" },
            slice.recommended_new_prompts,
        )?;
    }
    writeln!(
        out,
        "\nGenerate new problems of the weak domains. The items below are of the test set: training on them, or on copies \
         of them, would make the next evaluation worthless."
    )?;
    for slice in slices.iter().filter(|slice| slice.is_weak) {
        write_failures(out, slice)?;
    }
    Ok(())
}

fn write_failures(out: &mut String, slice: &Slice) -> fmt::Result {
    let causes = &slice.causes;
    writeln!(out, "\n## {}\n", slice.domain)?;
    writeln!(
        out,
        "{} failed: {} with a wrong answer, {} without a final answer, {} cut off, {} too long for the model.",
        slice.failed_ids.len(),
        causes.wrong_answer,
        causes.no_final_answer,
        causes.cut_off,
        causes.too_long,
    )?;
    for example in &slice.examples {
        writeln!(
            out,
            "\n`{}`, right is `{}`, found was `{}`:\n",
            example.id,
            example.reference.as_deref().unwrap_or("unknown"),
            example.prediction.as_deref().unwrap_or("nothing"),
        )?;
        write_indented(out, &example.prompt)?;
        if let Some(output) = &example.output {
            writeln!(out, "\nAnswer:\n")?;
            write_indented(out, output)?;
        }
    }
    Ok(())
}

/// Writes text as an indented block, inside which Markdown means nothing.
fn write_indented(out: &mut String, text: &str) -> fmt::Result {
    text.lines().try_for_each(|line| writeln!(out, "    {line}"))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
