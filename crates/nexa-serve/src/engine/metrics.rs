//! What the engine counts, in the Prometheus text format.
//!
//! The names are those of vLLM with the prefix `nexa_`, so that its Grafana boards need only the prefix changed.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nexa_core::lm::{CacheUse, FinishReason};

use super::Usage;

/// Upper bounds of the buckets for the time to the first token, in seconds.
const FIRST_TOKEN_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of the buckets for the time between two tokens, in seconds.
const NEXT_TOKEN_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Upper bounds of the buckets for times of whole requests, in seconds.
const REQUEST_SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Upper bounds of the buckets for tokens of requests.
const REQUEST_TOKENS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];

/// Upper bounds of the buckets for tokens of one step.
const STEP_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0];

/// When things happened to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) arrived: Instant,
    /// Got memory for the first time.
    pub(super) scheduled: Option<Instant>,
    pub(super) first_token: Option<Instant>,
    pub(super) last_token: Option<Instant>,
}

impl Times {
    pub(super) fn new(arrived: Instant) -> Self {
        Self { arrived, scheduled: None, first_token: None, last_token: None }
    }

    /// Notes that there is memory for it now; only the first time counts.
    pub(super) fn scheduled(&mut self, metrics: &Metrics) {
        if self.scheduled.is_none() {
            let now = Instant::now();
            self.scheduled = Some(now);
            metrics.queue_time.observe(now - self.arrived);
        }
    }
}

/// How a request left the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    /// With an answer.
    Reason(FinishReason),
    /// The caller went away, or the engine was stopped.
    Abort,
    /// The model failed.
    Error,
}

impl Finished {
    const LABELS: [&str; 5] = ["stop", "length", "content_filter", "abort", "error"];

    fn position(self) -> usize {
        match self {
            Self::Reason(FinishReason::Stop) => 0,
            Self::Reason(FinishReason::Length) => 1,
            Self::Reason(FinishReason::ContentFilter) => 2,
            Self::Abort => 3,
            Self::Error => 4,
        }
    }
}

