//! What an SLI is: one SQL file whose head says what its number means, and the list of them.

use crate::QueryError;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::LazyLock;

/// The files, in alphabetical order.
const FILES: &[(&str, &str)] = &[
    ("auth_error_rate_by_code", include_str!("../sli/auth_error_rate_by_code.sql")),
    ("auth_success_rate", include_str!("../sli/auth_success_rate.sql")),
    ("impersonation_attempts", include_str!("../sli/impersonation_attempts.sql")),
];

static SLIS: LazyLock<Vec<Sli>> = LazyLock::new(|| {
    let parsed = FILES.iter().map(|(name, sql)| Sli::parse(name, sql));
    parsed.collect::<Result<_, _>>().expect("a test parses the head of every SLI's file")
});

/// Every SLI, in order of its name.
pub fn slis() -> &'static [Sli] {
    &SLIS
}

/// A number from SQL over a window of `events`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sli {
    /// The file's name.
    pub name: String,
    /// One line of help.
    pub help: String,
    /// `ratio`, `attempts`, `us` …
    pub unit: String,
    /// Length of the window that the number is usually taken over.
    pub window_secs: u64,
    /// The columns before `value`.
    pub labels: Vec<String>,
    /// `None` where there is no number that is right for everybody.
    pub objective: Option<Objective>,
    /// What it means to whoever is paged, as lines.
    pub meaning: String,
    /// The query. Its parameters are `$window_start` and `$window_end`, half-open.
    pub sql: String,
}

/// What the value of every row should keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    pub comparison: Comparison,
    pub bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    AtLeast,
    AtMost,
}

impl Objective {
    pub fn is_met(self, value: f64) -> bool {
        match self.comparison {
            Comparison::AtLeast => value >= self.bound,
            Comparison::AtMost => value <= self.bound,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (comparison, bound) = match text.split_once(' ')? {
            (">=", bound) => (Comparison::AtLeast, bound),
            ("<=", bound) => (Comparison::AtMost, bound),
            _ => return None,
        };
        let bound: f64 = bound.trim().parse().ok()?;
        bound.is_finite().then_some(Self { comparison, bound })
    }
}

/// As the head spells it: `>= 0.99`.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.comparison {
            Comparison::AtLeast => ">=",
            Comparison::AtMost => "<=",
        };
        write!(f, "{sign} {}", self.bound)
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Sli {
    /// Reads the head of an SLI's file: `-- key: value` lines, then after a line `--` its meaning.
    ///
    /// Errors: names the key that is missing or cannot be read, and what was expected.
    pub fn parse(name: &str, sql: &str) -> Result<Self, QueryError> {
        let bad = |problem: String| QueryError::BadSli { sli: name.to_owned(), problem };
        let head: Vec<&str> = sql.lines().map_while(|line| line.strip_prefix("--")).collect();
        let fields_end = head.iter().position(|line| line.is_empty()).unwrap_or(head.len());
        let (fields, meaning) = head.split_at(fields_end);
        let field = |key: &str| {
            let found = fields.iter().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                (found.trim() == key).then(|| value.trim())
            });
            match found {
                Some(value) if !value.is_empty() => Ok(value),
                _ => Err(bad(format!("the head has no `-- {key}: …`"))),
            }
        };
        let window = field("window")?;
        let objective = match field("objective")? {
            "none" => None,
            text => Some(Objective::parse(text).ok_or_else(|| {
                bad(format!("`objective` is not `none`, `>= number` or `<= number`: \"{text}\""))
            })?),
        };
        let labels = match field("labels")? {
            "none" => Vec::new(),
            text => text.split(',').map(|label| label.trim().to_owned()).collect(),
        };
        Ok(Self {
            name: name.to_owned(),
            help: field("help")?.to_owned(),
            unit: field("unit")?.to_owned(),
            window_secs: parse_window(window).ok_or_else(|| {
                bad(format!("`window` is not a number of `s`, `m`, `h` or `d`: \"{window}\""))
            })?,
            labels,
            objective,
            meaning: meaning
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join("\n")
                .trim()
                .to_owned(),
            sql: sql.to_owned(),
        })
    }

    /// The page of this SLI: its head and its query.
    pub fn explain(&self) -> String {
        let objective = self.objective.map_or("none".to_owned(), |o| o.to_string());
        let body = self.sql.lines().skip_while(|line| line.starts_with("--"));
        format!(
            "{}: {}\n\nunit       {}\nwindow     {} s\nlabels     {}\nobjective  {objective}\n\n{}\n\n{}\n",
            self.name,
            self.help,
            self.unit,
            self.window_secs,
            self.labels.join(", "),
            self.meaning,
            body.collect::<Vec<_>>().join("\n"),
        )
    }
}

/// `30s`, `5m`, `1h`, `3d` in seconds.
fn parse_window(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_secs).filter(|secs| *secs > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-- help: A share.\n-- unit: ratio\n-- window: 5m\n-- labels: log, outcome\n\
                        -- objective: <= 0.02\n--\n-- Why it matters:\n-- a lot.\nSELECT 1 AS value\n";

    #[test]
    fn head_of_a_file_is_read() {
        let sli = Sli::parse("share", GOOD).unwrap();
        assert_eq!((sli.help.as_str(), sli.window_secs), ("A share.", 300));
        assert_eq!(sli.labels, ["log", "outcome"]);
        assert_eq!(sli.meaning, "Why it matters:\na lot.");
        let objective = sli.objective.unwrap();
        assert_eq!(objective.to_string(), "<= 0.02");
        assert!(objective.is_met(0.02) && !objective.is_met(0.021));
        let page = sli.explain();
        assert!(page.starts_with("share: A share.\n") && page.ends_with("\n\nSELECT 1 AS value\n"));
    }

    #[test]
    fn what_is_wrong_with_a_head_is_said() {
        for (good, bad, expected) in [
            ("-- unit: ratio\n", "", "SLI `share`: the head has no `-- unit: …`"),
            (
                "5m",
                "5 minutes",
                "SLI `share`: `window` is not a number of `s`, `m`, `h` or `d`: \"5 minutes\"",
            ),
            ("5m", "0m", "SLI `share`: `window` is not a number of `s`, `m`, `h` or `d`: \"0m\""),
            (
                "<= 0.02",
                "< 2",
                "SLI `share`: `objective` is not `none`, `>= number` or `<= number`: \"< 2\"",
            ),
            ("A share.", "", "SLI `share`: the head has no `-- help: …`"),
        ] {
            let error = Sli::parse("share", &GOOD.replace(good, bad)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
