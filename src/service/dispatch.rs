//! Findings from the journal to the sinks: a thread for each sink, at least once.
//!
//! A finding is in the journal before a sink hears of it. `sinks/NAME` in the data folder says up to
//! which entry of the journal the sink knows everything, and which findings of those it has not
//! delivered; what the journal holds behind that entry is told again after a restart. So a sink that
//! is down loses nothing, and holds nothing up.

use super::kept::{self, Kind};
use super::stats::Stats;
use crate::journal::disk::Disk;
use crate::journal::{Entry, Reader};
use crate::pipeline::lock;
use crate::sinks::{Sink, SinkError};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use telltale_schema::Finding;
use tracing::{error, info, warn};

const KIND: Kind = Kind { magic: *b"ttsk", format: 1 };

/// Findings that wait for a sink; above it the oldest is given up, and counted.
const MAX_WAITING: usize = 10_000;
/// Findings that a sink is offered at once.
const BATCH: usize = 100;
/// How long is waited after a failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a sink looks after the alerts that it holds.
const TICK: Duration = Duration::from_secs(5);
/// How often the entry that is known is written down where there was nothing to deliver.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// Findings of the journal on their way to one sink.
#[derive(Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    bell: Condvar,
}

#[derive(Default)]
struct Mail {
    /// Number of the last entry whose findings are here or were taken.
    entry: u64,
    findings: Waiting,
    /// What delivers from now on, where that changed.
    sink: Option<Box<dyn Sink>>,
    closed: bool,
}

impl Mailbox {
    /// Everything up to `entry` is in the journal; these are the findings since the last call.
    pub fn put(&self, entry: u64, findings: &[Finding]) {
        let mut mail = lock(&self.mail);
        mail.entry = entry;
        if !findings.is_empty() {
            findings.iter().for_each(|finding| mail.findings.add(finding.clone()));
            self.bell.notify_one();
        }
    }

    /// From now on this one delivers.
    pub fn replace(&self, sink: Box<dyn Sink>) {
        lock(&self.mail).sink = Some(sink);
        self.bell.notify_one();
    }

    /// Nothing more will come.
    pub fn close(&self) {
        lock(&self.mail).closed = true;
        self.bell.notify_one();
    }

    /// What is there, at once or after `wait`; the entry stays.
    fn take(&self, wait: Duration) -> Mail {
        let mail = lock(&self.mail);
        let empty =
            |mail: &mut Mail| mail.findings.all.is_empty() && mail.sink.is_none() && !mail.closed;
        let waited = self.bell.wait_timeout_while(mail, wait, empty);
        let (mut mail, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let findings = std::mem::take(&mut mail.findings);
        Mail { entry: mail.entry, findings, sink: mail.sink.take(), closed: mail.closed }
    }
}

/// Findings in the order in which they were last told, each once.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Waiting {
    all: Vec<Finding>,
    /// How many were given up and not counted yet.
    #[serde(skip)]
    dropped: u64,
}

impl Waiting {
    fn add(&mut self, finding: Finding) {
        self.all.retain(|earlier| earlier.id != finding.id);
        if self.all.len() >= MAX_WAITING {
            self.all.remove(0);
            self.dropped += 1;
        }
        self.all.push(finding);
    }
}

/// What a sink's file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Number of the last entry whose findings were delivered or wait here.
    entry: u64,
    waiting: Waiting,
}

fn place(data: &Path, name: &str) -> PathBuf {
    data.join("sinks").join(name)
}

/// How many findings wait for the sink of that name, for who looks from outside.
pub fn waiting(data: &Path, name: &str) -> Result<usize> {
    let known: Option<(Known, _)> = kept::read(&place(data, name), &KIND)?;
    Ok(known.map_or(0, |(known, _)| known.waiting.all.len()))
}

/// The names of the sinks that a data folder knows, in alphabetical order.
pub fn names(data: &Path) -> Vec<String> {
    let files = std::fs::read_dir(data.join("sinks")).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| !name.contains('.')).collect();
    names.sort_unstable();
    names
}

