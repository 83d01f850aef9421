//! Throws bytes at the parser of every route that takes a body. It must take or refuse them, and never panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nexa_serve::api::parse_body;

const PATHS: [&str; 6] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/infer", "/tokenize", "/detokenize"];

fuzz_target!(|body: &[u8]| {
    for path in PATHS {
        if let Err(status) = parse_body(path, body) {
            assert_eq!(status, 400);
        }
    }
});
