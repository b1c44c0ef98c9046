//! What a CloudTrail `eventName` is about: its kind, whom it acts on, what it mints.

use super::role_of_session;
use crate::json::{Lenient, Raw, Text, object};
use std::borrow::Cow;
use telltale_schema::Kind;

/// What an operation means.
pub(super) struct Verb {
    pub kind: Kind,
    pub subject: Subject,
    /// Done with a password in a browser, so by a human.
    pub is_sign_in: bool,
}

/// Where the details of an operation stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nowhere that matters: parameters are not looked into.
    None,
    /// A role to be assumed: `requestParameters.roleArn`.
    AssumedRole,
    /// A role of the console: `additionalEventData`.
    SwitchedRole,
    /// A role of another account by its name: `requestParameters` or `serviceEventDetails`.
    RoleOfAccount,
    /// An IAM user or role, the caller itself when none is named.
    Identity,
    /// A secret or parameter that is read or changed.
    Secret,
}

const fn verb(kind: Kind, subject: Subject) -> Verb {
    Verb { kind, subject, is_sign_in: false }
}

static API_CALL: Verb = verb(Kind::ApiCall, Subject::None);
static CALL_ON_IDENTITY: Verb = verb(Kind::ApiCall, Subject::Identity);
static ASSUME_ROLE: Verb = verb(Kind::Impersonation, Subject::AssumedRole);
static SWITCH_ROLE: Verb =
    Verb { kind: Kind::Impersonation, subject: Subject::SwitchedRole, is_sign_in: true };
static FEDERATED_ROLE: Verb = verb(Kind::TokenIssued, Subject::AssumedRole);
static ROLE_CREDENTIALS: Verb = verb(Kind::TokenIssued, Subject::RoleOfAccount);
static TOKEN_ISSUED: Verb = verb(Kind::TokenIssued, Subject::Identity);
static SIGN_IN: Verb =
    Verb { kind: Kind::Authentication, subject: Subject::None, is_sign_in: true };
static CREDENTIAL_CREATED: Verb = verb(Kind::CredentialCreated, Subject::Identity);
static CREDENTIAL_ROTATED: Verb = verb(Kind::CredentialRotated, Subject::Identity);
static CREDENTIAL_REVOKED: Verb = verb(Kind::CredentialRevoked, Subject::Identity);
static POLICY_CHANGED: Verb = verb(Kind::PolicyChanged, Subject::Identity);
static RESOURCE_POLICY_CHANGED: Verb = verb(Kind::PolicyChanged, Subject::None);
static IDENTITY_CHANGED: Verb = verb(Kind::IdentityChanged, Subject::Identity);
static SECRET_READ: Verb = verb(Kind::SecretRead, Subject::Secret);
static SECRET_ROTATED: Verb = verb(Kind::CredentialRotated, Subject::Secret);
static LOGGING_CHANGED: Verb = verb(Kind::LoggingChanged, Subject::None);

