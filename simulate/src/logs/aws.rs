//! AWS CloudTrail records.
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>

use telltale_schema::time::{HOUR, Micros, SECOND};

use crate::cast::{Actor, Identity, Target, Trade};
use crate::clock;
use crate::json::{self, Json, object, part};
pub(crate) use crate::logs::aws_ops::{DEPLOYS, LOOKS, LOOT, WORK};
use crate::logs::{Op, read, write};
use crate::scribe::{Hand, Outcome, Scribe};

pub(crate) const LOG: &str = "aws_cloudtrail";

/// Address and user agent of calls that one service makes to another for its caller.
const INTERNAL: &str = "AWS Internal";

/// Share of records that are delivered twice.
const TWICE: f64 = 0.02;

pub(crate) static WHO_AM_I: Op = read("sts", "GetCallerIdentity", "");
pub(crate) static ASSUME_ROLE: Op = read("sts", "AssumeRole", "");
static ASSUME_WEB: Op = read("sts", "AssumeRoleWithWebIdentity", "");
static CREATE_KEY: Op = write("iam", "CreateAccessKey", "userName");
static UPDATE_KEY: Op = write("iam", "UpdateAccessKey", "userName");
static DELETE_KEY: Op = write("iam", "DeleteAccessKey", "userName");
static ATTACH_USER: Op = write("iam", "AttachUserPolicy", "userName");

/// Writes an ordinary call.
pub(crate) fn call(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    op: &Op,
    outcome: Outcome,
) {
    let actor = hand.actor;
    let resource = scribe.dice.pick(&actor.resources).clone();
    let request = (!op.detail.is_empty()).then(|| {
        part(|json| {
            match op.detail {
                "userName" => json.text("userName", &actor.name),
                "queueUrl" => {
                    let account = scribe.cast.account(actor);
                    let url = format!(
                        "https://sqs.{}.amazonaws.com/{}/{resource}",
                        account.region, account.id
                    );
                    json.text("queueUrl", &url)
                }
                detail => json.text(detail, &resource),
            };
            if op.service == "s3" {
                let number = scribe.dice.below(4000);
                json.text("Host", &format!("{resource}.s3.amazonaws.com"));
                json.text("key", &format!("part-{number:05}.parquet"));
            }
        })
    });
    // Denied calls that make things carry no parameters; denied reads do.
    let answer = Answer { request, response: None, resource: None };
    record(scribe, at, hand, op, outcome, answer);
}

/// A service decrypts for its caller: his identity, but neither his address nor his tool.
pub(crate) fn decrypt_for(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    static DECRYPT: Op = read("kms", "Decrypt", "");
    let mut hand = hand.clone();
    INTERNAL.clone_into(&mut hand.from);
    INTERNAL.clone_into(&mut hand.agent);
    record(scribe, at, &hand, &DECRYPT, Outcome::Allowed, Answer::default());
}

/// What a call asked for and got, as JSON, and the ARN that it touched with its type.
#[derive(Default)]
pub(crate) struct Answer {
    pub request: Option<String>,
    pub response: Option<String>,
    pub resource: Option<(&'static str, String)>,
}

/// `AssumeRole`: returns the key of the new session. A denied attempt names the role only in the
/// text of its error.
pub(crate) fn assume_role(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    role: &Target,
    session: &str,
    outcome: Outcome,
) -> String {
    let child = scribe.dice.aws_id("ASIA");
    if outcome.denied() {
        let resource = Some(("AWS::IAM::Role", role.principal.clone()));
        record(scribe, at, hand, &ASSUME_ROLE, outcome, Answer { resource, ..Answer::default() });
        return child;
    }
    let answer = Answer {
        request: Some(part(|json| {
            json.text("roleArn", &role.principal).text("roleSessionName", session);
            json.raw("durationSeconds", 3600);
        })),
        response: Some(credentials(scribe, at, &child, role, session)),
        resource: Some(("AWS::IAM::Role", role.principal.clone())),
    };
    record(scribe, at, hand, &ASSUME_ROLE, outcome, answer);
    child
}

fn credentials(
    scribe: &mut Scribe<'_>,
    at: Micros,
    child: &str,
    role: &Target,
    session: &str,
) -> String {
    let token = format!("IQoJb3JpZ2luX2VjE{}", scribe.dice.base64(480));
    let account = scribe.cast.accounts[role.account].id.as_str();
    part(|json| {
        json.nest("credentials", |json| {
            json.text("accessKeyId", child).text("sessionToken", &token);
            json.text("expiration", &clock::american(at + HOUR));
        });
        json.nest("assumedRoleUser", |json| {
            json.text("assumedRoleId", &format!("{}:{session}", role.unique));
            let arn = format!("arn:aws:sts::{account}:assumed-role/{}/{session}", role.name);
            json.text("arn", &arn);
        });
    })
}

/// The session of a role that somebody assumed.
pub(crate) struct Session<'a> {
    pub role: &'a Target,
    pub name: &'a str,
    pub key: &'a str,
    pub since: Micros,
}

