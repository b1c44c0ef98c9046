//! # alertmanager
//!
//! Posts findings to Prometheus Alertmanager, `POST /api/v2/alerts`, from where they go to
//! PagerDuty, Opsgenie, chat or mail by rules that are there already.
//! <https://prometheus.io/docs/alerting/latest/alerts_api/>
//!
//! ```toml
//! [[sink]]
//! kind = "alertmanager"
//! urls = ["http://alertmanager-0:9093", "http://alertmanager-1:9093"]  # every member
//! hold = "15m"                    # how long an alert fires after its finding was delivered
//! min_severity = "low"            # informational findings stay in the report
//! runbooks_url = "https://wiki.example.com/telltale"  # before `dashboards/runbooks/….md`
//! bearer_token_file = "/run/secrets/alertmanager"     # or `http://user:password@…` in `urls`
//! ca_file = "/etc/ssl/private-ca.pem"                 # instead of the public ones
//! ```
//!
//! ## Labels, and the route that they are made for
//! `alertname` is the detector, `severity` one of `critical`, `high`, `medium`, `low`, `info`;
//! `page` is `true` for the first two. `principal`, `tenant` and `log` say who and where.
//! `finding_id` keeps two findings about one principal apart and makes a repeat the same alert.
//! Several detectors see the same theft: group by principal, so that it is one page.
//!
//! ```yaml
//! route:
//!   receiver: tickets
//!   group_by: [principal]
//!   group_wait: 30s
//!   group_interval: 5m
//!   routes:
//!     - receiver: pager
//!       matchers: [page="true"]
//! ```
//! A route below inherits `group_by`. An inhibition rule with `equal: [principal]` silences the
//! tickets of a principal that pages.
//!
//! ## How long an alert fires
//! A finding is an event and not a state, while Alertmanager ends an alert at its `endsAt` and
//! never sends one that ended before its group was next looked at. So `endsAt` is the time of
//! delivery plus `hold`, which has to be longer than `group_wait` plus `group_interval`; until
//! then the alert is posted again every minute, for an Alertmanager that was restarted forgets
//! its alerts. After that it ends, and Alertmanager says so where `send_resolved` is set.
//! `startsAt` is when the finding was raised in event time where that is less than `hold` ago,
//! else, as with findings from an archive, the time of delivery; both stand in the annotations.
//! Alertmanager waits no `group_wait` for an alert that is older than that already.
//!
//! ## Delivery
//! Every member of a cluster gets every alert, as Prometheus does it; it is delivered when one
//! took it. Three attempts, for what may pass: no connection, no answer in time, 429 and 5xx.
//! Any other status is an error that quotes the answer. A finding is refused for good (400, 413,
//! 422) when every member that answered said so; else it is offered again.
//! At most `max_held` alerts are posted again (default 10 000); above it the oldest is not, and
//! ends in its time.

use super::http::{Client, Endpoint, PostError};
use super::{ConfigError, Sink, SinkError, SinkKind, said_of};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use telltale_schema::time::format_instant;
use telltale_schema::{Finding, Micros, Severity, ocsf};

const NAME: &str = "alertmanager";
const PATH: &str = "/api/v2/alerts";

/// Attempts for each batch of alerts; the pauses between them double.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// As often as Prometheus sends a firing alert again (`--rules.alert.resend-delay`).
const RESEND_EVERY: Duration = Duration::from_secs(60);

/// Alerts in one request: about a megabyte of them at most.
const MAX_BATCH: usize = 256;

/// Bound on an annotation. Receivers cut far earlier, Slack at 3 000 characters a block.
const MAX_ANNOTATION_BYTES: usize = 2_048;

