//! A bucket of logs as a source: what is read of it, and when it cannot be.

use crate::files::gzip;
use crate::run::{Site, record, wait_until};
use crate::s3::{BUCKET, S3};
use serde_json::Value;

/// The source of a prefix; `more` are further settings.
fn source(s3: &S3, prefix: &str, more: &str) -> String {
    format!(
        "[[source]]\nkind = \"objects\"\nurl = \"s3://{BUCKET}/{prefix}\"\noptions = {}\npoll_interval = \"100ms\"\n{more}\n",
        s3.options()
    )
}

fn document(numbers: std::ops::Range<usize>) -> Vec<u8> {
    let records: Vec<_> = numbers.map(record).collect();
    gzip(format!("{{\"Records\":[{}]}}", records.join(",")).as_bytes())
}

fn trail(region: &str, day: &str, name: &str) -> String {
    format!("AWSLogs/111122223333/CloudTrail/{region}/2026/03/{day}/{name}.json.gz")
}

fn sum(status: &Value, what: &str) -> u64 {
    let sources = status["sources"].as_array().expect("sources");
    sources.iter().filter_map(|source| source[what].as_u64()).sum()
}

#[test]
fn a_trail_is_read_once_across_kills_late_days_and_a_store_that_fails() {
    let s3 = S3::start();
    let site = Site::new(&[]).configured(&source(&s3, "AWSLogs", "layout = \"days\""));
    s3.put_at(&trail("eu-west-1", "01", "a"), document(0..10), "2026-03-01T00:05:00.000Z");
    s3.put_at(&trail("us-east-1", "01", "a"), document(10..20), "2026-03-01T00:06:00.000Z");
    for other in ["111122223333/CloudTrail-Digest", "444455556666/vpcflowlogs"] {
        let key = format!("AWSLogs/{other}/eu-west-1/2026/03/01/a.log");
        s3.put_at(&key, "no event", "2026-03-01T01:00:00.000Z");
    }
    let service = site.start();
    site.wait_until_stored(20);
    s3.put_at(&trail("eu-west-1", "09", "a"), document(20..30), "2026-03-09T00:05:00.000Z");
    site.wait_until_stored(30);
    s3.listings();
    // Delivered two days late, and before the one that was read last.
    s3.put_at(&trail("eu-west-1", "07", "z"), document(30..40), "2026-03-09T00:04:00.000Z");
    site.wait_until_stored(40);
    // Only the last days are listed, of a lane that has come so far.
    let lane = "AWSLogs/111122223333/CloudTrail/eu-west-1/";
    let after: Vec<String> = s3
        .listings()
        .into_iter()
        .filter(|(p, a)| p == lane && !a.is_empty())
        .map(|(_, a)| a)
        .collect();
    assert!(
        !after.is_empty() && after.iter().all(|a| a == &format!("{lane}2026/03/06")),
        "{after:?}"
    );
    for (status, day, numbers) in [(500, "10", 40..50), (503, "11", 50..60)] {
        s3.fail(status);
        let at = format!("2026-03-{day}T00:05:00.000Z");
        s3.put_at(&trail("eu-west-1", day, "a"), document(numbers.clone()), &at);
        let failures = || service.metric("telltale_source_failures_total", "source=\"objects\"");
        let before = failures();
        wait_until("counted that the store fails", || failures() > before, || site.said());
        s3.fail(0);
        site.wait_until_stored(numbers.end as u64);
    }
    let said = site.said();
    assert_eq!(
        said.matches("the object store cannot be read; it is tried again").count(),
        2,
        "{said}"
    );
    assert!(said.contains("the object store can be read again"), "{said}");
    assert_eq!(sum(&site.status(), "duplicate"), 0);
    service.kill();
    s3.put_at(&trail("eu-west-1", "11", "b"), document(60..70), "2026-03-11T00:05:00.000Z");
    let service = site.start();
    site.wait_until_stored(70);
    service.stop();
    let counted = site.query("SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events");
    assert_eq!((&counted[0]["n"], &counted[0]["ids"]), (&70.into(), &70.into()));
    let status = site.status();
    // What lies within the margin of the last is looked at again after a restart.
    let known: u64 = sum(&status, "received") - sum(&status, "duplicate");
    assert_eq!((&status["residue"], known, sum(&status, "dead_letter")), (&0.into(), 70, 0));
    let partition = format!("s3://{BUCKET}/{}", lane.trim_end_matches('/'));
    let sources = status["sources"].as_array().expect("sources");
    assert!(sources.iter().any(|source| source["partition"] == partition.as_str()), "{status}");
}

