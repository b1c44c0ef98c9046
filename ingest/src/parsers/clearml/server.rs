//! The API server's own log.

use super::{LOG, Place};
use crate::value::outcome_of_status;
use telltale_schema::{Event, Events, Kind, Micros, Outcome};

/// Appends what a line of the server's loggers says, if it is about a call or a token.
pub(super) fn append(text: &str, at: Micros, place: &Place<'_>, events: &mut dyn Events) {
    let event = match (text.strip_prefix("Returned "), token_failure(text)) {
        (Some(rest), _) => returned(rest, at),
        (None, Some((operation, code))) => Some(Event {
            kind: Kind::Authentication,
            operation,
            outcome: Outcome::Failure,
            status_code: Some(401),
            error_code: Some(code),
            ..Event::new(LOG, at)
        }),
        (None, None) => fixed_user(text, at),
    };
    if let Some(event) = event {
        events.push(&Event {
            event_id: place.event_id(Some(at)),
            service: Some("apiserver"),
            raw: Some(place.record),
            ..event
        });
    }
}

/// `200 for tasks.get_by_id in 9ms`, from 300 on with `, msg=…`.
fn returned(rest: &str, at: Micros) -> Option<Event<'_>> {
    let (status, rest) = rest.split_once(" for ")?;
    let (endpoint, rest) = rest.split_once(" in ")?;
    let (took, message) = match rest.split_once(", msg=") {
        Some((took, message)) => (took, Some(message)),
        None => (rest, None),
    };
    let status: i16 = status.trim().parse().ok()?;
    let took: f64 = took.trim().strip_suffix("ms")?.trim().parse().ok()?;
    Some(Event {
        latency_us: (took.is_finite() && took >= 0.0).then_some((took * 1000.0) as i64),
        ..answered(endpoint, status, message, at)
    })
}

/// A call of `endpoint` and the server's answer to it.
pub(super) fn answered<'t>(
    endpoint: &'t str,
    status: i16,
    message: Option<&'t str>,
    at: Micros,
) -> Event<'t> {
    let refusal = message.and_then(impersonation_refusal);
    let outcome = match (&refusal, message) {
        (Some(outcome), _) => *outcome,
        (None, Some(message)) => outcome_of(status, message),
        (None, None) => outcome_of_status(i64::from(status)),
    };
    Event {
        kind: if refusal.is_some() { Kind::Impersonation } else { kind_of(endpoint) },
        operation: Some(endpoint),
        outcome,
        status_code: Some(status),
        error_code: message.and_then(|message| code_of(message, status, refusal.is_some())),
        target_id: refusal.and(message).and_then(user_of),
        ..Event::new(LOG, at)
    }
}

/// The outcome of a refused `X-ClearML-Impersonate-As` or `Act-As`.
fn impersonation_refusal(message: &str) -> Option<Outcome> {
    if message.contains("impersonation not allowed") || message.contains("unknown user") {
        return Some(Outcome::Denied);
    }
    message.contains("only one allowed").then_some(Outcome::Error)
}

/// A status of 401 also stands for callers that are known and may not.
fn outcome_of(status: i16, message: &str) -> Outcome {
    let refused = ["not authorized", "not allowed", "user role"];
    match status {
        401 if refused.iter().any(|text| message.contains(text)) => Outcome::Denied,
        _ => outcome_of_status(i64::from(status)),
    }
}

/// The reason as the server's list of errors spells it, without the values behind it. What stands
/// in brackets is from that list only for refusals.
fn code_of(message: &str, status: i16, refusal: bool) -> Option<&str> {
    let reason = message.split(": ").next().unwrap_or_default();
    let reason = match refusal || matches!(status, 401 | 403) {
        true => reason.split_inclusive(')').next().unwrap_or_default(),
        false => reason.split(" (").next().unwrap_or_default(),
    };
    let end = reason.char_indices().nth(80).map_or(reason.len(), |(at, _)| at);
    Some(reason[..end].trim()).filter(|reason| !reason.is_empty())
}

