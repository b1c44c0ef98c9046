//! One file for each detector, in alphabetical order.

pub mod dormant_account;
pub mod impersonation_spike;
pub mod leaked_credential;

#[cfg(test)]
#[path = "../../tests/guide/mod.rs"]
mod guide;

use crate::{ConfigError, Detector, DetectorKind};
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;

/// Every detector there is, in alphabetical order.
pub static KINDS: &[&DetectorKind] =
    &[&dormant_account::KIND, &impersonation_spike::KIND, &leaked_credential::KIND];

/// What every finding of a detector carries.
pub struct Page {
    pub detector: &'static str,
    pub attack: &'static [&'static str],
    pub owasp_nhi: &'static [&'static str],
}

/// Makes the detector of that name from the settings of its table.
///
/// Errors: an unknown name, with the nearest known one as a hint; settings it does not know.
pub fn build(name: &str, table: toml::Table) -> Result<Box<dyn Detector>, ConfigError> {
    match KINDS.iter().find(|kind| kind.name == name) {
        Some(kind) => (kind.build)(table),
        None => {
            let hint = hint(name);
            Err(ConfigError::Unknown { name: name.to_owned(), hint })
        }
    }
}

/// `; did you mean …?` where a name is near or begins so, else what there is.
fn hint(name: &str) -> String {
    let distance = |kind: &DetectorKind| match kind.name.starts_with(name) && !name.is_empty() {
        true => 0,
        false => strsim::damerau_levenshtein(kind.name, name),
    };
    let near = KINDS.iter().map(|kind| (distance(kind), kind.name)).min();
    match near.filter(|(distance, _)| *distance <= 4) {
        Some((_, near)) => format!("; did you mean `{near}`?"),
        None => {
            let names: Vec<_> = KINDS.iter().map(|kind| format!("`{}`", kind.name)).collect();
            format!("; there are {}", names.join(", "))
        }
    }
}

/// All detectors with their default settings.
pub fn defaults() -> Vec<Box<dyn Detector>> {
    KINDS
        .iter()
        .map(|kind| (kind.build)(toml::Table::new()).expect("an empty table is every default"))
        .collect()
}

/// Settings out of a table.
fn settings<T: DeserializeOwned>(name: &'static str, table: toml::Table) -> Result<T, ConfigError> {
    let fault = |cause| ConfigError::Settings { name, cause };
    check_bounds(&table).map_err(fault)?;
    // With the key, which stands on a line of its own.
    let said = |cause: toml::de::Error| cause.to_string().trim_end().replace('\n', ", ");
    table.try_into().map_err(|cause| fault(said(cause)))
}

/// The fields of settings with what is said of them in the source, in alphabetical order.
fn described<T: JsonSchema>() -> Vec<(String, String)> {
    let schema = schema_for!(T);
    let fields = schema.get("properties").and_then(|fields| fields.as_object());
    let described = fields.into_iter().flatten().map(|(name, field)| {
        let text = field.get("description").and_then(|text| text.as_str()).unwrap_or_default();
        (name.clone(), text.replace('\n', " "))
    });
    described.collect()
}

/// What holds for settings of these names in every detector.
fn check_bounds(table: &toml::Table) -> Result<(), String> {
    let pages = match table.get("false_pages_per_day") {
        Some(toml::Value::Float(pages)) => *pages,
        Some(toml::Value::Integer(pages)) => *pages as f64,
        _ => 1.0,
    };
    if !pages.is_finite() || pages <= 0.0 {
        return Err("`false_pages_per_day` is no number above 0, such as 0.1".to_owned());
    }
    // Notes are none of its memory, and may be unwanted.
    let is_bound = |key: &str| key.starts_with("max_") && key != "max_notes";
    match table.iter().find(|(key, value)| is_bound(key) && value.as_integer() == Some(0)) {
        Some((key, _)) => Err(format!("`{key}` is 0, with which nothing is remembered")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_gets_a_hint() {
        let error = build("dormant_acount", toml::Table::new()).err().map(|e| e.to_string());
        let expected = "unknown detector `dormant_acount` in `[[detect]]`; \
                        did you mean `dormant_account`?";
        assert_eq!(error.as_deref(), Some(expected));
        let error = |name| build(name, toml::Table::new()).err().map(|e| e.to_string());
        let error = |name| error(name).unwrap_or_default();
        assert!(error("dormant").ends_with("; did you mean `dormant_account`?"));
        assert!(error("zzz").contains("; there are `dormant_account`, `impersonation_spike`, "));
    }

    #[test]
    fn unknown_settings_are_refused() {
        for kind in KINDS {
            let table = toml::Table::from_iter([("sensitivty".to_owned(), 1.into())]);
            let error = build(kind.name, table).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(kind.name) && error.contains("sensitivty"), "{error}");
            let table = toml::Table::from_iter([("false_pages_per_day".to_owned(), "1".into())]);
            let error = build(kind.name, table).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.ends_with(", in `false_pages_per_day`"), "{error}");
        }
    }

    #[test]
    fn bounds_that_cannot_work_are_refused() {
        for (kind, table, expected) in [
            ("leaked_credential", "false_pages_per_day = 0", "is no number above 0"),
            ("leaked_credential", "false_pages_per_day = -0.1", "is no number above 0"),
            ("leaked_credential", "false_pages_per_day = nan", "is no number above 0"),
            ("impersonation_spike", "false_pages_per_day = inf", "is no number above 0"),
            ("impersonation_spike", "max_callers = 0", "`max_callers` is 0"),
            ("dormant_account", "max_accounts = 0", "`max_accounts` is 0"),
            ("dormant_account", "silence = '19h'", "`silence` is shorter than `shortest`"),
        ] {
            let error = build(kind, table.parse().unwrap()).err().map(|e| e.to_string());
            let error = error.unwrap_or_default();
            assert!(error.contains(expected), "{table}: {error}");
        }
        for table in ["false_pages_per_day = 1\nmax_notes = 0", "silence = '1h'\nshortest = '1h'"] {
            assert!(build("dormant_account", table.parse().unwrap()).is_ok(), "{table}");
        }
    }

    #[test]
    fn kinds_are_in_order_and_explained() {
        assert!(KINDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for kind in KINDS {
            for heading in ["## What it finds", "## Why it matters", "## Fires on", "## Memory"] {
                assert!(kind.source.contains(heading), "{} lacks {heading}", kind.name);
            }
            for (name, meaning) in (kind.settings)() {
                assert!(meaning.contains("Default "), "{}: `{name}`: {meaning}", kind.name);
            }
        }
    }
}
