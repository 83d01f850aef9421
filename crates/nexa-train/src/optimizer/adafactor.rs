//! Adafactor: the second moment of a matrix from its row and column means.

use nexa_model::{Kind, Parameter};
use rayon::prelude::*;

use super::{CHUNK, Rule, Step};

/// Added to squared gradients, so that the means of a tensor that has no gradient can be divided by. The paper's
/// value.
const EPSILON: f64 = 1e-30;
/// Root mean square above which an update is scaled down. The paper's value.
const CLIPPING: f64 = 1.0;
/// How fast the decay of the means approaches 1: `1 - step^-0.8`. The paper's value.
const DECAY_EXPONENT: f64 = -0.8;
/// Tasks that a matrix is cut into at most: each holds a sum for every column.
const MOST_TASKS: usize = 64;

/// Adam's scaling with row and column means in place of a full second moment, and without a first one.
///
/// # Source
/// Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018, algorithms 4 and 5.
///
/// # Departures
/// The learning rate is that of the schedule, neither relative to the step nor to the size of the parameter: what
/// `transformers` calls `relative_step=False, scale_parameter=False`.
#[derive(Debug)]
pub(super) struct Adafactor {
    columns: usize,
    parts: Vec<Part>,
}

/// The running means of one tensor.
#[derive(Debug)]
enum Part {
    Matrix {
        /// Mean square of every row.
        row: Vec<f32>,
        /// Mean square of every column.
        column: Vec<f32>,
    },
    Vector {
        /// Square of every number.
        second: Vec<f32>,
    },
}

impl Adafactor {
    pub(super) fn new(parameter: &Parameter) -> Self {
        let columns = parameter.shape[1];
        let part = |&(_, rows): &(String, usize)| match parameter.kind {
            Kind::Norm => Part::Vector { second: vec![0.0; rows * columns] },
            _ => Part::Matrix { row: vec![0.0; rows], column: vec![0.0; columns] },
        };
        Self { columns, parts: parameter.parts.iter().map(part).collect() }
    }
}

impl Rule for Adafactor {
    fn update(&mut self, values: &mut [f32], gradient: &[f32], keep: f32, step: &Step) {
        let decay = 1.0 - (step.number as f64).powf(DECAY_EXPONENT);
        let (mut values, mut gradient) = (values, gradient);
        for part in &mut self.parts {
            let numbers = match part {
                Part::Matrix { row, .. } => row.len() * self.columns,
                Part::Vector { second } => second.len(),
            };
            let (own_values, rest_values) = values.split_at_mut(numbers);
            let (own_gradient, rest_gradient) = gradient.split_at(numbers);
            (values, gradient) = (rest_values, rest_gradient);
            match part {
                Part::Matrix { row, column } => {
                    mean_squares(own_gradient, row, column, decay, step.scale);
                    // The estimate of a second moment is row * column / mean(row).
                    let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / row.len() as f64;
                    let root = |value: &f32, unit: f64| (unit / f64::from(*value)).sqrt() as f32;
                    let by_row: Vec<f32> = row.iter().map(|value| root(value, mean)).collect();
                    let by_column: Vec<f32> = column.iter().map(|value| root(value, 1.0)).collect();
                    let factors = Factors { by_row: &by_row, by_column: &by_column };
                    apply(own_values, own_gradient, keep, step, &factors);
                }
                Part::Vector { second } => {
                    for (second, gradient) in second.iter_mut().zip(own_gradient) {
                        let square = (f64::from(*gradient) * step.scale).powi(2) + EPSILON;
                        *second = (decay * f64::from(*second) + (1.0 - decay) * square) as f32;
                    }
                    let by_column: Vec<f32> = second.iter().map(|value| value.sqrt().recip()).collect();
                    let factors = Factors { by_row: &[1.0], by_column: &by_column };
                    apply(own_values, own_gradient, keep, step, &factors);
                }
            }
        }
    }