#[test]
fn an_object_that_cannot_be_read_is_a_dead_letter_and_the_others_are_read() {
    let s3 = S3::start();
    let site = Site::new(&[]).configured(&source(&s3, "mixed", ""));
    let lines: String = (0..5).map(|number| record(number) + "\n").collect();
    let broken = document(100..200);
    s3.put("mixed/a.json.gz", broken[..broken.len() / 2].to_vec());
    s3.put("mixed/b.zip", b"PK\x03\x04 no log".to_vec());
    s3.put("mixed/c.log", format!("{lines}no event\n"));
    s3.put("mixed/d.zst", zstd::encode_all(record(5).as_bytes(), 3).expect("it is compressed"));
    s3.put("mixed/e", "");
    s3.put("other/f.log", record(6));
    let big: String = (1000..9000).map(|number| record(number) + "\n").collect();
    s3.put("mixed/g.log", big);
    let service = site.start();
    let stored = "SELECT count(*) AS n FROM events WHERE event_id IS NOT NULL";
    let has_all = || {
        site.status()["sources"][0]["dead_letter"].as_u64() >= Some(3)
            && site.query(stored)[0]["n"].as_u64() >= Some(8006)
    };
    wait_until("read", has_all, || site.said());
    service.stop();
    let letters = site.query("SELECT reason, text FROM dead_letters ORDER BY reason");
    let reasons: Vec<_> = letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    let of = |object: &str, part: &str| {
        let name = format!("`s3://{BUCKET}/mixed/{object}`");
        reasons.iter().any(|reason| reason.starts_with(&name) && reason.contains(part))
    };
    assert!(of("a.json.gz", "it was cut off") && of("b.zip", "a zip archive"), "{reasons:?}");
    assert!(letters.iter().any(|letter| letter["text"] == "no event"), "{letters:?}");
    assert_eq!(site.status()["residue"], 0);
}

#[test]
fn a_folder_that_is_refused_keeps_no_other_waiting_and_is_read_once_it_is_given() {
    let s3 = S3::start();
    let site = Site::new(&[]).configured(&source(&s3, "AWSLogs", "layout = \"days\""));
    s3.put(&trail("eu-west-1", "01", "a"), document(0..10));
    s3.put(&trail("us-east-1", "01", "a"), document(10..20));
    s3.refuse("AWSLogs/111122223333/CloudTrail/eu-west-1/");
    let service = site.start();
    site.wait_until_stored(10);
    let failures = || service.metric("telltale_source_failures_total", "source=\"objects\"");
    wait_until("counted", || failures() > 1.0, || site.said());
    assert_eq!(site.said().matches("s3:GetObject").count(), 1, "{}", site.said());
    s3.refuse("");
    site.wait_until_stored(20);
    service.stop();
    assert_eq!((sum(&site.status(), "received"), &site.status()["residue"]), (20, &0.into()));
}

#[test]
fn a_day_before_which_nothing_is_read_is_kept_to() {
    let s3 = S3::start();
    let site = Site::new(&[]).configured(&source(&s3, "", "since = \"2026-03-02\""));
    s3.put_at("a", record(0), "2026-03-01T23:59:59.000Z");
    s3.put_at("b", record(1), "2026-03-02T00:00:00.000Z");
    let service = site.start();
    site.wait_until_stored(1);
    service.stop();
    assert_eq!(site.status()["sources"][0]["received"], 1);
}

#[test]
fn a_mistake_in_the_settings_of_objects_is_named() {
    for (settings, hint) in [
        ("", "missing field `url`"),
        ("url = \"logs/x\"", "write `s3://BUCKET/PREFIX`"),
        ("url = \"s3://logs\"\nlayout = \"day\"", "`days`"),
        ("url = \"s3://logs\"\nsince = \"yesterday\"", "write it as `2026-03-01`"),
        ("url = \"s3://logs\"\npoll_interval = \"0s\"", "below 100ms"),
        ("url = \"s3://logs\"\nparser = \"aws_cloudtrial\"", "did you mean `aws_cloudtrail`?"),
        ("url = \"s3://logs\"\noptions = { endpont = \"x\" }", "unknown option `endpont`"),
    ] {
        let site =
            Site::new(&[]).configured(&format!("[[source]]\nkind = \"objects\"\n{settings}\n"));
        site.assert_refused(settings, hint);
    }
}
