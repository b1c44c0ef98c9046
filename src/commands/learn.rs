//! `telltale learn`: what is usual, from history, before the first live event.

use super::{Bar, DataFolder, Ending, Input, stop_on_signal, thousands};
use crate::analysis::Gather;
use crate::journal::disk::Folder;
use crate::journal::{Entry, Reader};
use crate::pipeline::{Intake, Progress, Take, into_inner};
use crate::service::lake::Lake;
use crate::service::snapshot::{self, Snapshot};
use crate::service::{hold, journal_folder};
use crate::store::Store;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use telltale_detect::engine::Engine;
use telltale_detect::timeline::Timeline;
use telltale_ingest::redact::Redactor;
use telltale_schema::{EventBatch, Micros};

/// Teach the detectors of a service what is usual, from archives or from its own lake
///
/// Runs the detectors over the history and over what the data folder holds already, and saves what
/// they know for the next start of `telltale run`. Nothing of the history is stored, and nobody is
/// told what was found in it: `telltale scan` does that. The service must not run meanwhile.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  telltale learn /archive/cloudtrail --data /var/lib/telltale\n  telltale learn --lake --data /var/lib/telltale    # after an upgrade, or with other settings"
)]
pub struct Learn {
    #[command(flatten)]
    input: Input,

    /// Learn from what the data folder holds alone
    #[arg(long, conflicts_with_all = ["paths", "log"])]
    lake: bool,

    #[command(flatten)]
    folder: DataFolder,
}

impl Learn {
    pub fn run(self) -> Result<Ending> {
        let config = self.folder.load()?;
        let data = &config.service.data;
        ensure!(
            self.lake || !self.input.paths.is_empty(),
            "nothing to learn from; name files, folders or globs of audit logs, or `--lake`"
        );
        ensure!(
            !self.lake || journal_folder(data).is_dir(),
            "`{}` holds nothing to learn from; `telltale run --data` makes a data folder",
            data.display()
        );
        let _lock = hold(data)?;
        let saved = saved(data)?;

        let progress = Arc::new(Progress::default());
        stop_on_signal(&progress)?;
        let timeline = Mutex::new(Timeline::default());
        let (mut intake, mut bar) = (Intake::default(), None);
        if !self.lake {
            let (key, _) = config.redaction.key_within(data)?;
            let redactor = Redactor::new(&key);
            let reading = self.input.reading(&config, &redactor, &progress)?;
            let total = reading.files.bytes();
            bar = Some(Bar::start(total, &progress, self.input.no_progress));
            intake = reading.run(|| Gather::new(&timeline));
        }
        let mut own = Gather::new(&timeline);
        let mut held = 0;
        let mut take = |batch: EventBatch| {
            held += batch.len() as u64;
            own.add(&batch);
            !progress.stop.load(Ordering::Relaxed)
        };
        if journal_folder(data).is_dir() {
            if let Some(lake) = Lake::open_existing(data)? {
                lake.events.events(&mut take).context("the lake cannot be read")?;
            }
            Store::open(data)?.view()?.events(&mut take)?;
        }
        own.finish();
        if progress.stop.load(Ordering::Relaxed) {
            drop(bar);
            anstream::eprintln!("telltale: interrupted; nothing was learnt");
            return Ok(Ending::Interrupted);
        }
        intake.ensure_opened().context("nothing was learnt")?;
        if let Some(bar) = &bar {
            bar.phase("learning");
        }
        let mut timeline = into_inner(timeline);
        timeline.sort(1);
        let mut engine = Engine::new(config.detectors()?, config.scan.allowed_lateness_micros());
        // What claims to be from later would make all that is still to come late.
        let now = crate::commands::now();
        let past = timeline.observations().take_while(|it| it.event.event_time <= now);
        past.for_each(|observation| engine.show(&observation));
        let waiting = snapshot::begin(data, &saved, &engine);
        waiting.and_then(|it| it.new.settle()).context("what was learnt cannot be saved")?;
        drop(bar);

        crate::report::write_rejects(
            &mut anstream::AutoStream::auto(std::io::stderr().lock()),
            &intake.rejects,
        )?;
        writeln!(
            anstream::stdout(),
            "learnt from {} events, {} of them held by `{}`; {} findings in them are told to nobody",
            thousands(timeline.len() as u64),
            thousands(held),
            data.display(),
            engine.findings().len(),
        )?;
        Ok(Ending::Nothing)
    }
}

/// What the folder's snapshot says, or would say of a new folder.
///
/// Errors: the journal goes on behind it, so that a start has to read that first.
fn saved(data: &Path) -> Result<Snapshot> {
    let saved = snapshot::read(data)?.map(|(saved, _)| saved);
    let saved = saved.unwrap_or(Snapshot {
        entry: 0,
        totals: Vec::new(),
        unwritten: Vec::new(),
        newest_event: Micros::MIN,
        newest_received: Micros::MIN,
    });
    let journal = journal_folder(data);
    if journal.is_dir() {
        let disk = Folder::existing(journal);
        let mut behind = Reader::open(&disk, saved.entry + 1)?;
        while let Some((number, body)) = behind.next_entry()? {
            ensure!(
                Entry::decode_head(number, &body)?.ledger.is_empty(),
                "the service did not end in order; start `telltale run` on `{}` once and stop it with SIGTERM, so that no finding of its last events is missed",
                data.display()
            );
        }
    }
    Ok(saved)
}
