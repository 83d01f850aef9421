//! Runs an optimizer on given gradients, for `scripts/check_optimizers.py` to hold it against PyTorch.
//!
//! `cargo run --release -p nexa-train --example optimizer_steps < JSON`: the values after every step go to stdout.

use nexa_model::{Kind, Parameter};
use nexa_train::Config;
use nexa_train::optimizer::{Optimizer, Step};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    config: Config,
    /// Rows and columns of one matrix inside a block.
    shape: [usize; 2],
    values: Vec<f32>,
    /// One gradient for each step.
    gradients: Vec<Vec<f32>>,
}

#[expect(clippy::print_stdout, reason = "an example speaks to the program that runs it")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut task: Task = serde_json::from_reader(std::io::stdin())?;
    let parameter = Parameter {
        kind: Kind::Projection,
        shape: task.shape,
        parts: vec![("matrix.weight".to_owned(), task.shape[0])],
    };
    let rate = task.config.learning_rate.ok_or("the configuration gives no `learning_rate`")?;
    let mut optimizer = Optimizer::new(&task.config, &[parameter])?;
    let mut steps = Vec::new();
    for (number, gradient) in (1..).zip(&task.gradients) {
        let step = Step { number, learning_rate: rate, scale: 1.0 };
        optimizer.update(0, &mut task.values, gradient, &step);
        steps.push(task.values.clone());
    }
    println!("{}", serde_json::to_string(&steps)?);
    Ok(())
}
