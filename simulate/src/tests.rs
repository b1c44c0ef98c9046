//! What every estate holds, whatever its seed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;
use telltale_schema::time::parse_instant;

use super::*;

const LOGS: [&str; 6] = [
    "aws_cloudtrail",
    "gcp_audit",
    "kubernetes_audit",
    "okta_system_log",
    "hashicorp_vault_audit",
    "clearml",
];

fn small(seed: u64) -> Estate {
    Estate { seed, days: 2, identities: 70, ..Estate::default() }
}

/// The time that the text gives, by the rules of its log.
fn time_in(record: &Record) -> Option<Micros> {
    if record.log == "clearml" {
        let text = record.text.trim_start_matches('[');
        return parse_instant(text.split([']', 'Z']).next()?);
    }
    let json: Value = serde_json::from_str(&record.text).ok()?;
    let field = match record.log {
        "aws_cloudtrail" => "eventTime",
        "gcp_audit" => "timestamp",
        "kubernetes_audit" => "requestReceivedTimestamp",
        "okta_system_log" => "published",
        _ => "time",
    };
    parse_instant(json[field].as_str()?)
}

/// A member's text, without parsing all of the record.
fn member<'a>(text: &'a str, key: &str) -> &'a str {
    let found =
        text.split_once(&format!("\"{key}\":\"")).and_then(|(_, rest)| rest.split_once('"'));
    found.map_or("", |(value, _)| value)
}

/// Who acted, by the rules of its log; empty where the log does not say.
fn principal(record: &Record) -> String {
    let Ok(json) = serde_json::from_str::<Value>(&record.text) else { return String::new() };
    let who = match record.log {
        "aws_cloudtrail" => match json["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] {
            Value::String(ref role) => return role.clone(),
            _ => &json["userIdentity"]["arn"],
        },
        "gcp_audit" => &json["protoPayload"]["authenticationInfo"]["principalEmail"],
        "kubernetes_audit" => &json["user"]["username"],
        "okta_system_log" => &json["actor"]["alternateId"],
        _ => &json["auth"]["entity_id"],
    };
    who.as_str().unwrap_or_default().to_owned()
}

#[test]
fn same_seed_gives_the_same_bytes_and_another_does_not() {
    let records: Vec<Record> = small(5).stream().collect();
    assert!(small(5).stream().eq(records.iter().cloned()));
    let other: HashSet<String> = small(6).stream().map(|record| record.text).collect();
    let shared = records.iter().filter(|record| other.contains(&record.text)).count();
    assert_eq!(shared, 0, "seeds share records");
}

#[test]
fn records_are_in_order_on_one_line_and_say_their_own_time() {
    for seed in 0..2 {
        let estate = small(seed);
        let end = estate.start + i64::from(estate.days) * telltale_schema::time::DAY;
        let mut last = estate.start;
        let mut logs = BTreeSet::new();
        for record in estate.stream() {
            assert!((last..end).contains(&record.at), "{record:?}");
            last = record.at;
            assert!(!record.text.contains(['\n', '\r']));
            assert_eq!(time_in(&record), Some(record.at), "{}", record.text);
            logs.insert(record.log);
        }
        assert_eq!(logs, LOGS.into_iter().collect());
    }
}

#[test]
fn every_attack_is_labelled_within_its_span_and_by_its_principal() {
    for seed in [0, 3] {
        let estate = Estate { seed, ..Estate::default() };
        let attacks = estate.attacks();
        assert!(attacks.len() >= 13, "seed {seed} has {} attacks", attacks.len());
        let families: BTreeSet<&str> = attacks.iter().map(|attack| attack.family).collect();
        assert_eq!(families.len(), 3, "{families:?}");
        let victims: BTreeSet<&str> =
            attacks.iter().map(|attack| attack.principal_id.as_str()).collect();
        let mut found: BTreeMap<u32, (Micros, Micros, u32, bool)> = BTreeMap::new();
        for record in estate.stream() {
            let Some(id) = record.attack else { continue };
            let attack = &attacks[id as usize];
            let (first, last, count, named) =
                found.entry(id).or_insert((record.at, record.at, 0, false));
            *first = (*first).min(record.at);
            *last = (*last).max(record.at);
            *count += 1;
            *named |= principal(&record) == attack.principal_id
                || record.text.contains(&attack.principal_id);
        }
        assert!(victims.len() + 1 >= attacks.len(), "a victim has two attacks");
        for attack in &attacks {
            let (first, last, count, named) = found[&attack.id];
            assert_eq!((first, last), (attack.first_at, attack.last_at), "{attack:?}");
            assert!(named, "no record names the principal of {attack:?}");
            assert!((3..=1000).contains(&count), "{count} records of {attack:?}");
            let credential = attack.credential_id.as_deref().unwrap_or_default();
            assert!(!credential.contains("secret"), "{credential}");
        }
    }
}

