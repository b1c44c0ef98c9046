//! Who is in the estate: the company, its accounts, the identities and what they may become.
//!
//! Everything is drawn from the seed once. Negatives and attacks then change some of it (a job that
//! ends, a key that is rotated, a network that moves) before the first hour is made.

use std::net::IpAddr;

use telltale_schema::time::{DAY, Micros};

use crate::Estate;
use crate::dice::{Dice, Purpose};
use crate::logs::Op;
use crate::names::Names;
use crate::network::{self, Block, CITIES, City, Place};
use crate::recruit::{self, Sites};
use crate::rhythm::{Calendar, Rhythm};
use crate::tools::{Family, Tool};

/// How an identity earns its keep; decides where it lives, what it calls and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trade {
    /// AWS user with a long-lived key.
    KeyJob,
    /// AWS role of a group of instances.
    Fleet,
    /// AWS role of a function.
    Function,
    /// AWS role of a CI pipeline, by web identity.
    Runner,
    /// AWS role that assumes deploy roles for a living.
    Broker,
    /// AWS role of people, by single sign-on.
    Person,
    /// AWS role that looks at everything and is refused much.
    Scanner,
    /// Google service account with a key.
    GcpKeyJob,
    /// Google service account of a Cloud Run service, without a key.
    GcpRun,
    GcpPerson,
    /// Google service account that mints tokens of others for a living.
    GcpBroker,
    Workload,
    Controller,
    Node,
    /// Kubernetes proxy that impersonates every human.
    Proxy,
    /// CI that installs charts.
    Deployer,
    OktaPerson,
    /// Okta API token of a service user.
    OktaToken,
    OktaClient,
    VaultApp,
    VaultPod,
    /// Vault token broker of CI.
    VaultBroker,
    Worker,
}

pub(crate) struct Account {
    pub id: String,
    pub region: &'static str,
}

pub(crate) struct Project {
    pub id: String,
}

pub(crate) struct Employee {
    pub name: String,
    pub email: String,
    pub okta_id: String,
    pub place: Place,
    pub city: &'static City,
    pub browser: Tool,
}

/// A role or service account that others act as.
pub(crate) struct Target {
    pub name: String,
    /// ARN or e-mail address.
    pub principal: String,
    pub unique: String,
    pub account: usize,
    pub privileged: bool,
}

/// A credential and when its owner uses it.
pub(crate) struct Key {
    pub id: String,
    pub from: Micros,
    pub until: Micros,
}

