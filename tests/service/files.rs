//! Folders of logs: what `telltale run` makes of them, and what it says of a wrong configuration.

use crate::run::{Site, record};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Relative to the site's folder, where the service is started.
const SOURCE: &str = r#"
[[source]]
kind = "files"
paths = ["logs/audit*.log*", "logs/trail"]
poll_interval = "20ms"
"#;

pub fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("it is opened");
    file.write_all(text.as_bytes()).expect("it is written");
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gzip.write_all(bytes).expect("memory can be written");
    gzip.finish().expect("memory can be written")
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| record(number) + "\n").collect()
}

#[test]
fn a_folder_of_rotated_logs_is_read_once_however_often_it_is_killed() {
    let site = Site::new(&[]).configured(SOURCE);
    let logs = site.folder().join("logs");
    fs::create_dir_all(logs.join("trail/2026")).expect("a folder is made");
    let log = logs.join("audit.log");
    append(&log, &lines(0..40));
    let document: Vec<_> = (200..220).map(record).collect();
    let document = format!("{{\"Records\":[{}]}}", document.join(","));
    fs::write(logs.join("trail/2026/a.json.gz"), gzip(document.as_bytes())).expect("written");
    fs::write(logs.join("other.log"), "not meant").expect("written");
    let service = site.start();
    append(&log, &lines(40..50));
    site.wait_until_stored(70);
    append(&log, &record(50)[..30]);
    service.kill();
    // Nobody looks while it grows, is rotated and compressed.
    append(&log, &format!("{}\nno event\n{}", &record(50)[30..], lines(51..60)));
    fs::write(logs.join("audit.log.2.gz"), gzip(&fs::read(&log).expect("it is there"))).expect("");
    fs::remove_file(&log).expect("it is removed");
    append(&log, &lines(60..80));
    let service = site.start();
    site.wait_until_stored(100);
    // Copied and truncated.
    fs::copy(&log, logs.join("audit.log.1")).expect("it is copied");
    OpenOptions::new().write(true).open(&log).and_then(|f| f.set_len(0)).expect("truncated");
    append(&log, &lines(80..90));
    site.wait_until_stored(110);
    service.kill();
    let service = site.start();
    append(&log, &lines(90..91));
    site.wait_until_stored(111);
    service.stop();
    let counted = site.query("SELECT count(*) AS n FROM events");
    assert_eq!(counted[0]["n"], 111);
    let letters = site.query("SELECT text, position, \"partition\" FROM dead_letters");
    let at = (lines(0..50).len() + record(50).len() + 1) as u64;
    assert_eq!((&letters[0]["text"], &letters[0]["position"]), (&"no event".into(), &at.into()));
    assert_eq!(letters.len(), 1);
    let status = site.status();
    assert_eq!(status["residue"], 0);
    let sources = status["sources"].as_array().expect("sources");
    let partition = |source: &Value| source["partition"].as_str().unwrap_or_default().to_owned();
    assert!(sources.iter().any(|source| partition(source).starts_with("audit.log#")), "{status}");
    assert!(sources.iter().any(|source| partition(source).starts_with("a.json.gz#")), "{status}");
    assert!(sources.iter().all(|source| source["duplicate"] == 0), "{status}");
}

#[test]
fn a_mistake_in_the_settings_of_files_is_named() {
    for (settings, hint) in [
        ("paths = []", "names no `paths`; name folders, files or globs"),
        ("", "missing field `paths`"),
        ("paths = [\"/var/log/[a\"]", "`/var/log/[a` is not a glob"),
        ("paths = [\"a\"]\nexclude = [\"{\"]", "`{` is not a glob"),
        ("paths = [\"a\"]\nparser = \"kubernetes_audt\"", "did you mean `kubernetes_audit`?"),
        ("paths = [\"a\"]\nread_from = \"start\"", "`beginning`"),
        ("paths = [\"a\"]\npoll_interval = \"0s\"", "below 10ms"),
        ("paths = [\"a\"]\nfollow = true", "unknown field `follow`"),
    ] {
        let site =
            Site::new(&[]).configured(&format!("[[source]]\nkind = \"files\"\n{settings}\n"));
        site.assert_refused(settings, hint);
    }
    let site = Site::new(&[]).configured(SOURCE);
    let output = site.command(&["check"]).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("sources files logs/audit*.log* logs/trail"), "{said}");
}
