//! How an identity is made for its trade: its name, its place, its tool, its hours and habits.

use std::collections::BTreeMap;

use telltale_schema::time::{DAY, HOUR, Micros};

use crate::cast::{Actor, Cast, Identity, Key, Target, Trade};
use crate::dice::{Dice, Purpose};
use crate::logs::{Op, aws, gcp, kubernetes, okta, vault};
use crate::names::{self, Names};
use crate::network::{self, Block, CITIES, City, Place};
use crate::rhythm::{self, Rhythm};
use crate::tools::{Family, Tool};

/// Trade, how many at least, and weight among the rest.
const TRADES: &[(Trade, u32, f64)] = &[
    (Trade::KeyJob, 8, 15.0),
    (Trade::Fleet, 4, 11.0),
    (Trade::Function, 3, 10.0),
    (Trade::Runner, 2, 5.0),
    (Trade::Broker, 1, 0.4),
    (Trade::Person, 4, 9.0),
    (Trade::Scanner, 1, 0.6),
    (Trade::GcpKeyJob, 5, 10.0),
    (Trade::GcpRun, 2, 6.0),
    (Trade::GcpPerson, 2, 4.0),
    (Trade::GcpBroker, 1, 0.3),
    (Trade::Workload, 5, 15.0),
    (Trade::Controller, 2, 3.0),
    (Trade::Node, 3, 6.0),
    (Trade::Proxy, 1, 0.2),
    (Trade::Deployer, 1, 0.6),
    (Trade::OktaPerson, 4, 9.0),
    (Trade::OktaToken, 2, 2.0),
    (Trade::OktaClient, 1, 2.0),
    (Trade::VaultApp, 4, 7.0),
    (Trade::VaultPod, 2, 7.0),
    (Trade::VaultBroker, 1, 0.2),
    (Trade::Worker, 2, 3.0),
];

/// What an actor is made from besides its trade.
struct Post<'a> {
    account: usize,
    project: usize,
    person: usize,
    service: String,
    index: usize,
    sites: &'a Sites,
}

impl Cast {
    pub(crate) fn recruit(
        &self,
        trade: Trade,
        dice: &mut Dice,
        names: &mut Names,
        sites: &Sites,
    ) -> Actor {
        let post = Post {
            account: dice.below(self.accounts.len()),
            project: dice.below(self.projects.len()),
            person: dice.below(self.people.len()),
            service: names.service(dice),
            index: self.actors.len(),
            sites,
        };
        let (index, person) = (post.index, post.person);
        let project = self.projects[post.project].id.as_str();
        let daily = dice.log_normal(42.0, 1.1).clamp(1.5, 1400.0);
        let (place, city) = self.place(trade, dice, &post);
        let (name, principal, identity) = self.identity(trade, dice, post);
        let family = family(trade, dice);
        let api = *dice.pick(&["s3", "dynamodb", "sqs", "sts", "kms"]);
        let embeds = match family {
            Family::AwsCli => "s3.cp",
            Family::AwsGo | Family::AwsJs => api,
            Family::Gcloud => "compute.instances.list",
            _ => name.as_str(),
        };
        let tool = match family {
            Family::Browser => self.people[person].browser.clone(),
            _ => Tool::draw(dice, family, embeds),
        };
        let rhythm = rhythm_of(trade, dice, self.start, daily);
        let habits = habits(trade, dice);
        let resources = (0..dice.range(2, 5)).map(|_| names::resource(dice, &name)).collect();
        let keys = vec![Key {
            id: first_key(trade, dice, project, &principal),
            from: Micros::MIN,
            until: Micros::MAX,
        }];
        let busy = (daily / 80.0) as i64;
        let instances = match trade {
            Trade::Fleet => dice.range(1, 3 + busy) as u32,
            Trade::Workload | Trade::VaultPod | Trade::Function => dice.range(1, 2 + busy) as u32,
            Trade::Controller => 2,
            _ => 1,
        };
        Actor {
            index,
            name,
            principal,
            trade,
            identity,
            place,
            moved: None,
            tool,
            upgraded: None,
            rhythm,
            city,
            habits,
            resources,
            refused: refused(trade, dice),
            instances,
            lifetime: lifetime(trade, dice),
            scaled: None,
            keys,
            from: Micros::MIN,
            until: Micros::MAX,
            surge: None,
            targets: self.usual_targets(trade, dice),
            person,
            taken: false,
        }
    }

