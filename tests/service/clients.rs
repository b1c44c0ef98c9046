//! Programs that others wrote, as they are installed: what senders send is stored, what readers read
//! of the lake is what `telltale query` says.
//!
//! Python's packages are those of `clients/requirements.txt`. `TELLTALE_TEST_PYTHON` names an
//! interpreter that has them; without it the `python3` at hand is taken, and what it lacks is not tried.

use crate::missing::missing;
use crate::run::{Running, Site, free_port, record, wait_until};
use rdkafka::mocking::MockCluster;
use serde_json::Value;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const SENT: usize = 300;

/// An interpreter with `modules`; `None` where there is none.
fn python(modules: &[&str]) -> Option<String> {
    let asked_for = std::env::var("TELLTALE_TEST_PYTHON").ok();
    let python = asked_for.clone().unwrap_or_else(|| "python3".to_owned());
    let imports = format!("import {}", modules.join(", "));
    let tried = Command::new(&python).args(["-c", &imports]).output();
    let cause = match tried {
        Ok(Output { status, .. }) if status.success() => return Some(python),
        Ok(Output { stderr, .. }) => String::from_utf8_lossy(&stderr).into_owned(),
        Err(cause) => cause.to_string(),
    };
    assert!(asked_for.is_none(), "`{python}` lacks something of {modules:?}: {cause}");
    let cause = cause.lines().last().unwrap_or_default();
    missing(&format!("Python's {}: {cause}", modules.join(", ")));
    None
}

/// Runs a script of `clients/` to its end with `input`; gives what it prints.
fn run(
    python: &str,
    script: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
    input: &str,
) -> Vec<u8> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/service/clients");
    let mut client = Command::new(python)
        .arg(scripts.join(script))
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the interpreter starts");
    let mut stdin = client.stdin.take().expect("it is piped");
    // One that ends early says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let Output { status, stdout, stderr } = client.wait_with_output().expect("the client ends");
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{script} {arguments:?}: {said}");
    stdout
}

fn lines(numbers: Range<usize>) -> String {
    numbers.map(|number| record(number) + "\n").collect()
}

/// What was sent is there once, and nothing else came.
fn assert_stored(site: &Site, events: usize) {
    let held = site.held();
    assert_eq!(held.len(), events, "{}", site.said());
    assert!(held.values().all(|count| *count == 1));
    let status = site.status();
    assert_eq!(status["residue"], 0);
    let sources = status["sources"].as_array().expect("sources");
    let sum = |what: &str| sources.iter().filter_map(|source| source[what].as_u64()).sum::<u64>();
    assert_eq!((sum("received"), sum("duplicate"), sum("dead_letter")), (events as u64, 0, 0));
}

