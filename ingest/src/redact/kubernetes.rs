//! Kubernetes Secrets: in an object with `"kind":"Secret"` every string of `data` and `stringData`
//! is a secret, whatever its name. So it is in the items of a `SecretList`, and in what an audit
//! event with `"resource":"secrets"` says was sent or returned, as a patch names no kind and the
//! items of a list name none of their own.
//! <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>
//!
//! In Docker's registries, `"auths":{"registry":{"auth":"…"}}`, every `auth` is a secret.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/>
//!
//! GKE names the kind in `@type`, `core.k8s.io/v1.Secret`, and what the event is about in
//! `methodName`, `io.k8s.core.v1.secrets.patch`.
//! <https://cloud.google.com/kubernetes-engine/docs/how-to/audit-logging>
//!
//! Vault's audit log holds what was written to and read from its key-value stores, in clear with
//! `log_raw`: every string of `data` in `request` and `response` is a secret where `mount_type`, or
//! the `path` of entries without one, tells such a store; version 2 of it has the values in a `data`
//! of their own, and beside them `metadata`, which is none. So it is where shares of Vault's own key or
//! an AppRole's secret id of somebody's choice go in.
//! <https://developer.hashicorp.com/vault/docs/audit>

use super::Secret;
use super::text::{Mark, Quote};
use memchr::memmem;

/// Depth of objects that is followed; what lies deeper is taken for a new beginning.
const MAX_DEPTH: usize = 256;

/// What is to be searched for, at most once for each depth of JSON within JSON.
#[derive(Default)]
pub(super) struct Searched {
    /// Bit `i`: objects whose quotes have `i` backslashes are.
    wanted: u8,
    /// Whether any audit event of the payload holds an object that was sent.
    has_bodies: Option<bool>,
    /// Bit `i`: `data` in quotes with `i` backslashes was looked at for strings in clear.
    looked: u8,
}

impl Searched {
    /// Wants Secrets and registries whose quotes have `escapes` backslashes to be searched for.
    pub fn search(&mut self, escapes: usize) {
        self.wanted |= 1_u8.checked_shl(escapes as u32).unwrap_or(0);
    }

    /// Searches the whole payload for what is wanted. `known` are the secrets that were found in it
    /// otherwise, in order: brackets and quotes within them mean nothing.
    pub fn found(self, bytes: &[u8], known: &[Secret]) -> Vec<Secret> {
        let mut found = Vec::new();
        for escapes in (0..u8::BITS).filter(|escapes| self.wanted & (1 << escapes) != 0) {
            let depth = escapes.count_ones() as u8 + 1;
            let mut reader =
                Reader { frames: Vec::new(), waiting: Vec::new(), depth, found: &mut found };
            reader.read(bytes, escapes as usize, known);
        }
        found
    }

    /// The same where an audit event is about a Secret. Most logs hold no bodies of requests, and
    /// are not searched. GKE's bodies name their type, but for patches.
    pub fn search_bodies(&mut self, bytes: &[u8], escapes: usize) {
        let find = || {
            ["requestObject", "responseObject", "k8s.io/Patch"]
                .iter()
                .any(|name| memchr::memmem::find(bytes, name.as_bytes()).is_some())
        };
        if *self.has_bodies.get_or_insert_with(find) {
            self.search(escapes);
        }
    }

    /// The same where an entry of Vault's audit log tells. Most hold hashes of what was written and
    /// read, and are not searched.
    pub fn search_entries(&mut self, bytes: &[u8], escapes: usize) {
        let bit = 1_u8.checked_shl(escapes as u32).unwrap_or(0);
        if self.looked & bit == 0 && self.wanted & bit == 0 {
            self.looked |= bit;
            if mentions_store(bytes) && holds_plain_data(bytes, escapes) {
                self.search(escapes);
            }
        }
    }
}

