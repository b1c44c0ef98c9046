//! A finding as OCSF Detection Finding.
