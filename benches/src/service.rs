//! `telltale run` as a process of its own, of the same build as the benchmark.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use telltale_schema::time::format_instant;

/// Bytes of a body: what a shipper sends at once.
const BODY_BYTES: usize = 512 << 10;
/// Connections that post at the same time.
pub const SENDERS: usize = 4;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A service that runs; it is killed when this is dropped.
pub struct Service {
    child: Child,
    url: String,
}

/// The binary beside the benchmark.
pub fn binary() -> PathBuf {
    std::env::current_exe().expect("a program has a name").with_file_name("telltale")
}

/// Seconds that a process has had of a processor, and those that it waited for.
pub fn processor_time(id: u32) -> [f64; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // proc(5): the name is in brackets; of its own time and of that of its children, in user and in
    // kernel mode, come the hundredths in fields 14 to 17.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    match ticks[..] {
        [user, kernel, of_children, in_kernel] => {
            [(user + kernel) / 100.0, (of_children + in_kernel) / 100.0]
        }
        _ => [f64::NAN; 2],
    }
}

/// Lines as bodies.
pub fn loads(lines: &[u8]) -> Vec<Load> {
    let (mut loads, mut body, mut events) = (Vec::new(), Vec::new(), 0);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        body.extend_from_slice(line);
        events += 1;
        if body.len() >= BODY_BYTES {
            loads.push(Load::of(std::mem::take(&mut events), std::mem::take(&mut body)));
        }
    }
    if events > 0 {
        loads.push(Load::of(events, body));
    }
    loads
}

/// A body and where in it the ids and the times of its records lie.
pub struct Load {
    events: usize,
    body: Vec<u8>,
    ids: Vec<usize>,
    times: Vec<usize>,
}

impl Load {
    fn of(events: usize, body: Vec<u8>) -> Self {
        let all = |name: &[u8]| -> Vec<usize> {
            let at = |(at, found): (usize, &[u8])| (found == name).then_some(at + name.len());
            body.windows(name.len()).enumerate().filter_map(at).collect()
        };
        let (ids, times) = (all(b"\"eventID\":\""), all(b"\"eventTime\":\""));
        Self { events, ids, times, body }
    }

    /// Gives each record an id that none had, and the time of now.
    fn renew(&mut self, next: &AtomicU64) {
        let first = next.fetch_add(self.ids.len() as u64, Ordering::Relaxed);
        for (number, at) in (first..).zip(&self.ids) {
            // An odd factor spreads the numbers like a hash.
            let id = u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            // Senders share the cores with what is measured: 8-4-4-4-12 digits without a detour.
            let mut digits = (0..32).rev().map(|nth| HEX[(id >> (4 * nth)) as usize & 15]);
            for (place, byte) in self.body[*at..at + 36].iter_mut().enumerate() {
                if ![8, 13, 18, 23].contains(&place) {
                    *byte = digits.next().unwrap_or(b'0');
                }
            }
        }
        let now = second();
        for at in &self.times {
            self.body[*at..at + now.len()].copy_from_slice(now.as_bytes());
        }
    }
}

/// The time of now as records have it, in whole seconds: `2026-01-01T00:00:00`, without a zone.
pub fn second() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut now = format_instant(now.map_or(0, |now| now.as_micros() as i64));
    now.truncate("2026-01-01T00:00:00".len());
    now
}

/// So many events a second, of all senders together.
pub struct Pace {
    started: Instant,
    rate: f64,
    events: AtomicUsize,
}

impl Pace {
    pub fn new(rate: f64) -> Self {
        Self { started: Instant::now(), rate, events: AtomicUsize::new(0) }
    }

    /// Returns when it is time to send so many.
    pub fn wait(&self, events: usize) {
        let due = self.events.fetch_add(events, Ordering::Relaxed) as f64 / self.rate;
        loop {
            let ahead = due - self.started.elapsed().as_secs_f64();
            if ahead <= 0.0 {
                return;
            }
            std::thread::park_timeout(Duration::from_secs_f64(ahead));
        }
    }
}

/// What was sent.
#[derive(Default)]
pub struct Sent {
    pub events: AtomicUsize,
    pub refused: AtomicUsize,
    /// How many ids were given.
    ids: AtomicU64,
}

/// Posts at most `rate` events a second until `length` is over, while `watch` is called every second.
pub fn feed(
    service: &Service,
    loads: &mut [Load],
    sent: &Sent,
    rate: f64,
    length: Duration,
    mut watch: impl FnMut(Duration),
) {
    let (started, pace) = (Instant::now(), Pace::new(rate));
    let share = loads.len().div_ceil(SENDERS);
    std::thread::scope(|scope| {
        for own in loads.chunks_mut(share) {
            scope.spawn(|| {
                let agent = ureq::Agent::new_with_defaults();
                let mut turn = 0;
                while started.elapsed() < length {
                    turn = (turn + 1) % own.len();
                    let load = &mut own[turn];
                    pace.wait(load.events);
                    load.renew(&sent.ids);
                    sent.events.fetch_add(load.events, Ordering::Relaxed);
                    let refused = service.post(&agent, &load.body);
                    sent.refused.fetch_add(refused, Ordering::Relaxed);
                }
            });
        }
        while started.elapsed() < length {
            std::thread::park_timeout(Duration::from_secs(1));
            watch(started.elapsed());
        }
    });
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

    /// Bytes of memory that the process holds.
    pub fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kilobytes.unwrap_or(f64::NAN) * 1024.0
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
