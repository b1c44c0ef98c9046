//! The lake: in an object store, where it cannot be written, and what is dropped from it.

use crate::run::{Running, Site, record, wait_until};
use crate::s3::{BUCKET, S3};
use std::fs;
use telltale_schema::time::format_instant;

fn post(service: &Running, numbers: std::ops::Range<usize>) {
    let body: Vec<_> = numbers.map(record).collect();
    let answer = service.post("/v1/logs/aws_cloudtrail", body.join("\n").as_bytes(), &[]);
    assert_eq!(answer.expect("the service answers").0, 200);
}

/// Waits until the lake holds what the journal does.
fn wait_for_lake(site: &Site, service: &Running) {
    let entry = |name| service.metric(name, "");
    let is_there = || {
        let journal = entry("telltale_journal_entry");
        journal > 0.0 && entry("telltale_lake_entry") >= journal
    };
    wait_until("in the lake", is_there, || site.said());
}

fn count(site: &Site) -> u64 {
    let rows = site.query("SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events");
    assert_eq!(rows[0]["n"], rows[0]["ids"]);
    rows[0]["n"].as_u64().expect("a number")
}

fn in_store(s3: &S3) -> String {
    format!("[lake]\nurl = \"s3://{BUCKET}/lake\"\noptions = {}\n", s3.options())
}

#[test]
fn a_lake_in_an_object_store_loses_nothing_while_that_fails_or_the_service_is_killed() {
    let s3 = S3::start();
    let site = Site::new(&[]).configured(&in_store(&s3));
    let service = site.start();
    post(&service, 0..50);
    wait_for_lake(&site, &service);
    assert!(s3.has("lake/events/_delta_log/") && !site.data().join("lake").exists());
    assert_eq!(count(&site), 50);
    for (status, numbers) in [(503, 50..70), (500, 70..90)] {
        s3.fail(status);
        let before = service.metric("telltale_lake_failures_total", "");
        post(&service, numbers);
        let fails = || service.metric("telltale_lake_failures_total", "") > before + 1.0;
        wait_until("said that the lake fails", fails, || site.said());
        s3.fail(0);
        wait_for_lake(&site, &service);
    }
    let said = site.said();
    assert_eq!(said.matches("the lake cannot be written; the journal keeps").count(), 2, "{said}");
    assert_eq!(said.matches("the lake can be written again").count(), 2, "{said}");
    assert_eq!(count(&site), 90);
    post(&service, 90..100);
    service.kill();
    let service = site.start();
    // Known from the lake and the journal.
    post(&service, 0..110);
    wait_for_lake(&site, &service);
    service.stop();
    assert_eq!((count(&site), site.status()["residue"].as_u64()), (110, Some(0)));
}

#[test]
fn repeats_are_known_after_a_kill_by_ids_in_files_and_without_those_by_the_lake() {
    const EVENTS: usize = 4000;
    let site = Site::new(&[]);
    let ids = site.data().join("ids");
    let mut service = site.start();
    let damages: [(&str, &dyn Fn()); 3] = [
        ("no damage", &|| ()),
        ("files without an index", &|| fs::remove_file(ids.join("index")).expect("it is there")),
        ("a file that is cut", &|| {
            let files =
                fs::read_dir(&ids).expect("it is a folder").map(|file| file.unwrap().path());
            for file in files.filter(|file| file.extension().is_some_and(|it| it == "ids")) {
                fs::File::options().write(true).open(file).unwrap().set_len(16).unwrap();
            }
        }),
    ];
    for (name, damage) in damages {
        for begin in (0..EVENTS).step_by(500) {
            post(&service, begin..begin + 500);
        }
        let is_indexed = || {
            post(&service, 0..1);
            ids.join("index").exists()
        };
        wait_until("an index of the ids", is_indexed, || site.said());
        wait_for_lake(&site, &service);
        service.kill();
        damage();
        service = site.start();
        post(&service, 0..EVENTS);
        wait_for_lake(&site, &service);
        assert_eq!(count(&site), EVENTS as u64, "{name}");
    }
    service.stop();
    assert!(site.said().contains("not all in their files"), "{}", site.said());
    assert_eq!(site.status()["residue"].as_u64(), Some(0));
}

#[test]
fn a_start_that_cannot_reach_the_object_store_says_so() {
    let s3 = S3::start();
    s3.fail(503);
    let site = Site::new(&[]).configured(&in_store(&s3));
    let (status, said) = site.feed(record(0).as_bytes());
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("the lake cannot be opened") && said.contains("lake/events"), "{said}");
    s3.fail(0);
    let (status, said) = site.feed(record(0).as_bytes());
    assert_eq!((status, count(&site)), (Some(0), 1), "{said}");
}

