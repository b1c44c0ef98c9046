//! The service as senders and operators see it.

use crate::run::{Site, free_port, record};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

const CLOUDTRAIL: &str = "/v1/logs/aws_cloudtrail";

fn lines(numbers: std::ops::Range<usize>) -> Vec<u8> {
    numbers.map(record).collect::<Vec<_>>().join("\n").into_bytes()
}

fn told(answer: Option<(u16, String)>) -> (u16, Value) {
    let (status, body) = answer.expect("the service answers");
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[test]
fn what_is_posted_is_told_stored_and_there_after_a_restart() {
    let site = Site::new(&[]);
    let service = site.start();
    let (status, answer) = told(service.post(CLOUDTRAIL, &lines(0..50), &[]));
    assert_eq!((status, &answer["received"], &answer["stored"]), (200, &json!(50), &json!(50)));
    let array = format!("[{}]", (40..60).map(record).collect::<Vec<_>>().join(","));
    let (_, answer) = told(service.post("/v1/logs/auto", array.as_bytes(), &[]));
    assert_eq!((&answer["stored"], &answer["duplicate"]), (&json!(10), &json!(10)));
    let mixed = format!("{}\n{{\"a\":1}}\nnothing\n{}", record(60), record(61));
    let (status, answer) = told(service.post(CLOUDTRAIL, mixed.as_bytes(), &[]));
    assert_eq!((status, &answer["stored"], &answer["rejected"]), (200, &json!(2), &json!(2)));
    assert_eq!(answer["rejects"].as_array().map(Vec::len), Some(2));
    service.stop();
    let service = site.start();
    // What was stored before is known after.
    let (_, answer) = told(service.post(CLOUDTRAIL, &lines(0..62), &[]));
    assert_eq!((&answer["stored"], &answer["duplicate"]), (&json!(0), &json!(62)));
    // A folder is read while its service runs.
    assert_eq!(site.held().values().copied().collect::<Vec<_>>(), [1; 62]);
    let letters = site.query("SELECT reason, text FROM dead_letters ORDER BY position");
    assert_eq!(letters.iter().map(|l| &l["text"]).collect::<Vec<_>>(), ["{\"a\":1}", "nothing"]);
    let status = site.status();
    assert_eq!(status["residue"], 0);
    let of = |partition: &str, what: &str| {
        let sources = status["sources"].as_array().expect("sources");
        let own = sources.iter().find(|source| source["partition"] == partition);
        own.and_then(|source| source[what].as_u64())
    };
    assert_eq!(of("aws_cloudtrail", "received"), Some(50 + 4 + 62));
    assert_eq!(of("aws_cloudtrail", "dead_letter"), Some(2));
    assert_eq!(of("auto", "duplicate"), Some(10));
    service.stop();
}

#[test]
fn dead_letters_of_the_configured_folder_are_sent_again_each_once_and_counted() {
    let site = Site::with("[service]\ndata = \"data\"\n", &[]);
    let service = site.start();
    let body = format!("{}\n{{\"a\":1}}\n{{\"b\":2}}", record(1));
    let (_, answer) = told(service.post(CLOUDTRAIL, body.as_bytes(), &[]));
    assert_eq!((&answer["stored"], &answer["rejected"]), (&json!(1), &json!(2)));
    let to = format!("http://127.0.0.1:{}", service.port);
    let said = site.tell(&["dead-letters", "retry", "--to", &to]);
    let counts = "2 sent, 0 stored, 0 known already, 2 still rejected";
    assert_eq!(said, format!("aws_cloudtrail: {counts}\nin total: {counts}\n"));
    service.stop();
    assert!(site.tell(&["dead-letters", "list"]).contains("{\"a\":1}"));
    assert!(site.tell(&["journal", "inspect", "--quiet"]).contains("2 entries"));
    let status = site.tell(&["status", "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&status).expect("JSON"), site.status());
    assert_eq!(site.status()["residue"], 0);
}

#[test]
fn bad_requests_are_answered_and_store_nothing() {
    let site = Site::new(&[]);
    let service = site.start();
    let status = |path: &str, body: &[u8], headers: &[(&str, &str)]| {
        service.post(path, body, headers).expect("the service answers").0
    };
    assert_eq!(status("/v1/logs/no_such_parser", b"{}", &[]), 404);
    assert_eq!(status("/nowhere", b"{}", &[]), 404);
    assert_eq!(status(CLOUDTRAIL, b"{}", &[("content-encoding", "br")]), 415);
    // A sender that announces too much is told before it sends it.
    let mut large = TcpStream::connect(("127.0.0.1", service.port)).expect("it listens");
    write!(large, "POST {CLOUDTRAIL} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        .expect("it is sent");
    let mut answer = [0; 12];
    large.read_exact(&mut answer).expect("the service answers");
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(status("/v1/logs", b"hello", &[]), 400);
    let json = [("content-type", "application/json")];
    assert_eq!(status("/v1/logs", record(1).as_bytes(), &json), 400);
    assert_eq!(status("/v1/logs/auto", b"PAR1", &[]), 415);
    // Of a body that was cut nothing is kept, not even what could be read.
    let cut = zstd_of(&lines(0..3000));
    assert_eq!(status(CLOUDTRAIL, &cut[..cut.len() / 2], &[]), 400);
    let mut cut = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    cut.write_all(&lines(0..3000)).expect("memory can be written");
    let cut = cut.finish().expect("memory can be written");
    assert_eq!(status(CLOUDTRAIL, &cut[..cut.len() / 2], &[]), 400);
    // A bomb: 200 MB in 200 KB.
    let bomb = zstd_of(format!("{}{}\n", record(1), " ".repeat(1 << 20)).as_bytes()).repeat(200);
    assert_eq!(status(CLOUDTRAIL, &bomb, &[]), 413);
    let mut half = TcpStream::connect(("127.0.0.1", service.port)).expect("it listens");
    write!(
        half,
        "POST {CLOUDTRAIL} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{}",
        record(1)
    )
    .expect("it is sent");
    drop(half);
    service.stop();
    assert_eq!(site.held().len(), 0);
    assert_eq!(site.status()["residue"], 0);
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory can be written")
}

#[test]
fn what_senders_already_speak_is_understood() {
    let site = Site::new(&[]);
    let service = site.start();
    // Splunk's HTTP Event Collector: objects one behind the other, records in envelopes.
    let event = |n: usize| json!({ "time": 1, "sourcetype": "x", "event": object(n) }).to_string();
    let text = |n: usize| json!({ "event": record(n) }).to_string();
    let body = format!("{}{}", event(0), text(1));
    let (status, answer) = told(service.post(
        "/services/collector/event",
        body.as_bytes(),
        &[("authorization", "Splunk x")],
    ));
    assert_eq!((status, &answer["code"]), (200, &json!(0)));
    let raw = "/services/collector/raw?sourcetype=aws_cloudtrail";
    assert_eq!(told(service.post(raw, record(2).as_bytes(), &[])).0, 200);
    // Elasticsearch's bulk requests.
    let body = format!(
        "{{\"index\":{{\"_index\":\"a\"}}}}\n{}\n{{\"create\":{{}}}}\n{}\n",
        record(3),
        json!({ "@timestamp": "2026-01-01T00:00:00Z", "message": record(4) })
    );
    let (status, answer) = told(service.post("/_bulk", body.as_bytes(), &[]));
    assert_eq!((status, &answer["errors"]), (200, &json!(false)));
    assert_eq!(answer["items"][1]["create"]["status"], 201);
    // OTLP over HTTP, as JSON: text and objects.
    let pairs = |value: &Value| -> Value { any(value) };
    let request = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [
        { "body": { "stringValue": record(5) } },
        { "body": pairs(&object(6)) },
        { "body": { "stringValue": "no audit log" } },
        { "eventName": "one without a body", "traceId": null },
    ] }] }] });
    let (status, answer) = told(service.post(
        "/v1/logs",
        request.to_string().as_bytes(),
        &[("content-type", "application/json")],
    ));
    assert_eq!(status, 200);
    let rejected = &answer["partialSuccess"]["rejectedLogRecords"];
    assert_eq!(rejected, "2", "{answer}");
    service.stop();
    assert_eq!(site.held().values().copied().collect::<Vec<_>>(), [1; 7]);
    assert_eq!(site.query("SELECT count(*) AS n FROM dead_letters")[0]["n"], 2);
    assert_eq!(site.status()["residue"], 0);
}

