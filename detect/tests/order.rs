//! Events that belong together may come in any order within the lateness: the findings are those of
//! the order of time.

mod estate;
mod support;

use estate::{Random, START};
use std::collections::BTreeMap;
use support::{Record, run};
use telltale_detect::Engine;
use telltale_schema::time::{DAY, HOUR, MINUTE, SECOND, format_instant};
use telltale_schema::{Finding, Micros, Severity};

const ACCOUNT: &str = "111122223333";
const BOTO: &str = "Boto3/1.34.11 Python/3.11 Linux/5.15 Botocore/1.34";
const CLI: &str = "aws-cli/2.9.1 Python/3.9 Linux/6.1 exe/x86_64";
const BROWSER: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Safari/605";

/// Events of one small story.
#[derive(Default)]
struct Story {
    records: Vec<Record>,
}

/// Who acts, with what, from where.
#[derive(Clone)]
struct Hand {
    principal: String,
    credential: String,
    session: Option<String>,
    address: String,
    tool: &'static str,
}

impl Hand {
    fn new(principal: &str, credential: &str, address: &str, tool: &'static str) -> Self {
        Self {
            principal: format!("arn:aws:iam::{ACCOUNT}:{principal}"),
            credential: credential.to_owned(),
            session: None,
            address: address.to_owned(),
            tool,
        }
    }

    fn instance(name: &str, credential: &str, address: &str, tool: &'static str) -> Self {
        let session = Some(format!("i-0abc{name}"));
        Self { session, ..Self::new("role/fleet", credential, address, tool) }
    }
}

impl Story {
    fn act(&mut self, at: Micros, hand: &Hand, operation: &str) -> &mut Record {
        let number = self.records.len() as u64 + 1;
        let (kind, service) = match operation {
            "AttachRolePolicy" | "AttachUserPolicy" => ("policy_changed", "iam"),
            "CreateAccessKey" => ("credential_created", "iam"),
            "AssumeRole" => ("impersonation", "sts"),
            "StopLogging" => ("logging_changed", "cloudtrail"),
            _ => ("api_call", "s3"),
        };
        let target = match operation {
            "AttachRolePolicy" | "AttachUserPolicy" => Some(hand.principal.clone()),
            "CreateAccessKey" => Some("somebody".to_owned()),
            _ => None,
        };
        let record = Record {
            event_id: format!("{:016x}{number:016x}", Random(number).next()),
            event_time: format_instant(START + at),
            log: "aws_cloudtrail".to_owned(),
            tenant: Some(ACCOUNT.to_owned()),
            kind: kind.to_owned(),
            operation: Some(operation.to_owned()),
            service: Some(format!("{service}.amazonaws.com")),
            outcome: "success".to_owned(),
            principal_id: Some(hand.principal.clone()),
            principal_kind: "service_account".to_owned(),
            target_id: target,
            credential_id: Some(hand.credential.clone()),
            session_id: hand.session.clone(),
            source_ip: Some(hand.address.clone()),
            user_agent: Some(hand.tool.to_owned()),
            ..Record::default()
        };
        self.records.push(record.settle());
        self.records.last_mut().expect("one was pushed")
    }

    /// `hand` acts as a role; the credential that it gets.
    fn assume(&mut self, at: Micros, hand: &Hand, role: &str, credential: &str) -> Hand {
        let role = Hand::new(&format!("role/{role}"), credential, &hand.address, hand.tool);
        let record = self.act(at, hand, "AssumeRole");
        record.target_id = Some(role.principal.clone());
        record.issued_credential_id = Some(role.credential.clone());
        role
    }
}

fn by_id(findings: Vec<Finding>) -> BTreeMap<String, Finding> {
    findings.into_iter().map(|finding| (finding.id.clone(), finding)).collect()
}

/// The findings in order of time, after they were the same in `shuffles` other orders: those of a
/// detector that hears everything as late as it may, and those within shorter times.
fn check(mut records: Vec<Record>, shuffles: u64, story: &str) -> Vec<Finding> {
    records.sort_by_key(|record| (record.at, record.id));
    let expected = run(&records, 0);
    assert_eq!(by_id(run(&records, HOUR)), by_id(expected.clone()), "{story}: in order, waiting");
    for shuffle in 0..shuffles {
        let mut random = Random(shuffle);
        let late = [HOUR, 20 * MINUTE, MINUTE][shuffle as usize % 3];
        let mut mixed = records.clone();
        mixed.sort_by_cached_key(|record| (record.at + random.below(late), random.next()));
        let found = by_id(run(&mixed, HOUR));
        for finding in &expected {
            assert_eq!(found.get(&finding.id), Some(finding), "{story}, shuffle {shuffle}");
        }
        assert_eq!(found.len(), expected.len(), "{story}, shuffle {shuffle}: {found:#?}");
    }
    expected
}

fn loudest<'f>(findings: &'f [Finding], principal: &str) -> Option<&'f Finding> {
    let of = |finding: &&Finding| {
        finding.detector == "leaked_credential" && finding.principal_id.ends_with(principal)
    };
    findings.iter().filter(of).max_by_key(|finding| finding.severity)
}

