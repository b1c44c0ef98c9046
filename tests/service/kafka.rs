//! A broker that stops and starts, and partitions that move to another process and back.

use crate::feeds::{cluster, kafka, produce};
use crate::run::{Running, Site, record, wait_until};
use rdkafka::producer::{BaseProducer, Producer};
use std::collections::BTreeMap;
use std::ops::Range;

/// The one of the cluster.
const BROKER: i32 = 1;

fn send(producer: &BaseProducer, numbers: Range<usize>) {
    produce(producer, &numbers.map(record).collect::<Vec<_>>());
}

fn wait_until_stored(service: &Running, site: &Site, count: usize) {
    wait_until("stored", || service.stored() >= count, || site.said());
}

/// Each event of a folder is there once, and its accounts agree.
fn held(site: &Site) -> BTreeMap<String, u64> {
    let held = site.held();
    assert!(held.values().all(|count| *count == 1), "{held:?}");
    assert_eq!(site.status()["residue"], 0);
    held
}

#[test]
fn a_broker_that_stops_and_starts_is_read_on_where_it_was() {
    let producer = cluster();
    let site = Site::new(&[]).configured(&kafka(&producer));
    let service = site.start();
    send(&producer, 0..50);
    wait_until_stored(&service, &site, 50);
    let cluster = producer.client().mock_cluster().expect("it has a cluster");
    let failures = || service.metric("telltale_source_failures_total", "source=\"kafka\"");
    let before = failures();
    cluster.broker_down(BROKER).expect("it stops");
    let is_missed = || failures() > before && site.said().contains("kafka cannot be read");
    wait_until("missed", is_missed, || site.said());
    // Other sources go on.
    let answer = service.post("/v1/logs/aws_cloudtrail", record(100).as_bytes(), &[]);
    assert_eq!(answer.map(|(status, _)| status), Some(200));
    cluster.broker_up(BROKER).expect("it starts");
    send(&producer, 50..100);
    wait_until_stored(&service, &site, 101);
    service.stop();
    assert_eq!(held(&site).len(), 101);
}

/// What one had read and not yet told the group is read by both: each stores it in its own folder.
#[test]
fn partitions_that_move_to_another_process_and_back_are_read_to_their_end() {
    let producer = cluster();
    let source = kafka(&producer);
    let [here, there] = [(); 2].map(|()| Site::new(&[]).configured(&source));
    let first = here.start();
    send(&producer, 0..60);
    wait_until_stored(&first, &here, 60);
    let second = there.start();
    let mut sent = 60;
    let has_some = || {
        send(&producer, sent..sent + 10);
        sent += 10;
        second.stored() > 0
    };
    wait_until("moved", has_some, || here.said() + &there.said());
    second.kill();
    send(&producer, sent..sent + 60);
    sent += 60;
    let all = || here.held().into_iter().chain(there.held()).collect::<BTreeMap<_, _>>();
    wait_until("read", || all().len() == sent, || here.said() + &there.said());
    first.stop();
    assert!(!held(&here).is_empty() && !held(&there).is_empty());
}

#[test]
fn a_mistake_in_the_settings_of_kafka_is_named_without_secrets() {
    let misspelt = "topics = [\"a\"]\nproperties = { \"sasl.pasword\" = \"hunter2\" }";
    for (settings, hint) in [
        ("topics = []", "names no `topics`"),
        ("topics = [\"a\"]\nparsers = { b = \"clearml\" }", "names the topic `b`"),
        (misspelt, "no property `sasl.pasword`"),
    ] {
        let source = "[[source]]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:9\"";
        let site = Site::new(&[]).configured(&format!("{source}\n{settings}\n"));
        let said = site.assert_refused(settings, hint);
        assert!(!said.contains("hunter2"), "{said}");
    }
}
