//! What holds for every detector, whatever the events are.

mod estate;
mod support;

use estate::{Estate, Random};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use support::{Record, run};
use telltale_detect::{Engine, detectors, merge};
use telltale_schema::time::{DAY, HOUR, MINUTE, format_instant};
use telltale_schema::{Event, Finding, Severity};

const LATENESS: i64 = 30 * MINUTE;

/// A week of an estate with attacks in it, in order of time.
static WEEK: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let mut records = Estate::new(11, 21, true).records;
    // The attacks begin on the ninth day; what lies long before only makes the test slow.
    let keep = |record: &Record| {
        let account = record.principal_id.as_deref().unwrap_or_default();
        account.ends_with("forgotten")
            || record.at > estate::START + 5 * DAY
                && record.at < estate::START + 14 * DAY
                && !account.ends_with(['1', '3', '7', '9'])
    };
    records.retain(keep);
    records
});

/// The same events in an order that an engine with `LATENESS` accepts.
fn shuffled(records: &[Record], seed: u64) -> Vec<Record> {
    let mut random = Random(seed);
    let mut late: Vec<(i64, &Record)> =
        records.iter().map(|record| (record.at + random.below(LATENESS), record)).collect();
    late.sort_by_key(|(arrival, record)| (*arrival, record.id));
    late.into_iter().map(|(_, record)| record.clone()).collect()
}

fn by_id(findings: Vec<Finding>) -> BTreeMap<String, Finding> {
    findings.into_iter().map(|finding| (finding.id.clone(), finding)).collect()
}

fn assert_same(left: Vec<Finding>, right: Vec<Finding>) {
    let (left, right) = (by_id(left), by_id(right));
    for (id, finding) in left.iter().chain(&right) {
        let text = |found: Option<&Finding>| format!("{found:#?}");
        let (left, right) = (text(left.get(id)), text(right.get(id)));
        let differ = left.lines().zip(right.lines()).find(|(left, right)| left != right);
        assert!(left == right, "{}: {differ:?}", finding.sentence);
    }
    assert_eq!(left.len(), right.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 0, failure_persistence: None, ..Default::default() })]

    #[test]
    fn order_within_the_lateness_does_not_matter(seed in any::<u64>()) {
        assert_same(run(&WEEK, 0), run(&shuffled(&WEEK, seed), LATENESS));
    }
}

fn saved(engine: &Engine) -> Vec<u8> {
    let mut saved = Vec::new();
    engine.save(&mut saved).expect("it is written to memory");
    saved
}

