//! Random estates at the level of events: accounts of every temperament, days that look wrong and
//! are not, and attacks of many kinds, all from a seed.
#![allow(dead_code)]

use crate::support::Record;
use telltale_schema::Micros;
use telltale_schema::time::{DAY, HOUR, MINUTE, SECOND, format_instant};

/// Monday, 2026-01-05T00:00:00Z.
pub const START: Micros = 20_458 * DAY;

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: i64) -> i64 {
        (self.next() % bound.max(1) as u64) as i64
    }

    pub fn chance(&mut self, of: f64) -> bool {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64 <= of
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as i64) as usize]
    }
}

/// An attack that was woven in.
pub struct Attack {
    pub name: &'static str,
    pub victims: Vec<String>,
    pub began_at: Micros,
}

pub struct Estate {
    pub records: Vec<Record>,
    pub attacks: Vec<Attack>,
    pub random: Random,
    days: i64,
    ids: u64,
}

const OPERATIONS: &[(&str, &str)] = &[
    ("GetObject", "s3"),
    ("PutObject", "s3"),
    ("ListObjects", "s3"),
    ("SendMessage", "sqs"),
    ("ReceiveMessage", "sqs"),
    ("GetItem", "dynamodb"),
    ("Query", "dynamodb"),
    ("PutItem", "dynamodb"),
    ("GetSecretValue", "secretsmanager"),
    ("Decrypt", "kms"),
    ("Encrypt", "kms"),
    ("PutMetricData", "cloudwatch"),
    ("PutLogEvents", "logs"),
    ("GetParameter", "ssm"),
    ("Publish", "sns"),
    ("StartExecution", "states"),
    ("DescribeInstances", "ec2"),
    ("DescribeVolumes", "ec2"),
    ("GetAuthorizationToken", "ecr"),
    ("BatchGetImage", "ecr"),
    ("UpdateService", "ecs"),
    ("RegisterTaskDefinition", "ecs"),
    ("InvokeFunction", "lambda"),
    ("DescribeDBInstances", "rds"),
];
const ENUMERATION: &[(&str, &str)] = &[
    ("ListUsers", "iam"),
    ("ListRoles", "iam"),
    ("ListBuckets", "s3"),
    ("DescribeInstances", "ec2"),
    ("ListSecrets", "secretsmanager"),
    ("ListFunctions", "lambda"),
    ("DescribeDBInstances", "rds"),
    ("ListAttachedUserPolicies", "iam"),
    ("DescribeSnapshots", "ec2"),
    ("ListTables", "dynamodb"),
    ("DescribeParameters", "ssm"),
    ("ListClusters", "ecs"),
];
const TOOLS: &[&str] = &[
    "Boto3/1.34.11 Python/3.11 Linux/5.15 Botocore/1.34",
    "aws-sdk-go/1.44.2 (go1.20; linux; amd64)",
    "aws-sdk-java/1.12.500 Linux/5.10 OpenJDK",
    "aws-sdk-js/3.400.0 os/linux lang/js",
    "aws-sdk-rust/1.1.0 os/linux",
];

/// One way of working.
#[derive(Clone)]
pub struct Habit {
    pub principal: String,
    pub kind: &'static str,
    pub credential: String,
    pub session: Option<String>,
    pub address: String,
    pub tool: String,
    pub operations: Vec<(&'static str, &'static str)>,
}

impl Estate {
    /// An estate of `days` with attacks or without.
    pub fn new(seed: u64, days: i64, attacks: bool) -> Self {
        let mut estate = Self {
            records: Vec::new(),
            attacks: Vec::new(),
            random: Random(seed),
            days,
            ids: seed << 32,
        };
        estate.live(attacks);
        estate.records.sort_by_key(|record| (record.at, record.id));
        estate
    }

