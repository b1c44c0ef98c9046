//! Objects of an object store: logs that a cloud delivers into a bucket.
//!
//! An object is new when the store was given it after the last one that was read, by the store's own
//! time. That time is the position in the journal, one for each lane: the whole prefix, or a folder
//! whose objects lie by day (`…/YYYY/MM/DD/…`), of which only the days are listed that may have
//! something new. Objects are read in the order of that time. A store shows an object a while after the
//! time that it gives it, so what lies [`MARGIN`] behind is looked at again; what of that was read is
//! known while the process runs, and told by the ids of events after a restart.

use super::blocks::{BlockReader, Limits};
use super::delivery::{Delivery, Refusal, Rejected, Take, store};
use super::messages::Messages;
use crate::parsers::Parser;
use crate::payload::{Block, Payload, Rejects};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};
use xxhash_rust::xxh3::xxh3_64;

/// What the source is called.
pub const SOURCE: &str = "objects";

/// How long after its time an object may show.
const MARGIN: TimeDelta = TimeDelta::minutes(15);
/// Objects of a listing that are read before the next: the oldest; about 200 bytes each.
const MAX_LISTED: usize = 50_000;
/// Objects of a lane that are remembered within the margin, 16 bytes each.
const MAX_SEEN: usize = 1_000_000;
/// Objects that are asked for at once, and bytes that are asked for at once of one.
const PARALLEL: usize = 8;
const PART_BYTES: u64 = 4 << 20;
/// Bytes that are handed over at once.
const BLOCK_BYTES: usize = 1 << 20;
/// How deep below the prefix folders of years are looked for, and how many there may be.
const MAX_DEPTH: usize = 8;
const MAX_LANES: usize = 20_000;
/// Below the first of these, where AWS delivers logs of many kinds, only the second holds events.
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>
const AWS_LOGS: [&str; 2] = ["AWSLogs", "CloudTrail"];
/// How long is waited after a failure: from the first, doubled up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// An object as it comes.
type Parts = BoxStream<'static, Result<Bytes, Error>>;

/// How objects lie below the prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// In any way; all of them are listed every time.
    #[default]
    Plain,
    /// In folders by day, `…/YYYY/MM/DD/…`.
    Days,
}

/// What to read.
pub struct Objects {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
    /// The store's name, as partitions begin: `s3://bucket`.
    pub name: String,
    pub layout: Layout,
    /// Parser of every record; where there is none each record says it.
    pub parser: Option<&'static dyn Parser>,
    pub poll_interval: Duration,
    /// How many days an object may lie before the day on which the store was given it.
    pub lookback: Duration,
    /// What the store was given before is passed over.
    pub since: Option<DateTime<Utc>>,
    pub limits: Limits,
}

/// The beginning of a day such as `2026-03-01`, in UTC.
pub fn day(text: &str) -> Option<DateTime<Utc>> {
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_time(chrono::NaiveTime::MIN).and_utc())
}

/// A prefix that is read in the order of the store's time.
struct Lane {
    partition: Arc<str>,
    /// The latest time of what was read.
    read_to: Option<DateTime<Utc>>,
    /// Everything before has been read.
    floor: DateTime<Utc>,
    /// What was read from there on: time and a hash of key and version.
    seen: BTreeSet<(DateTime<Utc>, u64)>,
}

/// Why reading ends.
enum Trouble {
    /// On what, and why.
    Store(String, Error),
    Stopped,
}

impl Objects {
    /// Reads until `stop` is set. Called on a thread of its own.
    pub fn run(self, take: &dyn Take, runtime: &Handle, stop: &AtomicBool) {
        Reading { objects: &self, take, runtime, stop }.run();
    }

    fn named(&self, path: &Path) -> String {
        format!("{}/{path}", self.name)
    }
}

/// What is needed to read objects.
#[derive(Clone, Copy)]
struct Reading<'o> {
    objects: &'o Objects,
    take: &'o dyn Take,
    runtime: &'o Handle,
    stop: &'o AtomicBool,
}

