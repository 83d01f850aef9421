//! Files of rows through tokenisation, cache and refusals.

use std::path::PathBuf;
use std::sync::Mutex;

use nexa_core::event::{Event, EventSink, NoEvents};
use nexa_core::lm::Tokenizer as _;
use nexa_core::table::JsonLines;
use nexa_model::{ChatTokenizer, TrainOnEos};
use serde_json::{Value, json};

use super::*;
use crate::{Config, Error};

/// A folder with a file of rows and a tokenizer.
struct Lab {
    folder: tempfile::TempDir,
    tokenizer: ChatTokenizer,
    config: Config,
}

impl Lab {
    fn new(rows: &[Value]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs_err::write(folder.path().join("train.jsonl"), text).expect("writes");
        let tokenizer = ChatTokenizer::train(&["What is two plus two? four"], 280).expect("trains");
        Self { folder, tokenizer, config: Config::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("train.jsonl")
    }

    fn open(&self, events: &dyn EventSink) -> Result<Samples, Error> {
        let (path, options) = (self.path(), self.config.data_options(&self.path().into()));
        let source =
            Source { path: &path, options: &options, tokenizer: &self.tokenizer, tables: &JsonLines };
        Samples::open(&source, &self.folder.path().join("cache"), events)
    }

    fn inspect(&self, row: usize) -> Result<Inspection, Error> {
        let (path, options) = (self.path(), self.config.data_options(&self.path().into()));
        let source =
            Source { path: &path, options: &options, tokenizer: &self.tokenizer, tables: &JsonLines };
        inspect(&source, row)
    }
}

#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl EventSink for Said {
    fn emit(&self, event: Event) {
        self.0.lock().expect("nothing panics").push(format!("{event:?}"));
    }
}

fn chat(question: &str, answer: &str) -> Value {
    json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
}

fn rows(count: usize) -> Vec<Value> {
    (0..count).map(|index| chat("two?", &"four ".repeat(index % 7 + 1))).collect()
}

#[test]
fn mapped_samples_are_those_of_the_rows() {
    let mut rows = rows(2500);
    rows[3]["id"] = json!("three");
    let lab = Lab::new(&rows);
    let mapped = lab.open(&NoEvents).expect("tokenises");
    assert_eq!(mapped.len(), 2500);
    for index in [0, 3, 1023, 1024, 2499] {
        let (found, row) = (mapped.get(index), lab.inspect(index + 1).expect("encodes"));
        let expected: Vec<(u32, bool)> =
            row.sequences[0].iter().map(|token| (token.id, token.trained)).collect();
        let found: Vec<(u32, bool)> = found.token_ids.iter().copied().zip(found.trained.iter()).collect();
        assert_eq!(found, expected[..found.len()], "row {index}");
        assert!(expected[found.len()..].iter().all(|(_, trained)| !trained), "only an untrained end is cut");
    }
    assert_eq!((mapped.id(3), mapped.id(4)), ("three", "train.jsonl:5"));
    assert_eq!(mapped.lengths().iter().sum::<usize>() as u64, mapped.report().tokens);
}

#[test]
fn the_cache_is_used_again_and_damage_is_mended() {
    let lab = Lab::new(&rows(40));
    let first = lab.open(&NoEvents).expect("tokenises");
    let path = first.path().to_owned();
    let bytes = fs_err::read(&path).expect("reads");
    drop(first);
    for damage in [0, 40, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[damage] ^= 1;
        // A mapped file must not change under its reader, so the damaged one is another file.
        fs_err::remove_file(&path).expect("removes");
        fs_err::write(&path, &damaged).expect("writes");
        let said = Said::default();
        lab.open(&said).expect("tokenises again");
        assert!(said.0.lock().expect("nothing panics")[0].contains("damaged"));
        assert_eq!(fs_err::read(&path).expect("reads"), bytes, "byte {damage}");
    }
    let said = Said::default();
    lab.open(&said).expect("opens");
    assert!(said.0.lock().expect("nothing panics").is_empty());
}

