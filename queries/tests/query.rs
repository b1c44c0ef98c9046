//! SQL over pushed events: what comes out, in which form, and what is refused in which words.

mod common;

use common::{batch_of, read_events, synthetic};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use telltale_queries::{OutputFormat, QueryError, QueryStream};
use telltale_schema::EventBatch;

/// A destination that can be looked at while it is written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

const TABLE: OutputFormat = OutputFormat::Table { max_width: None };

fn run(sql: &str, format: OutputFormat, batches: &[EventBatch]) -> Result<String, QueryError> {
    let page = Page::default();
    let stream = QueryStream::start(sql, format, Box::new(page.clone()))?;
    for batch in batches {
        stream.push(batch)?;
    }
    stream.finish()?;
    Ok(page.text())
}

fn sample() -> Vec<EventBatch> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/query.jsonl");
    vec![batch_of(&read_events(&path))]
}

fn check(sql: &str, format: OutputFormat, expected: &str) {
    assert_eq!(run(sql, format, &sample()).unwrap(), expected, "{sql}");
}

#[test]
fn table_is_aligned_and_counts_its_rows() {
    check(
        "SELECT principal_name, outcome, count(*) AS n FROM events GROUP BY 1, 2 ORDER BY n DESC, 1",
        TABLE,
        "principal_name | outcome | n\n\
         ---------------+---------+--\n\
         日本           | success | 2\n\
         Zoë \\u{1b}[31m | denied  | 1\n\
         (2 rows)\n",
    );
    check("SELECT 1 AS one WHERE false", TABLE, "one\n---\n(0 rows)\n");
    check("SELECT 1 AS one", TABLE, "one\n---\n  1\n(1 row)\n");
}

#[test]
fn table_keeps_to_the_terminal() {
    let narrow = OutputFormat::Table { max_width: Some(44) };
    check(
        "SELECT event_id, raw FROM events WHERE outcome = 'denied'",
        narrow,
        "event_id                        | raw\n\
         --------------------------------+-----------\n\
         000000000000000000000000000000… | {\"a\": \"b\"}\n\
         (1 row)\n",
    );
    check(
        "SELECT event_id, event_time, raw, tenant FROM events WHERE outcome = 'denied'",
        narrow,
        "-[ row 1 ]----------\n\
         event_id   | 000000000000000000000000000000ff\n\
         event_time | 2026-01-01T00:00:00.000001Z\n\
         raw        | {\"a\": \"b\"}\n\
         (1 row)\n",
    );
}

#[test]
fn csv_and_json_say_ids_times_lists_and_nulls() {
    let sql = "SELECT event_id, event_time, delegation_chain, tenant, sequence, raw FROM events \
               WHERE outcome = 'denied'";
    check(
        sql,
        OutputFormat::Csv,
        "event_id,event_time,delegation_chain,tenant,sequence,raw\n\
         000000000000000000000000000000ff,2026-01-01T00:00:00.000001Z,\
         \"[\"\"first caller, of a long name\"\",\"\"second\"\"]\",,-3,\"{\"\"a\"\": \"\"b\"\"}\"\n",
    );
    check(
        sql,
        OutputFormat::Json,
        "[\n{\"event_id\":\"000000000000000000000000000000ff\",\
         \"event_time\":\"2026-01-01T00:00:00.000001Z\",\
         \"delegation_chain\":[\"first caller, of a long name\",\"second\"],\
         \"tenant\":null,\"sequence\":-3,\"raw\":\"{\\\"a\\\": \\\"b\\\"}\"}\n]\n",
    );
    check(
        "SELECT 1.5 AS half, CAST('NaN' AS DOUBLE) AS nothing, true AS yes, \
         date_trunc('minute', max(event_time)) AS minute, CAST('2026-01-01' AS DATE) AS day, \
         named_struct('n', count(*)) AS object FROM events",
        OutputFormat::Json,
        "[\n{\"half\":1.5,\"nothing\":null,\"yes\":true,\
         \"minute\":\"2026-01-01T00:02:00.000000Z\",\"day\":\"2026-01-01\",\"object\":{\"n\":3}}\n]\n",
    );
    check("SELECT log FROM events WHERE log = 'none'", OutputFormat::Json, "[]\n");
}

