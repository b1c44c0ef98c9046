//! What senders are answered, with nothing behind it but a list of what was handed over.

use super::*;
use axum::body::{Body, to_bytes};
use serde_json::Value;
use std::sync::Mutex;
use tonic::codegen::Service;

const RECORD: &str = r#"{"eventVersion":"1.09","eventName":"ListKeys","eventSource":"iam.amazonaws.com","awsRegion":"eu-west-1"}"#;

/// Keeps what it is handed.
#[derive(Default)]
struct Kept(Mutex<Vec<Delivery>>);

#[async_trait::async_trait]
impl Take for Kept {
    async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal> {
        if delivery.pieces.iter().any(|piece| piece.bytes.starts_with(b"cut")) {
            return Err(Refusal::Malformed("it ends too early".to_owned()));
        }
        self.0.lock().unwrap().push(delivery);
        Ok(Receipt::default())
    }

    fn position(&self, _: &str, _: &str) -> Option<u64> {
        None
    }
}

/// The paths, as senders see them.
struct Site {
    kept: Arc<Kept>,
    router: Router,
    _tokens: watch::Sender<Arc<[String]>>,
}

impl Site {
    fn new(tokens: &[&str]) -> Self {
        let tokens: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
        let (own, tokens) = watch::channel(tokens.into());
        let kept = Arc::<Kept>::default();
        let take: Arc<dyn Take> = Arc::clone(&kept) as _;
        let room = Room::of(1 << 20);
        let http = Http { take, body_bytes: 1 << 20, plain_bytes: 1 << 20, room, tokens };
        Self { kept, router: routes(http), _tokens: own }
    }

    /// Status and body of an answer; a body that is no JSON is null.
    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut router = self.router.clone();
        let response = router.call(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn status(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        self.ask(method, path, headers, body.to_owned()).await.0
    }

    /// What was handed over since this was asked last, body by body.
    fn taken(&self) -> Vec<String> {
        let deliveries = std::mem::take(&mut *self.kept.0.lock().unwrap());
        let pieces = deliveries.into_iter().flat_map(|delivery| delivery.pieces);
        pieces.map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned()).collect()
    }
}

#[tokio::test]
async fn what_sets_elasticsearch_up_is_told_that_it_is_there() {
    let site = Site::new(&[]);
    let (status, hello) = site.ask("GET", "/", &[], "").await;
    assert_eq!((status, &hello["cluster_uuid"]), (200, &"telltale".into()));
    assert_eq!(hello["version"]["minimum_wire_compatibility_version"], "7.17.0");
    assert_eq!(site.status("HEAD", "/", &[], "").await, 200);
    let (_, license) = site.ask("GET", "/_license", &[], "").await;
    assert_eq!(license["license"]["status"], "active");
    for path in [
        "/_index_template/ecs-logstash",
        "/_component_template/logs@custom",
        "/_ilm/policy/filebeat",
        "/_ingest/pipeline/filebeat-8.17.0-okta-system-pipeline",
        "/_template/logstash",
        "/_data_stream/filebeat-8.17.0",
    ] {
        for method in ["HEAD", "GET", "PUT"] {
            assert_eq!(site.status(method, path, &[], "").await, 200, "{method} {path}");
        }
    }
    assert_eq!(site.status("POST", "/nowhere", &[], "{}").await, 404);
}

#[tokio::test]
async fn documents_come_alone_or_in_bulk() {
    let site = Site::new(&[]);
    let bulk = format!("{{\"index\":{{}}}}\n{RECORD}\n{{\"delete\":{{\"_id\":\"1\"}}}}\n");
    for path in ["/_bulk", "/logs/_bulk", "/logs/_doc/_bulk"] {
        let (status, answer) = site.ask("POST", path, &[], bulk.clone()).await;
        assert_eq!((status, &answer["errors"]), (200, &false.into()), "{path}");
        assert_eq!(answer["items"][0]["index"]["status"], 201);
        assert_eq!(answer["items"][1]["delete"]["result"], "noop");
        assert_eq!(site.taken(), [format!("{RECORD}\n")]);
    }
    let (status, answer) = site.ask("POST", "/logs/_doc", &[], RECORD).await;
    assert_eq!((status, &answer["result"]), (201, &"created".into()));
    assert_eq!(site.taken(), [RECORD]);
    for path in ["/_bulk", "/logs/_doc"] {
        let (status, answer) = site.ask("POST", path, &[], "\n").await;
        assert_eq!((status, &answer["error"]["type"]), (400, &"parse_exception".into()));
    }
    assert!(site.taken().is_empty());
}

#[tokio::test]
async fn okta_is_answered_what_it_asks_with() {
    let site = Site::new(&["token"]);
    let (path, asks) = ("/v1/logs/okta_system_log", ("x-okta-verification-challenge", "abc"));
    let shown = ("authorization", "Bearer token");
    let (status, answer) = site.ask("GET", path, &[asks, shown], "").await;
    assert_eq!((status, &answer["verification"]), (200, &"abc".into()));
    assert_eq!(site.status("GET", path, &[asks], "").await, 401);
    assert_eq!(site.status("GET", path, &[shown], "").await, 405);
}