/// Counters and histograms since the start.
#[derive(Debug)]
pub(super) struct Metrics {
    prompt_tokens: AtomicU64,
    generation_tokens: AtomicU64,
    finished: [AtomicU64; Finished::LABELS.len()],
    first_token: Histogram,
    next_token: Histogram,
    queue_time: Histogram,
    prefill_time: Histogram,
    decode_time: Histogram,
    inference_time: Histogram,
    latency: Histogram,
    step_tokens: Histogram,
    request_prompt_tokens: Histogram,
    request_generation_tokens: Histogram,
    preemptions: AtomicU64,
    guesses: AtomicU64,
    right_guesses: AtomicU64,
    forced: AtomicU64,
    cache: Mutex<CacheUse>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            prompt_tokens: AtomicU64::new(0),
            generation_tokens: AtomicU64::new(0),
            finished: Default::default(),
            first_token: Histogram::new(FIRST_TOKEN_SECONDS),
            next_token: Histogram::new(NEXT_TOKEN_SECONDS),
            queue_time: Histogram::new(REQUEST_SECONDS),
            prefill_time: Histogram::new(REQUEST_SECONDS),
            decode_time: Histogram::new(REQUEST_SECONDS),
            inference_time: Histogram::new(REQUEST_SECONDS),
            step_tokens: Histogram::new(STEP_TOKENS),
            latency: Histogram::new(REQUEST_SECONDS),
            request_prompt_tokens: Histogram::new(REQUEST_TOKENS),
            request_generation_tokens: Histogram::new(REQUEST_TOKENS),
            preemptions: AtomicU64::new(0),
            guesses: AtomicU64::new(0),
            right_guesses: AtomicU64::new(0),
            forced: AtomicU64::new(0),
            cache: Mutex::default(),
        }
    }

    /// The first token of a request was chosen, `after` its arrival.
    pub(super) fn first_token(&self, usage: Usage, after: Duration) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens as u64, Ordering::Relaxed);
        self.generation_tokens.fetch_add(1, Ordering::Relaxed);
        self.first_token.observe(after);
    }

    /// A further token of a request was chosen, `after` the one before.
    pub(super) fn next_token(&self, after: Duration) {
        self.generation_tokens.fetch_add(1, Ordering::Relaxed);
        self.next_token.observe(after);
    }

    /// A text was embedded: all of it was read, and no token chosen.
    pub(super) fn embedded(&self, usage: Usage) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens as u64, Ordering::Relaxed);
    }

    /// A step fed so many tokens.
    pub(super) fn fed(&self, tokens: usize) {
        self.step_tokens.observe_number(tokens as f64);
    }

    /// A request has left the engine.
    pub(super) fn finished(&self, how: Finished, usage: Usage, times: Times) {
        self.finished[how.position()].fetch_add(1, Ordering::Relaxed);
        if matches!(how, Finished::Reason(_)) {
            self.latency.observe(times.arrived.elapsed());
            let observe = |histogram: &Histogram, from: Option<Instant>, to: Option<Instant>| {
                if let (Some(from), Some(to)) = (from, to) {
                    histogram.observe(to - from);
                }
            };
            let Times { scheduled, first_token, last_token, .. } = times;
            observe(&self.prefill_time, scheduled, first_token);
            observe(&self.decode_time, first_token, last_token);
            observe(&self.inference_time, scheduled, last_token);
            self.request_prompt_tokens.observe_number(usage.prompt_tokens as f64);
            self.request_generation_tokens.observe_number(usage.completion_tokens as f64);
        }
    }

    /// A sequence had to give up its memory.
    pub(super) fn preempted(&self) {
        self.preemptions.fetch_add(1, Ordering::Relaxed);
    }

    /// Of some guesses, so many were right.
    pub(super) fn guessed(&self, guesses: usize, right: usize) {
        self.guesses.fetch_add(guesses as u64, Ordering::Relaxed);
        self.right_guesses.fetch_add(right as u64, Ordering::Relaxed);
    }

    /// So many tokens, which the form of an answer demands, were read together with the one before them.
    pub(super) fn forced(&self, tokens: usize) {
        self.forced.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// The memory of the model after a step.
    pub(super) fn stepped(&self, cache: CacheUse) {
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = cache;
    }

    /// The tokens of all requests so far.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens.load(Ordering::Relaxed) as usize,
            completion_tokens: self.generation_tokens.load(Ordering::Relaxed) as usize,
            cached_tokens: 0,
        }
    }

    /// Writes everything, with the two gauges that the queue knows.
    pub(super) fn render(&self, model: &str, running: usize, waiting: usize) -> String {
        let label = format!("model_name=\"{}\"", escaped(model));
        let mut page = Page { text: String::new(), label };
        page.plain("num_requests_running", "gauge", "Requests that are worked on.", running as u64);
        let help = "Requests in the queue, and those that wait for memory.";
        page.plain("num_requests_waiting", "gauge", help, waiting as u64);
        let cache = *self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        page.head("kv_cache_usage_perc", "gauge", "Share of the pages of keys and values that are held.");
        page.line("kv_cache_usage_perc", "", cache.held as f64 / cache.pages.max(1) as f64);
        let help = "Prompt tokens that were looked for among those seen before.";
        page.plain("prefix_cache_queries_total", "counter", help, cache.asked_tokens);
        page.plain("prefix_cache_hits_total", "counter", "Those that were found.", cache.found_tokens);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let help = "Sequences that had to give up their memory.";
        page.plain("num_preemptions_total", "counter", help, load(&self.preemptions));
        let name = "spec_decode_num_draft_tokens_total";
        page.plain(name, "counter", "Tokens that were guessed.", load(&self.guesses));
        let name = "spec_decode_num_accepted_tokens_total";
        page.plain(name, "counter", "Guesses that were right.", load(&self.right_guesses));
        let help =
            "Tokens that the form of an answer demanded and that were read without being chosen one by one.";
        page.plain("forced_tokens_total", "counter", help, load(&self.forced));
        let usage = self.usage();
        page.plain("prompt_tokens_total", "counter", "Prompt tokens read.", usage.prompt_tokens as u64);
        page.plain("generation_tokens_total", "counter", "Tokens chosen.", usage.completion_tokens as u64);
        let name = "request_success_total";
        page.head(name, "counter", "Requests that left the engine, by reason.");
        for (reason, count) in Finished::LABELS.iter().zip(&self.finished) {
            page.line(name, &format!(",finished_reason=\"{reason}\""), count.load(Ordering::Relaxed));
        }
        let help = "Time from arrival to the first token.";
        page.histogram("time_to_first_token_seconds", help, &self.first_token);
        page.histogram("inter_token_latency_seconds", "Time between two tokens.", &self.next_token);
        let help = "Time from arrival until there was room in the batch and memory.";
        page.histogram("request_queue_time_seconds", help, &self.queue_time);
        let help = "Time from then to the first token.";
        page.histogram("request_prefill_time_seconds", help, &self.prefill_time);
        let help = "Time from the first token to the last.";
        page.histogram("request_decode_time_seconds", help, &self.decode_time);
        let help = "Time from the end of waiting to the last token.";
        page.histogram("request_inference_time_seconds", help, &self.inference_time);
        page.histogram("iteration_tokens_total", "Tokens that a step fed.", &self.step_tokens);
        let help = "Time from arrival to the end of the answer.";
        page.histogram("e2e_request_latency_seconds", help, &self.latency);
        page.histogram("request_prompt_tokens", "Tokens of a prompt.", &self.request_prompt_tokens);
        page.histogram("request_generation_tokens", "Tokens of an answer.", &self.request_generation_tokens);
        page.text
    }
}

