//! `nexa inference` over real weights: the same tokens however they are computed, and an end that loses no answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PACKAGED, Shell, small_pipeline};

/// Long enough for any machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The memory of 26 pages of 16 tokens: 2 layers, 2 heads of keys and of values, each of 32 numbers in single precision.
/// The longest request takes 21 of them.
const TIGHT: &str = "416KiB";

/// A lab with a model of random weights. It is wide enough that the attention of later tokens is split among threads, as it
/// is in models that people serve.
fn lab() -> Shell {
    let shell = Shell::in_lab();
    let model = "  tokenizer: {uses: tokenizer.train, in: {sft_dataset: sft}, with: {vocab_size: 300}}
  untrained:
    uses: train.init
    in: {tokenizer: tokenizer}
    with:
      sequence_len: 512
      model:
        {hidden_size: 128, intermediate_size: 256, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2}
";
    shell.write("small.yaml", &small_pipeline(&format!("{PACKAGED}{model}")));
    let ran = shell.run(&["run", "small.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    shell
}

/// `nexa inference` in a process of its own, which ends with this.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server on a free port of this machine, and waits until it answers.
    fn start(shell: &Shell, model: &str, more: &[&str]) -> Self {
        let arguments = [&["inference", model, "--port", "0"][..], more].concat();
        let mut command = shell.command(&arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = Self { child: command.spawn().unwrap(), address: String::new() };
        let stderr = BufReader::new(server.child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Nobody listens once the server has said where it is; it is read on so that it can write.
                let _ = sender.send(line);
            }
        });
        let mut told = Vec::new();
        while server.address.is_empty() {
            let Ok(line) = lines.recv_timeout(PATIENCE) else { panic!("{arguments:?}: {told:?}") };
            if let Some((_, address)) = line.split_once(" on http://") {
                server.address = address.split_whitespace().next().unwrap().to_owned();
            }
            told.push(line);
        }
        server
    }

    /// Sends a request. In HTTP/1.0 a reply ends where the connection does, streamed or not.
    fn send(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (host, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// The only choices of a completion, with their tokens and probabilities.
    fn choices(&self, request: &Value) -> Value {
        let reply = read(self.send("POST", "/v1/completions", &request.to_string()));
        assert!(reply.head.contains(" 200 "), "{request}: {}", reply.body);
        let mut body: Value = serde_json::from_str(&reply.body).unwrap();
        body["choices"].take()
    }

    /// What is answered to some requests, one after the other.
    fn one_by_one(&self, requests: &[Value]) -> Vec<Value> {
        requests.iter().map(|request| self.choices(request)).collect()
    }

    /// What is answered to some requests at the same time.
    fn together(&self, requests: &[Value]) -> Vec<Value> {
        let start = &Barrier::new(requests.len());
        thread::scope(|scope| {
            let ask = |request| {
                scope.spawn(move || {
                    start.wait();
                    self.choices(request)
                })
            };
            let asked: Vec<_> = requests.iter().map(ask).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        })
    }

    /// The sum of a metric over its labels.
    fn metric(&self, name: &str) -> u64 {
        let page = read(self.send("GET", "/metrics", "")).body;
        let values = page.lines().filter(|line| line.starts_with(&format!("nexa_{name}{{")));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Asks the process to end, as service managers do.
    fn terminate(&self) {
        let id = self.child.id().to_string();
        let status = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process.
    fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What came back.
struct Reply {
    head: String,
    body: String,
}

fn read(mut reader: BufReader<TcpStream>) -> Reply {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Reply { head: head.to_owned(), body: body.to_owned() }
}

/// Token ids that every vocabulary of bytes has.
fn ids(count: usize, seed: usize) -> Vec<usize> {
    (0..count).map(|at| 10 + (at * at * 7 + at * seed + seed) % 200).collect()
}

/// Prompts of several lengths, of which the last four begin alike.
fn prompts() -> Vec<Vec<usize>> {
    let alone = [5, 17, 40, 270].into_iter().enumerate().map(|(seed, count)| ids(count, seed));
    let alike =
        [2, 9, 20, 31].into_iter().enumerate().map(|(seed, count)| [ids(48, 99), ids(count, seed)].concat());
    alone.chain(alike).collect()
}

/// A greedy or a seeded request for each prompt, and one for all of them.
fn requests() -> Vec<Value> {
    let request = |prompt: Value, n: usize| {
        json!({
            "prompt": prompt,
            "max_tokens": 40 + 5 * n,
            "temperature": n % 2,
            "seed": n,
            "logprobs": 1,
            "ignore_eos": true,
        })
    };
    let each = prompts().into_iter().enumerate().map(|(n, prompt)| request(json!(prompt), n));
    each.chain([request(json!(prompts()), 3)]).collect()
}

#[test]
fn tokens_and_probabilities_are_the_same_however_they_are_computed() {
    let shell = lab();
    let requests = requests();
    let cut: &[&str] = &["--no-prefix-cache", "--prefill-chunk", "16"];
    let few: &[&str] = &["--prefill-chunk", "32", "--max-batch", "3"];
    let guessing: &[&str] = &["--speculate", "4"];
    let tight: &[&str] = &["--kv-cache", TIGHT];
    let all: &[&str] = &["--prefill-chunk", "7", "--speculate", "4", "--kv-cache", TIGHT];
    let formats: [(&[&str], &[&[&str]]); 4] = [
        (&[], &[cut, few, guessing, tight]),
        (&["--quantize", "q8_0"], &[cut, all]),
        (&["--quantize", "q4_0"], &[cut, all]),
        (&["--kv-cache-type", "f16"], &[cut, guessing]),
    ];
    let mut of_formats: Vec<Vec<Value>> = Vec::new();
    for (format, others) in formats {
        let server = Server::start(&shell, "untrained", format);
        let expected = server.one_by_one(&requests);
        // What is asked again is in the prefix cache.
        assert_eq!(server.together(&requests), expected, "{format:?}: together");
        assert!(server.metric("prefix_cache_hits_total") > 0, "{format:?}");
        for name in ["spec_decode_num_draft_tokens_total", "num_preemptions_total"] {
            assert_eq!(server.metric(name), 0, "{format:?}: {name}");
        }
        for other in others {
            let server = Server::start(&shell, "untrained", &[format, *other].concat());
            assert_eq!(server.one_by_one(&requests), expected, "{format:?} {other:?}");
            assert_eq!(server.together(&requests), expected, "{format:?} {other:?}: together");
            let happened = |name: &str, option: &str| {
                assert_eq!(server.metric(name) > 0, other.contains(&option), "{format:?} {other:?}: {name}");
            };
            happened("spec_decode_num_draft_tokens_total", "--speculate");
            happened("num_preemptions_total", "--kv-cache");
            for gauge in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
                assert_eq!(server.metric(gauge), 0, "{format:?} {other:?}: {gauge}");
            }
        }
        of_formats.push(expected);
    }
    for (at, one) in of_formats.iter().enumerate() {
        assert!(of_formats[..at].iter().all(|other| other != one), "two formats round alike");
    }
}

#[test]
fn a_tagged_version_answers_what_the_readme_asks() {
    let shell = lab();
    let ran = shell.run(&["data", "tag", "untrained@v1", "prod"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let server = Server::start(&shell, "untrained:prod", &[]);

    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let mut lines = readme.lines().map(str::trim);
    let line = lines.find(|line| line.starts_with("curl -s localhost:8000/infer ")).unwrap();
    let [_, header, _, body, _] = line.split('\'').collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert_eq!(header, "content-type: application/json");
    let reply = read(server.send("POST", "/infer", body));
    assert!(reply.head.contains(" 200 "), "{}", reply.body);
    assert!(reply.head.contains("x-nexa-manifest: tutor/untrained_v1"), "{}", reply.head);
    let reply: Value = serde_json::from_str(&reply.body).unwrap();
    assert!(reply["text"].is_string(), "{reply}");
    assert!((1..=96).contains(&reply["tokens"].as_u64().unwrap()), "{reply}");
    assert_eq!(reply["model_id"], "tutor/untrained_v1");
}

#[cfg(unix)]
#[test]
fn a_server_that_is_terminated_finishes_what_it_has_begun() {
    let shell = lab();
    let mut server = Server::start(&shell, "untrained", &[]);
    let request = |stream: bool| {
        json!({
            "prompt": ids(20, 3),
            "max_tokens": 480,
            "temperature": 1,
            "seed": 5,
            "ignore_eos": true,
            "stream": stream,
        })
    };
    let expected = server.choices(&request(false))[0]["text"].as_str().unwrap().to_owned();
    let send = |stream: bool| server.send("POST", "/v1/completions", &request(stream).to_string());
    let whole: Vec<_> = (0..4).map(|_| send(false)).collect();
    let streams: Vec<_> = (0..12).map(|_| send(true)).collect();
    // Until the server has taken all of them.
    let taken = || {
        let [running, waiting, ended] =
            ["num_requests_running", "num_requests_waiting", "request_success_total"]
                .map(|name| server.metric(name));
        assert!(ended < 17, "they are over before anybody asks for the end");
        running + waiting + ended
    };
    while taken() < 17 {}
    server.terminate();
    for reply in whole {
        let reply = read(reply);
        assert!(reply.head.contains(" 200 "), "{}", reply.body);
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body["choices"][0]["text"], expected.as_str());
    }
    for reply in streams {
        let reply = read(reply);
        assert!(reply.head.contains(" 200 "), "{}", reply.body);
        let data: Vec<&str> = reply.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let (last, chunks) = data.split_last().unwrap();
        assert_eq!(*last, "[DONE]");
        let text = |chunk: &&str| {
            let chunk: Value = serde_json::from_str(chunk).unwrap();
            chunk["choices"][0]["text"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(chunks.iter().map(text).collect::<String>(), expected);
    }
    assert_eq!(server.ended().code(), Some(0));
}