pub static KIND: SinkKind = SinkKind {
    name: NAME,
    help: "alerts to Prometheus Alertmanager, API v2, grouped by principal",
    source: include_str!("alertmanager.rs"),
    build: |settings| {
        // A password may stand in them, so what is no list is not repeated.
        if settings.get("urls").is_some_and(|urls| !is_texts(urls)) {
            return Err(fault("`urls` is no list of texts, such as [\"http://host:9093\"]".into()));
        }
        let settings: Settings = toml::Value::Table(settings)
            .try_into()
            .map_err(|cause: toml::de::Error| fault(said_of(&cause)))?;
        Ok(Box::new(Alertmanager::new(settings)?))
    },
};

/// Settings of `[[sink]] kind = "alertmanager"`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Base URL of every member of the cluster, with a prefix and `user:password@` if need be.
    pub urls: Vec<String>,
    /// How long an alert fires after delivery. Default 15 minutes, at least one.
    #[serde(with = "humantime_serde")]
    pub hold: Duration,
    /// Findings below are not sent. Default low.
    pub min_severity: Severity,
    /// What stands before the path of a runbook to make it a link.
    pub runbooks_url: Option<String>,
    /// A file with a bearer token, read for every request.
    pub bearer_token_file: Option<PathBuf>,
    /// Certificates to trust, in PEM, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Alerts that are posted again while they are held; about 4 kB each. Default 10 000.
    pub max_held: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            hold: Duration::from_secs(15 * 60),
            min_severity: Severity::Low,
            runbooks_url: None,
            bearer_token_file: None,
            ca_file: None,
            max_held: 10_000,
        }
    }
}

/// Posts findings as alerts and keeps them firing.
pub struct Alertmanager {
    settings: Settings,
    endpoints: Vec<Endpoint>,
    client: Client,
    /// In order of delivery, which is the order in which they end.
    held: VecDeque<Held>,
    sent_at: SystemTime,
    evicted_total: u64,
}

/// An alert that is posted again until it ends.
struct Held {
    finding_id: String,
    until: SystemTime,
    alert: Value,
}

impl Alertmanager {
    /// Errors: a setting that cannot work. Nothing is sent yet.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        if settings.urls.is_empty() {
            return Err(fault("`urls` is empty; expected such as [\"http://host:9093\"]".into()));
        }
        if settings.hold < RESEND_EVERY {
            return Err(fault("`hold` is below one minute, too short to be notified".into()));
        }
        let mut endpoints = Vec::new();
        for (i, url) in settings.urls.iter().enumerate() {
            let endpoint = Endpoint::new(url, PATH).map_err(|cause| {
                fault(format!("`urls[{i}]` is no URL of an HTTP server: {cause}"))
            })?;
            if endpoint.has_user() && settings.bearer_token_file.is_some() {
                let cause = format!("`urls[{i}]` has a user beside `bearer_token_file`; keep one");
                return Err(fault(cause));
            }
            endpoints.push(endpoint);
        }
        let token_file = settings.bearer_token_file.clone();
        let client = Client::new(token_file, settings.ca_file.as_deref()).map_err(fault)?;
        let (held, sent_at) = (VecDeque::new(), UNIX_EPOCH);
        Ok(Self { settings, endpoints, client, held, sent_at, evicted_total: 0 })
    }

    /// The alerts to post for these findings, and what of them to hold.
    fn alerts(&self, findings: &[Finding], now: SystemTime) -> (Vec<Value>, Vec<Held>) {
        let latest: HashMap<&str, usize> =
            findings.iter().enumerate().map(|(i, finding)| (finding.id.as_str(), i)).collect();
        let until = now + self.settings.hold;
        let (mut alerts, mut held) = (Vec::new(), Vec::new());
        for (i, finding) in findings.iter().enumerate() {
            if finding.severity < self.settings.min_severity || latest[finding.id.as_str()] != i {
                continue;
            }
            let alert = alert(finding, now, &self.settings);
            // A finding that grew more severe has other labels, and so is another alert to
            // Alertmanager: the earlier one ends.
            let earlier = self.held.iter().find(|held| held.finding_id == finding.id);
            if let Some(earlier) = earlier.filter(|held| held.alert["labels"] != alert["labels"]) {
                let mut ended = earlier.alert.clone();
                ended["endsAt"] = rfc3339(now).into();
                alerts.push(ended);
            }
            alerts.push(alert.clone());
            held.push(Held { finding_id: finding.id.clone(), until, alert });
        }
        (alerts, held)
    }

    /// Posts alerts to every member. Delivered is what at least one member took; the error is that of
    /// a member that did not, of the batch that nobody took where there is one.
    fn post(&self, alerts: &[Value], attempts: u32) -> Posted {
        let mut posted = Posted { delivered: true, error: None };
        for batch in alerts.chunks(MAX_BATCH) {
            let body = Value::from(batch).to_string();
            let (mut delivered, mut trouble) = (false, None);
            for attempt in 1..=attempts {
                let mut passing = false;
                for endpoint in &self.endpoints {
                    match self.client.post(endpoint, body.as_bytes()) {
                        Ok(()) => delivered = true,
                        Err(cause) => {
                            passing |= cause.is_passing();
                            let error = error(endpoint, attempt, cause);
                            trouble = Some(heavier(trouble, error));
                        }
                    }
                }
                if delivered || !passing || attempt == attempts {
                    break;
                }
                thread::park_timeout(FIRST_PAUSE * 2u32.saturating_pow(attempt - 1));
            }
            if !delivered {
                return Posted { delivered, error: trouble };
            }
            posted.error = posted.error.or(trouble);
        }
        posted
    }

    fn hold(&mut self, news: Vec<Held>) {
        for held in news {
            self.held.retain(|earlier| earlier.finding_id != held.finding_id);
            self.held.push_back(held);
        }
        while self.held.len() > self.settings.max_held {
            self.held.pop_front();
            self.evicted_total += 1;
        }
    }
}

