//! Every SLI against its fixtures: `fixtures/<name>/<case>.jsonl` in, `<case>.csv` out. The window
//! starts at 2026-01-01T00:00:00Z and is as long as the SLI's head says.

mod common;

use common::{batch_of, read_events, synthetic};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use telltale_queries::{Sli, SliResult, SliSettings, SliStream, slis};
use telltale_schema::time::{SECOND, parse_instant};
use telltale_schema::{EventBatch, Kind};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Computes the SLI of the folder that `path` is in over its events and compares the table.
fn check(path: &Path) {
    let name = path.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
    let sli = slis().iter().find(|sli| sli.name == name).unwrap().clone();
    let start = parse_instant("2026-01-01T00:00:00Z").unwrap();
    let window = start..start + sli.window_secs as i64 * SECOND;
    let settings = SliSettings { window: Some(window), ..SliSettings::default() };
    let mut by_log = BTreeMap::new();
    for event in read_events(path) {
        let log = event["log"].as_str().unwrap().to_owned();
        by_log.entry(log).or_insert_with(Vec::new).push(event);
    }
    let batches: Vec<EventBatch> = by_log.values().map(|events| batch_of(events)).collect();
    let result = compute(std::slice::from_ref(&sli), &settings, &batches).remove(0);

    let mut table = sli.labels.join(",") + ",value\n";
    for row in &result.rows {
        let labels: Vec<&str> = sli.labels.iter().map(|l| row.labels[l].as_str()).collect();
        table += &format!("{},{}\n", labels.join(","), row.value);
        assert_eq!(row.met, sli.objective.map(|o| o.is_met(row.value)), "{path:?}");
    }
    let expected = std::fs::read_to_string(path.with_extension("csv")).unwrap();
    assert_eq!(table, expected, "{path:?}");
}

