//! Packages rows as conversations to train on, split so that no problem stands on two sides.

mod admission;
mod card;
mod cluster;
mod contamination;
mod formats;
mod preference;
mod rows;
mod spend;
mod split;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use nexa_core::artifact::{Artifact, Kind};
use nexa_core::columns;
use nexa_core::event::Event;
use nexa_core::lm::{ChatMessage, Role, TokenizerLoader};
use nexa_core::split::Split;
use nexa_core::stage::{Context, Stage, StageError};
use nexa_core::table::{JsonLines, Row, Tables};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{check, check_share};
use crate::student::Opener;
use crate::{Error, Result, conversation, inputs, table};

pub use formats::Format;
pub use spend::{SPEND_LINES, SpendLine, usd_per_row};

const STAGE: &str = "distill.package";

/// What becomes a conversation, and which side it goes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The column of the user's turn. Default: `user_prompt` for filtered answers, `question` for a dataset, or
    /// `user_prompt` where it has that instead.
    pub prompt_column: Option<String>,
    /// The column of the assistant's turn. Default: `teacher_output` for filtered answers, `answer` for a dataset, or
    /// `teacher_output` where it has that instead.
    pub completion_column: Option<String>,
    /// The column of what stands before the conversation. Default: `system_prompt` where there is one.
    pub system_prompt_column: Option<String>,
    /// The column of the right final answer. Default: `reference` where there is one, else what follows `#### ` in the
    /// assistant's turn.
    pub reference_column: Option<String>,
    /// The share of groups that is held out while training. Default 0.02: the loss on it is a mean over many tokens.
    /// With `split_column` it is taken from what is left, unless `validation_values` is given.
    pub validation_share: f64,
    /// The share of groups that is held out until the end. Default 0.08, some hundred rows of a few thousand. Not used
    /// with `split_column`.
    pub test_share: f64,
    /// A column that says where rows belong, such as `source_file`. Default: `split`, as `data.split` writes it, where
    /// there is one; else shares decide.
    pub split_column: Option<String>,
    /// Values of `split_column`, or last parts of paths, that make a row a test row.
    pub test_values: Vec<String>,
    /// Those that make it a validation row.
    pub validation_values: Vec<String>,
    /// From which similarity on two prompts with the same numbers are the same problem: the share of words that they
    /// have in common (Jaccard). Default 0.5; above 1 only equal prompts and given groups count.
    pub paraphrase_similarity: f64,
    /// Takes out GSM8K's `<<48/2=24>>`. Default false: the text is kept as it is.
    pub strip_calculator_annotations: bool,
    /// The forms in which the rows are written: `messages`, which is always written, and `sharegpt`, `alpaca`,
    /// `prompt_completion`, `input_output`, `dpo`. Default: `messages` alone.
    pub formats: Vec<Format>,
    /// How far a worse answer's score must lie below a better one's, where both passed and were judged, to make a pair of
    /// `dpo`. Default 0.5.
    pub dpo_min_margin: f64,
    /// The longest conversation in the student's tokens, where its tokenizer is given; longer ones are left out, with the
    /// reason. Default: any that the template renders.
    pub max_tokens: Option<u32>,
    /// The most rows of each split, chosen by the seed. Default: all.
    pub max_rows: MaxRows,
    /// Packages rows that were not held against the lab's evaluation sets (`evaluation_sets` of `nexa.yaml`). Default
    /// false; only then is it left out of the key, as it changes no row.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_contaminated: bool,
    /// Decides which group goes where. Default 0.
    pub seed: u64,
}

/// The most rows of each split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxRows {
    /// Of the rows to train on.
    pub train: Option<usize>,
    /// Of those held out while training.
    pub validation: Option<usize>,
    /// Of those held out until the end.
    pub test: Option<usize>,
}

impl MaxRows {
    fn of(self, split: Split) -> Option<usize> {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prompt_column: None,
            completion_column: None,
            system_prompt_column: None,
            reference_column: None,
            validation_share: 0.02,
            test_share: 0.08,
            split_column: None,
            test_values: Vec::new(),
            validation_values: Vec::new(),
            paraphrase_similarity: 0.5,
            strip_calculator_annotations: false,
            formats: vec![Format::Messages],
            dpo_min_margin: 0.5,
            max_tokens: None,
            max_rows: MaxRows::default(),
            allow_contaminated: false,
            seed: 0,
        }
    }
}

/// The stage `distill.package`: role `filtered` or `dataset` in, perhaps with `regenerated` and the student's `tokenizer`
/// or `student`; conversations in three splits and their card out.
#[derive(Debug, Clone)]
pub struct Package {
    config: Config,
    tokenizers: Opener,
}

