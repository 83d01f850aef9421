//! What a task or a group comes to: each metric by each chain of filters, as the reference sums it up.

use std::collections::{BTreeMap, BTreeSet};

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
use crate::statistics::{Clusters, Estimate, clustered_standard_error};

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
    /// The sources of a task's documents, by which they may be those of another task.
    pub(crate) sources: BTreeSet<String>,
}

impl Summary {
    /// Sums up a task.
    ///
    /// # Errors
    /// Fails with task and metric where its values cannot be summed up in the way that the task asks for, and where all answers
    /// are missing that it would grade.
    pub(crate) fn of_task(loaded: &Loaded<'_>, outcomes: &[Outcome], config: &Config) -> Result<Self> {
        let task = loaded.task;
        let (draws, seed) = (config.bootstrap, config.seed);
        let slices = loaded.column(task.spec.domain.as_deref());
        let sources = loaded.sources();
        let names = sources.as_deref().map(names);
        let mut metrics = Vec::new();
        for (at, chain) in task.chains.iter().enumerate() {
            for (number, metric) in task.metrics.iter().enumerate() {
                let grades: Vec<&Grade> = outcomes.iter().map(|one| &one.graded[at].grades[number]).collect();
                let documents = Grade::present(&grades).len();
                if documents == 0 {
                    return Err(no_answers(loaded, metric, outcomes));
                }
                let value = metric.aggregation.apply(&grades).ok_or_else(|| mismatch(loaded, metric))?;
                metrics.push(Summed {
                    metric: metric.kind.as_str().to_owned(),
                    filter: chain.name.clone(),
                    value,
                    documents,
                    standard_error: standard_error(metric.aggregation, &grades, draws),
                    higher_is_better: Some(metric.higher_is_better),
                    estimate: estimate(metric.aggregation, &grades, names.as_deref(), draws, seed),
                    by_domain: by_domain(
                        metric.aggregation,
                        &grades,
                        (slices.as_deref(), names.as_deref()),
                        config,
                    ),
                    clustered: names.as_deref().and_then(|sources| clustered(&grades, sources)),
                });
            }
        }
        let sources = sources.into_iter().flatten().flatten().collect();
        Ok(Self { name: task.spec.task.clone(), size: outcomes.len(), metrics, sources })
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
            sources: BTreeSet::new(),
        }
    }
}

/// Each metric of a task after each chain of filters, over those of its documents that are marked.
pub(crate) fn measure(
    loaded: &Loaded<'_>,
    outcomes: &[Outcome],
    marks: &[bool],
    config: &Config,
) -> Vec<Measured> {
    let task = loaded.task;
    let sources = loaded.sources();
    let sources: Option<Vec<Option<&str>>> = sources.as_ref().map(|sources| {
        let marked = sources.iter().zip(marks).filter(|(_, is_marked)| **is_marked);
        marked.map(|(source, _)| source.as_deref()).collect()
    });
    let marked = outcomes.iter().zip(marks).filter(|(_, is_marked)| **is_marked);
    let outcomes: Vec<&Outcome> = marked.map(|(outcome, _)| outcome).collect();
    let of_chain = |(at, chain): (usize, &Chain)| {
        let metrics = task.metrics.iter().enumerate();
        let measured = metrics.map(|(number, metric)| {
            let grades: Vec<&Grade> = outcomes.iter().map(|one| &one.graded[at].grades[number]).collect();
            Measured {
                metric: metric.kind.as_str().to_owned(),
                filter: chain.name.clone(),
                estimate: estimate(
                    metric.aggregation,
                    &grades,
                    sources.as_deref(),
                    config.bootstrap,
                    config.seed,
                ),
            }
        });
        measured.collect::<Vec<_>>()
    };
    task.chains.iter().enumerate().flat_map(of_chain).collect()
}

