//! The console of an agent or a task, with what the SDK logs there: what each line says, and what
//! earlier lines of the same payload said.

use super::line::Line;
use super::{LOG, Place, is_own_logger, server, unmasked, worker_and_run};
use std::collections::VecDeque;
use telltale_schema::{Event, Events, Kind, Micros, Outcome, PrincipalKind};

/// Whether a line is one that only an agent or the SDK writes. A few of its lines are too plain to
/// tell without the name of its logger (`Received new token`, `key = value`): they are read, but
/// they do not decide what a file is.
pub(super) fn recognises(line: &Line<'_>) -> bool {
    match Said::of(line.text) {
        Some(Said::NewToken | Said::Setting { .. }) => line.logger.is_some_and(is_own_logger),
        said => said.is_some(),
    }
}

/// Tasks whose worker is remembered; an agent runs few at once, and a file holds few agents.
const TASKS: usize = 32;

/// What the lines of one payload have said so far.
#[derive(Default)]
pub(super) struct Console<'a> {
    at: Option<Micros>,
    worker: Option<&'a str>,
    /// Task and worker, oldest first.
    tasks: VecDeque<(&'a str, &'a str)>,
    access_key: Option<&'a str>,
    /// `clearml_agent v1.9.2`.
    version: Option<&'a str>,
}

impl<'a> Console<'a> {
    /// Appends the event of a line, if it is one, and remembers what later lines lack.
    pub fn append(&mut self, line: &Line<'a>, place: &Place<'a>, events: &mut dyn Events) {
        self.at = line.at.or(self.at);
        self.worker = line.worker.or(self.worker);
        let Some(said) = Said::of(line.text) else { return };
        self.remember(&said);
        let at = self.at.unwrap_or(events.received_at());
        let Some(event) = said.event(at) else { return };

        let task = if event.kind == Kind::AgentTask { event.resource } else { None };
        let known = task.and_then(|task| self.tasks.iter().rev().find(|(id, _)| *id == task));
        let worker = known.map(|(_, worker)| *worker).or(line.worker).or(self.worker);
        let (principal, run) = worker.map(worker_and_run).unzip();
        let chain = [principal.unwrap_or_default(), event.target_id.unwrap_or_default()];
        let acts_as =
            event.kind == Kind::Impersonation && chain.iter().all(|link| !link.is_empty());
        let credential_id = event.credential_id.or(self.access_key);
        events.push(&Event {
            event_id: place.event_id(line.at),
            service: Some(if line.logger.is_some_and(is_own_logger) { "sdk" } else { "agent" }),
            principal_id: principal,
            principal_kind: match principal {
                Some(_) => PrincipalKind::Workload,
                None => PrincipalKind::Unknown,
            },
            delegation_chain: if acts_as { &chain } else { &[] },
            credential_id,
            credential_kind: credential_id.map(|_| "access_key"),
            session_id: run.flatten(),
            user_agent: self.version,
            instance_id: worker,
            raw: Some(place.record),
            ..event
        });
    }

