//! Why a query, an SLI or an export did not run, in words for whoever typed it.

use arrow_schema::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;
use std::fmt::Display;
use std::io;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum QueryError {
    #[error("syntax error{position}: {message}")]
    Syntax { position: String, message: String },
    #[error("unknown column `{column}`{hint}")]
    UnknownColumn { column: String, hint: String },
    #[error("unknown table `{table}`; {known}")]
    UnknownTable {
        table: String,
        /// Which tables there are, in words.
        known: String,
    },
    #[error(
        "{statement} is not allowed: a query reads `events` with SELECT, EXPLAIN or DESCRIBE, \
         and writes only to its output"
    )]
    NotAQuery { statement: String },
    /// What DataFusion says of a query that it cannot plan or run, without its prefixes.
    #[error("{0}")]
    Engine(String),
    #[error(
        "the query needs more than {} MB of memory; group by fewer values, or select fewer \
         columns or rows ({message})", limit_bytes >> 20
    )]
    OutOfMemory { limit_bytes: usize, message: String },
    #[error("SLI `{sli}`: {problem}")]
    BadSli { sli: String, problem: String },
    #[error("SLI `{sli}` did not run")]
    Sli {
        sli: String,
        #[source]
        cause: Box<QueryError>,
    },
    #[error("the lake: {0}")]
    Lake(String),
    #[error("`{url}`: {problem}")]
    Objects { url: String, problem: String },
    #[error("cannot start threads for queries")]
    Threads(#[source] io::Error),
    #[error(
        "cannot keep events in a temporary file, which a query that reads `events` twice needs"
    )]
    Spool(#[source] io::Error),
    #[error("cannot write the output")]
    Write(#[source] io::Error),
    #[error("cannot encode events as {format}: {message}")]
    Encode { format: &'static str, message: String },
}

impl QueryError {
    /// Whether whoever reads the output has gone away, which is no fault (`telltale … | head`).
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn of_sli(self, sli: &str) -> Self {
        Self::Sli { sli: sli.to_owned(), cause: Box::new(self) }
    }

    /// The same where there are other tables beside `events`.
    pub(crate) fn beside(self, others: &[&str]) -> Self {
        match self {
            Self::UnknownTable { table, .. } if !others.is_empty() => {
                let others = others.iter().map(|name| format!(", `{name}`"));
                let known = format!("there are `events`{}", others.collect::<String>());
                Self::UnknownTable { table, known }
            }
            other => other,
        }
    }

    pub(crate) fn from_arrow(format: &'static str, error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, cause) => Self::Write(cause),
            other => Self::Encode { format, message: one_line(other) },
        }
    }

    pub(crate) fn from_parquet(error: ParquetError) -> Self {
        match error {
            ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(cause) => Self::Write(*cause),
                Err(other) => Self::Encode { format: "Parquet", message: one_line(other) },
            },
            other => Self::Encode { format: "Parquet", message: one_line(other) },
        }
    }

    /// The reader's words for what DataFusion reports; `limit_bytes` is what the query had.
    pub(crate) fn from_engine(error: DataFusionError, limit_bytes: usize) -> Self {
        match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Self::from_engine(*inner, limit_bytes)
            }
            DataFusionError::Collection(mut all) if !all.is_empty() => {
                Self::from_engine(all.swap_remove(0), limit_bytes)
            }
            DataFusionError::SQL(cause, _) => syntax(&one_line(cause)),
            DataFusionError::SchemaError(cause, _) => match *cause {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    let known: Vec<&str> = valid_fields.iter().map(|c| c.name()).collect();
                    unknown_column(field.name(), &known)
                }
                other => Self::Engine(one_line(other)),
            },
            DataFusionError::ResourcesExhausted(message) => {
                Self::OutOfMemory { limit_bytes, message: one_line(message) }
            }
            other => plan(&one_line(other.strip_backtrace())),
        }
    }
}

/// Messages of several lines and sentences, as one line without a full stop.
fn one_line(message: impl Display) -> String {
    let text = message.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

/// `Expected: an expression, found: FROM at Line: 1, Column: 8`, as the SQL parser puts it.
fn syntax(message: &str) -> QueryError {
    let message =
        message.trim_start_matches("sql parser error: ").trim_start_matches("ParserError");
    let message = message.trim_matches(|c| matches!(c, '(' | ')' | '"'));
    let place = message.split_once(" at Line: ").and_then(|(text, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((text, format!(" at line {line}, column {column}")))
    });
    let (text, position) = place.unwrap_or((message, String::new()));
    let text = text.replace("Expected: ", "expected ").replace(", found: EOF", ", found the end");
    let message = match text.split_once(", found: ") {
        Some((expected, found)) => format!("{expected}, found `{found}`"),
        None => text,
    };
    QueryError::Syntax { position, message }
}

fn unknown_column(column: &str, known: &[&str]) -> QueryError {
    let closest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(column, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(column.len()) / 3);
    let hint = match closest {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => "; `DESCRIBE events` lists the columns".to_owned(),
    };
    QueryError::UnknownColumn { column: column.to_owned(), hint }
}

fn plan(message: &str) -> QueryError {
    const PREFIXES: [&str; 5] = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Arrow error: ",
        "External error: ",
    ];
    let mut text = message;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    if let Some(table) = text.strip_prefix("table '").and_then(|t| t.strip_suffix("' not found")) {
        let table = table.trim_start_matches("datafusion.public.").to_owned();
        return QueryError::UnknownTable { table, known: "the only table is `events`".to_owned() };
    }
    let refused = ["DDL not supported: ", "DML not supported: ", "Statement not supported: "];
    if refused.iter().any(|prefix| text.starts_with(prefix)) {
        let statement = "a statement that changes things".to_owned();
        return QueryError::NotAQuery { statement };
    }
    if let Some((_, rule)) = text.split_once("While expanding wildcard, column \"") {
        let column = rule.split('"').next().unwrap_or_default().trim_start_matches("events.");
        return QueryError::Engine(format!(
            "column `{column}` is selected beside an aggregate; add it to GROUP BY or aggregate it"
        ));
    }
    let text = text.replace("'. Did you mean '", "`; did you mean `").replace('\'', "`");
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    QueryError::Engine(first + letters.as_str())
}