#[test]
fn acts_count_for_whom_their_credential_leads_back_to_though_it_was_minted_later() {
    let mut story = Story::default();
    let user = Hand::new("user/ci", "AKIAROOT", "198.51.100.7", CLI);
    story.act(0, &user, "GetCallerIdentity");
    let role = story.assume(10 * MINUTE, &user, "deploy", "ASIAFIRST");
    let deeper = story.assume(12 * MINUTE, &role, "admin", "ASIASECOND");
    story.act(14 * MINUTE, &deeper, "AttachRolePolicy");
    story.act(16 * MINUTE, &deeper, "StopLogging");
    // What is minted after the last evidence is to be revoked as well.
    story.assume(30 * MINUTE, &role, "reader", "ASIATHIRD");
    story.act(3 * HOUR, &user, "ListBuckets");
    let found = check(story.records, 60, "minted");
    let finding = loudest(&found, "user/ci").expect("it leads back to the user");
    assert!(finding.severity.pages(), "{finding:#?}");
    assert_eq!(finding.child_credential_ids, ["ASIAFIRST", "ASIASECOND", "ASIATHIRD"]);
}

#[test]
fn an_instance_is_at_home_where_it_was_first_seen_though_that_comes_last() {
    let mut story = Story::default();
    let home = Hand::instance("00000001", "ASIAHOME", "52.20.10.5", BOTO);
    let away = Hand::instance("00000001", "ASIAHOME", "91.3.4.5", CLI);
    for minute in [0, 25, 50, 75] {
        story.act(minute * MINUTE, &home, "GetObject");
    }
    story.act(31 * MINUTE, &away, "GetCallerIdentity");
    story.act(33 * MINUTE, &away, "ListBuckets");
    story.act(4 * HOUR, &home, "GetObject");
    let found = check(story.records, 60, "stolen");
    let finding = loudest(&found, "role/fleet").expect("the instance is found");
    assert_eq!(finding.severity, Severity::High, "{finding:#?}");
    let place = finding.dimensions.iter().find(|dimension| dimension.name == "place");
    assert_eq!(place.map(|place| place.usual.as_str()), Some("52.20.10.0/24"));
}

#[test]
fn a_theft_that_is_over_is_no_finding_of_the_days_after_it() {
    let mut story = Story::default();
    let home = Hand::instance("00000001", "ASIAHOME", "52.20.10.5", BOTO);
    let away = Hand::instance("00000001", "ASIAHOME", "91.3.4.5", CLI);
    for hour in 0..6 * 24 {
        story.act(hour * HOUR, &home, "GetObject");
    }
    let theft = 30 * HOUR + 7 * MINUTE;
    for (minute, operation) in [(0, "GetCallerIdentity"), (2, "ListBuckets"), (63, "GetObject")] {
        story.act(theft + minute * MINUTE, &away, operation);
    }
    let found = check(story.records, 20, "over");
    assert!(loudest(&found, "role/fleet").is_some_and(|finding| finding.severity.pages()));
    let last = found.iter().map(|finding| finding.last_seen).max();
    assert!(last.is_some_and(|last| last < START + theft + 2 * DAY), "{found:#?}");
}

#[test]
fn of_several_credentials_the_one_is_named_in_whose_use_the_misuse_shows() {
    let mut story = Story::default();
    let own = Hand::new("role/deploy", "ASIAOWN", "52.20.10.5", BOTO);
    let thief = Hand::new("role/deploy", "ASIATHIEF", "45.9.8.7", CLI);
    for hour in 0..3 * 24 {
        story.act(hour * HOUR, &own, "GetObject");
    }
    // A new operation of its own, some hours before.
    story.act(73 * HOUR, &own, "PutObject");
    for (minute, operation) in
        [(0, "GetCallerIdentity"), (1, "ListUsers"), (2, "ListRoles"), (3, "CreateAccessKey")]
    {
        story.act(77 * HOUR + minute * MINUTE, &thief, operation);
    }
    story.act(78 * HOUR, &own, "GetObject");
    let found = check(story.records, 20, "accused");
    let finding = loudest(&found, "role/deploy").expect("the theft is found");
    assert!(finding.severity.pages(), "{finding:#?}");
    assert_eq!(finding.first_seen, START + 73 * HOUR);
    assert_eq!(finding.credential_id.as_deref(), Some("ASIATHIEF"));
}

#[test]
fn an_account_of_several_tenants_is_told_as_it_was_first_seen() {
    let mut story = Story::default();
    let hand = Hand::new("user/ci", "AKIAROOT", "198.51.100.7", CLI);
    for (minute, tenant) in [(0, "first"), (2, "second"), (4, "third")] {
        let operation = ["GetCallerIdentity", "AttachUserPolicy", "StopLogging"][minute / 2];
        story.act(minute as i64 * MINUTE, &hand, operation).tenant = Some(tenant.to_owned());
    }
    let found = check(story.records, 20, "tenants");
    let finding = loudest(&found, "user/ci").expect("the sequence is found");
    assert_eq!(finding.tenant.as_deref(), Some("first"));
}