/// Whether the payload may hold an entry about one of Vault's key-value stores.
fn mentions_store(bytes: &[u8]) -> bool {
    ["\"kv", "\"secret/", "/data/", "cubbyhole", "\"generic", "custom-secret-id"]
        .iter()
        .chain(&KEY_PATHS)
        .any(|name| memmem::find(bytes, name.as_bytes()).is_some())
}

/// Whether any object `data` of the payload holds a string that is not masked.
fn holds_plain_data(bytes: &[u8], escapes: usize) -> bool {
    let skip_spaces =
        |at: usize| at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let own = |at: usize| {
        Quote::at(bytes, at)
            .filter(|(quote, _)| quote.escapes == escapes && quote.mark == Mark::Double)
    };
    let finder = memmem::Finder::new(b"\"data");
    let mut at = 0;
    while let Some(found) = finder.find(&bytes[at..]) {
        at += found + finder.needle().len();
        let Some((_, behind)) = own(at) else { continue };
        let colon = skip_spaces(behind);
        if bytes.get(colon) != Some(&b':') {
            continue;
        }
        at = skip_spaces(colon + 1);
        let mut open = 0;
        while let Some(byte) = bytes.get(at) {
            match (byte, own(at)) {
                (b'{' | b'[', _) => open += 1,
                (b'}' | b']', _) => open -= 1,
                (_, Some((quote, start))) if open > 0 => {
                    let end = quote.string_end(bytes, start, false);
                    at = bytes.len().min(end + escapes + 1);
                    let is_key = bytes.get(skip_spaces(at)) == Some(&b':');
                    if !is_key && !super::names::is_masked(&bytes[start..end]) {
                        return true;
                    }
                    continue;
                }
                // The end of a string around.
                (b'"', None) => break,
                _ => {}
            }
            if open == 0 {
                break;
            }
            at += 1;
        }
    }
    false
}

/// What the value of `kind`, `resource`, `@type` or `methodName` says of the object around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mention {
    /// It is a Secret, or a list of them.
    Secret,
    /// It is about Secrets.
    Secrets,
}

impl Mention {
    /// Whether a name may mention one that goes on from its `cret` like this; few do.
    pub fn may_be(tail: &[u8]) -> bool {
        matches!(tail, b"cret" | b"crets" | b"cretList") || tail.starts_with(b"crets.")
    }

    pub fn of(value: &[u8]) -> Option<Mention> {
        match value {
            b"Secret" | b"SecretList" => Some(Mention::Secret),
            b"secrets" => Some(Mention::Secrets),
            _ if value.starts_with(b"core.k8s.io") => {
                let is_secret =
                    value.ends_with(b"/v1.Secret") || value.ends_with(b"/v1.SecretList");
                is_secret.then_some(Mention::Secret)
            }
            _ => value.starts_with(b"io.k8s.core.v1.secrets.").then_some(Mention::Secrets),
        }
    }
}

/// Walks the brackets and strings of one depth of JSON within JSON.
struct Reader<'a> {
    frames: Vec<Frame>,
    /// Strings that are secrets if an object around turns out to be a Secret.
    waiting: Vec<Secret>,
    depth: u8,
    found: &'a mut Vec<Secret>,
}

/// An object or array that is open.
struct Frame {
    is_array: bool,
    /// The member whose value comes next; none where a key is expected.
    key: Option<Member>,
    /// It is a Secret, or an audit event about one.
    is_secret: bool,
    /// It is the `objectRef` of an audit event about a Secret.
    refers_to_secret: bool,
    /// It is a request to one of Vault's key-value stores or its response, or holds one; none where
    /// nothing tells.
    is_of_store: Option<bool>,
    role: Role,
    /// What waits within goes on waiting when it is closed, as only what is around it may say that
    /// it is about Secrets.
    is_part: bool,
    /// Strings that waited when it was opened.
    waiting: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Kind,
    Resource,
    Method,
    Data,
    /// `mount_type` and `path` of Vault.
    Mount,
    Path,
    /// What Vault says of versions and of what it lists, which holds no values.
    Description,
    /// An instant or a duration of it.
    Time,
    /// Object or patch that was sent or returned.
    Body,
    /// Objects of a list.
    Items,
    /// Docker's registries by their name.
    Registries,
    Auth,
    Value,
    Other,
}