/// The user that somebody wanted to be: `…: user=<id>, role=…`.
fn user_of(message: &str) -> Option<&str> {
    let (_, pairs) = message.split_once(": ")?;
    pairs.split(", ").find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim_end_matches(')');
        matches!(key, "user" | "user_id" | "id").then_some(value).filter(|v| !v.is_empty())
    })
}

/// `Failed parsing token. Call info: service=tasks, action=get_all, …`: the call if it is told,
/// and what failed.
fn token_failure(text: &str) -> Option<(Option<&str>, &str)> {
    let code = ["Failed parsing token", "Failed while processing token", "Failed processing token"]
        .into_iter()
        .find(|code| text.starts_with(code))?;
    let value = |key: &str| {
        let start = text.find(key)? + key.len();
        text[start..].split([',', ' ']).next().filter(|value| !value.is_empty())
    };
    Some((value("endpoint=").or_else(|| value("action=")), code))
}

/// What a server does at its start to the users of its configuration: `Creating user: <name>`,
/// `Resetting credentials for existing user <id> (<name>)`.
fn fixed_user(text: &str, at: Micros) -> Option<Event<'_>> {
    let (kind, operation, user) = match text.strip_prefix("Creating user: ") {
        Some(name) => (Kind::IdentityChanged, "Creating user", name),
        None => {
            let (what, user) = text.split_once(" credentials for existing user ")?;
            let user = user.split_once(" (").map_or(user, |(id, _)| id);
            match what {
                "Resetting" => (Kind::CredentialRotated, "Resetting credentials", user),
                "Revoking" => (Kind::CredentialRevoked, "Revoking credentials", user),
                _ => return None,
            }
        }
    };
    Some(Event {
        kind,
        operation: Some(operation),
        outcome: Outcome::Success,
        target_id: Some(user.trim()).filter(|user| !user.is_empty()),
        ..Event::new(LOG, at)
    })
}

/// What an endpoint (`service.action`) is about.
/// Source: `apiserver/schema/services/{auth,users}.conf` of clearml-server.
pub(super) fn kind_of(endpoint: &str) -> Kind {
    match endpoint {
        "auth.login" => Kind::Authentication,
        "auth.get_token_for_user" => Kind::Impersonation,
        "auth.create_credentials" => Kind::CredentialCreated,
        "auth.revoke_credentials" => Kind::CredentialRevoked,
        "auth.create_user" | "auth.edit_user" | "auth.delete_user" | "users.create"
        | "users.update" | "users.delete" => Kind::IdentityChanged,
        "users.get_vaults" | "users.get_vault" => Kind::SecretRead,
        "users.create_vault" | "users.update_vault" | "users.delete_vault" => Kind::PolicyChanged,
        _ => Kind::ApiCall,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_call_says_outcome_code_and_latency() {
        for (text, kind, outcome, code, target, latency) in [
            ("200 for tasks.get_by_id in 9ms", Kind::ApiCall, Outcome::Success, None, None, 9_000),
            (
                "401 for auth.login in 5ms, msg=Unauthorized (invalid credentials) (failed to locate provided credentials)",
                Kind::Authentication,
                Outcome::Failure,
                Some("Unauthorized (invalid credentials)"),
                None,
                5_000,
            ),
            (
                "400 for tasks.enqueue in 4ms, msg=Validation error (Cannot skip it): task=1",
                Kind::ApiCall,
                Outcome::Error,
                Some("Validation error"),
                None,
                4_000,
            ),
            (
                "400 for tasks.get_all in 1ms, msg=Impersonation error (unknown user): user=u7",
                Kind::Impersonation,
                Outcome::Denied,
                Some("Impersonation error (unknown user)"),
                Some("u7"),
                1_000,
            ),
            (
                "401 for users.get_all in 0.5ms, msg=Unauthorized (entity not allowed)",
                Kind::ApiCall,
                Outcome::Denied,
                Some("Unauthorized (entity not allowed)"),
                None,
                500,
            ),
        ] {
            let event = returned(text, 0).unwrap();
            assert_eq!((event.kind, event.outcome), (kind, outcome), "{text}");
            assert_eq!((event.error_code, event.target_id), (code, target), "{text}");
            assert_eq!(event.latency_us, Some(latency), "{text}");
        }
        assert!(returned("200 bottles", 0).is_none());
    }
}
