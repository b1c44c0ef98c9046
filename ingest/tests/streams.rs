//! Streams of any layout give every record that lies in them, whatever stands before it.

use std::fmt::Write;
use std::io::Cursor;
use std::sync::Arc;
use telltale_ingest::reading::read_block;
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::sources::{BlockReader, Limits};
use telltale_ingest::{Parser, Rejects, parsers};
use telltale_schema::Micros;
use telltale_schema::time::parse_instant;

const TASK: &str = "0123456789abcdef0123456789abcdef";

fn aws(n: usize) -> String {
    format!(
        r#"{{"eventVersion":"1.09","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/ci"}},"eventTime":"2026-05-06T07:08:09Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"eu-west-1","eventID":"{n}"}}"#
    )
}

fn gcp(n: usize) -> String {
    format!(
        r#"{{"protoPayload":{{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","authenticationInfo":{{"principalEmail":"ines@example.com"}},"serviceName":"iam.googleapis.com","methodName":"SetIamPolicy"}},"insertId":"{n}","timestamp":"2026-05-06T07:08:09Z","logName":"projects/p/logs/cloudaudit.googleapis.com%2Factivity"}}"#
    )
}

fn kubernetes(n: usize) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{n}","stage":"ResponseComplete","requestURI":"/api/v1/pods","verb":"list","user":{{"username":"ines"}},"responseStatus":{{"code":200}},"requestReceivedTimestamp":"2026-05-06T07:08:09.000000Z"}}"#
    )
}

fn okta(n: usize) -> String {
    format!(
        r#"{{"uuid":"{n}","published":"2026-05-06T07:08:09.000Z","eventType":"user.session.start","displayMessage":"User login to Okta","actor":{{"id":"00u1","type":"User","alternateId":"ines@example.com"}},"outcome":{{"result":"SUCCESS"}}}}"#
    )
}

fn vault(n: usize) -> String {
    format!(
        r#"{{"time":"2026-05-06T07:08:09.123456789Z","type":"response","auth":{{"token_type":"service","display_name":"approle"}},"request":{{"id":"{n}","operation":"read","mount_type":"kv","path":"secret/data/db","remote_address":"203.0.113.9"}}}}"#
    )
}

fn gateway(n: usize) -> String {
    format!(
        r#"{{"time":"2026-05-06T07:08:09Z","status":200,"uri":"/tasks.get_by_id?n={n}","X-ClearML-Worker":"node-7:0"}}"#
    )
}

fn agent(n: usize) -> String {
    format!("2026-05-06T07:08:{:02}Z Running task '{TASK}'", n % 60)
}

type Make = fn(usize) -> String;
const LOGS: [Make; 7] = [aws, gcp, kubernetes, okta, vault, gateway, agent];

fn lines(make: Make, count: usize) -> String {
    (0..count).map(|n| make(n) + "\n").collect()
}

