//! Kubernetes audit events, `audit.k8s.io/v1`, at level Metadata.
//! <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>

use telltale_schema::time::Micros;

use crate::cast::{Actor, Identity, Trade};
use crate::clock;
use crate::json::{self, object, part};
use crate::logs::{Op, read, write};
use crate::scribe::{Hand, Outcome, Scribe};

pub(crate) const LOG: &str = "kubernetes_audit";

const RBAC: &str = "rbac.authorization.k8s.io";

pub(crate) static TOKEN: Op = write("", "create", "serviceaccounts/token");
pub(crate) static LIST_SECRETS: Op = read("", "list", "secrets");
pub(crate) static GET_SECRET: Op = read("", "get", "secrets");
pub(crate) static CAN_I: Op = write("authorization.k8s.io", "create", "selfsubjectaccessreviews");
pub(crate) static RULES: Op = write("authorization.k8s.io", "create", "selfsubjectrulesreviews");
pub(crate) static BIND: Op = write(RBAC, "create", "clusterrolebindings");
pub(crate) static EXEC: Op = write("", "create", "pods/exec");

pub(crate) static WORK: &[Op] = &[
    read("", "get", "configmaps"),
    read("", "list", "pods"),
    read("", "get", "secrets"),
    read("", "list", "endpoints"),
    read("", "watch", "configmaps"),
    write("batch", "create", "jobs"),
    read("batch", "list", "jobs"),
    write("", "patch", "configmaps"),
    write("", "create", "events"),
    read("apps", "get", "deployments"),
    read("", "list", "services"),
];

pub(crate) static CONTROL: &[Op] = &[
    read("", "list", "pods"),
    read("", "watch", "pods"),
    write("apps", "patch", "deployments"),
    write("apps", "update", "replicasets"),
    write("coordination.k8s.io", "update", "leases"),
    read("coordination.k8s.io", "get", "leases"),
    write("", "create", "events"),
    write("", "update", "endpoints"),
    read("", "list", "nodes"),
    read("networking.k8s.io", "list", "ingresses"),
];

pub(crate) static KUBELET: &[Op] = &[
    read("", "get", "nodes"),
    write("", "patch", "nodes/status"),
    write("", "patch", "pods/status"),
    read("", "watch", "configmaps"),
    read("", "get", "secrets"),
    read("", "list", "services"),
    read("storage.k8s.io", "list", "csidrivers"),
    write("", "create", "events"),
];

pub(crate) static PEOPLE: &[Op] = &[
    read("", "list", "pods"),
    read("", "get", "pods"),
    read("", "get", "pods/log"),
    read("apps", "list", "deployments"),
    read("", "list", "events"),
    read("", "list", "nodes"),
    read("", "list", "namespaces"),
    read("", "list", "services"),
    write("apps", "patch", "deployments"),
    write("", "delete", "pods"),
    write("", "create", "pods/exec"),
    write("", "create", "pods/portforward"),
    write("authorization.k8s.io", "create", "selfsubjectaccessreviews"),
    read("", "get", "configmaps"),
];

pub(crate) static INSTALLS: &[Op] = &[
    read("", "list", "secrets"),
    write("", "create", "secrets"),
    write("", "create", "configmaps"),
    write("", "create", "serviceaccounts"),
    write("", "create", "services"),
    write("apps", "create", "deployments"),
    write("apps", "patch", "deployments"),
    write(RBAC, "create", "roles"),
    write(RBAC, "create", "rolebindings"),
    read("", "get", "services"),
    read("apps", "get", "deployments"),
    write(RBAC, "create", "clusterroles"),
];

/// Whom a call is made as.
pub(crate) struct Mask<'a> {
    pub user: &'a str,
    pub groups: &'a [&'a str],
}

/// Writes an ordinary call.
pub(crate) fn call(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    op: &Op,
    outcome: Outcome,
) {
    let (namespace, name) = place(scribe, hand.actor, op);
    request(
        scribe,
        at,
        hand,
        &Request { op, namespace: &namespace, name: &name, mask: None, outcome },
    );
}

/// A call that the proxy makes as somebody else.
pub(crate) fn call_as(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    mask: &Mask<'_>,
    op: &Op,
    outcome: Outcome,
) {
    let (namespace, name) = place(scribe, hand.actor, op);
    let mask = Some(mask);
    request(scribe, at, hand, &Request { op, namespace: &namespace, name: &name, mask, outcome });
}

/// TokenRequest for a service account.
pub(crate) fn token_request(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    (namespace, name): (&str, &str),
    outcome: Outcome,
) {
    request(scribe, at, hand, &Request { op: &TOKEN, namespace, name, mask: None, outcome });
}

fn place(scribe: &mut Scribe<'_>, actor: &Actor, op: &Op) -> (String, String) {
    let cluster_wide = matches!(
        op.detail,
        "nodes"
            | "nodes/status"
            | "namespaces"
            | "csidrivers"
            | "clusterroles"
            | "clusterrolebindings"
            | "selfsubjectaccessreviews"
            | "selfsubjectrulesreviews"
    );
    let namespace = match &actor.identity {
        _ if cluster_wide => String::new(),
        Identity::Kube { namespace, .. } if actor.trade == Trade::Workload => namespace.clone(),
        _ => (*scribe.dice.pick(&["apps", "payments", "data", "web", "ml", "platform"])).to_owned(),
    };
    let name = match op.name {
        "list" | "watch" | "create" if !op.detail.contains('/') => String::new(),
        _ if actor.trade == Trade::Node && op.detail.starts_with("nodes") => actor.name.clone(),
        _ => scribe.dice.pick(&actor.resources).clone(),
    };
    (namespace, name)
}

