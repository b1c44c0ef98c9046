//! A small S3 in memory: what `object_store` asks of one, and a switch that makes it fail.

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

pub const BUCKET: &str = "logs";
/// Keys on a page of a listing: few, so that there are several.
const PAGE: usize = 50;

/// When an object came of which nothing else was said.
const MODIFIED: &str = "2026-03-01T00:00:00.000Z";

struct Object {
    bytes: Bytes,
    modified: String,
}

impl Object {
    fn new(bytes: Bytes) -> Self {
        Self { bytes, modified: MODIFIED.to_owned() }
    }
}

#[derive(Default)]
struct Held {
    objects: Mutex<BTreeMap<String, Object>>,
    /// What each listing asked for: prefix and where it begins.
    listings: Mutex<Vec<(String, String)>>,
    /// Parts of uploads that are not complete.
    parts: Mutex<BTreeMap<usize, Bytes>>,
    /// Objects below this are refused; none where it is empty.
    refused: Mutex<String>,
    /// The status of every answer; 0 while it is well.
    failing: AtomicU16,
}

type Parameters = Query<HashMap<String, String>>;

/// Runs until it is dropped.
pub struct S3 {
    port: u16,
    held: Arc<Held>,
    _threads: tokio::runtime::Runtime,
}

impl S3 {
    pub fn start() -> Self {
        let held = Arc::new(Held::default());
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let listener = threads.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let app = axum::Router::new()
            .route("/{bucket}", any(bucket))
            .route("/{bucket}/{*key}", any(object))
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(Arc::clone(&held), well))
            .with_state(Arc::clone(&held));
        threads.spawn(async move { axum::serve(listener, app).await });
        Self { port, held, _threads: threads }
    }

    /// The options by which it is reached.
    pub fn options(&self) -> String {
        let port = self.port;
        format!(
            "{{ endpoint = \"http://127.0.0.1:{port}\", allow_http = \"true\", region = \"eu-west-1\" }}"
        )
    }

    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.put_at(key, bytes, MODIFIED);
    }

    /// The same at a time, as listings give it.
    pub fn put_at(&self, key: &str, bytes: impl Into<Bytes>, modified: &str) {
        let object = Object { bytes: bytes.into(), modified: modified.to_owned() };
        self.held.objects.lock().expect("unpoisoned").insert(key.to_owned(), object);
    }

    /// Whether some key begins so.
    pub fn has(&self, prefix: &str) -> bool {
        self.held.objects.lock().expect("unpoisoned").keys().any(|key| key.starts_with(prefix))
    }

    /// Prefix and beginning of the listings since the last call.
    pub fn listings(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.held.listings.lock().expect("unpoisoned"))
    }

    /// From now on objects below a prefix are refused; an empty one ends it.
    pub fn refuse(&self, prefix: &str) {
        prefix.clone_into(&mut self.held.refused.lock().expect("unpoisoned"));
    }

    /// From now on every answer has this status; 0 ends it.
    pub fn fail(&self, status: u16) {
        self.held.failing.store(status, Ordering::SeqCst);
    }
}

/// Lets only through what is signed, while all is well.
async fn well(State(held): State<Arc<Held>>, request: Request, next: Next) -> Response {
    let failing = held.failing.load(Ordering::SeqCst);
    if failing != 0 {
        return answer(failing, "<Error><Code>SlowDown</Code></Error>");
    }
    let signed = request.headers().get(header::AUTHORIZATION);
    match signed.and_then(|value| value.to_str().ok()) {
        Some(value) if value.starts_with("AWS4-HMAC-SHA256 Credential=AKIATEST/") => {
            next.run(request).await
        }
        _ => answer(403, "<Error><Code>AccessDenied</Code></Error>"),
    }
}

async fn bucket(
    State(held): State<Arc<Held>>,
    Path(name): Path<String>,
    Query(parameters): Parameters,
    method: Method,
    body: String,
) -> Response {
    if name != BUCKET {
        return answer(404, "<Error><Code>NoSuchBucket</Code></Error>");
    }
    if method == Method::POST {
        let mut objects = held.objects.lock().expect("unpoisoned");
        for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
            objects.remove(key);
        }
        return answer(200, "<DeleteResult></DeleteResult>");
    }
    list(&held, &parameters)
}

