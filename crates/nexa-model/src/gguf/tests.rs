//! Whole files: what is written is read back, what is damaged is refused, and a model goes there and back unchanged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nexa_core::lm::{Feed, LanguageModel};
use safetensors::tensor::Dtype;
use serde_json::{Value as Json, json};

use super::blocks::encode;
use super::config::Config;
use super::metadata::{Metadata, Value};
use super::names;
use super::reader::Gguf;
use super::tensor_type::TensorType;
use super::writer::{FileType, Planned, Writer};
use super::{export, import};
use crate::config::tests::small;
use crate::tokenizer::tests::sample;
use crate::weights::{Planned as PlannedTensor, Sink, Source};
use crate::{Checkpoint, DecoderConfig, LocalModel, Weights};

fn every_type() -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    vec![
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-100)),
        ("u16", Value::U16(60_000)),
        ("i16", Value::I16(-30_000)),
        ("u32", Value::U32(4_000_000_000)),
        ("i32", Value::I32(-2_000_000_000)),
        ("f32", Value::F32(1e-5)),
        ("bool", Value::Bool(true)),
        ("string", text("żółć")),
        ("strings", Value::Array(vec![text(""), text("b")])),
        ("lists", Value::Array(vec![Value::Array(vec![Value::U8(1)]), Value::Array(vec![Value::U8(2)])])),
        ("u64", Value::U64(1 << 60)),
        ("i64", Value::I64(-(1 << 60))),
        ("f64", Value::F64(0.1)),
    ]
}

/// A file with every type of metadata and three tensors, and its bytes.
fn container(folder: &Path) -> (PathBuf, Vec<u8>) {
    let path = folder.join("container.gguf");
    let mut metadata = Metadata::new(&path);
    for (key, value) in every_type() {
        metadata.put(key, value);
    }
    let tensor = |name: &str, shape: &[usize], format| Planned {
        name: name.to_owned(),
        shape: shape.to_vec(),
        format,
    };
    let tensors = vec![
        tensor("single", &[3], TensorType::F32),
        tensor("half", &[2, 3], TensorType::F16),
        tensor("blocks", &[1, 32], TensorType::Q8_0),
    ];
    let mut writer = Writer::create(&path, &metadata, tensors).unwrap();
    writer.write(&[1.0, 2.0, 3.0]).unwrap();
    writer.write(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    writer.write(&[127.0; 32]).unwrap();
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn a_container_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = container(folder.path());
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.version(), 3);
    for (key, value) in every_type() {
        assert_eq!(gguf.metadata().get(key), Some(&value), "{key}");
    }
    assert_eq!(gguf.metadata().number("f32").unwrap(), Some(1e-5), "as written, not 9.999999747e-6");
    let check = |name: &str, shape: &[usize], expected: &[f32]| {
        let info = gguf.tensor(name).unwrap();
        assert_eq!(
            (info.shape.as_slice(), gguf.values(info).unwrap().as_slice()),
            (shape, expected),
            "{name}"
        );
    };
    check("single", &[3], &[1.0, 2.0, 3.0]);
    check("half", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check("blocks", &[1, 32], &[127.0; 32]);
}

#[test]
fn no_cut_and_no_wrong_byte_does_more_than_fail() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = container(folder.path());
    let damaged = folder.path().join("damaged.gguf");
    // The last tensor's 34 bytes are followed by padding that no one misses.
    let needed = bytes.len() - (64 - 34);
    for length in 0..needed {
        std::fs::write(&damaged, &bytes[..length]).unwrap();
        assert!(Gguf::open(&damaged).is_err(), "cut at {length}");
    }
    let header = bytes.len() - 32 - 32 - 64;
    for at in 0..header {
        for wrong in [0x00, 0x7f, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            std::fs::write(&damaged, &bytes).unwrap();
            // A byte of a text or number may be any other; what matters is that nothing panics or is believed.
            if let Ok(gguf) = Gguf::open(&damaged) {
                gguf.tensors().iter().for_each(|info| drop(gguf.values(info).unwrap()));
            }
        }
    }
    assert!(Gguf::open(&path).is_ok());
}