/// Counts of observations by size.
#[derive(Debug)]
struct Histogram {
    bounds: &'static [f64],
    state: Mutex<Observations>,
}

#[derive(Debug, Clone)]
struct Observations {
    /// Counts for each bucket, with one more for what is above all bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, state: Mutex::new(Observations { counts: vec![0; bounds.len() + 1], sum: 0.0 }) }
    }

    fn observe(&self, duration: Duration) {
        self.observe_number(duration.as_secs_f64());
    }

    fn observe_number(&self, number: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < number);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts[bucket] += 1;
        state.sum += number;
    }

    fn snapshot(&self) -> Observations {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A page in the Prometheus text format. Writing to a `String` cannot fail, so results are dropped.
struct Page {
    text: String,
    label: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP nexa_{name} {help}\n# TYPE nexa_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "nexa_{name}{{{}{labels}}} {value}", self.label);
    }

    fn plain(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let Observations { counts, sum } = histogram.snapshot();
        let bounds = histogram.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(counts) {
            total += count;
            self.line(&format!("{name}_bucket"), &format!(",le=\"{bound}\""), total);
        }
        self.line(&format!("{name}_sum"), "", sum);
        self.line(&format!("{name}_count"), "", total);
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_are_escaped() {
        let metrics = Metrics::new();
        metrics.first_token(Usage { prompt_tokens: 7, ..Usage::default() }, Duration::from_millis(5));
        metrics.first_token(Usage { prompt_tokens: 2, ..Usage::default() }, Duration::from_millis(7));
        metrics.next_token(Duration::from_secs(100));
        let start = Instant::now();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        metrics.finished(Finished::Abort, Usage::default(), Times::new(start));
        let times = Times { scheduled: at(1), first_token: at(3), last_token: at(7), ..Times::new(start) };
        metrics.finished(Finished::Reason(FinishReason::Stop), Usage::default(), times);
        metrics.fed(9);
        let page = metrics.render("a\"b", 1, 2);
        let check = |name: &str, labels: &str, value: &str| {
            let line = format!("nexa_{name}{{model_name=\"a\\\"b\"{labels}}} {value}\n");
            assert!(page.contains(&line), "{line}{page}");
        };
        check("num_requests_running", "", "1");
        check("num_requests_waiting", "", "2");
        check("prompt_tokens_total", "", "9");
        check("generation_tokens_total", "", "3");
        check("request_success_total", ",finished_reason=\"abort\"", "1");
        check("request_success_total", ",finished_reason=\"stop\"", "1");
        check("request_success_total", ",finished_reason=\"length\"", "0");
        check("time_to_first_token_seconds_bucket", ",le=\"0.005\"", "1");
        check("time_to_first_token_seconds_bucket", ",le=\"0.01\"", "2");
        check("time_to_first_token_seconds_bucket", ",le=\"+Inf\"", "2");
        check("time_to_first_token_seconds_sum", "", "0.012");
        check("inter_token_latency_seconds_bucket", ",le=\"2.5\"", "0");
        check("inter_token_latency_seconds_count", "", "1");
        check("e2e_request_latency_seconds_count", "", "1");
        check("request_prefill_time_seconds_sum", "", "2");
        check("request_decode_time_seconds_sum", "", "4");
        check("request_inference_time_seconds_sum", "", "6");
        check("iteration_tokens_total_bucket", ",le=\"8\"", "0");
        check("iteration_tokens_total_bucket", ",le=\"16\"", "1");
    }
}
