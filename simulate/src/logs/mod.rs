//! The raw shape of each log: one file each, records as the vendor writes them.

pub(crate) mod aws;
mod aws_ops;
pub(crate) mod clearml;
pub(crate) mod gcp;
pub(crate) mod kubernetes;
pub(crate) mod okta;
pub(crate) mod vault;

/// An operation, in the words of its log.
///
/// `service` is the event source, API group, mount type or legacy type; `detail` the request
/// parameter, permission, resource, path or message that goes with `name`.
#[derive(Debug)]
pub(crate) struct Op {
    pub service: &'static str,
    pub name: &'static str,
    pub detail: &'static str,
    pub read_only: bool,
}

const fn read(service: &'static str, name: &'static str, detail: &'static str) -> Op {
    Op { service, name, detail, read_only: true }
}

const fn write(service: &'static str, name: &'static str, detail: &'static str) -> Op {
    Op { service, name, detail, read_only: false }
}
