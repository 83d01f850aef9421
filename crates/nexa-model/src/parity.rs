//! What `transformers` computes for small models of every family, held against both forward passes.
//!
//! `scripts/make_model_fixtures.py` makes the models and the numbers.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use nexa_core::lm::{Error, Feed, LanguageModel};
use serde::Deserialize;

use crate::tokenizer::tests::sample;
use crate::{Batch, Checkpoint, Decoder, DecoderConfig, LocalModel, Weights, weights};

/// Largest difference between two logits, which are up to seven.
const TOLERANCE: f32 = 1e-4;

/// What `transformers` computed for a model.
#[derive(Debug, Deserialize)]
struct Reference {
    token_ids: Vec<u32>,
    /// After which tokens the logits stand.
    positions: Vec<usize>,
    logits: Vec<Vec<f32>>,
    /// What follows the tokens when the likeliest one is always taken.
    greedy: Vec<u32>,
}

/// A model with its reference.
struct Family {
    name: String,
    weights: Weights,
    reference: Reference,
}

fn families() -> Vec<Family> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-data/families");
    let mut folders: Vec<PathBuf> =
        folder.read_dir().expect("the fixtures").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 13, "every family has its fixtures");
    let load = |folder: PathBuf| {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let config = DecoderConfig::load(&folder.join("config.json")).expect(&name);
        let source = weights::open(&folder, &config).expect(&name);
        let weights = weights::load(&source, &config).expect(&name);
        let text = std::fs::read_to_string(folder.join("reference.json")).expect(&name);
        Family { reference: serde_json::from_str(&text).expect(&name), weights, name }
    };
    folders.into_iter().map(load).collect()
}

fn assert_close(found: &[f32], expected: &[f32], place: &str) {
    assert_eq!(found.len(), expected.len(), "{place}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < TOLERANCE, "{place}: {found}, not {expected}");
    }
}

#[test]
fn the_decoder_that_is_trained_has_the_logits_of_transformers() {
    for Family { name, weights, reference } in families() {
        let vocab = weights.config().vocab_size;
        let trained = vec![true; reference.token_ids.len()];
        let batch = Batch::new([(reference.token_ids.as_slice(), trained.as_slice())]);
        let logits = Decoder::new(&weights, &Device::flex()).logits(&batch).into_data();
        let logits: Vec<f32> = logits.iter::<f32>().collect();
        let rows: Vec<&[f32]> = logits.chunks_exact(vocab).collect();
        for (&position, expected) in reference.positions.iter().zip(&reference.logits) {
            // Nothing follows the last token, so a decoder in training does not compute its logits.
            if let Some(found) = rows.get(position) {
                assert_close(found, expected, &format!("{name}, position {position}"));
            }
        }
    }
}

#[test]
fn the_local_model_has_the_logits_and_the_greedy_text_of_transformers() {
    for Family { name, weights, reference } in families() {
        let mut model = LocalModel::new(Checkpoint {
            weights,
            tokenizer: sample(),
            weights_hash: "blake3:0".to_owned(),
            folder: name.clone().into(),
        })
        .expect(&name);
        let sequence = model.open(&[]).sequence;
        let feed = Feed::new(sequence, &reference.token_ids);
        if model.info().context_length < reference.token_ids.len() {
            // Beyond what it was trained on, a dynamic rotation depends on how tokens are cut; it is not served there.
            assert_eq!(name, "llama-dynamic");
            assert!(matches!(model.step(&[feed]), Err(Error::TooLong { context_length: 24, .. })));
            continue;
        }
        let mut logits = model.step(&[feed]).expect(&name).remove(0);
        assert_eq!(reference.positions.last(), Some(&(reference.token_ids.len() - 1)));
        assert_close(&logits, reference.logits.last().expect("one"), &name);
        let mut greedy = Vec::new();
        while greedy.len() < reference.greedy.len() {
            let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("one");
            greedy.push(likeliest as u32);
            let feed = [likeliest as u32];
            logits = model.step(&[Feed::new(sequence, &feed)]).expect(&name).remove(0);
        }
        assert_eq!(greedy, reference.greedy, "{name}");
    }
}

#[test]
fn a_config_is_written_as_it_was_read() {
    for Family { name, weights, .. } in families() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.json");
        std::fs::write(&path, weights.config().to_json()).expect("writes");
        assert_eq!(DecoderConfig::load(&path).expect(&name), *weights.config(), "{name}");
    }
}
