//! An HTTP server of a few lines, for what a sink sends and what Alertmanager notifies.

pub mod missing;

use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a test waits for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Request {
    pub path: String,
    /// As received, one header a line.
    pub head: String,
    pub body: Value,
}

/// Answers each request with the next status that it was given, then with 200.
pub struct Server {
    address: SocketAddr,
    requests: Receiver<Request>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let answers = answers.iter().map(|(status, body)| (*status, (*body).to_owned()));
        let answers = Mutex::new(answers.collect::<VecDeque<_>>());
        let stopping = Arc::new(AtomicBool::new(false));
        let (sender, requests) = channel();
        let stop = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let answer = answers.lock().expect("only this thread locks").pop_front();
                let answer = answer.unwrap_or((200, String::new()));
                // One that breaks off is not a request.
                let _ = serve(stream, &answer, &sender);
            }
        });
        Self { address, requests, stopping, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request; panics when none comes.
    pub fn next(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).expect("a request comes in time")
    }

    /// What came and was not taken yet.
    pub fn rest(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// Requests until one fits, that one last; panics when none does in time.
    pub fn until(&self, fits: impl Fn(&Request) -> bool) -> Vec<Request> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.requests.recv_timeout(left) {
                Ok(request) => seen.push(request),
                Err(_) => panic!("{} requests came, none that fits", seen.len()),
            }
            if seen.last().is_some_and(&fits) {
                return seen;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the accept that the thread stands in.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Notes the request before it is answered, so that who has the answer finds it noted.
fn serve(
    stream: TcpStream,
    (status, answer): &(u16, String),
    requests: &Sender<Request>,
) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).ok()? > 2 {}
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let mut body = vec![0; header("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    // A test that has seen enough takes no more.
    let _ = requests.send(Request { path, head, body });
    let length = answer.len();
    let text = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"
    );
    reader.get_mut().write_all(text.as_bytes()).ok()
}
