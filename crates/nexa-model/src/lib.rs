//! The decoder, its weights, tokenizer, chat template and generation.