/// A user of AWS makes a key for another, `tenths` of a second after it asked who it is.
fn key_made(tenths: u32, outcome: &str, target: &str) -> String {
    asked(tenths)
        .replace("GetCallerIdentity", "CreateAccessKey")
        .replace("api_call", "credential_created")
        .replace(r#""success""#, &format!(r#""{outcome}","target_id":"{target}""#))
}

fn asked(tenths: u32) -> String {
    let second = tenths / 10;
    format!(
        r#"{{"event_id":"{tenths:032x}","event_time":"2026-01-05T08:00:{second:02}Z","log":"aws_cloudtrail","kind":"api_call","operation":"GetCallerIdentity","service":"iam.amazonaws.com","outcome":"success","principal_id":"arn:aws:iam::111122223333:user/ci","principal_kind":"service_account","credential_id":"AKIAEXAMPLE","source_ip":"198.51.100.7","user_agent":"aws-cli/2.15"}}"#
    )
}

#[test]
fn what_differs_only_in_target_and_outcome_counts_in_any_order() {
    // The last three come at the same instant.
    let lines = [
        asked(0),
        key_made(10, "error", "amal"),
        key_made(20, "success", "amal"),
        key_made(30, "success", "bela"),
        key_made(31, "success", "cleo"),
        key_made(32, "success", "cleo"),
    ];
    let records = support::read(&lines.join("\n"));
    let found = run(&records, LATENESS);
    let ids: Vec<_> = found.iter().flat_map(|finding| &finding.event_ids).collect();
    for counts in [0, 2, 3, 4] {
        assert!(ids.iter().any(|id| id.0 == records[counts].id), "{counts} of {found:#?}");
    }
    for seed in 0..20 {
        assert_same(found.clone(), run(&shuffled(&records, seed), LATENESS));
    }
}

/// The events through engines that are saved and loaded at `places`, and everything they told.
fn interrupted(records: &[Record], places: &[usize]) -> BTreeMap<String, Finding> {
    let mut told = BTreeMap::new();
    let mut engine = Engine::new(detectors::defaults(), LATENESS);
    for (at, record) in records.iter().enumerate() {
        engine.observe(&record.event());
        if places.contains(&at) {
            told.extend(by_id(engine.take()));
            let saved = saved(&engine);
            engine = Engine::new(detectors::defaults(), LATENESS);
            engine.load(&saved).expect("it was saved by this version");
        }
    }
    engine.finish();
    told.extend(by_id(engine.take()));
    told
}

#[test]
fn an_engine_that_was_saved_goes_on_as_if_nothing_had_happened() {
    let records = shuffled(&WEEK, 9);
    let mut random = Random(9);
    let places: Vec<usize> = (0..12).map(|_| random.below(records.len() as i64) as usize).collect();
    let told = interrupted(&records, &places);
    assert_same(run(&records, LATENESS), told.into_values().collect());
    // Nothing is told twice: what is known is not news after it was loaded.
    let mut engine = Engine::new(detectors::defaults(), LATENESS);
    records.iter().for_each(|record| engine.observe(&record.event()));
    let saved = saved(&engine);
    let mut loaded = Engine::new(detectors::defaults(), LATENESS);
    loaded.load(&saved).expect("it was saved by this version");
    assert_eq!(self::saved(&loaded).len(), saved.len());
    engine.take();
    engine.finish();
    loaded.finish();
    assert_eq!(engine.take(), loaded.take());
}

#[test]
fn what_another_version_saved_is_refused() {
    let mut engine = Engine::new(detectors::defaults(), LATENESS);
    assert!(engine.load(b"").is_err());
    let one = vec![detectors::build("dormant_account", toml::Table::new()).expect("known")];
    let error = engine.load(&saved(&Engine::new(one, 0))).expect_err("two detectors are missing");
    assert_eq!(error.to_string(), "it does not hold the detector `impersonation_spike`");
}

/// Bytes that were cut, flipped, doubled, left out or put elsewhere.
fn mangled(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let mut place = || random.below(bytes.len() as i64 + 1) as usize;
        let (from, to) = (place(), place());
        let part = from.min(to)..from.max(to);
        match random.below(5) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(part)),
            2 => {
                let part = bytes[part].to_vec();
                drop(bytes.splice(to..to, part));
            }
            3 => bytes[part.start..].reverse(),
            _ => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

#[test]
fn mangled_state_never_panics_and_what_was_loaded_is_saved_whole() {
    let mut engine = Engine::new(detectors::defaults(), LATENESS);
    WEEK.iter().step_by(600).for_each(|record| engine.observe(&record.event()));
    let whole = saved(&engine);
    let mut random = Random(3);
    let mut loaded = 0;
    for _ in 0..3000 {
        let mut engine = Engine::new(detectors::defaults(), LATENESS);
        if engine.load(&mangled(&whole, &mut random)).is_ok() {
            loaded += 1;
            let mut again = Engine::new(detectors::defaults(), LATENESS);
            again.load(&saved(&engine)).expect("it was saved by this version");
            WEEK.iter().take(50).for_each(|record| again.observe(&record.event()));
            again.finish();
        }
    }
    assert!(loaded > 0, "some flips change a number and no more");
}

#[test]
fn the_week_has_something_to_find() {
    let findings = run(&WEEK, 0);
    for kind in detectors::KINDS {
        assert!(
            findings.iter().any(|finding| finding.detector == kind.name),
            "{} found nothing",
            kind.name
        );
    }
}

/// One act of an account of Kubernetes.
fn act(number: u32, account: &str, at: i64) -> Record {
    Record {
        event_id: format!("{number:032x}"),
        event_time: format_instant(at),
        log: "kubernetes_audit".to_owned(),
        kind: "api_call".to_owned(),
        outcome: "success".to_owned(),
        principal_id: Some(account.to_owned()),
        principal_kind: "service_account".to_owned(),
        operation: Some("get".to_owned()),
        ..Record::default()
    }
    .settle()
}

#[test]
fn who_is_silent_is_noted_whatever_the_hour_at_which_others_act() {
    let daily = |hour: i64| (0..100).map(move |day| estate::START + day * DAY + hour * HOUR);
    for hour in [2, 15] {
        let mut records = vec![act(0, "retired", estate::START)];
        records.extend((1..).zip(daily(hour)).map(|(number, at)| act(number, "nightly", at)));
        let found = run(&records, LATENESS);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(
            (&*found[0].principal_id, found[0].severity),
            ("retired", Severity::Informational)
        );
        assert_eq!(found[0].raised_at.rem_euclid(DAY), 0);
        // Around the midnight at which it is noted, whatever comes first of what is not late.
        let midnight = found[0].raised_at;
        let own = |minute: u32, account| {
            act(1000 + minute, account, midnight + i64::from(minute) * MINUTE)
        };
        let around = [14, 16, 26, 45].map(|minute| own(minute, "nightly"));
        records.extend(around.into_iter().chain([own(20, "retired")]));
        records.sort_by_key(|record| record.at);
        let found = run(&records, 0);
        assert!(found.iter().all(|finding| &*finding.principal_id == "retired"), "{found:#?}");
        for seed in 0..10 {
            assert_same(found.clone(), run(&shuffled(&records, seed), LATENESS));
        }
    }
}

#[test]
fn a_clock_that_is_far_ahead_does_not_make_the_rest_late() {
    let intruder = |at| act(7, "ahead", at);
    let own = |finding: &Finding| &*finding.principal_id == "ahead";
    for ahead in [MINUTE, HOUR, 2 * DAY, 70 * 365 * DAY] {
        let mut engine = Engine::live(detectors::defaults(), LATENESS);
        let mut told = BTreeMap::new();
        for (number, record) in shuffled(&WEEK, 4).iter().enumerate() {
            let received_at = record.at + LATENESS;
            engine.observe(&Event { received_at, ..record.event() });
            if number % 5_000 == 17 {
                engine.observe(&Event { received_at, ..intruder(received_at + ahead).event() });
            }
            told.extend(by_id(engine.take()));
        }
        engine.finish();
        told.extend(by_id(engine.take()));
        let told = told.into_values().filter(|finding| !own(finding)).collect();
        assert_same(run(&WEEK, LATENESS), told);
    }
}

#[test]
fn one_engine_for_each_detector_finds_the_same() {
    let apart = detectors::KINDS.iter().map(|kind| {
        let detector = (kind.build)(toml::Table::new()).expect("an empty table is every default");
        let mut engine = Engine::new(vec![detector], LATENESS);
        WEEK.iter().for_each(|record| engine.observe(&record.event()));
        engine.finish();
        engine.findings()
    });
    assert_eq!(merge(apart), run(&WEEK, LATENESS));
}

#[test]
fn taking_findings_between_batches_changes_nothing_and_they_only_grow() {
    let mut engine = Engine::new(detectors::defaults(), LATENESS);
    let mut latest: BTreeMap<String, Finding> = BTreeMap::new();
    for batch in shuffled(&WEEK, 5).chunks(97) {
        batch.iter().for_each(|record| engine.observe(&record.event()));
        for finding in engine.take() {
            if let Some(known) = latest.insert(finding.id.clone(), finding.clone()) {
                assert!(finding.severity >= known.severity, "{known:?} became {finding:?}");
            }
        }
    }
    engine.finish();
    latest.extend(by_id(engine.take()));
    assert!(engine.findings().is_empty(), "what was taken is kept twice");
    assert_same(run(&WEEK, 0), latest.into_values().collect());
}

#[test]
fn findings_are_whole() {
    for finding in run(&WEEK, 0) {
        assert_eq!(finding.id.len(), 32);
        assert!(finding.event_ids.len() <= Finding::MAX_EVENTS);
        assert!(!finding.title.is_empty() && finding.sentence.ends_with('.'), "{finding:?}");
        assert!(!finding.sentence.contains("  "), "{}", finding.sentence);
        assert!(!finding.dimensions.is_empty());
        assert!((2..=5).contains(&finding.next_steps.len()));
        assert!(finding.first_seen <= finding.last_seen);
        let page_without_evidence = finding.severity.pages() && finding.event_ids.is_empty();
        assert!(!page_without_evidence, "{finding:?}");
        for dimension in &finding.dimensions {
            assert!(dimension.probability.is_none_or(|p| (0.0..=1.0).contains(&p)));
        }
    }
}

#[test]
fn bounds_hold_and_are_counted() {
    let table = |text: &str| text.parse::<toml::Table>().expect("a table");
    let mut engine = Engine::new(
        vec![
            detectors::build("dormant_account", table("max_accounts = 16")).expect("known"),
            detectors::build("impersonation_spike", table("max_callers = 16")).expect("known"),
            detectors::build(
                "leaked_credential",
                table("max_accounts = 16\nmax_credentials = 16\nmax_episodes = 4"),
            )
            .expect("known"),
        ],
        0,
    );
    WEEK.iter().for_each(|record| engine.observe(&record.event()));
    engine.finish();
    assert!(engine.evicted_total() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_weighed_only_when_it_is_settled_is_the_same(seed in any::<u64>()) {
        let mut engine = Engine::over_archive(detectors::defaults(), LATENESS);
        shuffled(&WEEK, seed).iter().for_each(|record| engine.observe(&record.event()));
        engine.finish();
        assert_same(run(&WEEK, 0), engine.findings());
    }
}