#[test]
fn a_hostile_header_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let check = |parts: &[&[u8]], expected: &str| {
        std::fs::write(&path, parts.concat()).unwrap();
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", path.display()));
    };
    let version = 3_u32.to_le_bytes();
    let number = |number: u64| number.to_le_bytes();
    let text = |text: &str| [&number(text.len() as u64)[..], text.as_bytes()].concat();
    let id = |id: u32| id.to_le_bytes();
    check(&[b"GGML"], "byte 0: this is no GGUF file: it does not begin with `GGUF`");
    check(&[b"GGUF", &1_u32.to_le_bytes()], "byte 4: version 1 is not read, only 2 to 3");
    check(&[b"GGUF", &3_u32.to_be_bytes()], "byte 4: the file is big-endian, which is not read");
    let many = "the file ends inside the number of tensors: 18446744073709551615 is stated, 0 bytes are left";
    check(&[b"GGUF", &version, &number(u64::MAX)], &format!("byte 8: {many}"));
    let one_pair = [b"GGUF", &version[..], &number(0), &number(1)].concat();
    let long = [&one_pair, &number(1 << 40)[..], b"key------"].concat();
    check(
        &[&long],
        "byte 24: the file ends inside a metadata key: 1099511627776 is stated, 9 bytes are left",
    );
    let list = [&one_pair, &text("k")[..], &id(9), &id(8), &number(1 << 50)].concat();
    check(
        &[&list],
        "byte 41: the file ends inside the length of a list: 1125899906842624 is stated, 0 bytes are left",
    );
    let odd = [&one_pair, &text("k")[..], &id(99), &[0]].concat();
    check(&[&odd], "byte 37: 99 is no type of a metadata value");
    let nested = (0..6).flat_map(|_| [&id(9)[..], &number(1)].concat()).collect::<Vec<u8>>();
    let deep = [&one_pair, &text("k")[..], &id(9), &nested].concat();
    check(&[&deep], "byte 85: lists stand in lists more than 4 deep");

    let one_tensor = [b"GGUF", &version[..], &number(1), &number(0), &text("t")].concat();
    let tensor = |dimensions: &[u64], type_id: u32, offset: u64| {
        let mut bytes = [&one_tensor[..], &id(dimensions.len() as u32)].concat();
        dimensions.iter().for_each(|&dimension| bytes.extend(number(dimension)));
        bytes.extend(id(type_id));
        bytes.extend(number(offset));
        bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
        bytes
    };
    check(&[&tensor(&[4], 10, 0)], "tensor `t` has type 10, which is not read");
    check(&[&tensor(&[33], 8, 0)], "tensor `t` has 33 columns, no multiple of the 32 of a Q8_0 block");
    check(
        &[&tensor(&[1 << 40, 1 << 40], 0, 0)],
        "tensor `t` has the impossible shape [1099511627776, 1099511627776] at 0",
    );
    check(&[&tensor(&[0, 4], 0, 0)], "tensor `t` has the impossible shape [0, 4] at 0");
    check(
        &[&tensor(&[4], 0, u64::MAX - 31)],
        "tensor `t` has the impossible shape [4] at 18446744073709551584",
    );
    check(&[&tensor(&[4], 0, 3)], "tensor `t` begins at 3, no multiple of the alignment 32");
    check(&[&tensor(&[1024], 0, 0)], "tensor `t` ends at byte 4160, but the file has 128");
    check(&[&tensor(&[], 0, 0)], "byte 33: tensor `t` has 0 dimensions, not 1 to 4");
}

/// Weights that halves hold exactly, so that a file of halves changes nothing.
fn checkpoint(folder: &Path, config: &DecoderConfig) {
    let mut weights = Weights::random(config, 3).unwrap();
    for values in weights.values_mut() {
        let halves = TensorType::F16.decode(&encode::f16(values));
        values.copy_from_slice(&halves);
    }
    std::fs::create_dir_all(folder).unwrap();
    Checkpoint::save(folder, &weights, &sample()).unwrap();
}

fn shape() -> DecoderConfig {
    DecoderConfig {
        hidden_size: 32,
        intermediate_size: 64,
        vocab_size: 296,
        head_dim: 16,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        eos_token_ids: vec![2],
        pad_token_id: Some(0),
        ..small()
    }
}

