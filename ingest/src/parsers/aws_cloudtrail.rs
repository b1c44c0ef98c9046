//! AWS CloudTrail: management, data and sign-in events, as delivered to S3 (`{"Records":[…]}`,
//! gzip), as single events or arrays, as SIEMs export them, and with keys in lower case as tables of
//! Athena and Glue have them: such a row is an event of its own beside the record that it was made of,
//! of which it may hold less. Not what only looks like it: notifications of S3 and streams that
//! Lambda reads (`eventSource` `aws:…`), ActionTrail of Alibaba Cloud.
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>
//!
//! - **principal**: the user's or root's ARN; for a session the ARN of its role, the session's
//!   name in `session_id`; for a service acting for itself its DNS name; for a user of IAM Identity
//!   Center `onBehalfOf.userId`, which is all that newer records say of them.
//! - **target**: the role of AssumeRole, also when it was denied (then it stands only in
//!   `errorMessage`), the root of AssumeRoot's account, the role that GetRoleCredentials of IAM
//!   Identity Center names; the user or role that an IAM call acts on, with its path where it is
//!   being made: other calls do not tell the path. A `SwitchRole` of the console is logged as the
//!   new session's own: who switched to its role is `SwitchFrom`.
//! - **outcome**: what `errorCode` says, which services spell in many ways; of a code that says
//!   nothing `is not authorized to perform` in `errorMessage` means `denied`.
//! - **credential**: `accessKeyId`; the key that the event minted in `issued_credential_id`.
//! - **time**: `eventTime`, else the exporter's `@timestamp`; none where neither is a time, which
//!   some redacted exports do.
//!
//! An Insights event is no call but what CloudTrail noticed of many: its `operation` is the
//! `insightType`, its `resource` the call that is meant.

mod operation;

use super::{Parser, append_or_refuse};
use crate::json::{self, First, Lenient, Raw, Text, object};
use crate::payload::{Payload, Rejects};
use crate::value::{address, content_id, event_id, outcome_of_status};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use memchr::memmem;
use operation::{Subject, Verb};
use std::borrow::Cow;
use std::sync::LazyLock;
use telltale_schema::time::{UNKNOWN, parse_instant, parse_lenient};
use telltale_schema::{Event, EventId, Events, Micros, Outcome, PrincipalKind};

pub struct AwsCloudtrail;

const NAME: &str = "aws_cloudtrail";

/// What S3 has in the place of the account of a caller without credentials.
const ANONYMOUS: &str = "ANONYMOUS_PRINCIPAL";

impl Parser for AwsCloudtrail {
    fn name(&self) -> &'static str {
        NAME
    }

    fn help(&self) -> &'static str {
        "AWS CloudTrail: API calls, sign-ins and role sessions of AWS accounts"
    }

    fn source(&self) -> &'static str {
        include_str!("aws_cloudtrail.rs")
    }

    fn recognises(&self, record: &str) -> bool {
        let has = |name: &str| memmem::find(record.as_bytes(), name.as_bytes()).is_some();
        let any = |names: &[&str]| names.iter().any(|name| has(name));
        let camel = || {
            has("\"eventName\"")
                && any(&["\"eventSource\"", "\"eventVersion\""])
                && any(&["\"userIdentity\"", "\"recipientAccountId\"", "\"awsRegion\""])
                && !has("\"requestParams\"")
        };
        let lower = || {
            has("\"eventname\"")
                && any(&["\"eventsource\"", "\"eventversion\""])
                && any(&["\"useridentity\"", "\"recipientaccountid\"", "\"awsregion\""])
                && !has("\"requestparams\"")
        };
        let source = || {
            text_behind(record, "\"eventSource\"")
                .or_else(|| text_behind(record, "\"eventsource\""))
        };
        record.starts_with('{') && (camel() || lower()) && !source().is_some_and(is_foreign)
    }

    fn parse(&self, payload: &Payload, events: &mut dyn Events, rejects: &mut Rejects) {
        append_or_refuse(payload, rejects, |text| {
            let with_identity;
            let mut record = Record::default();
            if let Err(cause) = json::read_into(text, &mut record) {
                with_identity = identity_opened(text).ok_or_else(|| cause.to_string())?;
                record = Record::default();
                json::read_into(&with_identity, &mut record).map_err(|cause| cause.to_string())?;
            }
            record.append_to(text, events)
        });
    }
}

