//! The result of a query as an aligned table for people, as CSV or as JSON, batch by batch.

use crate::QueryError;
use crate::engine::Consume;
use crate::text::{push_hex, push_instant, push_json_string};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::{BufWriter, Write};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a result is written. Everywhere ids are hex and times RFC 3339 in UTC with microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Aligned columns and the number of rows. Rows are wider than `max_width` columns of a
    /// terminal never: long cells are cut, and where that does not help each row becomes a block
    /// of lines. `None` cuts nothing, as for a pipe.
    Table { max_width: Option<usize> },
    /// RFC 4180 with a header; null is empty, lists are JSON.
    Csv,
    /// One array of objects; null columns are there as null.
    Json,
}

/// Writes the batches of one result. Returns the number of rows at the end.
pub(crate) struct ResultWriter {
    out: BufWriter<Box<dyn Write + Send>>,
    names: Vec<String>,
    rows: u64,
    style: Style,
}

enum Style {
    Table(Table),
    Csv,
    Json,
}

impl ResultWriter {
    pub(crate) fn new(format: OutputFormat, out: Box<dyn Write + Send>) -> Self {
        let style = match format {
            OutputFormat::Table { max_width } => Style::Table(Table::new(max_width)),
            OutputFormat::Csv => Style::Csv,
            OutputFormat::Json => Style::Json,
        };
        Self { out: BufWriter::with_capacity(1 << 16, out), names: Vec::new(), rows: 0, style }
    }

    fn csv_row(&mut self, cells: impl Iterator<Item = String>) -> Result<(), QueryError> {
        let cells: Vec<String> = cells.map(csv_cell).collect();
        self.out.write_all(cells.join(",").as_bytes()).map_err(QueryError::Write)?;
        self.out.write_all(b"\n").map_err(QueryError::Write)
    }

    fn json_row(&mut self, batch: &RecordBatch, row: usize) -> Result<(), QueryError> {
        let mut line = Vec::new();
        line.extend_from_slice(if self.rows == 0 { b"[\n" } else { b",\n" });
        let mut separator = b'{';
        for (name, array) in self.names.iter().zip(batch.columns()) {
            line.push(separator);
            push_json_string(&mut line, name);
            line.push(b':');
            push_json(&mut line, array, row)?;
            separator = b',';
        }
        if self.names.is_empty() {
            line.push(b'{');
        }
        line.push(b'}');
        self.out.write_all(&line).map_err(QueryError::Write)
    }
}

impl Consume for ResultWriter {
    type Output = u64;

