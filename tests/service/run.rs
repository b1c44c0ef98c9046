//! `telltale run` as a process of its own, and the commands that ask its data folder.

use crate::missing::missing;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_telltale");
/// How long a start, an answer or an end is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything happens every moment, so that a kill falls into any of it, and memory has room for few
/// ids. Merged files stay for as long as a query may take.
const RESTLESS: &str = r#"
[service]
flush_interval = "200ms"
snapshot_interval = "100ms"
segment_bytes = 200000
duplicate_ids = 500
maintenance_interval = "1s"
file_retention = "20s"
"#;

pub struct Running {
    child: Child,
    pub port: u16,
}

/// A data folder, and what may be done with it.
pub struct Site {
    folder: tempfile::TempDir,
    /// How its configuration begins.
    config: String,
    extra: Vec<String>,
    variables: Vec<(String, PathBuf)>,
}

impl Site {
    /// A folder whose service also gets the flags in `extra`.
    pub fn new(extra: &[&str]) -> Self {
        Self::with(RESTLESS, extra)
    }

    /// The same with a configuration of its own.
    pub fn with(config: &str, extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("telltale.toml"), config).expect("it is written");
        let config = config.to_owned();
        let extra = extra.iter().map(|flag| (*flag).to_owned()).collect();
        Self { folder, config, extra, variables: Vec::new() }
    }

    /// Sets a variable in the environment of its commands.
    pub fn variable(mut self, name: &str, path: PathBuf) -> Self {
        self.variables.push((name.to_owned(), path));
        self
    }

    /// Puts functions of `tests/service/NAME.c` in the place of those of the C library; `None` where
    /// that cannot be compiled.
    pub fn preloaded(self, name: &str) -> Option<Self> {
        let source = format!("{}/tests/service/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let library = self.file(&format!("{name}.so"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        if cfg!(target_os = "linux") && compiler.status().is_ok_and(|status| status.success()) {
            return Some(self.variable("LD_PRELOAD", library));
        }
        missing("a C compiler that makes a library for Linux");
        None
    }

    /// Adds to its configuration.
    pub fn configured(self, text: &str) -> Self {
        self.reconfigured(text);
        self
    }

    /// Has another configuration from the next start on.
    pub fn reconfigured(&self, text: &str) -> &Self {
        let text = format!("{}{text}", self.config);
        std::fs::write(self.folder.path().join("telltale.toml"), text).expect("it is written");
        self
    }

    /// A file beside the data folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the service is started.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.folder.path());
        command.envs(self.variables.iter().map(|(name, path)| (name, path)));
        command.env("TELLTALE_CONFIG", self.folder.path().join("telltale.toml"));
        command.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    /// `check` and `run` refuse its configuration, of which `settings` are the fault, with `hint`.
    /// What they say.
    pub fn assert_refused(&self, settings: &str, hint: &str) -> String {
        let both = ["check", "run"].map(|command| {
            let output = self.command(&[command]).output().expect("the binary runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{settings}: {said}");
            assert!(said.contains(hint), "{settings}: {said}");
            said.into_owned()
        });
        both.concat()
    }

    /// Starts the service and waits until it is ready.
    pub fn start(&self) -> Running {
        let port = free_port();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log());
        let child = self
            .command(&["run", "--data", &self.data().display().to_string()])
            .args(["--http", &format!("127.0.0.1:{port}")])
            .args(&self.extra)
            .stderr(log.expect("the log can be written"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut running = Running { child, port };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if running.get("/readyz").is_some_and(|(status, _)| status == 200) {
                return running;
            }
            if let Some(status) = running.child.try_wait().expect("a child can be asked") {
                panic!("run ends with {status}: {}", self.said());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("the service is never ready: {}", self.said());
    }

    /// The exit status of the service and what it said, with `input` as its only source.
    pub fn feed(&self, input: &[u8]) -> (Option<i32>, String) {
        let mut child = self
            .command(&["run", "--stdin", "--data", &self.data().display().to_string()])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut pipe = child.stdin.take().expect("it is piped");
        std::thread::scope(|scope| {
            // It may end before it has read everything.
            scope.spawn(move || std::io::Write::write_all(&mut pipe, input));
            let output = child.wait_with_output().expect("a child can be waited for");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        })
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the service has logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn query(&self, sql: &str) -> Vec<Value> {
        let data = self.data().display().to_string();
        let rows = self.json(&["query", sql, "--data", &data, "--output", "json"]);
        serde_json::from_value(rows).expect("a query gives an array")
    }

    pub fn status(&self) -> Value {
        let data = self.data().display().to_string();
        self.json(&["status", "--data", &data, "--output", "json"])
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.tell(arguments)).expect("the output is JSON")
    }

    /// What a command prints; panics unless it ends with 0.
    pub fn tell(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("the output is text")
    }

    /// Waits until so many events are stored, as the accounts say it: files of the lake may be
    /// merged under whoever reads them.
    pub fn wait_until_stored(&self, count: u64) {
        let data = self.data().display().to_string();
        let (until, mut stored) = (Instant::now() + PATIENCE, 0);
        while stored < count {
            assert!(Instant::now() < until, "{stored} of {count}: {}", self.said());
            std::thread::park_timeout(Duration::from_millis(50));
            let status = ["status", "--data", &data, "--output", "json"];
            let output = self.command(&status).output().expect("the binary runs");
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let sources = status["sources"].as_array().map_or(&[][..], Vec::as_slice);
            stored = sources.iter().filter_map(|source| source["stored"].as_u64()).sum();
        }
    }

    /// How often each event is there, by its id.
    pub fn held(&self) -> BTreeMap<String, u64> {
        let rows = self.query("SELECT event_id, count(*) AS n FROM events GROUP BY event_id");
        let pair = |row: &Value| Some((row["event_id"].to_string(), row["n"].as_u64()?));
        rows.iter().filter_map(pair).collect()
    }
}

impl Running {
    fn agent() -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        config.into()
    }

    /// Status and body; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.port, path, &[])
    }

    /// The sum of a metric's series that have `label`, as `/metrics` says.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, text) = self.get("/metrics").expect("the service answers");
        let own = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let own = own.filter(|(labels, _)| labels.contains(label));
        own.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }

    /// Events that it has stored since it started.
    pub fn stored(&self) -> usize {
        self.metric("telltale_records_total", "result=\"stored\"") as usize
    }

    /// The same for a body that is posted.
    pub fn post(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Option<(u16, String)> {
        post(self.port, path, body, headers)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGHUP: it reads its configuration again.
    pub fn hang_up(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM; panics unless it ends in order.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                assert!(status.success(), "it ends with {status}");
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

/// A service whose test failed does not stay.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits until `done`, and fails with what `said` gives where it never is.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool, said: impl Fn() -> String) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never {what}: {}", said());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Gets from whatever listens on a port.
pub fn get(port: u16, path: &str, parameters: &[(&str, &str)]) -> Option<(u16, String)> {
    let request = Running::agent().get(format!("http://127.0.0.1:{port}{path}"));
    let mut answer = request.query_pairs(parameters.iter().copied()).call().ok()?;
    Some((answer.status().as_u16(), answer.body_mut().read_to_string().ok()?))
}

/// Posts to whatever listens on a port.
pub fn post(port: u16, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Option<(u16, String)> {
    let mut request = Running::agent().post(format!("http://127.0.0.1:{port}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.send(body).ok()?;
    Some((answer.status().as_u16(), answer.body_mut().read_to_string().ok()?))
}

/// A CloudTrail record like any other.
pub fn record(number: usize) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/ci","accountId":"111122223333","accessKeyId":"AKIAEXAMPLE{:03}","userName":"ci"}},"eventTime":"2026-03-01T{:02}:{:02}:{:02}Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"eu-west-1","sourceIPAddress":"198.51.100.7","userAgent":"aws-cli/2.15","requestParameters":null,"responseElements":null,"eventID":"00000000-0000-4000-8000-{number:012}","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}"#,
        number % 7,
        number / 3600 % 24,
        number / 60 % 60,
        number % 60
    )
}