#[test]
fn events_can_be_read_twice() {
    let batches: Vec<_> = (0..5).map(|i| synthetic("aws_cloudtrail", 3000, i * 3000)).collect();
    let sql = "SELECT count(*) AS n FROM events a JOIN events b ON a.event_id = b.event_id \
               WHERE a.outcome = 'denied'";
    let once = "SELECT count(*) AS n FROM events WHERE outcome = 'denied'";
    let expected = run(once, OutputFormat::Csv, &batches).unwrap();
    assert_eq!(run(sql, OutputFormat::Csv, &batches).unwrap(), expected);

    let page = Page::default();
    let stream = QueryStream::start(sql, OutputFormat::Csv, Box::new(page.clone())).unwrap();
    std::thread::scope(|scope| {
        for half in [&batches[..2], &batches[2..]] {
            let stream = &stream;
            scope.spawn(move || half.iter().try_for_each(|batch| stream.push(batch)).unwrap());
        }
    });
    stream.finish().unwrap();
    assert_eq!(page.text(), expected, "pushed from two threads");

    let sql = "WITH RECURSIVE t AS (SELECT CAST(1 AS BIGINT) AS i UNION ALL \
               SELECT t.i + 1 FROM t, (SELECT count(*) AS n FROM events) WHERE t.i < 4) \
               SELECT count(*) AS n FROM t";
    assert_eq!(run(sql, OutputFormat::Csv, &batches).unwrap(), "n\n4\n");
}

#[test]
fn results_are_written_while_events_come_and_a_limit_ends_it() {
    let page = Page::default();
    let sql = "SELECT raw FROM events LIMIT 10";
    let stream = QueryStream::start(sql, OutputFormat::Csv, Box::new(page.clone())).unwrap();
    let mut pushed = 0;
    while !stream.is_satisfied() {
        stream.push(&synthetic("aws_cloudtrail", 500, pushed * 500)).unwrap();
        pushed += 1;
        assert!(pushed < 1000, "ten rows are enough");
    }
    assert_eq!(stream.finish().unwrap(), 10);
    assert_eq!(page.text().lines().count(), 11);
}

#[test]
fn reader_that_goes_away_ends_the_query() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let stream =
        QueryStream::start("SELECT raw FROM events", OutputFormat::Csv, Box::new(Closed)).unwrap();
    let mut pushed = 0;
    while !stream.is_satisfied() {
        stream.push(&synthetic("aws_cloudtrail", 500, 0)).unwrap();
        pushed += 1;
        assert!(pushed < 1000, "a closed reader is noticed");
    }
    assert!(stream.finish().unwrap_err().is_broken_pipe());
}

#[test]
fn every_column_can_be_asked_for() {
    let text = run("SELECT * FROM events", OutputFormat::Json, &sample()).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert_eq!(rows[0].as_object().unwrap().len(), 33);
    let text = run("DESCRIBE events", OutputFormat::Csv, &[]).unwrap();
    assert_eq!(text.lines().count(), 34);
    assert!(run("EXPLAIN SELECT log FROM events", TABLE, &sample()).unwrap().contains("Scan"));
}

#[test]
fn what_is_no_query_is_refused() {
    for (sql, what) in [
        ("DROP TABLE events", "DROP"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
        ("CREATE TABLE t AS SELECT 1", "CREATE"),
        ("COPY events TO 'out.parquet'", "COPY"),
        ("INSERT INTO events SELECT * FROM events", "INSERT"),
        ("EXPLAIN COPY events TO 'out.parquet'", "a statement that changes things"),
        ("SELECT * INTO t FROM events", "a statement that changes things"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("", "an empty statement"),
    ] {
        let error = run(sql, TABLE, &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{what} is not allowed: a query reads `events` with SELECT, EXPLAIN or DESCRIBE, \
                 and writes only to its output"
            ),
            "{sql}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_query_is_said() {
    for (sql, expected) in [
        ("SELECT lgo FROM events", "unknown column `lgo`; did you mean `log`?"),
        (
            "SELECT e.princpal_id FROM events e",
            "unknown column `princpal_id`; did you mean `principal_id`?",
        ),
        (
            "SELECT whatever FROM events",
            "unknown column `whatever`; `DESCRIBE events` lists the columns",
        ),
        ("SELECT 1 FROM event", "unknown table `event`; the only table is `events`"),
        ("SELECT * FROM '/etc/passwd'", "unknown table `/etc/passwd`; the only table is `events`"),
        ("SELECT log FROM events WHERE", "syntax error: expected an expression, found the end"),
        (
            "SELECT log\nFROM events GROUP log",
            "syntax error at line 2, column 13: expected end of statement, found `GROUP`",
        ),
        (
            "SELEC log FROM events",
            "syntax error at line 1, column 1: expected an SQL statement, found `SELEC`",
        ),
        ("SELECT cuont(*) FROM events", "invalid function `cuont`; did you mean `cot`?"),
        (
            "SELECT log, count(*) FROM events",
            "column `log` is selected beside an aggregate; add it to GROUP BY or aggregate it",
        ),
        ("SELECT 1/0", "divide by zero error"),
    ] {
        let error = run(sql, TABLE, &sample()).unwrap_err().to_string();
        assert_eq!(error, expected, "{sql}");
    }
}