#[test]
fn whatever_decides_the_tokens_decides_the_file() {
    let mut lab = Lab::new(&rows(4));
    let mut paths = vec![lab.open(&NoEvents).expect("tokenises").path().to_owned()];
    let mut check = |lab: &Lab| {
        let path = lab.open(&NoEvents).expect("tokenises").path().to_owned();
        assert!(!paths.contains(&path));
        paths.push(path);
    };
    lab.config.train_on_inputs = true;
    check(&lab);
    lab.config.train_on_eos = TrainOnEos::Last;
    check(&lab);
    lab.config.sequence_len = Some(100);
    check(&lab);
    lab.tokenizer = ChatTokenizer::train(&["other words, another vocabulary"], 280).expect("trains");
    check(&lab);
    fs_err::write(lab.path(), format!("{}\n", chat("a", "b"))).expect("writes");
    check(&lab);
}

#[test]
fn long_samples_are_dropped_cut_or_refused() {
    let long = chat("two?", &"four ".repeat(40));
    let question = chat(&"two? ".repeat(40), "four");
    let lab = |strategy| {
        let mut lab = Lab::new(&[chat("two?", "four"), long.clone(), question.clone()]);
        lab.config.sequence_len = Some(60);
        lab.config.excess_length_strategy = strategy;
        lab
    };
    let report = lab(ExcessLength::Drop).open(&NoEvents).expect("tokenises").report().clone();
    assert_eq!((report.samples, report.too_long), (1, 2));

    let said = Said::default();
    let samples = lab(ExcessLength::Truncate).open(&said).expect("tokenises");
    let report = samples.report();
    assert_eq!(
        (report.samples, report.truncated, report.stop_cut_away, report.answer_cut_away),
        (2, 1, 1, 1)
    );
    assert_eq!(samples.get(1).token_ids.len(), 60);
    let said = said.0.lock().expect("nothing panics").join("\n");
    for words in ["1 lose their whole answer", "1 samples are cut", "1 of the cut samples lose"] {
        assert!(said.contains(words), "{said}");
    }

    let error = lab(ExcessLength::Raise).open(&NoEvents).expect_err("is refused").to_string();
    assert!(error.contains("train.jsonl:2:") && error.contains("more than `sequence_len` (60)"), "{error}");
}

#[test]
fn what_teaches_nothing_is_refused() {
    let check = |row: Value, change: &dyn Fn(&mut Lab), expected: &str| {
        let mut lab = Lab::new(&[row]);
        change(&mut lab);
        let error = lab.open(&NoEvents).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let question = json!({"messages": [{"role": "user", "content": "two?"}]});
    check(question, &|_| {}, "1 have no turn to be trained");
    check(json!({"a": 1, "b": 2}), &|_| {}, "train.jsonl:1: the columns fit no format (there are: a, b)");
    check(json!({"messages": 1}), &|_| {}, "train.jsonl:1: column `messages` is not a list");
    let template = |source: &'static str| {
        move |lab: &mut Lab| {
            let tokenizer = ChatTokenizer::train(&["two"], 280).expect("trains");
            lab.tokenizer = tokenizer.with_template(source).expect("compiles");
        }
    };
    let endless = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    check(chat("a", "b"), &template(endless), "would never learn to stop");
    let untrained = "{% for m in messages %}<|im_start|>{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>{% endfor %}";
    check(chat("a", "b"), &template(untrained), "set `train_on_eos: all`");
}

#[test]
fn preferences_share_their_prompt() {
    let lab = Lab::new(&[json!({"prompt": "two?", "chosen": "four", "rejected": "five"})]);
    let samples = lab.open(&NoEvents).expect("tokenises");
    assert_eq!(samples.len(), 1);
    let [better, worse] = samples.preference(0).expect("a pair");
    let start = better.trained.iter().position(|trained| trained).expect("is trained");
    assert_eq!(better.token_ids[..start], worse.token_ids[..start]);
    assert_ne!(better.token_ids[start..], worse.token_ids[start..]);
    assert!(Lab::new(&rows(1)).open(&NoEvents).expect("tokenises").preference(0).is_none());
}

#[test]
fn only_the_completion_of_two_lists_is_trained() {
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let lab = Lab::new(&[json!({
        "prompt": [turn("user", "a"), turn("assistant", "given"), turn("user", "b")],
        "completion": [turn("assistant", "four")],
    })]);
    let inspection = lab.inspect(1).expect("is read");
    let trained: String = inspection.sequences[0]
        .iter()
        .filter(|token| token.trained)
        .map(|token| token.text.as_str())
        .collect();
    assert_eq!(trained, "four<|im_end|>");
}

