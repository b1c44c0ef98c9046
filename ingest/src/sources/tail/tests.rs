//! Folders of logs as log rotation leaves them, read poll by poll.

use super::fingerprint::FULL;
use super::*;
use crate::sources::{Delivery, Receipt, Refusal};
use async_trait::async_trait;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Mutex;

/// Nothing is left alone for long enough.
const NEVER: Patience = patience(3600);
/// Everything is.
const AT_ONCE: Patience = patience(0);

const fn patience(secs: u64) -> Patience {
    let span = Duration::from_secs(secs);
    Patience { settle: span, give_up: span, line: span, linger: Duration::from_secs(3600) }
}

/// A journal of what was handed over.
#[derive(Default)]
struct Fake {
    deliveries: Mutex<Vec<Delivery>>,
    positions: Mutex<BTreeMap<String, u64>>,
    refusals: Mutex<VecDeque<Refusal>>,
}

#[async_trait]
impl Take for Fake {
    async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal> {
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let (partition, position) = (delivery.partition.to_string(), delivery.position.unwrap());
        let mut positions = self.positions.lock().unwrap();
        let known = positions.entry(partition).or_default();
        *known = position.max(*known);
        self.deliveries.lock().unwrap().push(delivery);
        Ok(Receipt::default())
    }

    fn position(&self, _: &str, partition: &str) -> Option<u64> {
        self.positions.lock().unwrap().get(partition).copied()
    }

    fn positions(&self, _: &str) -> Vec<(String, u64)> {
        let positions = self.positions.lock().unwrap();
        positions.iter().map(|(partition, at)| (partition.clone(), *at)).collect()
    }
}

struct Site {
    folder: tempfile::TempDir,
    take: Arc<Fake>,
    source: TailSource,
    runtime: tokio::runtime::Runtime,
    tail: Tail,
}

impl Site {
    fn new(pattern: &str) -> Self {
        Self::with(pattern, |_| {})
    }

    fn with(pattern: &str, change: impl FnOnce(&mut Tail)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut tail = Tail {
            paths: vec![format!("{}/{pattern}", folder.path().display())],
            exclude: Vec::new(),
            parser: None,
            poll_interval: Duration::ZERO,
            from_end: false,
            record_bytes: 3 << 20,
            document_bytes: 1 << 20,
        };
        change(&mut tail);
        let take = Arc::new(Fake::default());
        let source = TailSource::open(tail.clone(), Arc::clone(&take) as Arc<dyn Take>).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let mut site = Self { folder, take, source, runtime, tail };
        site.source.patience = NEVER;
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn poll(&mut self) -> bool {
        // Each look lists, however long the last one took.
        self.source.next_listing = Instant::now();
        let stop = AtomicBool::new(false);
        let mut goes_on = self.source.poll(self.runtime.handle(), &stop);
        while goes_on && !self.source.queue.is_empty() {
            goes_on = self.source.poll(self.runtime.handle(), &stop);
        }
        if !goes_on {
            self.source.queue.clear();
        }
        assert!(self.source.open.len() <= MAX_OPEN);
        goes_on
    }

    fn poll_with(&mut self, patience: Patience) {
        let before = std::mem::replace(&mut self.source.patience, patience);
        self.poll();
        self.source.patience = before;
    }

    /// As a process that was killed and started again.
    fn restart(&mut self) {
        let take = Arc::clone(&self.take) as Arc<dyn Take>;
        let patience = self.source.patience;
        self.source = TailSource::open(self.tail.clone(), take).unwrap();
        self.source.patience = patience;
    }

    /// Everything that was handed over, line by line, without what compresses it.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for delivery in self.take.deliveries.lock().unwrap().iter() {
            for piece in &delivery.pieces {
                let encoding = content::encoding(&piece.bytes).unwrap();
                let mut text = Vec::new();
                match encoding {
                    Encoding::Gzip => {
                        let mut decoder = flate2::read::MultiGzDecoder::new(&piece.bytes[..]);
                        decoder.read_to_end(&mut text).unwrap();
                    }
                    _ => text.extend_from_slice(&piece.bytes),
                }
                let text = String::from_utf8_lossy(&text).into_owned();
                lines.extend(text.lines().map(str::to_owned));
            }
        }
        lines
    }

    /// Names of partitions without fingerprints.
    fn names(&self) -> BTreeSet<String> {
        let positions = self.take.positions.lock().unwrap();
        positions.keys().filter_map(|p| Some(p.rsplit_once('#')?.0.to_owned())).collect()
    }

    fn gzip(&self, from: &str, to: &str) {
        let bytes = gzip_of(&fs::read(self.path(from)).unwrap());
        fs::write(self.path(to), bytes).unwrap();
        fs::remove_file(self.path(from)).unwrap();
    }
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn record(number: usize) -> String {
    format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(number % 300))
}

