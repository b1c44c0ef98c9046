//! What the benchmarks share: input, the yardstick, and rounds that compare.
#![allow(clippy::print_stdout, reason = "what was measured is what they print")]

pub mod service;

use cpu_time::ProcessTime;
use serde::Deserialize;
use std::borrow::Cow;
use std::path::PathBuf;
use std::str::FromStr;
use telltale_simulate::Estate;

/// Text without a copy where it has no escapes; `Option<Cow<str>>` would always copy.
#[derive(Deserialize)]
pub struct Borrowed<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The fields that CloudTrail's parser reads, as plain serde: what a bare typed parse costs. What it
/// looks into for some events only is found and left as it is, as there: `R` is the reader's own type
/// for that.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "R: Deserialize<'de>"))]
#[allow(dead_code, reason = "only the cost of reading them counts")]
pub struct Yardstick<'a, R> {
    #[serde(borrow, rename = "eventID")]
    event_id: Option<Borrowed<'a>>,
    #[serde(borrow)]
    event_time: Option<Borrowed<'a>>,
    #[serde(borrow)]
    event_name: Option<Borrowed<'a>>,
    #[serde(borrow)]
    event_source: Option<Borrowed<'a>>,
    #[serde(borrow)]
    aws_region: Option<Borrowed<'a>>,
    #[serde(borrow, rename = "sourceIPAddress")]
    source_ip_address: Option<Borrowed<'a>>,
    #[serde(borrow)]
    user_agent: Option<Borrowed<'a>>,
    #[serde(borrow)]
    error_code: Option<Borrowed<'a>>,
    #[serde(borrow)]
    error_message: Option<Borrowed<'a>>,
    #[serde(borrow)]
    recipient_account_id: Option<Borrowed<'a>>,
    #[serde(borrow)]
    session_credential_from_console: Option<Borrowed<'a>>,
    #[serde(borrow)]
    user_identity: Option<YardstickIdentity<'a, R>>,
    request_parameters: Option<R>,
    response_elements: Option<R>,
    resources: Option<R>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "R: Deserialize<'de>"))]
#[allow(dead_code, reason = "only the cost of reading them counts")]
struct YardstickIdentity<'a, R> {
    #[serde(borrow, rename = "type")]
    kind: Option<Borrowed<'a>>,
    #[serde(borrow)]
    principal_id: Option<Borrowed<'a>>,
    #[serde(borrow)]
    arn: Option<Borrowed<'a>>,
    #[serde(borrow)]
    account_id: Option<Borrowed<'a>>,
    #[serde(borrow)]
    access_key_id: Option<Borrowed<'a>>,
    #[serde(borrow)]
    user_name: Option<Borrowed<'a>>,
    #[serde(borrow)]
    invoked_by: Option<Borrowed<'a>>,
    on_behalf_of: Option<R>,
    #[serde(borrow)]
    session_context: Option<YardstickContext<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the cost of reading them counts")]
struct YardstickContext<'a> {
    #[serde(borrow)]
    session_issuer: Option<YardstickIssuer<'a>>,
    #[serde(borrow)]
    attributes: Option<YardstickAttributes<'a>>,
    #[serde(borrow)]
    source_identity: Option<Borrowed<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the cost of reading them counts")]
struct YardstickAttributes<'a> {
    #[serde(borrow)]
    creation_date: Option<Borrowed<'a>>,
    #[serde(borrow)]
    mfa_authenticated: Option<Borrowed<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only the cost of reading them counts")]
struct YardstickIssuer<'a> {
    #[serde(borrow)]
    arn: Option<Borrowed<'a>>,
}

/// One way to do the work that is measured, on bytes that it may keep.
pub struct Contender<'a> {
    name: &'static str,
    work: Box<dyn Fn(Vec<u8>) + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: &'static str, work: impl Fn(Vec<u8>) + 'a) -> Self {
        Self { name, work: Box::new(work) }
    }
}

/// Rounds in which each contender does all of the work once.
const ROUNDS: usize = 9;

/// Lets contenders do each block in turn, and prints, for each, the median rate and the median of
/// its time in relation to the first one's of the same round.
///
/// Times are processor time of all threads. Contenders take turns at every block, so whatever else
/// the machine does meets all of them alike; each has a copy of the block of its own, made before
/// its time begins. `ONLY=name` runs one alone, for a profiler.
pub fn race(blocks: &[Vec<u8>], contenders: &[Contender<'_>]) {
    let only = std::env::var("ONLY").ok();
    let runs =
        |contender: &Contender<'_>| only.as_deref().is_none_or(|only| only == contender.name);
    let mut rounds: Vec<Vec<f64>> = Vec::new();
    for _ in 0..ROUNDS {
        let mut times = vec![0.0; contenders.len()];
        for (number, block) in blocks.iter().enumerate() {
            for turn in 0..contenders.len() {
                let at = (number + turn) % contenders.len();
                if !runs(&contenders[at]) {
                    continue;
                }
                let copy = block.clone();
                let start = ProcessTime::now();
                (contenders[at].work)(copy);
                times[at] += start.elapsed().as_secs_f64();
            }
        }
        rounds.push(times);
    }
    let bytes: usize = blocks.iter().map(Vec::len).sum();
    let lines =
        |block: &Vec<u8>| block.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
    let events: usize = blocks.iter().map(lines).sum();
    println!("{events} events, {:.1} MB, median of {ROUNDS} rounds", bytes as f64 / 1e6);
    for (at, contender) in contenders.iter().enumerate().filter(|(_, contender)| runs(contender)) {
        let seconds = median(rounds.iter().map(|times| times[at]).collect());
        let ratio = median(rounds.iter().map(|times| times[at] / times[0]).collect());
        println!(
            "{:28} {:>7.3} M events/s {:>7.0} MB/s   {ratio:.2} times the first",
            contender.name,
            events as f64 / seconds / 1e6,
            bytes as f64 / seconds / 1e6,
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value of a variable of the environment, else the usual one.
pub fn variable<T: FromStr>(name: &str, usual: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A folder of the benchmark's own.
pub fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("telltale-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room");
    folder
}

/// The seeds of the command line, else those given.
pub fn seeds(usual: &[u64]) -> Vec<u64> {
    let named: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if named.is_empty() { usual.to_vec() } else { named }
}

/// The bytes of the file that the command line names, else simulated records of `log`, without
/// repeats: `MEGABYTES` of them (default 120).
pub fn input(log: &str) -> Vec<u8> {
    if let Some(path) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        return std::fs::read(&path)
            .unwrap_or_else(|cause| panic!("cannot read `{path}`: {cause}"));
    }
    let wanted = variable("MEGABYTES", 120usize) << 20;
    let mut bytes = Vec::with_capacity(wanted + 4096);
    let estate = Estate { seed: 1, days: 365, ..Estate::default() };
    for record in estate.stream().filter(|record| record.log == log) {
        bytes.extend_from_slice(record.text.as_bytes());
        bytes.push(b'\n');
        if bytes.len() >= wanted {
            break;
        }
    }
    bytes
}

/// Whole lines in blocks of about `bytes`.
pub fn blocks(text: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    let mut blocks = vec![Vec::with_capacity(bytes)];
    for line in text.split_inclusive(|b| *b == b'\n') {
        if blocks.last().is_some_and(|block| block.len() + line.len() > bytes) {
            blocks.push(Vec::with_capacity(bytes));
        }
        if let Some(block) = blocks.last_mut() {
            block.extend_from_slice(line);
        }
    }
    blocks
}