/// A call within the session of an assumed role.
pub(crate) fn call_as(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    session: &Session<'_>,
    op: &Op,
    outcome: Outcome,
) {
    let role = session.role;
    let cast = scribe.cast;
    let account = &cast.accounts[role.account];
    let who = Who::Session {
        role: &role.name,
        unique: &role.unique,
        arn: &role.principal,
        account: &account.id,
        session: session.name,
        key: session.key,
        created: session.since,
        kind: "",
    };
    let request = (!op.detail.is_empty()).then(|| {
        let name = role.name.trim_end_matches("-deploy");
        part(|json| {
            json.text(op.detail, name);
        })
    });
    let answer = Answer { request, ..Answer::default() };
    let event = Event { at, account: &account.id, region: account.region, who, hand, op, outcome };
    publish(scribe, &event, answer);
}

/// `AssumeRoleWithWebIdentity` of a pipeline, before its first call.
pub(crate) fn assume_with_web_identity(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    let cast = scribe.cast;
    let actor = hand.actor;
    let account = cast.account(actor);
    let subject = format!("repo:{}/{}:ref:refs/heads/main", cast.company, actor.name);
    let role = as_target(actor);
    let answer = Answer {
        request: Some(part(|json| {
            json.text("roleArn", &actor.principal).text("roleSessionName", &hand.session);
            json.raw("durationSeconds", 3600);
        })),
        response: Some(credentials(scribe, at, &hand.credential, &role, &hand.session)),
        resource: Some(("AWS::IAM::Role", actor.principal.clone())),
    };
    let who = Who::Web { account: &account.id, subject: &subject };
    let op = &ASSUME_WEB;
    let outcome = Outcome::Allowed;
    let event = Event { at, account: &account.id, region: account.region, who, hand, op, outcome };
    publish(scribe, &event, answer);
}

/// A service assumes the role of what it runs: instances and functions get their sessions so.
pub(crate) fn assume_by_service(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) {
    let actor = hand.actor;
    let service = match actor.trade {
        Trade::Fleet => "ec2.amazonaws.com",
        _ => "lambda.amazonaws.com",
    };
    let role = as_target(actor);
    let answer = Answer {
        request: Some(part(|json| {
            json.text("roleArn", &actor.principal).text("roleSessionName", &hand.session);
        })),
        response: Some(credentials(scribe, at, &hand.credential, &role, &hand.session)),
        resource: Some(("AWS::IAM::Role", actor.principal.clone())),
    };
    service_event(scribe, at, actor, service, &ASSUME_ROLE, answer);
}

/// Something that a cloud service does on its own behalf.
pub(crate) fn service_event(
    scribe: &mut Scribe<'_>,
    at: Micros,
    actor: &Actor,
    service: &str,
    op: &Op,
    answer: Answer,
) {
    let account = scribe.cast.account(actor);
    let hand = &Hand {
        actor,
        credential: String::new(),
        issued_at: at,
        session: String::new(),
        from: service.to_owned(),
        agent: service.to_owned(),
        city: actor.city,
    };
    let who = Who::Service(service);
    let outcome = Outcome::Allowed;
    let event = Event { at, account: &account.id, region: account.region, who, hand, op, outcome };
    publish(scribe, &event, answer);
}