#[test]
fn every_seed_has_attacks_of_each_family() {
    for seed in 100..130 {
        let attacks = Estate { seed, ..Estate::default() }.attacks();
        assert!((13..=20).contains(&attacks.len()), "seed {seed} has {} attacks", attacks.len());
        for family in ["impersonation_spike", "dormant_account", "leaked_credential"] {
            let count = attacks.iter().filter(|attack| attack.family == family).count();
            assert!(count >= 3, "seed {seed} has {count} of {family}");
        }
    }
}

#[test]
fn an_estate_without_attacks_labels_nothing() {
    let quiet = Estate { attacks: false, ..small(3) };
    assert!(quiet.attacks().is_empty());
    assert!(quiet.stream().all(|record| record.attack.is_none()));
}

#[test]
fn volumes_of_three_weeks_are_plausible() {
    let estate = Estate { seed: 11, ..Estate::default() };
    let mut identities: BTreeMap<String, u32> = BTreeMap::new();
    let (mut logs, mut ids) = (BTreeMap::new(), HashSet::new());
    let (mut total, mut twice, mut denied) = (0u32, 0u32, 0u32);
    for record in estate.stream() {
        total += 1;
        *logs.entry(record.log).or_insert(0u32) += 1;
        if total % 11 == 0 {
            *identities.entry(principal(&record)).or_default() += 11;
        }
        if record.log == "aws_cloudtrail" {
            twice += u32::from(!ids.insert(member(&record.text, "eventID").to_owned()));
            denied += u32::from(!member(&record.text, "errorCode").is_empty());
        }
    }
    assert!((150_000..1_500_000).contains(&total), "{total} records");
    let cloudtrail = f64::from(logs["aws_cloudtrail"]);
    assert!((0.015..0.025).contains(&(f64::from(twice) / cloudtrail)), "{twice} of {cloudtrail}");
    assert!((0.001..0.2).contains(&(f64::from(denied) / cloudtrail)), "{denied} of {cloudtrail}");
    assert!(logs.values().all(|count| *count > 300), "{logs:?}");
    let mut counts: Vec<u32> = identities.into_values().collect();
    counts.sort_unstable();
    assert!(counts.len() > 100, "{} identities", counts.len());
    // Few are loud, many are quiet, some act only a few times.
    assert!(counts[counts.len() / 10] < 400 && counts[counts.len() / 2] < 4000, "{counts:?}");
}

#[test]
fn hard_negatives_name_identities_within_the_window() {
    let mut kinds = BTreeSet::new();
    for seed in 0..6 {
        let estate = Estate { seed, ..Estate::default() };
        let end = estate.start + i64::from(estate.days) * telltale_schema::time::DAY;
        for negative in estate.hard_negatives() {
            assert!(negative.from < end && negative.from < negative.to, "{negative:?}");
            assert!(
                negative.name == "holiday" || !negative.principal_ids.is_empty(),
                "{negative:?}"
            );
            kinds.insert(negative.name);
        }
    }
    assert!(kinds.len() >= 22, "{kinds:?}");
}

#[test]
fn smallest_and_longest_estates_work() {
    let tiny = Estate { seed: 1, days: 1, identities: 1, ..Estate::default() };
    assert!(tiny.stream().count() > 100);
    let none = Estate { days: 0, ..tiny.clone() };
    assert_eq!(none.stream().count(), 0);
    let year = Estate { days: 200, identities: 60, ..tiny };
    let names: BTreeSet<String> = (0..12)
        .flat_map(|seed| Estate { seed, ..year.clone() }.attacks())
        .map(|attack| attack.name)
        .collect();
    assert!(names.contains("silent_for_a_quarter"), "{names:?}");
}
