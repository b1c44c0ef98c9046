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
