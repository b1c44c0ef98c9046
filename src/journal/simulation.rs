//! A disk that fails on purpose, and what a journal on it has to keep.
//!
//! One seed is one history: groups are appended, writes end half way, syncs fail, the power goes and
//! takes any part of what was not synced. `TELLTALE_SEEDS` says how many histories are tried,
//! `TELLTALE_SEED` tries one of them again.

use super::disk::{BLOCK, Disk, DiskFile};
use super::{Journal, Reader};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};
use std::sync::{Arc, Mutex};

/// Sectors are written whole or not at all.
const SECTOR: usize = 64;

pub(crate) struct Dice(pub u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        // SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators".
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// The same bytes with a few of them flipped, cut off, left out, doubled or overwritten.
    pub fn mangled(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for _ in 0..1 + self.below(3) {
            let [a, b, to] = [(); 3].map(|()| self.below(bytes.len() + 1));
            let (from, until) = (a.min(b), a.max(b));
            match self.below(6) {
                0 => bytes.truncate(from),
                1 => drop(bytes.drain(from..until)),
                2 => {
                    let part = bytes[from..until].to_vec();
                    drop(bytes.splice(to..to, part));
                }
                3 => bytes[from..until].fill(self.roll() as u8),
                _ => {
                    if let Some(byte) = bytes.get_mut(to) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        bytes
    }
}

#[derive(Default, Clone)]
struct Stored {
    /// What is on disk whatever happens.
    durable: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// A sync failed: later ones say that all is well and keep nothing.
    poisoned: bool,
}

impl Stored {
    /// What the power leaves: of what was not synced, any sectors and any length.
    fn after_power_loss(&self, dice: &mut Dice) -> Vec<u8> {
        let (low, high) =
            (self.durable.len().min(self.seen.len()), self.durable.len().max(self.seen.len()));
        let len = low + dice.below(high - low + 1);
        let mut left = vec![0; len];
        for start in (0..len).step_by(SECTOR) {
            let from = if dice.one_in(2) { &self.seen } else { &self.durable };
            let end = (start + SECTOR).min(len);
            if let Some(bytes) = from.get(start..end.min(from.len())) {
                left[start..start + bytes.len()].copy_from_slice(bytes);
            }
        }
        // What was synced and not changed since is there in any case.
        let sectors = self.durable.chunks(SECTOR).zip(self.seen.chunks(SECTOR));
        let same = sectors.take_while(|(a, b)| b.starts_with(a)).map(|(a, _)| a.len()).sum();
        let same = len.min(same);
        left[..same].copy_from_slice(&self.durable[..same]);
        left
    }
}

struct State {
    files: BTreeMap<String, Stored>,
    dice: Dice,
    /// One call in so many fails; 0 for none.
    faults: usize,
    /// Bytes at the end of a segment that are there and are not read.
    unread: usize,
}

impl State {
    fn fails(&mut self) -> bool {
        self.faults > 0 && self.dice.one_in(self.faults)
    }
}

#[derive(Clone)]
struct Simulated(Arc<Mutex<State>>);

fn fault() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "simulated")
}

impl Simulated {
    fn new(seed: u64) -> Self {
        let state = State { files: BTreeMap::new(), dice: Dice(seed), faults: 0, unread: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// The process is gone; with `power`, so is any part of what was not synced.
    fn crash(&self, power: bool) {
        self.with(|state| {
            let State { files, dice, .. } = state;
            for file in files.values_mut() {
                if power {
                    file.seen = file.after_power_loss(dice);
                    file.durable = file.seen.clone();
                }
                file.poisoned = false;
            }
        });
    }
}

impl Disk for Simulated {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|state| state.files.keys().cloned().collect()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.with(|state| {
            let fails = state.fails();
            if !fails || state.dice.one_in(2) {
                state.files.insert(name.to_owned(), Stored::default());
            }
            if fails { Err(fault()) } else { Ok(()) }
        })?;
        self.append(name)
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Open { disk: self.clone(), name: name.to_owned() }))
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn BufRead + Send>> {
        self.with(|state| {
            let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
            let read = file.seen.len().saturating_sub(state.unread);
            let file: Box<dyn BufRead + Send> =
                Box::new(io::Cursor::new(file.seen[..read].to_vec()));
            Ok(file)
        })
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let size = self.with(|state| state.files.get(name).map(|file| file.seen.len() as u64));
        Ok(size.ok_or(io::ErrorKind::NotFound)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|state| {
            if state.fails() {
                return Err(fault());
            }
            state.files.remove(name);
            Ok(())
        })
    }
}

struct Open {
    disk: Simulated,
    name: String,
}

impl Open {
    fn with(
        &self,
        act: impl FnOnce(&mut Stored, bool, &mut Dice) -> io::Result<()>,
    ) -> io::Result<()> {
        self.disk.with(|state| {
            let fails = state.fails();
            let State { files, dice, .. } = state;
            match files.get_mut(&self.name) {
                Some(file) => act(file, fails, dice),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        })
    }
}

impl DiskFile for Open {
    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.concat();
        self.with(|file, fails, dice| {
            assert_eq!(bytes.len() % BLOCK, 0, "whole blocks");
            assert_eq!(file.seen.len() % BLOCK, 0, "at the end of whole blocks");
            let written = if fails { dice.below(bytes.len() + 1) } else { bytes.len() };
            file.seen.extend_from_slice(&bytes[..written]);
            if fails { Err(fault()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|file, fails, dice| {
            if fails {
                file.durable = file.after_power_loss(dice);
                file.poisoned = true;
                return Err(fault());
            }
            if !file.poisoned {
                file.durable.clone_from(&file.seen);
            }
            Ok(())
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.with(|file, fails, _| {
            if fails {
                return Err(fault());
            }
            file.seen.truncate(len as usize);
            Ok(())
        })
    }
}

/// Every entry that a reader finds.
fn read_all(disk: &Simulated) -> BTreeMap<u64, Vec<u8>> {
    let mut reader = Reader::open(disk, 1).unwrap();
    let mut entries = BTreeMap::new();
    while let Some((number, body)) = reader.next_entry().unwrap() {
        assert!(entries.insert(number, body).is_none(), "entry {number} comes twice");
    }
    entries
}

fn history(seed: u64) {
    let disk = Simulated::new(seed);
    let mut dice = Dice(seed ^ 0x5eed);
    let mut kept: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    // What was tried under each number and may be there or not, in this life or a later one.
    let mut tried: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    // Numbers before which entries may be missing.
    let mut behind_gaps = BTreeSet::new();
    let faults = [0, 3, 10, 30][dice.below(4)];
    for _ in 0..1 + dice.below(6) {
        disk.with(|state| state.faults = 0);
        let (mut journal, recovery) =
            Journal::open(Arc::new(disk.clone()), 5 * BLOCK as u64).unwrap();
        let found = read_all(&disk);
        let mut expected = 1;
        for number in found.keys().copied().chain([recovery.last + 1]) {
            let known = number == expected || behind_gaps.contains(&number);
            assert!(known, "entry {expected} is missing before {number}");
            expected = number + 1;
        }
        for (number, body) in &kept {
            assert_eq!(found.get(number), Some(body), "acknowledged entry {number}");
        }
        for (number, body) in &found {
            let known = kept.get(number) == Some(body)
                || tried.get(number).is_some_and(|all| all.contains(body));
            assert!(known, "entry {number} is invented");
        }
        kept = found;
        disk.with(|state| state.faults = faults);
        if dice.one_in(4) {
            let last = journal.next() + dice.below(5) as u64;
            journal.go_on_after(last);
            behind_gaps.insert(last + 1);
        }
        for _ in 0..dice.below(30) {
            let group: Vec<Vec<u8>> = (0..1 + dice.below(4))
                .map(|_| {
                    let byte = dice.roll() as u8;
                    let mut body = vec![byte; dice.below(600)];
                    if dice.one_in(5) {
                        // Bodies may look like frames.
                        super::Frame::of(&[], 1, 0, 0).write(&mut body);
                    }
                    body
                })
                .collect();
            let first = journal.next();
            let numbered = (first..).zip(group.iter().cloned());
            match journal.append(
                group.iter().map(|body| body.split_at(body.len() / 2)).map(|(a, b)| vec![a, b]),
            ) {
                Ok(number) => {
                    assert_eq!(number, first);
                    kept.extend(numbered);
                }
                Err(_) => numbered.for_each(|(n, body)| tried.entry(n).or_default().push(body)),
            }
        }
        // The group that was being written when the process went, too, may be there or not.
        let body = vec![7; dice.below(900)];
        let first = journal.next();
        tried.entry(first).or_default().push(body.clone());
        if journal.append([vec![body.as_slice()]]).is_ok() && dice.one_in(2) {
            kept.insert(first, body);
        }
        drop(journal);
        disk.crash(dice.one_in(2));
    }
}

#[test]
fn what_was_acknowledged_is_there_after_any_crash() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("TELLTALE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TELLTALE_SEEDS").unwrap_or(2000),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| history(seed));
        assert!(outcome.is_ok(), "seed {seed} fails; replay it with TELLTALE_SEED={seed}");
    }
}

#[test]
fn a_journal_goes_on_behind_files_that_were_moved_away() {
    let disk = Simulated::new(1);
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), BLOCK as u64).unwrap();
    for number in 1..=6 {
        journal.append([vec![[number].as_slice()]]).unwrap();
    }
    drop(journal);
    let moved: Vec<_> = disk.list().unwrap().into_iter().skip(3).collect();
    moved.iter().for_each(|name| disk.remove(name).unwrap());
    for begun in [11, 12] {
        let (mut journal, _) = Journal::open(Arc::new(disk.clone()), BLOCK as u64).unwrap();
        journal.go_on_after(10);
        assert_eq!(journal.append([vec![b"more".as_slice()]]).unwrap(), begun);
    }
    assert_eq!(read_all(&disk).into_keys().collect::<Vec<_>>(), [1, 2, 3, 11, 12]);
    super::check_tail(&disk).unwrap();
    // Another that goes is missed all the same.
    disk.remove(&disk.list().unwrap()[1]).unwrap();
    let mut reader = Reader::open(&disk, 1).unwrap();
    reader.next_entry().unwrap();
    assert!(matches!(reader.next_entry(), Err(super::JournalError::Damaged { number: 2, .. })));
}

#[test]
fn damage_of_what_was_acknowledged_is_said_and_not_cut_off() {
    let disk = Simulated::new(1);
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), 1 << 20).unwrap();
    for body in [b"one".as_slice(), b"two", b"three"] {
        journal.append([vec![body]]).unwrap();
    }
    disk.with(|state| {
        let file = state.files.values_mut().next().unwrap();
        file.seen[super::FRAMES_AT + super::FRAME_HEAD] ^= 1;
    });
    let of_reader = super::check_tail(&disk).unwrap_err().to_string();
    let error = Journal::open(Arc::new(disk), 1 << 20).err().unwrap().to_string();
    assert!(error.contains("damaged at byte 4096, where entry 1 belongs"), "{error}");
    assert_eq!(of_reader, error);
}

