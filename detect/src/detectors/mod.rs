//! One file for each detector, in alphabetical order.

pub mod dormant_account;
pub mod impersonation_spike;
pub mod leaked_credential;

#[cfg(test)]
#[path = "../../tests/guide/mod.rs"]
mod guide;

use crate::{ConfigError, Detector, DetectorKind};
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
    table.try_into().map_err(|cause: toml::de::Error| ConfigError::Settings {
        name,
        // With the key, which stands on a line of its own.
        cause: cause.to_string().trim_end().replace('\n', ", "),
    })
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
    fn kinds_are_in_order_and_explained() {
        assert!(KINDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for kind in KINDS {
            for heading in ["## What it finds", "## Why it matters", "## Fires on", "## Memory"] {
                assert!(kind.source.contains(heading), "{} lacks {heading}", kind.name);
            }
        }
    }
}
