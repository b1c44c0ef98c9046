//! Findings reach the sinks, also those that were down or refuse some of them.

use crate::feeds::{bodies, send};
use crate::run::{Running, Site, wait_until};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// The last line of each finding in `told.ndjson`, the file of a sink.
pub fn told(site: &Site) -> BTreeMap<String, String> {
    let lines = std::fs::read_to_string(site.file("told.ndjson")).unwrap_or_default();
    let lines = lines.lines().map(|line| {
        let finding: Value = serde_json::from_str(line).expect("a line is JSON");
        (finding["finding_info"]["uid"].as_str().unwrap_or_default().to_owned(), line.to_owned())
    });
    lines.collect()
}

/// Takes alerts as Alertmanager does, unless it is told not to.
#[derive(Default)]
struct Pager {
    down: AtomicBool,
    /// What may not stand in a body.
    refuses: Mutex<Option<String>>,
    /// Ids of the findings that came.
    came: Mutex<BTreeSet<String>>,
}

impl Pager {
    /// Listens on a thread of its own; gives the address.
    fn listen(self: &Arc<Self>) -> String {
        let listener =
            std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let pager = Arc::clone(self);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
                let router = Router::new().route("/api/v2/alerts", post(take)).with_state(pager);
                axum::serve(listener, router).await.expect("it serves");
            });
        });
        format!("http://{address}")
    }

    fn came(&self) -> BTreeSet<String> {
        self.came.lock().expect("nobody panicked").clone()
    }
}

async fn take(State(pager): State<Arc<Pager>>, body: String) -> StatusCode {
    if pager.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let refuses = pager.refuses.lock().expect("nobody panicked").clone();
    if refuses.is_some_and(|text| body.contains(&text)) {
        return StatusCode::BAD_REQUEST;
    }
    let alerts: Vec<Value> = serde_json::from_str(&body).expect("alerts are JSON");
    let ids = alerts.iter().filter_map(|alert| alert["labels"]["finding_id"].as_str());
    pager.came.lock().expect("nobody panicked").extend(ids.map(str::to_owned));
    StatusCode::OK
}

fn site(pager: &Arc<Pager>) -> Site {
    let url = pager.listen();
    Site::new(&[]).configured(&format!(
        r#"
[[sink]]
kind = "alertmanager"
name = "pager"
urls = ["{url}"]
min_severity = "informational"

[[sink]]
kind = "ndjson"
path = "told.ndjson"
"#
    ))
}

fn feed(service: &Running) {
    let port = AtomicU16::new(service.port);
    bodies().iter().for_each(|(log, body)| send(&port, log, body));
}

fn known(site: &Site) -> BTreeSet<String> {
    let rows = site.query("SELECT finding_id FROM findings");
    rows.iter().filter_map(|row| Some(row["finding_id"].as_str()?.to_owned())).collect()
}

/// The service, once it has found something and told nobody.
fn found(site: &Site) -> Running {
    let service = site.start();
    feed(&service);
    wait_until("something found", || known(site).len() > 3, || site.said());
    service
}

#[test]
fn a_sink_that_was_down_hears_everything_also_after_a_kill() {
    let pager = Arc::new(Pager::default());
    pager.down.store(true, Ordering::SeqCst);
    let site = site(&pager);
    let service = found(&site);
    // The journal is dropped behind the sink that is down, which keeps what it has not delivered.
    let waits = || site.status()["sinks"][1]["waiting"].as_u64().is_some_and(|n| n > 0);
    wait_until("waiting for the sink", waits, || site.said());
    service.kill();
    assert_eq!(pager.came(), BTreeSet::new());
    pager.down.store(false, Ordering::SeqCst);
    let service = site.start();
    let known = known(&site);
    wait_until("told of every finding", || pager.came() == known, || site.said());
    service.stop();
    assert_eq!(told(&site).into_keys().collect::<BTreeSet<_>>(), known);
    for sink in site.status()["sinks"].as_array().expect("there are sinks") {
        assert_eq!(sink["waiting"], 0, "{sink}");
    }
}

#[test]
fn a_file_that_was_moved_away_is_made_anew_on_sighup() {
    let site = Site::new(&[]).configured("\n[[sink]]\nkind = \"ndjson\"\npath = \"told.ndjson\"\n");
    // Whoever looks whether it is sound may be somebody whose files the service cannot write.
    site.tell(&["check"]);
    assert!(!site.file("told.ndjson").exists());
    let service = site.start();
    std::fs::rename(site.file("told.ndjson"), site.file("told.ndjson.1")).expect("it is there");
    service.hang_up();
    let is_read = || site.said().contains("the configuration was read again");
    wait_until("read again", is_read, || site.said());
    feed(&service);
    wait_until("something found", || known(&site).len() > 3, || site.said());
    service.stop();
    assert_eq!(told(&site).into_keys().collect::<BTreeSet<_>>(), known(&site));
    let moved = std::fs::read(site.file("told.ndjson.1")).expect("it is there");
    assert_eq!(moved, b"");
}

#[test]
fn a_finding_that_is_refused_for_good_stops_no_other() {
    let pager = Arc::new(Pager::default());
    pager.down.store(true, Ordering::SeqCst);
    let site = site(&pager);
    let service = found(&site);
    service.stop();
    let mut known = known(&site);
    let refused = known.pop_first().expect("there are findings");
    *pager.refuses.lock().expect("nobody panicked") = Some(refused.clone());
    pager.down.store(false, Ordering::SeqCst);
    let service = site.start();
    wait_until("told of the others", || pager.came().is_superset(&known), || site.said());
    let refusals = || {
        let metrics = service.get("/metrics").map(|(_, text)| text).unwrap_or_default();
        let line = r#"telltale_sink_findings_total{result="refused",sink="pager"} 1"#;
        metrics.lines().any(|metric| metric == line)
    };
    wait_until("counted", refusals, || site.said());
    assert!(site.said().contains(&refused), "the log names the finding");
    assert!(!pager.came().contains(&refused));
    service.stop();
}