fn list(held: &Held, parameters: &HashMap<String, String>) -> Response {
    let asked = |name: &str| parameters.get(name).map_or("", String::as_str);
    let (prefix, delimiter) = (asked("prefix"), asked("delimiter"));
    let after = asked("start-after").max(asked("continuation-token"));
    if !parameters.contains_key("continuation-token") {
        let asked = (prefix.to_owned(), after.to_owned());
        held.listings.lock().expect("unpoisoned").push(asked);
    }
    let (mut text, mut folders, mut count, mut last) =
        (String::new(), BTreeSet::new(), 0, String::new());
    let objects = held.objects.lock().expect("unpoisoned");
    let mut keys = objects.iter().filter(|(key, _)| key.starts_with(prefix));
    let more = loop {
        let Some((key, Object { bytes, modified })) = keys.next() else { break false };
        if key.as_str() <= after {
            continue;
        }
        let folder = key[prefix.len()..].split_once(delimiter).filter(|_| !delimiter.is_empty());
        if let Some((folder, _)) = folder {
            let folder = format!("{prefix}{folder}{delimiter}");
            if after < folder.as_str() {
                folders.insert(folder);
            }
            continue;
        }
        if count == PAGE {
            break true;
        }
        (count, last) = (count + 1, key.clone());
        let (size, tag) = (bytes.len(), tag(bytes));
        write!(text, "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>")
            .expect("memory can be written");
    };
    for folder in folders {
        write!(text, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>")
            .expect("memory can be written");
    }
    let next = if more {
        format!("<NextContinuationToken>{last}</NextContinuationToken>")
    } else {
        String::new()
    };
    answer(
        200,
        &format!(
            "<ListBucketResult><IsTruncated>{more}</IsTruncated>{next}{text}</ListBucketResult>"
        ),
    )
}

async fn object(
    State(held): State<Arc<Held>>,
    Path((name, key)): Path<(String, String)>,
    Query(parameters): Parameters,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if name != BUCKET {
        return answer(404, "<Error><Code>NoSuchBucket</Code></Error>");
    }
    let mut objects = held.objects.lock().expect("unpoisoned");
    let is_upload = parameters.contains_key("uploads") || parameters.contains_key("uploadId");
    match method {
        Method::POST if parameters.contains_key("uploads") => {
            let id = "<UploadId>1</UploadId>";
            answer(
                200,
                &format!("<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"),
            )
        }
        Method::PUT if is_upload => {
            let number = parameters.get("partNumber").and_then(|text| text.parse().ok());
            let number = number.expect("a part has a number");
            held.parts.lock().expect("unpoisoned").insert(number, body);
            tagged(200, "1", Body::empty())
        }
        Method::POST => {
            let parts = std::mem::take(&mut *held.parts.lock().expect("unpoisoned"));
            objects.insert(key, Object::new(parts.into_values().flatten().collect()));
            answer(
                200,
                "<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>",
            )
        }
        Method::PUT => {
            if headers.contains_key(header::IF_NONE_MATCH) && objects.contains_key(&key) {
                return answer(412, "<Error><Code>PreconditionFailed</Code></Error>");
            }
            let tag = tag(&body);
            objects.insert(key, Object::new(body));
            tagged(200, &tag, Body::empty())
        }
        Method::DELETE => {
            objects.remove(&key);
            answer(204, "")
        }
        _ if is_refused(&held, &key) => answer(403, "<Error><Code>AccessDenied</Code></Error>"),
        _ => match objects.get(&key) {
            Some(object) => get(&object.bytes, &method, headers.get(header::RANGE)),
            None => answer(404, "<Error><Code>NoSuchKey</Code></Error>"),
        },
    }
}

fn is_refused(held: &Held, key: &str) -> bool {
    let refused = held.refused.lock().expect("unpoisoned");
    !refused.is_empty() && key.starts_with(refused.as_str())
}

fn get(bytes: &Bytes, method: &Method, range: Option<&header::HeaderValue>) -> Response {
    let (size, tag) = (bytes.len(), tag(bytes));
    let range = range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let range = range.and_then(|range| range.split_once('-'));
    let (from, to) = match range {
        None => (0, size),
        Some(("", last)) => (size.saturating_sub(last.parse().unwrap_or(0)), size),
        Some((from, "")) => (from.parse().unwrap_or(0), size),
        Some((from, to)) => {
            (from.parse().unwrap_or(0), (to.parse().unwrap_or(0) + 1_usize).min(size))
        }
    };
    if from > to {
        return answer(416, "<Error><Code>InvalidRange</Code></Error>");
    }
    let body = bytes.slice(from..to);
    let length = if *method == Method::HEAD { size } else { body.len() };
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from(body) };
    let mut response = tagged(if range.is_some() { 206 } else { 200 }, &tag, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    if range.is_some() {
        let covered = format!("bytes {from}-{}/{size}", to.saturating_sub(1));
        headers.insert(header::CONTENT_RANGE, covered.parse().expect("it is a header"));
    }
    response
}

fn tag(bytes: &Bytes) -> String {
    format!("\"{:x}\"", xxhash_rust::xxh3::xxh3_64(bytes))
}

fn tagged(status: u16, tag: &str, body: Body) -> Response {
    let response = Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header(header::ETAG, tag)
        .header(header::LAST_MODIFIED, "Sun, 01 Mar 2026 00:00:00 GMT");
    response.body(body).expect("it is a response")
}

fn answer(status: u16, text: &str) -> Response {
    tagged(status, "1", Body::from(text.to_owned()))
}