// Tables of Athena and Glue have every key in lower case.
object! {
    struct Record<'a> {
        event_id: Text<'a> = "eventID",
        table_id: Text<'a> = "eventid",
        event_time: Text<'a> = "eventTime" | "eventtime",
        /// What Logstash makes of `eventTime`.
        timestamp: Text<'a> = "@timestamp",
        event_name: Text<'a> = "eventName" | "eventname",
        event_source: Text<'a> = "eventSource" | "eventsource",
        aws_region: Text<'a> = "awsRegion" | "awsregion",
        source_ip_address: Text<'a> = "sourceIPAddress" | "sourceipaddress",
        user_agent: Text<'a> = "userAgent" | "useragent",
        error_code: Text<'a> = "errorCode" | "errorcode",
        error_message: Text<'a> = "errorMessage" | "errormessage",
        user_identity: UserIdentity<'a> = "userIdentity" | "useridentity",
        request_parameters: Option<Raw<'a>> = "requestParameters" | "requestparameters",
        response_elements: Option<Raw<'a>> = "responseElements" | "responseelements",
        resources: First<Lenient<Resource<'a>>> = "resources",
        recipient_account_id: Text<'a> = "recipientAccountId" | "recipientaccountid",
        session_credential_from_console: Text<'a> =
            "sessionCredentialFromConsole" | "sessioncredentialfromconsole",
    }

    struct UserIdentity<'a> {
        kind: Text<'a> = "type",
        principal_id: Text<'a> = "principalId" | "principalid",
        arn: Text<'a> = "arn",
        account_id: Text<'a> = "accountId" | "accountid",
        access_key_id: Text<'a> = "accessKeyId" | "accesskeyid",
        user_name: Text<'a> = "userName" | "username",
        invoked_by: Text<'a> = "invokedBy" | "invokedby",
        on_behalf_of: Option<Raw<'a>> = "onBehalfOf" | "onbehalfof",
        session_context: Lenient<SessionContext<'a>> = "sessionContext" | "sessioncontext",
    }

    struct SessionContext<'a> {
        session_issuer: Lenient<SessionIssuer<'a>> = "sessionIssuer" | "sessionissuer",
        attributes: Lenient<Attributes<'a>> = "attributes",
        source_identity: Text<'a> = "sourceIdentity" | "sourceidentity",
    }

    struct SessionIssuer<'a> {
        arn: Text<'a> = "arn",
    }

    struct Attributes<'a> {
        creation_date: Text<'a> = "creationDate" | "creationdate",
        mfa_authenticated: Text<'a> = "mfaAuthenticated" | "mfaauthenticated",
    }

    struct Resource<'a> {
        arn: Text<'a> = "ARN" | "arn",
    }

    struct OnBehalfOf<'a> {
        user_id: Text<'a> = "userId" | "userid",
    }

    /// `additionalEventData` of a `SwitchRole`: ARNs of a user, or of a session.
    struct Switch<'a> {
        from: Text<'a> = "SwitchFrom" | "switchfrom",
        to: Text<'a> = "SwitchTo" | "switchto",
    }

    struct Insight<'a> {
        kind: Text<'a> = "insightType" | "insighttype",
        event_source: Text<'a> = "eventSource" | "eventsource",
        event_name: Text<'a> = "eventName" | "eventname",
    }
}

/// Who acted: what `userIdentity` means.
#[derive(Default)]
struct Who<'a> {
    id: Option<Cow<'a, str>>,
    kind: Option<PrincipalKind>,
    session: Option<&'a str>,
}

