//! The report of a feedback, for people: Markdown.
//!
//! It names content, not artifacts: what an artifact is called does not belong to the key of the work.

use std::fmt::{self, Display, Formatter};

use crate::facts::Facts;
use crate::feedback::{Causes, Cluster, Example, GateShare, PartKind, Slice, graded};
use crate::statistics::Estimate;

/// What is reported.
pub(super) struct Report<'a> {
    pub(super) facts: &'a Facts,
    /// The tasks whose answers are looked at.
    pub(super) tasks: &'a [String],
    /// The share of right answers over all items.
    pub(super) overall: Estimate,
    /// What every domain is held against.
    pub(super) bar: f64,
    /// Every domain, the lowest share first.
    pub(super) slices: &'a [Slice],
    /// The failures by likeness, the most first.
    pub(super) clusters: &'a [Cluster],
    /// What gates rejected of the rows like what failed, the largest share first.
    pub(super) gates: &'a [GateShare],
}

impl Display for Report<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.write_head(out)?;
        self.write_slices(out)?;
        writeln!(
            out,
            "\nGenerate new problems of the weak domains. The items below are of the test set: training on them, or on copies \
             of them, would make the next evaluation worthless."
        )?;
        for slice in self.slices.iter().filter(|slice| slice.is_weak) {
            writeln!(out, "\n## {}\n", slice.domain)?;
            write_causes(out, slice.failed_ids.len(), &slice.causes)?;
            write_examples(out, &slice.examples)?;
        }
        self.write_clusters(out)?;
        self.write_gates(out)
    }
}

impl Report<'_> {
    fn write_head(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { facts, tasks, overall, bar, .. } = self;
        let place = match facts.test_set.as_ref().filter(|_| graded::is_held_out(tasks)) {
            Some(set) => format!("split `{}` of data set {}", set.split.as_str(), set.dataset_hash.short()),
            None => format!("`{}`", tasks.join("`, `")),
        };
        writeln!(out, "# Feedback on checkpoint {}\n", facts.checkpoint_hash.short())?;
        writeln!(
            out,
            "It answered {} of {} items of {place} right{}. `nexa lineage` tells names.\n",
            (overall.value * overall.n as f64).round(),
            overall.n,
            match overall.ci_low.zip(overall.ci_high) {
                Some((low, high)) => format!(
                    ": {} (95% interval {} to {})",
                    percent(overall.value),
                    percent(low),
                    percent(high)
                ),
                None => String::new(),
            },
        )?;
        writeln!(out, "A domain is weak where its whole interval lies below {}.\n", percent(*bar))
    }

    fn write_slices(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "| domain | right | of | share | 95% interval | training rows | weak | new prompts |")?;
        writeln!(out, "|---|---:|---:|---:|---:|---:|---|---:|")?;
        for slice in self.slices {
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
        Ok(())
    }

    fn write_clusters(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Some(first) = self.clusters.first() else { return Ok(()) };
        writeln!(out, "\n## Failures by likeness\n")?;
        writeln!(
            out,
            "Questions that failed, grouped by their words, numbers all alike (`#`). The rate of a group is that of all \
             questions that are as near to its middle as nine in ten of its failures, those answered right among them. A \
             group is a gap where the whole interval lies above {}.\n",
            percent(first.bar)
        )?;
        writeln!(out, "| group | failed | near | rate | 95% interval | of all failures | gap | domains |")?;
        writeln!(out, "|---|---:|---:|---:|---:|---:|---|---|")?;
        for cluster in self.clusters {
            let domains = cluster.domains.iter().map(|of| format!("{} ({})", of.domain, of.failures));
            writeln!(
                out,
                "| {}. {} | {} | {} | {} | {} to {} | {} | {} | {} |",
                cluster.cluster,
                cluster.label,
                cluster.failures,
                cluster.items,
                percent(cluster.failure_rate),
                percent(cluster.ci_low),
                percent(cluster.ci_high),
                percent(cluster.share),
                if cluster.is_gap { "yes" } else { "" },
                domains.collect::<Vec<_>>().join(", ").replace('|', "\\|"),
            )?;
        }
        self.clusters.iter().try_for_each(|cluster| write_cluster(out, cluster))
    }

    fn write_gates(&self, out: &mut Formatter<'_>) -> fmt::Result {
        if self.gates.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Gates\n")?;
        writeln!(
            out,
            "What the gates before the training data rejected of the rows that are of a weak domain or like a gap, beside the \
             rows that are of none. A gate starves a part where its whole interval lies above that of the other rows: its bounds \
             are worth a look (`nexa distill thresholds`).\n"
        )?;
        writeln!(
            out,
            "| gate | part | rejected | of | share | 95% interval | elsewhere | 95% interval | starves |"
        )?;
        writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|---|")?;
        for one in self.gates {
            let part = match one.kind {
                PartKind::Domain => "domain",
                PartKind::Cluster => "group",
            };
            let elsewhere = match one.elsewhere_ci_low.zip(one.elsewhere_ci_high) {
                Some((low, high)) => format!(
                    "{} of {} ({}) | {} to {}",
                    one.elsewhere_rejected,
                    one.elsewhere_rows,
                    percent(one.elsewhere_share.unwrap_or(0.0)),
                    percent(low),
                    percent(high)
                ),
                None => "– | –".to_owned(),
            };
            writeln!(
                out,
                "| {} | {part} {} | {} | {} | {} | {} to {} | {elsewhere} | {} |",
                one.gate,
                one.part.replace('|', "\\|"),
                one.rejected,
                one.rows,
                percent(one.share),
                percent(one.ci_low),
                percent(one.ci_high),
                if one.is_starving { "yes" } else { "" },
            )?;
        }
        Ok(())
    }
}

fn write_cluster(out: &mut Formatter<'_>, cluster: &Cluster) -> fmt::Result {
    writeln!(out, "\n### {}. {}\n", cluster.cluster, cluster.label)?;
    write_causes(out, cluster.failures, &cluster.causes)?;
    writeln!(out, "\n| term | in failures | in right answers |")?;
    writeln!(out, "|---|---:|---:|")?;
    for term in &cluster.terms {
        writeln!(out, "| {} | {} of {} | {} |", term.term, term.failed, cluster.failures, term.right)?;
    }
    write_examples(out, &cluster.examples)
}

fn write_causes(out: &mut Formatter<'_>, failed: usize, causes: &Causes) -> fmt::Result {
    writeln!(
        out,
        "{failed} failed: {} with a wrong answer, {} without a final answer, {} cut off, {} too long for the model.",
        causes.wrong_answer, causes.no_final_answer, causes.cut_off, causes.too_long,
    )
}

fn write_examples(out: &mut Formatter<'_>, examples: &[Example]) -> fmt::Result {
    for example in examples {
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
fn write_indented(out: &mut Formatter<'_>, text: &str) -> fmt::Result {
    text.lines().try_for_each(|line| writeln!(out, "    {line}"))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
