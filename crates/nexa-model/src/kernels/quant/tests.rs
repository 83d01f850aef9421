//! Every format against its decoded numbers, with and without vector instructions, alone and among neighbours.

use super::panels::{Panels, ROWS, Scratch};
use super::tile::{MOST_ROWS, Tile, TileRows, Way};
use super::{Activations, QuantLinear};
use crate::gguf::TensorType;

const FORMATS: [TensorType; 8] = [
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];
const INPUTS: usize = 512;
/// Not a whole number of panels.
const OUTPUTS: usize = 21;

/// Blocks of any bits, with scales of a size that occurs.
fn bytes(format: TensorType) -> Vec<u8> {
    let blocks = OUTPUTS * INPUTS / format.block_len();
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes: Vec<u8> = (0..blocks * format.block_bytes())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    let halves: &[usize] = match format {
        TensorType::Q6K => &[208],
        TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => &[0],
        _ => &[0, 2],
    };
    for (index, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
        for (which, &at) in halves.iter().enumerate() {
            let value =
                half::f16::from_f32(0.002 * (1 + index % 7) as f32 * if which == 0 { 1.0 } else { -0.7 });
            block[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

fn rows(count: usize) -> Vec<f32> {
    (0..count * INPUTS).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i % 11) as f32)).collect()
}

fn product(linear: &QuantLinear, rows: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; rows.len() / INPUTS * OUTPUTS];
    linear.forward(&Activations::new(rows, INPUTS), &mut output, OUTPUTS, 0);
    output
}

#[test]
fn rows_are_widened_to_what_the_file_says() {
    for format in FORMATS {
        let bytes = bytes(format);
        let linear = QuantLinear::new(format, &bytes, INPUTS);
        let expected = format.decode(&bytes);
        for (row, expected) in expected.chunks_exact(INPUTS).enumerate() {
            for (value, expected) in linear.row(row).iter().zip(expected) {
                assert!(
                    (value - expected).abs() <= expected.abs() * 1e-6,
                    "{format:?}: {value} and {expected}"
                );
            }
        }
    }
}

#[test]
fn products_are_off_by_the_rounding_of_activations_alone() {
    for format in FORMATS {
        let bytes = bytes(format);
        let weight = format.decode(&bytes);
        let rows = rows(3);
        let result = product(&QuantLinear::new(format, &bytes, INPUTS), &rows);
        for (row, result) in rows.chunks_exact(INPUTS).zip(result.chunks_exact(OUTPUTS)) {
            for (weight, result) in weight.chunks_exact(INPUTS).zip(result) {
                let exact: f64 = row.iter().zip(weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                // Each activation is off by at most half a step of its block, `largest / 254`.
                let bound: f64 = row
                    .chunks_exact(32)
                    .zip(weight.chunks_exact(32))
                    .map(|(row, weight)| {
                        let largest = row.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                        f64::from(largest) / 253.0 * weight.iter().map(|w| f64::from(w.abs())).sum::<f64>()
                    })
                    .sum();
                assert!((f64::from(*result) - exact).abs() <= bound, "{format:?}: {result} and {exact}");
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for format in FORMATS {
        let linear = QuantLinear::new(format, &bytes(format), INPUTS);
        // Across the edges of tiles, of tasks, and of the two ways to share the work.
        for count in [1, 2, 3, 4, 5, 47, 48, 49, 130] {
            let rows = rows(count);
            let together = product(&linear, &rows);
            for (row, together) in rows.chunks_exact(INPUTS).zip(together.chunks_exact(OUTPUTS)) {
                assert_eq!(product(&linear, row), together, "{format:?} of {count}");
            }
        }
    }
}

#[test]
fn vector_instructions_change_no_bit() {
    for format in FORMATS {
        let panels = Panels::new(format, &bytes(format), INPUTS);
        let activations = Activations::new(&rows(MOST_ROWS), INPUTS);
        for panel in 0..panels.len() {
            for count in 1..=MOST_ROWS {
                let mut scratch = Scratch::default();
                let panel = panels.panel(panel, &mut scratch);
                let rows = TileRows::new(&activations, 0, count);
                let mut expected = [[0.0; ROWS]; MOST_ROWS];
                Tile::by(panel, Way::Plain).multiply(rows, &mut expected[..count]);
                for way in Way::all() {
                    let mut found = [[0.0; ROWS]; MOST_ROWS];
                    Tile::by(panel, way).multiply(rows, &mut found[..count]);
                    assert_eq!(found, expected, "{format:?} {way:?}");
                }
            }
        }
    }
}

#[test]
fn columns_of_a_wider_result_are_left_alone() {
    let linear = QuantLinear::new(TensorType::Q8_0, &bytes(TensorType::Q8_0), INPUTS);
    for count in [2, 60] {
        let rows = rows(count);
        let mut wide = vec![7.0; count * (OUTPUTS + 5)];
        linear.forward(&Activations::new(&rows, INPUTS), &mut wide, OUTPUTS + 5, 3);
        for (wide, alone) in wide.chunks_exact(OUTPUTS + 5).zip(product(&linear, &rows).chunks_exact(OUTPUTS))
        {
            assert_eq!(&wide[3..3 + OUTPUTS], alone);
            assert!(wide[..3].iter().chain(&wide[3 + OUTPUTS..]).all(|&value| value == 7.0));
        }
    }
}

#[test]
fn zeros_stay_zero() {
    let linear = QuantLinear::new(TensorType::Q4_0, &bytes(TensorType::Q4_0), INPUTS);
    assert!(product(&linear, &vec![0.0; INPUTS]).iter().all(|&value| value == 0.0));
}
