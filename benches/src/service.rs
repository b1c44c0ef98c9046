//! `telltale run` as a process of its own, of the same build as the benchmark.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Bytes of a body: what a shipper sends at once.
const BODY_BYTES: usize = 512 << 10;
/// Connections that post at the same time.
pub const SENDERS: usize = 4;

/// A service that runs; it is killed when this is dropped.
pub struct Service {
    child: Child,
    url: String,
}

/// The binary beside the benchmark.
pub fn binary() -> PathBuf {
    std::env::current_exe().expect("a program has a name").with_file_name("telltale")
}

/// Lines as bodies, each with the number of its events.
pub fn bodies(lines: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let (mut bodies, mut body, mut events) = (Vec::new(), Vec::new(), 0);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        body.extend_from_slice(line);
        events += 1;
        if body.len() >= BODY_BYTES {
            bodies.push((std::mem::take(&mut events), std::mem::take(&mut body)));
        }
    }
    bodies.push((events, body));
    bodies.retain(|(events, _)| *events > 0);
    bodies
}

impl Service {
    /// Starts it on `folder`, with `service` as its table of that name, and returns when it is ready.
    pub fn start(folder: &Path, service: &str, more: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        drop(listener);
        let config = folder.join("telltale.toml");
        std::fs::write(&config, format!("[service]\n{service}\n")).expect("there is room");
        let child = Command::new(binary())
            .args(["run", "--http", &address.to_string(), "--data"])
            .arg(folder.join("data"))
            .arg("--config")
            .arg(&config)
            .args(more)
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let service = Self { child, url: format!("http://{address}") };
        while service.get("/readyz").is_none() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        service
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Posts records of CloudTrail until they are taken; how often they were refused.
    pub fn post(&self, agent: &ureq::Agent, body: &[u8]) -> usize {
        let url = format!("{}/v1/logs/aws_cloudtrail", self.url);
        let mut refused = 0;
        while agent.post(&url).send(body).is_err() {
            refused += 1;
            std::thread::park_timeout(Duration::from_millis(50));
        }
        refused
    }

    pub fn get(&self, path: &str) -> Option<String> {
        ureq::get(format!("{}{path}", self.url)).call().ok()?.body_mut().read_to_string().ok()
    }

    /// The value of a metric without labels; zero where there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    /// Returns when detectors have seen everything that came.
    pub fn settle(&self) {
        while self.metric("telltale_records_in_flight") > 0.0
            || self.metric("telltale_detected_entry") + 2.0 < self.metric("telltale_journal_entry")
        {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Ends it as an operator does.
    pub fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "the process is ours");
        self.child.wait().expect("the process is ours")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
