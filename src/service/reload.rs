//! What of a configuration can change while the service runs, and what it takes a restart for.
//!
//! Everything new is read and made before anything is changed, so a mistake changes nothing.

use super::Running;
use super::sources::Sources;
use crate::config::{Config, Service as Settings, Source};
use anyhow::Result;
use tokio::sync::watch;
use tracing::{info, warn};

/// What a value has become, once for each change.
pub fn news(settings: &mut watch::Receiver<Settings>) -> Option<Settings> {
    // Whoever changes them may be gone: the last ones stay.
    settings.has_changed().unwrap_or(false).then(|| settings.borrow_and_update().clone())
}

/// Changes what can be changed from `old`, which is in force, to `new`, and says what cannot.
///
/// Errors: a file of tokens, a certificate or a sink that is not sound; nothing is changed then.
pub fn reload(old: &mut Config, new: Config, sources: &Sources, running: &Running) -> Result<()> {
    let needs_restart = needs_restart(old, &new);
    let has_sources = !needs_restart.iter().any(|name| name == "[[source]]");
    let renewals = if has_sources { sources.read_again(&new)? } else { Vec::new() };
    let mut sinks = Vec::new();
    let has_sinks = !needs_restart.iter().any(|name| name == "[[sink]]");
    for (place, (_, mut sink)) in new.sinks()?.into_iter().enumerate().filter(|_| has_sinks) {
        if sink.is_made_anew() || old.sink.get(place) != new.sink.get(place) {
            sink.open()?;
            sinks.push((place, sink));
        }
    }
    sources.renew(renewals);
    let settings = Settings {
        flush_interval: new.service.flush_interval,
        snapshot_interval: new.service.snapshot_interval,
        maintenance_interval: new.service.maintenance_interval,
        file_retention: new.service.file_retention,
        sli_interval: new.service.sli_interval,
        sli_window: new.service.sli_window,
        ..old.service.clone()
    };
    running.change(settings.clone(), sinks);
    old.service = settings;
    if has_sources {
        old.source = new.source;
    }
    if has_sinks {
        old.sink = new.sink;
    }
    for setting in &needs_restart {
        warn!(setting, "changed in the configuration, and not while the service runs; restart it");
    }
    info!("the configuration was read again");
    Ok(())
}

/// The settings that differ and cannot change, as the configuration spells them.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let service = |name: &str| format!("{name} in [service]");
    let (a, b) = (&old.service, &new.service);
    let differs = [
        ("[scan]".to_owned(), format!("{:?}", old.scan) != format!("{:?}", new.scan)),
        ("[redaction]".to_owned(), old.redaction.key_file != new.redaction.key_file),
        ("[lake]".to_owned(), format!("{:?}", old.lake) != format!("{:?}", new.lake)),
        ("[telemetry]".to_owned(), old.telemetry != new.telemetry),
        (service("data"), a.data != b.data),
        (service("memory_bytes"), a.memory_bytes != b.memory_bytes),
        (service("delivery_bytes"), a.delivery_bytes != b.delivery_bytes),
        (service("segment_bytes"), a.segment_bytes != b.segment_bytes),
        (service("duplicate_horizon"), a.duplicate_horizon != b.duplicate_horizon),
        (service("duplicate_ids"), a.duplicate_ids != b.duplicate_ids),
        ("[[source]]".to_owned(), fixed(&old.source) != fixed(&new.source)),
        ("[[detect]]".to_owned(), old.detect != new.detect),
        ("[[sink]]".to_owned(), names(&old.sink) != names(&new.sink)),
    ];
    differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// Sources without what can change of them: where tokens and certificates lie, and not whether
/// there are certificates.
fn fixed(sources: &[Source]) -> String {
    let fixed = sources.iter().map(|source| {
        let mut source = source.clone();
        if let Source::Http(http) = &mut source {
            http.tokens_file = None;
        }
        if let Source::OtlpGrpc(otlp) = &mut source {
            otlp.tokens_file = None;
        }
        if let Some([cert, key, ca]) = source.tls_files_mut() {
            for file in [cert, key, ca].into_iter().flatten() {
                file.clear();
            }
        }
        source
    });
    format!("{:?}", fixed.collect::<Vec<_>>())
}

/// The kinds and names of sinks, which own files in the data folder.
fn names(sinks: &[toml::Table]) -> Vec<[Option<&toml::Value>; 2]> {
    sinks.iter().map(|sink| [sink.get("kind"), sink.get("name")]).collect()
}