fn compute(slis: &[Sli], settings: &SliSettings, batches: &[EventBatch]) -> Vec<SliResult> {
    let stream = SliStream::with_settings(slis, settings).unwrap();
    for batch in batches {
        stream.push(batch).unwrap();
    }
    stream.finish().unwrap()
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn fixtures_give_their_tables() {
    for sli in slis() {
        let cases = entries(&folder("fixtures").join(&sli.name));
        let cases: Vec<_> =
            cases.iter().filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
        assert!(!cases.is_empty(), "SLI `{}` has no fixture", sli.name);
        for case in cases {
            check(case);
        }
    }
}

#[test]
fn files_list_and_fixtures_are_in_step() {
    let names: Vec<String> = slis().iter().map(|sli| sli.name.clone()).collect();
    let stems = |folder: &Path| -> Vec<String> {
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries(folder).iter().map(stem).collect()
    };
    assert_eq!(names, stems(&folder("sli")), "the list is the folder, in order");
    assert_eq!(names, stems(&folder("fixtures")), "each has a folder of fixtures");
    for sli in slis() {
        assert!(sli.help.ends_with('.') && !sli.meaning.is_empty(), "{}", sli.name);
        let page = sli.explain();
        assert!(page.contains(&sli.meaning) && page.contains("SELECT"), "{page}");
    }
}

#[test]
fn numbers_do_not_depend_on_batches_order_or_threads() {
    let whole = [synthetic("aws_cloudtrail", 3000, 0), synthetic("gcp_audit", 2000, 3000)];
    let mut pieces: Vec<EventBatch> =
        (0..30).map(|i| synthetic("aws_cloudtrail", 100, i * 100)).collect();
    pieces.push(synthetic("gcp_audit", 2000, 3000));
    pieces.reverse();
    let one = compute(slis(), &SliSettings::default(), &whole);
    let settings = SliSettings { threads: 2, ..SliSettings::default() };
    let other = compute(slis(), &settings, &pieces);
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
    assert_eq!(one[1].window_start, Some(1_767_225_600_000_000));
    assert_eq!(one[1].window_end, Some(1_767_225_600_000_000 + 4_999_000 + 1));

    let stream = SliStream::start(slis()).unwrap();
    std::thread::scope(|scope| {
        for half in [&pieces[..16], &pieces[16..]] {
            let stream = &stream;
            scope.spawn(move || half.iter().try_for_each(|batch| stream.push(batch)).unwrap());
        }
    });
    assert_eq!(stream.finish().unwrap(), one);
    assert_eq!(one.iter().map(|r| r.rows.len()).collect::<Vec<_>>(), [2, 2, 4]);
}

#[test]
fn result_reads_well_as_json() {
    let result = compute(&slis()[1..2], &SliSettings::default(), &[synthetic("okta", 1000, 0)]);
    assert_eq!(
        serde_json::to_string(&result).unwrap(),
        "[{\"name\":\"auth_success_rate\",\"unit\":\"ratio\",\"objective\":\">= 0.99\",\
         \"window_start\":\"2026-01-01T00:00:00.000000Z\",\
         \"window_end\":\"2026-01-01T00:00:00.999001Z\",\
         \"rows\":[{\"labels\":{\"log\":\"okta\"},\"value\":0.74,\"met\":false}]}]"
    );
}

#[test]
fn kinds_that_no_sli_counts_may_be_left_out() {
    let all = [synthetic("okta", 1000, 0), synthetic("vault", 1000, 1)];
    let stream = SliStream::start(slis()).unwrap();
    let kinds = stream.kinds();
    assert_eq!(kinds, [Kind::Authentication, Kind::TokenIssued, Kind::Impersonation]);
    let times: Vec<_> =
        all.iter().flat_map(|batch| batch.rows().map(|row| batch.event_time(row))).collect();
    stream.cover(*times.iter().min().unwrap(), *times.iter().max().unwrap());
    for batch in &all {
        let counts: Vec<_> = batch.events().map(|event| kinds.contains(&event.kind)).collect();
        assert!(counts.contains(&false), "there is something to leave out");
        stream.push(&batch.filter(&counts)).unwrap();
    }
    assert_eq!(stream.finish().unwrap(), compute(slis(), &SliSettings::default(), &all));

    let head = "-- help: x\n-- unit: x\n-- window: 5m\n-- labels: log\n-- objective: none\n";
    let sql = "SELECT log, 1 AS value FROM events WHERE kind = 'api_call' OR outcome = 'denied'";
    let sli = Sli::parse("both", &format!("{head}{sql}")).unwrap();
    let stream = SliStream::start(&[sli]).unwrap();
    assert_eq!(stream.kinds(), Kind::ALL, "what is denied may be of any kind");
}

#[test]
fn without_events_there_are_no_numbers() {
    for result in compute(slis(), &SliSettings::default(), &[]) {
        assert_eq!((result.window_start, result.window_end, result.rows), (None, None, vec![]));
    }
}

#[test]
fn codes_without_end_are_no_trouble_for_other_slis() {
    const CODES: usize = 20_000;
    let event = |row: usize| {
        let mut event = serde_json::Map::new();
        for (name, value) in [
            ("event_time", "2026-01-01T00:00:00Z".to_owned()),
            ("log", "okta_system_log".to_owned()),
            ("kind", "authentication".to_owned()),
            ("outcome", "failure".to_owned()),
            ("error_code", format!("a code that nobody gave before: {row}")),
        ] {
            event.insert(name.to_owned(), value.into());
        }
        event
    };
    let batches = [batch_of(&(0..CODES).map(event).collect::<Vec<_>>())];

    let results = compute(slis(), &SliSettings::default(), &batches);
    assert_eq!(results[0].rows.len(), 11);
    assert_eq!(results[0].rows[10].labels["error_code"], "other");
    assert_eq!(results[0].rows[10].value, (CODES - 10) as f64 / CODES as f64);

    let settings = SliSettings { memory_bytes: 2 << 20, ..SliSettings::default() };
    let results = compute(slis(), &settings, &batches);
    let problem = results[0].problem.as_deref().unwrap();
    assert!(problem.starts_with("the query needs more than 2 MB of memory"), "{problem}");
    assert_eq!((results[1].rows[0].value, &results[1].problem), (0.0, &None));
}

#[test]
fn dropping_a_stream_does_not_wait() {
    let stream = SliStream::start(slis()).unwrap();
    stream.push(&synthetic("aws_cloudtrail", 9000, 0)).unwrap();
    drop(stream);
}

#[test]
fn what_is_wrong_with_an_sli_is_said_before_events_come() {
    let sli = |sql: &str| {
        let head = "-- help: x\n-- unit: x\n-- window: 5m\n-- labels: log\n-- objective: none\n";
        Sli::parse("broken", &format!("{head}{sql}")).unwrap()
    };
    let started = SliStream::start(&[sli("SELECT lgo, 1 AS value FROM events")]);
    let error = started.err().unwrap();
    assert_eq!(error.to_string(), "SLI `broken` did not run");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "unknown column `lgo`; did you mean `log`?");

    let twice = "SELECT a.log, 1 AS value FROM events a JOIN events b ON a.log = b.log";
    let error = SliStream::start(&[sli(twice)]).err().unwrap();
    assert_eq!(error.to_string(), "SLI `broken`: the query reads `events` more than once");

    let stream = SliStream::start(&[sli("SELECT log, 1 AS number FROM events")]).unwrap();
    let error = stream.finish().unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("columns are `log, number`, its head says `log, value`"), "{cause}");
}