fn logits(folder: &Path) -> Vec<f32> {
    let mut model = LocalModel::load(folder).unwrap();
    let sequence = model.open(&[]).sequence;
    model.step(&[Feed::new(sequence, &[5, 60, 200, 7])]).unwrap().remove(0)
}

#[test]
fn a_model_that_goes_there_and_back_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for tie_word_embeddings in [true, false] {
        let config = DecoderConfig { tie_word_embeddings, ..shape() };
        let (before, file) = (folder.path().join("before"), folder.path().join("model.gguf"));
        checkpoint(&before, &config);
        let expected = logits(&before);
        for (file_type, tolerance) in [(FileType::F16, 0.0), (FileType::Q8_0, 0.2)] {
            let after = folder.path().join(format!("{file_type:?}"));
            export(&before, "small", &file, file_type).unwrap();
            let imported = import(&file, &after).unwrap();
            assert_eq!((imported.architecture.as_str(), imported.chat_template), ("llama", true));
            let difference =
                expected.iter().zip(logits(&after)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference <= tolerance, "{file_type:?}: {difference}");
            let loaded = Checkpoint::load(&after).unwrap();
            // The file says how the chat template ends an answer, too.
            let loaded = loaded.weights.config().clone();
            let eos_token_ids = config.eos_token_ids.clone();
            let loaded = DecoderConfig { initializer_range: 0.2, eos_token_ids, ..loaded };
            assert_eq!(loaded, config);
        }
    }
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path(), &shape());
    let file = |name: &str| {
        let path = folder.path().join(name);
        export(folder.path(), "small", &path, FileType::Q8_0).unwrap();
        std::fs::read(path).unwrap()
    };
    assert_eq!(file("a.gguf"), file("b.gguf"));
}

#[test]
fn rows_of_queries_and_keys_are_interleaved_for_llama_only() {
    let folder = tempfile::tempdir().unwrap();
    let check = |model_type: &str, expected: &[f32]| {
        let json = json!({
            "model_type": model_type, "hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 1,
        });
        let config = Config { path: folder.path(), json: json.as_object().unwrap() };
        let architecture = config.architecture().unwrap();
        let pairs = names::pairs(architecture, &config.shape(architecture).unwrap());
        let find = |name: &str| pairs.iter().find(|pair| pair.gguf == name).unwrap();
        let rows = vec![0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        let stored = find("blk.0.attn_q.weight").to_gguf(rows.clone());
        assert_eq!(stored, expected, "{model_type}");
        assert_eq!(find("blk.0.attn_q.weight").to_hugging_face(stored), rows, "{model_type}");
        assert_eq!(find("blk.0.attn_v.weight").to_gguf(rows[..4].to_vec()), rows[..4], "{model_type}");
    };
    // The first numbers of the two halves of a head are neighbours, then the second ones, …
    let interleaved = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
    let plain = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
    check("llama", &interleaved);
    check("mistral", &interleaved);
    check("smollm3", &interleaved);
    check("qwen2", &plain);
    check("qwen3", &plain);
}

/// A folder of any architecture with numbered weights, in the given format.
fn folder_of(folder: &Path, extra: &Json, dtype: Dtype) -> BTreeMap<String, Vec<f32>> {
    checkpoint(folder, &shape());
    let path = folder.join("config.json");
    let mut json: Json = nexa_core::files::read_json(&path).unwrap();
    json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    nexa_core::files::write_json(&path, &json).unwrap();
    let config = Config { path: &path, json: json.as_object().unwrap() };
    let architecture = config.architecture().unwrap();
    let pairs = names::pairs(architecture, &config.shape(architecture).unwrap());
    let mut planned: Vec<PlannedTensor> = pairs
        .iter()
        .map(|pair| PlannedTensor { name: pair.hugging_face.clone(), dtype, shape: pair.shape.clone() })
        .collect();
    PlannedTensor::order(&mut planned);
    let mut sink = Sink::create(&folder.join("model.safetensors"), &planned).unwrap();
    let mut written = BTreeMap::new();
    for (number, tensor) in planned.into_iter().enumerate() {
        let count = tensor.shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7 + number) % 256) as f32 / 128.0 - 1.0).collect();
        let bytes = match dtype {
            Dtype::F16 => encode::f16(&values),
            _ => encode::f32(&values),
        };
        sink.write(&bytes).unwrap();
        written.insert(tensor.name, values);
    }
    sink.finish().unwrap();
    written
}