/// A service assumes its service-linked role in the account of `near`.
pub(crate) fn assume_service_linked(
    scribe: &mut Scribe<'_>,
    at: Micros,
    near: &Actor,
    service: &str,
) {
    let account = scribe.cast.account(near);
    let short = service.trim_end_matches(".amazonaws.com");
    let name = format!("AWSServiceRoleFor{}{}", short[..1].to_uppercase(), &short[1..]);
    let principal = format!("arn:aws:iam::{}:role/aws-service-role/{service}/{name}", account.id);
    let index = scribe.cast.accounts.iter().position(|other| other.id == account.id).unwrap_or(0);
    let unique = format!("AROA{:X<16}", short.to_uppercase().replace('-', ""));
    let role = Target { name, principal, unique, account: index, privileged: false };
    let (key, session) = (scribe.dice.aws_id("ASIA"), "SLRManagement");
    let answer = Answer {
        request: Some(part(|json| {
            json.text("roleArn", &role.principal).text("roleSessionName", session);
            json.raw("durationSeconds", 900);
        })),
        response: Some(credentials(scribe, at, &key, &role, session)),
        resource: Some(("AWS::IAM::Role", role.principal.clone())),
    };
    service_event(scribe, at, near, service, &ASSUME_ROLE, answer);
}

/// AWS saw the key in public and locks its user down.
pub(crate) fn quarantine(scribe: &mut Scribe<'_>, at: Micros, owner: &Actor) {
    let policy = "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV2";
    let request = part(|json| {
        json.text("userName", &owner.name).text("policyArn", policy);
    });
    let answer = Answer { request: Some(request), ..Answer::default() };
    service_event(scribe, at, owner, "iam.amazonaws.com", &ATTACH_USER, answer);
}

/// `CreateAccessKey` for `user`; returns the new key.
pub(crate) fn create_access_key(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    user: &str,
    key: Option<&str>,
) -> String {
    let key = key.map_or_else(|| scribe.dice.aws_id("AKIA"), str::to_owned);
    let response = part(|json| {
        json.nest("accessKey", |json| {
            json.text("userName", user).text("accessKeyId", &key).text("status", "Active");
            json.text("createDate", &clock::american(at));
        });
    });
    let answer = Answer {
        request: Some(part(|json| {
            json.text("userName", user);
        })),
        response: Some(response),
        resource: None,
    };
    record(scribe, at, hand, &CREATE_KEY, Outcome::Allowed, answer);
    key
}

/// `UpdateAccessKey` to `Inactive`, or `DeleteAccessKey`.
pub(crate) fn retire_access_key(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    (user, key): (&str, &str),
    delete: bool,
) {
    let request = part(|json| {
        json.text("userName", user).text("accessKeyId", key);
        if !delete {
            json.text("status", "Inactive");
        }
    });
    let op = if delete { &DELETE_KEY } else { &UPDATE_KEY };
    let answer = Answer { request: Some(request), ..Answer::default() };
    record(scribe, at, hand, op, Outcome::Allowed, answer);
}

pub(crate) fn attach_user_policy(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    (user, policy): (&str, &str),
    outcome: Outcome,
) {
    let request = part(|json| {
        json.text("userName", user).text("policyArn", &format!("arn:aws:iam::aws:policy/{policy}"));
    });
    let answer = Answer { request: Some(request), ..Answer::default() };
    record(scribe, at, hand, &ATTACH_USER, outcome, answer);
}

/// The role of an actor, as something that can be assumed.
fn as_target(actor: &Actor) -> Target {
    let (account, unique) = match &actor.identity {
        Identity::AwsRole { account, unique } | Identity::AwsUser { account, unique } => {
            (*account, unique.clone())
        }
        _ => (0, String::new()),
    };
    let principal = actor.principal.clone();
    Target { name: actor.name.clone(), principal, unique, account, privileged: false }
}

/// Who is in `userIdentity`.
enum Who<'a> {
    User {
        actor: &'a Actor,
        account: &'a str,
        unique: &'a str,
        key: &'a str,
    },
    Session {
        role: &'a str,
        unique: &'a str,
        arn: &'a str,
        account: &'a str,
        session: &'a str,
        key: &'a str,
        created: Micros,
        /// `ec2` for sessions that an instance got.
        kind: &'a str,
    },
    Web {
        account: &'a str,
        subject: &'a str,
    },
    Service(&'a str),
}