/// The verb of an event. `service` is `eventSource`, `name` is `eventName`, whose API date
/// (`UpdateFunctionCode20150331v2`) does not count.
pub(super) fn classify(service: &str, name: &str) -> &'static Verb {
    let service = service.strip_suffix(".amazonaws.com").unwrap_or(service);
    match service {
        "sts" => match name {
            "AssumeRole" | "AssumeRoot" => &ASSUME_ROLE,
            "AssumeRoleWithWebIdentity" | "AssumeRoleWithSAML" => &FEDERATED_ROLE,
            "GetSessionToken" | "GetFederationToken" => &TOKEN_ISSUED,
            _ => &API_CALL,
        },
        "signin" => match name {
            "SwitchRole" => &SWITCH_ROLE,
            // Back to whom one was, which is in no record.
            "ExitRole" => &API_CALL,
            "GetSigninToken" => &TOKEN_ISSUED,
            _ => &SIGN_IN,
        },
        // The agent of a node asks in the name of a pod.
        "eks-auth" if name == "AssumeRoleForPodIdentity" => &ASSUME_ROLE,
        "rolesanywhere" if name == "CreateSession" => &FEDERATED_ROLE,
        "sso" | "sso-oauth" | "signin-oauth" => match name {
            "GetRoleCredentials" => &ROLE_CREDENTIALS,
            "CreateToken" | "CreateTokenWithIAM" => &TOKEN_ISSUED,
            "Authenticate" | "Federate" | "UserAuthentication" => &SIGN_IN,
            _ => &API_CALL,
        },
        "iam" => iam(name),
        "secretsmanager" => match name {
            "GetSecretValue" | "BatchGetSecretValue" => &SECRET_READ,
            "RotateSecret" | "PutSecretValue" | "UpdateSecret" => &SECRET_ROTATED,
            "PutResourcePolicy" | "DeleteResourcePolicy" => &RESOURCE_POLICY_CHANGED,
            _ => &API_CALL,
        },
        "ssm" => match name {
            "GetParameter" | "GetParameters" | "GetParametersByPath" | "GetParameterHistory" => {
                &SECRET_READ
            }
            _ => &API_CALL,
        },
        "ec2" => match name {
            "GetPasswordData" => &SECRET_READ,
            "CreateKeyPair" | "ImportKeyPair" => &CREDENTIAL_CREATED,
            "DeleteFlowLogs" => &LOGGING_CHANGED,
            _ => &API_CALL,
        },
        "s3" => match name {
            "PutBucketPolicy" | "DeleteBucketPolicy" | "PutBucketAcl" => &RESOURCE_POLICY_CHANGED,
            "PutBucketLogging" => &LOGGING_CHANGED,
            _ => &API_CALL,
        },
        "kms" => match name {
            "PutKeyPolicy" | "CreateGrant" => &RESOURCE_POLICY_CHANGED,
            _ => &API_CALL,
        },
        "lambda" if name.starts_with("AddPermission") || name.starts_with("RemovePermission") => {
            &RESOURCE_POLICY_CHANGED
        }
        "organizations" if name.ends_with("Policy") && !name.starts_with("Describe") => {
            &RESOURCE_POLICY_CHANGED
        }
        "cloudtrail" => match name {
            "StopLogging"
            | "DeleteTrail"
            | "UpdateTrail"
            | "PutEventSelectors"
            | "StartLogging"
            | "DeleteEventDataStore"
            | "StopEventDataStoreIngestion"
            | "PutInsightSelectors" => &LOGGING_CHANGED,
            _ => &API_CALL,
        },
        "logs" => match name {
            "DeleteLogGroup" | "DeleteLogStream" | "PutRetentionPolicy" | "DeleteDestination" => {
                &LOGGING_CHANGED
            }
            _ => &API_CALL,
        },
        "config" => match name {
            "StopConfigurationRecorder"
            | "DeleteConfigurationRecorder"
            | "DeleteDeliveryChannel" => &LOGGING_CHANGED,
            _ => &API_CALL,
        },
        "guardduty" => match name {
            "DeleteDetector"
            | "UpdateDetector"
            | "DisassociateFromMasterAccount"
            | "DisassociateFromAdministratorAccount"
            | "StopMonitoringMembers" => &LOGGING_CHANGED,
            _ => &API_CALL,
        },
        _ => &API_CALL,
    }
}

fn iam(name: &str) -> &'static Verb {
    match name {
        "CreateAccessKey"
        | "CreateLoginProfile"
        | "CreateServiceSpecificCredential"
        | "UploadSSHPublicKey"
        | "UploadSigningCertificate"
        | "CreateVirtualMFADevice" => &CREDENTIAL_CREATED,
        "UpdateLoginProfile"
        | "ChangePassword"
        | "ResetServiceSpecificCredential"
        | "UpdateAccessKey"
        | "UpdateServiceSpecificCredential"
        | "UpdateSSHPublicKey"
        | "UpdateSigningCertificate" => &CREDENTIAL_ROTATED,
        "DeleteAccessKey"
        | "DeleteLoginProfile"
        | "DeleteServiceSpecificCredential"
        | "DeleteSSHPublicKey"
        | "DeleteSigningCertificate" => &CREDENTIAL_REVOKED,
        "AddUserToGroup"
        | "RemoveUserFromGroup"
        | "UpdateAssumeRolePolicy"
        | "UpdateAccountPasswordPolicy"
        | "SetDefaultPolicyVersion" => &POLICY_CHANGED,
        "CreateUser"
        | "DeleteUser"
        | "UpdateUser"
        | "CreateRole"
        | "DeleteRole"
        | "UpdateRole"
        | "UpdateRoleDescription"
        | "TagUser"
        | "UntagUser"
        | "TagRole"
        | "UntagRole"
        | "CreateServiceLinkedRole"
        | "DeleteServiceLinkedRole"
        | "CreateGroup"
        | "DeleteGroup"
        | "CreateInstanceProfile"
        | "AddRoleToInstanceProfile"
        | "RemoveRoleFromInstanceProfile"
        | "DeleteInstanceProfile"
        | "EnableMFADevice"
        | "DeactivateMFADevice"
        | "CreateOpenIDConnectProvider"
        | "DeleteOpenIDConnectProvider"
        | "UpdateOpenIDConnectProviderThumbprint"
        | "CreateSAMLProvider"
        | "DeleteSAMLProvider"
        | "UpdateSAMLProvider" => &IDENTITY_CHANGED,
        // The device is the same as before.
        "ResyncMFADevice" => &CALL_ON_IDENTITY,
        _ => {
            let changes = ["Attach", "Detach", "Put", "Delete", "Create"];
            let is_policy = name.contains("Policy") || name.contains("PermissionsBoundary");
            match is_policy && changes.iter().any(|start| name.starts_with(start)) {
                true => &POLICY_CHANGED,
                false => &API_CALL,
            }
        }
    }
}

