//! What calls cost: each is paid once and counted once, whatever breaks, and none that the ceiling forbids is made.

use nexa_core::cost::{Charge, Entry, Ledger};
use nexa_core::{ExitCode, files};
use nexa_distill::collect::{Collect, Config};

use crate::server::{Reply, Server, bad, broken_off, good, nothing};
use crate::support::{TestLab, collect, numbered};

const PRICES: &str =
    "prices: {models: {m: {input_usd_per_million: 0.0, output_usd_per_million: 1000000.0}}}\n";

#[test]
fn a_ceiling_stops_before_it_is_passed_and_nothing_is_lost() {
    // An answer costs 2 dollars, and could cost 5.
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::with(PRICES, &[]);
    let inputs = lab.put_prompts(&numbered(10));
    let stage = |max_cost_usd| {
        collect(&server.teacher("m"), |config| {
            config.max_tokens = 5;
            config.max_cost_usd = max_cost_usd;
        })
    };
    let error = lab.execute(&stage(Some(11.0)), "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Budget);
    assert!(error.hint().unwrap().contains("max_cost_usd"));
    // After four answers 8 are spent, and a fifth might pass 11.
    assert_eq!(server.calls().len(), 4, "{error}");
    let error = lab.execute(&stage(Some(12.0)), "answers", &inputs).unwrap_err();
    assert_eq!((error.exit_code(), server.calls().len()), (ExitCode::Budget, 4), "earlier attempts count");
    let made = lab.execute(&stage(None), "answers", &inputs).unwrap();
    assert_eq!(server.calls().len(), 10);
    assert_eq!(made.manifest.spend.usd, 20.0);
}

#[test]
fn a_ceiling_needs_a_price() {
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::with(PRICES, &[]);
    let inputs = lab.put_prompts(&numbered(2));
    let stage = collect(&server.teacher("unpriced"), |config| config.max_cost_usd = Some(1.0));
    let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config);
    assert!(error.to_string().contains("unpriced") && server.calls().is_empty(), "{error}");
}

#[test]
fn what_has_no_price_is_unknown() {
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(2));
    let made = lab.execute(&collect(&server.teacher("m"), |_| {}), "answers", &inputs).unwrap();
    assert!(made.manifest.spend.unknown.contains(&"tokens of m".to_owned()), "{:?}", made.manifest.spend);
}

#[test]
fn the_embedded_teacher_costs_a_known_nothing() {
    let lab = TestLab::with("budget: {max_usd_per_run: 0.0}\n", &[]);
    let inputs = lab.put_prompts(&numbered(20));
    let made = lab.execute(&collect("embedded", |_| {}), "answers", &inputs).unwrap();
    let spend = &made.manifest.spend;
    assert_eq!((spend.usd, spend.requests), (0.0, 20));
    assert!(!spend.unknown.iter().any(|what| what.starts_with("tokens")), "{spend:?}");
}

/// A stage whose answers cost 2 dollars as [`good`] gives them, and could cost 5.
fn dear(server: &Server, change: impl FnOnce(&mut Config)) -> Collect {
    collect(&server.teacher("m"), |config| {
        config.max_tokens = 5;
        change(config);
    })
}

/// The entry of an answer of [`good`] with two tokens.
fn two_dollars() -> Entry {
    Entry::Tokens {
        model: "m".to_owned(),
        requests: 1,
        prompt_tokens: 2,
        completion_tokens: 2,
        usd: Some(2.0),
    }
}

/// No answer, but tokens worth 3 dollars.
fn used(status: u16) -> Reply {
    let usage = serde_json::json!({"prompt_tokens": 1, "completion_tokens": 3});
    (status, Vec::new(), serde_json::json!({"choices": [], "usage": usage}))
}

#[test]
fn a_call_that_failed_is_charged_as_far_as_it_may_have_been_billed() {
    // The first call fails in some way, the next is answered.
    let check = |fails: fn() -> Reply, (known_usd, at_most_usd): (f64, f64)| {
        let server = Server::start(move |call| if call.before == 0 { fails() } else { good("yes", 2) });
        let lab = TestLab::with(PRICES, &[]);
        let inputs = lab.put_prompts(&numbered(1));
        let stage = |max_cost_usd| {
            dear(&server, |config| {
                config.timeout_s = 1;
                config.max_cost_usd = max_cost_usd;
            })
        };
        // There is room for one call; what the first may have cost leaves none for another.
        let ended = lab.execute(&stage(Some(5.0)), "answers", &inputs).map_err(|error| error.exit_code());
        if known_usd + at_most_usd > 0.0 {
            assert_eq!((ended.unwrap_err(), server.calls().len()), (ExitCode::Budget, 1));
        }
        let made = lab.execute(&stage(None), "answers", &inputs).unwrap();
        let spend = &made.manifest.spend;
        assert_eq!((spend.usd, spend.requests, server.calls().len()), (2.0 + known_usd, 1, 2));
        assert_eq!(spend.unknown.contains(&"tokens of m".to_owned()), at_most_usd > 0.0, "{spend:?}");
        let charges: Vec<Charge> = files::read_lines(&lab.run_folder(&made).join("ledger.jsonl")).unwrap();
        assert_eq!(charges.iter().filter_map(|charge| charge.at_most_usd).sum::<f64>(), at_most_usd);
    };
    let malformed = || (200, Vec::new(), serde_json::json!({"choices": []}));
    check(nothing, (0.0, 5.0));
    check(|| broken_off(200), (0.0, 5.0));
    check(malformed, (0.0, 5.0));
    check(|| used(200), (3.0, 0.0));
    check(|| used(503), (3.0, 0.0));
    check(|| bad(503, "try again"), (0.0, 0.0));
    check(|| broken_off(503), (0.0, 0.0));
    check(|| (429, vec![("retry-after", "0".to_owned())], serde_json::json!({})), (0.0, 0.0));
}

