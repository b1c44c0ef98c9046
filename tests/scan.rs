//! What a user sees of `telltale`, on files written here.

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use proptest::prelude::*;
use serde_json::Value;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use support::Server;
use telltale::analysis::{Gather, analyse};
use telltale::config::Config;
use telltale::pipeline::{Progress, Reading};
use telltale_detect::timeline::Timeline;
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::sources::{Files, Limits};
use telltale_schema::ocsf;
use telltale_simulate::Estate;

fn telltale(state: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telltale"));
    command.args(arguments).env("XDG_STATE_HOME", state).env_remove("TELLTALE_CONFIG");
    command.stdin(Stdio::null()).output().unwrap()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|cause| panic!("{cause}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn record(id: u32) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/ci","accountId":"111122223333","accessKeyId":"AKIAEXAMPLE000000CI1","userName":"ci"}},"eventTime":"2026-01-05T10:00:{:02}Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"eu-west-1","sourceIPAddress":"203.0.113.9","userAgent":"aws-cli/2","requestParameters":{{"password":"correct horse"}},"responseElements":null,"eventID":"3f1c9a52-2a0e-4a53-9a5b-{id:012}","recipientAccountId":"111122223333"}}"#,
        id % 60
    )
}

/// An estate's logs in a folder, each log cut into files that overlap in nothing.
fn estate(folder: &Path, files_of_each: usize) -> Vec<String> {
    let estate = Estate { seed: 5, days: 2, identities: 60, ..Estate::default() };
    let mut files = std::collections::BTreeMap::new();
    for (number, record) in estate.stream().enumerate() {
        let name = format!("{}-{}.log", record.log, number % files_of_each);
        let path = folder.join(name);
        let file = files
            .entry(path.clone())
            .or_insert_with(|| std::io::BufWriter::new(std::fs::File::create(path).unwrap()));
        writeln!(file, "{}", record.text).unwrap();
    }
    files
        .into_iter()
        .map(|(path, mut file)| {
            file.flush().unwrap();
            path.display().to_string()
        })
        .collect()
}

/// Findings and SLIs as they are printed.
fn scan(mut paths: Vec<String>, order: u64, threads: usize, block_bytes: usize) -> String {
    // Any order will do that is not the sorted one.
    paths.sort_by_key(|path| {
        path.bytes().fold(order, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
    });
    let mut files = Files::default();
    for path in &paths {
        files.files.extend(Files::expand(std::slice::from_ref(path)).unwrap().files);
    }
    let timeline = Mutex::new(Timeline::default());
    let reading = Reading {
        files,
        forced: None,
        redactor: &Redactor::new(&Key::from_bytes([1; 32])),
        received_at: 1,
        threads,
        limits: Limits { block_bytes, ..Limits::default() },
        progress: Arc::new(Progress::default()),
    };
    let intake = reading.run(|| Gather::new(&timeline));
    let mut timeline = timeline.into_inner().unwrap();
    timeline.sort(threads);
    let analysis = analyse(&timeline, &Config::default(), threads).unwrap();
    let findings: Vec<_> = analysis.findings.iter().map(ocsf::detection_finding).collect();
    assert_eq!(intake.rejected, 0, "{:?}", intake.rejects);
    serde_json::to_string(&(findings, analysis.slis)).unwrap()
}

#[test]
fn order_of_files_size_of_blocks_and_threads_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let paths = estate(folder.path(), 3);
    let expected = scan(paths.clone(), 0, 1, 2 << 20);
    assert!(expected.contains("finding_info"), "the estate's attacks are found");
    let settings =
        ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(settings, |(order in any::<u64>(), threads in 1usize..5, block_bytes in 2000usize..500_000)| {
        prop_assert!(scan(paths.clone(), order, threads, block_bytes) == expected);
    });
}

