//! What a task or a group comes to: each metric by each chain of filters, as the reference sums it up.

use std::collections::BTreeMap;

use crate::Result;
use crate::contamination::Measured;
use crate::evaluate::Config;
use crate::harness::filter::Chain;
use crate::harness::load::Loaded;
use crate::harness::metric::{Aggregation, Grade, Metric, estimate, pooled_standard_error, standard_error};
use crate::harness::outcome::Outcome;
use crate::harness::plan::Plan;
use crate::harness::registry::ChosenGroup;
use crate::harness::spec::AggregateMetric;
use crate::statistics::{Estimate, clustered_standard_error};

/// A metric after one chain of filters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summed {
    pub(crate) metric: String,
    pub(crate) filter: String,
    pub(crate) value: f64,
    /// The documents that it is over.
    pub(crate) documents: usize,
    /// The standard error where the reference gives one.
    pub(crate) standard_error: Option<f64>,
    pub(crate) higher_is_better: Option<bool>,
    /// The value with its interval; none where the number says nothing.
    pub(crate) estimate: Option<Estimate>,
    /// The value of each domain.
    pub(crate) by_domain: BTreeMap<String, Estimate>,
    /// The standard error where documents share sources, and the number of these.
    pub(crate) clustered: Option<(f64, usize)>,
}

/// Everything that is known of a task or a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) name: String,
    /// Documents.
    pub(crate) size: usize,
    pub(crate) metrics: Vec<Summed>,
}

impl Summary {
    /// Sums up a task.
    ///
    /// # Errors
    /// Fails with task and metric where its values cannot be summed up in the way that the task asks for.
    pub(crate) fn of_task(loaded: &Loaded<'_>, outcomes: &[Outcome], config: &Config) -> Result<Self> {
        let task = loaded.task;
        let (draws, seed) = (config.bootstrap, config.seed);
        let slices = loaded.column(task.spec.domain.as_deref());
        let clusters = loaded.column(task.spec.cluster.as_deref());
        let mut metrics = Vec::new();
        for (at, chain) in task.chains.iter().enumerate() {
            for (number, metric) in task.metrics.iter().enumerate() {
                let grades: Vec<&Grade> = outcomes.iter().map(|one| &one.graded[at].grades[number]).collect();
                let value = metric.aggregation.apply(&grades).ok_or_else(|| mismatch(loaded, metric))?;
                metrics.push(Summed {
                    metric: metric.kind.as_str().to_owned(),
                    filter: chain.name.clone(),
                    value,
                    documents: outcomes.len(),
                    standard_error: standard_error(metric.aggregation, &grades, draws),
                    higher_is_better: Some(metric.higher_is_better),
                    estimate: estimate(metric.aggregation, &grades, draws, seed),
                    by_domain: by_domain(metric.aggregation, &grades, slices.as_deref(), config),
                    clustered: clusters.as_deref().and_then(|clusters| clustered(&grades, clusters)),
                });
            }
        }
        Ok(Self { name: task.spec.task.clone(), size: outcomes.len(), metrics })
    }

    /// Sums up a group from its tasks.
    pub(crate) fn of_group(group: &ChosenGroup, tasks: &[&Self]) -> Self {
        let metrics = group.group.aggregate_metric_list.0.iter().flat_map(|metric| {
            let filters = match &metric.filter_list {
                Some(filters) => filters.0.clone(),
                None => filters_of(&metric.metric, tasks),
            };
            filters.into_iter().filter_map(|filter| pooled(metric, filter, tasks)).collect::<Vec<_>>()
        });
        Self {
            name: group.group.group.clone(),
            size: tasks.iter().map(|task| task.size).sum(),
            metrics: metrics.collect(),
        }
    }
}

/// Each metric of a task after each chain of filters, over some of its documents.
pub(crate) fn measure(loaded: &Loaded<'_>, outcomes: &[&Outcome], config: &Config) -> Vec<Measured> {
    let task = loaded.task;
    let of_chain = |(at, chain): (usize, &Chain)| {
        let metrics = task.metrics.iter().enumerate();
        let measured = metrics.map(|(number, metric)| {
            let grades: Vec<&Grade> = outcomes.iter().map(|one| &one.graded[at].grades[number]).collect();
            Measured {
                metric: metric.kind.as_str().to_owned(),
                filter: chain.name.clone(),
                estimate: estimate(metric.aggregation, &grades, config.bootstrap, config.seed),
            }
        });
        measured.collect::<Vec<_>>()
    };
    task.chains.iter().enumerate().flat_map(of_chain).collect()
}

/// The summaries of all groups of a plan, in its order.
pub(crate) fn groups(plan: &Plan, tasks: &[Summary]) -> Vec<Summary> {
    let of_group = |group: &ChosenGroup| {
        let inside = |name: &String| tasks.iter().find(|task| task.name == *name);
        Summary::of_group(group, &group.tasks.iter().filter_map(inside).collect::<Vec<_>>())
    };
    plan.groups.iter().map(of_group).collect()
}

