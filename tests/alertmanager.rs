//! The `alertmanager` sink against a server that notes what it gets, and against the real
//! Alertmanager where it is installed (`apt-get install prometheus-alertmanager`).

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::missing::missing;
use support::{PATIENCE, Request, Server};
use telltale::sinks::alertmanager::{Alertmanager, Settings};
use telltale::sinks::{self, Sink, SinkError};
use telltale_schema::time::{DAY, parse_instant};
use telltale_schema::{Dimension, EventId, Finding, PrincipalKind, Severity};

/// A finding of three days in January 2026, which is the past whenever this runs.
fn finding(id: &str, principal: &str, severity: Severity) -> Finding {
    let raised_at = parse_instant("2026-01-05T10:00:00Z").expect("the instant is RFC 3339");
    Finding {
        id: id.into(),
        detector: "leaked_credential".into(),
        severity,
        title: format!("Key of {principal} used from an unknown network"),
        sentence: format!("A key of {principal} was used from 203.0.113.9."),
        next_steps: vec!["Deactivate the key.".into()],
        log: "aws_cloudtrail".into(),
        tenant: Some("123456789012".into()),
        principal_id: principal.into(),
        principal_kind: PrincipalKind::ServiceAccount,
        credential_id: Some("AKIAEXAMPLEEXAMPLE00".into()),
        child_credential_ids: Vec::new(),
        target_ids: Vec::new(),
        source_ips: vec!["203.0.113.9".into()],
        operations: vec!["GetCallerIdentity".into()],
        raised_at,
        first_seen: raised_at,
        last_seen: raised_at + 2 * DAY,
        dimensions: vec![Dimension {
            name: "network".into(),
            observed: "203.0.113.9".into(),
            usual: "198.51.100.0/24".into(),
            probability: Some(0.00012),
        }],
        event_ids: vec![EventId([0x11; 16])],
        event_count: 3,
        attack: Finding::ids(&["T1078.004"]),
        owasp_nhi: Finding::ids(&["NHI2:2025"]),
    }
}

fn sink(url: &str) -> Alertmanager {
    sink_with(Settings { urls: vec![url.into()], ..Settings::default() })
}

fn sink_with(settings: Settings) -> Alertmanager {
    Alertmanager::new(settings).expect("the settings are right")
}

fn micros(alert: &Value, field: &str) -> i64 {
    let text = alert[field].as_str().unwrap_or_default();
    parse_instant(text).unwrap_or_else(|| panic!("`{field}` of {alert} is an instant"))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_micros()).expect("the clock is before 292277")
}

/// The message and its causes, as they are printed.
fn chain(error: &SinkError) -> String {
    let causes =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn alert_says_what_the_finding_says() {
    let server = Server::start(&[]);
    let settings = Settings {
        urls: vec![server.url() + "/prefix/"],
        runbooks_url: Some("https://wiki.example.com/telltale/".into()),
        ..Settings::default()
    };
    let before = now();
    let finding = finding("f1", "ci-deploy", Severity::High);
    sink_with(settings).deliver(&[finding]).expect("the server takes it");

    let Request { path, head, body } = server.next();
    assert_eq!(path, "/prefix/api/v2/alerts");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    let alert = &body[0];
    assert_eq!(
        alert["labels"],
        serde_json::json!({
            "alertname": "leaked_credential",
            "severity": "high",
            "page": "true",
            "principal": "ci-deploy",
            "tenant": "123456789012",
            "log": "aws_cloudtrail",
            "finding_id": "f1",
        })
    );
    let annotations = &alert["annotations"];
    assert_eq!(annotations["summary"], "Key of ci-deploy used from an unknown network");
    assert_eq!(annotations["description"], "A key of ci-deploy was used from 203.0.113.9.");
    assert_eq!(annotations["next_steps"], "1. Deactivate the key.");
    assert_eq!(
        annotations["evidence"],
        "network: 203.0.113.9; usual 198.51.100.0/24; probability 1.2e-4"
    );
    assert_eq!(annotations["event_ids"], "11111111111111111111111111111111");
    assert_eq!(
        annotations["runbook_url"],
        "https://wiki.example.com/telltale/dashboards/runbooks/leaked_credential.md"
    );
    assert_eq!(annotations.get("targets"), None);
    // An event of the past starts when it is delivered, and fires for fifteen minutes.
    assert_eq!(annotations["raised_at"], "2026-01-05T10:00:00.000000Z");
    assert!(micros(alert, "startsAt") >= before);
    assert_eq!(micros(alert, "endsAt") - micros(alert, "startsAt"), 15 * 60 * 1_000_000);
}

#[test]
fn alert_of_a_recent_event_starts_with_it() {
    let server = Server::start(&[]);
    let raised_at = now() - 60 * 1_000_000;
    let recent = Finding { raised_at, ..finding("f1", "ci-deploy", Severity::High) };
    sink(&server.url()).deliver(&[recent]).expect("the server takes it");
    assert_eq!(micros(&server.next().body[0], "startsAt"), raised_at);
}

#[test]
fn long_text_is_cut_between_characters() {
    let server = Server::start(&[]);
    let long = Finding { sentence: "é".repeat(5_000), ..finding("f1", "a", Severity::High) };
    sink(&server.url()).deliver(&[long]).expect("the server takes it");
    let body = server.next().body;
    let text = body[0]["annotations"]["description"].as_str().unwrap_or_default();
    assert!(text.len() <= 2_048 && text.ends_with("é…"), "{} bytes", text.len());
}

#[test]
fn quiet_findings_are_not_sent_and_of_two_the_later_counts() {
    let server = Server::start(&[]);
    let mut sink = sink(&server.url());
    sink.deliver(&[finding("f0", "a", Severity::Informational)]).expect("there is nothing to do");
    let twice = [finding("f1", "a", Severity::Low), finding("f1", "a", Severity::Critical)];
    sink.deliver(&twice).expect("the server takes it");
    let requests = server.rest();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body.as_array().map(Vec::len), Some(1));
    assert_eq!(requests[0].body[0]["labels"]["severity"], "critical");
    assert_eq!(sink.held(), 1);
}