#[test]
fn an_inspection_shows_the_whole_text() {
    let lab = Lab::new(&[chat("two?", "four"), chat("żółć", "🦀 four")]);
    let inspection = lab.inspect(2).expect("is read");
    let text: String = inspection.sequences[0].iter().map(|token| token.text.as_str()).collect();
    assert_eq!(text, "<|im_start|>user\nżółć<|im_end|>\n<|im_start|>assistant\n🦀 four<|im_end|>");
    assert_eq!((inspection.line, inspection.id.as_str()), (2, "train.jsonl:2"));
    assert!(inspection.warnings.is_empty(), "{:?}", inspection.warnings);
    assert!(lab.inspect(3).expect_err("two rows").to_string().contains("fewer rows"));
}

#[test]
fn the_template_of_the_config_is_saved_with_the_tokenizer() {
    let lab = Lab::new(&rows(1));
    let folder = lab.folder.path();
    lab.tokenizer.save(folder).expect("saves");
    let template =
        "{{ strftime_now('%Y') }} {{ name }} {% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";
    let config: Config = serde_json::from_value(json!({
        "chat_template": template, "chat_template_kwargs": {"name": "n"}, "chat_template_date": "2025-01-02",
    }))
    .expect("a configuration");
    let tokenizer = load_tokenizer(&config, folder).expect("loads");
    let saved = folder.join("saved");
    fs_err::create_dir(&saved).expect("creates");
    tokenizer.save(&saved).expect("saves");
    let again = load_tokenizer(&Config::default(), &saved).expect("loads");
    assert_eq!(again.fingerprint().expect("hashes"), tokenizer.fingerprint().expect("hashes"));
    assert_ne!(again.fingerprint().expect("hashes"), lab.tokenizer.fingerprint().expect("hashes"));
}

/// A row whose answer a teacher spelled token by token, as servers return it, with two alternatives each.
fn told(tokenizer: &ChatTokenizer, answer: &str, change: impl Fn(&mut Vec<Value>)) -> Value {
    let ids = tokenizer.encode(answer).expect("encodes");
    let entry = |id: u32, logprob: f64| {
        let bytes = tokenizer.token_bytes(id).expect("a token");
        json!({"token": String::from_utf8_lossy(&bytes), "bytes": bytes, "logprob": logprob})
    };
    let mut content: Vec<Value> = ids
        .iter()
        .map(|&id| {
            let mut token = entry(id, -0.5);
            token["top_logprobs"] = json!([entry(id, -0.5), entry(if id == 40 { 41 } else { 40 }, -1.5)]);
            token
        })
        .collect();
    change(&mut content);
    let mut row = chat("two?", answer);
    row["logprobs"] = json!({"content": content});
    row
}

