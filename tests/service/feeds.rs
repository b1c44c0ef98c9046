//! A simulated company as it reaches the service: posted, sent to Kafka, written to files.

use crate::files::{append, gzip};
use crate::run::{Site, post, record};
use rdkafka::ClientConfig;
use rdkafka::bindings::{
    rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use telltale::store::Store;
use telltale_schema::time::HOUR;
use telltale_simulate::Estate;

/// Spreads moments and choices without a clock or a library.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Days of a simulated company under attack, cut where the log changes.
pub fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    bodies_of(7, 60)
}

/// The same of so many days and identities.
pub fn bodies_of(days: u32, identities: u32) -> Vec<(&'static str, Vec<u8>)> {
    let estate = Estate { seed: 5, days, identities, ..Estate::default() };
    let mut bodies: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for record in estate.stream() {
        match bodies.last_mut() {
            Some((log, body)) if *log == record.log && body.len() < 100_000 => {
                body.extend_from_slice(record.text.as_bytes());
                body.push(b'\n');
            }
            _ => bodies.push((record.log, format!("{}\n", record.text).into_bytes())),
        }
    }
    // Short bodies are many requests.
    let mut joined: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for (log, body) in bodies {
        match joined
            .iter_mut()
            .rev()
            .take(6)
            .find(|(known, body)| *known == log && body.len() < 60_000)
        {
            Some((_, known)) => known.extend_from_slice(&body),
            None => joined.push((log, body)),
        }
    }
    joined
}

/// How long an acknowledgement is waited for, also where others keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Posts a body until it is acknowledged, wherever the service is by then.
pub fn send(port: &AtomicU16, log: &str, body: &[u8]) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let path = format!("/v1/logs/{log}");
        match post(port.load(Ordering::SeqCst), &path, body, &[]) {
            Some((200, _)) => return,
            Some((status, _)) => assert!([429, 503].contains(&status), "answers {status}"),
            None => {}
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("a body is never acknowledged");
}

