//! Comparing rows as a whole: each is there so often, and what there is more of on one side was added or removed.

use std::collections::HashMap;

use nexa_core::table::Row;

use super::digest::{self, Digest};
use super::{Diff, Sides, Table};
use crate::Result;
use crate::tables::Records;

/// Fills in rows and examples. Nothing is changed: a row that differs is another one.
pub(super) fn compare(sides: &Sides, shared: &[String], limit: usize, diff: &mut Diff) -> Result<()> {
    let content = |row: &Row| digest::of_columns(row, shared.iter().map(String::as_str));
    // How often a row is in the newer table beyond the older one.
    let mut surplus: HashMap<Digest, i64> = HashMap::new();
    for row in rows(&sides.before)? {
        *surplus.entry(content(&row?)).or_default() -= 1;
    }
    let before: u64 = surplus.values().map(|count| count.unsigned_abs()).sum();
    for row in rows(&sides.after)? {
        *surplus.entry(content(&row?)).or_default() += 1;
    }
    for count in surplus.values() {
        let total = if *count > 0 { &mut diff.rows.added } else { &mut diff.rows.removed };
        *total += count.unsigned_abs();
    }
    diff.rows.unchanged = before - diff.rows.removed;
    surplus.retain(|_, count| *count != 0);

    for (table, shown, sign) in [(&sides.after, &mut diff.added, 1), (&sides.before, &mut diff.removed, -1)] {
        let mut open = surplus.values().any(|count| count.signum() == sign);
        let mut rows = rows(table)?;
        while open && shown.len() < limit {
            let Some(row) = rows.next() else { break };
            let row = row?;
            if let Some(count) = surplus.get_mut(&content(&row)).filter(|count| count.signum() == sign) {
                *count -= sign;
                shown.push(row);
                open = surplus.values().any(|count| count.signum() == sign);
            }
        }
    }
    Ok(())
}

fn rows(table: &Table) -> Result<impl Iterator<Item = nexa_core::Result<Row>>> {
    Ok(Records::open(&table.path)?.rows())
}
