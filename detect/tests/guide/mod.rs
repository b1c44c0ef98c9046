//! What `docs/guides/add-a-detector.md` shows is compiled, and finds what it says.
//!
//! It is a part of the crate, as the detectors are.

mod logging_switched_off;

use super::{Page, described, settings};
use crate::Engine;
use std::collections::BTreeMap;
use telltale_schema::time::{HOUR, parse_instant};
use telltale_schema::{Event, EventId, Finding, Kind, Outcome, PrincipalKind, Severity};

const GUIDE: &str = include_str!("../../../docs/guides/add-a-detector.md");
const ROLE: &str = "arn:aws:iam::111122223333:role/ci-deploy";

/// A change of the guide's event: what is replaced, and by what.
type Change<'a> = (&'a str, &'a str);

/// The first block of the guide in that language.
fn block(language: &str) -> &'static str {
    let (_, behind) = GUIDE.split_once(&format!("```{language}\n")).expect("the guide has one");
    behind.split_once("```").expect("a block ends").0
}

fn engine(settings: &str) -> Engine {
    let detector = (logging_switched_off::KIND.build)(settings.parse().expect("a table"));
    Engine::new(vec![detector.expect("settings that it has")], HOUR)
}

/// Shows the guide's event, changed.
fn show(engine: &mut Engine, changes: &[Change<'_>]) {
    let line = changes.iter().fold(block("json").to_owned(), |line, (from, to)| {
        assert!(line.contains(from), "{from} in {line}");
        line.replace(from, to)
    });
    let columns: BTreeMap<&str, &str> = serde_json::from_str(&line).expect("columns with text");
    let column = |name: &str| columns.get(name).copied();
    let of = |name: &str| column(name).expect("the guide's event has it");
    let id = u128::from_str_radix(of("event_id"), 16).expect("hexadecimal digits");
    let at = parse_instant(of("event_time")).expect("an instant");
    engine.observe(&Event {
        event_id: EventId(id.to_be_bytes()),
        tenant: column("tenant"),
        kind: Kind::from_text(of("kind")).expect("a kind"),
        operation: column("operation"),
        service: column("service"),
        outcome: Outcome::from_text(of("outcome")).expect("an outcome"),
        principal_id: column("principal_id"),
        principal_kind: PrincipalKind::from_text(of("principal_kind")).expect("a kind"),
        credential_id: column("credential_id"),
        source_ip: column("source_ip"),
        ..Event::new(of("log"), at)
    });
}

/// What is found in events one after another.
fn found(events: &[&[Change<'_>]]) -> Vec<Finding> {
    let mut engine = engine("");
    events.iter().for_each(|changes| show(&mut engine, changes));
    engine.finish();
    engine.take()
}

const LATER: [Change<'_>; 3] =
    [("000001\"", "000002\""), ("T09:00", "T09:20"), ("StopLogging", "DeleteTrail")];

#[test]
fn the_guide_shows_the_detector_that_is_compiled() {
    assert_eq!(block("rust"), include_str!("logging_switched_off.rs"));
}

#[test]
fn the_guides_event_fires_and_its_near_misses_are_quiet() {
    let findings = found(&[&[]]);
    let [finding] = findings.as_slice() else { panic!("one finding: {findings:#?}") };
    assert_eq!((finding.severity, finding.principal_id.as_str()), (Severity::High, ROLE));
    let sentence = format!(
        "Since 2026-03-02T09:00:00.000000Z {ROLE} has changed what is recorded: StopLogging."
    );
    assert_eq!(finding.sentence, sentence);
    assert_eq!(finding.event_ids, [EventId(1_u128.to_be_bytes())]);
    for (from, to) in [
        (r#""outcome":"success""#, r#""outcome":"denied""#),
        (r#""principal_kind":"role""#, r#""principal_kind":"human""#),
    ] {
        assert!(GUIDE.contains(&format!("`{to}`")), "the guide does not name {to}");
        assert_eq!(found(&[&[(from, to)]]), []);
    }
}

#[test]
fn what_comes_late_is_evidence_as_well() {
    let findings = found(&[&[], &LATER]);
    assert_eq!(findings, found(&[&LATER, &[]]));
    assert_eq!(findings, found(&[&LATER, &[], &[("000001\"", "000003\""), ("T09:00", "T09:30")]]));
    assert!(findings[0].sentence.ends_with("recorded: StopLogging, DeleteTrail."), "{findings:#?}");
}

#[test]
fn a_detector_that_was_saved_goes_on() {
    let (mut before, mut after, mut saved) = (engine(""), engine(""), Vec::new());
    show(&mut before, &[]);
    before.save(&mut saved).expect("it is written to memory");
    after.load(&saved).expect("it was saved by this version");
    show(&mut after, &LATER);
    assert_eq!(after.take(), found(&[&[], &LATER]));
}

#[test]
fn the_bound_holds_and_is_counted() {
    let mut engine = engine("max_episodes = 1");
    show(&mut engine, &[]);
    assert_eq!(engine.evicted_total(), 0);
    show(&mut engine, &[("ci-deploy", "another")]);
    assert_eq!(engine.evicted_total(), 1);
}
