//! The dashboard and the rules in a real Prometheus that reads the running service
//! (`apt-get install prometheus`).

use crate::feeds::bodies_of;
use crate::missing::missing;
use crate::run::{Running, Site, free_port, get, record, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use telltale_schema::time::format_instant;

/// A real one, on a free port, with its data in a folder that goes with it.
struct Prometheus {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// `None` where it is not installed.
    fn start(service: &Running) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = serde_json::json!({
            "global": { "scrape_interval": "200ms", "evaluation_interval": "200ms" },
            "rule_files": [dashboards().join("prometheus/telltale.rules.yml")],
            "scrape_configs": [{
                "job_name": "telltale",
                "static_configs": [{ "targets": [format!("127.0.0.1:{}", service.port)] }],
            }],
        });
        let config_file = folder.path().join("prometheus.yml");
        std::fs::write(&config_file, config.to_string()).expect("it is written");
        let log = std::fs::File::create(folder.path().join("log")).expect("it can be made");
        let port = free_port();
        let spawned = Command::new("prometheus")
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let Ok(process) = spawned else {
            missing("Prometheus");
            return None;
        };
        let prometheus = Self { process, port, folder };
        let is_ready = || get(port, "/-/ready", &[]).is_some_and(|(status, _)| status == 200);
        wait_until("ready", is_ready, || prometheus.said());
        Some(prometheus)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What its API answers; panics where that is an error.
    fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let (status, body) = get(self.port, path, parameters).expect("Prometheus answers");
        let answer: Value = serde_json::from_str(&body).expect("it answers in JSON");
        assert!(status == 200 && answer["status"] == "success", "{parameters:?}: {body}");
        answer["data"].clone()
    }

    /// The values of an expression now, one for each series.
    fn values(&self, expression: &str) -> Vec<f64> {
        let data = self.ask("/api/v1/query", &[("query", expression)]);
        let series = data["result"].as_array().expect("a vector");
        let value = |series: &Value| series["value"][1].as_str()?.parse().ok();
        series.iter().map(|own| value(own).expect("a value")).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// Every expression of a dashboard, by the title of its panel.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().expect("a panel has a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("a target has an expression");
            // What Grafana puts in.
            let expression =
                expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
            assert!(!expression.contains('$'), "{title}: {expression}");
            (title.clone(), expression)
        })
    };
    panels.iter().flat_map(of_panel).collect()
}

/// The service's own metrics that a text names.
fn metrics_of(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("telltale_") && !word.ends_with("_pipeline")).collect()
}

#[test]
fn dashboard_and_rules_hold_in_prometheus() {
    let site = Site::new(&[]).configured(
        "sli_interval = \"200ms\"\n[[sink]]\nkind = \"ndjson\"\npath = \"told.ndjson\"\n",
    );
    let service = site.start();
    let Some(prometheus) = Prometheus::start(&service) else { return };
    // New events, repeats, no events, and something to find.
    let mut bodies = bodies_of(4, 12);
    bodies.push(bodies[0].clone());
    bodies.push(("aws_cloudtrail", format!("{}\nno event\n", record(1)).into_bytes()));
    // What happens now is what service levels are about.
    bodies.push(("aws_cloudtrail", attempts(3, 1)));
    let mut received = 0;
    for (log, body) in &bodies {
        let answer = service.post(&format!("/v1/logs/{log}"), body, &[]);
        let (status, body) = answer.expect("the service answers");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("it answers in JSON");
        received += answer["received"].as_u64().expect("a count");
    }

    // All of what happened now is in the service levels.
    let is_measured = || service.metric("telltale_sli_impersonation_attempts", "log") >= 4.0;
    wait_until("measured", is_measured, || site.said());
    // The names are those of the service, also where a missing one would only show nothing.
    let (_, exported) = service.get("/metrics").expect("the service answers");
    let exported = metrics_of(&exported);
    let dashboard = std::fs::read_to_string(dashboards().join("grafana/pipeline.json"));
    let dashboard = dashboard.expect("the dashboard is there");
    let rules = std::fs::read_to_string(dashboards().join("prometheus/telltale.rules.yml"));
    for text in [&dashboard, &rules.expect("the rules are there")] {
        for metric in metrics_of(text) {
            assert!(exported.contains(metric), "`{metric}`");
        }
    }

    let parsed: Value = serde_json::from_str(&dashboard).expect("it is JSON");
    let expressions = expressions(&parsed);
    assert!(expressions.len() > 20, "{}", expressions.len());
    for (title, expression) in &expressions {
        let shows = || !prometheus.values(expression).is_empty();
        wait_until(&format!("shown by `{title}`, {expression}"), shows, || prometheus.said());
    }

    // Every rule has been evaluated, and nothing fires.
    let rules = || {
        let groups = prometheus.ask("/api/v1/rules", &[])["groups"].clone();
        let groups = groups.as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|own| own["rules"].as_array().cloned().unwrap_or_default()).collect()
    };
    let has_run = |rules: &Vec<Value>| rules.iter().all(|rule| rule["health"] != "unknown");
    wait_until("evaluated", || has_run(&rules()), || prometheus.said());
    let rules = rules();
    assert!(rules.len() > 5, "{rules:?}");
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert!(rule["type"] == "recording" || rule["state"] != "firing", "{rule}");
    }

    // The values are those that came.
    let shown = |title: &str| {
        let mut own = expressions.iter().filter(|(own, _)| own == title);
        let (_, expression) = own.next().expect("there is such a panel");
        prometheus.values(expression)
    };
    let is_read = || {
        let sum = "sum(telltale_records_total{result=\"received\"})";
        prometheus.values(sum) == [received as f64] && shown("Detectors behind") == [0.0]
    };
    wait_until("read", is_read, || prometheus.said());
    let one_each =
        [("Services", 1.0), ("Residue", 0.0), ("In flight", 0.0), ("Alerts firing", 0.0)];
    for (title, value) in one_each {
        assert_eq!(shown(title), [value], "{title}");
    }
    assert_eq!(shown("Sign-ins and tokens that succeed"), [0.75]);
    assert_eq!(shown("Errors by code"), [0.25]);
    assert_eq!(shown("Impersonation").iter().sum::<f64>(), 4.0);
    assert!(shown("Findings since the start").iter().sum::<f64>() > 0.0);
    service.stop();
}

/// So many roles that were assumed just now, and so many that were not.
fn attempts(assumed: usize, denied: usize) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let at = format_instant(i64::try_from(now.as_micros()).expect("it is before the year 294 000"));
    let role = |number: usize| {
        let code = if number < assumed { "" } else { r#""errorCode":"AccessDenied","# };
        format!(
            r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/ci","accountId":"111122223333","accessKeyId":"AKIAEXAMPLE001","userName":"ci"}},"eventTime":"{at}","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","awsRegion":"eu-west-1","sourceIPAddress":"198.51.100.7",{code}"requestParameters":{{"roleArn":"arn:aws:iam::111122223333:role/deploy","roleSessionName":"ci"}},"eventID":"00000000-0000-4000-9000-{number:012}","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}"#
        )
    };
    let lines: Vec<String> = (0..assumed + denied).map(role).collect();
    lines.join("\n").into_bytes()
}
