//! The fields of a `LogEntry` that are read, in both spellings of their keys.

use crate::json::{First, Number, Object, Raw, Text};
use crate::value::address;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogEntry<'a> {
    #[serde(alias = "insertid", alias = "insert_id", borrow)]
    pub(super) insert_id: Text<'a>,
    #[serde(alias = "logname", alias = "log_name", borrow)]
    pub(super) log_name: Text<'a>,
    #[serde(borrow)]
    pub(super) timestamp: Text<'a>,
    #[serde(alias = "receivetimestamp", alias = "receive_timestamp", borrow)]
    pub(super) receive_timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) resource: Object<Resource<'a>>,
    #[serde(borrow)]
    pub(super) operation: Object<Operation<'a>>,
    #[serde(alias = "httprequest", borrow)]
    pub(super) http_request: Object<HttpRequest<'a>>,
    /// BigQuery's export names the column after the payload's type.
    #[serde(alias = "protopayload", alias = "protopayload_auditlog", borrow)]
    pub(super) proto_payload: Object<AuditLog<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Resource<'a> {
    #[serde(borrow)]
    pub(super) labels: Object<Labels<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Labels<'a> {
    #[serde(borrow)]
    pub(super) project_id: Text<'a>,
    #[serde(borrow)]
    pub(super) location: Text<'a>,
    #[serde(borrow)]
    pub(super) region: Text<'a>,
    #[serde(borrow)]
    pub(super) zone: Text<'a>,
    #[serde(borrow)]
    pub(super) email_id: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Operation<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct HttpRequest<'a> {
    #[serde(borrow)]
    pub(super) latency: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuditLog<'a> {
    #[serde(rename = "@type", alias = "at_sign_type", borrow)]
    pub(super) payload_type: Text<'a>,
    #[serde(alias = "servicename", borrow)]
    pub(super) service_name: Text<'a>,
    #[serde(alias = "methodname", borrow)]
    pub(super) method_name: Text<'a>,
    #[serde(alias = "resourcename", borrow)]
    pub(super) resource_name: Text<'a>,
    #[serde(alias = "resourcelocation", borrow)]
    pub(super) resource_location: Object<ResourceLocation<'a>>,
    #[serde(alias = "authenticationinfo", borrow)]
    pub(super) authentication_info: Object<AuthenticationInfo<'a>>,
    #[serde(alias = "requestmetadata", borrow)]
    pub(super) request_metadata: Object<RequestMetadata<'a>>,
    pub(super) status: Object<Status>,
    #[serde(borrow)]
    request: Option<Raw<'a>>,
    #[serde(borrow)]
    response: Option<Raw<'a>>,
    #[serde(borrow)]
    metadata: Option<Raw<'a>>,
    /// BigQuery's export has these as JSON in strings.
    #[serde(alias = "requestjson", borrow)]
    request_json: Option<Raw<'a>>,
    #[serde(alias = "responsejson", borrow)]
    response_json: Option<Raw<'a>>,
    #[serde(alias = "metadatajson", borrow)]
    metadata_json: Option<Raw<'a>>,
    #[serde(alias = "servicedata", borrow)]
    service_data: Option<Raw<'a>>,
    /// BigQuery's export names the column after the data's type.
    #[serde(rename = "servicedata_v1_iam", borrow)]
    service_data_iam: Option<Raw<'a>>,
}

impl<'a> AuditLog<'a> {
    pub(super) fn request(&self) -> Option<Raw<'a>> {
        self.request.or(self.request_json)
    }

    pub(super) fn response(&self) -> Option<Raw<'a>> {
        self.response.or(self.response_json)
    }

    pub(super) fn metadata(&self) -> Option<Raw<'a>> {
        self.metadata.or(self.metadata_json)
    }

    pub(super) fn service_data(&self) -> Option<Raw<'a>> {
        self.service_data.or(self.service_data_iam)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResourceLocation<'a> {
    #[serde(alias = "currentlocations", borrow)]
    pub(super) current_locations: First<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuthenticationInfo<'a> {
    #[serde(alias = "principalemail", borrow)]
    pub(super) principal_email: Text<'a>,
    #[serde(alias = "principalsubject", borrow)]
    pub(super) principal_subject: Text<'a>,
    #[serde(alias = "serviceaccountkeyname", borrow)]
    pub(super) service_account_key_name: Text<'a>,
    #[serde(alias = "serviceaccountdelegationinfo", borrow)]
    pub(super) service_account_delegation_info: Option<Raw<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RequestMetadata<'a> {
    /// Spelled in two ways, by some exporters in both at once.
    #[serde(alias = "callerip", borrow)]
    pub(super) caller_ip: Text<'a>,
    #[serde(rename = "callerIP", borrow)]
    pub(super) caller_ip_upper: Text<'a>,
    #[serde(alias = "callersupplieduseragent", borrow)]
    pub(super) caller_supplied_user_agent: Text<'a>,
    #[serde(alias = "requestattributes", borrow)]
    pub(super) request_attributes: Object<RequestAttributes<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RequestAttributes<'a> {
    #[serde(borrow)]
    pub(super) time: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: Number,
}

/// One authority that acted through a service account.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Delegation<'a> {
    #[serde(borrow)]
    pub(super) principal_subject: Text<'a>,
    #[serde(borrow)]
    pub(super) first_party_principal: Object<FirstParty<'a>>,
    #[serde(borrow)]
    pub(super) third_party_principal: Object<ThirdParty<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FirstParty<'a> {
    #[serde(borrow)]
    pub(super) principal_email: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ThirdParty<'a> {
    #[serde(borrow)]
    pub(super) third_party_claims: Object<Claims<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    pub(super) sub: Text<'a>,
}

/// What is looked at of `request` and `response`, whatever they are.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) resource: Text<'a>,
    #[serde(borrow)]
    pub(super) email: Text<'a>,
}

/// GKE: the `Status` that the API server answered a refused call with.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) message: Option<Raw<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata<'a> {
    /// IAM Credentials: delegates, then the account whose token it is.
    #[serde(borrow)]
    pub(super) identity_delegation_chain: Option<Vec<Text<'a>>>,
    /// Cloud Identity and Workspace.
    #[serde(borrow)]
    pub(super) event: Option<Vec<Object<Activity<'a>>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Activity<'a> {
    #[serde(borrow)]
    pub(super) parameter: Option<Vec<Object<Parameter<'a>>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Parameter<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) value: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceData<'a> {
    #[serde(borrow)]
    pub(super) policy_delta: Object<PolicyDelta<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PolicyDelta<'a> {
    #[serde(borrow)]
    pub(super) binding_deltas: Option<Vec<Object<BindingDelta<'a>>>>,
    #[serde(borrow)]
    pub(super) audit_config_deltas: Option<Raw<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct BindingDelta<'a> {
    #[serde(borrow)]
    pub(super) member: Text<'a>,
}

impl RequestMetadata<'_> {
    /// Calls from within Google have `private` or `gce-internal-ip` here, which is no address.
    pub(super) fn address(&self) -> Option<Cow<'_, str>> {
        let spelled = [&self.caller_ip, &self.caller_ip_upper];
        spelled.into_iter().find_map(|ip| ip.get().and_then(address))
    }
}

impl Delegation<'_> {
    pub(super) fn authority(&self) -> Option<&str> {
        let first = || self.first_party_principal.get()?.principal_email.get();
        let third = || self.third_party_principal.get()?.third_party_claims.get()?.sub.get();
        first().or(self.principal_subject.get()).or_else(third)
    }
}
