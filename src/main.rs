//! The command line.

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;
use telltale::commands::{self, Ending};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    telltale::memory::keep_freed();
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