/// The metrics of a group from those of its tasks. A task that lacks a number is left out of it. What tasks have in common is not known here: the interval takes documents and tasks as independent.
pub(crate) fn measure_group(group: &ChosenGroup, tasks: &[Vec<Measured>]) -> Vec<Measured> {
    let of_task = |measured: &Vec<Measured>| {
        let summed = |one: &Measured| {
            let estimate = one.estimate?;
            Some(Summed {
                metric: one.metric.clone(),
                filter: one.filter.clone(),
                value: estimate.value,
                documents: estimate.n,
                standard_error: estimate.standard_error,
                higher_is_better: None,
                estimate: one.estimate,
                by_domain: BTreeMap::new(),
                clustered: None,
            })
        };
        let metrics = measured.iter().filter_map(summed).collect();
        Summary { name: String::new(), size: 0, metrics, sources: BTreeSet::new() }
    };
    let tasks: Vec<Summary> = tasks.iter().map(of_task).collect();
    let summary = Summary::of_group(group, &tasks.iter().collect::<Vec<_>>());
    let measured =
        |summed: Summed| Measured { metric: summed.metric, filter: summed.filter, estimate: summed.estimate };
    summary.metrics.into_iter().map(measured).collect()
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

/// The error of a metric that has no answer to grade.
fn no_answers(loaded: &Loaded<'_>, metric: &Metric, outcomes: &[Outcome]) -> crate::Error {
    crate::Error::NoAnswers {
        task: loaded.task.spec.task.clone(),
        metric: metric.kind.as_str(),
        total: outcomes.len(),
        too_long: outcomes.iter().filter(|outcome| outcome.said.is_too_long()).count(),
    }
}

/// The value of each domain, where documents name one.
fn by_domain(
    aggregation: Aggregation,
    grades: &[&Grade],
    (domains, sources): (Option<&[String]>, Option<&[Option<&str>]>),
    config: &Config,
) -> BTreeMap<String, Estimate> {
    let mut slices: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
    for (at, domain) in domains.unwrap_or_default().iter().enumerate() {
        slices.entry(domain).or_default().push(at);
    }
    let of_slice = |(domain, places): (&String, Vec<usize>)| {
        let grades: Vec<&Grade> = places.iter().map(|&at| grades[at]).collect();
        let sources: Option<Vec<Option<&str>>> =
            sources.map(|sources| places.iter().map(|&at| sources[at]).collect());
        let found = estimate(aggregation, &grades, sources.as_deref(), config.bootstrap, config.seed);
        Some((domain.clone(), found?))
    };
    slices.into_iter().filter_map(of_slice).collect()
}

fn names(sources: &[Option<String>]) -> Vec<Option<&str>> {
    sources.iter().map(Option::as_deref).collect()
}

fn clustered(grades: &[&Grade], sources: &[Option<&str>]) -> Option<(f64, usize)> {
    let present = grades.iter().zip(sources).filter(|(grade, _)| ***grade != Grade::Missing);
    let (values, sources): (Vec<Option<f64>>, Vec<Option<&str>>) =
        present.map(|(grade, source)| (grade.number(), *source)).unzip();
    let clusters = Clusters::of_sources(sources);
    let error = clustered_standard_error(&values.into_iter().collect::<Option<Vec<_>>>()?, &clusters)?;
    Some((error, clusters.len()))
}

/// The chains of filters that tasks have for a metric, by name.
fn filters_of(metric: &str, tasks: &[&Summary]) -> Vec<String> {
    let found = tasks.iter().flat_map(|task| &task.metrics).filter(|summed| summed.metric == metric);
    let mut filters: Vec<String> = found.map(|summed| summed.filter.clone()).collect();
    filters.sort();
    filters.dedup();
    filters
}

/// The mean of tasks. The standard error is the reference's, that of all documents together, whatever the weights and sources.
/// The interval is that of the weighted mean, with a task's error over sources where it has one; see [`joint_error`].
fn pooled(metric: &AggregateMetric, filter: String, tasks: &[&Summary]) -> Option<Summed> {
    let is_own = |summed: &&Summed| summed.metric == metric.metric && summed.filter == filter;
    let found: Vec<(&Summed, &BTreeSet<String>)> =
        tasks.iter().filter_map(|task| Some((task.metrics.iter().find(is_own)?, &task.sources))).collect();
    let (first, _) = found.first()?;
    let weight = |summed: &Summed| if metric.weight_by_size { summed.documents as f64 } else { 1.0 };
    let total: f64 = found.iter().map(|(summed, _)| weight(summed)).sum();
    let value = found.iter().map(|(summed, _)| summed.value * weight(summed)).sum::<f64>() / total;
    let errors: Option<Vec<f64>> = found.iter().map(|(summed, _)| summed.standard_error).collect();
    let sizes: Vec<usize> = found.iter().map(|(summed, _)| summed.documents).collect();
    let better = first.higher_is_better;
    let own_errors = found.iter().map(|(summed, sources)| {
        let error = summed.clustered.map(|(error, _)| error).or(summed.standard_error)?;
        Some((weight(summed) * error / total, *sources))
    });
    let own_error = own_errors.collect::<Option<Vec<_>>>().map(|errors| joint_error(&errors));
    let standard_error = errors.map(|errors| pooled_standard_error(&errors, &sizes));
    Some(Summed {
        metric: metric.metric.clone(),
        value,
        documents: sizes.iter().sum(),
        standard_error,
        estimate: Some(Estimate::normal(value, own_error, sizes.iter().sum())),
        by_domain: BTreeMap::new(),
        clustered: None,
        higher_is_better: better
            .filter(|_| found.iter().all(|(summed, _)| summed.higher_is_better == better)),
        filter,
    })
}

/// The standard error of a sum of tasks' means from those of its parts. Tasks that share sources err together, and how much is
/// not known: their errors are added up, which is the most that they can come to. All others are independent.
fn joint_error(parts: &[(f64, &BTreeSet<String>)]) -> f64 {
    let mut together: Vec<(BTreeSet<&str>, f64)> = Vec::new();
    for (error, sources) in parts {
        let (mut names, mut sum): (BTreeSet<&str>, f64) =
            (sources.iter().map(String::as_str).collect(), *error);
        together.retain(|(others, error)| {
            let is_apart = others.is_disjoint(&names);
            if !is_apart {
                names.extend(others);
                sum += error;
            }
            is_apart
        });
        together.push((names, sum));
    }
    together.iter().map(|(_, error)| error.powi(2)).sum::<f64>().sqrt()
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
        Summary { name: name.to_owned(), size, metrics: vec![summed], sources: BTreeSet::new() }
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
        assert_eq!(of_group(true, &unknown).estimate.unwrap().ci_low, None);
    }

    /// Expected: by hand. Shares of 5 of 10 and 900 of 1,000 have errors of sqrt(0.25 / 9) and sqrt(0.09 / 999), and the mean
    /// of the two has half of the root of the sum of their squares.
    #[test]
    fn the_interval_of_a_group_is_that_of_its_weighted_mean() {
        let (few, many) = ((0.25_f64 / 9.0).sqrt(), (0.09_f64 / 999.0).sqrt());
        let tasks = [task("a", 10, 0.5, Some(few)), task("b", 1000, 0.9, Some(many))];
        let check = |weight_by_size: bool, expected: f64| {
            let found = of_group(weight_by_size, &tasks);
            let estimate = found.estimate.unwrap();
            assert!((estimate.standard_error.unwrap() - expected).abs() < 1e-12, "{estimate:?}");
            let reach = estimate.ci_high.unwrap() - found.value;
            assert!((reach - crate::statistics::Z * expected).abs() < 1e-12, "{estimate:?}");
            // The number of the reference stays what it is.
            assert!((found.standard_error.unwrap() - 0.009_5).abs() < 0.000_1, "{found:?}");
        };
        check(false, (few * few + many * many).sqrt() / 2.0);
        assert!((few / 2.0 - 0.083).abs() < 0.001, "far more than 0.0095");
        check(true, ((10.0 * few).powi(2) + (1000.0 * many).powi(2)).sqrt() / 1010.0);
    }

    /// Expected: by hand. The errors of the two that share a source are added up, 0.1 / 3 + 0.2 / 3; the third is independent.
    #[test]
    fn tasks_that_share_sources_err_together() {
        let of = |name: &str, error: f64, sources: &[&str]| {
            let mut task = task(name, 10, 0.5, Some(0.05));
            task.metrics[0].clustered = Some((error, 5));
            task.sources = sources.iter().map(|&source| source.to_owned()).collect();
            task
        };
        let error = |tasks: &[Summary]| of_group(false, tasks).estimate.unwrap().standard_error.unwrap();
        let alike = [of("a", 0.1, &["x", "y"]), of("b", 0.2, &["y", "z"]), of("c", 0.3, &["w"])];
        assert!((error(&alike) - 0.1 * 2.0_f64.sqrt()).abs() < 1e-12, "{}", error(&alike));
        let apart = [of("a", 0.1, &["x"]), of("b", 0.2, &["y"]), of("c", 0.2, &[])];
        assert!((error(&apart) - 0.1).abs() < 1e-12, "{}", error(&apart));
    }
}