    fn habit(&mut self, name: &str, kind: &'static str, operations: usize) -> Habit {
        let random = &mut self.random;
        let key = random.below(1 << 40);
        let mut chosen: Vec<_> = (0..operations).map(|_| *random.pick(OPERATIONS)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let separator = if kind == "role" { "role" } else { "user" };
        Habit {
            principal: format!("arn:aws:iam::111122223333:{separator}/{name}"),
            kind,
            credential: format!("AKIA{key:012X}"),
            session: None,
            address: self.office(),
            tool: (*self.random.pick(TOOLS)).to_owned(),
            operations: chosen,
        }
    }

    /// An address of the estate's own networks.
    fn office(&mut self) -> String {
        let network = self.random.below(12);
        format!("52.{}.{}.{}", 20 + network % 4, 10 + network, 1 + self.random.below(250))
    }

    /// An address that nobody of the estate uses.
    fn stranger(&mut self) -> String {
        let random = &mut self.random;
        let first = *random.pick(&[45, 91, 103, 146, 185, 193]);
        format!("{first}.{}.{}.{}", random.below(250), random.below(250), 1 + random.below(250))
    }

    /// An address out of a cloud's pool.
    fn pool(&mut self) -> String {
        let random = &mut self.random;
        let first = *random.pick(&[3, 13, 18, 34, 35, 54]);
        format!("{first}.{}.{}.{}", random.below(250), random.below(250), 1 + random.below(250))
    }

    pub fn act(&mut self, habit: &Habit, at: Micros, operation: (&str, &str)) -> &mut Record {
        self.ids += 1;
        let mut id = [0u8; 16];
        let mixed = Random(self.ids).next();
        id[..8].copy_from_slice(&mixed.to_be_bytes());
        id[8..].copy_from_slice(&self.ids.to_be_bytes());
        let kind = match operation.0 {
            "GetSecretValue" => "secret_read",
            "AssumeRole" => "impersonation",
            "CreateAccessKey" => "credential_created",
            "AttachUserPolicy" | "PutUserPolicy" => "policy_changed",
            "StopLogging" => "logging_changed",
            _ => "api_call",
        };
        self.records.push(Record {
            event_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            event_time: format_instant(at),
            received_at: format_instant(at),
            log: "aws_cloudtrail".to_owned(),
            tenant: Some("111122223333".to_owned()),
            kind: kind.to_owned(),
            operation: Some(operation.0.to_owned()),
            service: Some(format!("{}.amazonaws.com", operation.1)),
            outcome: "success".to_owned(),
            principal_id: Some(habit.principal.clone()),
            principal_kind: habit.kind.to_owned(),
            credential_id: Some(habit.credential.clone()),
            session_id: habit.session.clone(),
            source_ip: Some(habit.address.clone()),
            user_agent: Some(habit.tool.clone()),
            at,
            id,
            ..Record::default()
        });
        self.records.last_mut().expect("one was pushed")
    }

    fn work(&mut self, habit: &Habit, at: Micros) {
        let operation = *self.random.pick(&habit.operations);
        self.act(habit, at, operation);
    }

    fn assume(&mut self, habit: &Habit, at: Micros, role: &str, denied: bool) {
        let child = format!("ASIA{:012X}", self.random.below(1 << 40));
        let record = self.act(habit, at, ("AssumeRole", "sts"));
        record.target_id = Some(format!("arn:aws:iam::111122223333:role/{role}"));
        if denied {
            record.outcome = "denied".to_owned();
        } else {
            record.issued_credential_id = Some(child);
        }
    }

    fn refuse(&mut self, habit: &Habit, at: Micros, operation: (&str, &str)) {
        let record = self.act(habit, at, operation);
        record.outcome = "denied".to_owned();
        record.error_code = Some("AccessDenied".to_owned());
    }

    fn live(&mut self, attacks: bool) {
        let end = START + self.days * DAY;
        // Steady jobs; some of them move, some are upgraded, some are rotated.
        let move_at = START + 9 * DAY + 7 * HOUR;
        let upgrade_at = START + 12 * DAY + 9 * HOUR;
        let mut steady = Vec::new();
        for n in 0..42 {
            let operations = 2 + self.random.below(5) as usize;
            let habit = self.habit(&format!("svc-{n}"), "service_account", operations);
            steady.push(habit.clone());
            let period = *self.random.pick(&[5 * MINUTE, 15 * MINUTE, HOUR, 20 * MINUTE]);
            let weekdays = n % 7 == 3;
            let mut now = habit;
            let moved = format!("44.9.{}.{}", n / 3, 10 + n);
            let mut at = START + self.random.below(HOUR);
            let quits = if attacks && n == 40 { START + 6 * DAY } else { end };
            let rehosted = START + self.random.below(20) * DAY + 10 * HOUR;
            while at < end.min(quits) {
                let day = (at - START) / DAY;
                let holiday = n % 5 == 1 && (day == 14 || day == 15);
                if !(holiday || weekdays && day % 7 >= 5) {
                    if n % 4 == 0 && at > move_at + (n as i64 * 9) * MINUTE {
                        now.address.clone_from(&moved);
                    }
                    if n % 2 == 1 && at > upgrade_at + (n as i64 % 9) * 2 * HOUR {
                        now.tool = "aws-sdk-new/2.0 os/linux".to_owned();
                    }
                    if n == 22 && at > rehosted {
                        now.address = "47.8.7.6".to_owned();
                        now.tool = TOOLS[4].to_owned();
                    }
                    if n % 6 == 2 && now.credential.starts_with("AKIA") && day >= 8 {
                        // A rotation; a straggler uses the old key for a day.
                        if day >= 9 || self.random.chance(0.5) {
                            now.credential = format!("AKIB{n:012X}");
                        }
                    }
                    if n % 8 == 5 && day == 11 && self.random.chance(0.02) {
                        // A new version with new calls, one of which it may not make yet.
                        self.act(&now, at, ("PutItem", "dynamodb"));
                        self.act(&now, at + SECOND, ("StartQueryExecution", "athena"));
                        self.refuse(&now, at + 2 * SECOND, ("GetQueryResults", "athena"));
                    }
                    self.work(&now, at);
                    if self.random.chance(0.002) {
                        let operation = *self.random.pick(OPERATIONS);
                        self.refuse(&now, at + SECOND, operation);
                    }
                }
                at += period + self.random.below(period / 10);
            }
        }
        // Jobs that come once a day, a week, a month, a quarter.
        for (n, period) in [1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 7, 7, 7, 14, 30].into_iter().enumerate() {
            let habit = self.habit(&format!("job-{n}"), "service_account", 4);
            let mut at = START + self.random.below(DAY);
            while at < end {
                for step in 0..12 {
                    self.work(&habit, at + step * 20 * SECOND);
                }
                at += period * DAY + self.random.below(HOUR);
            }
        }
        for n in 0..2 {
            let habit = self.habit(&format!("quarterly-{n}"), "service_account", 3);
            for quarter in [-182, -91, 0] {
                for step in 0..30 {
                    let at = START + (12 + quarter) * DAY + step * MINUTE;
                    self.work(&habit, at);
                }
            }
        }
        self.people(end);
        self.machines(end);
        let callers = self.callers(end);
        self.scanners(end);
        if attacks {
            self.attack(&steady, &callers);
        }
    }

    fn people(&mut self, end: Micros) {
        for n in 0..20 {
            let kind = if n < 10 { "human" } else { "unknown" };
            let mut habit = self.habit(&format!("person-{n}"), kind, 9);
            let home = habit.address.clone();
            let (shell, browser) = (
                "aws-cli/2.15 Python/3.11 Darwin/23 exe/x86_64",
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Safari/605",
            );
            let mut day = START;
            while day < end {
                let weekday = ((day - START) / DAY) % 7 < 5;
                if weekday && self.random.chance(0.85) {
                    habit.address = match self.random.chance(0.1) {
                        true => format!("88.{}.{}.9", n, self.random.below(250)),
                        false => home.clone(),
                    };
                    let mut at = day + 8 * HOUR + self.random.below(90 * MINUTE);
                    for _ in 0..10 + self.random.below(40) {
                        habit.tool =
                            if self.random.chance(0.5) { shell } else { browser }.to_owned();
                        if self.random.chance(0.04) {
                            let fresh = *self.random.pick(OPERATIONS);
                            habit.operations.push(fresh);
                        }
                        self.work(&habit, at);
                        if self.random.chance(0.03) {
                            let operation = *self.random.pick(ENUMERATION);
                            self.refuse(&habit, at + SECOND, operation);
                        }
                        if self.random.chance(0.01) {
                            self.act(&habit, at + 2 * SECOND, ("GetCallerIdentity", "sts"));
                        }
                        at += self.random.below(20 * MINUTE);
                    }
                }
                day += DAY;
            }
        }
    }

    fn machines(&mut self, end: Micros) {
        // Runners: every job has its own token and address.
        for n in 0..6 {
            let mut habit = self.habit(&format!("ci-{n}"), "role", 8);
            let mut at = START + self.random.below(HOUR);
            while at < end {
                habit.address = self.pool();
                habit.credential = format!("ASIA{:012X}", self.random.below(1 << 40));
                habit.session = Some(format!("run-{}", self.random.below(1 << 30)));
                for step in 0..5 + self.random.below(15) {
                    self.work(&habit, at + step * 3 * SECOND);
                }
                let night = (at - START) % DAY < 6 * HOUR;
                at += self.random.below(if night { 4 * HOUR } else { 30 * MINUTE });
            }
        }
        // Functions: a new key every few hours, networks that change.
        for n in 0..15 {
            let mut habit = self.habit(&format!("function-{n}"), "role", 4);
            habit.session = Some(format!("function-{n}"));
            habit.tool = format!("{} exec-env/AWS_Lambda_python3.11", TOOLS[0]);
            let mut at = START + self.random.below(HOUR);
            let mut renewed = 0;
            while at < end {
                if at > renewed + 5 * HOUR {
                    renewed = at;
                    habit.credential = format!("ASIA{:012X}", self.random.below(1 << 40));
                    habit.address = self.pool();
                }
                self.work(&habit, at);
                at += MINUTE + self.random.below(40 * MINUTE);
            }
        }
        // Instances: an agent through the gateway and jobs through an endpoint.
        for n in 0..16 {
            let mut habit = self.habit(&format!("fleet-{}", n / 4), "role", 4);
            let mut at = START + self.random.below(HOUR);
            let mut instance = n;
            while at < end {
                if self.random.chance(0.002) {
                    instance += 100;
                }
                let day = (at - START) / (6 * HOUR);
                habit.session = Some(format!("i-0abc{instance:012x}"));
                habit.credential = format!("ASIA{:06X}{:06X}", instance, day);
                (habit.address, habit.tool) = match self.random.chance(0.5) {
                    true => (
                        format!("52.21.{}.{}", 10 + n / 4, 20 + instance % 200),
                        "aws-sdk-go/1.41.4 (go1.18.3; linux) amazon-ssm-agent/3".to_owned(),
                    ),
                    false => {
                        (format!("10.{}.3.{}", n / 4, 20 + instance % 200), TOOLS[0].to_owned())
                    }
                };
                self.work(&habit, at);
                at += 5 * MINUTE + self.random.below(20 * MINUTE);
            }
        }
    }

    fn callers(&mut self, end: Micros) -> Vec<Habit> {
        let mut callers = Vec::new();
        for n in 0..14 {
            let habit = self.habit(&format!("caller-{n}"), "role", 3);
            callers.push(habit.clone());
            let roles = 1 + self.random.below(3);
            let burst = n % 5 == 2;
            let mut at = START + self.random.below(HOUR);
            while at < end {
                let role = format!("target-{n}-{}", self.random.below(roles));
                let times = if burst && self.random.chance(0.1) { 40 } else { 1 };
                for step in 0..times {
                    self.assume(&habit, at + step * 2 * SECOND, &role, false);
                }
                self.work(&habit, at + MINUTE);
                at += 10 * MINUTE + self.random.below(40 * MINUTE);
            }
            // A backlog is worked off: many of the same.
            if n == 4 {
                for step in 0..60 {
                    let at = START + 13 * DAY + 11 * HOUR + step * 20 * SECOND;
                    self.assume(&habit, at, "target-4-0", false);
                }
            }
            // A new role belongs to a new deployment.
            if n % 4 == 1 {
                for day in 10..self.days {
                    self.assume(&habit, START + day * DAY + 9 * HOUR, &format!("new-{n}"), false);
                }
            }
        }
        // Brokers meet new ones every day, and are refused by some.
        for n in 0..4 {
            let habit = self.habit(&format!("broker-{n}"), "service_account", 2);
            let mut at = START + self.random.below(HOUR);
            while at < end {
                let customer = self.random.below(40 + (at - START) / DAY * 8);
                let denied = self.random.chance(0.1);
                self.assume(&habit, at, &format!("customer-{customer}"), denied);
                at += self.random.below(10 * MINUTE);
            }
        }
        callers
    }

    fn scanners(&mut self, end: Micros) {
        for n in 0..3 {
            let habit = self.habit(&format!("scanner-{n}"), "role", 3);
            let mut at = START + 2 * HOUR;
            while at < end {
                self.act(&habit, at, ("GetCallerIdentity", "sts"));
                for (step, operation) in ENUMERATION.iter().enumerate() {
                    let at = at + step as i64 * SECOND;
                    match step % 3 {
                        0 => self.refuse(&habit, at, *operation),
                        _ => drop(self.act(&habit, at, *operation)),
                    }
                }
                at += *self.random.pick(&[6 * HOUR, DAY, DAY]);
            }
        }
        for n in 0..5 {
            let habit = self.habit(&format!("node-{n}"), "workload", 2);
            let mut at = START;
            while at < end {
                self.refuse(&habit, at, ("WatchConfigMaps", "k8s"));
                self.work(&habit, at + SECOND);
                at += 3 * MINUTE + self.random.below(10 * MINUTE);
            }
        }
    }

    fn begin(&mut self, name: &'static str, victims: &[&str], day: i64) -> Micros {
        let at = START + day * DAY + self.random.below(20 * HOUR);
        let victims = victims.iter().map(|name| (*name).to_owned()).collect();
        self.attacks.push(Attack { name, victims, began_at: at });
        at
    }

    fn attack(&mut self, steady: &[Habit], callers: &[Habit]) {
        let thief = |estate: &mut Self, habit: &Habit, tool: &str| Habit {
            address: estate.stranger(),
            tool: tool.to_owned(),
            ..habit.clone()
        };
        let cli = "aws-cli/2.9.1 Python/3.9 Linux/6.1 exe/x86_64";

        let at = self.begin("loud key", &[&steady[1].principal], 13);
        let hand = thief(self, &steady[1], cli);
        self.act(&hand, at, ("GetCallerIdentity", "sts"));
        for (step, operation) in ENUMERATION.iter().enumerate() {
            let at = at + (20 + step as i64 * 7) * SECOND;
            match step % 2 {
                0 => self.refuse(&hand, at, *operation),
                _ => drop(self.act(&hand, at, *operation)),
            }
        }

        let at = self.begin("quiet key", &[&steady[2].principal], 11);
        let hand = thief(self, &steady[2], cli);
        for step in 0..14 {
            self.work(&hand, at + step * 5 * MINUTE);
        }
        self.act(&hand, at + 12 * MINUTE, ("ListBuckets", "s3"));

        let at = self.begin("same tool", &[&steady[6].principal], 15);
        let tool = steady[6].tool.clone();
        let hand = thief(self, &steady[6], &tool);
        for (step, operation) in ENUMERATION[..5].iter().enumerate() {
            self.act(&hand, at + step as i64 * 4 * MINUTE, *operation);
        }

        let at = self.begin("slow key", &[&steady[10].principal], 10);
        let hand = thief(self, &steady[10], cli);
        for step in 0..8 {
            let operation = ENUMERATION[step as usize];
            self.act(&hand, at + step * 2 * HOUR, operation);
        }

        let runner = "arn:aws:iam::111122223333:role/ci-2";
        let at = self.begin("runner's token", &[runner], 16);
        let last = self
            .records
            .iter()
            .filter(|r| r.principal_id.as_deref() == Some(runner) && r.at <= at)
            .max_by_key(|r| r.at)
            .cloned();
        if let Some(last) = last {
            let habit = Habit {
                principal: runner.to_owned(),
                kind: "role",
                credential: last.credential_id.unwrap_or_default(),
                session: last.session_id,
                address: self.stranger(),
                tool: "curl/8.1".to_owned(),
                operations: Vec::new(),
            };
            for (step, operation) in ENUMERATION[1..6].iter().enumerate() {
                self.act(&habit, at + step as i64 * MINUTE, *operation);
            }
        }

        let fleet = "arn:aws:iam::111122223333:role/fleet-1";
        let at = self.begin("instance", &[fleet], 12);
        let habit = Habit {
            principal: fleet.to_owned(),
            kind: "role",
            credential: "ASIASTOLEN".to_owned(),
            session: Some(format!("i-0abc{:012x}", 5)),
            address: self.stranger(),
            tool: cli.to_owned(),
            operations: Vec::new(),
        };
        self.act(&habit, at, ("GetCallerIdentity", "sts"));
        for (step, operation) in ENUMERATION[2..6].iter().enumerate() {
            self.act(&habit, at + (step as i64 + 1) * MINUTE, *operation);
        }

        let function = "arn:aws:iam::111122223333:role/function-3";
        let at = self.begin("function", &[function], 14);
        let habit = Habit {
            principal: function.to_owned(),
            kind: "role",
            credential: "ASIALAMBDA".to_owned(),
            session: Some("function-3".to_owned()),
            address: self.stranger(),
            tool: cli.to_owned(),
            operations: Vec::new(),
        };
        self.act(&habit, at, ("GetCallerIdentity", "sts"));
        for (step, operation) in ENUMERATION[2..7].iter().enumerate() {
            self.act(&habit, at + (step as i64 + 1) * MINUTE, *operation);
        }

        let at = self.begin("woken job", &[&steady[40].principal], 14);
        let hand = thief(self, &steady[40], cli);
        for step in 0..6 {
            self.work(&hand, at + step * 3 * MINUTE);
        }

        let mut old = self.habit("forgotten", "service_account", 3);
        for step in 0..40 {
            self.work(&old, START - 130 * DAY + step * 6 * HOUR);
        }
        let at = self.begin("forgotten key", &[&old.principal], 9);
        old.address = self.stranger();
        for step in 0..5 {
            self.work(&old, at + step * 10 * MINUTE);
        }

        let at = self.begin("role sweep", &[&callers[0].principal], 15);
        for step in 0..25 {
            self.assume(
                &callers[0],
                at + step * 40 * SECOND,
                &format!("sweep-{step}"),
                step % 2 == 0,
            );
        }

        let at = self.begin("refused sweep", &[&callers[3].principal], 17);
        for step in 0..9 {
            self.assume(&callers[3], at + step * 30 * SECOND, &format!("closed-{step}"), true);
        }

        let at = self.begin("new edge", &[&callers[6].principal], 18);
        let hand = thief(self, &callers[6], cli);
        self.assume(&hand, at, "prod-admin", false);
        self.act(&hand, at + MINUTE, ("GetCallerIdentity", "sts"));

        let at = self.begin("exposed key", &[&steady[14].principal], 10);
        let reporter = self.habit("support", "system", 1);
        let target = steady[14].principal.clone();
        let record = self.act(&reporter, at, ("PutUserPolicy", "iam"));
        record.kind = "exposure_reported".to_owned();
        record.target_id = Some(target);
        self.work(&steady[14], at + 20 * MINUTE);

        let at = self.begin("from within", &[&steady[18].principal], 16);
        let hand = steady[18].clone();
        self.act(&hand, at, ("GetCallerIdentity", "sts"));
        for (step, operation) in ENUMERATION[..4].iter().enumerate() {
            self.refuse(&hand, at + (step as i64 + 1) * 20 * SECOND, *operation);
        }
        for (step, operation) in ["AttachUserPolicy", "CreateAccessKey"].iter().enumerate() {
            let target = hand.principal.clone();
            let at = at + (step as i64 + 6) * MINUTE;
            self.act(&hand, at, (operation, "iam")).target_id = Some(target);
        }

        let at = self.begin("by network alone", &[&steady[26].principal], 17);
        let tool = steady[26].tool.clone();
        let hand = thief(self, &steady[26], &tool);
        for step in 0..30 {
            self.work(&hand, at + step * 9 * MINUTE);
        }
    }
}
