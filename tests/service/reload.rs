//! A new configuration while the service runs, on SIGHUP.

use crate::run::{Running, Site, record, wait_until};
use std::path::Path;

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("it is written");
}

fn status(service: &Running, token: &str, number: usize) -> u16 {
    let shown = format!("Bearer {token}");
    let headers = [("authorization", shown.as_str())];
    let answer = service.post("/v1/logs/aws_cloudtrail", record(number).as_bytes(), &headers);
    answer.expect("the service answers").0
}

#[test]
fn on_sighup_tokens_and_settings_change_and_the_rest_is_named() {
    let site = Site::new(&[]);
    let (tokens, config) = (site.file("tokens"), site.file("telltale.toml"));
    write(&tokens, "first\n");
    let text = |service: &str, sink: &str| {
        format!(
            "[service]\n{service}\n[[source]]\nkind = \"http\"\ntokens_file = {tokens:?}\n[[sink]]\nkind = \"ndjson\"\npath = {sink:?}\n"
        )
    };
    write(&config, &text("flush_interval = \"1h\"", "one.ndjson"));
    let service = site.start();
    assert_eq!((status(&service, "first", 0), status(&service, "second", 0)), (200, 401));
    assert_eq!(service.metric("telltale_lake_entry", ""), 0.0);

    // Tokens, an interval and a sink change; the size of segments does not, and is named.
    write(&tokens, "second\n");
    write(&config, &text("flush_interval = \"100ms\"\nsegment_bytes = 100000", "two.ndjson"));
    service.hang_up();
    let is_read = || site.said().contains("the configuration was read again");
    wait_until("read again", is_read, || site.said());
    assert_eq!((status(&service, "first", 1), status(&service, "second", 1)), (401, 200));
    let is_flushed = || service.metric("telltale_lake_entry", "") >= 2.0;
    wait_until("in the lake", is_flushed, || site.said());
    let said = site.said();
    let warned: Vec<_> = said.lines().filter(|line| line.contains(" WARN telltale")).collect();
    let [warned] = warned[..] else { panic!("{said}") };
    assert!(warned.contains("segment_bytes in [service]") && warned.contains("restart"), "{said}");

    // What is not sound changes nothing, and neither does what is named by it.
    write(&tokens, "third\n");
    write(&config, &text("flush_intervall = \"1s\"", "two.ndjson"));
    service.hang_up();
    let is_refused = || site.said().contains("the old one stays in force");
    wait_until("refused", is_refused, || site.said());
    assert!(site.said().contains("flush_intervall"), "{}", site.said());
    assert_eq!((status(&service, "second", 2), status(&service, "third", 2)), (200, 401));

    // So does a file that is named and is not there.
    std::fs::remove_file(&tokens).expect("it is there");
    write(&config, &text("flush_interval = \"100ms\"", "two.ndjson"));
    service.hang_up();
    let is_refused = || site.said().contains("cannot read the tokens");
    wait_until("refused", is_refused, || site.said());
    assert_eq!(status(&service, "second", 3), 200);
    service.stop();
    assert_eq!(site.held().len(), 4);
}