fn records(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(record).collect()
}

fn text(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| record(number) + "\n").collect()
}

#[test]
fn a_file_that_is_renamed_is_read_to_its_end_and_the_next_from_its_beginning() {
    for pattern in ["audit.log*", "audit.log"] {
        let mut site = Site::new(pattern);
        site.append("audit.log", text(0..20));
        site.poll();
        site.append("audit.log", text(20..25));
        site.rename("audit.log", "audit.log.1");
        site.append("audit.log", text(40..60));
        site.poll();
        // The writer noticed late.
        site.append("audit.log.1", text(25..40));
        site.poll();
        site.rename("audit.log.1", "audit.log.2");
        site.rename("audit.log", "audit.log.1");
        site.append("audit.log", text(60..61));
        site.poll();
        site.append("audit.log", text(61..63));
        site.poll();
        let mut lines = site.lines();
        lines.sort_by_key(|line| line[5..].split(',').next().unwrap().parse::<u64>().unwrap());
        assert_eq!(lines, records(0..63), "{pattern}");
        assert_eq!(site.names(), ["audit.log".to_owned()].into());
    }
}

#[test]
fn a_file_that_is_truncated_begins_anew_and_its_copy_goes_on() {
    for pattern in ["audit.log*", "audit.log"] {
        let mut site = Site::new(pattern);
        site.append("audit.log", text(0..20));
        site.poll();
        fs::copy(site.path("audit.log"), site.path("audit.log.1")).unwrap();
        site.poll();
        OpenOptions::new().write(true).open(site.path("audit.log")).unwrap().set_len(0).unwrap();
        site.poll();
        site.append("audit.log", text(20..22));
        site.poll();
        // Longer than it ever was before anybody looks.
        fs::copy(site.path("audit.log"), site.path("audit.log.2")).unwrap();
        fs::write(site.path("audit.log"), text(22..70)).unwrap();
        site.poll();
        assert_eq!(site.lines(), records(0..70), "{pattern}");
    }
}

#[test]
fn a_truncated_file_that_begins_as_before_is_read_and_read_on_after_a_restart() {
    let mut site = Site::new("a.log");
    let header = format!("{}\n", "=".repeat(1500));
    site.append("a.log", format!("{header}{}", text(0..20)));
    site.poll();
    fs::write(site.path("a.log"), format!("{header}{}", text(20..22))).unwrap();
    site.poll();
    site.restart();
    site.append("a.log", text(22..60));
    site.poll();
    let lines: Vec<_> = site.lines().into_iter().filter(|line| !line.starts_with('=')).collect();
    assert_eq!(lines, records(0..60));
}

#[test]
fn what_is_compressed_after_rotation_goes_on_where_it_was() {
    for restarts in [false, true] {
        let mut site = Site::new("audit*.log*");
        site.append("audit.log", text(0..20));
        site.poll();
        site.append("audit.log", text(20..30));
        site.rename("audit.log", "audit.log.1");
        if restarts {
            site.restart();
        }
        site.gzip("audit.log.1", "audit.log.2.gz");
        site.append("audit.log", text(30..40));
        site.poll_with(AT_ONCE);
        assert_eq!(site.lines().len(), 40);
        let all = fs::read(site.path("audit.log")).unwrap();
        fs::write(site.path("audit.log.3.zst"), zstd::encode_all(&all[..], 3).unwrap()).unwrap();
        fs::remove_file(site.path("audit.log")).unwrap();
        if restarts {
            site.restart();
        }
        site.poll_with(AT_ONCE);
        site.poll_with(AT_ONCE);
        let mut lines = site.lines();
        lines.sort_by_key(|line| line[5..].split(',').next().unwrap().parse::<u64>().unwrap());
        assert_eq!(lines, records(0..40));
    }
}

