//! Scaling of the rotary frequencies: keys and a tensor in GGUF, one object in `config.json`.
//!
//! Llama 3's rule has no keys in GGUF: its result is stored, as one factor for every frequency, in the tensor
//! `rope_freqs.weight`. The rule depends on the wavelengths relative to the original context alone, so its numbers can
//! be found again from the factors up to a common scale, which is fixed by `low_freq_factor = 1`, its usual value.

use serde_json::{Value as Json, json};

use super::error::Error;
use super::metadata::{Metadata, Value};
use super::names::ROPE_FREQS;

/// How far a factor that was computed again may be from the stored one, relative to it.
const FACTOR_TOLERANCE: f64 = 1e-3;

/// Reads the scaling from the keys, and the factors where the file has them.
pub(super) fn from_metadata(
    metadata: &Metadata,
    prefix: &str,
    theta: f64,
    factors: Option<&[f32]>,
) -> Result<Json, Error> {
    let key = |name: &str| format!("{prefix}.rope.scaling.{name}");
    if let Some(factors) = factors {
        let original = metadata.size(&key("original_context_length"))?;
        return llama3_from_factors(factors, theta, original).ok_or_else(|| {
            Error::tensor(metadata.path(), ROPE_FREQS, "does not follow the rule of Llama 3")
        });
    }
    let old_linear = metadata.number(&format!("{prefix}.rope.scale_linear"))?;
    let kind = metadata.string(&key("type"))?.unwrap_or(if old_linear.is_some() { "linear" } else { "none" });
    let factor = metadata.number(&key("factor"))?.or(old_linear);
    let require = |factor| metadata.require(&key("factor"), factor);
    for neutral in ["yarn_ext_factor", "yarn_log_multiplier"] {
        // Neither has a counterpart in `config.json`; the values that change nothing are those left out.
        let unset = if neutral == "yarn_ext_factor" { [1.0, -1.0] } else { [0.0, 0.0] };
        if let Some(value) = metadata.number(&key(neutral))?.filter(|value| !unset.contains(value)) {
            return Err(metadata.fail(&key(neutral), format!("is {value}, which is not supported")));
        }
    }
    match kind {
        "none" => Ok(Json::Null),
        "linear" => Ok(json!({ "rope_type": "linear", "factor": require(factor)? })),
        "yarn" => {
            let factor = require(factor)?;
            let mut scaling = json!({ "rope_type": "yarn", "factor": factor });
            if let Some(original) = metadata.size(&key("original_context_length"))? {
                scaling["original_max_position_embeddings"] = original.into();
            }
            for (theirs, ours) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                if let Some(value) = metadata.number(&key(theirs))? {
                    scaling[ours] = value.into();
                }
            }
            let attention = match metadata.number(&key("yarn_attn_factor"))? {
                Some(value) => Some(value),
                None => metadata.number(&key("attn_factor"))?,
            };
            if let Some(relative) = attention.filter(|&relative| relative != 1.0) {
                scaling["attention_factor"] = (relative * yarn_attention(factor)).into();
            }
            Ok(scaling)
        }
        other => Err(metadata.fail(&key("type"), format!("is `{other}`, which is not supported"))),
    }
}

/// How `config.json` tells positions apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rope<'a> {
    /// The block of the scaling; null where there is none.
    pub(super) scaling: &'a Json,
    pub(super) theta: f64,
    pub(super) head_dim: usize,
}

