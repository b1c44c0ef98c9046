//! The service from outside: `run` the process, `senders` what they see, `clients` those that others
//! wrote, `sinks` where findings go, `prometheus` what is seen of it, `kill` what no kill changes,
//! `lake` where it lies and when it cannot be written, `objects` a bucket as a source, `s3` an object store, `learn` what detectors know beforehand.

mod clients;
mod files;
mod kill;
mod lake;
mod learn;
mod objects;
mod prometheus;
mod rsyslog;
mod run;
mod s3;
mod senders;
mod sinks;
mod stdin;
mod syslog;
mod tls;