struct Event<'a> {
    at: Micros,
    account: &'a str,
    region: &'a str,
    who: Who<'a>,
    hand: &'a Hand<'a>,
    op: &'a Op,
    outcome: Outcome,
}

fn record(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    op: &Op,
    outcome: Outcome,
    answer: Answer,
) {
    let cast = scribe.cast;
    let actor = hand.actor;
    let account = cast.account(actor);
    let who = match &actor.identity {
        Identity::AwsUser { unique, .. } => {
            Who::User { actor, account: &account.id, unique, key: &hand.credential }
        }
        Identity::AwsRole { unique, .. } => Who::Session {
            role: &actor.name,
            unique,
            arn: &actor.principal,
            account: &account.id,
            session: &hand.session,
            key: &hand.credential,
            created: hand.issued_at,
            kind: if actor.trade == Trade::Fleet { "ec2" } else { "" },
        },
        _ => Who::Service("sts.amazonaws.com"),
    };
    let event = Event { at, account: &account.id, region: account.region, who, hand, op, outcome };
    publish(scribe, &event, answer);
}

fn publish(scribe: &mut Scribe<'_>, event: &Event<'_>, answer: Answer) {
    // CloudTrail's clock has seconds; the record's time is what its text says.
    let at = event.at - event.at.rem_euclid(SECOND);
    let text = text(scribe, event, answer);
    if scribe.dice.chance(TWICE) {
        scribe.write(at, LOG, text.clone());
    }
    scribe.write(at, LOG, text);
}

fn text(scribe: &mut Scribe<'_>, event: &Event<'_>, answer: Answer) -> String {
    let dice = &mut scribe.dice;
    let Event { at, account, region, who, hand, op, outcome } = event;
    let service = matches!(who, Who::Service(_));
    let global = matches!(op.service, "iam" | "organizations" | "route53");
    let region = if global { "us-east-1" } else { region };
    let (request_id, event_id) = (dice.uuid(), dice.uuid());
    let shared = (service && op.service == "sts").then(|| dice.uuid());
    // A browser at the console reaches the service through it.
    let browser = hand.agent.starts_with("Mozilla");
    let agent = if op.service == "s3" { format!("[{}]", hand.agent) } else { hand.agent.clone() };
    let denied = outcome.denied();
    let bare = denied && (op.service == "sts" || !op.read_only);
    object(|json| {
        json.text("eventVersion", if service { "1.08" } else { "1.09" });
        json.nest("userIdentity", |json| {
            identity(json, who);
            if hand.from == INTERNAL {
                json.text("invokedBy", INTERNAL);
            }
        });
        json.text("eventTime", &clock::iso(*at, 0));
        json.text("eventSource", &format!("{}.amazonaws.com", op.service));
        json.text("eventName", op.name).text("awsRegion", region);
        json.text("sourceIPAddress", &hand.from).text("userAgent", &agent);
        if denied {
            let target = answer.resource.as_ref().map(|(_, arn)| arn.as_str());
            let (code, message) = refusal(who, op, region, account, target);
            json.text("errorCode", code).text("errorMessage", &message);
        }
        match answer.request.filter(|_| !bare) {
            Some(request) => json.raw("requestParameters", request),
            None => json.null("requestParameters"),
        };
        json.raw("responseElements", answer.response.as_deref().unwrap_or("null"));
        json.text("requestID", &request_id).text("eventID", &event_id);
        json.raw("readOnly", op.read_only);
        if let Some((kind, arn)) = answer.resource.filter(|_| !denied) {
            let resource = part(|json| {
                json.text("accountId", account).text("type", kind).text("ARN", &arn);
            });
            json.raw("resources", format_args!("[{resource}]"));
        }
        json.text("eventType", "AwsApiCall").raw("managementEvent", true);
        json.text("recipientAccountId", account);
        if let Some(shared) = shared {
            json.text("sharedEventID", &shared);
        }
        json.text("eventCategory", "Management");
        if !service && !browser && hand.from != INTERNAL {
            json.nest("tlsDetails", |json| {
                json.text("tlsVersion", "TLSv1.3").text("cipherSuite", "TLS_AES_128_GCM_SHA256");
                let host = format!("{}.{region}.amazonaws.com", op.service);
                json.text("clientProvidedHostHeader", &host);
            });
        }
        if browser {
            json.text("sessionCredentialFromConsole", "true");
        }
    })
}