/// What the log needs to know of an identity to write it down.
pub(crate) enum Identity {
    AwsUser { account: usize, unique: String },
    AwsRole { account: usize, unique: String },
    Gcp { project: usize },
    Kube { namespace: String, groups: Vec<String>, uid: String },
    Okta { id: String, kind: &'static str },
    Vault { mount: &'static str, accessor: String },
    Clearml,
}

pub(crate) struct Actor {
    pub index: usize,
    pub name: String,
    pub principal: String,
    pub trade: Trade,
    pub identity: Identity,
    pub place: Place,
    /// From then on elsewhere.
    pub moved: Option<(Micros, Place)>,
    pub tool: Tool,
    pub upgraded: Option<(Micros, Tool)>,
    pub rhythm: Rhythm,
    pub city: &'static City,
    /// Most frequent first.
    pub habits: Vec<&'static Op>,
    pub resources: Vec<String>,
    /// Share of its calls that policy denies.
    pub refused: f64,
    pub instances: u32,
    /// How long an instance, a pod or a container lives.
    pub lifetime: Micros,
    /// More instances for a while.
    pub scaled: Option<(Micros, Micros, u32)>,
    pub keys: Vec<Key>,
    pub from: Micros,
    pub until: Micros,
    pub surge: Option<(Micros, Micros, f64)>,
    /// Roles and accounts that it acts as when it is well.
    pub targets: Vec<usize>,
    /// The employee that it is or works for.
    pub person: usize,
    /// Part of a story already; the next one takes somebody else.
    pub taken: bool,
}

pub(crate) struct Cast {
    pub seed: u64,
    pub start: Micros,
    pub end: Micros,
    pub days: u32,
    pub company: String,
    pub domain: String,
    pub calendar: Calendar,
    pub accounts: Vec<Account>,
    pub projects: Vec<Project>,
    pub people: Vec<Employee>,
    pub roles: Vec<Target>,
    pub service_accounts: Vec<Target>,
    pub actors: Vec<Actor>,
    pub functions_network: Vec<Block>,
    pub queue: String,
}

impl Cast {
    pub(crate) fn new(estate: &Estate) -> Self {
        let mut dice = Dice::at(estate.seed, Purpose::Cast, 0, 0);
        let company = Names::company(&mut dice);
        let domain = format!("{company}.example");
        let mut cast = Cast {
            seed: estate.seed,
            start: estate.start,
            end: estate.start + i64::from(estate.days) * DAY,
            days: estate.days,
            calendar: holidays(estate, &mut dice),
            accounts: accounts(&mut dice),
            projects: projects(&mut dice, &company),
            people: Vec::new(),
            roles: Vec::new(),
            service_accounts: Vec::new(),
            actors: Vec::new(),
            functions_network: network::blocks(&mut dice, network::AWS, 14),
            queue: dice.hex(32),
            company,
            domain,
        };
        let mut names = Names::default();
        let identities = estate.identities.clamp(60, 100_000);
        cast.hire(&mut dice, &mut names, identities / 6);
        cast.make_targets(&mut dice, identities);
        let sites = Sites::draw(&mut dice);
        for (number, trade) in recruit::trades(&mut dice, identities).into_iter().enumerate() {
            let mut dice = Dice::at(estate.seed, Purpose::Actor, number as u64, 0);
            let actor = cast.recruit(trade, &mut dice, &mut names, &sites);
            cast.actors.push(actor);
        }
        cast
    }

    pub(crate) fn account(&self, actor: &Actor) -> &Account {
        match actor.identity {
            Identity::AwsUser { account, .. } | Identity::AwsRole { account, .. } => {
                &self.accounts[account]
            }
            _ => &self.accounts[0],
        }
    }

    pub(crate) fn project(&self, actor: &Actor) -> &Project {
        match actor.identity {
            Identity::Gcp { project, .. } => &self.projects[project],
            _ => &self.projects[0],
        }
    }

    /// Actors of these trades that no story has taken.
    pub(crate) fn free(&self, trades: &[Trade]) -> Vec<usize> {
        self.actors
            .iter()
            .filter(|actor| !actor.taken && trades.contains(&actor.trade))
            .map(|actor| actor.index)
            .collect()
    }

    fn hire(&mut self, dice: &mut Dice, names: &mut Names, count: u32) {
        let offices: Vec<(IpAddr, &City)> = (0..dice.range(1, 3))
            .map(|_| (network::anywhere(dice, network::CORPORATE), &CITIES[dice.below(11)]))
            .collect();
        for _ in 0..count.max(8) {
            let name = names.person(dice);
            let (office, city) = *dice.favour(&offices);
            let home = network::blocks(dice, network::RESIDENTIAL, 2);
            self.people.push(Employee {
                email: format!("{name}@{}", self.domain),
                okta_id: format!("00u{}", dice.mixed(17)),
                browser: Tool::draw(dice, Family::Browser, ""),
                place: Place::Person {
                    office,
                    home: home[0],
                    mobile: home[1],
                    v6: dice.chance(0.15),
                    remote: *dice.pick(&[0.1, 0.3, 0.5, 0.9]),
                },
                city,
                name,
            });
        }
    }

    fn make_targets(&mut self, dice: &mut Dice, identities: u32) {
        const ADMIN: &[&[&str]] = &[
            &["OrganizationAccountAccessRole", "ControlTowerExecution"],
            &["break-glass-admin", "emergency-admin", "BreakGlass"],
            &["prod-admin", "platform-admin", "AdminAccess"],
            &["security-response", "incident-responder"],
            &["data-lake-admin", "warehouse-owner"],
        ];
        let count = (f64::from(identities) * dice.between(0.2, 0.35)) as usize;
        let mut names = Names::default();
        let ordinary = count.max(12) - ADMIN.len();
        let offered = ADMIN.iter().map(Some).chain((0..ordinary).map(|_| None));
        for admin in offered {
            let account = dice.below(self.accounts.len());
            let name = match admin {
                Some(names) => (*dice.pick(names)).to_owned(),
                None => format!("{}-deploy", names.service(dice)),
            };
            let principal = format!("arn:aws:iam::{}:role/{name}", self.accounts[account].id);
            let unique = dice.aws_id("AROA");
            let privileged = admin.is_some();
            self.roles.push(Target { name, principal, unique, account, privileged });
        }
        for number in 0..(count / 2).max(8) {
            let privileged = number < 3;
            let account = dice.below(self.projects.len());
            let name = match number {
                0 => (*dice.pick(&["terraform-admin", "org-terraform", "infra-admin"])).to_owned(),
                1 => (*dice.pick(&["secrets-admin", "kms-custodian"])).to_owned(),
                2 => (*dice.pick(&["billing-owner", "org-policy-admin"])).to_owned(),
                _ => format!("{}-deploy", names.service(dice)),
            };
            let project = &self.projects[account].id;
            let principal = format!("{name}@{project}.iam.gserviceaccount.com");
            let unique = dice.digits(21);
            self.service_accounts.push(Target { name, principal, unique, account, privileged });
        }
    }
}

fn holidays(estate: &Estate, dice: &mut Dice) -> Calendar {
    let first = estate.start.div_euclid(DAY);
    let holidays = (first..first + i64::from(estate.days)).filter(|_| dice.chance(0.05));
    Calendar { holidays: holidays.collect() }
}

fn accounts(dice: &mut Dice) -> Vec<Account> {
    const REGIONS: &[&str] =
        &["eu-central-1", "us-east-1", "eu-west-1", "us-west-2", "ap-southeast-2", "ca-central-1"];
    let home = *dice.pick(REGIONS);
    (0..dice.range(3, 8))
        .map(|_| Account {
            id: dice.digits(12),
            region: if dice.chance(0.75) { home } else { dice.pick::<&str>(REGIONS) },
        })
        .collect()
}

fn projects(dice: &mut Dice, company: &str) -> Vec<Project> {
    let kinds = ["prod", "data", "staging", "ml", "shared"];
    (0..dice.range(2, 5) as usize)
        .map(|number| Project { id: format!("{company}-{}-{}", kinds[number], dice.small(5)) })
        .collect()
}