#[test]
fn finding_that_grew_more_severe_ends_its_earlier_alert() {
    let server = Server::start(&[]);
    let mut sink = sink(&server.url());
    for severity in [Severity::Medium, Severity::High] {
        sink.deliver(&[finding("f1", "a", severity)]).expect("the server takes it");
    }
    server.next();
    let body = server.next().body;
    assert_eq!(body[0]["labels"]["severity"], "medium");
    assert!(micros(&body[0], "endsAt") <= now());
    assert_eq!(body[1]["labels"]["severity"], "high");
    assert!(micros(&body[1], "endsAt") > now());
    assert_eq!(sink.held(), 1);
}

#[test]
fn held_alert_is_sent_again_each_minute_until_it_ends() {
    let server = Server::start(&[]);
    let mut sink = sink(&server.url());
    sink.deliver(&[finding("f1", "a", Severity::High)]).expect("the server takes it");
    let first = server.next().body;
    let start = SystemTime::now();
    for (secs, sent) in [(0, true), (30, false), (59, false), (61, true), (899, true)] {
        sink.tick(start + Duration::from_secs(secs)).expect("the server takes it");
        let requests = server.rest();
        assert_eq!(!requests.is_empty(), sent, "after {secs} s");
        assert!(requests.iter().all(|request| request.body == first), "after {secs} s");
    }
    sink.tick(start + Duration::from_secs(901)).expect("there is nothing to do");
    assert!(server.rest().is_empty());
    assert_eq!(sink.held(), 0);
}

#[test]
fn above_the_bound_the_oldest_is_left_to_itself() {
    let server = Server::start(&[]);
    let settings = Settings { urls: vec![server.url()], max_held: 2, ..Settings::default() };
    let mut sink = sink_with(settings);
    let findings = ["f1", "f2", "f3"].map(|id| finding(id, "a", Severity::High));
    sink.deliver(&findings).expect("the server takes it");
    assert_eq!(server.next().body.as_array().map(Vec::len), Some(3));
    assert_eq!((sink.held(), sink.evicted_total()), (2, 1));
    sink.tick(SystemTime::now()).expect("the server takes it");
    let again = server.next().body;
    let ids: Vec<_> = again.as_array().into_iter().flatten().collect();
    let ids: Vec<_> = ids.iter().map(|alert| alert["labels"]["finding_id"].clone()).collect();
    assert_eq!(ids, ["f2", "f3"]);
}

#[test]
fn fault_that_passes_is_tried_again() {
    let server = Server::start(&[(503, "starting"), (500, "")]);
    let mut sink = sink(&server.url());
    sink.deliver(&[finding("f1", "a", Severity::High)]).expect("the third attempt is taken");
    assert_eq!(server.rest().len(), 3);
}

#[test]
fn attempts_are_bounded_and_nothing_is_held_that_did_not_arrive() {
    let server = Server::start(&[(503, "full"); 10]);
    let mut sink = sink(&server.url());
    let error = sink.deliver(&[finding("f1", "a", Severity::High)]).expect_err("it is full");
    assert_eq!(
        chain(&error),
        format!(
            "sink `alertmanager` was refused by {}/api/v2/alerts with status 503: full",
            server.url()
        )
    );
    assert_eq!(server.rest().len(), 3);
    assert_eq!(sink.held(), 0);
}