    /// Name, principal and what the log needs besides.
    fn identity(
        &self,
        trade: Trade,
        dice: &mut Dice,
        post: Post<'_>,
    ) -> (String, String, Identity) {
        let Post { account, project, person, service, index, sites } = post;
        let account_id = &self.accounts[account].id;
        let project_id = &self.projects[project].id;
        let employee = &self.people[person];
        match trade {
            Trade::KeyJob => {
                let path = *dice.pick(&["", "", "service/", "machines/"]);
                let arn = format!("arn:aws:iam::{account_id}:user/{path}{service}");
                let identity = Identity::AwsUser { account, unique: dice.aws_id("AIDA") };
                (service, arn, identity)
            }
            Trade::Person => {
                let set = *dice.pick(&["ReadOnly", "PowerUser", "PowerUser", "Administrator"]);
                // One role for each permission set and account, shared by those who have it.
                let mut own = Dice::at(self.seed, Purpose::Name, account as u64, set.len() as u64);
                let (suffix, unique) = (own.hex(16), own.aws_id("AROA"));
                let name = format!("AWSReservedSSO_{set}_{suffix}");
                let region = self.accounts[0].region;
                let arn = format!(
                    "arn:aws:iam::{account_id}:role/aws-reserved/sso.amazonaws.com/{region}/{name}"
                );
                (name, arn, Identity::AwsRole { account, unique })
            }
            Trade::Fleet | Trade::Function | Trade::Runner | Trade::Broker | Trade::Scanner => {
                let name = match trade {
                    Trade::Broker => "ci-deploy-broker".to_owned(),
                    Trade::Scanner => {
                        (*dice.pick(&["security-audit", "posture-scanner"])).to_owned()
                    }
                    Trade::Runner => format!("ci-{service}"),
                    Trade::Function => format!("{service}-fn-role"),
                    _ => format!("{service}-role"),
                };
                let arn = format!("arn:aws:iam::{account_id}:role/{name}");
                (name, arn, Identity::AwsRole { account, unique: dice.aws_id("AROA") })
            }
            Trade::GcpPerson => {
                let identity = Identity::Gcp { project };
                (employee.name.clone(), employee.email.clone(), identity)
            }
            // A pipeline that comes by federation: it has a subject and no address.
            Trade::GcpBroker => {
                let subject = format!(
                    "principal://iam.googleapis.com/projects/{}/locations/global/\
                     workloadIdentityPools/ci-pool/subject/repo:{}/infra:ref:refs/heads/main",
                    dice.digits(12),
                    self.company
                );
                ("ci-broker".to_owned(), subject, Identity::Gcp { project })
            }
            Trade::GcpKeyJob | Trade::GcpRun => {
                let name = service;
                let email = format!("{name}@{project_id}.iam.gserviceaccount.com");
                (name, email, Identity::Gcp { project })
            }
            Trade::Workload | Trade::Controller | Trade::Proxy | Trade::Deployer => {
                let (namespace, name) = match trade {
                    Trade::Proxy => *dice.pick(&[
                        ("pinniped-concierge", "concierge-impersonation-proxy"),
                        ("teleport", "teleport-kube-agent"),
                        ("cattle-impersonation-system", "cattle-proxy"),
                    ]),
                    Trade::Deployer => ("ci", "helm-deployer"),
                    Trade::Controller => ("kube-system", ""),
                    _ => (*dice.pick(&["apps", "payments", "data", "web", "ml", "platform"]), ""),
                };
                let name = match (trade, name) {
                    (Trade::Controller, _) => format!("{service}-controller"),
                    (_, "") => service,
                    (_, fixed) => fixed.to_owned(),
                };
                let principal = format!("system:serviceaccount:{namespace}:{name}");
                let identity = Identity::Kube {
                    namespace: namespace.to_owned(),
                    uid: dice.uuid(),
                    groups: vec![
                        "system:serviceaccounts".to_owned(),
                        format!("system:serviceaccounts:{namespace}"),
                        "system:authenticated".to_owned(),
                    ],
                };
                (name, principal, identity)
            }
            Trade::Node => {
                let name = format!("ip-10-{}-{}.ec2.internal", sites.nodes, index);
                let identity = Identity::Kube {
                    namespace: String::new(),
                    uid: String::new(),
                    groups: vec!["system:nodes".to_owned(), "system:authenticated".to_owned()],
                };
                (name.clone(), format!("system:node:{name}"), identity)
            }
            Trade::OktaPerson => {
                let identity = Identity::Okta { id: employee.okta_id.clone(), kind: "User" };
                (names::display(&employee.name), employee.email.clone(), identity)
            }
            Trade::OktaToken => {
                let id = format!("00u{}", dice.mixed(17));
                let email = format!("{service}@{}", self.domain);
                (service, email, Identity::Okta { id, kind: "User" })
            }
            Trade::OktaClient => {
                let id = format!("0oa{}", dice.mixed(17));
                (service, id.clone(), Identity::Okta { id, kind: "PublicClientApp" })
            }
            Trade::VaultApp | Trade::VaultPod | Trade::VaultBroker => {
                let mount = if trade == Trade::VaultPod { "kubernetes" } else { "approle" };
                let name = if trade == Trade::VaultBroker {
                    "ci-token-broker".to_owned()
                } else {
                    service
                };
                let accessor = format!("auth_{mount}_{}", sites.mounts);
                (name, dice.uuid(), Identity::Vault { mount, accessor })
            }
            Trade::Worker => {
                let host = format!("{}-{}", dice.pick(&["gpu", "trainer", "ml-node"]), index);
                let id = format!("{host}:{}", dice.pick(&["0", "gpu0", "gpu0,1"]));
                (host, id, Identity::Clearml)
            }
        }
    }