#[test]
fn a_refused_connection_costs_nothing() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lab = TestLab::with(PRICES, &[]);
    let inputs = lab.put_prompts(&numbered(1));
    let stage = collect(&format!("http://127.0.0.1:{port}/v1#m"), |config| {
        config.max_tokens = 5;
        config.max_cost_usd = Some(5.0);
        config.max_retries = 1;
    });
    let error = lab.execute(&stage, "answers", &inputs).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unavailable, "{error}");
}

#[test]
fn calls_under_way_when_a_run_is_killed_count_against_its_ceiling() {
    // One call is answered; the three beside it are not, in the first attempt.
    let server = Server::start(|call| match (call.prompt.as_str(), call.before) {
        ("question 001" | "question 002" | "question 003", 0) => nothing(),
        (prompt, _) => good(prompt, 2),
    });
    let lab = TestLab::with(PRICES, &[]);
    let inputs = lab.put_prompts(&numbered(10));
    lab.die(&dear(&server, |_| {}), &inputs, 1);
    let sent = server.calls().len();
    // 2 are spent and 15 assumed: a call of 5 is allowed from 22 on. The second try finds what the first entered.
    for _ in 0..2 {
        let tight = dear(&server, |config| config.max_cost_usd = Some(21.0));
        let error = lab.execute(&tight, "answers", &inputs).unwrap_err();
        assert_eq!((error.exit_code(), server.calls().len()), (ExitCode::Budget, sent), "{error}");
        assert!(error.to_string().contains("$2.0000 are spent, up to $15.0000 more"), "{error}");
    }
    let made = lab.execute(&dear(&server, |_| {}), "answers", &inputs).unwrap();
    let spend = &made.manifest.spend;
    assert_eq!((spend.usd, spend.requests, server.calls().len()), (20.0, 10, sent + 9));
    assert!(spend.unknown.contains(&"tokens of m".to_owned()), "{spend:?}");
}

#[test]
fn an_answer_whose_charge_a_crash_prevented_is_charged_once() {
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::with(PRICES, &[]);
    let inputs = lab.put_prompts(&numbered(6));
    // Another run pays for two of the answers; the log holds them as well.
    lab.execute(&dear(&server, |config| config.limit = Some(2)), "some", &inputs).unwrap();
    let one_by_one = |max_cost_usd| {
        dear(&server, |config| {
            config.max_concurrent_requests = 1;
            config.max_cost_usd = max_cost_usd;
        })
    };
    lab.die(&one_by_one(None), &inputs, 4);
    // Both answers are there, and the charge of the first alone.
    let run = lab.open_run_folder(&one_by_one(None), &inputs);
    assert_eq!(Ledger::charges(&run).unwrap(), [], "bills are entered from time to time");
    let first = Charge { entry: two_dollars(), calls: vec![1], at_most_usd: None, at_most_tokens: None };
    Ledger::open(&run).unwrap().charge(&first).unwrap();
    for _ in 0..2 {
        let error = lab.execute(&one_by_one(Some(8.0)), "answers", &inputs).unwrap_err();
        assert!(error.to_string().contains("$4.0000 are spent"), "{error}");
    }
    let made = lab.execute(&one_by_one(None), "answers", &inputs).unwrap();
    assert_eq!(server.calls().len(), 6, "nothing is asked twice");
    assert_eq!((made.manifest.spend.usd, made.manifest.spend.requests), (8.0, 4));
}

#[test]
fn a_ledger_and_a_log_of_an_earlier_version_are_read() {
    let server = Server::start(|call| good(&call.prompt, 2));
    let lab = TestLab::with(PRICES, &[]);
    let inputs = lab.put_prompts(&numbered(4));
    let stage = dear(&server, |config| config.max_concurrent_requests = 1);
    lab.die(&stage, &inputs, 2);
    let run = lab.open_run_folder(&stage, &inputs);
    std::fs::remove_file(run.join("calls.jsonl")).unwrap();
    let mut ledger = Ledger::open(&run).unwrap();
    (0..2).for_each(|_| ledger.append(&two_dollars()).unwrap());
    let responses = lab.lab.state_folder().join("cache/responses");
    for file in files::walk(&responses).unwrap() {
        let path = responses.join(file);
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = files::read_lines(&path).unwrap();
        let lines = rows.into_iter().map(|mut row| {
            for key in ["run", "call", "usd", "at_most_usd"] {
                row.remove(key).unwrap();
            }
            serde_json::to_string(&row).unwrap() + "\n"
        });
        std::fs::write(&path, lines.collect::<String>()).unwrap();
    }
    let made = lab.execute(&stage, "answers", &inputs).unwrap();
    assert_eq!((server.calls().len(), made.manifest.spend.usd), (4, 8.0));
}
