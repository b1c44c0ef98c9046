//! The command line.

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;
use telltale::commands::{self, Ending};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Milliseconds for which freed memory is kept: batches come and go many times a second, and pages
/// that are given back have to be cleared before they are used again.
const KEEP_MEMORY_MS: std::ffi::c_long = 5_000;

/// Reads the audit logs of identity systems and says when a service account is misused.
#[derive(Parser)]
#[command(name = "telltale", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Start with `telltale demo`, then `telltale scan` on a folder of audit logs."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Scan(commands::scan::Scan),
    Parse(commands::parse::Parse),
    Query(commands::query::Query),
    Run(commands::run::Run),
    Learn(commands::learn::Learn),
    Status(commands::status::Status),
    DeadLetters(commands::dead_letters::DeadLetters),
    Journal(commands::journal::Journal),
    Check(commands::check::Check),
    Demo(commands::demo::Demo),
    Simulate(commands::simulate::Simulate),
    List(commands::list::List),
    Explain(commands::explain::Explain),
}

fn main() -> ExitCode {
    // SAFETY: there is one thread yet, and the option exists. `MIMALLOC_PURGE_DELAY` wins.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEEP_MEMORY_MS) };
    let ending = match Cli::parse().command {
        Command::Scan(command) => command.run(),
        Command::Parse(command) => command.run(),
        Command::Query(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Learn(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::DeadLetters(command) => command.run(),
        Command::Journal(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Simulate(command) => command.run(),
        Command::List(command) => command.run(),
        Command::Explain(command) => command.run(),
    };
    match ending {
        Ok(Ending::Nothing) => ExitCode::SUCCESS,
        Ok(Ending::Findings) => ExitCode::from(1),
        Ok(Ending::Interrupted) => ExitCode::from(130),
        // Whoever reads our output has had enough, as `head` has.
        Err(cause) if is_broken_pipe(&cause) => ExitCode::SUCCESS,
        Err(cause) => {
            anstream::eprintln!("telltale: {cause:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(cause: &anyhow::Error) -> bool {
    cause.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<telltale_queries::QueryError>()
                .is_some_and(|query| query.is_broken_pipe())
    })
}
