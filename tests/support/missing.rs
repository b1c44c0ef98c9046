//! Programs that a test needs and that are not built here.

/// Says that something is not tested for want of `what`. Where `CI` is set everything has to be
/// there, and the test fails.
#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
pub fn missing(what: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!is_ci, "missing where `CI` is set: {what}");
    eprintln!("not tested, missing: {what}");
}