#[test]
fn refusal_is_not_tried_again_and_quotes_the_answer_without_the_secret() {
    let server = Server::start(&[(400, "bad label for Bearer hunter2\n")]);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "hunter2\n").expect("a file can be written");
    let settings = Settings {
        urls: vec![server.url()],
        bearer_token_file: Some(token_file),
        ..Settings::default()
    };
    let mut sink = sink_with(settings);
    let error = sink.deliver(&[finding("f1", "a", Severity::High)]).expect_err("it is refused");
    assert!(chain(&error).ends_with("status 400: bad label for Bearer [redacted]"), "{error}");
    let requests = server.rest();
    assert_eq!(requests.len(), 1);
    let head = requests[0].head.to_ascii_lowercase();
    assert!(head.contains("authorization: bearer hunter2"), "{head}");
}

#[test]
fn user_of_the_url_is_sent_and_not_shown() {
    let server = Server::start(&[(403, "")]);
    let mut sink = sink(&server.url().replace("http://", "http://me:hunter2@"));
    let error = sink.deliver(&[finding("f1", "a", Severity::High)]).expect_err("it is refused");
    assert!(!chain(&error).contains("hunter2"), "{error}");
    // base64 of `me:hunter2`
    let head = server.next().head;
    assert!(head.contains("Basic bWU6aHVudGVyMg=="), "{head}");
}

/// An address that nobody listens at.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}

#[test]
fn nobody_there_is_an_error_that_names_the_place() {
    let address = nobody();
    let mut sink = sink(&format!("http://me:hunter2@{address}"));
    let error = sink.deliver(&[finding("f1", "a", Severity::High)]).expect_err("nobody is there");
    let start =
        format!("sink `alertmanager` could not reach http://{address}/api/v2/alerts, attempts 3: ");
    assert!(chain(&error).starts_with(&start), "{}", chain(&error));
    assert!(!chain(&error).contains("hunter2"));
}

#[test]
fn every_member_gets_the_alert_and_one_is_enough() {
    let (up, down) = (Server::start(&[]), Server::start(&[(503, ""); 3]));
    let settings = Settings { urls: vec![down.url(), up.url()], ..Settings::default() };
    let mut sink = sink_with(settings);
    sink.deliver(&[finding("f1", "a", Severity::High)]).expect("one member takes it");
    assert_eq!((up.rest().len(), down.rest().len()), (1, 1));
    // The member that missed it gets it with the tick, which says what is wrong.
    assert!(sink.tick(SystemTime::now()).is_err());
    assert_eq!((up.rest().len(), down.rest().len()), (1, 1));
}

