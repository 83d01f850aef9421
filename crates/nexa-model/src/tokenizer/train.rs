//! Learning a byte-level vocabulary (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units",
//! 2016, on bytes as in GPT-2).

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, Tokenizer, Trainer};

use super::{TEXT_END, TURN_END, TURN_START};
use crate::Error;

/// The names of the roles, which every rendered turn contains: counted with every text so that each becomes one token.
const ROLES: &str = "system\nuser\nassistant\n";

/// Learns the vocabulary and puts the tokenizer together.
pub(super) fn train<S: AsRef<str> + Sync>(texts: &[S], vocab_size: usize) -> Result<Tokenizer, Error> {
    let failed = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
    let special = [TEXT_END, TURN_START, TURN_END].map(|text| AddedToken::from(text, true));
    let least = ByteLevel::alphabet().len() + special.len();
    if vocab_size < least {
        return Err(Error::Tokenizer(format!(
            "a vocabulary of {vocab_size} is too small, the bytes take {least}"
        )));
    }
    let mut tokenizer = Tokenizer::new(ModelWrapper::BPE(BPE::default()));
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        // No space is put before a text, and the GPT-2 pattern keeps words, numbers and blanks apart.
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
    ])));
    tokenizer.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevelDecoder::new(false, true, true))));

    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let pieces = texts.iter().flat_map(|text| [text.as_ref(), ROLES]);
    let split = |text: &str| -> tokenizers::Result<Vec<String>> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
        let mut split = PreTokenizedString::from(text);
        if let Some(rules) = tokenizer.get_pre_tokenizer() {
            rules.pre_tokenize(&mut split)?;
        }
        let words = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(words.into_iter().map(|(word, _, _)| word.to_owned()).collect())
    };
    trainer.feed(pieces, split).map_err(failed)?;
    let mut model = BPE::default();
    let special = trainer.train(&mut model).map_err(failed)?;
    tokenizer.with_model(ModelWrapper::BPE(model));
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}