    fn remember(&mut self, said: &Said<'a>) {
        match *said {
            Said::Pulled { task, worker } => {
                self.worker = Some(worker);
                if self.tasks.len() == TASKS {
                    self.tasks.pop_front();
                }
                self.tasks.push_back((task, worker));
            }
            Said::Setting { key: "agent.worker_id", value } => {
                self.worker = Some(value).filter(|value| !value.is_empty()).or(self.worker);
            }
            Said::Setting { key: "api.credentials.access_key", value }
            | Said::AccessKey(value)
            | Said::Refreshing { key: value } => {
                self.access_key = unmasked(value).or(self.access_key);
            }
            Said::Version(version) => self.version = Some(version),
            _ => {}
        }
    }
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said<'a> {
    Pulled {
        task: &'a str,
        worker: &'a str,
    },
    Running {
        task: &'a str,
    },
    /// The agent of a Kubernetes cluster has taken it.
    Pulling {
        task: &'a str,
    },
    /// It has made a pod for it.
    Scheduling {
        task: &'a str,
    },
    /// `ending` is `exit status <n>` or `user aborted`.
    Done {
        task: &'a str,
        ending: &'a str,
    },
    Executing {
        task: &'a str,
    },
    /// A key id, or asterisks.
    AccessKey(&'a str),
    /// `what` is `Loaded <scope> vault`.
    VaultLoaded {
        what: &'a str,
        user: &'a str,
        description: &'a str,
    },
    VaultFailed(&'a str),
    OwnerUnknown {
        task: &'a str,
    },
    OwnerRefused {
        task: &'a str,
        user: &'a str,
    },
    OwnerUnsupported,
    OwnerRoleRefused,
    NewToken,
    /// A new token is asked for with this access key.
    Refreshing {
        key: &'a str,
    },
    /// What the server answered to a call of the SDK.
    Failed {
        endpoint: &'a str,
        status: i16,
        message: &'a str,
    },
    /// `Failed getting token (error 401 from …): …`
    TokenRefused {
        status: Option<i16>,
    },
    Version(&'a str),
    Setting {
        key: &'a str,
        value: &'a str,
    },
    /// A line that tells nothing here.
    Banner,
}

impl<'a> Said<'a> {
    fn of(text: &'a str) -> Option<Self> {
        // Every line that is read begins with one of these, and nearly no other does.
        match text.as_bytes().first()? {
            b't' => pulled(text),
            b'R' => running(text),
            b'D' => done(text),
            b'P' | b'K' => glue(text),
            b'E' if text.starts_with("Executing") => {
                let task = text.strip_prefix("Executing task id [")?.strip_suffix("]:")?;
                is_id(task).then_some(Self::Executing { task })
            }
            b'U' => access_key(text),
            b'L' => vault(text),
            b'V' => (text == "Vault support is disabled").then_some(Self::Banner),
            b'N' => idle(text),
            b'C' => version(text),
            b'F' if text.starts_with("Failed getting vaults: ") => {
                text.split_once(": ").map(|(_, why)| Self::VaultFailed(why))
            }
            b'a' if text.starts_with("agent.") || text.starts_with("api.") => {
                let (key, value) = text.split_once(" = ")?;
                Some(Self::Setting { key, value: value.trim() })
            }
            _ => refusal(text),
        }
        .or_else(|| refusal(text))
    }

    /// The event of this line alone; `None` for what only helps to read others.
    fn event(&self, at: Micros) -> Option<Event<'a>> {
        let event = |kind, operation, outcome| Event {
            kind,
            operation: Some(operation),
            outcome,
            ..Event::new(LOG, at)
        };
        Some(match *self {
            Self::Pulled { task, .. } => {
                Event { resource: Some(task), ..event(Kind::AgentTask, "pulled", Outcome::Success) }
            }
            Self::Running { task } => Event {
                resource: Some(task),
                ..event(Kind::AgentTask, "Running task", Outcome::Unknown)
            },
            Self::Pulling { task } => Event {
                resource: Some(task),
                ..event(Kind::AgentTask, "Pulling task", Outcome::Success)
            },
            Self::Scheduling { task } => Event {
                resource: Some(task),
                ..event(Kind::AgentTask, "Kubernetes scheduling task", Outcome::Unknown)
            },
            Self::Executing { task } => Event {
                resource: Some(task),
                ..event(Kind::AgentTask, "Executing task", Outcome::Unknown)
            },
            Self::Done { task, ending } => {
                let status = ending.strip_prefix("exit status ");
                let outcome = match status {
                    Some("0") => Outcome::Success,
                    Some(_) => Outcome::Error,
                    None => Outcome::Unknown,
                };
                Event {
                    resource: Some(task),
                    error_code: Some(status.unwrap_or(ending)).filter(|code| *code != "0"),
                    ..event(Kind::AgentTask, "DONE", outcome)
                }
            }
            Self::AccessKey(key) => Event {
                credential_id: unmasked(key),
                ..event(Kind::Authentication, "Using environment access key", Outcome::Unknown)
            },
            Self::VaultLoaded { what, user, description } => Event {
                target_id: Some(user),
                resource: Some(description),
                ..event(Kind::SecretRead, what, Outcome::Success)
            },
            Self::VaultFailed(why) => {
                event(Kind::SecretRead, "Failed getting vaults", outcome_of(why))
            }
            Self::OwnerUnknown { task } => Event {
                resource: Some(task),
                ..event(Kind::Impersonation, "cannot retrieve owner user", Outcome::Error)
            },
            Self::OwnerRefused { task, user } => Event {
                target_id: Some(user),
                resource: Some(task),
                ..event(Kind::Impersonation, "Could not login as the user", Outcome::Denied)
            },
            Self::OwnerUnsupported => {
                event(Kind::Impersonation, "--use-owner-token", Outcome::Error)
            }
            Self::OwnerRoleRefused => Event {
                error_code: Some("User role not suitable"),
                ..event(Kind::Impersonation, "--use-owner-token", Outcome::Denied)
            },
            Self::NewToken => event(Kind::TokenIssued, "Received new token", Outcome::Success),
            Self::Failed { endpoint, status, message } => {
                server::answered(endpoint, status, Some(message), at)
            }
            Self::TokenRefused { status } => Event {
                status_code: status,
                outcome: match status {
                    Some(403) => Outcome::Denied,
                    Some(status) if status >= 500 => Outcome::Error,
                    _ => Outcome::Failure,
                },
                ..event(Kind::Authentication, "Failed getting token", Outcome::Failure)
            },
            Self::Version(_) | Self::Setting { .. } | Self::Refreshing { .. } | Self::Banner => {
                return None;
            }
        })
    }
}

/// Ids of tasks and queues are 32 hexadecimal digits; issues show them masked.
fn is_id(text: &str) -> bool {
    let id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    id || (!text.is_empty() && text.bytes().all(|byte| byte == b'*'))
}

/// `task <id> pulled from <queue id> by worker <worker id>`
fn pulled(text: &str) -> Option<Said<'_>> {
    let (task, rest) = text.strip_prefix("task ")?.split_once(" pulled from ")?;
    let (queue, worker) = rest.split_once(" by worker ")?;
    let worker = worker.trim();
    (is_id(task) && !queue.is_empty() && !worker.is_empty())
        .then_some(Said::Pulled { task, worker })
}

/// `Running task '<id>'`, `Refreshing token from <url> (access_key=<id>, exp=<time>)` or
/// `Received new token`.
fn running(text: &str) -> Option<Said<'_>> {
    if text == "Received new token" {
        return Some(Said::NewToken);
    }
    if let Some(rest) = text.strip_prefix("Refreshing token from ") {
        let key = rest.split_once(" (access_key=")?.1.split([',', ')']).next()?;
        return Some(Said::Refreshing { key });
    }
    let task = text.strip_prefix("Running task '")?.strip_suffix('\'')?;
    is_id(task).then_some(Said::Running { task })
}