#[test]
fn a_line_waits_for_its_end() {
    let mut site = Site::new("*.log");
    site.append("a.log", "{\"n\":1}\n{\"n\":");
    site.append("t.log", "first\nsecond");
    site.poll();
    assert_eq!(site.lines(), ["{\"n\":1}", "first"]);
    // Text is taken when nobody goes on with it, an object only when it ends.
    site.poll_with(AT_ONCE);
    assert_eq!(site.lines()[2..], ["second"]);
    site.append("a.log", "2}\n{\"n\":3}");
    site.poll();
    assert_eq!(site.lines()[3..], ["{\"n\":2}"]);
    site.poll_with(AT_ONCE);
    assert_eq!(site.lines()[4..], ["{\"n\":3}"]);
    site.append("a.log", "\n{\"n\":4}\n{\"cut");
    site.poll();
    site.rename("a.log", "b.log");
    site.poll_with(AT_ONCE);
    assert_eq!(site.lines()[5..], ["", "{\"n\":4}", "{\"cut"]);
}

#[test]
fn a_short_file_that_grows_is_read_once_however_often_it_is_restarted() {
    let mut site = Site::new("");
    for number in 0..60 {
        site.append("quiet.log", text(number..number + 1));
        site.restart();
        site.poll();
    }
    assert_eq!(site.lines(), records(0..60));
    // One row for each length below a fingerprint's, then no more.
    let rows = site.take.positions.lock().unwrap().len();
    let short = (1..60).take_while(|count| text(0..*count).len() < FULL).count();
    assert_eq!(rows, short + 1);
}

#[test]
fn files_that_begin_alike_are_told_apart() {
    for (header, restarts) in [(0, false), (200, false), (200, true), (2000, false), (2000, true)] {
        let mut site = Site::new("*.log");
        let header = format!("{}\n", "=".repeat(header));
        site.append("a.log", format!("{header}{}", text(0..30)));
        site.poll();
        site.append("b.log", format!("{header}{}", text(30..90)));
        site.append("c.log", format!("{header}{}", text(90..93)));
        site.poll();
        site.poll_with(AT_ONCE);
        if restarts {
            site.restart();
        }
        for (name, numbers) in [("a.log", 93..95), ("b.log", 95..97), ("c.log", 97..120)] {
            site.append(name, text(numbers));
        }
        site.poll_with(AT_ONCE);
        let mut lines = site.lines();
        lines.retain(|line| line.starts_with('{'));
        lines.sort_by_key(|line| line[5..].split(',').next().unwrap().parse::<u64>().unwrap());
        assert_eq!(lines, records(0..120), "header of {}, restarts {restarts}", header.len());
    }
}

#[test]
fn a_record_has_one_place_whatever_is_read_at_once() {
    let places = |site: &Site| -> Vec<(String, u64, String)> {
        let mut places = Vec::new();
        for delivery in site.take.deliveries.lock().unwrap().iter() {
            for piece in &delivery.pieces {
                let mut at = piece.offsets[0];
                for line in String::from_utf8_lossy(&piece.bytes).lines() {
                    places.push((piece.origin.to_string(), at, line.to_owned()));
                    at += line.len() as u64 + 1;
                }
            }
        }
        places
    };
    let first = format!("{}\n", "y".repeat(FULL));
    let mut whole = Site::new("");
    whole.append("a.log", format!("{first}{}", text(0..40)));
    whole.poll();
    let mut parts = Site::new("");
    parts.append("a.log", first);
    for number in 0..40 {
        parts.append("a.log", text(number..number + 1));
        parts.poll();
    }
    assert_eq!(places(&whole), places(&parts));
}

