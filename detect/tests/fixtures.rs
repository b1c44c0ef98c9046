//! Every fixture of every detector: `fires_*` pages or tickets by its detector, `quiet_*` pages
//! nobody by any.

mod support;

use std::path::Path;
use telltale_schema::{Finding, Severity};

/// Findings of the default detectors over one fixture, in order of time.
fn check(path: &Path) -> Vec<Finding> {
    let text = std::fs::read_to_string(path).expect("the fixture is readable");
    let mut records = support::read(&text);
    records.sort_by_key(|record| (record.at, record.id));
    support::run(&records, 0)
}

#[test]
fn fixtures_say_what_their_names_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for kind in telltale_detect::detectors::KINDS {
        let mut counts = [0, 0];
        let folder = std::fs::read_dir(root.join(kind.name)).expect("a folder for each detector");
        let mut paths: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let findings = check(&path);
            let loudest = |detector: &str| {
                let of = findings.iter().filter(|finding| finding.detector == detector);
                of.map(|finding| finding.severity).max()
            };
            if name.starts_with("fires_ticket") {
                counts[0] += 1;
                assert_eq!(loudest(kind.name), Some(Severity::Medium), "{name}: {findings:#?}");
            } else if name.starts_with("fires_") {
                counts[0] += 1;
                assert!(loudest(kind.name).is_some_and(|s| s.pages()), "{name}: {findings:#?}");
            } else {
                assert!(name.starts_with("quiet_"), "{name} is neither fires_ nor quiet_");
                counts[1] += 1;
                assert!(!findings.iter().any(|f| f.severity.pages()), "{name}: {findings:#?}");
            }
        }
        assert!(counts[0] >= 3 && counts[1] >= 3, "{} lacks fixtures: {counts:?}", kind.name);
    }
}