/// What an object or array is to the one around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `data` or `stringData`: its strings wait.
    Data,
    /// The same in what was sent or returned.
    BodyData,
    /// What is in there: its strings wait, at any depth.
    Values,
    /// `requestObject` or `responseObject`, or GKE's `request` or `response`.
    Body,
    /// An operation of a JSON patch: its `value` waits.
    Operation,
    /// `auths`.
    Registries,
    /// One of them: its `auth` is a secret.
    Registry,
    Other,
}

impl Reader<'_> {
    fn read(&mut self, bytes: &[u8], level: usize, known: &[Secret]) {
        let mut string = None;
        let mut escapes = 0;
        let mut known = known.iter().peekable();
        for (at, byte) in bytes.iter().enumerate() {
            while known.next_if(|secret| secret.end <= at).is_some() {}
            let is_hidden = known.peek().is_some_and(|secret| secret.start <= at);
            match byte {
                // The lines of a secret stay.
                b'\n' => string = None,
                _ if is_hidden => {}
                b'\\' => {
                    escapes += 1;
                    continue;
                }
                b'"' if escapes % (2 * (level + 1)) == level => match string.take() {
                    None => string = Some(at + 1),
                    Some(start) => self.string(bytes, start, at - level),
                },
                // The end of a string around: what was open at this level is cut off.
                b'"' if escapes % (level + 1) != level => {
                    string = None;
                    self.close_all();
                }
                b'{' | b'[' if string.is_none() => self.open(*byte == b'['),
                b'}' | b']' if string.is_none() => self.close(),
                b',' if string.is_none() => self.next_member(),
                _ => {}
            }
            escapes = 0;
        }
        self.close_all();
    }

    fn string(&mut self, bytes: &[u8], start: usize, end: usize) {
        let Some(frame) = self.frames.last_mut() else { return };
        let text = &bytes[start..end];
        let Some(key) = frame.key else {
            frame.key = Some(Member::of(text));
            return;
        };
        match key {
            Member::Kind => frame.is_secret |= Mention::of(text) == Some(Mention::Secret),
            Member::Method => frame.is_secret |= Mention::of(text) == Some(Mention::Secrets),
            Member::Resource => {
                frame.refers_to_secret |= Mention::of(text) == Some(Mention::Secrets)
            }
            Member::Mount => frame.is_of_store = Some(is_type_of_store(text)),
            Member::Path if frame.role == Role::Body && is_path_of_store(text) => {
                frame.is_of_store.get_or_insert(true);
            }
            _ => {}
        }
        let secrets = match frame.role {
            Role::BodyData if key == Member::Time && is_time(text) => return,
            Role::Data | Role::BodyData | Role::Values => &mut self.waiting,
            Role::Operation if key == Member::Value => &mut self.waiting,
            Role::Registry if key == Member::Auth => &mut *self.found,
            _ => return,
        };
        if !super::names::is_masked(text) {
            secrets.push(Secret { start, end, depth: self.depth });
        }
    }

    fn open(&mut self, is_array: bool) {
        if self.frames.len() >= MAX_DEPTH {
            self.close_all();
        }
        let around = self.frames.last();
        let role = around.map_or(Role::Other, |around| match around.key {
            Some(_) if around.role == Role::Values => Role::Values,
            Some(Member::Description) if around.role == Role::BodyData => Role::Other,
            Some(_) if around.role == Role::BodyData => Role::Values,
            Some(Member::Data) if around.role == Role::Body && !is_array => Role::BodyData,
            Some(Member::Data) if !is_array => Role::Data,
            Some(Member::Body) if around.is_array && !is_array => Role::Operation,
            Some(Member::Body) => Role::Body,
            Some(Member::Value) if around.role == Role::Operation => Role::Data,
            Some(Member::Registries) => Role::Registries,
            Some(_) if around.role == Role::Registries => Role::Registry,
            _ => Role::Other,
        });
        let is_part = role != Role::Other
            || around.is_some_and(|around| around.is_part || around.key == Some(Member::Items));
        self.frames.push(Frame {
            is_array,
            // Elements of an array have no keys; those of a patch are known by their array.
            key: match (is_array, role) {
                (false, _) => None,
                (true, Role::Body) => Some(Member::Body),
                (true, _) => Some(Member::Other),
            },
            is_secret: false,
            refers_to_secret: false,
            is_of_store: None,
            role,
            is_part,
            waiting: self.waiting.len(),
        });
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let around = self.frames.last_mut();
        let is_of_store = frame.role == Role::Body
            && frame.is_of_store.or_else(|| around.as_ref()?.is_of_store).unwrap_or(false);
        if frame.is_secret || is_of_store {
            self.found.extend(self.waiting.drain(frame.waiting..));
        } else if !frame.is_part {
            self.waiting.truncate(frame.waiting);
        }
        if let Some(around) = around {
            around.is_secret |= frame.refers_to_secret;
            // The request tells of the response.
            if is_of_store {
                around.is_of_store = Some(true);
            }
        }
    }

    fn close_all(&mut self) {
        while !self.frames.is_empty() {
            self.close();
        }
        self.waiting.clear();
    }

    fn next_member(&mut self) {
        if let Some(frame) = self.frames.last_mut().filter(|frame| !frame.is_array) {
            frame.key = None;
        }
    }
}

