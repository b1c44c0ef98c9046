//! The service from outside: `run` the process, `senders` what they see, `clients` those that others
//! wrote, `sinks` where findings go, `prometheus` what is seen of it, `kill` what no kill changes,
//! `learn` what detectors know beforehand, `reload` a new configuration,
//! `traces` spans for a collector.

mod clients;
mod files;
mod kill;
mod learn;
mod prometheus;
mod reload;
mod rsyslog;
mod run;
mod senders;
mod sinks;
mod stdin;
mod syslog;
mod tls;
mod traces;