/// What the agent of a Kubernetes cluster says: `Pulling task <id> launching on kubernetes cluster`,
/// `Pushing task <id> into temporary pending queue`, `Kubernetes scheduling task id=<id>…`.
fn glue(text: &str) -> Option<Said<'_>> {
    if let Some(rest) = text.strip_prefix("Pulling task ") {
        let task = rest.strip_suffix(" launching on kubernetes cluster")?;
        return is_id(task).then_some(Said::Pulling { task });
    }
    if let Some(rest) = text.strip_prefix("Pushing task ") {
        let task = rest.strip_suffix(" into temporary pending queue")?;
        return is_id(task).then_some(Said::Banner);
    }
    let rest = text.strip_prefix("Kubernetes scheduling task id=")?;
    let task = rest.split(|letter: char| !letter.is_ascii_hexdigit() && letter != '*').next()?;
    is_id(task).then_some(Said::Scheduling { task })
}

/// `DONE: Running task '<id>', exit status <n>` or `DONE: Running task '<id>' (user aborted)`
fn done(text: &str) -> Option<Said<'_>> {
    let (task, rest) = text.strip_prefix("DONE: Running task '")?.split_once('\'')?;
    let ending = rest.trim_matches([',', ' ', '(', ')', '.']);
    (is_id(task) && !ending.is_empty()).then_some(Said::Done { task, ending })
}

fn access_key(text: &str) -> Option<Said<'_>> {
    let rest = text.strip_prefix("Using environment ")?;
    if rest.starts_with("secret key ") {
        return Some(Said::Banner);
    }
    let (name, key) = rest.strip_prefix("access key ")?.split_once('=')?;
    matches!(name, "CLEARML_API_ACCESS_KEY" | "TRAINS_API_ACCESS_KEY" | "ALG_API_ACCESS_KEY")
        .then_some(Said::AccessKey(key.trim()))
}

/// `Loaded <scope> vault for user <id>: <description>`
fn vault(text: &str) -> Option<Said<'_>> {
    let at = text.strip_prefix("Loaded ")?.find(" vault for user ")? + "Loaded ".len();
    let what = &text[..at + " vault".len()];
    let rest = &text[at + " vault for user ".len()..];
    let (user, description) = rest.split_once(':').unwrap_or((rest, ""));
    let user = user.trim();
    (!user.is_empty() && !user.contains(' ') && what.len() < 80).then_some(Said::VaultLoaded {
        what,
        user,
        description: description.trim(),
    })
}

/// `Action failed <401/22: tasks.get_all/v2.10 (Unauthorized (…))> (id=…)`
fn failed(text: &str) -> Option<Said<'_>> {
    let (status, rest) = text.strip_prefix("Action failed <")?.split_once('/')?;
    let (_subcode, rest) = rest.split_once(": ")?;
    let (call, rest) = rest.split_once(" (")?;
    let endpoint = call.split('/').next().filter(|endpoint| endpoint.contains('.'))?;
    let message = rest.split_once(")>").map_or(rest, |(message, _)| message);
    Some(Said::Failed { endpoint, status: status.parse().ok()?, message })
}

