//! `telltale run` with more accounts than a company has: its memory while events of accounts that it
//! has never seen arrive over HTTP, each with a key of its own, and then events of all of them again.
//!
//! `ACCOUNTS=1000000 RATE=40000 cargo run --release --bin bench-accounts`; without `RATE`, as fast as
//! they are taken.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use telltale_benches::service::{Pace, SENDERS, Service, second};
use telltale_benches::{folder, variable};

/// Events of a body.
const EVENTS: usize = 400;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

fn main() {
    let accounts = variable("ACCOUNTS", 1e6) as usize;
    let rate = variable("RATE", f64::INFINITY);
    let total = accounts + accounts / 2;
    let folder = folder();
    let table = "flush_interval = \"1s\"\nsnapshot_interval = \"5s\"";
    let service = Service::start(&folder, table, &[]);
    let (next, over, pace) = (AtomicUsize::new(0), AtomicBool::new(false), Pace::new(rate));
    let started = Instant::now();
    let peak = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0f64;
            while !over.load(Ordering::Relaxed) {
                peak = peak.max(service.resident());
                std::thread::park_timeout(LOOK);
            }
            peak
        });
        let send = || {
            let (agent, mut body) = (ureq::Agent::new_with_defaults(), String::new());
            loop {
                let first = next.fetch_add(EVENTS, Ordering::Relaxed);
                if first >= total {
                    return;
                }
                pace.wait(EVENTS);
                body.clear();
                let now = second();
                let events = first..(first + EVENTS).min(total);
                events.for_each(|event| push(&mut body, event, accounts, &now));
                service.post(&agent, body.as_bytes());
            }
        };
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(send)).collect();
        senders.into_iter().for_each(|sender| sender.join().expect("a sender ends"));
        service.settle();
        let taken = started.elapsed().as_secs_f64();
        println!("{total} events of {accounts} accounts, {:.0} a second", total as f64 / taken);
        while service.metric("telltale_lake_entry") < service.metric("telltale_journal_entry") {
            std::thread::park_timeout(LOOK);
        }
        over.store(true, Ordering::Relaxed);
        watching.join().expect("the watch ends")
    });
    println!("memory: peak {:.0} MiB, {:.0} MiB at the end", mebibytes(peak), {
        mebibytes(service.resident())
    });
    drop(service);
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// Event number `event`, a record of CloudTrail of about a kilobyte.
fn push(body: &mut String, event: usize, accounts: usize, second: &str) {
    let account = event % accounts;
    let of = account % 200;
    let _ = writeln!(
        body,
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","principalId":"AIDA{account:017}","arn":"arn:aws:iam::{of:012}:user/workload-{account}","accountId":"{of:012}","accessKeyId":"AKIA{account:016}","userName":"workload-{account}"}},"eventTime":"{second}Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","awsRegion":"eu-central-1","sourceIPAddress":"10.{}.{}.{}","userAgent":"[aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22.5 md/GOOS#linux md/GOARCH#amd64 api/s3#1.58.2]","requestParameters":{{"bucketName":"data-{of}","Host":"data-{of}.s3.eu-central-1.amazonaws.com","key":"part-{event:012}"}},"responseElements":null,"additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","bytesTransferredOut":375}},"requestID":"{event:016X}","eventID":"00000000-0000-4000-8000-{event:012x}","readOnly":true,"resources":[{{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::data-{of}/part-{event:012}"}}],"eventType":"AwsApiCall","managementEvent":false,"recipientAccountId":"{of:012}","eventCategory":"Data"}}"#,
        account >> 16 & 255,
        account >> 8 & 255,
        account & 255,
    );
}
