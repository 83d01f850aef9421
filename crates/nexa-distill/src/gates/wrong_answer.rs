//! Finds answers that come to another result than the reference. Rows without one are not measured: nothing is known
//! about them.

use nexa_core::answer::final_answer;

use super::{Answer, Measure};

pub(super) const VERSION: u32 = 2;

pub(super) fn measure(answer: &Answer<'_>) -> Option<Measure> {
    let reference = answer.reference?;
    Some(Measure::fault(match final_answer(answer.output) {
        None => Some("no final answer".to_owned()),
        Some(found) if found != reference => Some(format!("final answer {found}, not {reference}")),
        Some(_) => None,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::test::row;
    use super::*;

    #[test]
    fn the_final_answer_is_compared_where_a_reference_is_known() {
        let check = |output: &str, reference: Option<&str>, expected: Option<&str>| {
            let mut row = row("", output);
            row.insert("reference".to_owned(), json!(reference));
            let found = measure(&Answer::of(&row)).map(|measure| measure.found);
            assert_eq!(found.as_deref(), expected, "{output:?}");
        };
        check("1,000 + 200\n#### 1,200", Some("1200"), Some(""));
        check("#### 14", Some("15"), Some("final answer 14, not 15"));
        check("It is 15.", Some("15"), Some("no final answer"));
        check("It is 15.", None, None);
    }
}
