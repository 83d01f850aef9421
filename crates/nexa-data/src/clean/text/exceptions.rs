//! English words that are split elsewhere than at marks, or not at all: contractions, abbreviations, clipped forms.
//!
//! # Source
//! The word lists of spaCy's English tokenizer (`lang/en`), stated as families. Departures: no emoticons.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::hash;

/// How a word is split: the lengths in bytes of its first pieces; 0 where there is none.
pub(super) type Pieces = [u8; 2];

/// The exceptions of English.
pub(super) static ENGLISH: LazyLock<Exceptions> = LazyLock::new(Exceptions::english);

/// Bits of the filter, a power of two: 2 KiB that stay in the fastest cache.
const FILTER_BITS: usize = 1 << 14;

/// Words that split in a way of their own, found by the hash of their bytes.
pub(super) struct Exceptions {
    /// A bit for each hash's uppermost digits: nearly every other word is turned away by one look.
    filter: Box<[u64; FILTER_BITS / 64]>,
    pieces: HashMap<u64, Pieces>,
}

impl Exceptions {
    /// How a word splits, if in a way of its own.
    pub(super) fn get(&self, hash: u64) -> Option<Pieces> {
        let bit = filter_bit(hash);
        if self.filter[bit / 64] >> (bit % 64) & 1 == 0 {
            return None;
        }
        self.pieces.get(&hash).copied()
    }

    fn english() -> Self {
        let mut exceptions = Self { filter: Box::new([0; FILTER_BITS / 64]), pieces: HashMap::new() };
        for (words, endings) in FAMILIES {
            for word in words.split(' ') {
                for ending in endings.split(' ') {
                    exceptions.add(&format!("{word}|{ending}"));
                    exceptions.add(&format!("{}|{ending}", capitalised(word)));
                }
            }
        }
        for hour in 1..=12 {
            for half in ["a.m.", "am", "p.m.", "pm"] {
                exceptions.add(&format!("{hour}|{half}"));
            }
        }
        for word in SPLIT.split(' ').chain(WHOLE.split(' ')) {
            exceptions.add(word);
        }
        for letter in 'a'..='z' {
            exceptions.add(&format!("{letter}."));
        }
        for word in ORDINARY.split(' ') {
            exceptions.pieces.remove(&hash(word.as_bytes()));
        }
        exceptions
    }

    /// Adds a word whose pieces stand between bars, also with the typographer's apostrophe.
    fn add(&mut self, word: &str) {
        for word in [word.to_owned(), word.replace('\'', "’")] {
            let mut pieces = Pieces::default();
            let mut lengths: Vec<u8> = word.split('|').map(|piece| piece.len() as u8).collect();
            lengths.pop();
            pieces[..lengths.len()].copy_from_slice(&lengths);
            let hash = hash(word.replace('|', "").as_bytes());
            let bit = filter_bit(hash);
            self.filter[bit / 64] |= 1 << (bit % 64);
            self.pieces.insert(hash, pieces);
        }
    }
}

fn filter_bit(hash: u64) -> usize {
    (hash >> 50) as usize
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// Words and what may hang on each of them, apart by spaces; bars stand between pieces.
const FAMILIES: [(&str, &str); 11] = [
    ("i you he she it we they", "'ll ll 'll|'ve ll|ve 'd d 'd|'ve d|ve"),
    ("i", "'m m 'm|a m|a"),
    ("i you we they", "'ve ve"),
    ("you we they", "'re re"),
    ("he she it", "'s s"),
    ("who what when where why how there that this these those", "'ll ll 'll|'ve ll|ve 'd d 'd|'ve d|ve"),
    ("who what when where why how there that this", "'s s"),
    ("who what when where why how there these those", "'re re 've ve"),
    ("ca could do does did had may might must need ought sha should wo would", "n't nt n't|'ve nt|ve"),
    ("could might must should would not", "'ve ve"),
    ("ai are is was were have has dare", "n't nt"),
];

/// Splits that belong to no family.
const SPLIT: &str = "y'|all y|all how|'d|'y How|'d|'y can|not Can|not gon|na Gon|na got|ta Got|ta let|'s Let|'s \
                     c'm|on C'm|on";

/// Words that stay whole, whatever marks they hold.
const WHOLE: &str = "'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am \
                     o'clock O'clock 'em 'll 'nuff 'd lovin' Lovin' havin' Havin' doin' Doin' goin' Goin' nothin' \
                     Nothin' nuthin' Nuthin' ol' Ol' somethin' Somethin' ' '' C++ — \
                     Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. \
                     Jan. Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. \
                     Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. a.m. Adm. Bros. \
                     co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. \
                     Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.";

/// Words that a family would split and that are words of their own.
const ORDINARY: &str = "Ill ill Its its Hell hell Shell shell Shed shed were Were Well well";