/// The thread of one sink.
pub struct Dispatcher {
    name: String,
    sink: Box<dyn Sink>,
    file: PathBuf,
    known: Known,
    /// What of `known` is on disk, for who drops segments of the journal.
    noted: Arc<AtomicU64>,
    mailbox: Arc<Mailbox>,
    stats: Arc<Stats>,
    /// How often the sink had hit a bound when that was counted last.
    evicted: u64,
    /// Whether `known` differs from the file.
    changed: bool,
    failing: bool,
    unwritable: bool,
}

impl Dispatcher {
    /// Goes on where the sink was; a new one begins behind entry `last`.
    ///
    /// Errors: a sink's file, or the journal, that cannot be read or written.
    pub fn new(
        name: String,
        sink: Box<dyn Sink>,
        data: &Path,
        disk: &dyn Disk,
        last: u64,
        stats: Arc<Stats>,
    ) -> Result<Self> {
        let file = place(data, &name);
        let known = match kept::read(&file, &KIND)? {
            Some((known, _)) => known,
            None => {
                let known = Known { entry: last, waiting: Waiting::default() };
                let kept = std::fs::create_dir_all(data.join("sinks"))
                    .and_then(|()| kept::write(&file, &KIND, &known));
                kept.with_context(|| format!("cannot write `{}`", file.display()))?;
                known
            }
        };
        let noted = Arc::new(AtomicU64::new(known.entry));
        let mut this = Self {
            name,
            sink,
            file,
            known,
            noted,
            mailbox: Arc::default(),
            stats,
            evicted: 0,
            changed: false,
            failing: false,
            unwritable: false,
        };
        this.catch_up(disk)?;
        Ok(this)
    }

    /// Takes in what the journal holds behind the entry that is known.
    fn catch_up(&mut self, disk: &dyn Disk) -> Result<()> {
        let mut reader = Reader::open(disk, self.known.entry + 1)?;
        let mut missed = Waiting::default();
        let mut last = self.known.entry;
        while let Some((number, body)) = reader.next_entry()? {
            let head = Entry::decode_head(number, &body)?;
            head.findings.into_iter().for_each(|finding| missed.add(finding));
            last = number;
        }
        self.take_in(last, missed);
        Ok(())
    }

