//! What went wrong, as the columns say it.

use telltale_schema::{Kind, Outcome};

/// An error as the columns say it.
pub(super) struct Failure {
    pub outcome: Outcome,
    pub status_code: Option<i16>,
    pub code: Option<String>,
}

impl Failure {
    /// Vault has no codes, only texts, which it may put together (`1 error occurred:\n\t* …`).
    /// Those of its own (`sdk/logical/error.go`) come first; of any other the plain words are kept
    /// and the values that it quotes left out, so that there are few of them.
    pub fn of(text: &str, meaning: Kind) -> Self {
        const KNOWN: [(&str, Outcome, i16); 14] = [
            // An unknown token is refused with both texts, and this one tells more.
            ("invalid token", Outcome::Failure, 403),
            ("bad token", Outcome::Failure, 403),
            ("permission denied", Outcome::Denied, 403),
            ("missing client token", Outcome::Failure, 400),
            ("invalid credentials", Outcome::Failure, 400),
            ("invalid username or password", Outcome::Failure, 400),
            ("invalid role or secret ID", Outcome::Failure, 400),
            ("invalid role ID", Outcome::Failure, 400),
            ("invalid secret id", Outcome::Failure, 400),
            ("unsupported operation", Outcome::Error, 405),
            ("unsupported path", Outcome::Error, 404),
            ("rate limit quota exceeded", Outcome::Error, 429),
            ("internal error", Outcome::Error, 500),
            ("Vault is sealed", Outcome::Error, 503),
        ];
        if let Some((code, outcome, status)) = KNOWN.iter().find(|(known, ..)| text.contains(known))
        {
            let (outcome, status_code) = (*outcome, Some(*status));
            return Self { outcome, status_code, code: Some((*code).to_owned()) };
        }
        let doubts = ["invalid", "expired", "could not be", "not authorized", "failed to verify"];
        let outcome = match meaning {
            Kind::Authentication if doubts.iter().any(|doubt| text.contains(doubt)) => {
                Outcome::Failure
            }
            _ => Outcome::Error,
        };
        let first = text.split("* ").nth(1).unwrap_or(text).lines().next().unwrap_or_default();
        let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
        let words = first.split_whitespace().map(|w| w.trim_end_matches([':', ',', '.', ';']));
        let code = words.filter(plain).take(8).collect::<Vec<_>>().join(" ");
        let status_code = text.contains("invalid request").then_some(400);
        Self { outcome, status_code, code: (!code.is_empty()).then_some(code) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_a_code_without_values() {
        for (text, outcome, code) in [
            ("1 error occurred:\n\t* permission denied\n\n", Outcome::Denied, "permission denied"),
            (
                "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n",
                Outcome::Failure,
                "invalid token",
            ),
            ("bad token", Outcome::Failure, "bad token"),
            ("role \"ci-7\" could not be found", Outcome::Failure, "role could not be found"),
            (
                "1 error occurred:\n\t* failed to reach 10.0.0.7: refused",
                Outcome::Error,
                "failed to reach refused",
            ),
        ] {
            let failure = Failure::of(text, Kind::Authentication);
            assert_eq!((failure.outcome, failure.code.as_deref()), (outcome, Some(code)), "{text}");
        }
    }
}