#[test]
fn every_architecture_goes_there_and_back() {
    let check = |extra: Json, tensors_of_a_layer: usize| {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("before"), folder.path().join("after"));
        let file = folder.path().join("model.gguf");
        let written = folder_of(&before, &extra, Dtype::F16);
        assert_eq!(written.len(), 2 + 2 * tensors_of_a_layer, "{extra}");
        export(&before, "any", &file, FileType::F16).unwrap();
        import(&file, &after).unwrap();
        let source = Source::open(&after).unwrap();
        assert_eq!(
            source.tensors().map(|(name, _)| name).collect::<Vec<_>>(),
            written.keys().collect::<Vec<_>>()
        );
        for (name, values) in &written {
            assert_eq!(source.values(name).unwrap(), *values, "{name}");
        }
        let config: Json = nexa_core::files::read_json(&after.join("config.json")).unwrap();
        for (key, value) in extra.as_object().unwrap() {
            assert_eq!(config[key], *value, "{key}");
        }
        assert_eq!(config["torch_dtype"], "float16");
    };
    let class = |model_type: &str, class: &str| json!({ "model_type": model_type, "architectures": [class] });
    let with = |mut json: Json, extra: Json| {
        json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json
    };
    let llama = class("llama", "LlamaForCausalLM");
    check(llama.clone(), 9);
    check(with(llama.clone(), json!({ "attention_bias": true })), 13);
    let linear = json!({ "rope_type": "linear", "factor": 2.0 });
    check(with(llama, json!({ "rope_scaling": linear, "rope_theta": 1e6, "rms_norm_eps": 1e-6 })), 9);
    check(with(class("mistral", "MistralForCausalLM"), json!({ "sliding_window": 16 })), 9);
    check(class("qwen2", "Qwen2ForCausalLM"), 12);
    check(class("qwen3", "Qwen3ForCausalLM"), 11);
    let no_rope = json!({ "num_hidden_layers": 2, "no_rope_layers": [1, 1] });
    check(with(class("smollm3", "SmolLM3ForCausalLM"), no_rope), 9);
}

#[test]
fn what_an_export_cannot_express_is_named() {
    let check = |extra: Json, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        folder_of(folder.path(), &json!({}), Dtype::F32);
        let path = folder.path().join("config.json");
        let mut config: Json = nexa_core::files::read_json(&path).unwrap();
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        nexa_core::files::write_json(&path, &config).unwrap();
        let target = folder.path().join("model.gguf");
        let error = export(folder.path(), "any", &target, FileType::F16).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!target.exists(), "nothing is written");
    };
    check(json!({ "model_type": "gemma3" }), "architecture `gemma3` is not supported");
    check(json!({ "hidden_act": "gelu" }), "`hidden_act` is not `silu`");
    check(json!({ "mlp_bias": true }), "`mlp_bias` is true");
    check(json!({ "hidden_size": 0 }), "`hidden_size` is missing or no positive number");
    check(json!({ "num_hidden_layers": 3 }), "tensor `model.layers.2.input_layernorm.weight` is missing");
    check(json!({ "num_hidden_layers": 1 }), "tensor `model.layers.1.input_layernorm.weight` has no place");
    check(
        json!({ "intermediate_size": 32 }),
        "tensor `model.layers.0.mlp.gate_proj.weight` has shape [64, 32], the config asks for [32, 32]",
    );
    check(
        json!({ "model_type": "smollm3", "no_rope_layers": [1, 0] }),
        "`no_rope_layers` is not every fourth",
    );
}

