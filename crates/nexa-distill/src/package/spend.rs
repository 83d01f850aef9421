//! What everything that a package was made of has cost, by stage and by who was paid.

use nexa_core::artifact::Manifest;
use nexa_core::cost::{Entry, Ledger, Spend};
use nexa_core::lab::Lab;
use nexa_core::run;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The name in a package's summary under which [`SpendLine`]s stand.
pub const SPEND_LINES: &str = "upstream_spend_lines";

/// What one stage paid to one model, or for the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpendLine {
    /// The stage.
    pub stage: String,
    /// What it made.
    pub artifact: String,
    /// The model that was paid; none where it is the machine, or where the run's ledger is gone and only the sum is known.
    pub model: Option<String>,
    /// What it came to.
    pub spend: Spend,
}

/// US dollars for each of some rows, where all of a spending is known and there are any.
pub fn usd_per_row(spend: &Spend, rows: u64) -> Option<f64> {
    (spend.unknown.is_empty() && rows > 0).then(|| spend.usd / rows as f64)
}

/// The spending of some artifacts, in their order; for each, the machine first, and then the models by name.
pub(super) fn lines(lab: &Lab, upstream: &[Manifest]) -> Result<Vec<SpendLine>> {
    let mut lines = Vec::new();
    for manifest in upstream {
        lines.extend(of_artifact(lab, manifest)?);
    }
    Ok(lines)
}

fn of_artifact(lab: &Lab, manifest: &Manifest) -> Result<Vec<SpendLine>> {
    let line = |model: Option<&str>, spend| SpendLine {
        stage: manifest.producer.stage.clone(),
        artifact: manifest.id.to_string(),
        model: model.map(str::to_owned),
        spend,
    };
    let charges = Ledger::charges(&run::folder(lab, &manifest.producer.run))?;
    if charges.is_empty() {
        let is_nothing = manifest.spend == Spend::default();
        return Ok(if is_nothing { Vec::new() } else { vec![line(None, manifest.spend.clone())] });
    }
    let mut lines: Vec<SpendLine> = Vec::new();
    for charge in &charges {
        let model = match &charge.entry {
            Entry::Tokens { model, .. } => Some(model.as_str()),
            Entry::Machine { .. } => None,
        };
        match lines.iter_mut().find(|line| line.model.as_deref() == model) {
            Some(line) => line.spend.add(&charge.entry),
            None => {
                let mut spend = Spend::default();
                spend.add(&charge.entry);
                lines.push(line(model, spend));
            }
        }
    }
    lines.sort_by(|one, other| one.model.cmp(&other.model));
    Ok(lines)
}