impl Reading<'_> {
    fn run(self) {
        let mut lanes: BTreeMap<Path, Lane> = BTreeMap::new();
        let mut retry = RETRY.0;
        let mut said: Option<String> = None;
        loop {
            let pause = match self.poll(&mut lanes) {
                Ok(()) => {
                    if said.take().is_some() {
                        info!(store = self.objects.name, "the object store can be read again");
                    }
                    retry = RETRY.0;
                    self.objects.poll_interval
                }
                Err(Trouble::Stopped) => return,
                Err(Trouble::Store(what, cause)) => {
                    self.take.failed(SOURCE);
                    let hint = hint(&cause);
                    if said.as_deref() != Some(hint) {
                        warn!(store = self.objects.name, what, %cause, hint, "the object store cannot be read; it is tried again, and nothing is lost");
                        said = Some(hint.to_owned());
                    }
                    let pause = retry;
                    retry = (retry * 2).min(RETRY.1);
                    pause
                }
            };
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let left = until.saturating_duration_since(Instant::now());
                std::thread::park_timeout(left.min(Duration::from_millis(100)));
            }
        }
    }

    /// Reads everything that is new. One lane that cannot be read does not keep others waiting; a
    /// store that does not answer ends it.
    fn poll(self, lanes: &mut BTreeMap<Path, Lane>) -> Result<(), Trouble> {
        let mut refused = None;
        for prefix in self.wait(self.lanes())?? {
            let lane = lanes.entry(prefix.clone()).or_insert_with(|| self.lane(&prefix));
            match self.read_lane(&prefix, lane) {
                Err(Trouble::Store(what, cause)) if is_of_one(&cause) => {
                    refused.get_or_insert(Trouble::Store(what, cause));
                }
                result => result?,
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The prefixes that are read each for itself.
    async fn lanes(&self) -> Result<Vec<Path>, Trouble> {
        if self.objects.layout == Layout::Plain {
            return Ok(vec![self.objects.prefix.clone()]);
        }
        let (mut lanes, mut folders) = (Vec::new(), vec![(self.objects.prefix.clone(), 0)]);
        while let Some((folder, depth)) = folders.pop() {
            let listed = self.objects.store.list_with_delimiter(Some(&folder)).await;
            let listed =
                listed.map_err(|cause| Trouble::Store(self.objects.named(&folder), cause))?;
            let name = |path: &Path| path.filename().unwrap_or_default().to_owned();
            if listed.common_prefixes.iter().any(|below| is_year(&name(below))) {
                lanes.extend(Some(folder).filter(holds_events));
            } else if depth < MAX_DEPTH {
                let below = listed.common_prefixes.into_iter();
                folders.extend(below.map(|below| (below, depth + 1)));
            }
            if lanes.len() + folders.len() > MAX_LANES {
                warn!(
                    store = self.objects.name,
                    "there are more than {MAX_LANES} folders; the rest is not read. Name a longer prefix"
                );
                break;
            }
        }
        lanes.sort();
        Ok(lanes)
    }

    /// A lane as the journal knows it.
    fn lane(self, prefix: &Path) -> Lane {
        let partition = self.objects.named(prefix);
        let known = self.take.position(SOURCE, &partition).and_then(|at| i64::try_from(at).ok());
        let read_to = known.and_then(DateTime::from_timestamp_micros);
        let since = self.objects.since.unwrap_or(DateTime::UNIX_EPOCH);
        let floor = read_to.map_or(since, |at| since.max(at - MARGIN));
        Lane { partition: partition.into(), read_to, floor, seen: BTreeSet::new() }
    }

    fn read_lane(self, prefix: &Path, lane: &mut Lane) -> Result<(), Trouble> {
        loop {
            let (batch, is_all) = self.wait(self.list(prefix, lane))??;
            let mut fetched = futures::stream::iter(batch)
                .map(|meta| async {
                    let got = self.fetch(&meta).await;
                    (meta, got)
                })
                .buffered(PARALLEL);
            while let Some((meta, got)) = self.wait(fetched.next())? {
                match got {
                    Ok(parts) => self.read(&meta, parts, lane)?,
                    Err(Error::NotFound { .. }) => {
                        debug!(object = %meta.location, "is gone before it was read");
                    }
                    Err(cause) => {
                        return Err(Trouble::Store(self.objects.named(&meta.location), cause));
                    }
                }
                lane.note(&meta);
            }
            if is_all {
                return Ok(());
            }
        }
    }

    /// The oldest objects that were not read yet, and whether these are all.
    async fn list(self, prefix: &Path, lane: &Lane) -> Result<(Vec<ObjectMeta>, bool), Trouble> {
        let mut listed = match self.first_day(prefix, lane) {
            Some(day) => self.objects.store.list_with_offset(Some(prefix), &day),
            None => self.objects.store.list(Some(prefix)),
        };
        let (mut oldest, mut is_all) = (BTreeMap::new(), true);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|cause| Trouble::Store(self.objects.named(prefix), cause))?;
            if meta.size == 0 || !lane.is_new(&meta) {
                continue;
            }
            oldest.insert((meta.last_modified, meta.location.clone()), meta);
            if oldest.len() > MAX_LISTED {
                oldest.pop_last();
                is_all = false;
            }
        }
        Ok((oldest.into_values().collect(), is_all))
    }

    /// The folder of the first day that may hold something new.
    fn first_day(self, prefix: &Path, lane: &Lane) -> Option<Path> {
        if self.objects.layout == Layout::Plain || lane.floor == DateTime::UNIX_EPOCH {
            return None;
        }
        let lookback = TimeDelta::from_std(self.objects.lookback).ok()?;
        let day = lane.floor.checked_sub_signed(lookback)?;
        let parts = ["%Y", "%m", "%d"].map(|part| day.format(part).to_string());
        Some(parts.iter().fold(prefix.clone(), |path, part| path.join(part.as_str())))
    }

    /// The content. Where it is short all of it is there, else it is asked for part by part as it is
    /// read, so that no request lasts as long as what is done with its answer.
    async fn fetch(self, meta: &ObjectMeta) -> Result<Parts, Error> {
        if meta.size <= PART_BYTES {
            let bytes = self.objects.store.get(&meta.location).await?.bytes().await?;
            return Ok(futures::stream::iter([Ok(bytes)]).boxed());
        }
        let (store, meta) = (Arc::clone(&self.objects.store), meta.clone());
        let beginnings = (0..meta.size).step_by(PART_BYTES as usize);
        let part = move |from: u64| {
            let (store, location) = (Arc::clone(&store), meta.location.clone());
            let range = from..meta.size.min(from + PART_BYTES);
            // Parts of one version.
            let options = GetOptions {
                range: Some(range.into()),
                if_match: meta.e_tag.clone(),
                ..GetOptions::default()
            };
            async move { store.get_opts(&location, options).await?.bytes().await }
        };
        Ok(futures::stream::iter(beginnings).then(part).boxed())
    }

    /// Hands over what an object holds; it is stored when this returns.
    fn read(self, meta: &ObjectMeta, parts: Parts, lane: &Lane) -> Result<(), Trouble> {
        let named = self.objects.named(&meta.location);
        let failed = Arc::new(Mutex::new(None));
        let check = || match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(cause) => Err(Trouble::Store(named.clone(), cause)),
            None => Ok(()),
        };
        let content = Content {
            parts,
            held: Bytes::new(),
            runtime: self.runtime.clone(),
            failed: Arc::clone(&failed),
        };
        // The same object in the same version is the same records.
        let origin = format!("{named}#{}", meta.e_tag.as_deref().unwrap_or_default());
        let before = lane.read_to.map_or(0, position);
        let delivery = || Delivery {
            source: SOURCE.into(),
            partition: Arc::clone(&lane.partition),
            pieces: Vec::new(),
            rejected: Vec::new(),
            position: Some(before),
        };
        let mut rejects = Rejects::keeping_singles();
        let mut held = None;
        let limits = Limits {
            block_bytes: self.objects.limits.block_bytes.max(BLOCK_BYTES),
            ..self.objects.limits
        };
        match BlockReader::new(&origin, content, self.objects.parser, limits, Arc::default()) {
            Ok(reader) => {
                let mut reader = reader.trusting();
                while let Some((block, _)) = reader.next_block(&mut rejects) {
                    check()?;
                    if let Some(delivery) = held.take() {
                        self.hand_over(delivery)?;
                    }
                    let mut delivery = delivery();
                    self.fill(&mut delivery, block, &origin, &mut rejects);
                    held = Some(delivery);
                }
            }
            Err(cause) => rejects.remark(format_args!("cannot be read: {cause}")),
        }
        check()?;
        // The last of it says that all of it is stored.
        let mut last = held.unwrap_or_else(delivery);
        last.position = Some(before.max(position(meta.last_modified)));
        for single in rejects.take_singles() {
            let (position, head) = (single.position, single.text.unwrap_or_default().into());
            let reason = format!("`{named}`: {}", single.reason);
            last.rejected.push(Rejected { position, reason, head });
        }
        for remark in rejects.remarks() {
            let reason = format!("`{named}`: {}", remark.reason);
            warn!(
                object = named,
                reason = remark.reason,
                "is not read as a whole; a dead letter says so"
            );
            last.rejected.push(Rejected { position: remark.position, reason, head: Bytes::new() });
        }
        self.hand_over(last)
    }

    fn fill(self, delivery: &mut Delivery, block: Block, origin: &str, rejects: &mut Rejects) {
        let first = block.first_position;
        let mut messages = Messages::default();
        for (position, record) in Payload::unredacted(block, rejects).records() {
            if memchr::memchr(b'\n', record.as_bytes()).is_none() {
                messages.line(self.objects.parser, record.as_bytes(), position);
            } else {
                messages.other(self.objects.parser, record.as_bytes(), position);
            }
        }
        delivery.pieces = messages.into_pieces(|number, _| format!("{origin}:{first}:{number}"));
    }

    fn hand_over(self, delivery: Delivery) -> Result<(), Trouble> {
        let ends = |_: &Refusal| self.stop.load(Ordering::Relaxed);
        let stored = self.runtime.block_on(store(self.take, delivery, ends));
        stored.map(drop).map_err(|_| Trouble::Stopped)
    }

    /// Waits for the store, and not for longer than the service runs.
    fn wait<T>(self, future: impl Future<Output = T>) -> Result<T, Trouble> {
        self.runtime.block_on(async {
            tokio::pin!(future);
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Trouble::Stopped);
                }
                let turn = tokio::time::timeout(Duration::from_millis(100), &mut future);
                if let Ok(done) = turn.await {
                    return Ok(done);
                }
            }
        })
    }
}

