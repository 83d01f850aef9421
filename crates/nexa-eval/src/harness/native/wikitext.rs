//! WikiText: pages whose tokens stand apart are written as people write, before they are scored.
//!
//! # Source
//! The order of the replacements is that of the reference's task `wikitext` version 2.0, since each works on what the one
//! before left.

use std::sync::LazyLock;

use nexa_core::table::Row;
use regex::Regex;

use crate::harness::native::text;

/// Adds `detokenized`, the page as it is scored.
pub(super) fn prepare(document: &mut Row) -> Result<(), String> {
    let page = detokenized(text(document, "page")?);
    document.insert("detokenized".to_owned(), page.into());
    Ok(())
}

/// Marks of the data set, and the blanks that stand around punctuation.
const BEFORE: [(&str, &str); 9] = [
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
];

/// What stands apart from what it encloses.
const ENCLOSED: [(&str, &str); 5] = [
    (r"\(\s*([^\)]*?)\s*\)", "($1)"),
    (r"\[\s*([^\]]*?)\s*\]", "[$1]"),
    (r"\{\s*([^}]*?)\s*\}", "{$1}"),
    (r#""\s*([^"]*?)\s*""#, "\"$1\""),
    (r"'\s*([^']*?)\s*'", "'$1'"),
];

/// Headings, degrees, line ends, and the unknown number.
const AFTER: [(&str, &str); 8] = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
];

fn detokenized(page: &str) -> String {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let compile = |(pattern, by)| (Regex::new(pattern).expect("the patterns are valid"), by);
        ENCLOSED.into_iter().map(compile).collect()
    });
    // The reference's second step looks for a slash that it wrote by mistake, and so finds nothing in any page.
    let mut text = page.replace("s '", "s'");
    text = BEFORE.iter().fold(text, |text, (from, to)| text.replace(from, to));
    for (regex, by) in PATTERNS.iter() {
        text = regex.replace_all(&text, *by).into_owned();
    }
    AFTER.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: the reference's function under CPython 3.11, run on these texts.
    #[test]
    fn pages_are_written_as_people_write() {
        let check = |page: &str, expected: &str| assert_eq!(detokenized(page), expected);
        check(
            " = = Cats = = \n Ann 's cats ' tails , 1 @,@ 000 of them ( all ) . \n",
            " == Cats ==\nAnn's cats' tails, 1,000 of them (all).\n",
        );
        check("it is 20 ° C ; \" so \" he said ; N [ sic ] { x }", "it is 20°C; \"so\" he said; 1 [sic] {x}");
    }
}
