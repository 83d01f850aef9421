//! Every rule against the formula of its paper, in f64 and without parts, chunks and threads.

use nexa_model::{Kind, Parameter};

use super::*;
use crate::config::{LearningRateGroup, Optimizer as Choice};

/// Steps that each check runs.
const STEPS: u64 = 6;

fn parameter(kind: Kind, parts: &[(&str, usize)], columns: usize) -> Parameter {
    Parameter {
        kind,
        shape: [parts.iter().map(|(_, rows)| rows).sum(), columns],
        parts: parts.iter().map(|&(name, rows)| (format!("layer.{name}.weight"), rows)).collect(),
    }
}

/// An embedding, a norm, a fused projection and one that is taller than wide.
fn parameters() -> Vec<Parameter> {
    vec![
        parameter(Kind::Embedding, &[("embed", 7)], 5),
        parameter(Kind::Norm, &[("norm", 1)], 5),
        parameter(Kind::Projection, &[("q_proj", 6), ("k_proj", 3), ("v_proj", 3)], 5),
        parameter(Kind::ResidualProjection, &[("o_proj", 9)], 4),
    ]
}

/// Numbers that look random and are of very different sizes.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let number = |index: usize| {
        let x = ((index as u64 + 1) * 2_654_435_761 + seed * 40_503).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let unit = (x >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        unit * 10f32.powi((x % 5) as i32 - 3)
    };
    (0..count).map(number).collect()
}

fn config(optimizer: Choice) -> Config {
    Config {
        optimizer,
        learning_rate: Some(0.01),
        weight_decay: 0.3,
        embedding_lr: Some(0.02),
        ..Config::default()
    }
}

