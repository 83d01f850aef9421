//! The card as people read it, with the head that the Hugging Face hub reads.

use std::fmt::Write;

use serde_json::Value;

use super::lengths::Statistics;
use super::{Card, Packaging, Split};

impl Card {
    /// The card as Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "---\nlicense: other\ntask_categories: [text-generation]\nsize_categories: [{}]\n---\n\n# Data card\n",
            size_category(self.packaging.rows_out)
        );
        self.write_sources(&mut text);
        self.write_funnels(&mut text);
        self.write_splits(&mut text);
        text.push_str("\n## Known limits\n\n");
        for limit in &self.limits {
            let _ = writeln!(text, "- {limit}");
        }
        text
    }

    fn write_sources(&self, text: &mut String) {
        text.push_str("\n## Teachers\n\n");
        if self.teachers.is_empty() {
            text.push_str("None: the rows are those of a data set.\n");
        }
        for teacher in &self.teachers {
            let models = teacher.models.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let sampling: Vec<String> =
                teacher.sampling.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let _ = writeln!(text, "- `{}`, answering as {models}", teacher.teacher);
            let _ = writeln!(text, "  - sampling: {}", sampling.join(", "));
            let _ = writeln!(text, "  - terms of use: {}", teacher.terms);
            let collections = match teacher.collections {
                1 => String::new(),
                more => format!(" of {more} collections"),
            };
            let (answers, failed) = (teacher.answers, teacher.failed);
            let _ = writeln!(text, "  - {answers} answers{collections}; failed for good: {failed}");
        }
        for judges in &self.judges {
            // There is no mean where no verdict could be read.
            let mean = match &judges["mean_score"] {
                Value::Null => String::new(),
                mean => format!(", mean score {mean}"),
            };
            let _ = writeln!(
                text,
                "\nJudged by {} on rubric {}: {} verdicts, {} unreadable{mean}.",
                judges["judges"], judges["rubric"], judges["verdicts"], judges["unreadable"]
            );
        }
    }

    fn write_funnels(&self, text: &mut String) {
        for funnel in &self.funnels {
            text.push_str("\n## Funnel\n\n| gate | in | rejected | out |\n|---|---:|---:|---:|\n");
            for gate in &funnel.gates {
                let (name, version) = (&gate.gate, gate.version);
                let _ = writeln!(
                    text,
                    "| {name}@{version} | {} | {} | {} |",
                    gate.rows_in, gate.rejected, gate.rows_out
                );
            }
        }
        for review in &self.reviews {
            let reviewers = review["reviewers"].as_array().map_or(0, Vec::len);
            let count = |what: &str| review["rows"][what].as_u64().unwrap_or(0);
            let _ = writeln!(
                text,
                "\nReviewers: {reviewers}. {} rows in, {} accepted, {} edited, {} taken back from a gate, {} \
                 rejected, {} to be asked for again, {} left out as reviewers disagree, {} passed unreviewed.",
                count("rows_in"),
                count("accepted"),
                count("edited"),
                count("taken_back"),
                count("rejected"),
                count("regenerate"),
                count("disagreed"),
                count("unreviewed"),
            );
        }
        let Packaging { rows_in, not_fitting, leaked, rows_out, .. } = self.packaging;
        let _ = writeln!(
            text,
            "\nPackaged: {rows_in} rows in, {not_fitting} that did not fit the student, {leaked} left out as their \
             problem is held out, {rows_out} rows out."
        );
    }

    fn write_splits(&self, text: &mut String) {
        let unit = self.splits.values().next().map_or("tokens", |split| split.unit);
        let _ = write!(
            text,
            "\n## Splits\n\nLengths in {unit}.\n\n| split | rows | groups | length of | total | mean | min | median | p95 | \
             p99 | max |\n|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|\n"
        );
        for split in Split::ALL {
            let card = &self.splits[split.as_str()];
            let parts =
                [("rows", &card.length), ("prompts", &card.prompt), ("completions", &card.completion)];
            for (what, lengths) in parts {
                let _ = write!(text, "| {} | {} | {} | {what} |", split.as_str(), card.rows, card.groups);
                let _ = match lengths {
                    Some(Statistics { total, mean, min, median, p95, p99, max }) => {
                        writeln!(text, " {total} | {mean:.1} | {min} | {median} | {p95} | {p99} | {max} |")
                    }
                    None => writeln!(text, " | | | | | | |"),
                };
            }
        }
    }
}

/// The size of a data set as the Hugging Face hub names it.
fn size_category(rows: usize) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "n>1M",
    }
}
