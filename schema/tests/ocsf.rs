//! Findings as OCSF: against a finding written out by hand, and against OCSF's own schema where a
//! copy of it is at hand.

mod ocsf_schema;

use ocsf_schema::Schema;
use serde_json::Value;
use std::path::PathBuf;
use telltale_schema::ocsf::{detection_finding, ndjson_line};
use telltale_schema::time::parse_instant;
use telltale_schema::{Dimension, EventId, Finding, PrincipalKind, Severity};

fn at(text: &str) -> i64 {
    parse_instant(text).expect("a test's instant is RFC 3339")
}

/// A finding that says everything there is to say.
fn full() -> Finding {
    Finding {
        id: "5f1d7c0a9be24f6688b1a4a1c0d3e2f4".into(),
        detector: "leaked_credential".into(),
        severity: Severity::Critical,
        title: "Key of ci-deploy used from an unknown network".into(),
        sentence: "AKIAEXAMPLEEXAMPLE00 of ci-deploy was used from 203.0.113.9 and minted a key."
            .into(),
        next_steps: vec!["Deactivate AKIAEXAMPLEEXAMPLE00.".into(), "Revoke its children.".into()],
        log: "aws_cloudtrail".into(),
        tenant: Some("123456789012".into()),
        principal_id: "arn:aws:iam::123456789012:user/ci-deploy".into(),
        principal_kind: PrincipalKind::ServiceAccount,
        credential_id: Some("AKIAEXAMPLEEXAMPLE00".into()),
        child_credential_ids: vec!["ASIAEXAMPLECHILD0001".into()],
        target_ids: vec!["arn:aws:iam::123456789012:role/admin".into()],
        source_ips: vec!["203.0.113.9".into(), "2001:db8::7".into()],
        operations: vec!["GetCallerIdentity".into(), "CreateAccessKey".into()],
        raised_at: at("2026-01-05T10:00:00.123456Z"),
        first_seen: at("2026-01-05T09:59:58Z"),
        last_seen: at("2026-01-05T10:02:00Z"),
        dimensions: vec![
            Dimension {
                name: "network".into(),
                observed: "203.0.113.9".into(),
                usual: "198.51.100.0/24".into(),
                probability: Some(0.0001),
            },
            Dimension {
                name: "sequence".into(),
                observed: "who-am-I, then keys for itself".into(),
                usual: String::new(),
                probability: None,
            },
        ],
        event_ids: vec![EventId([0x11; 16]), EventId([0x22; 16])],
        event_count: 7,
        attack: Finding::ids(&["T1078.004", "T1528"]),
        owasp_nhi: Finding::ids(&["NHI2:2025"]),
    }
}

/// A finding that says as little as it may.
fn bare() -> Finding {
    Finding {
        severity: Severity::Informational,
        detector: "dormant_account".into(),
        next_steps: Vec::new(),
        tenant: None,
        principal_kind: PrincipalKind::Unknown,
        credential_id: None,
        child_credential_ids: Vec::new(),
        target_ids: Vec::new(),
        source_ips: Vec::new(),
        operations: Vec::new(),
        dimensions: Vec::new(),
        event_ids: Vec::new(),
        attack: Vec::new(),
        owasp_nhi: Vec::new(),
        ..full()
    }
}

#[test]
fn finding_becomes_the_event_written_by_hand() {
    let expected = include_str!("../fixtures/detection_finding.json");
    let mut expected: Value = serde_json::from_str(expected).expect("the fixture is JSON");
    // The one thing that changes with a release and not with the finding.
    let version = Value::from(env!("CARGO_PKG_VERSION"));
    expected["metadata"]["product"]["version"] = version.clone();
    expected["finding_info"]["analytic"]["version"] = version;
    let event = detection_finding(&full());
    assert_eq!(event, expected, "{event:#}");
}

#[test]
fn line_is_one_line_and_the_same_each_time() {
    let line = ndjson_line(&full());
    assert_eq!(line, ndjson_line(&full()));
    assert_eq!(line.find('\n'), Some(line.len() - 1));
    let event: Value = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(event, detection_finding(&full()));
}

