//! Kafka topics, read as a member of a consumer group.
//!
//! One thread polls, gathers what comes within a few milliseconds, and hands it over partition by
//! partition; while that is stored it gathers what comes next, which is handed over after it, so that
//! the journal has the messages of a partition in their order. An offset goes to the group only after
//! the journal has it. When a partition is
//! assigned, reading goes on where the journal ends for it, or where the group is if somebody else
//! read further in between.
//!
//! A message is a record, an array or a container; plain, or gzip or zstd by itself. Its parser is
//! the one of its topic, else the one named in its header `telltale-parser`, else its content says
//! it. A message that is no event is a dead letter and stops nothing.

use super::blocks::is_compressed;
use super::delivery::{Delivery, Refusal, Take, store};
use super::messages::Messages;
use crate::parsers::{self, Parser};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::types::{RDKafkaConfRes, RDKafkaRespErr};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

/// What the source is called.
pub const SOURCE: &str = "kafka";
/// The header that names a message's parser.
const PARSER_HEADER: &str = "telltale-parser";

/// How long messages are gathered once the first has come.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes that are gathered at most.
const GATHER_BYTES: usize = 4 << 20;
/// What a byte of a compressed message counts for: nobody knows what it becomes.
const COMPRESSED: usize = 32;
/// How long a poll waits for a message.
const POLL: Duration = Duration::from_millis(100);
/// How long is waited for the group's offsets when a partition is assigned.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of librdkafka that are this source's own, with what to do instead.
const RESERVED: [(&str, &str); 9] = [
    ("auto.commit.enable", COMMITS),
    ("bootstrap.servers", "set `brokers`"),
    ("enable.auto.commit", COMMITS),
    ("enable.auto.offset.store", COMMITS),
    ("group.id", "set `group`"),
    ("group.instance.id", "set `instance`"),
    ("metadata.broker.list", "set `brokers`"),
    ("offset.store.method", COMMITS),
    (
        "partition.assignment.strategy",
        "leave it out: partitions are taken over one by one, as `cooperative-sticky` has it",
    ),
];
const COMMITS: &str =
    "leave it out: an offset goes to the group once its message is in the journal, and not before";

/// What to read, and how to reach it.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub brokers: String,
    pub topics: Vec<String>,
    pub group: String,
    /// Static membership: a restart within the session's time moves no partition.
    pub instance: Option<String>,
    /// The parser of all messages of a topic.
    pub parsers: BTreeMap<String, String>,
    /// Settings of librdkafka, such as those of TLS and SASL, by its names; not those of which
    /// [`Kafka::check`] says that they are the source's own.
    pub properties: BTreeMap<String, String>,
}

impl Kafka {
    /// Errors: a property that is this source's own.
    fn check_reserved(&self) -> Result<(), String> {
        match RESERVED.iter().find(|(name, _)| self.properties.contains_key(*name)) {
            Some((name, hint)) => Err(format!("`{name}` is no setting of `properties`; {hint}")),
            None => Ok(()),
        }
    }
}

/// A group's member.
pub struct KafkaSource {
    consumer: BaseConsumer<Member>,
    topics: HashMap<String, Option<&'static dyn Parser>>,
    take: Arc<dyn Take>,
}

/// Says where partitions go on.
struct Member {
    take: Arc<dyn Take>,
}

fn partition_name(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(facility, "{message}"),
            _ => debug!(facility, "{message}"),
        }
    }

    fn error(&self, cause: KafkaError, reason: &str) {
        self.take.failed(SOURCE);
        warn!(%cause, "kafka: {reason}");
    }
}

impl ConsumerContext for Member {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let outcome = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.place(consumer, partitions);
                consumer.incremental_assign(partitions)
            }
            _ => consumer.incremental_unassign(partitions),
        };
        if let Err(cause) = outcome {
            error!(%cause, "the group's partitions cannot be taken over");
        }
    }
}

