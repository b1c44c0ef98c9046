//! What `check` and `run` refuse before anything is started.

use crate::run::Site;

fn source(kind: &str, settings: &str) -> String {
    format!("[[source]]\nkind = \"{kind}\"\n{settings}\n")
}

#[test]
fn a_file_that_run_reads_is_read_by_check() {
    let site = Site::new(&[]);
    std::fs::write(site.file("empty"), "\n").expect("it is written");
    std::fs::write(site.file("short"), "key").expect("it is written");
    for kind in ["http", "otlp_grpc"] {
        for (file, hint) in [
            ("missing", "cannot read the tokens in `missing`"),
            (".", "cannot read the tokens in `.`"),
            ("empty", "`empty` holds no token"),
        ] {
            let settings = source(kind, &format!("tokens_file = \"{file}\""));
            site.reconfigured(&settings).assert_refused(&settings, hint);
        }
    }
    let settings = "[redaction]\nkey_file = \"short\"\n";
    let hint = "cannot read the key file `short`: it does not hold 32 bytes";
    site.reconfigured(settings).assert_refused(settings, hint);
    // One that is missing is made, and not by `check`.
    site.reconfigured("[redaction]\nkey_file = \"new\"\n").tell(&["check"]);
    assert!(!site.file("new").exists());
}

#[test]
fn two_sources_at_one_address_are_refused() {
    for (one, other) in [
        (source("http", ""), source("http", "")),
        (source("http", ""), source("otlp_grpc", "listen = \"0.0.0.0:4318\"")),
        (source("syslog", "listen = \"127.0.0.1:4318\""), source("http", "")),
    ] {
        let settings = one + &other;
        let site = Site::new(&[]).configured(&settings);
        site.assert_refused(&settings, "two sources listen at the same address");
    }
    let apart = source("http", "") + &source("http", "listen = \"127.0.0.1:4319\"");
    Site::new(&[]).configured(&apart).tell(&["check"]);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let kafka = |settings: &str| source("kafka", settings);
    for (settings, hint) in [
        ("[scan]\nallowed_lateness = \"2h\"\n".to_owned(), "`[scan]` is above 1h"),
        ("[service]\nduplicate_horizon = \"0s\"\n".to_owned(), "`duplicate_horizon` in"),
        ("[service]\nduplicate_ids = 0\n".to_owned(), "`duplicate_ids` in `[service]` is 0"),
        ("[telemetry]\notlp = \"localhost:4318\"\n".to_owned(), "write it as `http://localhost"),
        (source("http", "body_bytes = 0"), "not between 1 and `delivery_bytes`"),
        (source("otlp_grpc", "body_bytes = 200000000"), "not between 1 and `delivery_bytes`"),
        (kafka("brokers = \"\"\ntopics = [\"a\"]"), "write them as `host:9092`"),
        (kafka("brokers = \"b:1,http://c:2\"\ntopics = [\"a\"]"), "write them as `host:9092`"),
        (kafka("brokers = \"b:1\"\ntopics = [\"\"]"), "has an empty topic"),
        (kafka("brokers = \"b:1\"\ntopics = [\"a\"]\ngroup = \"\""), "`group` of"),
        (source("files", "paths = [\".\"]"), "reads the service's own files"),
        (source("files", "paths = [\"**/*.json\"]"), "reads the service's own files"),
    ] {
        Site::with("", &[]).configured(&settings).assert_refused(&settings, hint);
    }
    // The default of `body_bytes` is in nobody's way.
    Site::with("", &[]).configured("[service]\ndelivery_bytes = 20000000\n").tell(&["check"]);
    let apart = source("files", "paths = [\".\"]\nexclude = [\"**/telltale-data/**\"]");
    Site::with("", &[]).configured(&apart).tell(&["check"]);
}
