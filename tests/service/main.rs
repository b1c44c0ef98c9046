//! The service from outside: `run` the process, `check` what it refuses, `senders` what they see,
//! `clients` those that others wrote, `sinks` where findings go, `prometheus` what is seen of it, `feeds`
//! what is sent, `kill` what no kill changes, `clock` nor a clock that is set back, `faults` nor a disk that
//! fails, `kafka` nor a broker that does, `lake` where it lies and when it cannot be written, `learn` what
//! detectors know beforehand, `objects` a bucket as a source, `s3` an object store, `reload` a new
//! configuration, `traces` spans for a collector.

mod check;
mod clients;
mod clock;
mod faults;
mod feeds;
mod files;
mod kafka;
mod kill;
mod lake;
mod learn;
#[path = "../support/missing.rs"]
mod missing;
mod objects;
mod prometheus;
mod reload;
mod rsyslog;
mod run;
mod s3;
mod senders;
mod sinks;
mod stdin;
mod syslog;
mod tls;
mod traces;