#[tokio::test]
async fn a_token_is_shown_in_any_way_that_senders_have() {
    let site = Site::new(&["token", "aWQ6b3RoZXI="]);
    let status = async |shown: &str| {
        site.status("POST", "/v1/logs/auto", &[("authorization", shown)], RECORD).await
    };
    for shown in [
        "Bearer token",
        "bearer token",
        "Splunk token",
        "ApiKey token",
        // One that looks like an id and a token.
        "ApiKey aWQ6b3RoZXI=",
        // `id:token`
        "ApiKey aWQ6dG9rZW4=",
        "Basic aWQ6dG9rZW4=",
    ] {
        assert_eq!(status(shown).await, 200, "{shown}");
    }
    // The second one has `token:id`, the third `id:other`.
    for shown in [
        "token",
        "Basic dG9rZW46aWQ=",
        "ApiKey aWQ6b3RoZXJz",
        "Basic token",
        "Basic ",
        "Digest token",
    ] {
        assert_eq!(status(shown).await, 401, "{shown}");
    }
    assert_eq!(site.status("GET", "/services/collector/health", &[], "").await, 200);
    assert_eq!(site.status("POST", "/services/collector", &[], RECORD).await, 401);
    assert_eq!(site.status("GET", "/", &[], "").await, 401);
}

#[tokio::test]
async fn the_collector_for_events_says_what_is_wrong_with_a_body_that_has_none() {
    let site = Site::new(&[]);
    let event = format!(r#"{{"event":{RECORD}}}"#);
    for path in ["/services/collector", "/services/collector/", "/services/collector/event/1.0"] {
        assert_eq!(site.status("OPTIONS", path, &[], "").await, 200);
        assert_eq!(site.status("POST", path, &[], &event).await, 200);
        assert_eq!(site.taken(), [event.as_str()]);
    }
    let code = async |path: &str, body: &str| {
        let (status, answer) = site.ask("POST", path, &[], body.to_owned()).await;
        (status, answer["code"].as_u64().unwrap())
    };
    let events = "/services/collector/event";
    for (body, expected) in [
        ("", (400, 5)),
        (" \n ", (400, 5)),
        (r#"{"event":"#, (400, 6)),
        (&event[..event.len() - 1], (400, 6)),
        (&format!("[{}", &event[..40]), (400, 6)),
    ] {
        assert_eq!(code(events, body).await, expected, "{body}");
    }
    assert_eq!(code("/services/collector/raw", "\n").await, (400, 5));
    assert_eq!(code(events, "cut").await, (400, 6));
    assert!(site.taken().is_empty());
    // One record is enough, and text is for the parsers to judge.
    let padded = format!("{}{event}", " ".repeat(100_000));
    for body in [
        &format!("{event}{{\"event\":"),
        &format!("{{\"event\":\n{event}"),
        &format!("[{event},{{"),
        &padded,
        "hello",
        "[2024-05-12 10:00:00,123] [8] [INFO] text",
    ] {
        assert_eq!(code(events, body).await, (200, 0), "{body:.80}");
        assert_eq!(site.taken().len(), 1);
    }
}

#[tokio::test]
async fn what_nobody_could_read_is_refused_and_names_of_codings_have_no_case() {
    let site = Site::new(&[]);
    let path = "/v1/logs/auto";
    for (header, status) in [
        (("content-encoding", "GZIP"), 200),
        (("content-encoding", "Zstd"), 200),
        (("content-encoding", "Identity"), 200),
        (("content-encoding", "br"), 415),
        (("content-encoding", "gzip, gzip"), 415),
        (("content-type", "application/msgpack"), 415),
        (("content-type", "Application/X-MsgPack; x=1"), 415),
        (("content-type", "text/plain"), 200),
    ] {
        assert_eq!(site.status("POST", path, &[header], RECORD).await, status, "{header:?}");
    }
    site.taken();
    for body in [b"PK\x03\x04.".as_slice(), b"PAR1", b"\xff\xfeh\0", b"BZh9"] {
        for path in [path, "/services/collector/event", "/services/collector/raw"] {
            let (status, answer) = site.ask("POST", path, &[], body.to_vec()).await;
            assert_eq!((status, answer["error"].is_string()), (415, true), "{body:?}");
        }
    }
    assert_eq!(site.status("POST", path, &[], "cut").await, 400);
    assert!(site.taken().is_empty());
}

#[tokio::test]
async fn raw_logs_on_the_path_of_otlp_are_told_where_to_go() {
    let site = Site::new(&[]);
    for kind in ["application/json", "application/x-protobuf"] {
        let (status, answer) =
            site.ask("POST", "/v1/logs", &[("content-type", kind)], RECORD).await;
        let hint = answer["error"].as_str().unwrap().to_owned();
        assert!(status == 400 && hint.ends_with("/v1/logs/PARSER"), "{hint}");
    }
    let json = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(site.ask("POST", "/v1/logs", &json, "{}").await, (200, serde_json::json!({})));
    let list = vec!["{}"; 100_001].join(",");
    let body = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{list}]}}]}}]}}"#);
    assert_eq!(site.status("POST", "/v1/logs", &json, &body).await, 413);
}
