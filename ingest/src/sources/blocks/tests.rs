//! What comes out of streams of every form, whole, torn and foreign.

use super::beginning::SAMPLE_RECORDS;
use super::*;
use crate::payload::Payload;
use std::io::Write;

const RECORD: &str = r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser"},"eventSource":"s3.amazonaws.com","eventName":"ListBuckets","n":0}"#;

/// Records, rejects and remarks of a stream read in blocks of `block_bytes`.
fn read(bytes: &[u8], block_bytes: usize) -> (Vec<(u64, String)>, Vec<String>) {
    let limits = Limits { block_bytes, record_bytes: 4096 };
    let bytes = io::Cursor::new(bytes.to_vec());
    all_of(BlockReader::new("x", bytes, None, limits, Arc::default()).unwrap())
}

fn all_of(mut reader: BlockReader) -> (Vec<(u64, String)>, Vec<String>) {
    let (mut rejects, mut records) = (Rejects::default(), vec![]);
    while let Some((block, _)) = reader.next_block(&mut rejects) {
        let payload = Payload::unredacted(block, &mut rejects);
        records.extend(payload.records().map(|(at, text)| (at, text.to_owned())));
    }
    let said = rejects.into_sorted();
    (
        records,
        said.into_iter().map(|r| format!("{}×{}: {}", r.count, r.position, r.reason)).collect(),
    )
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| RECORD.replace("\"n\":0", &format!("\"n\":{n}"))).collect()
}

#[test]
fn records_and_positions_do_not_depend_on_the_size_of_blocks() {
    let records = numbered(50);
    let pretty: Vec<String> = records
        .iter()
        .map(|r| {
            serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(r).unwrap())
                .unwrap()
        })
        .collect();
    for text in [
        records.join("\n"),
        format!("{}\r\n\r\n", records.join("\r\n")),
        format!("[{}]", records.join(",\n")),
        format!("{{\"Records\":[{}]}}", records.join(",")),
        pretty.join("\n"),
    ] {
        let whole = read(text.as_bytes(), 1 << 20);
        assert_eq!((whole.0.len(), whole.1.len()), (50, 0), "{text:.80}");
        for block_bytes in [64, 200, 1000] {
            assert_eq!(read(text.as_bytes(), block_bytes), whole, "{text:.80}");
        }
    }
}

#[test]
fn a_record_too_long_is_passed_over_and_the_next_is_read() {
    let mut records = numbered(5);
    records[2] =
        format!("{}{}", records[2], " ".repeat(10_000)).replace("ListBuckets", &"x".repeat(9000));
    let (kept, said) = read(records.join("\n").as_bytes(), 600);
    assert_eq!(kept.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 4, 5]);
    assert_eq!(said, ["1×3: the record is longer than 4096 bytes"]);
}

#[test]
fn a_value_too_long_is_passed_over_and_the_next_is_read() {
    let mut records = numbered(5);
    let odd = r#"\\\"}{]["#.repeat(20_000);
    records[2] = records[2].replace("ListBuckets", &odd).replace(",\"n\"", ",\"m\":[{}],\"n\"");
    for text in [
        format!("[{}]", records.join(",\n")),
        format!("{{\"Records\":[{}]}}", records.join(",")),
        records.join("\n\n").replace("{\"eventVersion\"", "{\n\"eventVersion\""),
        records.concat(),
    ] {
        let (kept, said) = read(text.as_bytes(), 600);
        assert_eq!(kept.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert_eq!(said, ["1×3: the record is longer than 4096 bytes"], "{text:.99}");
    }
    let blank = " ".repeat(65_400);
    let apart = format!("[{}]", numbered(3).join(&format!(",{blank}")));
    assert_eq!(read(apart.as_bytes(), 600).0.len(), 3);
    let endless = format!("[{},{}", numbered(1)[0], &records[2][..100_000]);
    let (kept, said) = read(endless.as_bytes(), 600);
    assert_eq!((kept.len(), said.len()), (1, 1), "{said:?}");
}

#[test]
fn behind_a_long_record_no_more_is_held_than_before_it() {
    let limits = Limits { block_bytes: 1000, record_bytes: 1 << 20 };
    let mut records = numbered(10_000);
    records[20] = records[20].replace("ListBuckets", &"x".repeat(100_000));
    for text in [records.join("\n"), format!("[{}]", records.join(",")), records.concat()] {
        let read = Arc::new(AtomicU64::new(0));
        let stream = io::Cursor::new(text.into_bytes());
        let reader = BlockReader::new("x", stream, None, limits, Arc::clone(&read)).unwrap();
        let (mut reader, mut handed, mut count) = (reader.trusting(), 0, 0);
        while let Some((block, _)) = reader.next_block(&mut Rejects::default()) {
            handed += block.bytes.len() as u64;
            assert!(read.load(Ordering::Relaxed) - handed < 400_000);
            count += Payload::unredacted(block, &mut Rejects::default()).len();
        }
        assert_eq!(count, 10_000);
    }
}

#[test]
fn a_line_of_many_records_is_longer_than_one_may_be() {
    let records = numbered(200);
    let (first, others) = (&records[0], records[1..].concat());
    for end in ["", "\n"] {
        let (kept, said) = read(format!("{first}\n{others}{end}").as_bytes(), 600);
        assert_eq!(kept.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), records);
        assert_eq!((kept.last().map(|(at, _)| *at), said), (Some(200), vec![]));
    }
}