impl Record<'_> {
    /// Errors: why the record is no event.
    fn append_to(&self, text: &str, events: &mut dyn Events) -> Result<(), String> {
        let Some(name) = self.event_name.get() else { return self.append_insight(text, events) };
        let user = &self.user_identity;
        let tenant = self.recipient_account_id.get().or(user.account_id.get());
        let service = self.event_source.get();
        if let Some(source) = service.filter(|source| is_foreign(source)) {
            return Err(format!("`eventSource` is {source:?}, whose events are not CloudTrail's"));
        }
        let verb = operation::classify(service.unwrap_or_default(), name);
        let [mut asked, mut answered, mut detailed, mut added] = [const { String::new() }; 4];
        let mut who = user.who(self.session_credential_from_console.is("true"), verb);
        let (outcome, status_code) = self.outcome(text, verb);
        let subject = match verb.subject {
            Subject::None | Subject::SwitchedRole => operation::Details::default(),
            _ => {
                let request = self.request_parameters.and_then(|raw| raw.opened(&mut asked));
                let details = match verb.subject {
                    Subject::RoleOfAccount => member(text, "serviceEventDetails"),
                    _ => None,
                };
                operation::details(
                    verb,
                    request
                        .filter(|raw| raw.is_object())
                        .or_else(|| details?.opened(&mut detailed)),
                    self.response_elements.and_then(|raw| raw.opened(&mut answered)),
                    self.error_message.get(),
                )
            }
        };
        let switched = match verb.subject {
            Subject::SwitchedRole => {
                let switch = member(text, "additionalEventData");
                let switch = switch.and_then(|raw| raw.opened(&mut added)?.read().ok());
                who.switched_by(switch.unwrap_or_default())
            }
            _ => None,
        };
        let target = switched.or_else(|| subject.target(verb, tenant, who.id.as_deref()));
        let kind = subject.kind.unwrap_or(verb.kind);
        let source_identity = user.session_context.source_identity.get();
        let mut chain = [""; 3];
        let mut links = 0;
        if let (telltale_schema::Kind::Impersonation, Some(target)) = (kind, target.as_deref()) {
            for link in [source_identity, who.id.as_deref(), Some(target)].into_iter().flatten() {
                chain[links] = link;
                links += 1;
            }
        }
        let source_ip = self.source_ip_address.get().and_then(address);
        let credential = user.access_key_id.get();
        events.push(&Event {
            event_id: self.id(text, tenant),
            tenant,
            kind,
            operation: Some(name),
            service,
            outcome,
            status_code,
            error_code: self.error_code.get().filter(|_| outcome != Outcome::Success),
            principal_id: who.id.as_deref(),
            principal_kind: who.kind.unwrap_or(PrincipalKind::Unknown),
            principal_name: user.name(),
            target_id: target.as_deref(),
            delegation_chain: &chain[..links],
            credential_id: credential,
            credential_kind: credential.and_then(key_kind),
            credential_issued_at: user
                .session_context
                .attributes
                .creation_date
                .get()
                .and_then(parse_instant),
            credential_expires_at: None,
            issued_credential_id: subject.issued.get(),
            session_id: who.session,
            source_ip: source_ip.as_deref(),
            user_agent: self.user_agent.get().map(without_brackets),
            resource: self.resources.0.arn.get().or(subject.resource.get()),
            region: self.aws_region.get(),
            instance_id: who.session.filter(|session| is_instance(session)),
            raw: Some(text),
            ..Event::new(NAME, self.time())
        });
        Ok(())
    }

    /// CloudTrail Insights: what CloudTrail found unusual, without a caller.
    fn append_insight(&self, text: &str, events: &mut dyn Events) -> Result<(), String> {
        let insight = member(text, "insightDetails").filter(|raw| raw.is_object());
        let insight: Insight<'_> =
            insight.and_then(|raw| raw.read().ok()).ok_or("`eventName` is missing")?;
        let tenant = self.recipient_account_id.get();
        events.push(&Event {
            event_id: self.id(text, tenant),
            tenant,
            operation: insight.kind.get(),
            service: insight.event_source.get(),
            resource: insight.event_name.get(),
            principal_kind: PrincipalKind::System,
            region: self.aws_region.get(),
            raw: Some(text),
            ..Event::new(NAME, self.time())
        });
        Ok(())
    }

    fn id(&self, text: &str, tenant: Option<&str>) -> EventId {
        match (self.event_id.get(), self.table_id.get()) {
            // A GUID: two accounts that log the same event log it once.
            (Some(id), _) => event_id(NAME, None, &[id]),
            // What a table holds of a record takes the record's place nowhere.
            (None, Some(id)) => event_id(NAME, None, &["table", id]),
            (None, None) => content_id(NAME, tenant, &[text]),
        }
    }

    fn time(&self) -> Micros {
        [&self.event_time, &self.timestamp]
            .into_iter()
            .filter_map(Text::get)
            .find_map(|text| parse_instant(text).or_else(|| parse_lenient(text)))
            .unwrap_or(UNKNOWN)
    }

    /// `errorCode` decides; a failed sign-in has none and says so in `responseElements` (console)
    /// or `serviceEventDetails` (IAM Identity Center).
    fn outcome(&self, text: &str, verb: &Verb) -> (Outcome, Option<i16>) {
        let Some(code) = self.error_code.get() else {
            let details = || member(text, "serviceEventDetails");
            let failed_login = self.response_elements.is_some_and(says_failure)
                || (verb.is_sign_in && details().is_some_and(says_failure));
            return match failed_login {
                true => (Outcome::Failure, Some(401)),
                false => (Outcome::Success, Some(200)),
            };
        };
        // Some services, Managed Grafana for one, put an HTTP status here, of success too.
        if let Ok(status @ 100..600) = code.parse::<i16>() {
            return (outcome_of_status(status.into()), Some(status));
        }
        outcome_of_code(code, self.error_message.get())
    }
}