/// Writes the exported file again with changed metadata and tensors.
fn rewritten(
    folder: &Path,
    key: impl Fn(&str, &Value) -> Option<Value>,
    tensor: impl Fn(&str) -> Option<String>,
) -> PathBuf {
    let (original, target) = (folder.join("original.gguf"), folder.join("rewritten.gguf"));
    checkpoint(folder, &shape());
    export(folder, "small", &original, FileType::F16).unwrap();
    let gguf = Gguf::open(&original).unwrap();
    let mut metadata = Metadata::new(&target);
    for (name, value) in gguf.metadata().iter() {
        if let Some(value) = key(name, value) {
            metadata.put(name, value);
        }
    }
    let kept: Vec<_> = gguf.tensors().iter().filter_map(|info| Some((info, tensor(&info.name)?))).collect();
    let planned = kept
        .iter()
        .map(|(info, name)| Planned { name: name.clone(), shape: info.shape.clone(), format: info.format })
        .collect();
    let mut writer = Writer::create(&target, &metadata, planned).unwrap();
    for (info, _) in kept {
        writer.write(&gguf.values(info).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    target
}

#[test]
fn what_an_import_cannot_honour_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let keep = |name: &str| Some(name.to_owned());
    let fail = |path: &Path| import(path, &folder.path().join("after")).unwrap_err().to_string();
    let check_key = |changed: &str, to: Option<Value>, expected: &str| {
        let key = |name: &str, value: &Value| if name == changed { to.clone() } else { Some(value.clone()) };
        let error = fail(&rewritten(folder.path(), key, keep));
        assert!(error.ends_with(expected), "{error}");
    };
    let text = |text: &str| Some(Value::String(text.to_owned()));
    check_key("general.architecture", text("mamba"), "architecture `mamba` is not supported");
    check_key("general.architecture", None, "`general.architecture` is missing");
    check_key("llama.block_count", None, "`llama.block_count` is missing");
    check_key("llama.block_count", text("two"), "`llama.block_count` is not one unsigned number");
    check_key("llama.rope.dimension_count", Some(Value::U32(8)), "is 8, only 16 as of a head is supported");
    check_key("llama.attention.head_count", Some(Value::U32(0)), "does not divide 0 heads");
    check_key("llama.block_count", Some(Value::U32(3)), "tensor `blk.2.attn_norm.weight` is missing");
    check_key(
        "llama.block_count",
        Some(Value::U32(1)),
        "tensor `blk.1.attn_k.weight` is not one that llama has",
    );
    check_key(
        "llama.feed_forward_length",
        Some(Value::U32(32)),
        "tensor `blk.0.ffn_gate.weight` has shape [64, 32], the metadata asks for [32, 32]",
    );
    let all = |_: &str, value: &Value| Some(value.clone());
    let without = |gone: &'static str| move |name: &str| (name != gone).then(|| name.to_owned());
    let error = fail(&rewritten(folder.path(), all, without("blk.1.ffn_up.weight")));
    assert!(error.ends_with("tensor `blk.1.ffn_up.weight` is missing"), "{error}");
    let error = fail(&rewritten(folder.path(), all, without("token_embd.weight")));
    assert!(error.ends_with("tensor `token_embd.weight` is missing"), "{error}");
    let renamed = |name: &str| Some(name.replace("output_norm.weight", "position_embd.weight"));
    let error = fail(&rewritten(folder.path(), all, renamed));
    assert!(error.ends_with("tensor `output_norm.weight` is missing"), "{error}");
}

#[test]
fn numbers_beyond_a_format_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let check = |format, values: &[f32], expected: &str| {
        let tensor = Planned { name: "t".to_owned(), shape: vec![1, 32], format };
        let mut writer = Writer::create(&path, &Metadata::new(&path), vec![tensor]).unwrap();
        let mut numbers = vec![0.0; 32];
        numbers[..values.len()].copy_from_slice(values);
        let error = writer.write(&numbers).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    };
    check(TensorType::F16, &[1e5], "tensor `t` holds 100000, which F16 cannot express");
    check(TensorType::Q8_0, &[f32::NAN], "tensor `t` holds NaN, which Q8_0 cannot express");
    check(TensorType::F32, &[f32::INFINITY], "tensor `t` holds inf, which F32 cannot express");
}