#[test]
fn another_place_than_that_of_the_data_folder_is_refused() {
    let s3 = S3::start();
    let site = Site::new(&[]).configured(&in_store(&s3));
    assert_eq!(site.feed(record(0).as_bytes()).0, Some(0));
    for (config, part) in [
        (String::new(), "`url` in `[lake]` is not set".to_owned()),
        (in_store(&s3).replace("/lake", "/other"), format!("is `s3://{BUCKET}/other`")),
    ] {
        let site = site.reconfigured(&config);
        let (status, said) = site.feed(record(1).as_bytes());
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains(&format!("is at `s3://{BUCKET}/lake`")), "{said}");
        assert!(said.contains(&part), "{said}");
    }
}

#[test]
fn a_mistake_in_the_settings_of_the_lake_is_named() {
    for (settings, hint) in [
        ("url = \"/var/lake\"", "write `s3://BUCKET/PREFIX`"),
        ("url = \"s3://logs/x\"\noptions = { endpont = \"x\" }", "unknown option `endpont`"),
        ("options = { region = \"x\" }", "`url` names none"),
        ("uri = \"s3://logs/x\"", "unknown field `uri`"),
        ("retention = { aws_cloudtrial = \"30d\" }", "did you mean `aws_cloudtrail`?"),
        (
            "retention = { default = \"1h\" }",
            "`default` in `[lake.retention]` is shorter than a day",
        ),
        ("retention = { default = 30 }", "expected a duration"),
    ] {
        let site = Site::new(&[]).configured(&format!("[lake]\n{settings}\n"));
        site.assert_refused(settings, hint);
    }
}

#[test]
fn a_lake_that_cannot_be_written_holds_nobody_up_and_gets_everything_later() {
    let site = Site::new(&[]);
    let service = site.start();
    post(&service, 0..20);
    wait_for_lake(&site, &service);
    // No permission binds root: a file stands where the folder was.
    let (lake, aside) = (site.data().join("lake"), site.data().join("aside"));
    fs::rename(&lake, &aside).expect("it is moved");
    fs::write(&lake, "").expect("it is written");
    let before = service.metric("telltale_lake_failures_total", "");
    post(&service, 20..50);
    let fails = || service.metric("telltale_lake_failures_total", "") > before + 1.0;
    wait_until("said that the lake fails", fails, || site.said());
    assert!(
        service.metric("telltale_lake_entry", "") < service.metric("telltale_journal_entry", "")
    );
    fs::remove_file(&lake).expect("it is removed");
    fs::rename(&aside, &lake).expect("it is moved back");
    wait_for_lake(&site, &service);
    let said = site.said();
    assert_eq!(said.matches("the lake cannot be written; the journal keeps").count(), 1, "{said}");
    assert!(said.contains("the lake can be written again"), "{said}");
    service.stop();
    assert_eq!((count(&site), site.status()["residue"].as_u64()), (50, Some(0)));
}

#[test]
fn events_go_after_the_days_of_their_log_and_others_stay() {
    let site = Site::with(
        "[service]\nflush_interval = \"200ms\"\nmaintenance_interval = \"500ms\"\nfile_retention = \"1ms\"\n[lake.retention]\naws_cloudtrail = \"30d\"\n",
        &[],
    );
    let service = site.start();
    let today = format_instant(telltale::commands::now());
    let at = |number: usize, day: &str| record(number).replace("2026-03-01", day);
    let old: Vec<_> = (0..10).map(|number| at(number, "2020-01-01")).collect();
    let new: Vec<_> = (10..15).map(|number| at(number, &today[..10])).collect();
    for (log, body) in [("aws_cloudtrail", old.join("\n")), ("aws_cloudtrail", new.join("\n"))] {
        let answer = service.post(&format!("/v1/logs/{log}"), body.as_bytes(), &[]);
        assert_eq!(answer.expect("the service answers").0, 200);
    }
    let okta = include_str!("../../ingest/fixtures/okta_system_log/sign_in.jsonl");
    let answer = service.post("/v1/logs/okta_system_log", okta.as_bytes(), &[]);
    assert_eq!(answer.expect("the service answers").0, 200);
    wait_for_lake(&site, &service);
    let is_over = || site.said().contains("days of events are over and deleted");
    wait_until("deleted", is_over, || site.said());
    let folder = site.data().join("lake/events/day=2020-01-01/log=aws_cloudtrail");
    let has_files = || fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
    wait_until("without files", || !has_files(), || site.said());
    service.stop();
    let rows = site.query("SELECT log, count(*) AS n FROM events GROUP BY log ORDER BY log");
    assert_eq!((&rows[0]["log"], &rows[0]["n"]), (&"aws_cloudtrail".into(), &5.into()));
    assert_eq!((&rows[1]["log"], rows.len()), (&"okta_system_log".into(), 2));
    assert_eq!(site.status()["residue"], 0);
}
