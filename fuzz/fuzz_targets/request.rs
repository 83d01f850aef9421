//! Throws bytes at the parser of every route that takes a body. It must take or refuse them, and never panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nexa_serve::api::parse_body;

const PATHS: [&str; 8] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/infer",
    "/tokenize",
    "/detokenize",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
];

fuzz_target!(|body: &[u8]| {
    for path in PATHS {
        if let Err(status) = parse_body(path, body) {
            assert_eq!(status, 400);
        }
    }
});
