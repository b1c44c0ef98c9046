//! Standard input as a source.

use crate::run::{Site, record};

#[test]
fn an_archive_is_stored_once_and_the_service_ends() {
    let site = Site::new(&[]);
    let lines = |range: std::ops::Range<usize>| range.map(|n| record(n) + "\n").collect::<String>();
    let input = format!("{}no event\n{}", lines(0..3000), lines(3000..5000));
    let packed = zstd::encode_all(input.as_bytes(), 3).expect("memory can be written");
    let (status, said) = site.feed(&packed);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(site.held().len(), 5000);
    let letters = site.query("SELECT position, text, source FROM dead_letters");
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["position"], &letters[0]["text"]), (&3001.into(), &"no event".into()));
    // The same again, as after a kill, and a document behind it.
    let document = format!("{{\"Records\":[{}]}}", [record(4999), record(5000)].join(","));
    assert_eq!(site.feed(input.as_bytes()).0, Some(0));
    assert_eq!(site.feed(document.as_bytes()).0, Some(0));
    assert_eq!(site.held().values().copied().collect::<Vec<_>>(), vec![1; 5001]);
    let status = site.status();
    assert_eq!(status["residue"], 0);
    assert_eq!(status["sources"][0]["duplicate"], 5001, "{status}");
}

#[test]
fn beside_other_sources_its_end_ends_nothing() {
    let site = Site::new(&["--stdin"]);
    let service = site.start();
    let answer = service.post("/v1/logs/aws_cloudtrail", record(1).as_bytes(), &[]);
    assert_eq!(answer.map(|(status, _)| status), Some(200));
    service.stop();
    assert!(site.said().contains("standard input is read"), "{}", site.said());
    assert_eq!(site.held().len(), 1);
}