/// One tensor of a parameter, as the papers see it.
struct Tensor {
    rows: usize,
    columns: usize,
    is_vector: bool,
    values: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

/// An update by the book: what is subtracted, before the learning rate.
type Formula = fn(&mut Tensor, &[f64], u64) -> Vec<f64>;

fn adamw(tensor: &mut Tensor, gradient: &[f64], step: u64) -> Vec<f64> {
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    let mut update = Vec::new();
    for (index, g) in gradient.iter().enumerate() {
        tensor.first[index] = 0.9 * tensor.first[index] + 0.1 * g;
        tensor.second[index] = 0.95 * tensor.second[index] + 0.05 * g * g;
        let (mean, square) = (tensor.first[index] / correction(0.9), tensor.second[index] / correction(0.95));
        update.push(mean / (square.sqrt() + 1e-8));
    }
    update
}

fn adafactor(tensor: &mut Tensor, gradient: &[f64], step: u64) -> Vec<f64> {
    let decay = 1.0 - (step as f64).powf(-0.8);
    let (rows, columns) = (tensor.rows, tensor.columns);
    let square = |row: usize, column: usize| gradient[row * columns + column].powi(2) + 1e-30;
    let blend = |old: &mut f64, new: f64| *old = decay * *old + (1.0 - decay) * new;
    let estimate: Vec<f64> = if tensor.is_vector {
        for column in 0..columns {
            blend(&mut tensor.second[column], square(0, column));
        }
        tensor.second.clone()
    } else {
        for row in 0..rows {
            let mean = (0..columns).map(|column| square(row, column)).sum::<f64>() / columns as f64;
            blend(&mut tensor.first[row], mean);
        }
        for column in 0..columns {
            let mean = (0..rows).map(|row| square(row, column)).sum::<f64>() / rows as f64;
            blend(&mut tensor.second[column], mean);
        }
        let mean = tensor.first[..rows].iter().sum::<f64>() / rows as f64;
        (0..rows * columns)
            .map(|index| tensor.first[index / columns] * tensor.second[index % columns] / mean)
            .collect()
    };
    let update: Vec<f64> = gradient.iter().zip(estimate).map(|(g, v)| g / v.sqrt()).collect();
    let size = (update.iter().map(|u| u * u).sum::<f64>() / update.len() as f64).sqrt();
    update.iter().map(|u| u / size.max(1.0)).collect()
}

fn muon(tensor: &mut Tensor, gradient: &[f64], _step: u64) -> Vec<f64> {
    let mut direction = Vec::new();
    for (index, g) in gradient.iter().enumerate() {
        tensor.first[index] = 0.95 * tensor.first[index] + 0.05 * g;
        direction.push(0.95 * tensor.first[index] + 0.05 * g);
    }
    let (n, m) = (tensor.rows, tensor.columns);
    let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut x: Vec<f64> = direction.iter().map(|value| value / norm).collect();
    let product = |left: &[f64], right: &[f64], [n, k, m]: [usize; 3]| -> Vec<f64> {
        let cell = |at: usize| (0..k).map(|i| left[at / m * k + i] * right[i * m + at % m]).sum();
        (0..n * m).map(cell).collect()
    };
    for _ in 0..5 {
        // a X + b (X X^T) X + c (X X^T)^2 X
        let transposed: Vec<f64> = (0..n * m).map(|at| x[at % n * m + at / n]).collect();
        let gram = product(&x, &transposed, [n, m, n]);
        let cubic = product(&gram, &x, [n, n, m]);
        let quintic = product(&gram, &cubic, [n, n, m]);
        for ((x, cubic), quintic) in x.iter_mut().zip(cubic).zip(quintic) {
            *x = 3.4445 * *x - 4.7750 * cubic + 2.0315 * quintic;
        }
    }
    x.iter().map(|value| value * 0.2 * (n.max(m) as f64).sqrt()).collect()
}

/// Runs a rule and a formula for each parameter over several steps, and compares.
fn check(choice: Choice, formula: impl Fn(&Parameter) -> Formula) {
    let (config, parameters) = (config(choice), parameters());
    let mut optimizer = Optimizer::new(&config, &parameters).expect("no groups");
    for (index, parameter) in parameters.iter().enumerate() {
        let columns = parameter.shape[1];
        let mut values = numbers(parameter.shape[0] * columns, 99);
        let mut at = 0;
        let mut tensors: Vec<Tensor> = Vec::new();
        for &(_, rows) in &parameter.parts {
            let own = &values[at..at + rows * columns];
            at += rows * columns;
            tensors.push(Tensor {
                rows,
                columns,
                is_vector: parameter.kind == Kind::Norm,
                values: own.iter().map(|&value| f64::from(value)).collect(),
                first: vec![0.0; own.len()],
                second: vec![0.0; own.len()],
            });
        }
        let is_projection = matches!(parameter.kind, Kind::Projection | Kind::ResidualProjection);
        let decay = if is_projection { 0.3 } else { 0.0 };
        for number in 1..=STEPS {
            let gradient = numbers(values.len(), number);
            let (scale, base_rate) = (0.25, 0.01 / number as f64);
            let rate = if parameter.kind == Kind::Embedding { 2.0 * base_rate } else { base_rate };
            optimizer.update(
                index,
                &mut values,
                &gradient,
                &Step { number, learning_rate: base_rate, scale },
            );
            let mut at = 0;
            for tensor in &mut tensors {
                let own: Vec<f64> = gradient[at..at + tensor.values.len()]
                    .iter()
                    .map(|&value| f64::from(value) * scale)
                    .collect();
                at += own.len();
                let update = formula(parameter)(tensor, &own, number);
                for (value, update) in tensor.values.iter_mut().zip(update) {
                    *value = *value * (1.0 - rate * decay) - rate * update;
                }
            }
            let expected = tensors.iter().flat_map(|tensor| &tensor.values);
            for (at, (value, expected)) in values.iter().zip(expected).enumerate() {
                let error = (f64::from(*value) - expected).abs();
                assert!(
                    error < 2e-6 * (1.0 + expected.abs()),
                    "{}[{at}] after step {number}: {value} {expected}",
                    name(parameter)
                );
            }
        }
    }
}

#[test]
fn adamw_follows_its_paper() {
    check(Choice::AdamW, |_| adamw);
}

#[test]
fn adafactor_follows_its_paper() {
    check(Choice::Adafactor, |_| adafactor);
}

#[test]
fn muon_follows_its_author_on_projections_and_adamw_on_the_rest() {
    check(Choice::Muon, |parameter| match parameter.kind {
        Kind::Projection | Kind::ResidualProjection => muon,
        _ => adamw,
    });
}

#[test]
fn threads_change_no_bit() {
    // Large enough for several chunks and for a product that is split over threads.
    let parameters = [
        parameter(Kind::Projection, &[("q_proj", 300), ("k_proj", 100)], 250),
        parameter(Kind::Embedding, &[("embed", 500)], 250),
    ];
    for choice in [Choice::AdamW, Choice::Adafactor, Choice::Muon] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("starts threads");
            pool.install(|| {
                let mut optimizer = Optimizer::new(&config(choice), &parameters).expect("no groups");
                let mut bits = Vec::new();
                for (index, parameter) in parameters.iter().enumerate() {
                    let mut values = numbers(parameter.shape[0] * parameter.shape[1], 99);
                    for number in 1..=2 {
                        let gradient = numbers(values.len(), number);
                        let step = Step { number, learning_rate: 0.01, scale: 0.5 };
                        optimizer.update(index, &mut values, &gradient, &step);
                        bits.push(global_norm([gradient.as_slice()]).to_bits());
                    }
                    bits.extend(values.iter().map(|value| u64::from(value.to_bits())));
                }
                bits
            })
        };
        let alone = run(1);
        assert!(run(2) == alone && run(3) == alone, "{choice:?}");
    }
}

