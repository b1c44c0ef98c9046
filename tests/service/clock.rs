//! The service under a clock that is set back, and set right again.
//!
//! The clock is that of the C library, in the place of which `clock.c` is loaded: on Linux, where there is
//! a C compiler.

use crate::run::{Running, Site, record, wait_until};
use telltale_schema::time::{HOUR, format_instant};

/// Records of `at`, told apart by their number.
fn records(numbers: std::ops::Range<usize>, at: i64) -> Vec<u8> {
    let time = format!("{}Z", &format_instant(at)[..19]);
    let lines = numbers.map(|number| {
        let record = record(number);
        let begin = record.find("2026-").expect("a record has a time");
        format!("{}{time}{}\n", &record[..begin], &record[begin + time.len()..])
    });
    lines.collect::<String>().into_bytes()
}

fn post(service: &Running, body: &[u8]) {
    let answer = service.post("/v1/logs/aws_cloudtrail", body, &[]);
    assert_eq!(answer.map(|(status, _)| status), Some(200));
}

#[test]
fn a_clock_that_is_set_back_loses_nothing_and_stores_nothing_twice() {
    let site = Site::with(
        "[service]\nflush_interval = \"100ms\"\nsnapshot_interval = \"100ms\"\nsli_interval = \"100ms\"\n",
        &[],
    );
    let offset = site.file("clock");
    let Some(site) = site.preloaded("clock") else { return };
    let site = site.variable("TELLTALE_TEST_CLOCK", offset.clone());
    let set = |hours: i64| {
        std::fs::write(&offset, (hours * 3600).to_string()).expect("it is written");
    };
    let now = telltale::commands::now();
    let (before, meanwhile) = (records(0..20, now - HOUR), records(20..40, now - 7 * HOUR));
    set(0);
    let service = site.start();
    post(&service, &before);

    set(-6);
    post(&service, &[before.as_slice(), &meanwhile].concat());
    assert_eq!(service.stored(), 40);
    let is_flushed = || {
        service.metric("telltale_lake_entry", "") == service.metric("telltale_journal_entry", "")
    };
    wait_until("in the lake", is_flushed, || site.said());
    let back = (now - 5 * HOUR) as f64 / 1e6;
    let are_of_then =
        || (1.0..back).contains(&service.metric("telltale_sli_timestamp_seconds", ""));
    wait_until("measured by the clock", are_of_then, || site.said());

    // It starts again while the clock is wrong, and runs while it is set right.
    service.kill();
    let service = site.start();
    let all = [before, meanwhile, records(40..60, now)].concat();
    post(&service, &all);
    assert_eq!(service.stored(), 20);
    set(0);
    post(&service, &all);
    assert_eq!(service.stored(), 20);
    service.stop();
    let service = site.start();
    post(&service, &all);
    assert_eq!(service.stored(), 0);
    service.stop();
    let held = site.held();
    assert_eq!(held.len(), 60);
    assert!(held.values().all(|count| *count == 1));
    assert_eq!(site.status()["residue"], 0);
    let received =
        "SELECT min(received_at) < max(received_at) - INTERVAL '5 hours' AS back FROM events";
    assert_eq!(site.query(received)[0]["back"], true);
}
