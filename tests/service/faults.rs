//! The service on a disk that is full, cannot sync or is read-only, for the journal and for everything
//! else that is written.
//!
//! The faults are those of `faults.c`, which is loaded in the place of the C library: on Linux, where there
//! is a C compiler. They begin and end while the service runs.

use crate::feeds::{cluster, kafka, produce};
use crate::run::{Running, Site, free_port, record, wait_until};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

const CLOUDTRAIL: &str = "/v1/logs/aws_cloudtrail";
/// As gRPC numbers it.
const UNAVAILABLE: &str = "14";
/// What the log says when the journal cannot be written, and when it can.
const FAILS: &str = "nothing is acknowledged until the journal can be written";
const GOES_ON: &str = "the journal can be written again";

/// A site on a disk that has no faults yet.
struct Disk {
    site: Site,
    /// What `faults.c` reads.
    control: PathBuf,
    /// The folder of the site, as the system calls it.
    folder: PathBuf,
}

impl Disk {
    /// `None` where faults cannot be loaded.
    fn of(site: Site) -> Option<Self> {
        let control = site.file("faults");
        let site = site.preloaded("faults")?.variable("TELLTALE_TEST_FAULTS", control.clone());
        let folder = site.folder().canonicalize().expect("it is there");
        Some(Self { site, control, folder })
    }

    /// From now on these are the faults: each a kind and the beginning of paths in the folder.
    fn fails(&self, faults: &[(&str, &str)]) {
        let line =
            |(kind, path): &(&str, &str)| format!("{kind} {}\n", self.folder.join(path).display());
        let new = self.control.with_extension("new");
        std::fs::write(&new, faults.iter().map(line).collect::<String>()).expect("it is written");
        std::fs::rename(new, &self.control).expect("it is renamed");
    }

    /// The newest segment of the journal.
    fn segment(&self) -> String {
        let files = std::fs::read_dir(self.site.data().join("journal")).expect("it is a folder");
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        names.max().expect("there is a segment")
    }

    /// The last line of each finding in the file of the sink. What a full disk has cut is none.
    fn told(&self) -> BTreeMap<String, String> {
        let lines = std::fs::read_to_string(self.site.file("told.ndjson")).unwrap_or_default();
        let lines = lines.lines().filter_map(|line| {
            let finding: Value = serde_json::from_str(line).ok()?;
            Some((finding["finding_info"]["uid"].as_str()?.to_owned(), line.to_owned()))
        });
        lines.collect()
    }

    /// How often the log says something.
    fn says(&self, text: &str) -> usize {
        self.site.said().matches(text).count()
    }
}

fn lines(numbers: Range<usize>) -> String {
    numbers.map(|number| record(number) + "\n").collect()
}

/// Posts records that are taken; how many were new.
fn post(service: &Running, numbers: Range<usize>) -> Option<u64> {
    let (status, body) =
        service.post(CLOUDTRAIL, lines(numbers).as_bytes(), &[]).expect("the service answers");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).ok()?["stored"].as_u64()
}

/// The status of what is posted, and whether the sender is told when to try again.
fn posted(service: &Running, path: &str, body: &str) -> (u16, bool) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let request =
        ureq::Agent::from(config).post(format!("http://127.0.0.1:{}{path}", service.port));
    let answer = request.content_type("application/json").send(body).expect("the service answers");
    (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
}

/// A request of OTLP.
fn logs(numbers: Range<usize>) -> ExportLogsServiceRequest {
    let text = |number| AnyValue { value: Some(Any::StringValue(record(number))) };
    let log = |number| LogRecord { body: Some(text(number)), ..LogRecord::default() };
    let logs = ScopeLogs { log_records: numbers.map(log).collect(), ..ScopeLogs::default() };
    let logs = ResourceLogs { scope_logs: vec![logs], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

/// The `grpc-status` of what is exported.
fn exported(port: u16, numbers: Range<usize>) -> String {
    let message = logs(numbers).encode_to_vec();
    // Not compressed, and so long.
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).expect("it is short").to_be_bytes());
    frame.extend_from_slice(&message);
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
    threads.expect("a runtime starts").block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        let (sender, connection) =
            h2::client::handshake(stream.expect("it listens")).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        let mut sender = sender.ready().await.expect("it lets a request in");
        let service = "opentelemetry.proto.collector.logs.v1.LogsService";
        let request =
            axum::http::Request::post(format!("http://127.0.0.1:{port}/{service}/Export"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .expect("it is a request");
        let (response, mut body) = sender.send_request(request, false).expect("it is sent");
        body.send_data(frame.into(), true).expect("it is sent");
        let mut response = response.await.expect("the service answers");
        // An error has no body, and no trailers behind it.
        let mut status = response.headers().get("grpc-status").cloned();
        if status.is_none() {
            while response.body_mut().data().await.is_some() {}
            let trailers = response.body_mut().trailers().await.expect("they are read");
            status = trailers.expect("a body has trailers").get("grpc-status").cloned();
        }
        let status = status.expect("gRPC gives a status");
        status.to_str().expect("it is a number").to_owned()
    })
}

