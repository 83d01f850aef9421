//! Decoding and encoding against vectors that another implementation made: `scripts/check_gguf.py vectors`.

use serde::Deserialize;

use super::encode;
use crate::gguf::TensorType;

#[derive(Deserialize)]
struct Vectors {
    decode: Vec<Vector>,
    encode: Vec<Vector>,
}

/// The bytes of some blocks and the numbers in them, in hexadecimal, the numbers in single precision.
#[derive(Deserialize)]
struct Vector {
    r#type: String,
    bytes: String,
    values: String,
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        hexadecimal(&self.bytes)
    }

    fn values(&self) -> Vec<f32> {
        let bytes = hexadecimal(&self.values);
        bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }
}

fn hexadecimal(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_format_is_decoded_as_the_reference_does() {
    let vectors = vectors().decode;
    for format in TensorType::ALL.into_iter().filter(|&format| format != TensorType::F32) {
        let found = vectors.iter().find(|vector| vector.r#type == format.name());
        let vector = found.unwrap_or_else(|| panic!("{} has no vector", format.name()));
        let (decoded, expected) = (format.decode(&vector.bytes()), vector.values());
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        // Products of three factors may be taken in another order.
        let difference = largest_difference(&decoded, &expected);
        assert!(difference <= largest * 1e-6, "{}: {difference} of {largest}", format.name());
    }
    assert_eq!(TensorType::F32.decode(&(-1.5_f32).to_le_bytes()), [-1.5]);
}

#[test]
fn what_is_encoded_has_the_bytes_of_the_reference() {
    for vector in vectors().encode {
        let encoded = match vector.r#type.as_str() {
            "F16" => encode::f16(&vector.values()),
            "Q8_0" => encode::q8_0(&vector.values()),
            other => panic!("{other} is not encoded"),
        };
        assert_eq!(encoded, vector.bytes(), "{}", vector.r#type);
    }
}

#[test]
fn what_is_encoded_is_off_by_the_rounding_of_its_format() {
    let values: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.7).sin() * (i as f32 / 300.0)).collect();
    let decoded = TensorType::Q8_0.decode(&encode::q8_0(&values));
    for (block, decoded) in values.chunks(32).zip(decoded.chunks(32)) {
        let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        // Half a step, and 127 steps times the rounding of the step to the 11 bits of a half.
        let bound = largest / 254.0 + largest / 2048.0;
        assert!(largest_difference(block, decoded) <= bound, "{largest}");
    }
    let decoded = TensorType::F16.decode(&encode::f16(&values));
    for (value, decoded) in values.iter().zip(decoded) {
        assert!((value - decoded).abs() <= value.abs() / 2048.0 + 6e-8, "{value} {decoded}");
    }
    assert_eq!(TensorType::Q8_0.decode(&encode::q8_0(&[0.0; 32])), [0.0; 32]);
}