#[test]
fn what_a_finding_does_not_say_is_left_out() {
    let event = detection_finding(&bare());
    assert_eq!(event.get("anomaly_analyses"), None);
    assert_eq!(event["finding_info"]["analytic"]["type"], "Rule");
    assert_eq!(event["finding_info"].get("attacks"), None);
    assert_eq!(event["finding_info"].get("tags"), None);
    assert_eq!(event["metadata"].get("tenant_uid"), None);
    assert_eq!(event["is_alert"], false);
    assert_eq!(event["remediation"]["desc"], "Follow dashboards/runbooks/dormant_account.md.");
    assert_eq!(event["evidences"].as_array().map(Vec::len), Some(1));
    assert!(!event.to_string().contains("null"));
}

#[test]
fn unknown_technique_keeps_its_id() {
    let event = detection_finding(&Finding { attack: Finding::ids(&["T9999.001"]), ..bare() });
    assert_eq!(
        event["finding_info"]["attacks"],
        serde_json::json!([
            { "technique": { "uid": "T9999" }, "sub_technique": { "uid": "T9999.001" } }
        ])
    );
}

#[test]
fn instant_outside_the_calendar_has_no_text_form() {
    let event = detection_finding(&Finding { raised_at: i64::MAX, ..bare() });
    assert_eq!(event["time"], i64::MAX / 1_000);
    assert_eq!(event.get("time_dt"), None);
}

/// Every attribute is one of its class or object, has its type, its enumerated values and their
/// captions, and nothing required is missing. A copy of the schema's repository is looked for in
/// `$TELLTALE_CORPORA/ocsf-schema`; without one there is nothing to check against.
#[test]
fn findings_agree_with_the_schema_of_ocsf() {
    let Some(schema) = schema() else { return };
    for principal_kind in PrincipalKind::ALL {
        for finding in [full(), bare()] {
            for severity in Severity::ALL {
                let finding = Finding {
                    principal_kind: *principal_kind,
                    severity: *severity,
                    ..finding.clone()
                };
                let event = detection_finding(&finding);
                assert_eq!(schema.faults(&event), Vec::<String>::new(), "{event:#}");
            }
        }
    }
}

#[test]
fn check_against_the_schema_sees_each_kind_of_fault() {
    let Some(schema) = schema() else { return };
    let cases: [(&str, Value, &str); 10] = [
        ("/type_uid", 200_402.into(), "is not 200401"),
        ("/principal", "x".into(), "is not an attribute"),
        ("/severity_id", 7.into(), "is not one of its values"),
        ("/severity", "Low".into(), "is not the caption"),
        ("/time", "2026-01-05T10:00:00Z".into(), "is not timestamp_t"),
        ("/time_dt", "yesterday".into(), "is not datetime_t"),
        ("/finding_info/uid", Value::Null, "is required"),
        ("/evidences/1/src_endpoint/ip", "AWS Internal".into(), "is not ip_t"),
        ("/comment", "x".into(), "is deprecated"),
        ("/observables/1/value", "198.51.100.1".into(), "points at"),
    ];
    for (pointer, value, fault) in cases {
        let mut event = detection_finding(&full());
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
        let object = event.pointer_mut(parent).and_then(Value::as_object_mut);
        let object = object.expect("the parent is an object");
        match value {
            Value::Null => object.remove(name),
            value => object.insert(name.into(), value),
        };
        let faults = schema.faults(&event);
        assert!(faults.iter().any(|f| f.contains(fault)), "{pointer}: {faults:?}");
    }
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn schema() -> Option<Schema> {
    let corpora = std::env::var_os("TELLTALE_CORPORA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora"),
        PathBuf::from,
    );
    let schema = Schema::open(&corpora.join("ocsf-schema"));
    if schema.is_none() {
        eprintln!("not checked against OCSF's schema: none at {}", corpora.display());
    }
    schema
}