#[test]
fn a_document_is_read_when_it_is_complete() {
    let mut site = Site::new("");
    let half = "{\"Records\":[\n{\"n\":1},";
    site.append("trail.json", half);
    site.append("pretty.json", "{\n \"n\": 1\n}\n{\n \"n\":");
    site.poll();
    assert_eq!(site.lines(), ["{", " \"n\": 1", "}"]);
    let calm = Patience { settle: Duration::ZERO, ..NEVER };
    site.poll_with(calm);
    assert_eq!(site.lines().len(), 3);
    site.append("trail.json", "\n{\"n\":2}]}");
    site.append("pretty.json", " 2\n}\n");
    site.poll_with(calm);
    assert_eq!(site.lines().len(), 3 + 3 + 4);
    site.restart();
    site.poll_with(AT_ONCE);
    assert_eq!(site.lines().len(), 10);
    // One line without an end, as exports write it.
    site.append("array.json", "[{\"n\":3},{\"n\":4}]");
    site.poll();
    site.poll_with(calm);
    assert_eq!(site.lines()[10..], ["[{\"n\":3},{\"n\":4}]"]);
    // One that never ends is taken as it is.
    site.append("cut.json", "[{\"n\":3},{\"n\"");
    site.poll_with(calm);
    assert_eq!(site.lines().len(), 11);
    site.poll_with(AT_ONCE);
    assert_eq!(site.lines()[11..], ["[{\"n\":3},{\"n\""]);
}

#[test]
fn a_gzip_is_read_when_all_of_it_is_there() {
    let mut site = Site::new("");
    let document = format!("{{\"Records\":[{}]}}", records(0..2000).join(","));
    let lines = text(0..2000);
    let calm = Patience { settle: Duration::ZERO, ..NEVER };
    for (name, content) in [("trail.json.gz", &document), ("audit.log.1.gz", &lines)] {
        let bytes = gzip_of(content.as_bytes());
        let before = site.lines();
        for part in bytes.chunks(bytes.len() / 5) {
            site.append(name, part);
            site.poll();
            assert_eq!(site.lines(), before, "{name}: somebody is at it");
        }
        site.poll_with(calm);
        site.poll_with(AT_ONCE);
        assert_eq!(site.lines()[before.len()..].join("\n"), content.trim_end(), "{name}");
    }
    // Looked at while it is written: no line twice, none cut, a document not at all.
    let before = site.lines().len();
    for (name, content) in [("slow.json.gz", &document), ("slow.log.gz", &lines)] {
        // Other records, or it is a file that is known.
        let bytes = gzip_of(content.replace("\"n\"", "\"m\"").as_bytes());
        for part in bytes.chunks(bytes.len() / 5 + 1) {
            site.append(name, part);
            site.poll_with(calm);
        }
    }
    site.restart();
    site.poll_with(AT_ONCE);
    let all = site.lines();
    let (documents, lines): (Vec<_>, Vec<_>) =
        all[before..].iter().partition(|line| line.starts_with("{\"Records"));
    assert_eq!(documents, [&document.replace("\"n\"", "\"m\"")]);
    let expected: Vec<_> = records(0..2000).iter().map(|r| r.replace("\"n\"", "\"m\"")).collect();
    assert_eq!(lines, expected.iter().collect::<Vec<_>>());
    // Cut off for good: what it holds is kept.
    let bytes = gzip_of(text(5000..9000).as_bytes());
    site.append("cut.log.gz", &bytes[..bytes.len() / 2]);
    site.poll_with(AT_ONCE);
    let rest = &site.lines()[all.len()..];
    assert!(rest.len() > 100 && *rest == records(5000..5000 + rest.len())[..]);
    // Nobody looks again until it changes.
    assert!(site.source.files.values().all(|file| !file.waits));
}

#[test]
fn what_is_too_long_or_no_text_stops_nothing() {
    let mut site = Site::new("");
    let long = "x".repeat(8 << 20);
    site.append("a.log", format!("{}\n{long}\n{}\n", record(1), record(2)));
    site.append("b.log", [&[0; 5000][..], text(3..4).as_bytes()].concat());
    site.append("c.tar", [b"name\0\0\0\0", &[0; 600][..]].concat());
    site.poll();
    let lines = site.lines();
    let whole: Vec<_> = lines.iter().filter(|line| line.starts_with('{')).cloned().collect();
    assert_eq!(whole, records(1..4));
    // The head of the long line, which the intake refuses, and the archive.
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[1].len(), site.tail.record_bytes + 1);
    site.restart();
    site.poll_with(AT_ONCE);
    assert_eq!(site.lines().len(), 5);
}