#[test]
fn exit_status_tells_findings_from_failures() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.json");
    std::fs::write(&good, record(1)).unwrap();
    let quiet = telltale(folder.path(), &["scan", "--output", "json", good.to_str().unwrap()]);
    assert_eq!(quiet.status.code(), Some(0));
    assert_eq!(document(&quiet)["events"]["kept"], 1);

    let missing = telltale(folder.path(), &["scan", "/nonexistent/folder"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("`/nonexistent/folder` does not exist")
    );

    let logs = tempfile::tempdir().unwrap();
    estate(logs.path(), 1);
    let lines = folder.path().join("findings.jsonl");
    let found = telltale(
        folder.path(),
        &["scan", "--findings", lines.to_str().unwrap(), logs.path().to_str().unwrap()],
    );
    assert_eq!(found.status.code(), Some(1));
    let text = std::fs::read_to_string(lines).unwrap();
    let uids: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["finding_info"]["uid"].clone())
        .collect();
    assert!(!uids.is_empty());
    let report = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(uids.iter().all(|uid| report.contains(uid.as_str().unwrap())), "each is in the report");
    assert!(!report.contains('\u{1b}'), "no colours where no terminal is");
}

#[test]
fn a_sink_that_is_away_keeps_the_findings_from_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, lines) = (folder.path().join("logs"), folder.path().join("findings.ndjson"));
    std::fs::create_dir(&logs).unwrap();
    estate(&logs, 1);
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let up = Server::start(&[]);
    let config = folder.path().join("telltale.toml");
    let configured = |urls: &[String]| {
        let text = format!(
            "[[sink]]\nkind = \"alertmanager\"\nurls = {urls:?}\n[[sink]]\nkind = \"ndjson\"\npath = {lines:?}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_telltale"));
        command.args(["scan", "--no-progress", "--config"]).arg(&config).arg(&logs);
        command.env("XDG_STATE_HOME", folder.path()).env_remove("TELLTALE_CONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let told = || std::fs::read_to_string(&lines).unwrap_or_default().lines().count();

    let away = format!("http://{away}");
    let output = configured(std::slice::from_ref(&away)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("could not reach"), "{said}");
    assert!(said.contains("the findings did not reach the sinks `alertmanager`"), "{said}");
    let findings = told();
    assert!(findings > 0, "{said}");

    // One member of two took them: they are delivered, and held until somebody ends it.
    let child = configured(&[away, up.url()]).spawn().unwrap();
    let [delivered, held] = [up.next(), up.next()].map(|request| request.body);
    assert_eq!(delivered, held);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("holding alerts") && said.contains("could not reach"), "{said}");
    assert_eq!(told(), 2 * findings);
}

/// The program as somebody whom permissions bind, which root is not. Its files go to `folder`.
fn bound_by_permissions(folder: &Path) -> Command {
    if std::fs::read(folder.join("logs/locked.log")).is_err() {
        return Command::new(env!("CARGO_BIN_EXE_telltale"));
    }
    // Where the program was built, nobody else may be able to look.
    let program = folder.join("telltale");
    let built = env!("CARGO_BIN_EXE_telltale");
    if !program.exists() {
        std::fs::hard_link(built, &program)
            .or_else(|_| std::fs::copy(built, &program).map(drop))
            .expect("the program can be copied");
    }
    let mut command = Command::new(program);
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    command
}

#[test]
fn what_may_not_be_read_is_a_reject_and_what_lies_beside_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    std::fs::create_dir_all(logs.join("closed")).unwrap();
    let names = ["a.log", "closed/b.log", "locked.log", "z.log"];
    for (number, name) in names.iter().enumerate() {
        std::fs::write(logs.join(name), record(number as u32)).unwrap();
    }
    let allow = |path: &Path, mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, permissions).unwrap();
    };
    allow(folder.path(), 0o755);
    allow(&logs.join("closed"), 0);
    allow(&logs.join("locked.log"), 0);
    let scanned = |paths: &[&str], status| {
        let output = bound_by_permissions(folder.path())
            .args(["scan", "--output", "json"])
            .args(paths.iter().map(|path| folder.path().join(path)))
            .env("TELLTALE_REDACTION_KEY", "a passphrase")
            .env_remove("TELLTALE_CONFIG")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert_eq!(said.contains("nothing that was named can be read; `"), status == 2, "{said}");
        document(&output)
    };
    // There is nothing to find in what is left.
    let all = scanned(&["logs"], 0);
    let named = scanned(&["logs/closed/b.log", "logs/closed/*.log", "logs/a.log"], 0);
    let closed = scanned(&["logs/closed/b.log", "logs/closed/*.log"], 2);
    let locked = scanned(&["logs/locked.log"], 2);
    allow(&logs.join("closed"), 0o755);
    let cases = [
        (all, vec!["logs/closed", "logs/locked.log"], 2),
        (named, vec!["logs/closed", "logs/closed/b.log"], 1),
        (closed, vec!["logs/closed", "logs/closed/b.log"], 0),
        (locked, vec!["logs/locked.log"], 0),
    ];
    for (said, names, kept) in cases {
        let rejects: Vec<_> = said["rejects"].as_array().unwrap().iter().collect();
        assert_eq!(rejects.len(), names.len(), "{rejects:?}");
        for (reject, name) in rejects.iter().zip(names) {
            assert!(reject["path"].as_str().unwrap().ends_with(name), "{reject}");
            assert!(reject["reason"].as_str().unwrap().contains("Permission denied"), "{reject}");
        }
        assert_eq!(
            (&said["events"]["kept"], &said["events"]["read"]),
            (&kept.into(), &kept.into())
        );
    }
}

