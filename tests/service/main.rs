//! The service from outside: `run` the process, `senders` what they see, `kill` what no kill changes.

mod kill;
mod rsyslog;
mod run;
mod senders;
mod stdin;
mod syslog;
mod tls;