/// A record over several lines; with `text` as it is between quotes.
fn pretty(number: usize, text: &str) -> String {
    format!("{{\n  \"n\": {number},\n  \"text\": \"{text}\"\n}}\n")
}

/// Numbers of the records of pieces that are whole, and how many pieces are not.
fn whole(site: &Site) -> (Vec<u64>, usize) {
    let (mut numbers, mut torn) = (Vec::new(), 0);
    for delivery in site.take.deliveries.lock().unwrap().iter() {
        for piece in &delivery.pieces {
            let values = serde_json::Deserializer::from_slice(&piece.bytes).into_iter();
            match values.collect::<Result<Vec<serde_json::Value>, _>>() {
                Ok(values) => {
                    numbers.extend(values.iter().map(|value| value["n"].as_u64().unwrap()))
                }
                Err(_) => torn += 1,
            }
        }
    }
    (numbers, torn)
}

#[test]
fn a_torn_record_takes_no_other_with_it() {
    for torn in [vec![7], vec![0, 7, 8, 3_999], vec![7, 3_999]] {
        let mut site = Site::with("", |tail| tail.record_bytes = 10_000);
        let record = |number: usize| {
            let text = "x".repeat(1000);
            let whole = pretty(number, &text);
            if torn.contains(&number) { whole.replace("x\"\n", "x\n") } else { whole }
        };
        // Several times what is read at once, and a record that is still being written.
        let text: String = (0..4_010).map(record).collect();
        site.append("a.json", &text[..text.len() - 10]);
        site.poll();
        let (numbers, broken) = whole(&site);
        let expected = |to: u64| (0..to).filter(|n| !torn.contains(&(*n as usize)));
        // Of the end nobody knows whether it is torn.
        assert!(numbers.iter().copied().eq(expected(numbers.len() as u64 + broken as u64)));
        assert!(numbers.len() > 3_900, "{} records", numbers.len());
        site.append("a.json", &text[text.len() - 10..]);
        site.restart();
        site.poll_with(AT_ONCE);
        let (numbers, broken) = whole(&site);
        assert!(numbers.iter().copied().eq(expected(4_010)), "{torn:?}: {}", numbers.len());
        assert_eq!(broken, torn.len());
        let lines = site.lines().into_iter().filter(|line| !line.is_empty());
        assert!(lines.eq(text.lines()), "{torn:?}: every line once");
    }
}

#[test]
fn a_record_over_several_lines_that_is_too_long_is_passed_over() {
    let mut site = Site::with("", |tail| tail.record_bytes = 10_000);
    let long = pretty(1, &"x".repeat(3 << 20));
    site.append("a.json", pretty(0, "") + &long + &pretty(2, ""));
    for _ in 0..3 {
        site.poll();
    }
    assert_eq!(whole(&site), (vec![0, 2], 1));
    // Also where it is still being written.
    site.append("a.json", &long[..2 << 20]);
    for _ in 0..3 {
        site.poll();
    }
    site.append("a.json", &long[2 << 20..]);
    site.append("a.json", pretty(3, ""));
    for _ in 0..3 {
        site.poll();
    }
    assert_eq!(whole(&site), (vec![0, 2, 3], 2));
    assert!(site.source.files.values().all(|file| !file.waits));
}

#[test]
fn files_of_the_first_start_can_be_passed_over() {
    let mut site = Site::with("", |tail| tail.from_end = true);
    site.append("a.log", format!("{}{{\"n\":", text(0..50)));
    site.append("b.log", text(50..53));
    fs::write(site.path("c.log.gz"), gzip_of(text(53..60).as_bytes())).unwrap();
    site.poll_with(AT_ONCE);
    assert!(site.lines().is_empty());
    site.append("a.log", "60}\n");
    site.append("later.log", text(61..62));
    site.restart();
    site.poll_with(AT_ONCE);
    let mut lines = site.lines();
    lines.sort();
    assert_eq!(lines, ["{\"n\":60}".to_owned(), record(61)]);
}