/// What each feed carries in the same while.
#[derive(Clone, Default)]
pub struct Step {
    /// CloudTrail and ClearML, whose lines have neither id nor time of their own: they are told apart
    /// by the body that they come in.
    posted: Vec<(&'static str, String)>,
    /// Kubernetes and Okta.
    sent: Vec<String>,
    /// Google Cloud and Vault, each in a log of its own.
    written: Vec<(&'static str, String)>,
    /// What of `sent` and `written` is no event.
    pub poison: Vec<String>,
    /// Whether it is the last one of an hour.
    ends_hour: bool,
}

impl Step {
    /// How many events Kafka and files carry, of which nobody says that they are stored.
    fn untold(&self) -> usize {
        self.sent.len() + self.written.len() - self.poison.len()
    }

    /// How many events it has beside ClearML's, of whose lines some make one event.
    pub fn numbered(&self) -> usize {
        self.untold() + self.posted.iter().filter(|(log, _)| *log != "clearml").count()
    }
}

/// Hours of event time.
pub const HOURS: usize = 24;

/// A day of a company under attack, each hour in so many steps. What the company sends twice is
/// here once, so that what is stored can be counted.
pub fn steps(an_hour: usize) -> Vec<Step> {
    let estate = Estate { seed: 1, days: 1, identities: 60, ..Estate::default() };
    let (mut seen, mut hours) = (BTreeSet::new(), BTreeMap::<i64, Vec<_>>::new());
    for record in estate.stream() {
        if seen.insert((record.log, record.text.clone())) {
            hours.entry(record.at.div_euclid(HOUR)).or_default().push((record.log, record.text));
        }
    }
    let (mut steps, mut number) = (Vec::new(), 0);
    for records in hours.into_values() {
        let mut hour = vec![Step::default(); an_hour];
        let of_hour = records.len();
        for (at, (log, text)) in records.into_iter().enumerate() {
            number += 1;
            hour[at * an_hour / of_hour].add(log, text, number);
        }
        steps.extend(hour);
        steps.last_mut().expect("an hour has records").ends_hour = true;
    }
    // A year later: every window that was still open is closed.
    steps.push(Step {
        posted: vec![("aws_cloudtrail", record(0))],
        ends_hour: true,
        ..Step::default()
    });
    steps
}

impl Step {
    fn add(&mut self, log: &'static str, text: String, number: usize) {
        match log {
            "aws_cloudtrail" | "clearml" => self.posted.push((log, text)),
            "kubernetes_audit" | "okta_system_log" => {
                self.sent.push(text);
                if number.is_multiple_of(97) {
                    let poison = ["{\"x\":", "no json ", "\u{0}"][number % 3];
                    self.sent.push(format!("{poison}{number}"));
                    self.poison.extend(self.sent.last().cloned());
                }
            }
            log => {
                self.written.push((log, text));
                if log == "gcp_audit" && number.is_multiple_of(17) {
                    let poison = ["{\"x\":", "no json "][number % 2];
                    self.written.push((log, format!("{poison}{number}")));
                    self.poison.extend(self.written.last().map(|(_, line)| line.clone()));
                }
            }
        }
    }
}

const TOPIC: &str = "audit";
const PARTITIONS: i32 = 3;

/// A member that was killed is not missed for long. A member shows twice a second at most.
const MEMBERSHIP: [(&str, &str); 2] =
    [("session.timeout.ms", "1200"), ("heartbeat.interval.ms", "100")];

/// A member of the service's group that reads without ever telling the group how far.
pub fn member(brokers: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    for (name, value) in MEMBERSHIP {
        config.set(name, value);
    }
    let config = config
        .set("bootstrap.servers", brokers)
        .set("group.id", "telltale")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false");
    let member: BaseConsumer = config.create().expect("a consumer");
    member.subscribe(&[TOPIC]).expect("it joins");
    member
}

/// A producer that has a cluster of one broker inside, with the topic.
pub fn cluster() -> BaseProducer {
    let mut config = ClientConfig::new();
    let config = config.set("test.mock.num.brokers", "1");
    let producer: BaseProducer = config.create().expect("a producer with a cluster");
    let made = producer.client().mock_cluster().map(|own| own.create_topic(TOPIC, PARTITIONS, 1));
    made.expect("it has a cluster").expect("a topic is made");
    // By itself it lets the first member of a group wait for three seconds, in which that is missed.
    // SAFETY: the pointers are those of a client that is borrowed and has a cluster.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(producer.client().native_ptr());
        rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100);
    }
    producer
}

/// Where the broker of such a producer is found.
pub fn brokers(producer: &BaseProducer) -> String {
    producer.client().mock_cluster().expect("it has a cluster").bootstrap_servers()
}

/// The source that reads the topic.
pub fn kafka(producer: &BaseProducer) -> String {
    let brokers = brokers(producer);
    let properties = MEMBERSHIP.map(|(name, value)| format!("\"{name}\" = \"{value}\""));
    let properties = properties.join(", ");
    format!(
        r#"
[[source]]
kind = "kafka"
brokers = "{brokers}"
topics = ["{TOPIC}"]
properties = {{ {properties} }}
"#
    )
}

/// Sends messages to the topic, spread over its partitions.
pub fn produce<'p>(producer: &BaseProducer, payloads: impl IntoIterator<Item = &'p String>) {
    for payload in payloads {
        let key = xxhash_rust::xxh3::xxh3_64(payload.as_bytes()).to_string();
        let message = BaseRecord::to(TOPIC).key(&key).payload(payload);
        producer.send(message).expect("a message is taken");
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).expect("messages are sent");
}

/// The senders of three feeds, and what they have sent.
pub struct Feeds {
    /// Has the cluster inside.
    producer: BaseProducer,
    logs: BTreeMap<&'static str, Rotated>,
    untold: usize,
    poison: usize,
}

impl Feeds {
    /// Senders to `site`, whose configuration is made for them and whatever is in `text`.
    pub fn to(site: &Site, text: &str) -> Self {
        let producer = cluster();
        let folder = site.folder().join("logs");
        fs::create_dir(&folder).expect("a folder is made");
        let kafka = kafka(&producer);
        // Hours come one behind another, and what happens in one comes in any order.
        site.reconfigured(&format!(
            r#"
[scan]
allowed_lateness = "1h"
{kafka}
[[source]]
kind = "files"
paths = ["logs"]
poll_interval = "10ms"
{text}"#
        ));
        let logs = ["gcp_audit", "hashicorp_vault_audit"];
        let logs = logs.map(|log| (log, Rotated::new(folder.join(format!("{log}.log")))));
        Self { producer, logs: logs.into(), untold: 0, poison: 0 }
    }

