//! Okta System Log events.
//! <https://developer.okta.com/docs/reference/api/system-log/>

use telltale_schema::time::Micros;

use crate::cast::{Identity, Trade};
use crate::clock;
use crate::dice::{Dice, Purpose};
use crate::json::{object, part};
use crate::logs::{Op, read, write};
use crate::names;
use crate::scribe::{Hand, Outcome, Scribe};

pub(crate) const LOG: &str = "okta_system_log";

/// Clock of the log: milliseconds.
const MILLI: Micros = 1000;

pub(crate) static GRANT: Op = write(
    "core.user.impersonation.grant.enabled",
    "user.session.impersonation.grant",
    "Enable impersonation grant",
);
pub(crate) static INITIATE: Op = write(
    "core.user.impersonation.session.initiated",
    "user.session.impersonation.initiate",
    "Initiate impersonation session",
);
pub(crate) static RESET_MFA: Op =
    write("core.user.factor.reset_all", "user.mfa.factor.reset_all", "Reset all factors for user");
pub(crate) static ADMIN_APP: Op = read(
    "app.admin.sso.login.success",
    "user.session.access_admin_app",
    "User accessing Okta admin app",
);

pub(crate) static PEOPLE: &[Op] = &[
    read("core.user_auth.login_success", "user.session.start", "User login to Okta"),
    read("app.auth.sso", "user.authentication.sso", "User single sign on to app"),
    read("app.auth.sso", "user.authentication.sso", "User single sign on to app"),
    read(
        "core.user.factor.attempt_success",
        "user.authentication.auth_via_mfa",
        "Authentication of user via MFA",
    ),
    read(
        "app.oauth2.as.token.grant",
        "app.oauth2.as.token.grant.access_token",
        "OAuth2 access token is granted",
    ),
    read("policy.evaluate_sign_on", "policy.evaluate_sign_on", "Evaluation of sign-on policy"),
];

pub(crate) static SERVICES: &[Op] = &[
    write(
        "core.user.config.user_update",
        "user.account.update_profile",
        "Update user profile for Okta",
    ),
    write(
        "core.user_group_member.user_add",
        "group.user_membership.add",
        "Add user to group membership",
    ),
    write(
        "core.user_group_member.user_remove",
        "group.user_membership.remove",
        "Remove user from group membership",
    ),
    write(
        "app.generic.provision.assign_user_to_app",
        "application.user_membership.add",
        "Add user to application membership",
    ),
    write("core.user.config.user_creation.success", "user.lifecycle.create", "Create Okta user"),
    write("core.user.config.user_deactivated", "user.lifecycle.deactivate", "Deactivate Okta user"),
];

/// What a thief of an administrator's token does.
pub(crate) static LOOT: &[Op] = &[
    write(
        "core.user_group_member.user_add",
        "group.user_membership.add",
        "Add user to group membership",
    ),
    write(
        "core.user.admin_privilege.granted",
        "user.account.privilege.grant",
        "Grant user privilege",
    ),
    write("api.token.create", "system.api_token.create", "Create API token"),
    write("core.user.factor.reset_all", "user.mfa.factor.reset_all", "Reset all factors for user"),
    write("policy.lifecycle.update", "policy.lifecycle.update", "Update policy"),
    write(
        "core.user.config.password_reset",
        "user.account.reset_password",
        "Fired when the user's Okta password is reset",
    ),
];

/// A person as the target of an event.
pub(crate) struct Aim<'a> {
    pub id: &'a str,
    pub email: &'a str,
    pub name: &'a str,
}

/// Writes an ordinary event; what services change has an employee as its target.
pub(crate) fn call(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    op: &Op,
    outcome: Outcome,
) {
    let cast = scribe.cast;
    let person = scribe.dice.pick(&cast.people);
    let name = names::display(&person.name);
    let aim = Aim { id: &person.okta_id, email: &person.email, name: &name };
    let aimed = !op.read_only;
    event(scribe, at, hand, op, aimed.then_some(&aim), outcome);
}