/// Everything that was acknowledged is there once, and the accounts agree.
fn assert_held(site: &Site, events: usize) {
    let held = site.held();
    assert_eq!(held.len(), events, "{}", site.said());
    assert!(held.values().all(|count| *count == 1), "{held:?}");
    assert_eq!(site.status()["residue"], 0);
}

/// While everything in the data folder has the fault, senders are refused with `status` and nothing of
/// it is stored; `goes_on` says whether the segment of the journal is written further after that.
fn refuses_until_the_journal_can_be_written(fault: &str, status: u16, goes_on: bool) {
    let (producer, grpc) = (cluster(), free_port());
    let site = Site::new(&["--otlp-grpc", &format!("127.0.0.1:{grpc}")]);
    let Some(disk) = Disk::of(site.configured(&kafka(&producer))) else { return };
    let service = disk.site.start();
    assert_eq!(post(&service, 0..20), Some(20));
    produce(&producer, &[record(20)]);
    wait_until("read", || service.stored() == 21, || disk.site.said());
    let segment = disk.segment();

    disk.fails(&[(fault, "data/")]);
    let new = lines(22..50);
    let event = json!({ "event": record(22) }).to_string();
    let bulk = format!("{{\"create\":{{}}}}\n{}\n", record(22));
    let text = json!({ "stringValue": record(22) });
    let otlp = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{ "body": text }] }] }] });
    for (path, body, status) in [
        (CLOUDTRAIL, &new, status),
        (CLOUDTRAIL, &new, status),
        ("/services/collector/event", &event, status),
        ("/_bulk", &bulk, status),
        // The one after which a sender of OTLP tries again.
        ("/v1/logs", &otlp.to_string(), 503),
    ] {
        assert_eq!(posted(&service, path, body), (status, true), "{path}");
    }
    assert_eq!(exported(grpc, 22..50), UNAVAILABLE);
    produce(&producer, &[record(21)]);
    wait_until("not read on", || disk.says("source=kafka") > 0, || disk.site.said());
    assert!(service.metric("telltale_journal_failures_total", "") >= 7.0);
    let refused = "partition=\"aws_cloudtrail\",result=\"refused\"";
    assert_eq!(service.metric("telltale_records_total", refused) as usize, 2 * 28);
    assert_eq!(service.stored(), 21);
    assert_eq!((disk.says(FAILS), disk.says(GOES_ON)), (1, 0), "{}", disk.site.said());

    disk.fails(&[]);
    assert_eq!(post(&service, 22..50), Some(28));
    assert_eq!(exported(grpc, 22..50), "0");
    wait_until("read on", || service.stored() == 50, || disk.site.said());
    assert_eq!((disk.says(FAILS), disk.says(GOES_ON)), (1, 1), "{}", disk.site.said());
    assert_eq!(disk.segment() == segment, goes_on, "{segment}, then {}", disk.segment());

    // Killed while the fault lasts, and started when it is over.
    disk.fails(&[(fault, "data/")]);
    assert_eq!(posted(&service, CLOUDTRAIL, &lines(50..60)), (status, true));
    service.kill();
    disk.fails(&[]);
    let service = disk.site.start();
    assert_eq!(post(&service, 0..60), Some(10));
    service.stop();
    assert_held(&disk.site, 60);
}

#[test]
fn a_full_disk_refuses_what_comes_until_there_is_room() {
    refuses_until_the_journal_can_be_written("full", 507, true);
}

/// Nobody knows what is in a segment that could not be synced.
#[test]
fn a_disk_that_cannot_sync_refuses_what_comes_and_goes_on_in_a_new_segment() {
    refuses_until_the_journal_can_be_written("unsynced", 503, false);
}