/// A row on its way into a split.
struct Item {
    id: String,
    group: String,
    domain: Option<String>,
    reference: Option<String>,
    messages: Vec<ChatMessage>,
    prompt: String,
    /// What the teacher answered, where a person edited that.
    original: Option<String>,
    /// What the split column says.
    asked: Option<String>,
    /// Its lengths for the student, where they are known.
    tokens: Option<Lengths>,
}

/// How long the parts of a conversation are.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    /// What is only read.
    prompt: usize,
    /// What is learnt.
    completion: usize,
}

impl Lengths {
    fn total(self) -> usize {
        self.prompt + self.completion
    }
}

/// Rows with their places in the splits.
struct Packaged<'a> {
    items: &'a [Item],
    /// The group of each, after paraphrases were joined.
    groups: &'a [&'a str],
    /// The split of each that is kept.
    kept: &'a [Option<Split>],
    /// Rows that were left out because their problem is in a split that is held out.
    leaked: usize,
}

/// The columns that a table's conversations are made of.
struct Columns<'a> {
    prompt: &'a str,
    completion: &'a str,
    system_prompt: Option<&'a str>,
    reference: Option<&'a str>,
}

impl Package {
    /// Makes the stage.
    ///
    /// # Errors
    /// Fails on a value that makes no sense, with its key.
    pub fn new(config: Config) -> Result<Self> {
        check_share(STAGE, "validation_share", config.validation_share)?;
        check_share(STAGE, "test_share", config.test_share)?;
        let held_out = config.validation_share + config.test_share;
        check(STAGE, "test_share", held_out)
            .that(held_out < 1.0, "with `validation_share` it must leave rows to train on")?;
        let similarity = config.paraphrase_similarity;
        check(STAGE, "paraphrase_similarity", similarity).that(similarity > 0.0, "it lies above 0")?;
        let values = config.test_values.len() + config.validation_values.len();
        let fits = (values > 0) == config.split_column.is_some();
        check(STAGE, "split_column", values)
            .that(fits, "it goes with `test_values` or `validation_values`")?;
        let margin = config.dpo_min_margin;
        check(STAGE, "dpo_min_margin", margin).that(margin >= 0.0, "a margin is not negative")?;
        Ok(Self { config, tokenizers: Opener::default() })
    }

    /// The stage with what opens the student's tokenizer.
    #[must_use]
    pub fn with_tokenizers(mut self, loader: Arc<dyn TokenizerLoader>) -> Self {
        self.tokenizers = Opener::new(loader);
        self
    }

    fn make(&self, context: &Context<'_>) -> Result<()> {
        let (source, prompt, completion) = source(context)?;
        if !self.config.allow_contaminated {
            contamination::require_checked(context, source)?;
            for regenerated in rows::regenerated(context) {
                contamination::require_checked(context, regenerated)?;
            }
        }
        let rows = rows::read(context, source)?;
        let place = source.file("parquet")?;
        let items = self.items(&rows, (prompt, completion), &place)?;
        let (items, rejected) = self.admit(context, items)?;
        let prompts: Vec<_> = items.iter().map(|item| (item.group.as_str(), item.prompt.as_str())).collect();
        let clusters = cluster::clusters(&prompts, self.config.paraphrase_similarity);
        if clusters.bounded_blocks > 0 {
            context.emit(Event::warning(format!(
                "{} sets of prompts with the same numbers are so large that only neighbours were compared",
                clusters.bounded_blocks
            )));
        }
        let groups: Vec<&str> = clusters.of.iter().map(|first| items[*first].group.as_str()).collect();
        let asked: Vec<_> = items.iter().map(|item| item.asked.as_deref()).collect();
        let assigned = split::assign(&self.config, &groups, &asked, &place)?;
        let kept = self.capped(&items, &assigned.splits);
        let packaged = Packaged { items: &items, groups: &groups, kept: &kept, leaked: assigned.leaked };
        packaged.write(context)?;
        let pairs = self.pairs(context, source, &packaged)?;
        formats::write(context, &self.config.formats, &packaged, &pairs)?;
        card::write(context, &card::Facts { packaged: &packaged, rows: &rows, rejected })?;
        packaged.state(context)
    }