struct Request<'a> {
    op: &'a Op,
    /// Empty for the whole cluster.
    namespace: &'a str,
    /// Empty for a collection.
    name: &'a str,
    mask: Option<&'a Mask<'a>>,
    outcome: Outcome,
}

fn request(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, request: &Request<'_>) {
    let Request { op, namespace, name, mask, outcome } = request;
    let took = scribe.dice.range(400, 25_000);
    let audit_id = scribe.dice.uuid();
    let (resource, sub) = match op.detail.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub)),
        None => (op.detail, None),
    };
    let mut uri = match op.service {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/v1"),
    };
    for (segment, value) in [("namespaces/", *namespace), (resource, ""), ("", name)] {
        match (segment, value) {
            ("namespaces/", "") | ("", "") => {}
            _ => uri.push_str(&format!("/{segment}{value}")),
        }
    }
    if let Some(sub) = sub {
        uri.push_str(&format!("/{sub}"));
    }
    if op.name == "list" {
        uri.push_str("?limit=500");
    } else if op.name == "watch" {
        uri.push_str("?allowWatchBookmarks=true&watch=true");
    }
    let acting = mask.map_or(hand.actor.principal.as_str(), |mask| mask.user);
    let denied = outcome.denied();
    let code = match (denied, op.name) {
        (true, _) => 403,
        (_, "create") => 201,
        _ => 200,
    };
    let text = object(|json| {
        json.text("kind", "Event").text("apiVersion", "audit.k8s.io/v1").text("level", "Metadata");
        json.text("auditID", &audit_id).text("stage", "ResponseComplete").text("requestURI", &uri);
        json.text("verb", op.name);
        json.nest("user", |json| user(json, hand));
        if let Some(mask) = mask {
            json.nest("impersonatedUser", |json| {
                json.text("username", mask.user).raw("groups", json::texts(mask.groups));
            });
        }
        json.raw("sourceIPs", json::texts(&[&hand.from])).text("userAgent", &hand.agent);
        json.nest("objectRef", |json| {
            json.text("resource", resource);
            if !namespace.is_empty() {
                json.text("namespace", namespace);
            }
            if !name.is_empty() {
                json.text("name", name);
            }
            if !op.service.is_empty() {
                json.text("apiGroup", op.service);
            }
            json.text("apiVersion", "v1");
            if let Some(sub) = sub {
                json.text("subresource", sub);
            }
        });
        json.nest("responseStatus", |json| {
            json.raw("metadata", "{}");
            if denied {
                let scope = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace \"{namespace}\"")
                };
                let message = format!(
                    "{resource} is forbidden: User \"{acting}\" cannot {} resource \"{resource}\" \
                     in API group \"{}\" {scope}",
                    op.name, op.service
                );
                json.text("status", "Failure").text("message", &message);
                json.text("reason", "Forbidden");
            }
            json.raw("code", code);
        });
        json.text("requestReceivedTimestamp", &clock::iso(at, 6));
        json.text("stageTimestamp", &clock::iso(at + took, 6));
        json.nest("annotations", |json| {
            let decision = if denied { "forbid" } else { "allow" };
            json.text("authorization.k8s.io/decision", decision);
            let reason = if denied { "" } else { "RBAC: allowed by ClusterRoleBinding" };
            json.text("authorization.k8s.io/reason", reason);
        });
    });
    scribe.write(at, LOG, text);
}

fn user(json: &mut json::Json, hand: &Hand<'_>) {
    json.text("username", &hand.actor.principal);
    if let Identity::Kube { groups, uid, .. } = &hand.actor.identity {
        if !uid.is_empty() {
            json.text("uid", uid);
        }
        json.raw("groups", json::texts(groups));
    }
    if !hand.credential.is_empty() {
        json.nest("extra", |json| {
            let id = json::texts(&[&hand.credential]);
            json.raw("authentication.kubernetes.io/credential-id", id);
            if hand.credential.starts_with("JTI") {
                let pod = json::texts(&[&hand.session]);
                json.raw("authentication.kubernetes.io/pod-name", pod);
            }
        });
    }
}

/// Somebody without a name knocks: scanners of the internet and probes of load balancers.
pub(crate) fn anonymous(scribe: &mut Scribe<'_>, at: Micros, from: &str, agent: &str) {
    let audit_id = scribe.dice.uuid();
    let took = scribe.dice.range(100, 2000);
    let uri = *scribe.dice.pick(&["/version", "/api", "/healthz", "/api/v1/pods", "/metrics", "/"]);
    let text = object(|json| {
        json.text("kind", "Event").text("apiVersion", "audit.k8s.io/v1").text("level", "Metadata");
        json.text("auditID", &audit_id).text("stage", "ResponseComplete").text("requestURI", uri);
        json.text("verb", "get");
        json.nest("user", |json| {
            json.text("username", "system:anonymous");
            json.raw("groups", json::texts(&["system:unauthenticated"]));
        });
        json.raw("sourceIPs", json::texts(&[from])).text("userAgent", agent);
        let status = part(|json| {
            json.raw("metadata", "{}").text("status", "Failure");
            let message = format!("forbidden: User \"system:anonymous\" cannot get path \"{uri}\"");
            json.text("message", &message).text("reason", "Forbidden").raw("code", 403);
        });
        json.raw("responseStatus", status);
        json.text("requestReceivedTimestamp", &clock::iso(at, 6));
        json.text("stageTimestamp", &clock::iso(at + took, 6));
        json.nest("annotations", |json| {
            json.text("authorization.k8s.io/decision", "forbid");
            json.text("authorization.k8s.io/reason", "");
        });
    });
    scribe.write(at, LOG, text);
}