#[test]
fn what_a_teacher_spelled_lies_beside_the_tokens() {
    let mut lab = Lab::new(&[]);
    lab.config.objective = crate::Objective::Distill;
    let check = |row: Value, expected: Result<usize, &str>| {
        // The first row says that there is a teacher, and lets the file have a sample.
        let rows = [told(&lab.tokenizer, "four", |_| {}), row];
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let path = lab.path();
        let _ = fs_err::remove_file(&path);
        fs_err::write(&path, text).expect("writes");
        let samples = lab.open(&NoEvents).map_err(|error| error.to_string());
        match (samples, expected) {
            (Ok(samples), Ok(rows)) => {
                assert_eq!((samples.len(), samples.report().misaligned), (2, 0), "{:?}", samples.report());
                assert_eq!(samples.get(1).trained.iter().skip(1).filter(|&trained| trained).count(), rows);
                assert!(samples.is_taught() && samples.teacher(1).is_some());
                assert_eq!(samples.report().certain_ends, 2);
            }
            (Ok(samples), Err(reason)) => {
                let report = samples.report();
                assert_eq!((report.samples, report.misaligned), (1, 1));
                assert!(report.misalignments[0].starts_with("train.jsonl:2: "), "{report:?}");
                assert!(report.misalignments[0].contains(reason), "{report:?}");
                assert!(
                    report.warnings(64).join("\n").contains("1 have a teacher whose tokens"),
                    "{report:?}"
                );
                assert!(lab.inspect(2).expect("is read").warnings.join("\n").contains(reason));
            }
            (Err(error), Err(reason)) => assert!(error.contains(reason), "{error}"),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
    };
    let tokenizer = ChatTokenizer::train(&["What is two plus two? four"], 280).expect("trains");
    let answer = "four two?";
    let tokens = tokenizer.encode(answer).expect("encodes").len();
    let row = |change: &dyn Fn(&mut Vec<Value>)| told(&tokenizer, answer, change);
    // The end of the turn is a row of its own.
    check(row(&|_| {}), Ok(tokens + 1));
    check(row(&|content| content[0]["token"] = json!("")), Ok(tokens + 1));
    check(chat("two?", "four"), Err("holds nothing of its teacher"));
    check(row(&|content| drop(content.pop())), Err("is missing in the teacher's list"));
    check(
        row(&|content| content.extend_from_within(..3)),
        Err("for the teacher and \"<|im_end|>\" for the student"),
    );
    let end = || json!({"token": "<|im_end|>", "logprob": -0.1});
    check(row(&|content| content.extend([end(), end()])), Err("tokens and the student's"));
    check(
        row(&|content| {
            content[1]["bytes"] = json!([120, 121]);
            content[1]["top_logprobs"] = json!([]);
        }),
        Err("token 2 of the answer is \"xy\" for the teacher"),
    );
    check(
        row(&|content| content[0]["top_logprobs"][1]["bytes"] = json!([240, 159, 166, 128])),
        Err("has the alternative \"🦀\", which is no token of the student"),
    );
    check(
        row(&|content| content[0]["logprob"] = json!("x")),
        Err("train.jsonl:2: column `logprobs`: token 1: `logprob`"),
    );
    check(row(&|content| content[0]["top_logprobs"][1]["logprob"] = json!(-0.1)), Err("add up to 1.511"));
}

#[test]
fn what_a_teacher_gave_by_ids_lies_beside_the_tokens() {
    let mut lab = Lab::new(&[]);
    lab.config.objective = crate::Objective::Distill;
    let trained = lab.tokenizer.encode("four").expect("encodes").len() + 1;
    let check = |ids: Value, log_probs: Value, expected: Result<(), &str>| {
        let mut row = chat("two?", "four");
        (row["teacher_token_ids"], row["teacher_log_probs"]) = (ids, log_probs);
        let path = lab.path();
        let _ = fs_err::remove_file(&path);
        fs_err::write(&path, format!("{row}\n")).expect("writes");
        match (lab.open(&NoEvents), expected) {
            (Ok(samples), Ok(())) => assert!(samples.is_taught()),
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{error}"),
            (found, _) => panic!("{:?}", found.map(|samples| samples.report().clone())),
        }
    };
    let lists = |count: usize, list: Value| Value::Array(vec![list; count]);
    let fit = (lists(trained, json!([1, 2])), lists(trained, json!([-0.2, -3.0])));
    check(fit.0.clone(), fit.1.clone(), Ok(()));
    check(json!(fit.0.to_string()), json!(fit.1.to_string()), Ok(()));
    let (fewer, numbers) = (lists(1, json!([1, 2])), lists(1, json!([-0.2, -3.0])));
    check(fewer, numbers, Err("speaks of 1 tokens, and "));
    check(lists(trained, json!([1, 280])), fit.1.clone(), Err("token 280 is outside a vocabulary of 280"));
    check(lists(trained, json!([1, 1])), fit.1.clone(), Err("id 1 is listed twice"));
    check(fit.0.clone(), lists(trained, json!([-0.2])), Err("2 ids and 1 numbers"));
    check(fit.0.clone(), Value::Null, Err("column `teacher_log_probs` is missing"));
    check(fit.0, lists(trained, json!([0.5, -3.0])), Err("0.5 is no log-probability"));
}

#[test]
fn long_texts_are_divided_and_every_token_is_trained_but_the_first_of_a_piece() {
    let texts: Vec<String> = (1..90).map(|words| "four ".repeat(words)).collect();
    let rows: Vec<Value> = texts.iter().map(|text| json!({ "text": text })).collect();
    let mut lab = Lab::new(&rows);
    (lab.config.objective, lab.config.sequence_len) = (crate::Objective::Pretrain, Some(16));
    let said = Said::default();
    let samples = lab.open(&said).expect("tokenises");
    let expected: Vec<Vec<u32>> =
        texts.iter().map(|text| lab.tokenizer.encode_document(text).expect("encodes")).collect();
    let pieces: Vec<SampleRef<'_>> = (0..samples.len()).map(|index| samples.get(index)).collect();
    let together = pieces.iter().flat_map(|piece| piece.token_ids).copied().collect::<Vec<u32>>();
    assert_eq!(together, expected.concat(), "no token is lost, and none is there twice");
    assert!(pieces.iter().all(|piece| (2..=16).contains(&piece.token_ids.len())));
    assert!(pieces.iter().all(|piece| piece.trained.iter().all(|trained| trained)));
    let report = samples.report();
    let long = expected.iter().filter(|text| text.len() > 16).count() as u64;
    assert_eq!((report.rows, report.divided, report.too_long), (89, long, 0));
    assert_eq!(report.tokens as usize, expected.concat().len());
    assert!(said.0.lock().expect("nothing panics").join("").contains("pieces"));
    assert_eq!(samples.id(0), "train.jsonl:1");
    assert!(
        samples.id(samples.len() - 1).starts_with("train.jsonl:89["),
        "{}",
        samples.id(samples.len() - 1)
    );

    let mut conversations = Lab::new(&[chat("two?", "four")]);
    conversations.config.objective = crate::Objective::Pretrain;
    let error = conversations.open(&NoEvents).expect_err("no text").to_string();
    assert!(error.contains("`objective` is `pretrain`, which learns plain text"), "{error}");
}

#[test]
fn samples_in_several_files_are_seen_as_one() {
    let check = |rows: &[Value]| {
        let lab = Lab::new(rows);
        let (path, options) = (lab.path(), lab.config.data_options(&lab.path().into()));
        let source = Source { path: &path, options: &options, tokenizer: &lab.tokenizer, tables: &JsonLines };
        let whole = lab.open(&NoEvents).expect("opens");
        let (cache, named) = (lab.folder.path().join("cache"), whole.path().to_owned());
        let files = || fs_err::read_dir(&cache).expect("lists").count();
        assert_eq!(files(), 1);
        let seen = |samples: &Samples| -> Vec<(String, Vec<u32>, Vec<bool>)> {
            let of = |index| {
                let sample = samples.get(index);
                (samples.id(index).to_owned(), sample.token_ids.to_vec(), sample.trained.to_vec())
            };
            (0..samples.len()).map(of).collect()
        };
        let (expected, lengths) = (seen(&whole), whole.lengths());
        drop(whole);
        Samples::write(&source, &cache, &named, 40).expect("writes");
        let shards = files();
        assert!(shards > 2, "{shards} files");
        let open = || lab.open(&NoEvents).expect("opens");
        let several = open();
        assert_eq!((seen(&several), several.lengths()), (expected.clone(), lengths));
        drop(several);
        // Without one of them nothing is whole, and all is tokenised again.
        fs_err::remove_file(named.with_extension("2.tokens")).expect("removes");
        assert_eq!(seen(&open()), expected);
    };
    let question = |index: usize| format!("What is two plus {index}?");
    let chats: Vec<Value> = (0..20).map(|index| chat(&question(index), "four")).collect();
    check(&chats);
    let preference = |index| {
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        let answered = |answer: &str| json!([turn("user", &question(index)), turn("assistant", answer)]);
        json!({"id": format!("p{index}"), "chosen": answered("four"), "rejected": answered("two")})
    };
    check(&(0..20).map(preference).collect::<Vec<_>>());
}

#[test]
fn tokens_are_counted_as_training_sees_them_and_nothing_is_left_out() {
    let mut lab = Lab::new(&[chat("What?", "four"), chat(&"What is two plus two? ".repeat(20), "four")]);
    lab.config.sequence_len = Some(40);
    let (path, options) = (lab.path(), lab.config.data_options(&lab.path().into()));
    let source = Source { path: &path, options: &options, tokenizer: &lab.tokenizer, tables: &JsonLines };
    let counts = count_tokens(&source).expect("counts");
    let samples = lab.open(&NoEvents).expect("opens");
    assert_eq!((counts.len(), samples.len()), (2, 1));
    let sample = samples.get(0);
    let trained = sample.trained.iter().filter(|trained| *trained).count() as u64;
    assert_eq!(counts[0], SequenceTokens { tokens: sample.token_ids.len() as u64, trained });
    assert!(counts[1].tokens > 40 && counts[1].trained == trained, "{counts:?}");
}