#[test]
fn the_opentelemetry_sdk_sends_over_grpc_and_over_http() {
    let exporters = [
        "opentelemetry.sdk",
        "opentelemetry.exporter.otlp.proto.grpc",
        "opentelemetry.exporter.otlp.proto.http",
    ];
    let Some(python) = python(&exporters) else { return };
    let grpc = format!("127.0.0.1:{}", free_port());
    let site = Site::new(&["--otlp-grpc", &grpc]);
    let service = site.start();
    let http = format!("http://127.0.0.1:{}/v1/logs", service.port);
    let mut sent = 0;
    for (protocol, endpoint) in [("grpc", format!("http://{grpc}")), ("http", http)] {
        let compressed = [("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
        for variables in [&[][..], &compressed] {
            let input = lines(sent..sent + SENT);
            run(&python, "otel.py", &[protocol, &endpoint], variables, &input);
            sent += SENT;
            assert_eq!(service.stored(), sent, "{protocol}, {variables:?}: {}", site.said());
        }
    }
    service.stop();
    assert_stored(&site, sent);
}

#[test]
fn splunk_handler_posts_to_the_http_event_collector() {
    let Some(python) = python(&["splunk_handler"]) else { return };
    let site = Site::new(&[]);
    let service = site.start();
    run(&python, "splunk.py", &[&service.port.to_string()], &[], &lines(0..SENT));
    service.stop();
    assert_stored(&site, SENT);
    let sources = site.status()["sources"].clone();
    assert_eq!(sources[0]["partition"], "splunk_hec");
}

/// An rsyslog that reads a file from its beginning and is ended with the test.
struct Rsyslog {
    process: Child,
    _folder: tempfile::TempDir,
}

impl Rsyslog {
    /// `None` where rsyslog or the `module` is not installed.
    fn start(module: &str, action: &str) -> Option<Self> {
        let program = ["/usr/sbin/rsyslogd", "/usr/bin/rsyslogd"].map(PathBuf::from);
        let Some(program) = program.into_iter().find(|program| program.exists()) else {
            missing("rsyslog");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = |name: &str| folder.path().join(name);
        std::fs::write(place("audit.jsonl"), lines(0..SENT)).expect("it is written");
        let config = format!(
            r#"
global(workDirectory="{work}")
module(load="imfile")
module(load="{module}")
template(name="record" type="string" string="%msg%")
input(type="imfile" file="{work}/audit.jsonl" tag="audit" ruleset="telltale")
ruleset(name="telltale") {{
  action(type="{module}" template="record" action.resumeRetryCount="-1" action.resumeInterval="1" {action})
}}
"#,
            work = folder.path().display()
        );
        std::fs::write(place("rsyslog.conf"), config).expect("it is written");
        let rsyslog = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.args(arguments).arg("-f").arg(place("rsyslog.conf"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let checked = rsyslog(&["-N1"]).stderr(Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&checked.stderr);
        if said.contains("could not load module") {
            missing(&format!("rsyslog's module `{module}`"));
            return None;
        }
        assert!(checked.status.success(), "{said}");
        let pid = place("pid").display().to_string();
        let process = rsyslog(&["-n", "-i", &pid]).spawn().expect("it starts");
        Some(Self { process, _folder: folder })
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_for(service: &Running, site: &Site, events: usize) {
    wait_until("everything there", || service.stored() >= events, || site.said());
}

#[test]
fn rsyslog_sends_bulk_requests() {
    let site = Site::new(&[]);
    let service = site.start();
    let action = format!(
        r#"server="127.0.0.1" serverport="{}" searchIndex="audit" searchType="" bulkmode="on""#,
        service.port
    );
    let Some(rsyslog) = Rsyslog::start("omelasticsearch", &action) else { return };
    wait_for(&service, &site, SENT);
    drop(rsyslog);
    service.stop();
    assert_stored(&site, SENT);
    assert_eq!(site.status()["sources"][0]["partition"], "elastic_bulk");
}

#[test]
fn rsyslog_writes_to_kafka() {
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    cluster.create_topic("audit", 2, 1).expect("a topic is made");
    let brokers = cluster.bootstrap_servers();
    let site = Site::new(&["--kafka", &brokers, "--topic", "audit"]);
    let service = site.start();
    let action = format!(r#"broker=["{}"] topic="audit""#, brokers.replace(',', "\",\""));
    let Some(rsyslog) = Rsyslog::start("omkafka", &action) else { return };
    wait_for(&service, &site, SENT);
    drop(rsyslog);
    service.stop();
    assert_stored(&site, SENT);
}

/// Waits until everything that was posted is in the lake.
fn wait_for_flush(service: &Running, site: &Site) {
    let is_flushed = || {
        let last = service.metric("telltale_journal_entry", "");
        last > 0.0 && service.metric("telltale_lake_entry", "") == last
    };
    wait_until("flushed", is_flushed, || site.said());
}

#[test]
fn duckdb_and_deltalake_read_the_lake_as_query_does() {
    let Some(python) = python(&["duckdb", "deltalake"]) else { return };
    let site = Site::with("[service]\nflush_interval = \"300ms\"\n", &[]);
    let service = site.start();
    // Several files, and events that come twice.
    for numbers in [0..100, 50..200, 200..SENT] {
        let body = lines(numbers);
        let answer = service.post("/v1/logs/aws_cloudtrail", body.as_bytes(), &[]);
        assert_eq!(answer.expect("the service answers").0, 200);
        wait_for_flush(&service, &site);
    }
    let table = site.data().join("lake/events").display().to_string();
    let printed = run(&python, "lake.py", &[&table], &[], "");
    let read: Value = serde_json::from_slice(&printed).expect("it prints JSON");
    let columns = ["event_id", "log", "principal_id", "operation"];
    let rows = site.query(&format!("SELECT {} FROM events ORDER BY event_id", columns.join(", ")));
    let rows: Vec<Value> =
        rows.iter().map(|row| columns.map(|column| row[column].clone()).to_vec().into()).collect();
    assert_eq!(rows.len(), SENT);
    assert_eq!(read["deltalake"], Value::from(rows.clone()));
    assert_eq!(read["duckdb"], Value::from(rows));
    service.stop();
}