#[test]
fn a_report_of_an_exposure_that_comes_late_counts_all_uses_since() {
    for exposed in ["arn:aws:iam::111122223333:user/ci", "AKIAROOT"] {
        let mut story = Story::default();
        let user = Hand::new("user/team/ci", "AKIAROOT", "198.51.100.7", CLI);
        story.act(0, &user, "ListBuckets");
        let report = story.act(MINUTE, &user, "ReportExposure");
        report.kind = "exposure_reported".to_owned();
        report.principal_id = Some("github.com".to_owned());
        (report.credential_id, report.target_id) = (None, Some(exposed.to_owned()));
        let role = story.assume(2 * MINUTE, &user, "deploy", "ASIAFIRST");
        story.act(3 * MINUTE, &user, "ListBuckets");
        story.act(4 * MINUTE, &role, "ListBuckets");
        let counted = |records: Vec<Record>| {
            let found = run(&records, 0);
            let finding = found.into_iter().find(|finding| finding.title.contains("exposed"));
            let finding = finding.expect("it is used after the report");
            (finding.event_count, finding.event_ids, finding.first_seen, finding.last_seen)
        };
        let in_time = counted(story.records.clone());
        // Beside the report: the user's uses, and those of what the credential minted.
        assert_eq!(in_time.0, if exposed == "AKIAROOT" { 4 } else { 3 });
        let report = story.records.remove(1);
        story.records.push(report.clone());
        assert_eq!(counted(story.records.clone()), in_time, "{exposed} is reported last");
        story.records.push(report);
        assert_eq!(counted(story.records), in_time, "{exposed} is reported twice");
    }
}

/// Two days of users that act as roles that act as others, of instances that are moved and stolen,
/// and of people at the same addresses.
fn random_story(seed: u64) -> Vec<Record> {
    let (mut story, mut random) = (Story::default(), Random(seed));
    let addresses = ["52.20.10.5", "52.20.11.9", "10.1.3.4", "10.1.4.4", "91.3.4.5", "45.9.8.7"];
    let tools = [BOTO, CLI, BROWSER, "curl/8.1", "aws-sdk-go/1.44.2 (go1.20; linux; amd64)"];
    let acts = ["GetObject", "ListBuckets", "GetCallerIdentity", "StopLogging", "CreateAccessKey"];
    for round in 0..16 {
        let begin = random.below(2 * DAY);
        let name = format!("user/u{}", random.below(4));
        let (address, tool) = (*random.pick(&addresses), *random.pick(&tools));
        let user = Hand::new(&name, &format!("AKIA{name}"), address, tool);
        let mut hands = vec![user];
        let mut at = begin;
        for step in 0..random.below(8) {
            at += random.below(12 * MINUTE);
            let hand = random.pick(&hands).clone();
            if random.chance(0.4) {
                let credential = format!("ASIA{round:04}{step:04}");
                let role = format!("r{}", random.below(3));
                hands.push(story.assume(at, &hand, &role, &credential));
            } else {
                let more = if hand.session.is_none() { "AttachUserPolicy" } else { "PutObject" };
                let operation = if random.chance(0.2) { more } else { *random.pick(&acts) };
                story.act(at, &hand, operation);
            }
        }
    }
    for instance in 0..4 {
        let name = format!("{instance:08}");
        let home = *random.pick(&addresses);
        let mut at = random.below(DAY);
        for _ in 0..30 {
            let pace = random.below(3) as usize;
            at += random.below([MINUTE, 10 * MINUTE, 2 * HOUR][pace]);
            let far = random.chance(0.25);
            let address = if far { *random.pick(&addresses) } else { home };
            let tool = if far { *random.pick(&tools) } else { BOTO };
            let hand = Hand::instance(&name, &format!("ASIA{name}"), address, tool);
            let operation = if random.chance(0.1) { "GetCallerIdentity" } else { "GetObject" };
            story.act(at + SECOND, &hand, operation);
        }
    }
    story.records
}

#[test]
fn random_stories_are_told_the_same_in_any_order() {
    let mut pages = 0;
    for seed in 0..40 {
        let found = check(random_story(seed), 6, &format!("story {seed}"));
        pages += found.iter().filter(|finding| finding.severity.pages()).count();
    }
    assert!(pages > 40, "only {pages} pages");
}

#[test]
fn an_engine_that_is_saved_between_an_act_and_its_minting_finds_the_same() {
    let mut records = random_story(3);
    records.sort_by_key(|record| (record.at, record.id));
    let expected = by_id(run(&records, 0));
    let mut random = Random(3);
    records.sort_by_cached_key(|record| (record.at + random.below(HOUR), record.id));
    let new = || Engine::new(telltale_detect::detectors::defaults(), HOUR);
    let (mut engine, mut told) = (new(), BTreeMap::new());
    for record in &records {
        engine.observe(&record.event());
        let mut saved = Vec::new();
        engine.save(&mut saved).expect("it is written to memory");
        told.extend(by_id(engine.take()));
        engine = new();
        engine.load(&saved).expect("it was saved by this version");
    }
    engine.finish();
    told.extend(by_id(engine.take()));
    assert_eq!(told, expected);
}
