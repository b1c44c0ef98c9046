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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    /// Words of a page, options with their dashes.
    fn words(text: &str) -> BTreeSet<&str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect()
    }

    /// The sections of the page whose headings name a command have each option of it.
    #[test]
    fn the_reference_has_every_command_and_option() {
        let page = include_str!("../docs/reference/commands.md");
        let sections: Vec<_> = page
            .split("\n## ")
            .filter_map(|section| section.split_once('\n'))
            .map(|(heading, text)| (words(heading), words(text)))
            .collect();
        let cli = Cli::command();
        let mut commands = vec![(Vec::new(), &cli)];
        let mut lacks = Vec::new();
        while let Some((path, command)) = commands.pop() {
            for inner in command.get_subcommands() {
                let mut path = path.clone();
                path.push(inner.get_name());
                commands.push((path, inner));
            }
            if command.has_subcommands() {
                continue;
            }
            let name = path.join(" ");
            let own: Vec<_> = sections
                .iter()
                .filter(|(heading, _)| path.iter().all(|word| heading.contains(word)))
                .collect();
            if own.is_empty() {
                lacks.push(name.clone());
            }
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for option in shown.filter_map(|argument| argument.get_long()) {
                let option = format!("--{option}");
                if !own.iter().any(|(_, text)| text.contains(option.as_str())) {
                    lacks.push(format!("{name} {option}"));
                }
            }
        }
        assert!(lacks.is_empty(), "docs/reference/commands.md lacks {lacks:?}");
    }
}