#[test]
fn refused_for_good_is_what_every_member_that_answers_refuses() {
    let (refuses, full) = ((400, "bad label"), (503, "full"));
    for (answers, is_for_good) in [
        ([refuses, refuses], true),
        ([full, refuses], false),
        ([refuses, full], false),
        ([full, full], false),
    ] {
        let members = answers.map(|answer| Server::start(&[answer; 3]));
        let urls = members.iter().map(Server::url).collect();
        let mut sink = sink_with(Settings { urls, ..Settings::default() });
        let error = sink.deliver(&[finding("f1", "a", Severity::High)]).expect_err("none takes it");
        assert_eq!(error.is_for_good(), is_for_good, "{answers:?}: {error}");
    }
    // A member that is away says nothing of the finding.
    let member = Server::start(&[refuses; 3]);
    let urls = vec![member.url(), format!("http://{}", nobody())];
    let mut sink = sink_with(Settings { urls, ..Settings::default() });
    let error = sink.deliver(&[finding("f1", "a", Severity::High)]).expect_err("none takes it");
    assert!(error.is_for_good(), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for (settings, expected) in [
        ("", "`urls` is empty"),
        ("urls = 'http://u:p@a'", ": `urls` is no list of texts, such as"),
        ("urls = ['am:9093']", "`urls[0]` is no URL of an HTTP server"),
        ("urls = ['http://a', 'ftp://b']", "`urls[1]` is no URL of an HTTP server"),
        ("urls = ['http://a']\nhold = '5s'", "`hold` is below one minute"),
        ("urls = ['http://a']\nholt = '5m'", "unknown field `holt`"),
        ("urls = ['http://u:p@a']\nbearer_token_file = '/t'", "has a user beside"),
        (
            "urls = ['http://a']\nbearer_token_file = '/nowhere'",
            "`bearer_token_file` /nowhere cannot be read",
        ),
        ("urls = ['http://a']\nca_file = '/nowhere.pem'", "`ca_file` /nowhere.pem"),
    ] {
        let table = settings.parse().expect("the case is TOML");
        let message = sinks::build("alertmanager", table).err().map(|error| error.to_string());
        let message = message.unwrap_or_else(|| panic!("{settings} was accepted"));
        assert!(message.starts_with("settings of sink `alertmanager`: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let table = "urls = ['http://a']\nhold = '1h'\nmin_severity = 'high'".parse();
    assert!(sinks::build("alertmanager", table.expect("the case is TOML")).is_ok());
}

/// Groups by principal, waits a second, and would repeat itself only after an hour.
#[test]
fn alertmanager_notifies_each_principal_once() {
    let receiver = Server::start(&[]);
    let Some(server) = RealAlertmanager::start(&receiver.url()) else { return };
    let mut sink = sink(&server.url);
    let findings = [
        finding("f1", "ci-deploy", Severity::High),
        finding("f2", "ci-deploy", Severity::Critical),
        finding("f3", "backup", Severity::Medium),
    ];
    sink.deliver(&findings).expect("Alertmanager takes it");

    let (mut ci_deploy, mut backup) = (None, None);
    while ci_deploy.is_none() || backup.is_none() {
        let notification = receiver.next().body;
        let slot = match notification["groupLabels"]["principal"].as_str() {
            Some("ci-deploy") => &mut ci_deploy,
            Some("backup") => &mut backup,
            other => panic!("nobody raised anything about {other:?}"),
        };
        assert_eq!(slot.replace(notification), None, "a principal was notified twice");
    }
    let ci_deploy = ci_deploy.unwrap_or_default();
    assert_eq!(ci_deploy["status"], "firing");
    assert_eq!(ids(&ci_deploy), ["f1", "f2"]);
    assert_eq!(ci_deploy["commonLabels"]["alertname"], "leaked_credential");
    assert_eq!(ids(&backup.unwrap_or_default()), ["f3"]);

    // The same again, from a sink that remembers and from one that was started anew. Two more
    // principals, one after the other, tell that more than a `group_interval` has passed.
    sink.deliver(&findings).expect("Alertmanager takes it");
    sink.tick(SystemTime::now()).expect("Alertmanager takes it");
    self::sink(&server.url).deliver(&findings).expect("Alertmanager takes it");
    for marker in ["first-marker", "second-marker"] {
        sink.deliver(&[finding(marker, marker, Severity::High)]).expect("Alertmanager takes it");
        let about = |request: &Request| request.body["groupLabels"]["principal"].clone();
        let seen = receiver.until(|request| about(request) == marker);
        assert_eq!(seen.iter().map(about).collect::<Vec<_>>(), [marker]);
    }
}

fn ids(notification: &Value) -> Vec<String> {
    let alerts = notification["alerts"].as_array().into_iter().flatten();
    let id = |alert: &Value| alert["labels"]["finding_id"].as_str().unwrap_or_default().to_owned();
    let mut ids: Vec<String> = alerts.map(id).collect();
    ids.sort();
    ids
}

/// The real one, on a free port, with its data in a folder that goes with it.
struct RealAlertmanager {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl RealAlertmanager {
    /// `None` where it is not installed.
    fn start(receiver: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let config = format!(
            "route:\n  receiver: hook\n  group_by: [principal]\n  group_wait: 1s\n  \
             group_interval: 1s\n  repeat_interval: 1h\n\
             receivers:\n  - name: hook\n    webhook_configs:\n      - url: {receiver}\n"
        );
        let config_file = folder.path().join("alertmanager.yml");
        std::fs::write(&config_file, config).expect("a file can be written");
        let spawned = ["prometheus-alertmanager", "alertmanager"].iter().find_map(|binary| {
            Command::new(binary)
                .arg(format!("--config.file={}", config_file.display()))
                .arg(format!("--storage.path={}", folder.path().display()))
                .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .ok()
        });
        let Some(mut process) = spawned else {
            missing("Alertmanager");
            return None;
        };
        let log = BufReader::new(process.stderr.take().expect("its log is piped"));
        let mut server = Self { process, url: String::new(), _folder: folder };
        // It says the port that it was given; what it says later is read so that it never waits.
        let (sender, address) = channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let address = line.contains("Listening on").then(|| line.split_once("address="));
                if let Some((_, address)) = address.flatten() {
                    let _ = sender.send(address.trim().to_owned());
                }
            }
        });
        let address = address.recv_timeout(PATIENCE).expect("Alertmanager listens in time");
        server.url = format!("http://{address}");
        Some(server)
    }
}

impl Drop for RealAlertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