/// What a scaling of `config.json` becomes: keys, and the factors of `rope_freqs.weight`. `config` is for messages.
///
/// # Errors
/// Names the key that GGUF cannot express.
pub(super) fn to_metadata(
    metadata: &mut Metadata,
    prefix: &str,
    Rope { scaling, theta, head_dim }: Rope<'_>,
    config: &std::path::Path,
) -> Result<Option<Vec<f32>>, Error> {
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Json::as_str);
    let number = |name: &str| scaling.get(name).and_then(Json::as_f64);
    let require = |name: &str| {
        number(name).ok_or_else(|| Error::key(config, format!("rope_scaling.{name}"), "is missing"))
    };
    let float = |value: f64| Value::F32(value as f32);
    let key = |name: &str| format!("{prefix}.rope.scaling.{name}");
    match kind {
        None | Some("default") if number("factor").is_none() => Ok(None),
        Some("linear") => {
            metadata.put(key("type"), Value::String("linear".to_owned()));
            metadata.put(key("factor"), float(require("factor")?));
            Ok(None)
        }
        Some("yarn") => {
            let factor = require("factor")?;
            metadata.put(key("type"), Value::String("yarn".to_owned()));
            metadata.put(key("factor"), float(factor));
            let original = require("original_max_position_embeddings")?;
            metadata.put(key("original_context_length"), Value::U32(original as u32));
            for (ours, theirs) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(value) = number(ours) {
                    metadata.put(key(theirs), float(value));
                }
            }
            if let Some(attention) = number("attention_factor") {
                metadata.put(key("yarn_attn_factor"), float(attention / yarn_attention(factor)));
            }
            Ok(None)
        }
        Some("llama3") => {
            let rule = Llama3 {
                factor: require("factor")?,
                low: require("low_freq_factor")?,
                high: require("high_freq_factor")?,
                original: require("original_max_position_embeddings")?,
            };
            let factors = frequencies(theta, head_dim).map(|frequency| rule.divisor(frequency) as f32);
            Ok(Some(factors.collect()))
        }
        other => {
            let other = other.unwrap_or("of no type");
            Err(Error::key(config, "rope_scaling", format!("is {other}, which a GGUF file cannot express")))
        }
    }
}

/// The factor on attention that YaRN implies, by which GGUF's is relative and `config.json`'s is not.
///
/// # Source
/// Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023, section 3.4.
fn yarn_attention(factor: f64) -> f64 {
    0.1 * factor.ln() + 1.0
}

/// The rotary frequencies before scaling.
fn frequencies(theta: f64, head_dim: usize) -> impl Iterator<Item = f64> {
    (0..head_dim / 2).map(move |i| theta.powf(-2.0 * i as f64 / head_dim as f64))
}

/// The rule of Llama 3: high frequencies stay, low ones are divided, and between them it goes smoothly.
#[derive(Debug)]
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    original: f64,
}

impl Llama3 {
    /// What a frequency is divided by.
    fn divisor(&self, frequency: f64) -> f64 {
        // Turns within the original context.
        let turns = self.original * frequency / std::f64::consts::TAU;
        if turns < self.low {
            return self.factor;
        }
        if turns > self.high {
            return 1.0;
        }
        let smooth = (turns - self.low) / (self.high - self.low);
        1.0 / ((1.0 - smooth) / self.factor + smooth)
    }
}

