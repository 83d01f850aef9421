//! The families themselves.
//!
//! The numbers are small on purpose: a model of a million weights should be able to learn every step from a few
//! thousand examples. Second operands of sums have one digit, products stay in the multiplication table, divisions
//! are exact, and the numbers of a question stand in the order in which the solution uses them.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Operation::{Add, Divide, Multiply, Subtract};
use super::Term::{Given, Result};
use super::{Family, Operation, Step, Term};

pub(super) const NAMES: [&str; 12] =
    ["Ava", "Ben", "Cara", "Dan", "Ella", "Finn", "Gina", "Hugo", "Iris", "Jack", "Lena", "Omar"];

pub(super) const THINGS: [&str; 10] =
    ["apples", "pens", "books", "cards", "coins", "eggs", "marbles", "shells", "stickers", "stones"];

/// Every family.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "buy_and_give",
        wordings: &[
            "{name} has {a} {thing}. {name} buys {b} more and gives {c} away. How many {thing} does {name} have now?",
            "{name} starts with {a} {thing}, gets {b} from {other} and loses {c}. How many {thing} are left?",
            "There are {a} {thing} in a bag. {name} puts in {b} more and takes {c} out. How many {thing} are in the bag?",
        ],
        numbers: |rng| vec![rng.random_range(10..=80), digit(rng), digit(rng)],
        steps: &[
            step(Given(0), Add, Given(1), "{thing}."),
            step(Result(0), Subtract, Given(2), "{thing} are left."),
        ],
    },
    Family {
        name: "lose_and_find",
        wordings: &[
            "{name} had {a} {thing} but lost {b}. Later {name} found {c} more. How many {thing} does {name} have?",
            "A jar holds {a} {thing}. {name} takes {b} of them and {other} adds {c}. How many {thing} are in the jar?",
            "From {a} {thing}, {name} sells {b} and then makes {c} new ones. How many {thing} does {name} have now?",
        ],
        numbers: |rng| vec![rng.random_range(12..=80), digit(rng), digit(rng)],
        steps: &[
            step(Given(0), Subtract, Given(1), "{thing} are left."),
            step(Result(0), Add, Given(2), "{thing}."),
        ],
    },
    Family {
        name: "add_three",
        wordings: &[
            "{name} has {a} {thing}, {other} has {b} and {third} has {c}. How many {thing} do they have together?",
            "A basket holds {a} {thing}. {name} adds {b} and {other} adds {c}. How many {thing} are in the basket?",
            "{name} finds {a} {thing} on Monday, {b} on Tuesday and {c} on Friday. How many {thing} did {name} find?",
        ],
        numbers: |rng| vec![rng.random_range(10..=80), digit(rng), digit(rng)],
        steps: &[
            step(Given(0), Add, Given(1), "{thing}."),
            step(Result(0), Add, Given(2), "{thing} in all."),
        ],
    },
    Family {
        name: "boxes_and_loose",
        wordings: &[
            "{name} has {a} boxes with {b} {thing} each and {c} loose {thing}. How many {thing} does {name} have?",
            "There are {a} bags of {b} {thing} and {c} {thing} on the table. How many {thing} are there?",
            "{name} fills {a} trays with {b} {thing} each, and {c} {thing} are left over. How many {thing} are there?",
        ],
        numbers: |rng| vec![digit(rng), digit(rng), digit(rng)],
        steps: &[
            step(Given(0), Multiply, Given(1), "{thing}."),
            step(Result(0), Add, Given(2), "{thing} in all."),
        ],
    },
    Family {
        name: "spend",
        wordings: &[
            "{name} buys {a} {thing} for {b} dollars each and has a coupon for {c} dollars. How many dollars does {name} pay?",
            "At the shop {name} picks {a} {thing} at {b} dollars apiece and gets {c} dollars off. How many dollars does {name} pay?",
            "{name} orders {a} {thing}, each at {b} dollars, less a discount of {c} dollars. How many dollars are due?",
        ],
        numbers: |rng| {
            let (count, price) = (digit(rng), digit(rng));
            vec![count, price, rng.random_range(2..=(count * price - 1).min(9))]
        },
        steps: &[
            step(Given(0), Multiply, Given(1), "dollars."),
            step(Result(0), Subtract, Given(2), "dollars to pay."),
        ],
    },
    Family {
        name: "share_and_add",
        wordings: &[
            "{name} shares {a} {thing} equally among {b} friends. Each friend had {c} {thing} before. How many {thing} does each friend have now?",
            "{a} {thing} are split into {b} equal piles, and {c} more go on every pile. How many {thing} are in each pile?",
            "{name} puts {a} {thing} evenly into {b} cups and then {c} more into each cup. How many {thing} are in one cup?",
        ],
        numbers: |rng| {
            let (friends, each) = (digit(rng), digit(rng));
            vec![friends * each, friends, digit(rng)]
        },
        steps: &[
            step(Given(0), Divide, Given(1), "{thing} each."),
            step(Result(0), Add, Given(2), "{thing} each."),
        ],
    },
    Family {
        name: "keep_and_share",
        wordings: &[
            "{name} has {a} {thing}, keeps {b} and shares the rest equally among {c} friends. How many {thing} does each friend get?",
            "Of {a} {thing}, {b} are broken. {name} packs the others into {c} equal bags. How many {thing} are in each bag?",
            "A shop had {a} {thing} and sold {b}. The rest fill {c} equal boxes. How many {thing} are in each box?",
        ],
        numbers: |rng| {
            let (kept, friends, each) = (digit(rng), digit(rng), digit(rng));
            vec![friends * each + kept, kept, friends]
        },
        steps: &[
            step(Given(0), Subtract, Given(1), "{thing} to share."),
            step(Result(0), Divide, Given(2), "{thing} each."),
        ],
    },
    Family {
        name: "rows_and_changes",
        wordings: &[
            "There are {a} rows of {b} {thing}. {name} adds {c} and takes {d} away. How many {thing} are there now?",
            "{name} makes {a} {thing} a day for {b} days, then gets {c} more and gives {d} away. How many {thing} does {name} have?",
            "{name} buys {a} packs of {b} {thing}, finds {c} more and loses {d}. How many {thing} does {name} have now?",
        ],
        numbers: |rng| {
            let (rows, each, added) = (digit(rng), digit(rng), digit(rng));
            vec![rows, each, added, rng.random_range(2..=(rows * each + added - 1).min(9))]
        },
        steps: &[
            step(Given(0), Multiply, Given(1), "{thing}."),
            step(Result(0), Add, Given(2), "{thing}."),
            step(Result(1), Subtract, Given(3), "{thing} are left."),
        ],
    },
];

const fn step(left: Term, operation: Operation, right: Term, tail: &'static str) -> Step {
    Step { left, operation, right, tail }
}

/// A number of one digit that changes something.
fn digit(rng: &mut ChaCha8Rng) -> i64 {
    rng.random_range(2..=9)
}