#[test]
fn a_gzip_that_was_cut_gives_what_it_holds() {
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    for (n, record) in numbered(2000).iter().enumerate() {
        writeln!(gzip, "{record} {}", n * 7919 % 1000).unwrap();
    }
    let bytes = gzip.finish().unwrap();
    let (kept, said) = read(&bytes[..bytes.len() / 2], 4096);
    assert!(kept.len() > 100);
    assert!(said.iter().any(|s| s.contains("ends too early")), "{said:?}");
}

#[test]
fn what_comes_behind_many_records_of_others_is_read() {
    let other = r#"{"level":"info","message":"nothing for anybody"}"#;
    let others = SAMPLE_RECORDS + 500;
    let lines = format!("{}{}", format!("{other}\n").repeat(others), numbered(20).join("\n"));
    let array = format!("[{}]", lines.replace('\n', ",\n"));
    for text in [lines, array] {
        for block_bytes in [1000, 1 << 20] {
            let (kept, said) = read(text.as_bytes(), block_bytes);
            let own = kept.iter().filter(|(_, text)| text.starts_with("{\"event"));
            assert_eq!(own.map(|(at, _)| *at).collect::<Vec<_>>(), (801..=820).collect::<Vec<_>>());
            // Those of the block that the first one is in are handed over with it.
            let before = kept.len() - 20;
            let passed: u64 =
                said.iter().map(|s| s.split('×').next().unwrap().parse::<u64>().unwrap()).sum();
            assert_eq!(before as u64 + passed, others as u64, "{said:?}");
        }
    }
    let nobodys = read(format!("{other}\n").repeat(50_000).as_bytes(), 1 << 20);
    assert_eq!((nobodys.0.len(), nobodys.1.len()), (0, 1));
    assert!(nobodys.1[0].starts_with("0×0: no parser recognises"), "{:?}", nobodys.1);
}

#[test]
fn what_is_no_log_is_one_remark() {
    for (bytes, part) in [
        (b"hello world\nthis is a README\n".as_slice(), "no parser recognises"),
        (b"PK\x03\x04....", "zip"),
        (&[0u8; 100], "binary"),
        (b"\xff\xfeh\0e\0", "UTF-16"),
        ("[".repeat(10_000).as_bytes(), "no parser recognises"),
        (format!("{{\"x\":\"{}", "y".repeat(100_000)).as_bytes(), ""),
    ] {
        let (kept, said) = read(bytes, 4096);
        assert_eq!((kept.len(), said.len()), (0, 1), "{said:?}");
        assert!(said[0].starts_with("0×0: ") && said[0].contains(part), "{said:?}");
    }
    assert_eq!(read(b"", 4096), (vec![], vec![]));
}

#[test]
fn what_is_passed_over_counts_for_the_limit() {
    let limits = Limits { block_bytes: 1000, record_bytes: 4096 };
    let line = format!("{RECORD}\n");
    let over = |bytes: &[u8], most: usize| {
        let content = zstd::encode_all(bytes, 1).unwrap();
        [content, bytes.to_vec()].map(|content| {
            let reader = BlockReader::of_bytes("x", content.into(), None, limits).unwrap();
            let (mut reader, mut rejects) = (reader.trusting().at_most(most), Rejects::default());
            while reader.next_block(&mut rejects).is_some() {}
            reader.is_over()
        })
    };
    let newlines = "\n".repeat(1 << 20);
    let long = format!("{line}{}", "x".repeat(1 << 20));
    for text in [&newlines, &long, &long[line.len()..], &line.repeat(10_000)] {
        assert_eq!(over(text.as_bytes(), text.len() - 1), [true; 2], "{text:.99}");
        assert_eq!(over(text.as_bytes(), text.len()), [false; 2], "{text:.99}");
    }
}

#[test]
fn of_what_is_sent_one_line_that_is_no_text_harms_no_other() {
    let limits = Limits::default();
    let sent = |bytes: Vec<u8>| {
        all_of(BlockReader::of_bytes("x", bytes.into(), None, limits).unwrap().trusting())
    };
    let records = numbered(3).join("\n");
    for first in [b"a\0b".as_slice(), b"PAR1 is a line", b"BZh", b"PK\x03\x04", b"\xff\xfeh\0"] {
        let (kept, said) = sent([first, b"\n", records.as_bytes()].concat());
        // What is UTF-8 is rejected by whoever asks for its parser.
        let own = kept.iter().filter(|(_, text)| text.starts_with('{')).map(|(at, _)| *at);
        assert_eq!(own.collect::<Vec<_>>(), [2, 3, 4], "{said:?}");
        assert_eq!(kept.len() + said.len(), 4, "{said:?}");
        let array = [first, b"\n[", records.replace('\n', ",").as_bytes(), b"]\n"].concat();
        assert_eq!(sent(array).0.iter().filter(|(_, text)| text.starts_with('{')).count(), 3);
        // Nothing of it is a record.
        let (kept, said) = sent([first, b"\nmore\n{\n}\0}"].concat());
        assert_eq!((kept.len(), said.len()), (0, 1), "{said:?}");
        let (kept, said) = read(&[first, b"\n", records.as_bytes()].concat(), 4096);
        assert_eq!((kept.len(), said.len()), (0, 1), "{said:?}");
    }
    let (kept, said) = sent(records.replace("\"n\":1", "\"n\":\"\0\"").into_bytes());
    assert_eq!((kept.len(), said.len()), (3, 0));
}
