//! Spans of the service, as a collector gets them.

use crate::run::{Site, free_port, record, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Reads one request and says yes to it.
fn answer(stream: TcpStream) -> (String, ExportTraceServiceRequest) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).expect("a request line");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        match line.trim_end().to_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().expect("a length"),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let said = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.get_mut().write_all(said).expect("it is told");
    (first, ExportTraceServiceRequest::decode(&body[..]).expect("it is a request of OTLP"))
}

#[test]
fn a_collector_gets_a_span_for_each_batch() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (told, heard) = channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let _ = told.send(answer(stream));
        }
    });
    let site = Site::new(&[]).configured(&format!("[telemetry]\notlp = \"http://{address}\"\n"));
    let service = site.start();
    let body = format!("{}\n{}\n", record(1), record(2));
    let answer = service.post("/v1/logs/aws_cloudtrail", body.as_bytes(), &[]);
    assert_eq!(answer.expect("the service answers").0, 200);
    let (line, request) = heard.recv_timeout(Duration::from_secs(60)).expect("spans come");
    assert!(line.starts_with("POST /v1/traces "), "{line}");
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
    assert!(span.start_time_unix_nano < span.end_time_unix_nano);
    let said: BTreeMap<_, _> = span
        .attributes
        .iter()
        .map(|own| (own.key.as_str(), format!("{:?}", own.value.as_ref().expect("a value"))))
        .collect();
    assert!(said["telltale.parser"].contains("aws_cloudtrail"), "{said:?}");
    assert!(said["telltale.rows"].contains("IntValue(2)"), "{said:?}");
    service.stop();
}

#[test]
fn a_dead_collector_holds_nothing_up_and_drops_are_counted() {
    let dead = free_port();
    let site =
        Site::new(&[]).configured(&format!("[telemetry]\notlp = \"http://127.0.0.1:{dead}\"\n"));
    let service = site.start();
    for number in 0..20 {
        let answer = service.post("/v1/logs/aws_cloudtrail", record(number).as_bytes(), &[]);
        assert_eq!(answer.expect("the service answers").0, 200);
    }
    let all_dropped = || service.metric("telltale_spans_total", "dropped") == 20.0;
    wait_until("dropped", all_dropped, || site.said());
    service.stop();
    assert_eq!(site.held().len(), 20);
}