    fn place(&self, trade: Trade, dice: &mut Dice, post: &Post<'_>) -> (Place, &'static City) {
        let (sites, employee) = (post.sites, &self.people[post.person]);
        let pipeline = || Place::Pool(sites.pipeline.clone());
        match trade {
            Trade::KeyJob | Trade::GcpKeyJob | Trade::VaultApp | Trade::OktaToken => {
                (dice.pick(&sites.egress).clone(), &CITIES[sites.city])
            }
            Trade::Scanner | Trade::OktaClient => (sites.egress[0].clone(), &CITIES[sites.city]),
            Trade::Fleet => (sites.cloud[dice.below(sites.cloud.len())].clone(), &CITIES[0]),
            Trade::Function => (Place::Pool(self.functions_network.clone()), &CITIES[0]),
            Trade::GcpRun => (Place::Pool(sites.run.clone()), &CITIES[0]),
            Trade::Runner | Trade::Broker | Trade::GcpBroker | Trade::VaultBroker => {
                (pipeline(), &CITIES[7])
            }
            Trade::Deployer if dice.chance(0.5) => (pipeline(), &CITIES[7]),
            Trade::Person | Trade::GcpPerson | Trade::OktaPerson => {
                (employee.place.clone(), employee.city)
            }
            Trade::Node => (Place::Private(sites.nodes), &CITIES[0]),
            _ => (Place::Private(sites.pods), &CITIES[0]),
        }
    }

    fn usual_targets(&self, trade: Trade, dice: &mut Dice) -> Vec<usize> {
        let ordinary = |all: &[Target]| -> Vec<usize> {
            (0..all.len()).filter(|target| !all[*target].privileged).collect()
        };
        match trade {
            Trade::Broker => ordinary(&self.roles),
            Trade::GcpBroker => ordinary(&self.service_accounts),
            Trade::KeyJob | Trade::Fleet if dice.chance(0.2) => {
                let mut some = ordinary(&self.roles);
                dice.shuffle(&mut some);
                some.truncate(dice.range(1, 3) as usize);
                some
            }
            Trade::Person if dice.chance(0.25) => vec![dice.below(self.roles.len())],
            Trade::GcpKeyJob | Trade::GcpRun if dice.chance(0.2) => {
                let mut some = ordinary(&self.service_accounts);
                dice.shuffle(&mut some);
                some.truncate(dice.range(1, 2) as usize);
                some
            }
            _ => Vec::new(),
        }
    }
}