/// What an error means by what its code says; of several the first.
const CODES: &[(&[&str], (Outcome, i16))] = &[
    (
        &[
            "AccessDenied",
            "Unauthorized",
            "NotAuthorized",
            "Forbidden",
            "AuthorizationError",
            "AuthorizationFailed",
            "AllAccessDisabled",
            "InsufficientPrivileges",
            "OptInRequired",
        ],
        (Outcome::Denied, 403),
    ),
    (
        &[
            "InvalidClientTokenId",
            "ExpiredToken",
            "SignatureDoesNotMatch",
            "AuthFailure",
            "UnrecognizedClient",
            "InvalidIdentityToken",
            "InvalidToken",
            "InvalidGrant",
            "InvalidSignature",
            "IncompleteSignature",
            "MissingAuthenticationToken",
            "InvalidAccessKeyId",
            "TokenRefreshRequired",
            "Failed authentication",
            "IDPRejectedClaim",
            // A signature is good for some minutes only.
            "RequestExpired",
            "RequestTimeTooSkewed",
        ],
        (Outcome::Failure, 401),
    ),
    (&["Throttl", "RequestLimitExceeded", "TooManyRequests"], (Outcome::Error, 429)),
    (&["NoSuch", "NotFound", "NotExist"], (Outcome::Error, 404)),
    (&["InternalError", "InternalFailure", "ServiceUnavailable"], (Outcome::Error, 500)),
];

/// All parts of [`CODES`], looked for at once.
static CODE_PARTS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let parts = CODES.iter().flat_map(|(parts, _)| *parts);
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .prefilter(false)
        .build(parts)
        .expect("a few short patterns make an automaton")
});

fn outcome_of_code(code: &str, message: Option<&str>) -> (Outcome, Option<i16>) {
    let first =
        CODE_PARTS.find_overlapping_iter(code).map(|found| found.pattern().as_usize()).min();
    let mut of_part = CODES.iter().flat_map(|(parts, outcome)| parts.iter().map(move |_| outcome));
    let found = first.and_then(|number| of_part.nth(number));
    let (outcome, status) = match (found, message) {
        (Some(found), _) => *found,
        // What IAM says in every service, whatever code that has for it.
        (None, Some(message)) if message.contains("is not authorized to perform") => {
            (Outcome::Denied, 403)
        }
        (None, _) => (Outcome::Error, 400),
    };
    (outcome, Some(status))
}

/// Whether an `eventSource` is of events that look like CloudTrail's: notifications of S3 and
/// streams that Lambda reads (`aws:s3`, `aws:dynamodb`, `aws:kinesis`), ActionTrail of Alibaba Cloud.
fn is_foreign(source: &str) -> bool {
    source.starts_with("aws:") || source.ends_with(".aliyuncs.com")
}

/// The text of the first member of that name, as it stands in the record.
fn text_behind<'a>(record: &'a str, quoted_name: &str) -> Option<&'a str> {
    let at = memmem::find(record.as_bytes(), quoted_name.as_bytes())? + quoted_name.len();
    let value = record[at..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split('"').next()
}

