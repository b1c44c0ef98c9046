//! What the benchmarks share: input of a realistic shape, the yardstick, and rounds that compare.

use serde::Deserialize;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// The fields that CloudTrail's parser reads, as plain serde: what a bare typed parse costs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the cost of reading them counts")]
pub struct Yardstick<'a> {
    #[serde(borrow, rename = "eventID")]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    aws_region: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sourceIPAddress")]
    source_ip_address: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error_code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error_message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    recipient_account_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_identity: Option<YardstickIdentity<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the cost of reading them counts")]
struct YardstickIdentity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    principal_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    account_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access_key_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    invoked_by: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session_context: Option<YardstickContext<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the cost of reading them counts")]
struct YardstickContext<'a> {
    #[serde(borrow)]
    session_issuer: Option<YardstickIssuer<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only the cost of reading them counts")]
struct YardstickIssuer<'a> {
    #[serde(borrow)]
    arn: Option<Cow<'a, str>>,
}

/// Runs `one` and `other` in turn and gives the median time of each and of the ratio.
pub fn compare(rounds: usize, mut one: impl FnMut(), mut other: impl FnMut()) -> [f64; 3] {
    let time = |work: &mut dyn FnMut()| -> Duration {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let (mut ones, mut others, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let a = time(&mut one).as_secs_f64();
        let b = time(&mut other).as_secs_f64();
        ones.push(a);
        others.push(b);
        ratios.push(a / b);
    }
    [ones, others, ratios].map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}