#[test]
fn a_bad_file_is_a_reject_and_the_good_one_beside_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("half.json", record(2).into_bytes()[..300].to_vec(), "cut off"),
        ("binary.bin", [0, 1, 2, 255].repeat(5000), "binary"),
        ("notes.txt", b"nothing of interest\n".to_vec(), "no parser recognises"),
        (
            "not-utf8.json",
            [record(3).as_bytes(), b"\n\xff\xfe\x80 no text\n"].concat(),
            "not UTF-8",
        ),
        ("bomb.json", [[b'['; 100_000], [b']'; 100_000]].concat(), "no parser recognises"),
        (
            "long.json",
            format!("{{\"eventName\":\"{}\"}}", "x".repeat(40 << 20)).into_bytes(),
            "longer than 16 MiB",
        ),
    ];
    for (name, bytes, reason) in cases {
        let logs = folder.path().join(name.replace('.', "_"));
        std::fs::create_dir(&logs).unwrap();
        std::fs::write(logs.join("good.json"), record(1)).unwrap();
        std::fs::write(logs.join(name), bytes).unwrap();
        let output = telltale(folder.path(), &["scan", "--output", "json", logs.to_str().unwrap()]);
        let said = document(&output);
        let events = &said["events"];
        let count = |name: &str| events[name].as_u64().unwrap();
        assert!(count("kept") >= 1, "{name}: {said}");
        assert_eq!(count("read"), count("kept") + count("duplicate") + count("rejected"), "{name}");
        let rejects = said["rejects"].as_array().unwrap();
        let named = rejects.iter().any(|reject| {
            reject["path"].as_str().unwrap().ends_with(name)
                && reject["reason"].as_str().unwrap().contains(reason)
        });
        assert!(named, "{name}: {rejects:?}");
        assert_eq!(output.status.code(), Some(0), "{name}");
    }
}

#[test]
fn repeats_are_counted_and_secrets_are_printed_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.json");
    std::fs::write(&path, format!("{}\n{}\n{}\n", record(1), record(2), record(1))).unwrap();
    let path = path.to_str().unwrap();
    let events =
        document(&telltale(folder.path(), &["scan", "--output", "json", path]))["events"].clone();
    assert_eq!(
        (&events["read"], &events["duplicate"], &events["kept"]),
        (&3.into(), &1.into(), &2.into())
    );

    let parsed = telltale(folder.path(), &["parse", path]);
    let text = String::from_utf8(parsed.stdout).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("redacted:") && !text.contains("correct horse"));

    let sql = "SELECT principal_id, count(*) AS calls FROM events GROUP BY 1";
    let rows = document(&telltale(folder.path(), &["query", "--output", "json", sql, path]));
    assert_eq!(rows[0]["calls"], 2);
}

#[test]
fn every_listed_name_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    for what in ["parsers", "detectors", "slis", "sinks"] {
        let list = String::from_utf8(telltale(folder.path(), &["list", what]).stdout).unwrap();
        assert!(list.lines().count() > 0, "{what}");
        for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
            let page = telltale(folder.path(), &["explain", name]);
            assert!(page.status.success() && page.stdout.len() > 100, "{name}");
        }
    }
    let unknown = telltale(folder.path(), &["explain", "dormant_acount"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean `dormant_account`?"));
}
