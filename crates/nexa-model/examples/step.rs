//! Times forward and backward of one step at the shape of SmolLM2-135M.
use burn::tensor::Device;
use nexa_model::{Batch, Decoder, DecoderConfig, Objective, Weights};
fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>().unwrap_or(1));
    let (tokens, samples) = (args.next().unwrap(), args.next().unwrap());
    let json = serde_json::json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
        "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 1e5, "tie_word_embeddings": true,
        "vocab_size": 49152, "initializer_range": 0.04, "hidden_act": "silu"});
    let path = std::env::temp_dir().join("step-config.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let config = DecoderConfig::load(&path).unwrap();
    let weights = Weights::random(&config, 1).unwrap();
    let decoder = Decoder::new(&weights, &Device::flex()).recompute_blocks(args.next().is_some());
    let length = tokens / samples;
    let ids: Vec<u32> = (0..tokens).map(|i| ((i * 7919) % 49152) as u32).collect();
    let trained = vec![true; length];
    let batch = Batch::new(ids.chunks(length).map(|c| (c, trained.as_slice())));
    for _ in 0..4 {
        let t = std::time::Instant::now();
        let g = decoder.gradients(&batch, Objective::CrossEntropy);
        let hwm = std::fs::read_to_string("/proc/self/status").unwrap();
        let hwm = hwm.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
        eprintln!("{:.2}s loss {} {} {}", t.elapsed().as_secs_f64(), g.loss, g.values.len(), hwm);
    }
}
