//! POST of a JSON body to one of several places, with what a sink needs around it: a URL that was
//! checked, authentication, time limits, and errors that hold no secret.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer an error quotes.
const MAX_QUOTED_BYTES: u64 = 300;

/// A place to post to. Its text form leaves out user and password.
pub(super) struct Endpoint {
    uri: Uri,
    shown: String,
    password: Option<String>,
}

impl Endpoint {
    /// The place at `path` below `base`, which may hold a path of its own and `user:password@`.
    ///
    /// Errors: what is wrong, without a word of `base`, where a password may stand anywhere.
    pub(super) fn new(base: &str, path: &str) -> Result<Self, String> {
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix(path).unwrap_or(base);
        let uri: Uri = format!("{base}{path}")
            .parse()
            .map_err(|cause| format!("{cause}; expected a URL such as `http://host:9093`"))?;
        let scheme = match uri.scheme_str() {
            Some(scheme @ ("http" | "https")) => scheme,
            Some(_) => return Err("its scheme is neither `http` nor `https`".into()),
            None => return Err("it has no scheme; expected such as `http://host:9093`".into()),
        };
        if uri.query().is_some() {
            return Err("it has a query, which does not belong in a base URL".into());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if uri.host().is_none_or(str::is_empty) {
            return Err("it has no host".into());
        }
        let shown = format!("{scheme}://{host}{}", uri.path());
        let password = user.split_once(':').map(|(_, password)| password.to_owned());
        Ok(Self { shown, password: password.filter(|p| !p.is_empty()), uri })
    }

    /// Whether the URL itself says who is calling.
    pub(super) fn has_user(&self) -> bool {
        self.uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Why one attempt failed.
#[derive(Debug, Error)]
pub(super) enum PostError {
    #[error("{0}")]
    Transport(Box<ureq::Error>),
    #[error("token file {path}")]
    Token {
        path: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("status {status}: {body}")]
    Status { status: u16, body: String },
}

impl PostError {
    /// Whether another attempt may go better: the fault is on the way or on the other side.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Token { .. } => false,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
        }
    }
}

/// Posts bodies. Proxies are taken from the environment.
pub(super) struct Client {
    agent: ureq::Agent,
    bearer_token_file: Option<PathBuf>,
}

impl Client {
    /// Errors: the token, or the certificates in `ca_file`, cannot be read.
    pub(super) fn new(
        bearer_token_file: Option<PathBuf>,
        ca_file: Option<&Path>,
    ) -> Result<Self, String> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TOTAL_TIMEOUT))
            .user_agent(concat!("telltale/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca_file {
            config = config.tls_config(trusting(path)?);
        }
        if let Some(path) = &bearer_token_file {
            let shown = path.display();
            fs::read_to_string(path)
                .map_err(|cause| format!("`bearer_token_file` {shown} cannot be read: {cause}"))?;
        }
        Ok(Self { agent: config.build().into(), bearer_token_file })
    }

    /// One attempt. The token is read each time, because a projected token is exchanged on disk.
    pub(super) fn post(&self, endpoint: &Endpoint, body: &[u8]) -> Result<(), PostError> {
        let mut request = self.agent.post(&endpoint.uri).content_type("application/json");
        let mut token = None;
        if let Some(path) = &self.bearer_token_file {
            let text = fs::read_to_string(path)
                .map_err(|cause| PostError::Token { path: path.display().to_string(), cause })?;
            request = request.header("Authorization", format!("Bearer {}", text.trim()));
            token = Some(text.trim().to_owned()).filter(|token| !token.is_empty());
        }
        let mut response =
            request.send(body).map_err(|cause| PostError::Transport(Box::new(cause)))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let mut quoted = Vec::new();
        // An answer that breaks off is quoted as far as it came.
        let _ = response.body_mut().as_reader().take(MAX_QUOTED_BYTES).read_to_end(&mut quoted);
        let mut body = String::from_utf8_lossy(&quoted).trim().replace(char::is_control, " ");
        for secret in token.iter().chain(&endpoint.password) {
            body = body.replace(secret, "[redacted]");
        }
        Err(PostError::Status { status, body })
    }
}

/// TLS that trusts the roots in a PEM file instead of the public ones.
pub fn trusting(path: &Path) -> Result<TlsConfig, String> {
    let roots = RootCerts::from(certificates(path)?);
    Ok(TlsConfig::builder().root_certs(roots).build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let shown = path.display();
    let pem =
        fs::read(path).map_err(|cause| format!("`ca_file` {shown} cannot be read: {cause}"))?;
    let items: Result<Vec<PemItem<'_>>, _> = ureq::tls::parse_pem(&pem).collect();
    let items = items.map_err(|cause| format!("`ca_file` {shown} is not PEM: {cause}"))?;
    let certificates: Vec<Certificate<'_>> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("`ca_file` {shown} holds no certificate"));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_endpoint_has_the_whole_path_and_no_password() {
        for (base, expected) in [
            ("http://am:9093", "http://am:9093/api/v2/alerts"),
            ("http://am:9093/", "http://am:9093/api/v2/alerts"),
            ("https://am/prefix/", "https://am/prefix/api/v2/alerts"),
            ("https://am/api/v2/alerts", "https://am/api/v2/alerts"),
            ("http://me:hunter2@am:9093", "http://am:9093/api/v2/alerts"),
            ("http://[::1]:9093", "http://[::1]:9093/api/v2/alerts"),
        ] {
            let endpoint = Endpoint::new(base, "/api/v2/alerts").map(|e| e.to_string());
            assert_eq!(endpoint.as_deref(), Ok(expected), "{base}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_quoting_it() {
        for base in ["", "am:hunter2", "ftp://me:hunter2@am", "http://", "http://am/?t=hunter2"] {
            let message = Endpoint::new(base, "/api/v2/alerts").err();
            let message = message.unwrap_or_else(|| panic!("{base} was taken for a URL"));
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
