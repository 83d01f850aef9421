//! Tables for people: aligned columns, no lines; and the form of the numbers in them.

use comfy_table::{CellAlignment, Table, presets};
pub(crate) use nexa_core::format::{count, duration, size};

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
                    && digits
                        .chars()
                        .all(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | ' ' | 'm' | 'h' | 'd'));
                cell.is_empty() || is_number
            });
        if is_numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_columns_stand_to_the_right() {
        let drawn =
            table(&["name", "rows"], &[vec!["a".into(), "5".into()], vec!["bb".into(), "1,200".into()]]);
        assert_eq!(drawn, "name   rows\na         5\nbb    1,200");
    }
}