/// Of two errors the one that says more of whether alerts are taken another time: first that a
/// member answered and may take them, then that it never will, then that it did not answer. Of two
/// alike the later.
fn heavier(earlier: Option<SinkError>, later: SinkError) -> SinkError {
    let weight = |error: &SinkError| match error {
        SinkError::Refused { .. } if !error.is_for_good() => 2,
        SinkError::Refused { .. } => 1,
        _ => 0,
    };
    earlier.filter(|earlier| weight(earlier) > weight(&later)).unwrap_or(later)
}

struct Posted {
    delivered: bool,
    error: Option<SinkError>,
}

impl Sink for Alertmanager {
    fn name(&self) -> &'static str {
        NAME
    }

    fn held(&self) -> usize {
        self.held.len()
    }

    /// Counts alerts above `max_held`.
    fn evicted_total(&self) -> u64 {
        self.evicted_total
    }

    fn deliver(&mut self, findings: &[Finding]) -> Result<(), SinkError> {
        let (alerts, held) = self.alerts(findings, SystemTime::now());
        let posted = self.post(&alerts, ATTEMPTS);
        match posted.error {
            Some(error) if !posted.delivered => Err(error),
            // A member that is down gets its alerts with the next tick, which also says so.
            _ => {
                self.hold(held);
                Ok(())
            }
        }
    }

    fn tick(&mut self, now: SystemTime) -> Result<(), SinkError> {
        self.held.retain(|held| held.until > now);
        let due = now.duration_since(self.sent_at).is_ok_and(|since| since >= RESEND_EVERY);
        if self.held.is_empty() || !due {
            return Ok(());
        }
        self.sent_at = now;
        let alerts: Vec<Value> = self.held.iter().map(|held| held.alert.clone()).collect();
        self.post(&alerts, 1).error.map_or(Ok(()), Err)
    }
}

