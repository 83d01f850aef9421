//! Families of word problems: how they are worded, which numbers they take, and how they are solved.
//!
//! One table of templates serves both directions. To ask, a template's places are filled in; to solve, the same
//! template is read as a pattern, so that a question can be solved from its text alone, as a teacher must.

mod catalogue;
mod solution;

use std::sync::OnceLock;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use regex::Regex;

pub use catalogue::FAMILIES;
use catalogue::{NAMES, THINGS};
pub use solution::{Slip, Solution};

/// A kind of word problem.
#[derive(Debug)]
pub struct Family {
    /// Its name, which is the `domain` of its problems.
    pub name: &'static str,
    /// Templates: `{a}` to `{d}` are the numbers, in the order of the text; `{name}`, `{other}`, `{third}` are people
    /// and `{thing}` is what is counted.
    wordings: &'static [&'static str],
    /// Draws numbers for which every step is a natural number of at most two digits.
    numbers: fn(&mut ChaCha8Rng) -> Vec<i64>,
    /// The way to the answer.
    steps: &'static [Step],
}

/// One line of a worked solution.
#[derive(Debug)]
struct Step {
    left: Term,
    operation: Operation,
    right: Term,
    /// What follows the equation; `{thing}` is what is counted.
    tail: &'static str,
}

/// What a step works with.
#[derive(Debug, Clone, Copy)]
enum Term {
    /// A number of the question, by its place.
    Given(usize),
    /// The result of an earlier step.
    Result(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A word problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its family.
    pub family: &'static str,
    /// What is asked.
    pub question: String,
    /// The answer.
    pub answer: i64,
    /// What stays the same in other words: family and numbers.
    pub group: String,
}

/// Draws the numbers of a problem of a family.
pub fn draw_numbers(family: &Family, rng: &mut ChaCha8Rng) -> Vec<i64> {
    (family.numbers)(rng)
}

/// Words a problem of a family: a template, names and a thing are drawn.
pub fn word(family: &'static Family, numbers: &[i64], rng: &mut ChaCha8Rng) -> Problem {
    let mut names = NAMES.to_vec();
    let mut question = family.wordings[rng.random_range(0..family.wordings.len())].to_owned();
    for place in ["{name}", "{other}", "{third}"] {
        let name = names.swap_remove(rng.random_range(0..names.len()));
        question = question.replace(place, name);
    }
    let thing = THINGS[rng.random_range(0..THINGS.len())];
    question = question.replace("{thing}", thing);
    for (letter, number) in LETTERS.iter().zip(numbers) {
        question = question.replace(&format!("{{{letter}}}"), &number.to_string());
    }
    let numbers = numbers.to_vec();
    let group =
        format!("{}-{}", family.name, numbers.iter().map(i64::to_string).collect::<Vec<_>>().join("-"));
    let solution = Solution { family, numbers, thing: thing.to_owned() };
    Problem { family: family.name, question, answer: solution.answer(), group }
}

/// Solves a question from its text. It may stand inside a longer prompt; `None` where no family fits.
pub fn solve(text: &str) -> Option<Solution> {
    patterns().iter().find_map(|(family, pattern)| {
        let found = pattern.captures(text)?;
        let numbers = LETTERS
            .iter()
            .map_while(|letter| found.name(letter))
            .map(|number| number.as_str().parse().ok())
            .collect::<Option<Vec<i64>>>()?;
        let thing = found.name("thing")?.as_str().to_owned();
        let solution = Solution { family, numbers, thing };
        solution.work(None).is_some().then_some(solution)
    })
}

const LETTERS: [&str; 4] = ["a", "b", "c", "d"];

fn patterns() -> &'static [(&'static Family, Regex)] {
    static PATTERNS: OnceLock<Vec<(&'static Family, Regex)>> = OnceLock::new();
    PATTERNS.get_or_init(|| {
        FAMILIES
            .iter()
            .flat_map(|family| family.wordings.iter().map(move |wording| (family, pattern(wording))))
            .collect()
    })
}

/// Reads a template as a pattern: the first place of a kind is captured under its name, later ones only have to fit.
fn pattern(wording: &str) -> Regex {
    let mut text = regex::escape(wording);
    let places = LETTERS
        .map(|letter| (letter, r"\d{1,6}"))
        .into_iter()
        .chain([("thing", "[a-z]+")])
        .chain(["name", "other", "third"].map(|person| (person, "[A-Z][a-z]+")));
    for (place, shape) in places {
        let escaped = regex::escape(&format!("{{{place}}}"));
        text = text.replacen(&escaped, &format!("(?P<{place}>{shape})"), 1).replace(&escaped, shape);
    }
    Regex::new(&text).expect("an escaped template with groups put in is a pattern")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_problem_is_solved_from_its_text_by_its_own_family() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut longest = 0;
        for round in 0..2_000 {
            let family = &FAMILIES[round % FAMILIES.len()];
            let numbers = draw_numbers(family, &mut rng);
            let problem = word(family, &numbers, &mut rng);
            let solution = solve(&problem.question).unwrap_or_else(|| panic!("{problem:?}"));
            assert_eq!(solution.family.name, problem.family, "{problem:?}");
            assert_eq!(solution.numbers, numbers, "{problem:?}");
            let text = solution.text();
            assert_eq!(nexa_core::answer::final_answer(&text), Some(problem.answer.to_string()), "{text}");
            assert!(!problem.question.contains('{') && !text.contains('{'), "{problem:?} {text}");
            longest = longest.max(problem.question.split_whitespace().count());
        }
        assert!(longest <= 45, "{longest}");
    }

    #[test]
    fn every_wording_of_a_family_names_its_numbers_in_order_and_no_other_family_takes_it() {
        for family in FAMILIES {
            let count = draw_numbers(family, &mut ChaCha8Rng::seed_from_u64(0)).len();
            for wording in family.wordings {
                let at: Vec<_> = LETTERS[..count].iter().map(|l| wording.find(&format!("{{{l}}}"))).collect();
                assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{wording}");
                let takers = FAMILIES
                    .iter()
                    .flat_map(|f| f.wordings)
                    .filter(|other| pattern(other).is_match(&sample(wording)))
                    .count();
                assert_eq!(takers, 1, "{wording}");
            }
        }
    }

    fn sample(wording: &str) -> String {
        let mut text = wording.replace("{thing}", "pens");
        for (place, name) in [("{name}", "Ava"), ("{other}", "Ben"), ("{third}", "Cara")] {
            text = text.replace(place, name);
        }
        LETTERS.iter().fold(text, |text, letter| text.replace(&format!("{{{letter}}}"), "8"))
    }

    #[test]
    fn steps_stay_small_and_groups_are_many() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for family in FAMILIES {
            let mut groups = BTreeMap::new();
            for _ in 0..1_000 {
                let numbers = draw_numbers(family, &mut rng);
                let solution = Solution { family, numbers, thing: "pens".to_owned() };
                let (results, _) = solution.work(None).unwrap();
                assert!(results.iter().all(|result| (1..=99).contains(result)), "{results:?}");
                groups.insert(solution.numbers, ());
            }
            assert!(groups.len() > 150, "{}: {}", family.name, groups.len());
        }
    }

    #[test]
    fn what_is_no_such_problem_is_not_solved() {
        assert!(solve("What is the capital of France?").is_none());
        assert!(solve("").is_none());
        // Twenty cannot be split into three equal piles.
        assert!(
            solve("20 pens are split into 3 equal piles, and 4 more go on every pile. How many pens are in each pile?")
                .is_none()
        );
    }
}
