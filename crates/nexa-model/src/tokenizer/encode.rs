//! Rendered text to token ids, with the place of each token, as a tokenizer of `transformers` would cut it.
//!
//! Added tokens are taken out first, each remaining piece is normalised, cut into words and looked up. Two things are
//! done in between that the library has no call for: characters that hid special tokens of messages are put back once
//! the real ones are found, and the text is cut where a prompt ends, so that no token can straddle that place.

use std::ops::Range;

use tokenizers::normalizer::Range as TextRange;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{
    Model as _, NormalizedString, OffsetType, PreTokenizedString, PreTokenizer as _, Tokenizer,
};

use super::private::{Private, Specials};

/// Token ids with the bytes that each stands for.
#[derive(Debug, Clone, Default)]
pub(super) struct Encoded {
    pub(super) token_ids: Vec<u32>,
    pub(super) places: Vec<Range<usize>>,
}

impl Encoded {
    /// The tokens that hold any of the bytes.
    pub(super) fn tokens_in(&self, bytes: &Range<usize>) -> Range<usize> {
        let start = self.places.partition_point(|place| place.end <= bytes.start);
        let end = self.places.partition_point(|place| place.start < bytes.end);
        start..end.max(start)
    }
}

/// A text whose special tokens are meant where they are spelled plainly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hidden<'a> {
    pub(super) text: &'a str,
    /// The characters that hide the special tokens which are not meant.
    pub(super) private: Private,
    /// Where no token may straddle, in bytes and in order.
    pub(super) cuts: &'a [usize],
}

/// Encodes a text.
pub(super) fn encode(
    tokenizer: &Tokenizer,
    specials: &Specials,
    Hidden { text, private, cuts }: Hidden<'_>,
) -> tokenizers::Result<Encoded> {
    let words = tokenizer.get_pre_tokenizer();
    let mut pieces = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
    pieces.normalize(|piece| {
        if piece.get().chars().any(|c| private.reveal(c, specials) != c) {
            piece.map(|c| private.reveal(c, specials));
        }
        Ok(())
    })?;
    // A rule that puts a blank before every piece must not see the cut, or it would write one there.
    let cut_last = words.is_some_and(puts_a_blank_before_pieces);
    if !cut_last {
        cut(&mut pieces, cuts)?;
    }
    if let Some(words) = words {
        words.pre_tokenize(&mut pieces)?;
    }
    if cut_last {
        cut(&mut pieces, cuts)?;
    }
    pieces.tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))?;
    let encoding = pieces.into_encoding(None, 0, OffsetType::Byte)?;
    Ok(Encoded {
        token_ids: encoding.get_ids().to_vec(),
        places: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
    })
}

/// Cuts pieces at places of the original text.
fn cut(pieces: &mut PreTokenizedString, cuts: &[usize]) -> tokenizers::Result<()> {
    if cuts.is_empty() {
        return Ok(());
    }
    pieces.split(|_, piece| {
        let (start, end) = piece.offsets_original();
        let inside: Vec<usize> =
            cuts.iter().filter(|&&cut| start < cut && cut < end).map(|cut| cut - start).collect();
        if inside.is_empty() {
            return Ok(vec![piece]);
        }
        let mut edges = vec![0];
        edges.extend(inside);
        edges.push(end - start);
        let slices: Option<Vec<NormalizedString>> =
            edges.windows(2).map(|edge| piece.slice(TextRange::Original(edge[0]..edge[1]))).collect();
        // A character that the normaliser joined across the cut belongs to neither side; then nothing is cut.
        let whole = |slices: &Vec<NormalizedString>| {
            slices.iter().map(NormalizedString::len).sum::<usize>() == piece.len()
        };
        Ok(slices.filter(whole).unwrap_or_else(|| vec![piece.clone()]))
    })
}

/// Whether a splitting rule writes a blank before each piece, wherever it stands.
fn puts_a_blank_before_pieces(rule: &PreTokenizerWrapper) -> bool {
    match rule {
        PreTokenizerWrapper::Metaspace(rule) => rule.get_prepend_scheme() == PrependScheme::Always,
        PreTokenizerWrapper::ByteLevel(rule) => rule.add_prefix_space,
        PreTokenizerWrapper::Sequence(rules) => rules.as_ref().iter().any(puts_a_blank_before_pieces),
        _ => false,
    }
}