    /// Leaves out what the student's template does not render or what is too long, where its tokenizer is given, and
    /// says how much that is.
    fn admit(&self, context: &Context<'_>, items: Vec<Item>) -> Result<(Vec<Item>, usize)> {
        let total = items.len();
        let Some(tokenizer) = self.tokenizers.open(context, STAGE)? else {
            let max_tokens = self.config.max_tokens;
            check(STAGE, "max_tokens", max_tokens.unwrap_or_default()).that(
                max_tokens.is_none(),
                "it needs the student's tokenizer, as role `tokenizer` or `student`",
            )?;
            return Ok((items, 0));
        };
        let admission::Admitted { items, rejected } =
            admission::admit(items, tokenizer.as_ref(), self.config.max_tokens);
        if items.is_empty() {
            let message = "none fits the student".to_owned();
            return Err(Error::NothingLeft { stage: STAGE, rows: total, message });
        }
        if !rejected.is_empty() {
            context.services.tables.write(&context.output.join("rejected.parquet"), &rejected)?;
            context.emit(Event::info(format!(
                "{} of {total} rows do not fit the student; they stand in `rejected.parquet`",
                rejected.len()
            )));
        }
        Ok((items, rejected.len()))
    }

    /// The pairs of answers to one prompt, where they are asked for.
    fn pairs(
        &self,
        context: &Context<'_>,
        source: &Artifact,
        packaged: &Packaged<'_>,
    ) -> Result<Vec<preference::Preference>> {
        if !self.config.formats.contains(&Format::Dpo) {
            return Ok(Vec::new());
        }
        check(STAGE, "formats", "dpo")
            .that(source.manifest.kind == Kind::Filtered, "pairs are made of role `filtered`")?;
        preference::pairs(context, source, packaged, self.config.dpo_min_margin)
    }

    /// Reads the rows as conversations.
    fn items(&self, rows: &[Row], defaults: (&str, &str), place: &Path) -> Result<Vec<Item>> {
        let config = &self.config;
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let column = |named: &'_ Option<String>, defaults: &[&'static str]| {
            table::column(named.as_deref(), defaults, first, place).map(|found| found.map(str::to_owned))
        };
        // A data set may have been made of answers that were filtered.
        let from_teacher = (columns::USER_PROMPT, columns::TEACHER_OUTPUT);
        let has =
            |(prompt, completion): (&str, &str)| first.contains_key(prompt) && first.contains_key(completion);
        let defaults = if !has(defaults) && has(from_teacher) { from_teacher } else { defaults };
        let system_prompt = column(&config.system_prompt_column, &[columns::SYSTEM_PROMPT])?;
        let reference = column(&config.reference_column, &[columns::REFERENCE])?;
        let split_column = column(&config.split_column, &[columns::SPLIT])?;
        let columns = Columns {
            prompt: table::required_column(config.prompt_column.as_deref(), defaults.0, first, place)?,
            completion: table::required_column(
                config.completion_column.as_deref(),
                defaults.1,
                first,
                place,
            )?,
            system_prompt: system_prompt.as_deref(),
            reference: reference.as_deref(),
        };
        rows.iter()
            .map(|row| {
                let mut item = self.item(row, &columns, place)?;
                item.asked = split_column.as_deref().and_then(|column| table::cell(row, column));
                Ok(item)
            })
            .collect()
    }

    fn item(&self, row: &Row, columns: &Columns<'_>, place: &Path) -> Result<Item> {
        let completion = table::filled(row, columns.completion, place)?;
        let completion = if self.config.strip_calculator_annotations {
            calculator_annotation().replace_all(completion, "").into_owned()
        } else {
            completion.to_owned()
        };
        let reference = match columns.reference {
            Some(column) => table::cell(row, column).and_then(|text| inputs::reference(&text)),
            None => nexa_core::answer::final_answer(&completion),
        };
        let system = columns.system_prompt.and_then(|column| table::cell(row, column));
        let turns = conversation_of(row, columns.prompt, place)?;
        let mut messages = conversation::after(system.as_deref().filter(|text| !text.is_empty()), turns);
        let prompt = conversation::text(conversation::without_system(&messages));
        messages.push(ChatMessage::new(Role::Assistant, completion));
        let id = table::cell(row, columns::ID)
            .ok_or_else(|| nexa_core::Error::malformed(place, "a row has no `id`"))?;
        Ok(Item {
            group: table::cell(row, columns::GROUP).unwrap_or_else(|| id.clone()),
            id,
            domain: table::cell(row, columns::DOMAIN),
            reference,
            messages,
            prompt,
            original: table::cell(row, columns::ORIGINAL_OUTPUT).filter(|text| !text.is_empty()),
            asked: None,
            tokens: None,
        })
    }

    /// Leaves out what is above the most rows of a split: those that the seed ranks last.
    fn capped(&self, items: &[Item], splits: &[Option<Split>]) -> Vec<Option<Split>> {
        let mut kept = splits.to_vec();
        for split in Split::ALL {
            let Some(max) = self.config.max_rows.of(split) else { continue };
            let mut rows: Vec<usize> = (0..items.len()).filter(|&row| splits[row] == Some(split)).collect();
            rows.sort_by_key(|&row| {
                (crate::draw::bits(self.config.seed, &["max_rows", &items[row].id]), row)
            });
            for &row in rows.iter().skip(max) {
                kept[row] = None;
            }
        }
        kept
    }
}