fn pretty(record: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(record).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// The same record with so many bytes more.
fn padded(record: &str, bytes: usize) -> String {
    record.replacen('{', &format!("{{\"padding\":\"{}\",", "x".repeat(bytes)), 1)
}

#[derive(Debug, PartialEq)]
struct Read {
    /// Log, event id and time, in order.
    events: Vec<(&'static str, String, Micros)>,
    /// `count×position: reason`; remarks count 0.
    rejects: Vec<String>,
}

fn read_as(bytes: &[u8], forced: Option<&'static dyn Parser>, trusting: bool) -> Read {
    let limits = Limits::default();
    let stream = Cursor::new(bytes.to_vec());
    let reader = BlockReader::new("x", stream, forced, limits, Arc::default()).unwrap();
    read_all(if trusting { reader.trusting() } else { reader })
}

fn read_all(mut reader: BlockReader) -> Read {
    let redactor = Redactor::new(&Key::from_bytes([7; 32]));
    let (mut rejects, mut events) = (Rejects::default(), Vec::new());
    while let Some((block, plan)) = reader.next_block(&mut rejects) {
        read_block(block, plan, &redactor, 1, &mut rejects, |log, batch| {
            let event = |row| (log, batch.event_id(row).to_string(), batch.event_time(row));
            events.extend(batch.rows().map(event));
        });
    }
    events.sort();
    let rejects = rejects.into_sorted().into_iter();
    let rejects = rejects.map(|r| format!("{}×{}: {}", r.count, r.position, r.reason)).collect();
    Read { events, rejects }
}

fn read(text: &str) -> Read {
    read_as(text.as_bytes(), None, false)
}

#[test]
fn what_stands_first_does_not_decide_what_is_read() {
    let all: String = LOGS.iter().map(|make| lines(*make, 20)).collect();
    let expected = read_as(all.as_bytes(), None, true);
    assert_eq!((expected.events.len(), expected.rejects.len()), (7 * 20, 0));
    for first in LOGS {
        // More than is looked at to recognise the stream.
        let many = lines(first, 20).repeat(60);
        let mut found = read(&(many + &all));
        found.events.dedup();
        assert_eq!(found, expected, "{}", first(0));
    }
}

#[test]
fn a_record_of_another_log_is_read_where_it_stands() {
    let many = lines(aws, 400);
    for (other, logs, rejects) in [
        (gcp(1), vec!["gcp_audit"], vec![]),
        (
            format!("<13>May  6 07:08:09 host vault[7]: {}", vault(1)),
            vec!["hashicorp_vault_audit"],
            vec![],
        ),
        (format!(r#"{{"log":{}}}"#, quoted(&kubernetes(1))), vec!["kubernetes_audit"], vec![]),
        (format!(r#"{{"payload":{}}}"#, okta(1)), vec!["okta_system_log"], vec![]),
        (
            format!("[{},{{\"x\":1}},{}]", gcp(1), okta(1)),
            vec!["gcp_audit", "okta_system_log"],
            vec!["1×401: `eventName` is missing"],
        ),
        (
            vault(1).replace("2026-05-06T07", "soon"),
            vec![],
            vec!["1×401: `time` is not RFC 3339: \"soon:08:09.123456789Z\""],
        ),
        ("nobody's".to_owned(), vec![], vec!["1×401: `nobody` is no JSON value"]),
    ] {
        let found = read(&format!("{many}{other}\n"));
        let foreign: Vec<_> = found.events.iter().map(|(log, ..)| *log).skip(400).collect();
        assert_eq!(
            (foreign, found.rejects),
            (logs, rejects.iter().map(|r| (*r).to_owned()).collect()),
            "{other}"
        );
    }
    // An envelope of the log itself looks like an event of it.
    let events = format!("[{},{}]", okta(400), okta(401));
    let hook = format!(r#"{{"eventType":"com.okta.event_hook","data":{{"events":{events}}}}}"#);
    assert_eq!(read(&(lines(okta, 400) + &hook)), read(&lines(okta, 402)));
    // Who names the parser wants no other.
    let named = read_as(
        format!("{many}{}\n", gcp(1)).as_bytes(),
        parsers::by_name("aws_cloudtrail"),
        false,
    );
    assert_eq!(
        (named.events.len(), named.rejects),
        (400, vec!["1×401: `eventName` is missing".to_owned()])
    );
}

#[test]
fn every_layout_gives_its_records() {
    for make in [aws, gcp, kubernetes, okta, vault] {
        let joined = |each: &dyn Fn(String) -> String, by: &str| {
            (0..3).map(make).map(each).collect::<Vec<_>>().join(by)
        };
        let bare = read(&joined(&|record| record, "\n"));
        assert_eq!((bare.events.len(), bare.rejects.len()), (3, 0));
        let looked_up = |r: String| format!(r#"{{"CloudTrailEvent":{}}}"#, quoted(&r));
        let raw = |r: String| format!(r#"{{"_raw":{}}}"#, quoted(&r));
        let source = |r: String| format!(r#"{{"_index":"i","_source":{r}}}"#);
        let result = |r: String| format!(r#"{{"preview":false,"result":{}}}"#, raw(r));
        let (events, hits) = (joined(&looked_up, ","), joined(&source, ","));
        for (what, text) in [
            ("lookup-events", pretty(&format!(r#"{{"Events":[{events}]}}"#))),
            ("pages", joined(&|r| format!("{{\"Events\": [\n{}\n]\n}}", looked_up(r)), "\n")),
            ("late key", format!(r#"{{"x":1,"Records":[{}]}}"#, joined(&|r| r, ","))),
            ("Elasticsearch", format!(r#"{{"took":1,"hits":{{"total":3,"hits":[{hits}]}}}}"#)),
            ("Splunk's document", format!(r#"{{"x":1,"results":[{}]}}"#, joined(&raw, ","))),
            ("Splunk's results", format!(r#"{{"results":[{}]}}"#, joined(&raw, ","))),
            ("Splunk's lines", joined(&result, "\n")),
            ("Filebeat", joined(&|r| format!(r#"{{"@timestamp":"x","json":{r}}}"#), "\n")),
            ("Insights", format!("[{}]", joined(&|r| format!(r#"{{"@message":{r}}}"#), ","))),
            ("_bulk", joined(&|r| format!("{{\"create\":{{\"_index\":\"i\"}}}}\n{r}"), "\n")),
            ("text sequence", joined(&|r| format!("\u{1e}{r}\n"), "")),
            ("pretty sequence", joined(&|r| format!("\u{1e}{}\n", pretty(&r)), "")),
            ("prefix", joined(&|r| format!("<13>May  6 07:08:09 host app[7]: {r}"), "\n")),
        ] {
            assert_eq!(read(&text), bare, "{what}: {text}");
        }
    }
}

#[test]
fn values_without_a_line_end_between_them_are_all_read() {
    let bare = |record: String| record;
    let event = |record: String| format!(r#"{{"event":{record}}}"#);
    let text = |record: String| format!(r#"{{"host":"h","event":{}}}"#, quoted(&record));
    let bridge = |record: String| {
        format!(r#"{{"version":"0","detail-type":"x","resources":[],"detail":{record}}}"#)
    };
    let watch = |record: String| {
        let record = quoted(&record);
        format!(r#"{{"owner":"1","logEvents":[{{"id":"1","message":{record}}}]}}"#)
    };
    let layouts: [&dyn Fn(String) -> String; 5] = [&bare, &event, &text, &bridge, &watch];
    // More and less than is looked at before the framing is decided.
    for (make, count, separators) in
        [(okta as Make, 10, ["", " ", ","].as_slice()), (aws, 1200, &[""])]
    {
        let expected = read(&lines(make, count));
        assert_eq!((expected.events.len(), expected.rejects.len()), (count, 0));
        for (number, layout) in layouts.iter().enumerate() {
            for between in separators {
                let records: Vec<_> = (0..count).map(make).map(layout).collect();
                let all = records.join(between);
                let behind_a_line = format!("{}\n{}\n", records[0], records[1..].join(between));
                let many_a_line: Vec<_> =
                    records.chunks(3).map(|some| some.join(between)).collect();
                for text in [all, behind_a_line, many_a_line.join("\n")] {
                    for trusting in [true, false] {
                        let found = read_as(text.as_bytes(), None, trusting);
                        assert_eq!(found, expected, "{number} {between:?} {trusting} {text:.99}");
                    }
                }
            }
        }
    }
    // The first of them is longer than that.
    let records = [padded(&aws(0), 1 << 20), aws(1), aws(2)].map(event).concat();
    for trusting in [true, false] {
        let found = read_as(records.as_bytes(), None, trusting);
        assert_eq!((found.events.len(), found.rejects), (3, vec![]));
    }
}

#[test]
fn text_behind_a_value_is_rejected_where_it_stands() {
    let enveloped = format!(r#"{{"message":{}}}"#, quoted(&aws(1)));
    let number = |text: &str| format!("{}{text}\n{}", lines(aws, 1), lines(gcp, 1));
    for (behind, cause) in [
        (" and more", "1×2: no parser recognises the record"),
        ("{\"x\":", "1×2: no parser recognises the record"),
    ] {
        for value in [aws(1), enveloped.clone()] {
            let found = read_as(number(&format!("{value}{behind}")).as_bytes(), None, true);
            assert_eq!((found.events.len(), found.rejects), (3, vec![cause.to_owned()]), "{value}");
        }
    }
    // The parser that was named reads each value, and says what is wrong with which.
    let parser = parsers::by_name("aws_cloudtrail");
    let two = format!("{}{{\"x\":1}}{}\n", aws(0), aws(1));
    let named = read_as(format!("{}{two}", lines(aws, 1)).as_bytes(), parser, true);
    assert_eq!(named.rejects, ["1×2: `eventName` is missing"]);
    assert_eq!(named.events.len(), 3);
}

#[test]
fn a_record_longer_than_any_may_be_is_rejected_however_it_is_framed() {
    let limits = Limits { record_bytes: 1000, ..Limits::default() };
    let records = [aws(0), padded(&aws(1), 5000), aws(2)];
    let line = records.join("\n");
    let array = format!("[{}]", records.join(","));
    for text in [
        line.clone(),
        records.concat(),
        format!("{}\n{}", aws(3), records.concat()),
        array.clone(),
        format!("{}\n{array}\n", aws(3)),
        format!("{{\"Records\":{array}}}"),
        records.each_ref().map(|record| pretty(record)).join("\n"),
    ] {
        let others = text.matches("eventName").count() - 1;
        for content in [text.clone().into_bytes(), zstd::encode_all(text.as_bytes(), 1).unwrap()] {
            let reader = BlockReader::of_bytes("x", content.into(), None, limits).unwrap();
            let found = read_all(reader.trusting());
            let reason = "1×2: the record is longer than 1000 bytes".to_owned();
            assert_eq!((found.events.len(), found.rejects), (others, vec![reason]), "{text:.99}");
        }
    }
    // The limit of a service, and more than is held of what is too long.
    for bytes in [17 << 20, 40 << 20] {
        let text = format!(r#"{{"Records":[{},{},{}]}}"#, aws(0), padded(&aws(1), bytes), aws(2));
        for content in [text.clone().into_bytes(), zstd::encode_all(text.as_bytes(), 1).unwrap()] {
            let limits = Limits::default();
            let reader = BlockReader::of_bytes("x", content.into(), None, limits).unwrap();
            let found = read_all(reader.trusting());
            let reason = "1×2: the record is longer than 16 MiB".to_owned();
            assert_eq!((found.events.len(), found.rejects), (2, vec![reason]));
        }
    }
}

#[test]
fn lines_of_a_container_log_happened_when_it_says() {
    let line = |time: &str, text: &str| {
        format!(
            "{{\"log\":{},\"stream\":\"stdout\",\"time\":\"{time}\"}}\n",
            quoted(&format!("{text}\n"))
        )
    };
    let running = format!("Running task '{TASK}'");
    let text = line("2026-05-06T07:08:09.5Z", &running) + &line("2026-05-06T07:08:10.5Z", &running);
    let mut times: Vec<_> = read(&text).events.iter().map(|(.., at)| Some(*at)).collect();
    times.sort();
    assert_eq!(times, ["2026-05-06T07:08:09.5Z", "2026-05-06T07:08:10.5Z"].map(parse_instant));
}

#[test]
fn lines_and_then_pretty_printed_records_are_all_read() {
    let mut text = lines(aws, 5);
    (5..900).for_each(|n| text.extend([pretty(&aws(n)), "\n".to_owned()]));
    text += &lines(aws, 905)[lines(aws, 900).len()..];
    let found = read(&text);
    assert_eq!((found.events.len(), found.rejects.len()), (905, 0));
    // A line that was cut off behind its first byte is one record and swallows no other.
    let torn = read(&format!("{}{{\n{}", lines(aws, 2), lines(gcp, 2)));
    assert_eq!(torn.events.len(), 4);
    assert_eq!(torn.rejects.len(), 1);
}

#[test]
fn a_long_beginning_does_not_hide_what_comes() {
    let mut console = String::new();
    for package in 0..4000 {
        writeln!(
            console,
            "Collecting package-{package} (from -r requirements.txt, line {package}) {}",
            "-".repeat(80)
        )
        .unwrap();
    }
    assert!(console.len() > 400 << 10);
    assert_eq!(read(&(console.clone() + &agent(1))).events.len(), 1);
    assert_eq!(read(&console).rejects.len(), 1);
    for bytes in [300 << 10, 3 << 20] {
        for make in [aws, okta, gcp] {
            let array =
                format!("[\n{},\n{}\n]\n", pretty(&padded(&make(1), bytes)), pretty(&make(2)));
            let found = read(&array);
            assert_eq!((found.events.len(), found.rejects), (2, vec![]), "{bytes}");
        }
    }
}

#[test]
fn records_of_another_log_are_no_chatter_of_the_parser_that_was_named() {
    let read = read_as(lines(okta, 2).as_bytes(), parsers::by_name("clearml"), true);
    assert!(read.events.is_empty());
    assert_eq!(read.rejects, ["2×1: it is of okta_system_log"]);
    let chatter = format!("{}{{\"a\":1}}\nand so on\n", lines(agent, 1));
    let read = read_as(chatter.as_bytes(), parsers::by_name("clearml"), true);
    assert_eq!((read.events.len(), read.rejects.len()), (1, 0));
}

#[test]
fn where_nothing_is_recognised_is_one_remark() {
    let sources = r#"{"took":1,"hits":{"hits":[{"_source":{"x":1}},{"_source":{"x":2}}]}}"#;
    for text in [
        sources.to_owned(),
        r#"{"Events":[{"x":1}]}"#.to_owned(),
        "\u{1e}{\"x\":1}\n".to_owned(),
        format!("{{\n\"x\": [{}]\n}}\n", "1,\n".repeat(500_000)),
    ] {
        let found = read(&text);
        assert_eq!((found.events.len(), found.rejects.len()), (0, 1));
        assert!(found.rejects[0].starts_with("0×0: no parser recognises the content"), "{found:?}");
    }
}