    fn state(&self) -> Vec<(String, &[f32])> {
        let mut tensors = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Matrix { row, column } => {
                    tensors.push((format!("row{index}"), row.as_slice()));
                    tensors.push((format!("column{index}"), column.as_slice()));
                }
                Part::Vector { second } => tensors.push((format!("second{index}"), second.as_slice())),
            }
        }
        tensors
    }

    fn state_mut(&mut self) -> Vec<(String, &mut [f32])> {
        let mut tensors = Vec::new();
        for (index, part) in self.parts.iter_mut().enumerate() {
            match part {
                Part::Matrix { row, column } => {
                    tensors.push((format!("row{index}"), row.as_mut_slice()));
                    tensors.push((format!("column{index}"), column.as_mut_slice()));
                }
                Part::Vector { second } => tensors.push((format!("second{index}"), second.as_mut_slice())),
            }
        }
        tensors
    }
}

/// What the numbers of a matrix are multiplied by: a factor of their row and one of their column.
struct Factors<'a> {
    by_row: &'a [f32],
    by_column: &'a [f32],
}

/// Rows of one task, whose number depends on the shape alone.
fn rows_per_task(rows: usize, columns: usize) -> usize {
    (CHUNK / columns).max(rows.div_ceil(MOST_TASKS)).max(1)
}

/// Moves the running means towards the mean squares of a gradient's rows and columns.
fn mean_squares(gradient: &[f32], row: &mut [f32], column: &mut [f32], decay: f64, scale: f64) {
    let (rows, columns) = (row.len(), column.len());
    let sums: Vec<(Vec<f64>, Vec<f64>)> = gradient
        .par_chunks(rows_per_task(rows, columns) * columns)
        .map(|chunk| {
            let mut by_column = vec![0.0; columns];
            let by_row = chunk.chunks_exact(columns).map(|row| {
                let mut sum = 0.0;
                for (by_column, value) in by_column.iter_mut().zip(row) {
                    let square = (f64::from(*value) * scale).powi(2);
                    *by_column += square;
                    sum += square;
                }
                sum
            });
            (by_row.collect(), by_column)
        })
        .collect();
    let mut by_column = vec![0.0; columns];
    for (_, partial) in &sums {
        for (sum, partial) in by_column.iter_mut().zip(partial) {
            *sum += partial;
        }
    }
    let blend = |mean: &mut f32, sum: f64, count: usize| {
        let square = sum / count as f64 + EPSILON;
        *mean = (decay * f64::from(*mean) + (1.0 - decay) * square) as f32;
    };
    for (mean, sum) in row.iter_mut().zip(sums.iter().flat_map(|(by_row, _)| by_row)) {
        blend(mean, *sum, columns);
    }
    for (mean, sum) in column.iter_mut().zip(by_column) {
        blend(mean, sum, rows);
    }
}

/// Moves a tensor by its scaled gradient, whose root mean square is limited.
fn apply(values: &mut [f32], gradient: &[f32], keep: f32, step: &Step, factors: &Factors<'_>) {
    let (rows, columns) = (factors.by_row.len(), factors.by_column.len());
    let per_task = rows_per_task(rows, columns);
    let scale = step.scale as f32;
    let squares: Vec<f64> = gradient
        .par_chunks(per_task * columns)
        .zip(factors.by_row.par_chunks(per_task))
        .map(|(gradient, by_row)| {
            let mut sum = 0.0;
            for (row, by_row) in gradient.chunks_exact(columns).zip(by_row) {
                for (gradient, by_column) in row.iter().zip(factors.by_column) {
                    sum += f64::from(gradient * scale * by_row * by_column).powi(2);
                }
            }
            sum
        })
        .collect();
    let root_mean_square = (squares.iter().sum::<f64>() / gradient.len() as f64).sqrt();
    let size = (step.learning_rate / (root_mean_square / CLIPPING).max(1.0)) as f32;
    values
        .par_chunks_mut(per_task * columns)
        .zip(gradient.par_chunks(per_task * columns))
        .zip(factors.by_row.par_chunks(per_task))
        .for_each(|((values, gradient), by_row)| {
            let rows = values.chunks_exact_mut(columns).zip(gradient.chunks_exact(columns));
            for ((values, gradient), by_row) in rows.zip(by_row) {
                for ((value, gradient), by_column) in values.iter_mut().zip(gradient).zip(factors.by_column) {
                    *value = keep * *value - size * (gradient * scale * by_row * by_column);
                }
            }
        });
}