impl Member {
    /// Sets the offsets at which newly assigned partitions are read on.
    fn place(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        let of_group = match consumer.committed_offsets(partitions.clone(), OFFSETS_TIMEOUT) {
            Ok(list) => list.to_topic_map(),
            Err(cause) => {
                warn!(%cause, "the group's offsets cannot be read; the journal's are used");
                HashMap::new()
            }
        };
        let assigned: Vec<_> = partitions
            .elements()
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()))
            .collect();
        for (topic, partition) in assigned {
            let name = partition_name(&topic, partition);
            let ours = self.take.position(SOURCE, &name).and_then(|at| i64::try_from(at).ok());
            let theirs = match of_group.get(&(topic.clone(), partition)) {
                Some(Offset::Offset(at)) => Some(*at),
                _ => None,
            };
            let Some(at) = ours.max(theirs) else { continue };
            info!(partition = name, offset = at, journal = ?ours, group = ?theirs, "reads on");
            if let Err(cause) =
                partitions.set_partition_offset(&topic, partition, Offset::Offset(at))
            {
                error!(%cause, partition = name, "the offset cannot be set");
            }
        }
    }
}

/// The messages of one partition that are handed over together.
struct Gathered {
    topic: String,
    partition: i32,
    messages: Messages,
    /// The offset behind the last of them.
    next: i64,
}

/// What became of them.
struct Handed {
    topic: String,
    partition: i32,
    next: i64,
    stored: bool,
}

impl Kafka {
    /// Errors: properties that are this source's own, or that librdkafka does not know or take.
    /// Connects to nothing.
    pub fn check(&self) -> Result<(), String> {
        self.check_reserved()?;
        let mut config = KafkaSource::client(self);
        // Without brokers there is nobody to connect to, and without a group nothing to leave.
        for name in ["bootstrap.servers", "metadata.broker.list", "group.id", "group.instance.id"] {
            config.remove(name);
        }
        config.create::<BaseConsumer>().map(drop).map_err(|cause| said_of(&cause))
    }
}

/// What librdkafka says of settings, without their values: one of them may be a password.
fn said_of(cause: &KafkaError) -> String {
    match cause {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => format!(
            "librdkafka has no property `{name}`; those that it has are at https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md"
        ),
        // Of a property that takes certain words, librdkafka quotes the one that it does not know.
        KafkaError::ClientConfig(_, said, name, _) if said.starts_with("Invalid value \"") => {
            format!("the property `{name}` has a value that librdkafka does not know")
        }
        KafkaError::ClientConfig(_, said, name, _) => {
            format!("the property `{name}`: {}", said.trim_end())
        }
        KafkaError::ClientCreation(said) => said.clone(),
        other => other.to_string(),
    }
}