/// Finds the numbers of the rule that gives these factors.
fn llama3_from_factors(factors: &[f32], theta: f64, original: Option<usize>) -> Option<Json> {
    let head_dim = factors.len() * 2;
    let largest = f64::from(factors.iter().copied().fold(1.0, f32::max));
    // Between the two ends, the share of the unscaled frequency grows linearly with the frequency itself.
    let between: Vec<(f64, f64)> = frequencies(theta, head_dim)
        .zip(factors)
        .map(|(frequency, &factor)| (frequency, f64::from(factor)))
        .filter(|&(_, factor)| factor > 1.0 + FACTOR_TOLERANCE && factor < largest * (1.0 - FACTOR_TOLERANCE))
        .map(|(frequency, factor)| (frequency, (1.0 / factor - 1.0 / largest) / (1.0 - 1.0 / largest)))
        .collect();
    let low = 1.0;
    let (&(fast, most), &(slow, least)) = (between.first()?, between.last()?);
    let slope = (most - least) / (fast - slow);
    // smooth = (turns - low) / (high - low) vanishes where turns = low.
    let vanishes = fast - most / slope;
    let context = (std::f64::consts::TAU * low / vanishes).round();
    let high = low + context / std::f64::consts::TAU / slope;
    let high = (high * 1000.0).round() / 1000.0;
    let mut rule = Llama3 { factor: largest, low, high, original: context };
    let fits = |rule: &Llama3| {
        frequencies(theta, head_dim).zip(factors).all(|(frequency, &factor)| {
            (rule.divisor(frequency) / f64::from(factor) - 1.0).abs() < FACTOR_TOLERANCE
        })
    };
    if !fits(&rule) {
        return None;
    }
    // Where the file tells the original context, the common scale is known too.
    if let Some(stated) = original {
        let scale = stated as f64 / rule.original;
        rule = Llama3 { low: rule.low * scale, high: rule.high * scale, original: stated as f64, ..rule };
    }
    Some(json!({
        "rope_type": "llama3",
        "factor": rule.factor,
        "low_freq_factor": rule.low,
        "high_freq_factor": rule.high,
        "original_max_position_embeddings": rule.original as u64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn round_trip(scaling: Json, theta: f64, head_dim: usize) -> (Json, Option<Vec<f32>>) {
        let path = Path::new("model");
        let mut metadata = Metadata::new(path);
        let factors =
            to_metadata(&mut metadata, "llama", Rope { scaling: &scaling, theta, head_dim }, path).unwrap();
        (from_metadata(&metadata, "llama", theta, factors.as_deref()).unwrap(), factors)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let check = |scaling: Json, theta, head_dim| {
            assert_eq!(round_trip(scaling.clone(), theta, head_dim).0, scaling);
        };
        check(Json::Null, 10_000.0, 64);
        check(json!({ "rope_type": "linear", "factor": 4.0 }), 10_000.0, 64);
        let yarn = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768 });
        check(yarn, 1e6, 128);
        for (factor, head_dim) in [(8.0, 128), (32.0, 64)] {
            let llama3 = json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            });
            check(llama3, 500_000.0, head_dim);
        }
    }

    /// The rule as the report on Llama 3.1 gives it, in wavelengths, for one frequency of each kind.
    #[test]
    fn factors_are_those_of_llama_3() {
        let llama3 = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let factors = round_trip(llama3, 500_000.0, 128).1.unwrap();
        assert_eq!((factors[0], factors[63]), (1.0, 8.0));
        let wavelength = std::f64::consts::TAU * 500_000_f64.powf(60.0 / 128.0);
        assert!((8192.0 / 4.0..8192.0).contains(&wavelength), "the frequency lies between");
        let smooth = (8192.0 / wavelength - 1.0) / 3.0;
        let expected = 1.0 / ((1.0 - smooth) / 8.0 + smooth);
        assert!((f64::from(factors[30]) - expected).abs() < 1e-5, "{} {expected}", factors[30]);
    }

    #[test]
    fn what_cannot_be_expressed_is_refused() {
        let path = Path::new("config.json");
        let longrope = json!({ "rope_type": "longrope", "factor": 4.0 });
        let rope = Rope { scaling: &longrope, theta: 1e4, head_dim: 64 };
        let error = to_metadata(&mut Metadata::new(path), "llama", rope, path).unwrap_err();
        assert_eq!(
            error.to_string(),
            "config.json: `rope_scaling` is longrope, which a GGUF file cannot express"
        );
        let mut metadata = Metadata::new(Path::new("m.gguf"));
        metadata.put("llama.rope.scaling.type", Value::String("longrope".to_owned()));
        let error = from_metadata(&metadata, "llama", 1e4, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "m.gguf: `llama.rope.scaling.type` is `longrope`, which is not supported"
        );
        let error = from_metadata(&metadata, "llama", 1e4, Some(&[1.0, 3.0, 2.0, 4.0])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "m.gguf: tensor `rope_freqs.weight` does not follow the rule of Llama 3"
        );
    }
}