#[test]
fn a_gradient_of_zero_and_one_of_any_size_leave_finite_numbers() {
    for choice in [Choice::AdamW, Choice::Adafactor, Choice::Muon] {
        for size in [0.0, 1e-20, 1e18] {
            let parameters = parameters();
            let mut optimizer = Optimizer::new(&config(choice), &parameters).expect("no groups");
            for (index, parameter) in parameters.iter().enumerate() {
                let mut values = vec![1.0; parameter.shape[0] * parameter.shape[1]];
                let gradient: Vec<f32> = numbers(values.len(), 1).iter().map(|value| value * size).collect();
                let step = Step { number: 1, learning_rate: 0.01, scale: 1.0 };
                optimizer.update(index, &mut values, &gradient, &step);
                assert!(values.iter().all(|value| value.is_finite()), "{choice:?} {size}: {values:?}");
            }
        }
    }
}

#[test]
fn states_are_named_for_their_tensors_and_can_be_restored() {
    let check = |choice, expected: &[&str]| {
        let optimizer = Optimizer::new(&config(choice), &parameters()).expect("no groups");
        let names: Vec<String> = optimizer.state().map(|(name, _)| name).collect();
        for name in expected {
            assert!(names.contains(&(*name).to_owned()), "{name} in {names:?}");
        }
        let mut other = Optimizer::new(&config(choice), &parameters()).expect("no groups");
        assert_eq!(other.state_mut().map(|(name, _)| name).collect::<Vec<_>>(), names);
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    };
    check(Choice::AdamW, &["first.layer.embed", "second.layer.q_proj+k_proj+v_proj"]);
    check(Choice::Adafactor, &["second0.layer.norm", "column2.layer.q_proj+k_proj+v_proj"]);
    check(Choice::Muon, &["momentum.layer.o_proj", "second.layer.norm"]);
}

#[test]
fn groups_give_rates_and_decays_by_name() {
    let group = |modules: &[&str], lr, weight_decay| LearningRateGroup {
        name: "mine".to_owned(),
        modules: modules.iter().map(|&module| module.to_owned()).collect(),
        lr,
        weight_decay,
    };
    let config = |group| Config { lr_groups: vec![group], ..config(Choice::AdamW) };
    let check = |group, expected: [(f64, f64); 4]| {
        let config = config(group);
        for (parameter, expected) in parameters().iter().zip(expected) {
            let group = Group::of(&config, parameter).expect("whole matrices");
            assert_eq!((group.rate, group.weight_decay), expected, "{}", name(parameter));
        }
    };
    check(group(&[], None, None), [(2.0, 0.0), (1.0, 0.0), (1.0, 0.3), (1.0, 0.3)]);
    check(group(&["o_proj"], Some(0.04), None), [(2.0, 0.0), (1.0, 0.0), (1.0, 0.3), (4.0, 0.3)]);
    check(group(&["embed", "norm"], None, Some(0.5)), [(2.0, 0.5), (1.0, 0.5), (1.0, 0.3), (1.0, 0.3)]);
    let error = Optimizer::new(&config(group(&["q_proj"], None, None)), &parameters())
        .expect_err("a third of a matrix")
        .to_string();
    assert!(
        error.contains("`lr_groups.modules` of group `mine` names some of layer.q_proj.weight"),
        "{error}"
    );
}