impl KafkaSource {
    /// The settings of librdkafka.
    fn client(kafka: &Kafka) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &kafka.brokers)
            .set("group.id", &kafka.group)
            .set("client.id", "telltale")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            .set("fetch.wait.max.ms", "20")
            // What librdkafka holds before it stops fetching, and how soon it looks whether there is
            // room again: after a second, as it would by itself, it has been empty for long.
            .set("queued.max.messages.kbytes", "32768")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.message.max.bytes", "4194304");
        if let Some(instance) = &kafka.instance {
            config.set("group.instance.id", instance);
        }
        for (name, value) in &kafka.properties {
            config.set(name, value);
        }
        config
    }

    /// Joins the group.
    ///
    /// Errors: settings that librdkafka does not know or that are not to be set, a parser that there
    /// is not.
    pub fn join(kafka: &Kafka, take: Arc<dyn Take>) -> Result<Self, String> {
        kafka.check_reserved()?;
        let config = Self::client(kafka);
        let mut topics = HashMap::new();
        for topic in &kafka.topics {
            let parser =
                match kafka.parsers.get(topic) {
                    Some(name) => {
                        let parser = parsers::by_name(name);
                        Some(parser.ok_or_else(|| {
                            format!("unknown parser `{name}` of the topic `{topic}`")
                        })?)
                    }
                    None => None,
                };
            topics.insert(topic.clone(), parser);
        }
        let consumer: BaseConsumer<Member> = config
            .create_with_context(Member { take: Arc::clone(&take) })
            .map_err(|cause| said_of(&cause))?;
        let names: Vec<&str> = kafka.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(|cause| cause.to_string())?;
        Ok(Self { consumer, topics, take })
    }

    /// Reads until `stop` is set, then leaves the group. Called on a thread of its own.
    pub fn run(self, runtime: &Handle, stop: &Arc<AtomicBool>) {
        let mut storing = None;
        while !stop.load(Ordering::Relaxed) {
            let gathered = self.gather(storing.is_some());
            // What comes behind messages that were not stored is read again with them.
            if !self.note(runtime, storing.take()) {
                break;
            }
            if !gathered.is_empty() {
                let (take, stop) = (Arc::clone(&self.take), Arc::clone(stop));
                storing = Some(runtime.spawn(hand_over(gathered, take, stop)));
            }
        }
        let _ = self.note(runtime, storing);
        if let Err(cause) = self.consumer.commit_consumer_state(CommitMode::Sync) {
            debug!(%cause, "no offsets to commit");
        }
    }

    /// Waits until messages are stored, and tells the group; whether all of them were.
    fn note(&self, runtime: &Handle, storing: Option<JoinHandle<Vec<Handed>>>) -> bool {
        let Some(storing) = storing else { return true };
        let done = match runtime.block_on(storing) {
            Ok(done) => done,
            Err(cause) => {
                error!(%cause, "messages were not handed over; a restart reads them again");
                return false;
            }
        };
        for Handed { topic, partition, next, .. } in done.iter().filter(|handed| handed.stored) {
            // A partition that was taken away meanwhile is somebody else's; what was read of it is
            // stored here as well.
            if let Err(cause) = self.consumer.store_offset(topic, *partition, next - 1) {
                debug!(%cause, topic, partition, "the offset does not go to the group");
            }
        }
        done.iter().all(|handed| handed.stored)
    }

    /// The messages of the next few milliseconds; none where none comes soon. Where some are being
    /// stored, it is looked soon whether they are.
    fn gather(&self, are_storing: bool) -> Vec<Gathered> {
        let mut gathered: Vec<Gathered> = Vec::new();
        let (mut bytes, mut until) = (0, are_storing.then(|| Instant::now() + GATHER));
        loop {
            let wait = match until {
                None => POLL,
                Some(until) => until.saturating_duration_since(Instant::now()),
            };
            match self.consumer.poll(wait) {
                None => break,
                Some(Err(cause)) => {
                    warn!(%cause, "kafka cannot be read");
                    break;
                }
                Some(Ok(message)) => {
                    until.get_or_insert_with(|| Instant::now() + GATHER);
                    bytes += weight(message.payload().unwrap_or_default());
                    let (topic, partition) = (message.topic(), message.partition());
                    let known = gathered
                        .iter()
                        .position(|known| known.partition == partition && known.topic == topic);
                    let at = known.unwrap_or_else(|| {
                        gathered.push(Gathered::of(topic, partition));
                        gathered.len() - 1
                    });
                    let parser = self.parser_of(&message);
                    let payload = message.payload().unwrap_or_default();
                    gathered[at].add(message.offset(), payload, parser);
                    if bytes >= GATHER_BYTES {
                        break;
                    }
                }
            }
        }
        gathered
    }

    fn parser_of(&self, message: &BorrowedMessage<'_>) -> Option<&'static dyn Parser> {
        let of_topic = self.topics.get(message.topic()).copied().flatten();
        of_topic.or_else(|| {
            let headers = message.headers()?;
            let named = headers.iter().find(|header| header.key == PARSER_HEADER)?;
            parsers::by_name(std::str::from_utf8(named.value?).ok()?)
        })
    }
}

/// Hands messages over until they are stored, or the service stops.
async fn hand_over(
    gathered: Vec<Gathered>,
    take: Arc<dyn Take>,
    stop: Arc<AtomicBool>,
) -> Vec<Handed> {
    let (take, stop) = (take.as_ref(), stop.as_ref());
    let all = gathered.into_iter().map(|gathered| async move {
        let ends = |cause: &Refusal| *cause == Refusal::Closed || stop.load(Ordering::Relaxed);
        let (topic, partition, next) = (gathered.topic.clone(), gathered.partition, gathered.next);
        let stored = store(take, gathered.delivery(), ends).await.is_ok();
        Handed { topic, partition, next, stored }
    });
    futures::future::join_all(all).await
}

/// Bytes that a message counts for where messages are gathered.
fn weight(payload: &[u8]) -> usize {
    if is_compressed(payload) { payload.len() * COMPRESSED } else { payload.len() }
}

impl Gathered {
    fn of(topic: &str, partition: i32) -> Self {
        Self { topic: topic.to_owned(), partition, messages: Messages::default(), next: 0 }
    }

    fn add(&mut self, offset: i64, payload: &[u8], parser: Option<&'static dyn Parser>) {
        self.next = offset + 1;
        let offset = u64::try_from(offset).unwrap_or_default();
        let is_line = !is_compressed(payload)
            && memchr::memchr2(b'\n', 0, payload.trim_ascii_end()).is_none();
        match is_line {
            true => self.messages.line(parser, payload.trim_ascii_end(), offset),
            false => self.messages.other(parser, payload, offset),
        }
    }