/// A finding as an alert of API v2.
fn alert(finding: &Finding, now: SystemTime, settings: &Settings) -> Value {
    let raised = instant(finding.raised_at);
    let recent = now.duration_since(raised).is_ok_and(|age| age < settings.hold);
    json!({
        "labels": labels(finding),
        "annotations": annotations(finding, settings.runbooks_url.as_deref()),
        "startsAt": rfc3339(if recent { raised } else { now }),
        "endsAt": rfc3339(now + settings.hold),
    })
}

fn labels(finding: &Finding) -> Map<String, Value> {
    let severity = match finding.severity {
        Severity::Informational => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    };
    texts([
        ("alertname", finding.detector.to_string()),
        ("severity", severity.to_owned()),
        ("page", finding.severity.pages().to_string()),
        ("principal", finding.principal_id.clone()),
        ("tenant", finding.tenant.clone().unwrap_or_default()),
        ("log", finding.log.clone()),
        ("finding_id", finding.id.clone()),
    ])
}

fn annotations(finding: &Finding, runbooks_url: Option<&str>) -> Map<String, Value> {
    let runbook = ocsf::runbook(&finding.detector);
    let runbook_url = match runbooks_url {
        Some(base) => format!("{}/{runbook}", base.trim_end_matches('/')),
        None => runbook,
    };
    let evidence = finding.dimensions.iter().map(|dimension| {
        let mut line = format!("{}: {}", dimension.name, dimension.observed);
        if !dimension.usual.is_empty() {
            line += &format!("; usual {}", dimension.usual);
        }
        if let Some(probability) = dimension.probability {
            line += &format!("; probability {probability:.1e}");
        }
        line
    });
    let event_ids = finding.event_ids.iter().map(ToString::to_string);
    texts([
        ("summary", finding.title.clone()),
        ("description", finding.sentence.clone()),
        ("runbook_url", runbook_url),
        ("next_steps", ocsf::next_steps(finding)),
        ("evidence", evidence.collect::<Vec<_>>().join("\n")),
        ("raised_at", format_instant(finding.raised_at)),
        ("first_seen", format_instant(finding.first_seen)),
        ("last_seen", format_instant(finding.last_seen)),
        ("credential", finding.credential_id.clone().unwrap_or_default()),
        ("child_credentials", finding.child_credential_ids.join(" ")),
        ("targets", finding.target_ids.join(" ")),
        ("source_ips", finding.source_ips.join(" ")),
        ("operations", finding.operations.join(" ")),
        ("event_count", finding.event_count.to_string()),
        ("event_ids", event_ids.collect::<Vec<_>>().join(" ")),
        ("attack", finding.attack.join(" ")),
        ("owasp_nhi", finding.owasp_nhi.join(" ")),
    ])
}

/// The texts that say something, each cut at [`MAX_ANNOTATION_BYTES`].
fn texts<const N: usize>(entries: [(&str, String); N]) -> Map<String, Value> {
    let said = entries.into_iter().filter(|(_, text)| !text.is_empty());
    said.map(|(name, text)| (name.to_owned(), bounded(text).into())).collect()
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_ANNOTATION_BYTES {
        text.truncate(text.floor_char_boundary(MAX_ANNOTATION_BYTES - '…'.len_utf8()));
        text.push('…');
    }
    text
}

fn is_texts(urls: &toml::Value) -> bool {
    urls.as_array().is_some_and(|urls| urls.iter().all(toml::Value::is_str))
}

fn fault(cause: String) -> ConfigError {
    ConfigError::Settings { name: NAME, cause }
}

fn error(endpoint: &Endpoint, attempts: u32, cause: PostError) -> SinkError {
    let endpoint = endpoint.to_string();
    match cause {
        PostError::Status { status, body } => {
            SinkError::Refused { sink: NAME, endpoint, status, body }
        }
        cause => SinkError::Unreachable { sink: NAME, endpoint, attempts, cause: Box::new(cause) },
    }
}

fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    format_instant(Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX))
}

/// Before the epoch is the epoch: no audit log is older.
fn instant(at: Micros) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(at).unwrap_or_default())
}