fn idle(text: &str) -> Option<Said<'_>> {
    let queue = text.strip_prefix("No tasks in queue ").is_some_and(is_id);
    (queue || text.starts_with("No tasks in Queues, sleeping for ")).then_some(Said::Banner)
}

/// `Current configuration (clearml_agent v1.2.0, location: …):`
fn version(text: &str) -> Option<Said<'_>> {
    let version = text.strip_prefix("Current configuration (")?.split(',').next()?;
    (version.starts_with("clearml_agent v") || version.starts_with("trains_agent v"))
        .then_some(Said::Version(version))
}

/// What went wrong, behind whichever of `Error: ` and `clearml_agent: ERROR: ` it is printed.
fn refusal(text: &str) -> Option<Said<'_>> {
    let quoted = |after: &str| {
        let start = text.find(after)? + after.len();
        text[start..].split('\'').next().filter(|name| !name.is_empty())
    };
    let rest = text
        .strip_prefix("clearml_agent: ")
        .or_else(|| text.strip_prefix("trains_agent: "))
        .unwrap_or(text);
    let rest =
        ["ERROR: ", "Error: "].iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
    match () {
        () if rest.starts_with("cannot retrieve owner user for the task '") => {
            Some(Said::OwnerUnknown { task: quoted("for the task '")? })
        }
        () if rest.starts_with("Could not login as the user '") => Some(Said::OwnerRefused {
            user: quoted("as the user '")?,
            task: quoted("for the task '")?,
        }),
        // Old agents call it `Apiserver`.
        () if rest.starts_with("Server does not support --use-owner-token option")
            || rest.starts_with("Apiserver does not support --use-owner-token option") =>
        {
            Some(Said::OwnerUnsupported)
        }
        () if rest.starts_with("Action failed <") => failed(rest),
        () if rest.starts_with("User role not suitable for --use-owner-token option") => {
            Some(Said::OwnerRoleRefused)
        }
        () if rest.starts_with("Failed getting token (error ") => {
            let status = rest["Failed getting token (error ".len()..].split([' ', ')']).next()?;
            Some(Said::TokenRefused { status: status.parse().ok() })
        }
        () => None,
    }
}

fn outcome_of(why: &str) -> Outcome {
    let says = |word: &str| why.contains(word);
    match () {
        () if says("403") || says("orbidden") || says("not allowed") => Outcome::Denied,
        () if says("401") || says("nauthorized") || says("nvalid credentials") => Outcome::Failure,
        () => Outcome::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "113333b6379d4a82a8627103163c5c1a";

    #[test]
    fn a_line_of_an_agent_is_recognised_and_prose_is_not() {
        for text in [
            format!("task {TASK} pulled from {TASK} by worker node:gpu0,1"),
            format!("DONE: Running task '{TASK}', exit status 137"),
            format!("Error: Could not login as the user 'u1' for the task '{TASK}', skipping"),
            format!("Pulling task {TASK} launching on kubernetes cluster"),
            format!("Pushing task {TASK} into temporary pending queue"),
            format!("Kubernetes scheduling task id={TASK} on pod=clearml-id-{TASK}"),
            format!("May 12 10:00:00 node1 clearml-agent[7]: Running task '{TASK}'"),
            "Loaded administrator vault for user u1: defaults".to_owned(),
            "clearml_agent: ERROR: Failed getting token (error 401 from http://a): no".to_owned(),
            "clearml_agent: ERROR: Apiserver does not support --use-owner-token option".to_owned(),
            "2024-05-12 10:00:00,123 - clearml.session - INFO - Received new token".to_owned(),
            "2024-05-12 10:00:00,123 - clearml.Task - ERROR - Action failed <400/110: \
             tasks.stopped/v2.10 (Invalid task status)> (task=1)"
                .to_owned(),
        ] {
            assert!(recognises(&Line::of(&text)), "{text}");
        }
        for text in [
            "What a ClearML agent writes to its console, and one line of the API server's log.",
            "task 1 pulled from 2 by worker 3",
            "Running task 'build'",
            "Pulling task 7 launching on kubernetes cluster",
            "Kubernetes scheduling task id=build",
            "Received new token",
            "2024-05-12 10:00:00,123 - billing.session - INFO - Received new token",
            "Action failed <mount>: no such device (retry)",
            "Refreshing token from the cache",
            "agent.name = a1",
            "Using environment variables",
            "Loaded the vault for users",
            "# ClearML",
        ] {
            assert!(!recognises(&Line::of(text)), "{text}");
        }
    }

    #[test]
    fn an_ending_is_read() {
        let line = format!("DONE: Running task '{TASK}' (user aborted)");
        assert_eq!(Said::of(&line), Some(Said::Done { task: TASK, ending: "user aborted" }));
    }
}
