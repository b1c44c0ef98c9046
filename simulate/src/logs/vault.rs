//! HashiCorp Vault audit device: a request and a response for every exchange.
//! <https://developer.hashicorp.com/vault/docs/audit>

use telltale_schema::time::{HOUR, Micros};

use crate::cast::Identity;
use crate::clock;
use crate::dice::{Dice, Purpose};
use crate::json::{self, Json, object};
use crate::logs::{Op, read, write};
use crate::scribe::{Hand, Outcome, Scribe};

pub(crate) const LOG: &str = "hashicorp_vault_audit";

/// How long a token lives before its owner logs in again.
pub(crate) const TOKEN_LIFE: Micros = 12 * HOUR;

pub(crate) static WHO_AM_I: Op = read("token", "read", "auth/token/lookup-self");
static LOGIN: Op = write("", "update", "");
static CREATE_TOKEN: Op = write("token", "update", "auth/token/create");

/// `{r}` in a path is one of the actor's own names.
pub(crate) static WORK: &[Op] = &[
    read("kv", "read", "secret/data/{r}"),
    read("kv", "read", "secret/data/shared/database"),
    read("database", "read", "database/creds/{r}"),
    write("transit", "update", "transit/encrypt/{r}"),
    write("transit", "update", "transit/decrypt/{r}"),
    write("pki", "update", "pki_int/issue/{r}"),
    read("aws", "read", "aws/creds/{r}"),
    write("token", "update", "auth/token/renew-self"),
    read("token", "read", "auth/token/lookup-self"),
];

pub(crate) static LOOT: &[Op] = &[
    read("token", "read", "auth/token/lookup-self"),
    write("system", "update", "sys/capabilities-self"),
    read("system", "read", "sys/mounts"),
    read("system", "read", "sys/auth"),
    read("system", "list", "sys/policies/acl"),
    read("kv", "list", "secret/metadata/"),
    read("kv", "read", "secret/data/prod/database"),
    read("kv", "read", "secret/data/prod/aws-root"),
    read("kv", "read", "secret/data/ci/deploy-keys"),
    read("kv", "read", "secret/data/payments/stripe"),
    read("identity", "list", "identity/entity/id"),
    read("aws", "read", "aws/creds/admin"),
];

/// Writes an ordinary exchange.
pub(crate) fn call(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    op: &Op,
    outcome: Outcome,
) {
    let resource = scribe.dice.pick(&hand.actor.resources).clone();
    let path = op.detail.replace("{r}", &resource);
    exchange(scribe, at, hand, &Exchange { op, path: &path, outcome, born: None });
}

/// Login by approle or by a pod's token; the response carries the hand's new token.
pub(crate) fn login(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    let Identity::Vault { mount, .. } = &hand.actor.identity else { return };
    let path = format!("auth/{mount}/login");
    let born = Born { accessor: &hand.credential, name: &hand.actor.name };
    let exchange_of =
        Exchange { op: &LOGIN, path: &path, outcome: Outcome::Allowed, born: Some(born) };
    exchange(scribe, at, hand, &exchange_of);
}

/// A token that a broker makes for `role`; returns the child's accessor.
pub(crate) fn create_token(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    role: &str,
    outcome: Outcome,
) -> String {
    let accessor = format!("hmac-sha256:{}", scribe.dice.hex(64));
    let path = format!("auth/token/create/{role}");
    let born = Born { accessor: &accessor, name: role };
    let born = (!outcome.denied()).then_some(born);
    exchange(scribe, at, hand, &Exchange { op: &CREATE_TOKEN, path: &path, outcome, born });
    accessor
}

/// A token that this exchange makes.
struct Born<'a> {
    accessor: &'a str,
    name: &'a str,
}

struct Exchange<'a> {
    op: &'a Op,
    path: &'a str,
    outcome: Outcome,
    born: Option<Born<'a>>,
}