impl Lane {
    fn is_new(&self, meta: &ObjectMeta) -> bool {
        meta.last_modified >= self.floor && !self.seen.contains(&(meta.last_modified, hash(meta)))
    }

    /// Remembers that an object was read.
    fn note(&mut self, meta: &ObjectMeta) {
        self.seen.insert((meta.last_modified, hash(meta)));
        let read_to = self.read_to.map_or(meta.last_modified, |at| at.max(meta.last_modified));
        self.read_to = Some(read_to);
        self.floor = self.floor.max(read_to - MARGIN);
        while let Some((at, _)) = self.seen.first().copied()
            && (at < self.floor || self.seen.len() > MAX_SEEN && at < read_to)
        {
            // What is older than what was read last has been read.
            self.floor = self.floor.max(at + TimeDelta::microseconds(1));
            self.seen.pop_first();
        }
    }
}

fn position(at: DateTime<Utc>) -> u64 {
    u64::try_from(at.timestamp_micros()).unwrap_or_default()
}

fn hash(meta: &ObjectMeta) -> u64 {
    let version = meta.e_tag.as_deref().unwrap_or_default();
    xxh3_64(format!("{}\n{version}", meta.location).as_bytes())
}

fn holds_events(folder: &Path) -> bool {
    let [has_aws, has_trail] =
        AWS_LOGS.map(|name| folder.parts().any(|part| part.as_ref() == name));
    has_trail || !has_aws
}