fn identity(json: &mut Json, who: &Who<'_>) {
    match who {
        Who::User { actor, account, unique, key } => {
            json.text("type", "IAMUser").text("principalId", unique);
            json.text("arn", &actor.principal).text("accountId", account);
            json.text("accessKeyId", key).text("userName", &actor.name);
        }
        Who::Session { role, unique, arn, account, session, key, created, kind } => {
            json.text("type", "AssumedRole").text("principalId", &format!("{unique}:{session}"));
            let sts = format!("arn:aws:sts::{account}:assumed-role/{role}/{session}");
            json.text("arn", &sts).text("accountId", account).text("accessKeyId", key);
            json.nest("sessionContext", |json| {
                json.nest("sessionIssuer", |json| {
                    json.text("type", "Role").text("principalId", unique).text("arn", arn);
                    json.text("accountId", account).text("userName", role);
                });
                json.raw("webIdFederationData", "{}");
                json.nest("attributes", |json| {
                    json.text("creationDate", &clock::iso(*created, 0));
                    json.text("mfaAuthenticated", "false");
                });
                if *kind == "ec2" {
                    json.text("ec2RoleDelivery", "2.0");
                }
            });
        }
        Who::Web { account, subject } => {
            let provider = "token.actions.githubusercontent.com";
            let arn = format!("arn:aws:iam::{account}:oidc-provider/{provider}");
            json.text("type", "WebIdentityUser");
            json.text("principalId", &format!("{arn}:sts.amazonaws.com:{subject}"));
            json.text("userName", subject).text("identityProvider", &arn);
        }
        Who::Service(service) => {
            json.text("type", "AWSService").text("invokedBy", service);
        }
    }
}

/// Code and text of a denied call; EC2 has words of its own.
fn refusal(
    who: &Who<'_>,
    op: &Op,
    region: &str,
    account: &str,
    target: Option<&str>,
) -> (&'static str, String) {
    if op.service == "ec2" {
        return (
            "Client.UnauthorizedOperation",
            "You are not authorized to perform this operation.".to_owned(),
        );
    }
    let caller = match who {
        Who::User { actor, .. } => actor.principal.clone(),
        Who::Session { account, role, session, .. } => {
            format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
        }
        Who::Web { subject, .. } => (*subject).to_owned(),
        Who::Service(service) => (*service).to_owned(),
    };
    let action = op.name.split("20").next().unwrap_or(op.name);
    let resource = match target {
        Some(arn) => arn.to_owned(),
        None => format!("arn:aws:{}:{region}:{account}:*", op.service),
    };
    let reason = if op.service == "sts" {
        ""
    } else {
        " because no identity-based policy allows the action"
    };
    let message = format!(
        "User: {caller} is not authorized to perform: {}:{action} on resource: {resource}{reason}",
        op.service
    );
    ("AccessDenied", message)
}

/// A policy document, as a string within the record, as IAM calls carry it.
pub(crate) fn policy_document(actions: &[&str]) -> String {
    part(|json| {
        json.text("Version", "2012-10-17");
        let statement = part(|json| {
            json.text("Effect", "Allow").raw("Action", json::texts(actions)).text("Resource", "*");
        });
        json.raw("Statement", format_args!("[{statement}]"));
    })
}

/// An IAM change with its policy document, as Terraform makes them.
pub(crate) fn put_role_policy(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>, role: &str) {
    static PUT: Op = write("iam", "PutRolePolicy", "roleName");
    let document = policy_document(&["s3:GetObject", "s3:PutObject", "sqs:SendMessage"]);
    let request = part(|json| {
        json.text("roleName", role).text("policyName", "inline").text("policyDocument", &document);
    });
    let answer = Answer { request: Some(request), ..Answer::default() };
    record(scribe, at, hand, &PUT, Outcome::Allowed, answer);
}
