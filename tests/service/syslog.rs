//! Syslog as senders and operators see it.

use crate::run::{Site, free_port, record};
use std::io::Write;
use std::net::TcpStream;

/// A message as RFC 5424 has it.
fn message(app: &str, text: &str) -> String {
    format!("<134>1 2026-03-01T00:00:00.000Z web-1 {app} 4711 - - {text}")
}

fn counted(text: &str) -> String {
    format!("{} {text}", text.len())
}

fn vault(number: usize) -> String {
    format!(
        r#"{{"time":"2026-03-01T00:00:{number:02}.000000Z","type":"request","auth":{{"accessor":"hmac-sha256:1","display_name":"approle","policies":["default"],"entity_id":"e-1","token_type":"service"}},"request":{{"id":"00000000-0000-4000-8000-{number:012}","operation":"read","path":"secret/data/x","mount_type":"kv","remote_address":"192.0.2.1"}}}}"#
    )
}

#[test]
fn messages_of_either_form_and_framing_are_stored_and_rubbish_is_a_dead_letter() {
    let port = free_port();
    let tables = format!(
        "[[source]]\nkind = \"syslog\"\nlisten = \"127.0.0.1:{port}\"\nmessage_bytes = 200000\nparsers = {{ vault = \"hashicorp_vault_audit\" }}\n"
    );
    let site = Site::new(&[]).configured(&tables);
    let service = site.start();
    let mut first = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let long = record(2).replace("aws-cli/2.15", &"x".repeat(100_000));
    let too_long = record(3).replace("aws-cli/2.15", &"x".repeat(300_000));
    let stream = [
        counted(&message("aws", &record(0))),
        format!("<13>Mar  1 00:00:00 web-1 aws[12]: @cee: {}\n", record(1)),
        counted(&message("aws", &long)),
        counted(&message("aws", &too_long)),
        format!("{}\n", message("aws", &too_long)),
        format!("{}\n", message("vault", &vault(1))),
        // By its content it would not be known.
        format!("{}\n", message("vault", r#"{"time":"2026-03-01T00:00:09Z","a":1}"#)),
        // As Vault's socket device sends it.
        format!("{}\n", vault(2)),
        "PAR1 rubbish\n<13>1 cut\n\n\n".to_owned(),
        counted(&message("aws", &record(4))),
    ];
    first.write_all(stream.concat().as_bytes()).expect("it is sent");
    let mut second = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    second.write_all(b"\x1f\x8b\x08 \xff\n").expect("it is sent");
    second.write_all(record(5).as_bytes()).expect("it is sent");
    drop(second);
    site.wait_until_stored(7);
    // What the kernel holds when the service is told to stop.
    first.write_all(counted(&message("aws", &record(6))).as_bytes()).expect("it is sent");
    service.stop();
    assert_eq!(site.held().values().copied().collect::<Vec<_>>(), [1; 8]);
    let letters = site.query("SELECT reason, text, parser FROM dead_letters ORDER BY reason");
    let reasons: Vec<&str> =
        letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    let has = |part: &str| reasons.iter().filter(|reason| reason.contains(part)).count();
    assert_eq!(has("longer than 200000 bytes"), 2, "{reasons:?}");
    assert_eq!(has("no parser recognises the record"), 1, "{reasons:?}");
    assert_eq!(has("the header of RFC 5424 ends too early"), 1, "{reasons:?}");
    assert_eq!(has("not UTF-8 from byte 1 on"), 1, "{reasons:?}");
    assert_eq!(letters.len(), 6, "{reasons:?}");
    let of_vault = letters.iter().filter(|letter| letter["parser"] == "hashicorp_vault_audit");
    assert_eq!(of_vault.count(), 1, "{reasons:?}");
    assert!(letters.iter().all(|letter| letter["text"].as_str().is_some_and(|t| !t.is_empty())));
    let status = site.status();
    assert_eq!(status["residue"], 0);
    let of_syslog = status["sources"].as_array().and_then(|all| {
        all.iter()
            .find(|one| one["name"] == "syslog" && one["partition"] == format!("127.0.0.1:{port}"))
    });
    assert_eq!(of_syslog.map(|one| &one["received"]), Some(&14.into()), "{status}");
}