#[test]
fn mangled_segments_never_panic_and_nothing_is_read_that_was_not_written() {
    let disk = Simulated::new(2);
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), 1 << 20).unwrap();
    let bodies: Vec<Vec<u8>> = (0..12).map(|at| vec![at; 50 * usize::from(at)]).collect();
    for group in bodies.chunks(3) {
        journal.append(group.iter().map(|body| vec![body.as_slice()])).unwrap();
    }
    drop(journal);
    let written: BTreeMap<u64, Vec<u8>> = (1..).zip(bodies).collect();
    let (name, whole) = disk.with(|state| state.files.pop_first()).unwrap();
    let mut dice = Dice(2);
    let (mut opened, mut read) = (0, 0);
    for _ in 0..3000 {
        let seen = dice.mangled(&whole.seen);
        let file = Stored { durable: seen.clone(), seen, poisoned: false };
        disk.with(|state| state.files = BTreeMap::from([(name.clone(), file)]));
        let mut reader = Reader::open(&disk, 1).unwrap();
        let mut next = 1;
        while let Ok(Some((number, body))) = reader.next_entry() {
            assert_eq!((number, Some(&body)), (next, written.get(&next)));
            next += 1;
        }
        read += next - 1;
        if let Ok((_, recovery)) = Journal::open(Arc::new(disk.clone()), 1 << 20) {
            let found = read_all(&disk);
            assert_eq!(found.len() as u64, recovery.last);
            assert!(found.iter().all(|(number, body)| written.get(number) == Some(body)));
            opened += 1;
        }
    }
    assert!(opened > 100 && read > 100, "{opened} were opened, {read} entries were read");
}

#[test]
fn a_segment_that_is_not_read_to_its_end_is_not_cut() {
    let disk = Simulated::new(1);
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), 1 << 20).unwrap();
    for body in [b"one".as_slice(), b"two"] {
        journal.append([vec![body]]).unwrap();
    }
    disk.with(|state| state.unread = BLOCK);
    let error = Journal::open(Arc::new(disk.clone()), 1 << 20).err().unwrap().to_string();
    assert!(error.contains("cannot read the journal segment"), "{error}");
    disk.with(|state| state.unread = 0);
    assert_eq!(Journal::open(Arc::new(disk.clone()), 1 << 20).unwrap().1.last, 2);
    assert_eq!(read_all(&disk).len(), 2);
}

#[test]
fn an_entry_that_could_not_be_read_again_is_not_written() {
    let (disk, part) = (Simulated::new(1), vec![0; 1 << 20]);
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), 1 << 20).unwrap();
    let outcome = journal.append([vec![part.as_slice(); (1 << 10) + 1]]);
    assert!(matches!(outcome, Err(super::JournalError::TooLong { .. })), "{outcome:?}");
    assert_eq!(journal.append([vec![b"one".as_slice()]]).unwrap(), 1);
    assert_eq!(read_all(&disk).len(), 1);
}
