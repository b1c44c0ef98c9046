//! The service from outside: `run` the process, `senders` what they see, `sinks` where
//! findings go, `kill` what no kill changes.

mod kill;
mod run;
mod senders;
mod sinks;