/// A member at the top level of a record, in whatever case its key is.
fn member<'a>(record: &'a str, name: &str) -> Option<Raw<'a>> {
    let mut found = None;
    json::members(record, |key, value| {
        if key.eq_ignore_ascii_case(name) {
            found.get_or_insert(value);
        }
    });
    found
}

/// The record with its `userIdentity` as an object, where that is JSON in a string.
fn identity_opened(record: &str) -> Option<String> {
    let identity = member(record, "userIdentity").filter(|raw| raw.0.starts_with('"'))?;
    let mut inner = String::new();
    let object = identity.opened(&mut inner)?.0.trim();
    // Whatever else it holds would become a part of the record.
    json::from_str::<UserIdentity<'_>>(object).ok().filter(|_| object.starts_with('{'))?;
    let start = identity.0.as_ptr() as usize - record.as_ptr() as usize;
    let behind = &record[start + identity.0.len()..];
    Some(format!("{}{object}{behind}", &record[..start]))
}

impl<'a> UserIdentity<'a> {
    fn who(&'a self, console: bool, verb: &Verb) -> Who<'a> {
        let arn = self.arn.get();
        let kind = self.kind.get();
        let issuer = self.session_context.session_issuer.arn.get();
        let is_session = matches!(kind, Some("AssumedRole"))
            || arn.is_some_and(|arn| resource_of(arn).starts_with("assumed-role/"));
        if is_session {
            let id = issuer.map(Cow::Borrowed).or_else(|| arn.and_then(role_of_session));
            return Who::in_session(
                id.or_else(|| self.unique_id().0.map(Cow::Borrowed)),
                arn.and_then(name_of_session).or_else(|| self.unique_id().1),
            );
        }
        let mfa = self.session_context.attributes.mfa_authenticated.is("true");
        match kind {
            Some("Root") => Who::of(arn.or(self.account_id.get()), PrincipalKind::Human),
            Some("IAMUser") => {
                let id = arn.or(self.name()).or(self.principal_id.get());
                let kind = match id {
                    None if verb.is_sign_in => PrincipalKind::Anonymous,
                    _ if console || mfa || verb.is_sign_in => PrincipalKind::Human,
                    _ => PrincipalKind::ServiceAccount,
                };
                Who::of(id, kind)
            }
            // The role itself, with no session of it.
            Some("Role") => Who::in_session(
                arn.or(self.user_name.get()).or(self.principal_id.get()).map(Cow::Borrowed),
                None,
            ),
            Some("AWSService") => Who::of(self.invoked_by.get().or(arn), PrincipalKind::System),
            Some("FederatedUser") => Who {
                session: arn.and_then(name_of_session),
                ..Who::of(issuer.or(arn), PrincipalKind::Unknown)
            },
            Some("WebIdentityUser") => {
                Who::of(self.user_name.get().or(self.principal_id.get()), PrincipalKind::Workload)
            }
            Some("SAMLUser" | "IdentityCenterUser" | "Directory") => Who::of(
                self.identity_center_user().or(self.user_name.get()).or(self.principal_id.get()),
                PrincipalKind::Human,
            ),
            Some("AWSAccount")
                if self.account_id.is(ANONYMOUS) || self.principal_id.is(ANONYMOUS) =>
            {
                Who::of(Some(ANONYMOUS), PrincipalKind::Anonymous)
            }
            // A caller of another account is known by its unique id, a session's name behind it.
            Some("AWSAccount") => {
                let (unique, session) = self.unique_id();
                Who {
                    session,
                    ..Who::of(arn.or(unique).or(self.account_id.get()), PrincipalKind::Unknown)
                }
            }
            None if self.invoked_by.get().is_some() => {
                Who::of(self.invoked_by.get(), PrincipalKind::System)
            }
            // What IAM Identity Center called its users before `IdentityCenterUser`.
            Some("Unknown") if let Some(user) = self.identity_center_user() => {
                Who::of(Some(user), PrincipalKind::Human)
            }
            _ => Who::of(
                arn.or(self.user_name.get()).or(self.principal_id.get()).or(self.account_id.get()),
                PrincipalKind::Unknown,
            ),
        }
    }

    /// `userName`, which is hidden where a sign-in failed because there is no such user: it may be
    /// a password that was typed into the wrong field.
    fn name(&self) -> Option<&str> {
        self.user_name.get().filter(|name| *name != "HIDDEN_DUE_TO_SECURITY_REASONS")
    }

    /// `principalId` taken apart: the id that AWS gave, and behind a colon the session's name.
    fn unique_id(&self) -> (Option<&str>, Option<&str>) {
        match self.principal_id.get().map(|id| id.split_once(':').ok_or(id)) {
            Some(Ok((id, session))) => (Some(id), Some(session)),
            Some(Err(id)) => (Some(id), None),
            None => (None, None),
        }
    }

    /// The user's id in its identity store, which it keeps when it is renamed.
    fn identity_center_user(&self) -> Option<&'a str> {
        self.on_behalf_of?.read::<OnBehalfOf<'a>>().ok()?.user_id.borrowed()
    }
}

impl<'a> Who<'a> {
    fn of(id: Option<&'a str>, kind: PrincipalKind) -> Self {
        Self { id: id.map(Cow::Borrowed), kind: Some(kind), session: None }
    }

    /// A session of the role `id`.
    fn in_session(id: Option<Cow<'a, str>>, session: Option<&'a str>) -> Self {
        let role = resource_of(id.as_deref().unwrap_or_default());
        let name = behind_last_slash(role).unwrap_or(role);
        let kind = if role.starts_with("role/aws-service-role/")
            || name.starts_with("AWSServiceRoleFor")
        {
            PrincipalKind::System
        } else if name.starts_with("AWSReservedSSO_") {
            PrincipalKind::Human
        } else if session.is_some_and(is_instance) {
            PrincipalKind::Workload
        } else {
            PrincipalKind::Role
        };
        Self { id, kind: Some(kind), session }
    }

    /// Puts the caller of `SwitchRole` in the place of the session that it got, which is whom the
    /// record names, and gives the role of that session.
    fn switched_by(&mut self, switch: Switch<'a>) -> Option<Cow<'a, str>> {
        let to = switch.to.borrowed().map(|to| role_of_session(to).unwrap_or(Cow::Borrowed(to)));
        let Some(from) = switch.from.borrowed() else { return to };
        let caller = match role_of_session(from) {
            Some(role) => Self::in_session(Some(role), name_of_session(from)),
            None => Self::of(Some(from), PrincipalKind::Human),
        };
        let session = std::mem::replace(self, caller);
        to.or(session.id)
    }
}

/// Whether the short answer of a sign-in is `{"ConsoleLogin":"Failure"}` or the like, be it as an
/// object or as a string with one in it.
fn says_failure(raw: Raw<'_>) -> bool {
    let word = if raw.0.starts_with('"') { "\"Failure\\\"" } else { "\"Failure\"" };
    raw.0.len() < 200 && memmem::find(raw.0.as_bytes(), word.as_bytes()).is_some()
}

/// What an ARN names, behind its fifth colon; all of what is no ARN.
fn resource_of(arn: &str) -> &str {
    let colons = memchr::memchr_iter(b':', arn.as_bytes());
    colons.take(5).nth(4).map_or(arn, |at| &arn[at + 1..])
}

/// `arn:aws:sts::1:assumed-role/NAME/SESSION` to `arn:aws:iam::1:role/NAME`.
fn role_of_session(arn: &str) -> Option<Cow<'_, str>> {
    let (head, rest) = arn.split_once(":assumed-role/")?;
    let name = rest.split('/').next()?;
    let (partition, account) = head.split_once(":sts::")?;
    Some(Cow::Owned(format!("{partition}:iam::{account}:role/{name}")))
}

/// `SESSION` of `arn:aws:sts::1:assumed-role/NAME/SESSION`.
fn name_of_session(arn: &str) -> Option<&str> {
    behind_last_slash(arn)
}

fn behind_last_slash(text: &str) -> Option<&str> {
    memchr::memrchr(b'/', text.as_bytes()).map(|at| &text[at + 1..])
}

/// `i-` and hexadecimal digits: the session that EC2 delivers to an instance.
fn is_instance(session: &str) -> bool {
    session
        .strip_prefix("i-")
        .is_some_and(|id| id.len() >= 8 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn key_kind(id: &str) -> Option<&'static str> {
    match id.get(..4)? {
        "AKIA" => Some("access_key"),
        "ASIA" => Some("session_key"),
        _ => None,
    }
}

/// S3 writes the user agent in brackets.
fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text)
}