fn mismatch(loaded: &Loaded<'_>, metric: &Metric) -> crate::Error {
    let name = metric.kind.as_str();
    let message =
        format!("the values of `{name}` are not what this aggregation sums up, or a right choice is missing");
    loaded.task.spec.error("metric_list", message)
}

/// The value of each domain, where documents name one.
fn by_domain(
    aggregation: Aggregation,
    grades: &[&Grade],
    domains: Option<&[String]>,
    config: &Config,
) -> BTreeMap<String, Estimate> {
    let mut slices: BTreeMap<&String, Vec<&Grade>> = BTreeMap::new();
    for (grade, domain) in grades.iter().zip(domains.unwrap_or_default()) {
        slices.entry(domain).or_default().push(grade);
    }
    let of_slice = |(domain, grades): (&String, Vec<&Grade>)| {
        Some((domain.clone(), estimate(aggregation, &grades, config.bootstrap, config.seed)?))
    };
    slices.into_iter().filter_map(of_slice).collect()
}

fn clustered(grades: &[&Grade], clusters: &[String]) -> Option<(f64, usize)> {
    let values: Vec<f64> = grades.iter().map(|grade| grade.number()).collect::<Option<_>>()?;
    clustered_standard_error(&values, &clusters.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The chains of filters that tasks have for a metric, by name.
fn filters_of(metric: &str, tasks: &[&Summary]) -> Vec<String> {
    let found = tasks.iter().flat_map(|task| &task.metrics).filter(|summed| summed.metric == metric);
    let mut filters: Vec<String> = found.map(|summed| summed.filter.clone()).collect();
    filters.sort();
    filters.dedup();
    filters
}

fn pooled(metric: &AggregateMetric, filter: String, tasks: &[&Summary]) -> Option<Summed> {
    let of_task = |task: &&Summary| {
        let found =
            task.metrics.iter().find(|summed| summed.metric == metric.metric && summed.filter == filter);
        found.map(|summed| (summed.clone(), task.size))
    };
    let found: Vec<(Summed, usize)> = tasks.iter().filter_map(of_task).collect();
    let (first, _) = found.first()?;
    let weight = |size: usize| if metric.weight_by_size { size as f64 } else { 1.0 };
    let total: f64 = found.iter().map(|(_, size)| weight(*size)).sum();
    let value = found.iter().map(|(summed, size)| summed.value * weight(*size)).sum::<f64>() / total;
    let errors: Option<Vec<f64>> = found.iter().map(|(summed, _)| summed.standard_error).collect();
    let sizes: Vec<usize> = found.iter().map(|(_, size)| *size).collect();
    let better = first.higher_is_better;
    let standard_error = errors.map(|errors| pooled_standard_error(&errors, &sizes));
    Some(Summed {
        metric: metric.metric.clone(),
        value,
        documents: sizes.iter().sum(),
        standard_error,
        estimate: Some(Estimate::normal(value, standard_error, sizes.iter().sum())),
        by_domain: BTreeMap::new(),
        clustered: None,
        higher_is_better: better
            .filter(|_| found.iter().all(|(summed, _)| summed.higher_is_better == better)),
        filter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::spec::Group;

    fn task(name: &str, size: usize, value: f64, standard_error: Option<f64>) -> Summary {
        let summed = Summed {
            metric: "acc".to_owned(),
            filter: "none".to_owned(),
            value,
            documents: size,
            standard_error,
            higher_is_better: Some(true),
            estimate: None,
            by_domain: BTreeMap::new(),
            clustered: None,
        };
        Summary { name: name.to_owned(), size, metrics: vec![summed] }
    }

    fn of_group(weight_by_size: bool, tasks: &[Summary]) -> Summed {
        let yaml = format!(
            "{{group: g, aggregate_metric_list: [{{metric: acc, weight_by_size: {weight_by_size}}}]}}"
        );
        let value = nexa_core::config::parse_yaml(&yaml, "group").unwrap();
        let group: Group = nexa_core::config::from_value(value, "group").unwrap();
        let group = ChosenGroup { group, children: Vec::new(), tasks: Vec::new() };
        Summary::of_group(&group, &tasks.iter().collect::<Vec<_>>()).metrics.remove(0)
    }

    /// Expected: by hand, (10 * 0.5 + 30 * 0.9) / 40 and (0.5 + 0.9) / 2.
    #[test]
    fn a_group_is_the_mean_of_its_tasks() {
        let tasks = [task("a", 10, 0.5, Some(0.1)), task("b", 30, 0.9, Some(0.05))];
        assert!((of_group(true, &tasks).value - 0.8).abs() < 1e-12);
        let even = of_group(false, &tasks);
        assert!((even.value - 0.7).abs() < 1e-12);
        // The error is that of the pooled documents, whatever the weights.
        let pooled = ((9.0 * 0.01 * 10.0 + 29.0 * 0.0025 * 30.0) / 38.0 / 40.0_f64).sqrt();
        assert!((even.standard_error.unwrap() - pooled).abs() < 1e-12);
        let unknown = [task("a", 1, 0.5, None), task("b", 30, 0.9, Some(0.05))];
        assert_eq!(of_group(true, &unknown).standard_error, None);
    }
}
