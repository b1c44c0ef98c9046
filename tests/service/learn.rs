//! What detectors learn beforehand counts as if they had been there.

use crate::feeds::{bodies, send};
use crate::run::Site;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU16;

type Bodies = [(&'static str, Vec<u8>)];

/// Starts the service, sends and stops it.
fn feed(site: &Site, bodies: &Bodies) {
    let service = site.start();
    let port = AtomicU16::new(service.port);
    bodies.iter().for_each(|(log, body)| send(&port, log, body));
    service.stop();
}

fn findings(site: &Site) -> BTreeSet<String> {
    let rows = site.query("SELECT finding_id, detector, principal_id, evidence FROM findings");
    rows.iter().map(ToString::to_string).collect()
}

/// Teaches a data folder; gives what the command says.
fn learn(site: &Site, what: &[&str]) -> String {
    let data = site.data().display().to_string();
    site.tell(&[&["learn", "--data", &data], what].concat())
}

fn events(site: &Site) -> u64 {
    let rows = site.query("SELECT count(*) AS n FROM events");
    rows[0]["n"].as_u64().expect("it is a number")
}

#[test]
fn what_was_learnt_counts_as_if_it_had_been_live() {
    let bodies = bodies();
    let (before, after) = bodies.split_at(bodies.len() * 2 / 3);
    let live = Site::new(&[]);
    feed(&live, before);
    let (old, old_events) = (findings(&live), events(&live));
    feed(&live, after);
    let all = findings(&live);
    let new: BTreeSet<_> = all.difference(&old).cloned().collect();
    assert!(!old.is_empty() && !new.is_empty(), "something is found in each part");

    let from_archive = Site::new(&[]);
    let archive = from_archive.file("archive");
    std::fs::create_dir(&archive).expect("a folder is made");
    for (number, (log, body)) in before.iter().enumerate() {
        std::fs::write(archive.join(format!("{log}-{number}.log")), body).expect("it is written");
    }
    let said = learn(&from_archive, &[&archive.display().to_string()]);
    assert!(said.starts_with("learnt from "), "{said}");
    feed(&from_archive, after);
    assert_eq!(findings(&from_archive), new);
    assert_eq!(events(&from_archive), events(&live) - old_events, "the history is not stored");

    let from_lake = Site::new(&[]);
    feed(&from_lake, before);
    learn(&from_lake, &["--lake"]);
    feed(&from_lake, after);
    assert_eq!(findings(&from_lake), all);
}