fn family(trade: Trade, dice: &mut Dice) -> Family {
    match trade {
        Trade::KeyJob | Trade::Fleet | Trade::Function => *dice.pick(&[
            Family::Boto3,
            Family::Boto3,
            Family::Botocore,
            Family::AwsGo,
            Family::AwsJava,
            Family::AwsJs,
            Family::AwsCli,
        ]),
        Trade::Runner | Trade::Broker => *dice.pick(&[Family::Terraform, Family::AwsJs]),
        Trade::Person => *dice.pick(&[Family::Browser, Family::AwsCli, Family::Terraform]),
        Trade::Scanner => Family::Boto3,
        Trade::GcpKeyJob | Trade::GcpRun => {
            *dice.pick(&[Family::GcpPython, Family::GcpGo, Family::GcpJava])
        }
        Trade::GcpPerson => *dice.pick(&[Family::Browser, Family::Gcloud]),
        Trade::GcpBroker => Family::GcpGo,
        Trade::Workload | Trade::Controller | Trade::Proxy => Family::ClientGo,
        Trade::Deployer => Family::Helm,
        Trade::Node => Family::Kubelet,
        Trade::OktaPerson => Family::Browser,
        Trade::OktaToken => *dice.pick(&[Family::OktaSdk, Family::Requests]),
        Trade::OktaClient => Family::OktaSdk,
        Trade::VaultApp => *dice.pick(&[Family::Hvac, Family::VaultGo, Family::VaultGo]),
        Trade::VaultPod | Trade::VaultBroker => Family::VaultGo,
        Trade::Worker => Family::ClearmlAgent,
    }
}

fn rhythm_of(trade: Trade, dice: &mut Dice, start: Micros, daily: f64) -> Rhythm {
    match trade {
        Trade::Person | Trade::GcpPerson => Rhythm::Office {
            start: dice.range(7, 10) as usize,
            length: dice.range(7, 10) as usize,
            per_hour: dice.between(0.2, 2.0),
            calls: dice.between(3.0, 14.0),
        },
        Trade::OktaPerson => Rhythm::Office {
            start: dice.range(7, 10) as usize,
            length: dice.range(8, 10) as usize,
            per_hour: dice.between(0.3, 1.2),
            calls: 2.0,
        },
        Trade::Runner | Trade::Broker | Trade::GcpBroker | Trade::VaultBroker => Rhythm::Office {
            start: 7,
            length: 12,
            per_hour: dice.between(0.3, 2.5),
            calls: dice.between(6.0, 20.0),
        },
        Trade::Deployer => {
            Rhythm::Office { start: 8, length: 10, per_hour: dice.between(0.1, 0.8), calls: 25.0 }
        }
        Trade::Proxy => Rhythm::Office { start: 7, length: 12, per_hour: 14.0, calls: 6.0 },
        Trade::Scanner => {
            let period = *dice.pick(&[HOUR, 6 * HOUR, DAY]);
            rhythm::timer(dice, start, period, 30.0 * period as f64 / HOUR as f64)
        }
        Trade::Worker => Rhythm::Steady { per_hour: 1.2, night: 0.7, weekend: 0.6, calls: 1.0 },
        Trade::Controller | Trade::Node => Rhythm::Steady {
            per_hour: dice.between(4.0, 12.0),
            night: 1.0,
            weekend: 1.0,
            calls: 2.0,
        },
        _ => rhythm::of_job(dice, start, daily),
    }
}

/// Share of its calls that policy denies.
fn refused(trade: Trade, dice: &mut Dice) -> f64 {
    match trade {
        Trade::Scanner => dice.between(0.2, 0.5),
        Trade::Node => dice.between(0.02, 0.2),
        Trade::Person | Trade::GcpPerson => dice.between(0.0, 0.04),
        _ if dice.chance(0.15) => dice.between(0.0, 0.02),
        _ => 0.0,
    }
}

/// How long an instance of it lives.
fn lifetime(trade: Trade, dice: &mut Dice) -> Micros {
    match trade {
        Trade::Node => 400 * DAY,
        Trade::Fleet => dice.range(3, 40) * DAY,
        Trade::Function => HOUR * dice.range(1, 5),
        _ => dice.range(12, 200) * HOUR,
    }
}