fn is_year(name: &str) -> bool {
    name.len() == 4 && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether it is an object or a prefix that fails, and not the store. One that was written anew while it
/// was read is another in the next listing.
fn is_of_one(cause: &Error) -> bool {
    use Error::{NotFound, PermissionDenied, Precondition};
    matches!(cause, NotFound { .. } | PermissionDenied { .. } | Precondition { .. })
}

fn hint(cause: &Error) -> &'static str {
    match cause {
        Error::Unauthenticated { .. } => {
            "the credentials are not known to the store; they come from the environment, such as AWS_ACCESS_KEY_ID"
        }
        Error::PermissionDenied { .. } => {
            "the credentials have to allow to list the bucket and to get its objects (s3:ListBucket, s3:GetObject, kms:Decrypt)"
        }
        Error::NotFound { .. } => "there is no such bucket or container",
        _ => "the store is away or answers with errors",
    }
}

/// The bytes of an object as they come. That they do not come is no fault of the object.
struct Content {
    parts: Parts,
    held: Bytes,
    runtime: Handle,
    failed: Arc<Mutex<Option<Error>>>,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.is_empty() {
            match self.runtime.block_on(self.parts.next()) {
                Some(Ok(bytes)) => self.held = bytes,
                Some(Err(cause)) => {
                    let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed = Some(cause);
                    return Err(io::Error::other("the object store does not give it"));
                }
                None => return Ok(0),
            }
        }
        let read = self.held.len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.held.split_to(read));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, at: &str) -> ObjectMeta {
        let last_modified = at.parse().unwrap();
        let (location, e_tag) = (Path::from(name), None);
        ObjectMeta { location, last_modified, size: 1, e_tag, version: None }
    }

    fn lane() -> Lane {
        let floor = day("2026-03-01").unwrap();
        Lane { partition: "s3://b".into(), read_to: None, floor, seen: BTreeSet::new() }
    }

    #[test]
    fn an_object_is_new_once_and_as_long_as_it_may_still_show() {
        let mut lane = lane();
        assert!(!lane.is_new(&object("before", "2026-02-28T23:59:59Z")));
        let first = object("a", "2026-03-01T10:00:00Z");
        assert!(lane.is_new(&first));
        lane.note(&first);
        assert!(!lane.is_new(&first));
        // Of the same time, of a moment before, and long before.
        assert!(lane.is_new(&object("b", "2026-03-01T10:00:00Z")));
        assert!(lane.is_new(&object("c", "2026-03-01T09:46:00Z")));
        assert!(!lane.is_new(&object("d", "2026-03-01T09:44:00Z")));
        let mut again = first.clone();
        again.e_tag = Some("2".to_owned());
        assert!(lane.is_new(&again));
    }

    #[test]
    fn what_lies_behind_the_margin_is_forgotten_and_not_read_again() {
        let mut lane = lane();
        let objects: Vec<_> = (0..60)
            .map(|minute| object(&minute.to_string(), &format!("2026-03-01T10:{minute:02}:00Z")))
            .collect();
        objects.iter().for_each(|object| lane.note(object));
        assert_eq!(lane.seen.len(), 16);
        assert!(!objects.iter().any(|object| lane.is_new(object)));
    }
}