    /// Where a member of the group finds its broker.
    pub fn brokers(&self) -> String {
        brokers(&self.producer)
    }

    /// Sends a step over all feeds at once, and waits at the end of an hour until all of it is
    /// stored: as at a real site, no feed is more than an hour behind another.
    pub fn send(&mut self, step: &Step, site: &Site, port: &AtomicU16) {
        let Self { producer, logs, .. } = self;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for log in ["aws_cloudtrail", "clearml"] {
                    let lines = step.posted.iter().filter(|(of, _)| *of == log);
                    let lines: Vec<_> = lines.map(|(_, line)| line.as_str()).collect();
                    for lines in lines.chunks(50) {
                        send(port, log, format!("{}\n", lines.join("\n")).as_bytes());
                    }
                }
            });
            scope.spawn(|| produce(producer, &step.sent));
            scope.spawn(|| {
                for (log, line) in &step.written {
                    logs.get_mut(log).expect("each log has a file").write(line);
                }
            });
        });
        self.untold += step.untold();
        self.poison += step.poison.len();
        if step.ends_hour {
            self.wait_until_stored(site);
        }
    }

    fn wait_until_stored(&self, site: &Site) {
        let store = Store::open(&site.data()).expect("it is a data folder");
        let wanted = (self.untold as u64, self.poison as u64);
        let sum = || {
            let totals = store.accounts().ok()?.totals;
            let came = totals.values().filter(|ledger| ledger.source != "http");
            Some(came.fold((0, 0), |(stored, dead), ledger| {
                (stored + ledger.stored, dead + ledger.dead_letter)
            }))
        };
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        while last.is_none_or(|(stored, dead)| stored < wanted.0 || dead < wanted.1) {
            let said = || site.said();
            assert!(Instant::now() < until, "{last:?} of {wanted:?} are stored: {}", said());
            std::thread::park_timeout(Duration::from_millis(30));
            last = sum().or(last);
        }
    }
}

/// A log that is rotated every so often: by renaming, by copying and truncating, and by compressing
/// what was rotated. Its lines come in halves.
struct Rotated {
    log: PathBuf,
    dice: Dice,
    rotated: usize,
    uncompressed: Vec<PathBuf>,
}

impl Rotated {
    fn new(log: PathBuf) -> Self {
        let dice = Dice(log.as_os_str().len() as u64);
        Self { log, dice, rotated: 0, uncompressed: Vec::new() }
    }

    fn write(&mut self, line: &str) {
        let half = (line.len() / 2..).find(|at| line.is_char_boundary(*at)).unwrap_or_default();
        append(&self.log, &line[..half]);
        if self.dice.below(50) == 0 {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        append(&self.log, &format!("{}\n", &line[half..]));
        if self.dice.below(100) == 0 {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        self.rotated += 1;
        let old = PathBuf::from(format!("{}.{}", self.log.display(), self.rotated));
        if self.dice.below(2) == 0 {
            fs::rename(&self.log, &old).expect("it is renamed");
        } else {
            fs::copy(&self.log, &old).expect("it is copied");
            fs::write(&self.log, "").expect("it is truncated");
        }
        self.uncompressed.push(old);
        if self.uncompressed.len() > 2 {
            compress(&self.uncompressed.remove(0));
        }
    }
}

/// As gzip does it: the compressed file grows beside the other, which is then removed.
fn compress(old: &Path) {
    let bytes = gzip(&fs::read(old).expect("it is there"));
    let new = format!("{}.gz", old.display());
    fs::write(&new, &bytes[..bytes.len() / 2]).expect("it is written");
    std::thread::park_timeout(Duration::from_millis(5));
    fs::write(&new, bytes).expect("it is written");
    fs::remove_file(old).expect("it is removed");
}
