//! Tables for people: aligned columns, no lines.

use comfy_table::{CellAlignment, Table, presets};

/// Draws rows under a head. Columns whose cells all look like numbers are aligned to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for (position, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        let is_numeric = !rows.is_empty()
            && rows.iter().filter_map(|row| row.get(position)).all(|cell| {
                let digits =
                    cell.trim_start_matches(['-', '+', '$']).trim_end_matches(|c: char| !c.is_ascii_digit());
                let is_number = !digits.is_empty()
                    && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | ' ' | 'm' | 'h'));
                cell.is_empty() || is_number
            });
        if is_numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A count with thousands separators: `12,480`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration as people read it: `8.2s`, `3m 20s`, `1h 02m`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1}s");
    }
    // Whole seconds, far below 2^63.
    #[expect(clippy::cast_possible_truncation, reason = "a run lasts less than 2^63 seconds")]
    let whole = seconds.round() as i64;
    if whole < 3600 {
        format!("{}m {:02}s", whole / 60, whole % 60)
    } else {
        format!("{}h {:02}m", whole / 3600, whole % 3600 / 60)
    }
}

/// A size as people read it: `1.4 MB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([duration(8.24), duration(200.0), duration(3720.0)], ["8.2s", "3m 20s", "1h 02m"]);
        assert_eq!([size(12), size(1_440_000)], ["12 B", "1.4 MB"]);
    }

    #[test]
    fn numeric_columns_stand_to_the_right() {
        let drawn =
            table(&["name", "rows"], &[vec!["a".into(), "5".into()], vec!["bb".into(), "1,200".into()]]);
        assert_eq!(drawn, "name   rows\na         5\nbb    1,200");
    }
}