pub(crate) fn event(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    op: &Op,
    aim: Option<&Aim<'_>>,
    outcome: Outcome,
) {
    let at = at - at.rem_euclid(MILLI);
    let actor = hand.actor;
    let Identity::Okta { id, kind } = &actor.identity else { return };
    let app = *scribe.dice.pick(&["AWS IAM Identity Center", "GitHub", "Google Workspace", "Jira"]);
    let (uuid, request_id) = (scribe.dice.uuid(), scribe.dice.mixed(27));
    let device = hand.agent.len() as u64;
    let hash = Dice::at(scribe.cast.seed, Purpose::Instance, actor.index as u64, device).hex(64);
    let denied = outcome.denied();
    let city = hand.city;
    let geography = part(|json| {
        json.text("city", city.name).text("state", city.state).text("country", city.country);
        json.text("postalCode", city.postal);
        json.nest("geolocation", |json| {
            json.raw("lat", city.latitude).raw("lon", city.longitude);
        });
    });
    let elsewhere = !std::ptr::eq(city, actor.city);
    let browser = hand.agent.starts_with("Mozilla");
    let text = object(|json| {
        json.nest("actor", |json| {
            json.text("id", id).text("type", kind).text("alternateId", &actor.principal);
            json.text("displayName", &actor.name).null("detailEntry");
        });
        json.nest("client", |json| {
            json.nest("userAgent", |json| {
                json.text("rawUserAgent", &hand.agent);
                let os = match (browser, hand.agent.contains("Windows")) {
                    (false, _) => "Unknown",
                    (_, true) => "Windows 10",
                    _ if hand.agent.contains("Macintosh") => "Mac OS X",
                    _ => "Linux",
                };
                json.text("os", os).text("browser", if browser { "CHROME" } else { "UNKNOWN" });
            });
            json.text("zone", "null").text("device", if browser { "Computer" } else { "Unknown" });
            json.null("id").text("ipAddress", &hand.from);
            json.raw("geographicalContext", &geography);
        });
        json.null("device");
        json.nest("authenticationContext", |json| {
            json.null("authenticationProvider").null("credentialProvider").null("credentialType");
            json.null("issuer").null("interface").raw("authenticationStep", 0);
            let session = if browser { hand.session.as_str() } else { "unknown" };
            json.maybe("rootSessionId", browser.then_some(session));
            json.text("externalSessionId", session);
        });
        json.text("displayMessage", op.detail).text("eventType", op.name);
        json.nest("outcome", |json| {
            json.text("result", if denied { "FAILURE" } else { "SUCCESS" });
            json.maybe("reason", denied.then_some("INVALID_CREDENTIALS"));
        });
        json.text("published", &clock::iso(at, 3));
        json.nest("securityContext", |json| {
            json.null("asNumber").null("asOrg").null("isp").null("domain").raw("isProxy", false);
        });
        json.text("severity", if denied { "WARN" } else { "INFO" });
        json.nest("debugContext", |json| {
            json.nest("debugData", |json| {
                let path = op.name.replace('.', "/");
                json.text("requestId", &request_id).text("requestUri", &format!("/api/v1/{path}"));
                json.text("url", &format!("/api/v1/{path}?"));
                if browser {
                    json.text("dtHash", &hash).text("threatSuspected", "false");
                    let new = if elsewhere { "POSITIVE" } else { "NEGATIVE" };
                    let behaviors = format!(
                        "{{New Geo-Location={new}, New Device={new}, New IP={new}, New State={new}, \
                         New Country={new}, Velocity=NEGATIVE, New City={new}}}"
                    );
                    json.text("behaviors", &behaviors);
                }
                if actor.trade == Trade::OktaClient {
                    json.text("grantType", "client_credentials")
                        .text("clientAuthType", "private_key_jwt");
                }
            });
        });
        json.text("legacyEventType", op.service);
        json.nest("transaction", |json| {
            json.text("type", "WEB").text("id", &request_id);
            json.nest("detail", |json| {
                if !hand.credential.is_empty() && actor.trade == Trade::OktaToken {
                    json.text("requestApiTokenId", &hand.credential);
                }
            });
        });
        json.text("uuid", &uuid).text("version", "0");
        json.nest("request", |json| {
            let hop = part(|json| {
                json.text("ip", &hand.from).raw("geographicalContext", &geography);
                let v6 = hand.from.contains(':');
                json.text("version", if v6 { "V6" } else { "V4" }).null("source");
            });
            json.raw("ipChain", format_args!("[{hop}]"));
        });
        let target = match aim {
            Some(aim) => part(|json| {
                json.text("id", aim.id).text("type", "User").text("alternateId", aim.email);
                json.text("displayName", aim.name).null("detailEntry");
            }),
            None => part(|json| {
                json.text("id", &format!("0oa{:0>17}", app.len())).text("type", "AppInstance");
                json.text("alternateId", app).text("displayName", app).null("detailEntry");
            }),
        };
        json.raw("target", format_args!("[{target}]"));
    });
    scribe.write(at, LOG, text);
}