/// What the parameters and the answer of an operation say.
#[derive(Default)]
pub(super) struct Details<'a> {
    role_arn: Text<'a>,
    user_name: Text<'a>,
    role_name: Text<'a>,
    /// Of a new user or role, as `/staff/`.
    path: Text<'a>,
    /// The account of the role, where that is not the caller's.
    account_id: Text<'a>,
    /// The user or role that was made.
    made_arn: Text<'a>,
    denied_role: Option<&'a str>,
    /// The session that was got, for calls that name no role.
    session_arn: Text<'a>,
    pub resource: Text<'a>,
    /// The key that was minted.
    pub issued: Text<'a>,
    /// Another kind than the verb's: AWS attaches a policy of that name to a user whose key it
    /// found in public.
    pub kind: Option<Kind>,
}

object! {
    struct Parameters<'a> {
        role_arn: Text<'a> = "roleArn" | "rolearn",
        user_name: Text<'a> = "userName" | "username",
        role_name: Text<'a> = "roleName" | "rolename" | "role_name",
        account_id: Text<'a> = "accountId" | "accountid" | "account_id",
        path: Text<'a> = "path",
        target_principal: Text<'a> = "targetPrincipal" | "targetprincipal",
        policy_arn: Text<'a> = "policyArn" | "policyarn",
        policy_name: Text<'a> = "policyName" | "policyname",
        status: Text<'a> = "status",
        secret_id: Text<'a> = "secretId" | "secretid",
        name: Text<'a> = "name",
        instance_id: Text<'a> = "instanceId" | "instanceid",
        key_name: Text<'a> = "keyName" | "keyname",
    }

    struct Answer<'a> {
        credentials: Option<Issued<'a>> = "credentials",
        access_key: Option<Issued<'a>> = "accessKey" | "accesskey",
        service_specific_credential: Option<Issued<'a>> =
            "serviceSpecificCredential" | "servicespecificcredential",
        credential_set: Option<Vec<CredentialSet<'a>>> = "credentialSet" | "credentialset",
        key_pair_id: Text<'a> = "keyPairId" | "keypairid",
        assumed_role_user: Option<Named<'a>> = "assumedRoleUser" | "assumedroleuser",
        user: Lenient<Named<'a>> = "user",
        role: Lenient<Named<'a>> = "role",
    }

    struct Named<'a> {
        arn: Text<'a> = "arn",
    }

    struct CredentialSet<'a> {
        credentials: Option<Issued<'a>> = "credentials",
    }

    struct Issued<'a> {
        access_key_id: Text<'a> = "accessKeyId" | "accesskeyid",
        service_specific_credential_id: Text<'a> =
            "serviceSpecificCredentialId" | "servicespecificcredentialid",
    }
}

/// Reads what `verb` says is worth reading. Parameters of an odd shape say nothing.
pub(super) fn details<'a>(
    verb: &Verb,
    request: Option<Raw<'a>>,
    response: Option<Raw<'a>>,
    error_message: Option<&'a str>,
) -> Details<'a> {
    let object = |raw: Option<Raw<'a>>| raw.filter(|raw| raw.is_object());
    let asked: Parameters<'a> = object(request).and_then(|r| r.read().ok()).unwrap_or_default();
    let mut details = Details {
        role_arn: or(asked.role_arn, asked.target_principal),
        user_name: asked.user_name,
        role_name: asked.role_name,
        account_id: asked.account_id,
        path: asked.path,
        resource: or(
            asked.policy_arn,
            or(asked.secret_id, or(asked.name, or(asked.instance_id, asked.key_name))),
        ),
        ..Details::default()
    };
    if let Some(answer) = object(response).and_then(|r| r.read::<Answer<'a>>().ok()) {
        let issued = answer
            .credentials
            .or(answer.access_key)
            .or(answer.credential_set.and_then(|sets| sets.into_iter().next()?.credentials));
        details.issued = match (issued, answer.service_specific_credential) {
            (Some(issued), _) => issued.access_key_id,
            (None, Some(issued)) => issued.service_specific_credential_id,
            (None, None) => answer.key_pair_id,
        };
        details.session_arn = answer.assumed_role_user.unwrap_or_default().arn;
        details.made_arn = or(answer.user.0.arn, answer.role.0.arn);
    }
    if verb.subject == Subject::AssumedRole && details.role_arn.get().is_none() {
        details.denied_role = error_message.and_then(denied_role);
    }
    let quarantine =
        |text: &Text<'_>| text.get().is_some_and(|t| t.contains("AWSCompromisedKeyQuarantine"));
    if verb.kind == Kind::PolicyChanged
        && (quarantine(&details.resource) || quarantine(&asked.policy_name))
    {
        details.kind = Some(Kind::ExposureReported);
    }
    // Only a key that is switched off is revoked; switching it on again is a change.
    if verb.kind == Kind::CredentialRotated && asked.status.is("Inactive") {
        details.kind = Some(Kind::CredentialRevoked);
    }
    details
}