/// Networks that several identities share.
pub(crate) struct Sites {
    egress: Vec<Place>,
    cloud: Vec<Place>,
    run: Vec<Block>,
    pipeline: Vec<Block>,
    nodes: u8,
    pods: u8,
    city: usize,
    mounts: String,
}

impl Sites {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let egress = (0..dice.range(3, 7))
            .map(|number| {
                let kind = if number == 0 || dice.chance(0.4) {
                    network::CORPORATE
                } else {
                    *dice.pick(&[network::AWS, network::HOSTING, network::AWS])
                };
                let block = network::blocks(dice, kind, 1)[0];
                let count = dice.range(1, 4);
                Place::Egress((0..count).map(|_| network::address_in(dice, block)).collect())
            })
            .collect();
        let cloud = network::blocks(dice, network::AWS, 4).into_iter();
        let nodes = dice.range(10, 90) as u8;
        Sites {
            egress,
            cloud: cloud.map(Place::Instances).collect(),
            run: network::blocks(dice, network::GOOGLE, 10),
            pipeline: network::blocks(dice, network::AZURE, 40),
            nodes,
            pods: nodes + 100,
            city: dice.below(11),
            mounts: dice.hex(8),
        }
    }
}

fn habits(trade: Trade, dice: &mut Dice) -> Vec<&'static Op> {
    let (all, few, many): (&'static [Op], i64, i64) = match trade {
        Trade::KeyJob | Trade::Fleet | Trade::Function => (aws::WORK, 2, 7),
        Trade::Runner | Trade::Broker => (aws::DEPLOYS, 8, 16),
        Trade::Person => (aws::LOOKS, 10, 24),
        Trade::Scanner => (aws::LOOKS, 20, 30),
        Trade::GcpKeyJob | Trade::GcpRun => (gcp::WORK, 2, 6),
        Trade::GcpPerson | Trade::GcpBroker => (gcp::LOOKS, 5, 10),
        Trade::Workload => (kubernetes::WORK, 2, 5),
        Trade::Controller => (kubernetes::CONTROL, 4, 8),
        Trade::Node => (kubernetes::KUBELET, 5, 8),
        Trade::Proxy => (kubernetes::PEOPLE, 10, 14),
        Trade::Deployer => (kubernetes::INSTALLS, 8, 12),
        Trade::OktaPerson => (okta::PEOPLE, 3, 5),
        Trade::OktaToken | Trade::OktaClient => (okta::SERVICES, 2, 4),
        Trade::VaultApp | Trade::VaultPod | Trade::VaultBroker => (vault::WORK, 1, 5),
        Trade::Worker => return Vec::new(),
    };
    let mut picked: Vec<&'static Op> = all.iter().collect();
    dice.shuffle(&mut picked);
    picked.truncate(dice.range(few, many) as usize);
    picked
}

fn first_key(trade: Trade, dice: &mut Dice, project: &str, principal: &str) -> String {
    match trade {
        Trade::KeyJob => dice.aws_id("AKIA"),
        Trade::GcpKeyJob => gcp::key_name(project, principal, &dice.hex(40)),
        Trade::Node => format!("X509SHA256={}", dice.hex(64)),
        Trade::OktaToken => format!("00T{}", dice.mixed(17)),
        _ => String::new(),
    }
}

/// `identities` trades: those that every estate has, then by weights that differ by seed.
pub(crate) fn trades(dice: &mut Dice, identities: u32) -> Vec<Trade> {
    let mut trades = Vec::new();
    let mut weights = BTreeMap::new();
    for (trade, least, weight) in TRADES {
        trades.extend((0..*least).map(|_| *trade));
        weights.insert(*trade, weight * dice.log_normal(1.0, 0.35));
    }
    let total: f64 = weights.values().sum();
    while trades.len() < identities as usize {
        let mut left = dice.unit() * total;
        let drawn = weights.iter().find(|(_, weight)| {
            left -= **weight;
            left < 0.0
        });
        trades.push(drawn.map_or(Trade::KeyJob, |(trade, _)| *trade));
    }
    trades
}