    fn schema(&mut self, schema: &SchemaRef) -> Result<(), QueryError> {
        self.names = schema.fields().iter().map(|field| field.name().clone()).collect();
        match &mut self.style {
            Style::Table(table) => {
                table.numeric =
                    schema.fields().iter().map(|f| f.data_type().is_numeric()).collect();
                Ok(())
            }
            Style::Csv => self.csv_row(self.names.clone().into_iter()),
            Style::Json => Ok(()),
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        for row in 0..batch.num_rows() {
            match &mut self.style {
                Style::Json => self.json_row(batch, row)?,
                Style::Csv => {
                    let cells = cells(batch, row)?;
                    self.csv_row(cells.into_iter())?;
                }
                Style::Table(table) => {
                    let cells = cells(batch, row)?.iter().map(|cell| printable(cell)).collect();
                    table.push(&self.names, cells, &mut self.out).map_err(QueryError::Write)?;
                }
            }
            self.rows += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, QueryError> {
        let written = match &mut self.style {
            Style::Table(table) => table.settle(&self.names, &mut self.out).and_then(|()| {
                let word = if self.rows == 1 { "row" } else { "rows" };
                writeln!(self.out, "({} {word})", self.rows)
            }),
            Style::Csv => Ok(()),
            Style::Json if self.rows == 0 => self.out.write_all(b"[]\n"),
            Style::Json => self.out.write_all(b"\n]\n"),
        };
        written.and_then(|()| self.out.flush()).map_err(QueryError::Write)?;
        Ok(self.rows)
    }
}

/// The row's values as text; null is empty.
fn cells(batch: &RecordBatch, row: usize) -> Result<Vec<String>, QueryError> {
    let cell = |array: &dyn Array| {
        let mut text = Vec::new();
        if array.is_valid(row) {
            push_value(&mut text, array, row)?;
        }
        Ok(String::from_utf8(text).expect("values are written from text"))
    };
    batch.columns().iter().map(|array| cell(array)).collect()
}

/// Whether a value that was written stands for itself in JSON, or is text to be quoted.
enum Written {
    Json,
    Text,
}

/// Appends a value that is not null, bare.
fn push_value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<Written, QueryError> {
    let written = match array.data_type() {
        DataType::Utf8View => {
            out.extend_from_slice(array.as_string_view().value(row).as_bytes());
            Written::Text
        }
        DataType::Utf8 => {
            out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes());
            Written::Text
        }
        DataType::Timestamp(unit, _) => {
            push_instant(out, micros(array, *unit, row));
            Written::Text
        }
        DataType::Binary => {
            push_hex(out, array.as_binary::<i32>().value(row));
            Written::Text
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            out.extend_from_slice(value.to_string().as_bytes());
            if value.is_finite() { Written::Json } else { Written::Text }
        }
        DataType::List(_) => {
            push_list(out, array.as_list::<i32>().value(row).as_ref())?;
            Written::Json
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut separator = b'{';
            for (field, column) in fields.iter().zip(columns) {
                out.push(separator);
                push_json_string(out, field.name());
                out.push(b':');
                push_json(out, column, row)?;
                separator = b',';
            }
            out.push(b'}');
            Written::Json
        }
        other => {
            let options = FormatOptions::default().with_display_error(true);
            let formatter = ArrayFormatter::try_new(array, &options)
                .map_err(|error| QueryError::Engine(error.to_string()))?;
            let _ = write!(out, "{}", formatter.value(row));
            let is_json = other.is_integer() || other.is_decimal() || *other == DataType::Boolean;
            if is_json { Written::Json } else { Written::Text }
        }
    };
    Ok(written)
}

/// Appends a value as JSON. What JSON has no number for (infinity, not a number) is null.
fn push_json(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), QueryError> {
    let start = out.len();
    if array.is_null(row) {
        out.extend_from_slice(b"null");
    } else if let Written::Text = push_value(out, array, row)? {
        let bare = out.split_off(start);
        match array.data_type().is_floating() {
            true => out.extend_from_slice(b"null"),
            false => push_json_string(out, &String::from_utf8_lossy(&bare)),
        }
    }
    Ok(())
}

fn push_list(out: &mut Vec<u8>, items: &dyn Array) -> Result<(), QueryError> {
    out.push(b'[');
    for item in 0..items.len() {
        if item > 0 {
            out.push(b',');
        }
        push_json(out, items, item)?;
    }
    out.push(b']');
    Ok(())
}

/// An instant of any precision; one without a zone is UTC, as all of `events` is.
fn micros(array: &dyn Array, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => {
            array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1_000_000)
        }
        TimeUnit::Millisecond => {
            array.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1000)
        }
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => {
            array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1000)
        }
    }
}

fn csv_cell(cell: String) -> String {
    match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    }
}

