//! A finding as OCSF Detection Finding, the form in which a SIEM reads it.
//! <https://schema.ocsf.io/1.9.0/classes/detection_finding?profiles=datetime>
//!
//! `finding_info` says what was found by which detector, with the events that justify it;
//! `evidences` who acted (first entry, with the unusual dimensions and their probabilities in
//! `data`), from where and what was called; `resources` the identities and credentials involved;
//! `anomaly_analyses` what was usual beside what was seen; `remediation` what to do.
//! No confidence and no risk is given: a tail probability is neither.
//!
//! Every attribute here exists since 1.6.0, so a reader of 1.6 to 1.9 understands all of it.

use crate::attack;
use crate::event::PrincipalKind;
use crate::finding::Finding;
use crate::time::{Micros, format_instant};
use serde_json::{Value, json};

/// The newest stable OCSF version, of 3 August 2026.
pub const VERSION: &str = "1.9.0";

/// Where the runbook of a detector lies in the repository.
pub fn runbook(detector: &str) -> String {
    format!("dashboards/runbooks/{detector}.md")
}

/// The finding as one OCSF event: class 2004, activity Create. Absent is left out.
///
/// Units: `time` and the other `…time` attributes are milliseconds since the epoch, cut and not
/// rounded, with the instant in full beside them as `…time_dt`. `time` is when the finding was
/// first raised, in event time, so the same events give the same bytes.
pub fn detection_finding(finding: &Finding) -> Value {
    let resources = resources(finding);
    let observables = observables(finding, &resources);
    without_absent(json!({
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200_401,
        "type_name": "Detection Finding: Create",
        "time": millis(finding.raised_at),
        "time_dt": datetime(finding.raised_at),
        "start_time": millis(finding.first_seen),
        "start_time_dt": datetime(finding.first_seen),
        "end_time": millis(finding.last_seen),
        "end_time_dt": datetime(finding.last_seen),
        "count": finding.event_count,
        "severity_id": finding.severity.id(),
        "severity": finding.severity.as_str(),
        "status_id": 1,
        "status": "New",
        "is_alert": finding.severity.pages(),
        "message": finding.sentence,
        "metadata": {
            "version": VERSION,
            "profiles": ["datetime"],
            "product": {
                "name": "telltale",
                "vendor_name": "telltale",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "log_name": finding.log,
            "tenant_uid": finding.tenant,
        },
        "finding_info": finding_info(finding),
        "evidences": evidences(finding),
        "anomaly_analyses": anomaly_analyses(finding),
        "resources": resources,
        "observables": observables,
        "remediation": {
            "desc": next_steps(finding),
            "references": [runbook(&finding.detector)],
        },
    }))
}

/// The same as one line of NDJSON, line feed included.
pub fn ndjson_line(finding: &Finding) -> String {
    let mut line = detection_finding(finding).to_string();
    line.push('\n');
    line
}

/// What to do, numbered, one step a line; the runbook alone where a finding names no step.
pub fn next_steps(finding: &Finding) -> String {
    if finding.next_steps.is_empty() {
        return format!("Follow {}.", runbook(&finding.detector));
    }
    let numbered = finding.next_steps.iter().enumerate();
    numbered.map(|(i, step)| format!("{}. {step}", i + 1)).collect::<Vec<_>>().join("\n")
}

fn finding_info(finding: &Finding) -> Value {
    // A finding without a single probability comes from policy, not from what was usual.
    let behavioural = finding.dimensions.iter().any(|d| d.probability.is_some());
    let (type_id, type_name) = if behavioural { (2, "Behavioral") } else { (1, "Rule") };
    let related: Vec<Value> = finding
        .event_ids
        .iter()
        .map(|id| json!({ "uid": id.to_string(), "type": finding.log }))
        .collect();
    let tags: Option<Value> = (!finding.owasp_nhi.is_empty())
        .then(|| json!([{ "name": "owasp_nhi", "values": finding.owasp_nhi }]));
    json!({
        "uid": finding.id,
        "title": finding.title,
        "desc": finding.sentence,
        "analytic": {
            "name": finding.detector,
            "type_id": type_id,
            "type": type_name,
            "version": env!("CARGO_PKG_VERSION"),
        },
        "created_time": millis(finding.raised_at),
        "created_time_dt": datetime(finding.raised_at),
        "first_seen_time": millis(finding.first_seen),
        "first_seen_time_dt": datetime(finding.first_seen),
        "last_seen_time": millis(finding.last_seen),
        "last_seen_time_dt": datetime(finding.last_seen),
        "attacks": finding.attack.iter().map(|uid| attack_of(uid)).collect::<Vec<_>>(),
        "data_sources": [finding.log],
        "related_events": related,
        "related_events_count": finding.event_count,
        "tags": tags,
    })
}

/// A technique with its tactic; a sub-technique stands beside its parent. An id that
/// [`attack`] does not know keeps its place without a name.
fn attack_of(uid: &str) -> Value {
    let named = |uid: &str| json!({ "uid": uid, "name": attack::technique(uid).map(|t| t.name) });
    let tactic = attack::technique(uid)
        .map(|known| json!({ "uid": known.tactic.uid, "name": known.tactic.name }));
    match uid.split_once('.') {
        Some((parent, _)) => {
            json!({ "tactic": tactic, "technique": named(parent), "sub_technique": named(uid) })
        }
        None => json!({ "tactic": tactic, "technique": named(uid) }),
    }
}

fn evidences(finding: &Finding) -> Value {
    let (type_id, type_name) = user_type(finding.principal_kind);
    let credentials: Vec<Value> =
        finding.credential_id.iter().map(|id| json!({ "uid": id })).collect();
    let dimensions: Vec<Value> = finding
        .dimensions
        .iter()
        .map(|dimension| {
            json!({
                "name": dimension.name,
                "observed": dimension.observed,
                "usual": (!dimension.usual.is_empty()).then_some(&dimension.usual),
                "probability": dimension.probability,
            })
        })
        .collect();
    let event_ids: Vec<String> = finding.event_ids.iter().map(ToString::to_string).collect();

    let mut evidences = vec![json!({
        "name": "principal",
        "actor": { "user": {
            "uid": finding.principal_id,
            "type_id": type_id,
            "type": type_name,
            "programmatic_credentials": credentials,
        } },
        "data": { "dimensions": dimensions, "event_ids": event_ids },
    })];
    evidences.extend(
        finding
            .source_ips
            .iter()
            .map(|ip| json!({ "name": "source address", "src_endpoint": { "ip": ip } })),
    );
    evidences.extend(
        finding
            .operations
            .iter()
            .map(|operation| json!({ "name": "operation", "api": { "operation": operation } })),
    );
    Value::Array(evidences)
}

/// OCSF's kinds of users have no name for a role, an agent or nobody: those are Other.
fn user_type(principal_kind: PrincipalKind) -> (u8, &'static str) {
    match principal_kind {
        PrincipalKind::Human => (1, "User"),
        PrincipalKind::System => (3, "System"),
        PrincipalKind::ServiceAccount | PrincipalKind::Workload => (4, "Service"),
        PrincipalKind::Unknown => (0, "Unknown"),
        other => (99, other.as_str()),
    }
}

/// What was seen beside what was usual, in the words of the dimensions.
fn anomaly_analyses(finding: &Finding) -> Option<Value> {
    let observation = |name: &str, value: &str| {
        json!({
            "observation_parameter": name,
            "observations": [{ "value": value }],
        })
    };
    let (mut anomalies, mut baselines) = (Vec::new(), Vec::new());
    for dimension in &finding.dimensions {
        anomalies.push(observation(&dimension.name, &dimension.observed));
        if !dimension.usual.is_empty() {
            baselines.push(observation(&dimension.name, &dimension.usual));
        }
    }
    (!anomalies.is_empty()).then(|| {
        json!([{
            "analysis_targets": [{ "name": finding.principal_id, "type": finding.principal_kind.as_str() }],
            "anomalies": anomalies,
            "baselines": baselines,
        }])
    })
}

/// The principal as actor, the identities it went for as targets, and every credential that has
/// to be revoked as affected: the one in use first, then those that it minted.
fn resources(finding: &Finding) -> Vec<Value> {
    let entry = |uid: &str, kind: &str, (role_id, role): (u8, &str)| json!({ "uid": uid, "type": kind, "role_id": role_id, "role": role });
    let (target, actor, affected) = ((1, "Target"), (2, "Actor"), (3, "Affected"));
    let mut resources = vec![entry(&finding.principal_id, finding.principal_kind.as_str(), actor)];
    resources.extend(finding.target_ids.iter().map(|id| entry(id, "identity", target)));
    resources.extend(finding.credential_id.iter().map(|id| entry(id, "credential", affected)));
    let children = finding.child_credential_ids.iter();
    resources.extend(children.map(|id| entry(id, "child credential", affected)));
    resources
}

/// What a SIEM pivots on, each a pointer to where it stands in the event.
fn observables(finding: &Finding, resources: &[Value]) -> Vec<Value> {
    let entry = |name: String, type_id: u8, kind: &str, value: &Value| json!({ "name": name, "type_id": type_id, "type": kind, "value": value });
    let principal = json!(finding.principal_id);
    let mut observables =
        vec![entry("evidences[0].actor.user.uid".into(), 31, "User Object: uid", &principal)];
    observables.extend(finding.source_ips.iter().enumerate().map(|(i, ip)| {
        entry(format!("evidences[{}].src_endpoint.ip", i + 1), 2, "IP Address", &json!(ip))
    }));
    // The first resource is the principal, which is there already.
    observables.extend(resources.iter().enumerate().skip(1).map(|(i, resource)| {
        entry(format!("resources[{i}].uid"), 10, "Resource UID", &resource["uid"])
    }));
    observables
}

fn millis(at: Micros) -> i64 {
    at.div_euclid(1_000)
}

/// RFC 3339 with four digits of year, which is all that `datetime_t` can hold.
fn datetime(at: Micros) -> Option<String> {
    let text = format_instant(at);
    (text.as_bytes().get(4) == Some(&b'-') && text.ends_with('Z')).then_some(text)
}

/// The value without fields that say nothing: null, an empty list, an empty object. Items of
/// lists stay, because observables point at them by position.
fn without_absent(value: Value) -> Value {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(without_absent).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, field)| (name, without_absent(field)));
            Value::Object(fields.filter(|(_, field)| !says_nothing(field)).collect())
        }
        other => other,
    }
}