#[test]
fn what_is_refused_is_handed_over_again_and_a_file_that_cannot_be_read_is_tried_again() {
    use std::os::unix::fs::PermissionsExt;
    let mut site = Site::new("");
    site.append("a.log", text(0..5));
    site.take.refusals.lock().unwrap().extend([Refusal::Busy, Refusal::Full]);
    assert!(site.poll());
    assert_eq!(site.lines(), records(0..5));
    site.append("a.log", text(5..6));
    site.take.refusals.lock().unwrap().push_back(Refusal::Closed);
    assert!(!site.poll());
    assert!(site.poll());
    assert_eq!(site.lines(), records(0..6));
    site.append("b.log", text(6..7));
    let mode = |mode| {
        fs::set_permissions(site.path("b.log"), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o000);
    if File::open(site.path("b.log")).is_ok() {
        // Nothing is closed to root.
        return;
    }
    site.poll();
    assert_eq!(site.lines().len(), 6);
    fs::set_permissions(site.path("b.log"), fs::Permissions::from_mode(0o600)).unwrap();
    site.source.files.values_mut().for_each(|file| file.retry_at = None);
    site.poll();
    assert_eq!(site.lines(), records(0..7));
}

#[test]
fn many_files_are_held_open_in_bounded_number() {
    let mut site = Site::new("");
    for number in 0..MAX_OPEN + 50 {
        site.append(&format!("{number}.log"), text(number..number + 1));
    }
    site.poll();
    for number in 0..MAX_OPEN + 50 {
        site.append(&format!("{number}.log"), text(1000 + number..1001 + number));
    }
    site.poll();
    assert_eq!(site.lines().len(), 2 * (MAX_OPEN + 50));
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    /// Half a line now, the rest with the next.
    Half,
    Rotate,
    Truncate,
    Compress,
    Poll,
    Wait,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..40).prop_map(Step::Write),
        1 => Just(Step::Half),
        1 => Just(Step::Rotate),
        1 => Just(Step::Truncate),
        1 => Just(Step::Compress),
        4 => Just(Step::Poll),
        1 => Just(Step::Wait),
        2 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever is done to a log between any two looks at it, each line comes once.
    #[test]
    fn no_line_is_lost_or_doubled(steps in steps()) {
        let mut site = Site::new("audit.log*");
        let (mut written, mut rotated, mut half) = (0, 0, None::<String>);
        site.append("audit.log", "");
        for step in steps {
            let finish = |half: &mut Option<String>| half.take().map(|rest| site.append("audit.log", rest));
            match step {
                Step::Write(count) => {
                    finish(&mut half);
                    site.append("audit.log", text(written..written + count));
                    written += count;
                }
                Step::Half => {
                    finish(&mut half);
                    let line = text(written..written + 1);
                    site.append("audit.log", &line[..4]);
                    half = Some(line[4..].to_owned());
                    written += 1;
                }
                Step::Rotate => {
                    finish(&mut half);
                    rotated += 1;
                    site.rename("audit.log", &format!("audit.log.{rotated}"));
                    site.append("audit.log", "");
                }
                Step::Truncate => {
                    finish(&mut half);
                    rotated += 1;
                    let copy = site.path(&format!("audit.log.{rotated}"));
                    fs::copy(site.path("audit.log"), copy).unwrap();
                    fs::write(site.path("audit.log"), "").unwrap();
                }
                Step::Compress => {
                    let last = format!("audit.log.{rotated}");
                    if site.path(&last).exists() {
                        site.gzip(&last, &format!("{last}.gz"));
                    }
                }
                Step::Poll => { site.poll(); }
                Step::Wait => site.poll_with(Patience { give_up: NEVER.give_up, ..AT_ONCE }),
                Step::Kill => site.restart(),
            }
        }
        if let Some(rest) = half {
            site.append("audit.log", rest);
        }
        site.poll_with(AT_ONCE);
        site.poll_with(AT_ONCE);
        let mut lines = site.lines();
        lines.retain(|line| !line.is_empty());
        lines.sort_by_key(|line| line[5..].split(',').next().and_then(|n| n.parse::<u64>().ok()));
        prop_assert_eq!(lines, records(0..written));
    }
}