impl Packaged<'_> {
    fn write(&self, context: &Context<'_>) -> Result<()> {
        let Self { items, groups, kept, .. } = self;
        let mut all = Vec::new();
        let mut by_split: BTreeMap<Split, Vec<Row>> = Split::ALL.map(|split| (split, Vec::new())).into();
        for ((item, group), split) in items.iter().zip(*groups).zip(*kept) {
            let Some(split) = split else { continue };
            let mut row = Row::from_iter([
                (columns::ID.to_owned(), json!(item.id)),
                (columns::GROUP.to_owned(), json!(group)),
                (columns::DOMAIN.to_owned(), json!(item.domain)),
                (columns::MESSAGES.to_owned(), json!(item.messages)),
                (columns::REFERENCE.to_owned(), json!(item.reference)),
            ]);
            by_split.entry(*split).or_default().push(row.clone());
            row.insert(columns::SPLIT.to_owned(), json!(split.as_str()));
            all.push(row);
        }
        if by_split[&Split::Train].is_empty() {
            let message = "none was left to train on".to_owned();
            return Err(Error::NothingLeft { stage: STAGE, rows: items.len(), message });
        }
        for (split, rows) in &by_split {
            JsonLines.write(&context.output.join(format!("{}.jsonl", split.as_str())), rows)?;
        }
        context.services.tables.write(&context.output.join("parquet"), &all)?;
        context.set_rows(all.len() as u64);
        Ok(())
    }

    fn state(&self, context: &Context<'_>) -> Result<()> {
        let Self { items, groups, kept, leaked } = *self;
        let count = |split: Split| kept.iter().filter(|kept| **kept == Some(split)).count();
        let rows: BTreeMap<_, _> = Split::ALL.map(|split| (split.as_str(), count(split))).into();
        let held_out = [Split::Validation, Split::Test];
        for split in held_out.into_iter().filter(|split| count(*split) == 0) {
            context.emit(Event::warning(format!("the {} split is empty", split.as_str())));
        }
        if leaked > 0 {
            context.emit(Event::info(format!(
                "{leaked} rows were left out: their problem is in a split that is held out"
            )));
        }
        let used =
            || items.iter().zip(groups).zip(kept).filter(|(_, kept)| kept.is_some()).map(|(pair, _)| pair);
        let characters: usize =
            used().flat_map(|(item, _)| &item.messages).map(|message| message.content.chars().count()).sum();
        let different: std::collections::BTreeSet<_> = used().map(|(_, group)| group).collect();
        if let Some(tokens) = used().map(|(item, _)| Some(item.tokens?.total())).sum::<Option<usize>>() {
            context.set_tokens(tokens as u64);
        }
        context.state("rows", rows)?;
        context.state("groups", different.len())?;
        context.state("leaked", leaked)?;
        context.state("characters", characters)?;
        Ok(())
    }
}

impl Stage for Package {
    fn name(&self) -> &'static str {
        STAGE
    }

    fn kind(&self) -> Kind {
        Kind::SftDataset
    }

    fn code_version(&self) -> u32 {
        4
    }

    fn config(&self) -> Value {
        json!(self.config)
    }

    fn seed(&self) -> u64 {
        self.config.seed
    }

    fn run(&self, context: &Context<'_>) -> Result<(), StageError> {
        Ok(self.make(context)?)
    }
}

/// What a row's answer answers: the conversation that the teacher was asked with, where the row holds one, else the prompt.
fn conversation_of(row: &Row, prompt_column: &str, place: &Path) -> Result<Vec<ChatMessage>> {
    let turns = match prompt_column {
        columns::USER_PROMPT => {
            conversation::turns(row).map_err(|message| nexa_core::Error::malformed(place, message))?
        }
        _ => None,
    };
    Ok(match turns {
        Some(turns) => turns,
        None => vec![ChatMessage::new(Role::User, table::filled(row, prompt_column, place)?)],
    })
}

/// The input, with the columns of prompt and completion that its role suggests.
fn source<'a>(context: &'a Context<'_>) -> Result<(&'a Artifact, &'static str, &'static str)> {
    if let Some(filtered) = context.inputs.get("filtered") {
        return Ok((filtered, columns::USER_PROMPT, columns::TEACHER_OUTPUT));
    }
    Ok((context.inputs.require("dataset")?, "question", "answer"))
}

fn calculator_annotation() -> &'static Regex {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    PATTERN.get_or_init(|| Regex::new("<<[^<>]*>>").expect("the literal is a pattern"))
}