/// Text of a log must not steer the terminal that shows it.
fn printable(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for c in cell.chars() {
        match is_steering(c) {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
    text
}

/// Control characters, and those that reverse the direction of the text around them.
fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Rows from which the widths of a table are taken; the rest keeps to them.
const SAMPLE_ROWS: usize = 1000;
/// Text of the sample at most, so that long records do not fill the memory.
const SAMPLE_BYTES: usize = 4 << 20;
/// A column that is wider is cut to no less than this before a row becomes a block of lines.
const MIN_CUT: usize = 12;

/// An aligned table whose widths are settled by its first rows.
struct Table {
    max_width: Option<usize>,
    numeric: Vec<bool>,
    sample: Vec<Vec<String>>,
    sample_bytes: usize,
    layout: Option<Layout>,
    blocks: u64,
}

enum Layout {
    /// Widths of the columns.
    Columns(Vec<usize>),
    /// A block of `name | value` lines for each row; the width of the names.
    Blocks(usize),
}

impl Table {
    fn new(max_width: Option<usize>) -> Self {
        Self {
            max_width,
            numeric: Vec::new(),
            sample: Vec::new(),
            sample_bytes: 0,
            layout: None,
            blocks: 0,
        }
    }

    fn push(
        &mut self,
        names: &[String],
        cells: Vec<String>,
        out: &mut impl Write,
    ) -> std::io::Result<()> {
        if self.layout.is_some() {
            return self.write(names, &cells, out);
        }
        self.sample_bytes += cells.iter().map(String::len).sum::<usize>();
        self.sample.push(cells);
        if self.sample.len() >= SAMPLE_ROWS || self.sample_bytes >= SAMPLE_BYTES {
            return self.settle(names, out);
        }
        Ok(())
    }

    /// Chooses the layout and writes the sample, if that was not done before.
    fn settle(&mut self, names: &[String], out: &mut impl Write) -> std::io::Result<()> {
        if self.layout.is_some() {
            return Ok(());
        }
        let mut widths: Vec<usize> = names.iter().map(|name| name.width()).collect();
        for cells in &self.sample {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        self.layout = Some(match fit(widths, names, self.max_width) {
            Some(widths) => Layout::Columns(widths),
            None => Layout::Blocks(names.iter().map(|name| name.width()).max().unwrap_or(0)),
        });
        if let Some(Layout::Columns(widths)) = &self.layout {
            let aligned = |name: &String, width: &usize| pad(name, *width, false);
            let header: Vec<String> =
                names.iter().zip(widths).map(|(n, w)| aligned(n, w)).collect();
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            writeln!(out, "{}", header.join(" | ").trim_end())?;
            writeln!(out, "{}", rule.join("-+-"))?;
        }
        for cells in std::mem::take(&mut self.sample) {
            self.write(names, &cells, out)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        names: &[String],
        cells: &[String],
        out: &mut impl Write,
    ) -> std::io::Result<()> {
        match &self.layout {
            Some(Layout::Columns(widths)) => {
                let cut = |cell: &String, width| match self.max_width {
                    Some(_) => cut(cell, width),
                    None => cell.clone(),
                };
                let columns = cells.iter().zip(widths).zip(&self.numeric);
                let line: Vec<String> =
                    columns.map(|((c, w), right)| pad(&cut(c, *w), *w, *right)).collect();
                writeln!(out, "{}", line.join(" | ").trim_end())
            }
            Some(Layout::Blocks(width)) => {
                self.blocks += 1;
                writeln!(out, "-[ row {} ]{}", self.blocks, "-".repeat(*width))?;
                for (name, cell) in names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
                    writeln!(out, "{} | {cell}", pad(name, *width, false))?;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Cuts the widest columns until all fit; `None` when they cannot, with names whole and at least
/// [`MIN_CUT`] of each value that is longer.
fn fit(mut widths: Vec<usize>, names: &[String], max_width: Option<usize>) -> Option<Vec<usize>> {
    let Some(max_width) = max_width else { return Some(widths) };
    let separators = 3 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + separators > max_width {
        let excess = widths.iter().sum::<usize>() + separators - max_width;
        let shrinkable = |at: &usize| widths[*at] > names[*at].width().max(MIN_CUT);
        let widest = (0..widths.len()).filter(shrinkable).max_by_key(|at| widths[*at])?;
        let floor = names[widest].width().max(MIN_CUT);
        // Down to the second widest first, so that long columns share what has to go.
        let others = (0..widths.len()).filter(|at| *at != widest).map(|at| widths[at]);
        let next = others.filter(|w| *w < widths[widest]).max().unwrap_or(0);
        let step = (widths[widest] - next.max(floor)).clamp(1, excess);
        widths[widest] -= step;
    }
    Some(widths)
}

/// At most `width` columns of `cell`, with `…` where something is missing.
fn cut(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let kept = cell.chars().take_while(|c| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    });
    kept.collect::<String>() + "…"
}

fn pad(cell: &str, width: usize, right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(cell.width()));
    if right { blanks + cell } else { cell.to_owned() + &blanks }
}
