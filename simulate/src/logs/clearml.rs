//! ClearML: what agents print, as a container runtime keeps it (its time first), and the API
//! server's log.
//! <https://github.com/clearml/clearml-agent>, <https://github.com/clearml/clearml-server>

use telltale_schema::time::Micros;

use crate::clock;
use crate::scribe::{Hand, Scribe};

pub(crate) const LOG: &str = "clearml";

/// Between lines of one agent, so that they stay together.
const LINE: Micros = 20;

/// An agent pulls a task and runs it.
pub(crate) fn task(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    let id = scribe.dice.hex(32);
    let suffix = scribe.dice.small(8);
    let queue = scribe.cast.queue.clone();
    let worker = &hand.actor.principal;
    agent(
        scribe,
        at,
        &[
            format!("task {id} pulled from {queue} by worker {worker}"),
            format!("Running task '{id}'"),
            format!(
                "Storing stdout and stderr log to '/tmp/.clearml_agent_out.{suffix}.txt', \
             '/tmp/.clearml_agent_out.{suffix}.txt'"
            ),
            "Current configuration (clearml_agent v1.9.2, location: /root/clearml.conf):"
                .to_owned(),
            format!("agent.worker_id = {worker}"),
            format!("agent.worker_name = {}", hand.actor.name),
            "Using environment access key CLEARML_API_ACCESS_KEY=********".to_owned(),
            format!("Executing task id [{id}]:"),
        ],
    );
    server(scribe, at + 3000, "tasks.started", None);
    let took = scribe.dice.range(60, 3000) * 1_000_000;
    agent(scribe, at + took, &[format!("DONE: Running task '{id}', exit status 0")]);
}

/// An agent with `--use-owner-token` that cannot become the owners of tasks.
pub(crate) fn refused_owner(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, owner: &str) {
    let id = scribe.dice.hex(32);
    server(scribe, at, "auth.login", Some("Unauthorized (impersonation not allowed)"));
    agent(
        scribe,
        at + 2000,
        &[
            format!("agent.worker_id = {}", hand.actor.principal),
            format!("Error: Could not login as the user '{owner}' for the task '{id}', skipping"),
        ],
    );
}

/// An agent starts; with `owner_token` it asks to become the owners of its tasks.
pub(crate) fn start(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, key: &str) {
    agent(
        scribe,
        at,
        &[
            "Current configuration (clearml_agent v1.9.2, location: /root/clearml.conf):"
                .to_owned(),
            format!("agent.worker_id = {}", hand.actor.principal),
            format!("agent.worker_name = {}", hand.actor.name),
            "api.version = 1.5".to_owned(),
            format!("Using environment access key CLEARML_API_ACCESS_KEY={key}"),
            "Using environment secret key CLEARML_API_SECRET_KEY=********".to_owned(),
        ],
    );
}

/// A worker that runs somebody's task as that person, and loads what the vault has for them.
pub(crate) fn owned_task(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, owner: &str) {
    let id = scribe.dice.hex(32);
    let queue = scribe.cast.queue.clone();
    agent(
        scribe,
        at,
        &[
            format!("task {id} pulled from {queue} by worker {}", hand.actor.principal),
            format!("Running task '{id}'"),
            format!("Loaded user vault for user {owner}: default"),
        ],
    );
    server(scribe, at + 1000, "tasks.started", None);
}

/// One line of the API server's log. Milliseconds follow a comma, and there is no zone.
pub(crate) fn server(scribe: &mut Scribe<'_>, at: Micros, call: &str, refusal: Option<&str>) {
    let at = at - at.rem_euclid(1000);
    let took = scribe.dice.range(1, 40);
    let milli = at.rem_euclid(1_000_000) / 1000;
    let time = clock::date_and_time(at, ' ');
    let text = match refusal {
        None => format!(
            "[{time},{milli:03}] [9] [INFO] [clearml.service_repo] Returned 200 for {call} in {took}ms"
        ),
        Some(refusal) => format!(
            "[{time},{milli:03}] [9] [WARNING] [clearml.service_repo] Returned 401 for {call} in \
             {took}ms, msg={refusal}"
        ),
    };
    scribe.write(at, LOG, text);
}

fn agent(scribe: &mut Scribe<'_>, at: Micros, lines: &[String]) {
    for (number, line) in lines.iter().enumerate() {
        let at = at + number as i64 * LINE;
        scribe.write(at, LOG, format!("{} {line}", clock::iso(at, 9)));
    }
}