    /// Where findings are put for it.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Number of the last entry of the journal that it does not need any more.
    pub fn noted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.noted)
    }

    /// Delivers until the mailbox is closed, and then once more what is left.
    pub fn run(mut self) {
        let (mut pause, mut again) = (FIRST_PAUSE, Instant::now());
        let (mut ticked, mut noted) = (Instant::now(), Instant::now());
        self.stats.sink_begins(&self.name);
        loop {
            let wait = match self.known.waiting.all.is_empty() {
                true => TICK,
                false => again.saturating_duration_since(Instant::now()).min(TICK),
            };
            let Mail { entry, findings: news, sink, closed } = self.mailbox.take(wait);
            self.take_in(entry, news);
            if let Some(sink) = sink {
                // What the old one could not deliver is tried at once.
                (self.sink, pause, again) = (sink, FIRST_PAUSE, Instant::now());
                self.evicted = 0;
            }
            let is_due = !self.known.waiting.all.is_empty() && (closed || Instant::now() >= again);
            if is_due {
                pause = match self.deliver() {
                    true => FIRST_PAUSE,
                    false => {
                        again = Instant::now() + pause;
                        (pause * 2).min(LONGEST_PAUSE)
                    }
                };
                self.count_evicted();
            }
            if is_due || closed || noted.elapsed() >= NOTE_EVERY {
                noted = Instant::now();
                self.note();
            }
            if closed {
                return;
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                if let Err(cause) = self.sink.tick(SystemTime::now()) {
                    self.say(cause);
                }
            }
        }
    }

    fn take_in(&mut self, entry: u64, news: Waiting) {
        self.changed |= entry > self.known.entry || !news.all.is_empty();
        self.known.entry = self.known.entry.max(entry);
        let waiting = &mut self.known.waiting;
        news.all.into_iter().for_each(|finding| waiting.add(finding));
        let dropped = std::mem::take(&mut waiting.dropped) + news.dropped;
        if dropped > 0 {
            let name = &self.name;
            self.stats.sink_findings.with_label_values(&[name, "dropped"]).inc_by(dropped);
            error!(
                sink = name,
                findings = dropped,
                "too many findings wait; the oldest are not delivered, and stay in the table `findings`"
            );
        }
        self.count_waiting();
    }

    fn count_waiting(&self) {
        let waiting = i64::try_from(self.known.waiting.all.len()).unwrap_or(i64::MAX);
        self.stats.sink_waiting.with_label_values(&[&self.name]).set(waiting);
    }

    fn count_evicted(&mut self) {
        let evicted = self.sink.evicted_total();
        let before = std::mem::replace(&mut self.evicted, evicted);
        let counter = self.stats.sink_evicted.with_label_values(&[&self.name]);
        counter.inc_by(evicted.saturating_sub(before));
    }

    /// Whether everything that waits is delivered.
    fn deliver(&mut self) -> bool {
        let mut most = BATCH;
        while !self.known.waiting.all.is_empty() {
            let count = self.known.waiting.all.len().min(most);
            let settled = match self.sink.deliver(&self.known.waiting.all[..count]) {
                Ok(()) => "delivered",
                Err(cause) if !cause.is_for_good() => {
                    self.say(cause);
                    return false;
                }
                // One of them is not to the taste of the other side; the others are delivered.
                Err(_) if count > 1 => {
                    most = 1;
                    continue;
                }
                Err(cause) => {
                    let id = &self.known.waiting.all[0].id;
                    let cause = format!("{:#}", anyhow::Error::from(cause));
                    error!(
                        sink = self.name,
                        id,
                        cause,
                        "a finding is refused for good; it stays in the table `findings`"
                    );
                    "refused"
                }
            };
            self.known.waiting.all.drain(..count);
            self.changed = true;
            let settled = self.stats.sink_findings.with_label_values(&[&self.name, settled]);
            settled.inc_by(count as u64);
            self.count_waiting();
        }
        if std::mem::take(&mut self.failing) {
            info!(sink = self.name, "the sink takes findings again");
        }
        true
    }

    /// Counts a failure, and says the first of several.
    fn say(&mut self, cause: SinkError) {
        self.stats.sink_failures.with_label_values(&[&self.name]).inc();
        if !std::mem::replace(&mut self.failing, true) {
            let cause = format!("{:#}", anyhow::Error::from(cause));
            warn!(sink = self.name, cause, "findings wait until the sink takes them");
        }
    }

    /// Writes down what is known.
    fn note(&mut self) {
        if !self.changed {
            return;
        }
        match kept::write(&self.file, &KIND, &self.known) {
            Ok(()) => {
                (self.changed, self.unwritable) = (false, false);
                self.noted.store(self.known.entry, Ordering::Relaxed);
            }
            Err(cause) => {
                if !std::mem::replace(&mut self.unwritable, true) {
                    error!(sink = self.name, %cause, "what a sink has delivered cannot be written down; after a restart it comes again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::Folder;
    use crate::service::journal_folder;
    use crate::sinks::tests::finding;

    /// Has no room for what it takes.
    struct Full(u64);

    impl Sink for Full {
        fn name(&self) -> &'static str {
            "full"
        }

        fn deliver(&mut self, findings: &[Finding]) -> Result<(), SinkError> {
            self.0 += findings.len() as u64;
            Ok(())
        }

        fn evicted_total(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn bounds_that_a_sink_hits_are_counted() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let data = folder.path();
        let disk = Folder::create(journal_folder(data)).expect("a folder can be made");
        let (stats, sink) = (Arc::new(Stats::new()), Box::new(Full(0)));
        let dispatcher = Dispatcher::new("pager".into(), sink, data, &disk, 0, Arc::clone(&stats));
        let dispatcher = dispatcher.expect("the folder is empty");
        let mailbox = dispatcher.mailbox();
        mailbox.put(1, &[finding("a"), finding("b")]);
        mailbox.close();
        dispatcher.run();
        assert_eq!(stats.sink_evicted.with_label_values(&["pager"]).get(), 2);
    }
}