fn object(number: usize) -> Value {
    serde_json::from_str(&record(number)).expect("a record is JSON")
}

/// A value as OTLP spells it.
fn any(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Number(number) => json!({ "doubleValue": number }),
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(any).collect::<Vec<_>>() } })
        }
        Value::Object(members) => {
            let pairs =
                members.iter().map(|(key, value)| json!({ "key": key, "value": any(value) }));
            json!({ "kvlistValue": { "values": pairs.collect::<Vec<_>>() } })
        }
    }
}

#[test]
fn a_data_folder_has_one_service_and_any_number_of_readers() {
    let site = Site::new(&[]);
    let service = site.start();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_telltale"))
        .args(["run", "--http", "127.0.0.1:0", "--data"])
        .arg(site.data())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2));
    assert!(said.contains("a telltale runs on the data folder"), "{said}");
    service.stop();
}

#[test]
fn requests_that_are_stuck_with_several_sources_are_cut_off_together() {
    let other = free_port();
    let site = Site::new(&[]).configured(&format!(
        "[[source]]\nkind = \"http\"\n[[source]]\nkind = \"http\"\nlisten = \"127.0.0.1:{other}\"\n"
    ));
    let service = site.start();
    let stuck = [service.port, other].map(|port| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has a timeout");
        let head = format!(
            "POST {CLOUDTRAIL} HTTP/1.1\r\nhost: here\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it is sent");
        // The body is waited for from now on.
        let mut told = [0; 12];
        stream.read_exact(&mut told).expect("it is answered");
        assert_eq!(&told, b"HTTP/1.1 100");
        stream
    });
    let began = Instant::now();
    service.stop();
    // Five seconds for each would be ten.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}: {}", began.elapsed(), site.said());
    assert_eq!(site.said().matches("cut off").count(), 1, "{}", site.said());
    drop(stuck);
}

#[test]
fn whoever_asks_an_unknown_table_is_told_which_there_are() {
    let site = Site::new(&[]);
    assert_eq!(site.feed(record(0).as_bytes()).0, Some(0));
    let data = site.data().display().to_string();
    let ask = ["query", "SELECT 1 FROM finding", "--data", &data];
    let output = site.command(&ask).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "unknown table `finding`; there are `events`, `findings`, `dead_letters`";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_service_without_http_says_that_nobody_can_ask_it() {
    let site = Site::new(&[]);
    let data = site.data().display().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = site.command(&["run", "--data", &data, "--syslog", &listen]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    while !said.contains(": ready") && lines.read_line(&mut said).expect("it is text") > 0 {}
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    assert!(said.contains("no source is `http`") && said.contains(": ready"), "{said}");
}