impl Member {
    fn of(key: &[u8]) -> Member {
        match key {
            b"kind" | b"@type" => Member::Kind,
            b"resource" => Member::Resource,
            b"methodName" => Member::Method,
            b"data" | b"stringData" => Member::Data,
            b"mount_type" => Member::Mount,
            b"path" => Member::Path,
            b"metadata" | b"custom_metadata" | b"options" | b"versions" | b"keys" | b"key_info"
            | b"created_by" | b"deleted_by" | b"last_updated_by" => Member::Description,
            b"created_time" | b"updated_time" | b"deletion_time" | b"delete_version_after" => {
                Member::Time
            }
            b"requestObject" | b"responseObject" | b"request" | b"response" => Member::Body,
            b"items" => Member::Items,
            b"auths" => Member::Registries,
            b"auth" => Member::Auth,
            b"value" => Member::Value,
            _ => Member::Other,
        }
    }
}

/// Whether Vault's `mount_type` is that of a store of values that people chose.
fn is_type_of_store(mount_type: &[u8]) -> bool {
    matches!(mount_type, b"kv" | b"generic" | b"cubbyhole" | b"ns_cubbyhole")
}

/// Where Vault takes and gives shares of its own key.
const KEY_PATHS: [&str; 4] = ["sys/unseal", "sys/rekey", "sys/generate-root", "sys/init"];

/// Whether a path of Vault is in such a store, by the names that they usually have, or takes what is
/// as secret.
fn is_path_of_store(path: &[u8]) -> bool {
    let mut begins = ["secret/", "kv/", "cubbyhole/"].iter().chain(&KEY_PATHS);
    begins.any(|mount| path.starts_with(mount.as_bytes()))
        || path.ends_with(b"/custom-secret-id")
        || memmem::find(path, b"/data/").is_some()
}

/// Whether text is an instant or a duration: digits and what stands between them.
fn is_time(text: &[u8]) -> bool {
    text.len() <= 40 && text.iter().all(|byte| byte.is_ascii_digit() || b"TZ:.+-hms".contains(byte))
}