fn exchange(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, exchange: &Exchange<'_>) {
    let took = scribe.dice.range(600, 40_000);
    let id = scribe.dice.uuid();
    let value = format!("hmac-sha256:{}", scribe.dice.hex(64));
    let port = scribe.dice.range(32_768, 60_999);
    for (kind, at) in [("request", at), ("response", at + took)] {
        let line = Line { kind, at, id: &id, value: &value, port };
        let text = object(|json| text(json, hand, exchange, &line));
        scribe.write(at, LOG, text);
    }
}

/// One of the two lines of an exchange.
struct Line<'a> {
    kind: &'a str,
    at: Micros,
    id: &'a str,
    /// An HMAC for data that the log hides.
    value: &'a str,
    port: i64,
}

fn text(json: &mut Json, hand: &Hand<'_>, exchange: &Exchange<'_>, line: &Line<'_>) {
    let Identity::Vault { mount, accessor } = &hand.actor.identity else { return };
    let denied = exchange.outcome.denied();
    let logging_in = std::ptr::eq(exchange.op, &LOGIN);
    let answering = line.kind == "response";
    let (mount_type, mount_point) = match logging_in {
        true => (*mount, format!("auth/{mount}/")),
        false if exchange.path.starts_with("auth/token") => ("token", "auth/token/".to_owned()),
        false => {
            let point = exchange.path.split('/').next().unwrap_or_default();
            (exchange.op.service, format!("{point}/"))
        }
    };
    json.text("time", &clock::iso(line.at, 9)).text("type", line.kind);
    json.nest("auth", |json| {
        if !logging_in {
            json.nest("policy_results", |json| {
                json.raw("allowed", !denied);
            });
        }
        if logging_in && !answering {
            // Before the login is answered nobody is known.
            json.text("token_type", "default");
        } else {
            bearer(json, hand, &hand.credential, &hand.actor.name);
        }
    });
    json.nest("request", |json| {
        json.text("id", line.id).text("client_id", &hand.actor.principal);
        json.text("operation", exchange.op.name);
        json.text("mount_point", &mount_point).text("mount_type", mount_type);
        if logging_in {
            json.text("mount_accessor", accessor);
        } else {
            json.text("client_token", &token_of(&hand.credential));
            json.text("client_token_accessor", &hand.credential);
        }
        json.nest("namespace", |json| {
            json.text("id", "root");
        });
        json.text("path", exchange.path);
        if !exchange.op.read_only {
            json.nest("data", |json| {
                match (logging_in, *mount) {
                    (true, "kubernetes") => json.text("jwt", line.value).text("role", line.value),
                    (true, _) => json.text("role_id", line.value).text("secret_id", line.value),
                    _ => json.text("value", line.value),
                };
            });
        }
        json.text("remote_address", &hand.from).raw("remote_port", line.port);
    });
    if answering {
        json.nest("response", |json| {
            json.text("mount_type", mount_type);
            if let Some(born) = &exchange.born {
                json.nest("auth", |json| bearer(json, hand, born.accessor, born.name));
            } else if exchange.op.read_only && !denied {
                json.nest("data", |json| {
                    json.text("data", line.value);
                });
            }
        });
    }
    if denied {
        let error = if answering {
            "1 error occurred:\n\t* permission denied\n\n"
        } else {
            "permission denied"
        };
        json.text("error", error);
    }
}

fn bearer(json: &mut Json, hand: &Hand<'_>, accessor: &str, name: &str) {
    let Identity::Vault { mount, .. } = &hand.actor.identity else { return };
    json.text("accessor", accessor).text("client_token", &token_of(accessor));
    json.text("display_name", &format!("{mount}-{name}"));
    json.text("entity_id", &hand.actor.principal);
    json.nest("metadata", |json| {
        json.text("role_name", name);
    });
    json.raw("policies", json::texts(&["default", name]));
    json.raw("token_policies", json::texts(&["default", name]));
    json.text("token_issue_time", &clock::iso(hand.issued_at, 0));
    json.raw("token_ttl", TOKEN_LIFE / 1_000_000).text("token_type", "service");
}

/// The HMAC of the token that has this accessor.
fn token_of(accessor: &str) -> String {
    let word = accessor.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("hmac-sha256:{}", Dice::at(word, Purpose::Credential, 0, 0).hex(64))
}