fn or<'a>(first: Text<'a>, second: Text<'a>) -> Text<'a> {
    if first.get().is_some() { first } else { second }
}

/// Whether `arn` is that of a user with this name, under whatever path.
fn is_user(arn: &str, name: &str) -> bool {
    let path = arn.split_once(":user/").and_then(|(_, path)| path.strip_suffix(name));
    path.is_some_and(|path| path.is_empty() || path.ends_with('/'))
}

/// `… is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::1:role/NAME`, of
/// AssumeRoot `arn:aws:iam::1:root`.
fn denied_role(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("on resource: ")?;
    let arn = rest.split([' ', ',', '"']).next()?.trim_end_matches('.');
    let names_one = arn.contains(":role/") || arn.ends_with(":root");
    (arn.starts_with("arn:") && names_one).then_some(arn)
}

impl<'a> Details<'a> {
    /// The identity that was acted as or on.
    ///
    /// IAM names a user or role without its account and partition, which are the caller's own, and
    /// leaves the user out when it is the caller. Only who was made just now is named with its path.
    pub fn target<'b>(
        &'b self,
        verb: &Verb,
        tenant: Option<&str>,
        caller: Option<&'b str>,
    ) -> Option<Cow<'b, str>> {
        let partition = || caller?.strip_prefix("arn:")?.split(':').next();
        let is_path = |path: &&str| path.starts_with('/') && path.ends_with('/');
        let path = self.path.get().filter(is_path).unwrap_or("/");
        let made = |kind: &str, name: &str| match self.account_id.get().or(tenant) {
            _ if name.starts_with("arn:") => Cow::Owned(name.to_owned()),
            Some(account) => {
                let partition = partition().unwrap_or("aws");
                Cow::Owned(format!("arn:{partition}:iam::{account}:{kind}{path}{name}"))
            }
            None => Cow::Owned(name.to_owned()),
        };
        // AssumeRoot takes a member account by its number too.
        let root = |account: &str| {
            let partition = partition().unwrap_or("aws");
            Cow::Owned(format!("arn:{partition}:iam::{account}:root"))
        };
        let is_account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        match verb.subject {
            Subject::AssumedRole => self
                .role_arn
                .get()
                .or(self.denied_role)
                .map(|role| if is_account(role) { root(role) } else { Cow::Borrowed(role) })
                .or_else(|| self.session_arn.get().and_then(role_of_session))
                .or_else(|| self.role_name.get().map(|name| made("role", name))),
            Subject::RoleOfAccount => self.role_name.get().map(|name| made("role", name)),
            Subject::Identity => {
                if let Some(arn) = self.made_arn.get() {
                    return Some(Cow::Borrowed(arn));
                }
                if let Some(name) = self.user_name.get() {
                    // Of the caller itself the ARN is known, with the path that the name lacks.
                    let own = caller.filter(|caller| is_user(caller, name));
                    return Some(own.map_or_else(|| made("user", name), Cow::Borrowed));
                }
                if let Some(name) = self.role_name.get() {
                    return Some(made("role", name));
                }
                // These take the caller's own identity when they are given none.
                matches!(
                    verb.kind,
                    Kind::CredentialCreated
                        | Kind::CredentialRotated
                        | Kind::CredentialRevoked
                        | Kind::TokenIssued
                )
                .then(|| caller.map(Cow::Borrowed))
                .flatten()
            }
            Subject::SwitchedRole | Subject::Secret | Subject::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_itself_under_any_path() {
        let users = "arn:aws:iam::1:user/";
        assert!(is_user(&format!("{users}jo"), "jo") && is_user(&format!("{users}a/b/jo"), "jo"));
        assert!(
            !is_user(&format!("{users}mojo"), "jo") && !is_user("arn:aws:iam::1:role/jo", "jo")
        );
    }
}
