//! Trains a small model on made-up word problems and measures how many unseen ones it answers exactly.
//!
//! `cargo run --release -p nexa-train --example arithmetic -- FOLDER [problems] [JSON config]`

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nexa_core::event::{Cancel, Event, EventSink};
use nexa_core::lm::{ChatMessage, Feed, LanguageModel, Role, Tokenizer};
use nexa_model::{ChatTokenizer, LocalModel};
use nexa_train::{Config, Inputs, Session, train};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NAMES: [&str; 12] =
    ["Ava", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hugo", "Ivy", "Jack", "Kim", "Leo"];
const THINGS: [&str; 10] =
    ["apples", "pens", "books", "coins", "shells", "stickers", "marbles", "cards", "eggs", "beads"];

/// Writes one problem: a question and its worked answer.
fn problem(random: &mut StdRng) -> (String, String) {
    let name = NAMES[random.random_range(0..NAMES.len())];
    let thing = THINGS[random.random_range(0..THINGS.len())];
    let (a, b) = (random.random_range(5..100), random.random_range(2..60));
    match random.random_range(0..4) {
        0 => {
            let sum = a + b;
            let c = random.random_range(1..sum);
            let rest = sum - c;
            (
                format!(
                    "{name} has {a} {thing}. {name} buys {b} more and then gives away {c}. How many {thing} does {name} have now?"
                ),
                format!(
                    "{name} has {a} + {b} = {sum} {thing} after buying.\nThen {name} has {sum} - {c} = {rest} {thing}.\n#### {rest}"
                ),
            )
        }
        1 => {
            let (boxes, each) = (random.random_range(2..13), random.random_range(2..13));
            let product = boxes * each;
            let sum = product + b;
            (
                format!(
                    "{name} has {boxes} boxes with {each} {thing} each and {b} loose {thing}. How many {thing} does {name} have in all?"
                ),
                format!(
                    "The boxes hold {boxes} * {each} = {product} {thing}.\nIn all there are {product} + {b} = {sum} {thing}.\n#### {sum}"
                ),
            )
        }
        2 => {
            let other = NAMES[random.random_range(0..NAMES.len())];
            let more = a + b;
            let total = a + more;
            (
                format!(
                    "{name} has {a} {thing}. {other} has {b} more {thing} than {name}. How many {thing} do they have together?"
                ),
                format!(
                    "{other} has {a} + {b} = {more} {thing}.\nTogether they have {a} + {more} = {total} {thing}.\n#### {total}"
                ),
            )
        }
        _ => {
            let (price, count) = (random.random_range(2..13), random.random_range(2..13));
            let cost = price * count;
            let money = cost + random.random_range(1..80);
            let change = money - cost;
            (
                format!(
                    "{name} buys {count} {thing} at {price} dollars each and pays with {money} dollars. How many dollars does {name} get back?"
                ),
                format!(
                    "The {thing} cost {count} * {price} = {cost} dollars.\n{name} gets back {money} - {cost} = {change} dollars.\n#### {change}"
                ),
            )
        }
    }
}

fn line(question: &str, answer: &str) -> String {
    let message = |role: &str, content: &str| serde_json::json!({ "role": role, "content": content });
    format!(
        "{}\n",
        serde_json::json!({ "messages": [message("user", question), message("assistant", answer)] })
    )
}

struct Screen(Instant);

impl EventSink for Screen {
    #[expect(clippy::print_stdout, reason = "an example speaks to the person who runs it")]
    fn emit(&self, event: Event) {
        match event {
            Event::Progress { done, total, note, .. } if done % 100 == 0 => {
                println!("{:6.1}s {done}/{} {note}", self.0.elapsed().as_secs_f64(), total.unwrap_or(0));
            }
            Event::Progress { .. } => {}
            Event::Info { message } | Event::Warning { message } => println!("{message}"),
        }
    }
}

#[expect(clippy::print_stdout, reason = "an example speaks to the person who runs it")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: arithmetic FOLDER [problems] [JSON config]")?);
    let count: usize = arguments.next().map_or(Ok(20_000), |count| count.parse())?;
    let config: Config = serde_json::from_str(&arguments.next().unwrap_or_else(|| "{}".to_owned()))?;

    let mut random = StdRng::seed_from_u64(1);
    let mut seen = HashSet::new();
    let mut problems = Vec::new();
    while problems.len() < count + 700 {
        let problem = problem(&mut random);
        if seen.insert(problem.0.clone()) {
            problems.push(problem);
        }
    }
    let test = problems.split_off(count + 200);
    let validation = problems.split_off(count);
    let tokenizer_folder = folder.join("tokenizer");
    let output = folder.join("model");
    fs_err::create_dir_all(&tokenizer_folder)?;
    fs_err::create_dir_all(&output)?;
    let texts: Vec<&str> =
        problems.iter().take(4000).flat_map(|(question, answer)| [question.as_str(), answer]).collect();
    ChatTokenizer::train(&texts, 512)?.save(&tokenizer_folder)?;
    let file = |problems: &[(String, String)]| problems.iter().map(|(q, a)| line(q, a)).collect::<String>();
    fs_err::write(folder.join("train.jsonl"), file(&problems))?;
    fs_err::write(folder.join("validation.jsonl"), file(&validation))?;

    let inputs = Inputs {
        train: folder.join("train.jsonl"),
        validation: Some(folder.join("validation.jsonl")),
        tokenizer: tokenizer_folder,
    };
    let workspace = folder.join("workspace");
    if workspace.exists() {
        fs_err::remove_dir_all(&workspace)?;
    }
    let (screen, cancel) = (Screen(Instant::now()), Cancel::default());
    let session = Session { events: &screen, ..Session::silent(&workspace, &output, &cancel) };
    let outcome = train(&config, &inputs, &session)?;
    println!("{outcome:#?}");
    println!(
        "{:.0} tokens/s, {:.1} tokens a problem",
        outcome.tokens as f64 / outcome.seconds,
        outcome.tokens as f64 / (outcome.steps as f64 * config.samples_per_step() as f64)
    );

    let mut model = LocalModel::load(&output)?;
    let tokenizer = model.tokenizer();
    let started = Instant::now();
    let (mut right, mut generated) = (0, 0);
    for group in test.chunks(32) {
        let answers = answer(&mut model, &tokenizer, group, &mut generated)?;
        right += answers
            .iter()
            .zip(group)
            .filter(|(got, (_, expected))| got.rsplit("####").next() == expected.rsplit("####").next())
            .count();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("exact match {right}/{}; {:.0} generated tokens/s", test.len(), f64::from(generated) / seconds);
    Ok(())
}

/// Answers a group of questions greedily, all in one batch.
fn answer(
    model: &mut LocalModel,
    tokenizer: &Arc<dyn Tokenizer>,
    problems: &[(String, String)],
    generated: &mut i32,
) -> Result<Vec<String>, nexa_core::lm::Error> {
    let mut open = Vec::new();
    for (question, _) in problems {
        open.push((
            model.open(),
            tokenizer.encode_prompt(&[ChatMessage::new(Role::User, question.as_str())])?,
        ));
    }
    let mut answers = vec![Vec::new(); problems.len()];
    let mut active: Vec<usize> = (0..problems.len()).collect();
    while !active.is_empty() {
        let feeds: Vec<Feed<'_>> =
            active.iter().map(|&i| Feed { sequence: open[i].0, token_ids: &open[i].1 }).collect();
        let logits = model.step(&feeds)?;
        let mut next = Vec::new();
        for (i, logits) in active.into_iter().zip(logits) {
            let best = (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best })
                as u32;
            *generated += 1;
            if !tokenizer.stop_tokens().contains(&best) && answers[i].len() < 80 {
                answers[i].push(best);
                open[i].1 = vec![best];
                next.push(i);
            } else {
                model.close(open[i].0);
            }
        }
        active = next;
    }
    answers.iter().map(|ids| tokenizer.decode(ids)).collect()
}