    fn delivery(self) -> Delivery {
        let name = partition_name(&self.topic, self.partition);
        // Records without id and time are told apart by the offset of their message, which is the
        // position of a line; within a message of several records their number is.
        let pieces = self.messages.into_pieces(|_, piece| match *piece.offsets {
            [offset, ..] if !piece.are_lines => format!("{SOURCE}:{name}:{offset}"),
            _ => format!("{SOURCE}:{name}"),
        });
        Delivery {
            source: SOURCE.into(),
            partition: name.into(),
            pieces,
            rejected: Vec::new(),
            position: u64::try_from(self.next).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Rejects;
    use crate::reading::read_block;
    use crate::redact::{Key, Redactor};
    use crate::sources::Limits;
    use std::collections::BTreeSet;
    use telltale_schema::EventId;

    fn with(name: &str) -> Kafka {
        Kafka {
            brokers: "127.0.0.1:1".to_owned(),
            topics: vec!["audit".to_owned()],
            group: "telltale".to_owned(),
            instance: None,
            parsers: BTreeMap::new(),
            properties: BTreeMap::from([(name.to_owned(), "true".to_owned())]),
        }
    }

    #[test]
    fn properties_that_are_the_sources_own_are_refused() {
        for (name, _) in RESERVED {
            let said = with(name).check_reserved().unwrap_err();
            assert!(
                said.starts_with(&format!("`{name}` is no setting of `properties`; ")),
                "{said}"
            );
        }
        for name in ["security.protocol", "sasl.password", "auto.offset.reset", "client.id"] {
            assert_eq!(with(name).check_reserved(), Ok(()), "{name}");
        }
    }

    /// Ids of the events of messages, gathered so many at a time.
    fn ids(messages: &[&str], at_once: usize) -> BTreeSet<EventId> {
        let (redactor, mut ids) = (Redactor::new(&Key::from_bytes([1; 32])), BTreeSet::new());
        let numbered: Vec<_> = (7_i64..).zip(messages).collect();
        for batch in numbered.chunks(at_once) {
            let mut gathered = Gathered::of("audit", 3);
            for (offset, message) in batch {
                gathered.add(*offset, message.as_bytes(), None);
            }
            for piece in gathered.delivery().pieces {
                let mut reader = piece.into_reader(Limits::default()).unwrap();
                let mut rejects = Rejects::default();
                while let Some((block, plan)) = reader.next_block(&mut rejects) {
                    read_block(block, plan, &redactor, 0, &mut rejects, |_, batch| {
                        ids.extend(batch.rows().map(|row| batch.event_id(row)));
                    });
                }
            }
        }
        ids
    }

    /// As when a partition moves while messages are under way, and they are read again.
    #[test]
    fn a_message_has_one_identity_however_it_is_cut_into_batches() {
        let line = "Using environment access key CLEARML_API_ACCESS_KEY=TASKKEY02";
        let two = format!("{line}\n{line}\n");
        let messages = [line, "", line, &two, line, line];
        let whole = ids(&messages, messages.len());
        assert_eq!(whole.len(), 6);
        for at_once in 1..messages.len() {
            assert_eq!(ids(&messages, at_once), whole, "{at_once} at once");
        }
    }

    #[test]
    fn a_mistake_in_a_property_is_named_without_its_value() {
        let check = |properties: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let kafka = Kafka {
                brokers: "127.0.0.1:9".to_owned(),
                topics: vec!["audit".to_owned()],
                group: "telltale".to_owned(),
                instance: None,
                parsers: BTreeMap::new(),
                properties: properties.iter().map(pair).collect(),
            };
            kafka.check()
        };
        assert_eq!(check(&[("session.timeout.ms", "1200")]), Ok(()));
        for (name, hint) in [
            ("sasl.pasword", "librdkafka has no property `sasl.pasword`"),
            ("session.timeout.ms", "the property `session.timeout.ms`: "),
            ("security.protocol", "the property `security.protocol` has a value"),
        ] {
            let said = check(&[(name, "hunter2")]).expect_err("it is refused");
            assert!(said.contains(hint) && !said.contains("hunter2"), "{said}");
        }
    }
}