/// An account that is seen twice, half a year apart, is a finding.
fn seen(number: usize, account: usize, day: &str) -> String {
    let text = record(number).replace("2026-03-01", day);
    text.replace("user/ci", &format!("user/svc-{account}")) + "\n"
}

fn post_text(service: &Running, text: &str) {
    let answer = service.post(CLOUDTRAIL, text.as_bytes(), &[]);
    assert_eq!(answer.map(|(status, _)| status), Some(200));
}

/// What grows while something beside the journal cannot be written.
const FAILURES: [&str; 3] = [
    "telltale_lake_failures_total",
    "telltale_snapshot_failures_total",
    "telltale_sink_failures_total",
];

/// While everything but the journal has these faults, senders notice nothing; all of it is there when
/// they are over.
fn goes_on_while_nothing_but_the_journal_can_be_written(faults: &[(&str, &str)]) {
    let sink = "[[sink]]\nkind = \"ndjson\"\npath = \"told.ndjson\"\n";
    let Some(disk) = Disk::of(Site::new(&[]).configured(sink)) else { return };
    let said = || disk.site.said();
    let service = disk.site.start();
    let of = |name: &str| service.metric(name, "");
    let is_flushed = || of("telltale_lake_entry") >= of("telltale_journal_entry");
    let is_saved = || of("telltale_snapshot_entry") >= of("telltale_journal_entry");
    let accounts = 6;
    let first = (0..accounts).map(|account| seen(1000 + account, account, "2026-01-01"));
    post_text(&service, &first.collect::<String>());
    // One of them acts again half a year later, and of the others it is told that they are silent. What
    // comes a day later says that nothing of the day before is missing.
    post_text(&service, &(seen(1010, 0, "2026-06-01") + &seen(1020, 0, "2026-06-02")));
    let are_told = || disk.told().len() == accounts;
    wait_until("told", are_told, said);
    wait_until("flushed", is_flushed, said);

    let before = FAILURES.map(of);
    disk.fails(faults);
    let again = (1..accounts).map(|account| seen(1010 + account, account, "2026-06-03"));
    post_text(&service, &(again.collect::<String>() + &seen(1021, 0, "2026-06-04")));
    // More ids than there is memory for.
    assert_eq!(post(&service, 0..600), Some(600));
    assert_eq!(post(&service, 0..600), Some(0));
    let have_failed = || FAILURES.map(of).iter().zip(before).all(|(now, before)| *now > before);
    wait_until("counted", have_failed, said);
    assert!(!is_flushed() && !is_saved());

    disk.fails(&[]);
    // What detectors know is saved again once there is news.
    assert_eq!(post(&service, 600..601), Some(1));
    wait_until("flushed", is_flushed, said);
    wait_until("saved", is_saved, said);
    wait_until("told", || of("telltale_sink_waiting") == 0.0, said);
    for text in [
        "the lake cannot be written; the journal keeps everything",
        "the lake can be written again",
        "findings wait until the sink takes them",
        "the sink takes findings again",
    ] {
        wait_until(text, || disk.says(text) > 0, said);
        assert_eq!(disk.says(text), 1, "{text}: {}", said());
    }
    assert_eq!(of("telltale_journal_failures_total"), 0.0);
    service.kill();
    let service = disk.site.start();
    assert_eq!(post(&service, 0..601), Some(0));
    service.stop();
    assert_held(&disk.site, 601 + 2 * accounts + 2);
    let told = disk.told();
    for row in disk.site.query("SELECT finding_id, ocsf FROM findings") {
        let last = told.get(row["finding_id"].as_str().unwrap_or_default());
        assert_eq!(last.map(String::as_str), row["ocsf"].as_str());
    }
}

#[test]
fn a_disk_that_is_full_for_all_but_the_journal_is_noticed_by_no_sender() {
    goes_on_while_nothing_but_the_journal_can_be_written(&[
        ("full", "data/lake"),
        ("full", "data/snapshot"),
        ("full", "data/ids"),
        ("full", "told.ndjson"),
    ]);
}

#[test]
fn a_read_only_lake_and_a_disk_that_cannot_sync_are_noticed_by_no_sender() {
    goes_on_while_nothing_but_the_journal_can_be_written(&[
        ("readonly", "data/lake"),
        ("unsynced", "data/snapshot"),
        ("unsynced", "data/ids"),
        ("unsynced", "told.ndjson"),
    ]);
}
