//! The fields of an audit event that are read.

use crate::json::{First, Number, Object, Raw, Text};
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuditEvent<'a> {
    #[serde(borrow)]
    pub(super) kind: Text<'a>,
    #[serde(rename = "auditID", borrow)]
    pub(super) audit_id: Text<'a>,
    #[serde(borrow)]
    pub(super) stage: Text<'a>,
    #[serde(rename = "requestURI", borrow)]
    pub(super) request_uri: Text<'a>,
    #[serde(borrow)]
    pub(super) verb: Text<'a>,
    #[serde(borrow)]
    pub(super) user: Object<User<'a>>,
    #[serde(borrow)]
    pub(super) impersonated_user: Object<User<'a>>,
    #[serde(rename = "sourceIPs", borrow)]
    pub(super) source_ips: First<Text<'a>>,
    #[serde(borrow)]
    pub(super) user_agent: Text<'a>,
    #[serde(borrow)]
    pub(super) object_ref: Object<ObjectRef<'a>>,
    #[serde(borrow)]
    pub(super) response_status: Object<ResponseStatus<'a>>,
    #[serde(borrow)]
    pub(super) request_object: Option<Raw<'a>>,
    #[serde(borrow)]
    pub(super) request_received_timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) stage_timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) timestamp: Text<'a>,
    #[serde(borrow)]
    pub(super) metadata: Object<Metadata<'a>>,
    #[serde(borrow)]
    pub(super) annotations: Option<Raw<'a>>,
    /// Not Kubernetes' own: what exporters add where they gather several clusters.
    #[serde(borrow)]
    pub(super) cluster: Object<Cluster<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct User<'a> {
    #[serde(borrow)]
    pub(super) username: Text<'a>,
    #[serde(borrow)]
    pub(super) groups: Option<Raw<'a>>,
    #[serde(borrow)]
    pub(super) extra: Object<Extra<'a>>,
}

/// Values of `user.extra` are lists of one text.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Extra<'a> {
    #[serde(rename = "authentication.kubernetes.io/credential-id", borrow)]
    pub(super) credential_id: First<Text<'a>>,
    #[serde(rename = "authentication.kubernetes.io/pod-name", borrow)]
    pub(super) pod_name: First<Text<'a>>,
    #[serde(rename = "authentication.kubernetes.io/node-name", borrow)]
    pub(super) node_name: First<Text<'a>>,
    /// EKS: the AWS identity behind the user.
    #[serde(borrow)]
    pub(super) access_key_id: First<Text<'a>>,
    #[serde(borrow)]
    pub(super) canonical_arn: First<Text<'a>>,
    #[serde(borrow)]
    pub(super) session_name: First<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectRef<'a> {
    #[serde(borrow)]
    pub(super) resource: Text<'a>,
    #[serde(borrow)]
    pub(super) namespace: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) api_group: Text<'a>,
    #[serde(borrow)]
    pub(super) subresource: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ResponseStatus<'a> {
    pub(super) code: Number,
    #[serde(borrow)]
    pub(super) status: Text<'a>,
    #[serde(borrow)]
    pub(super) reason: Text<'a>,
    /// Looked into only where a request was forbidden.
    #[serde(borrow)]
    pub(super) message: Option<Raw<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) creation_timestamp: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Cluster<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Annotations<'a> {
    #[serde(rename = "authorization.k8s.io/decision", borrow)]
    pub(super) decision: Text<'a>,
    #[serde(rename = "authentication.kubernetes.io/issued-credential-id", borrow)]
    pub(super) issued_credential_id: Text<'a>,
}

/// What is looked at of `requestObject`, whatever it is.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RequestObject<'a> {
    /// Secret: `kubernetes.io/service-account-token`.
    #[serde(rename = "type", borrow)]
    pub(super) secret_type: Text<'a>,
    #[serde(borrow)]
    pub(super) metadata: Object<RequestMetadata<'a>>,
    /// RoleBinding and ClusterRoleBinding.
    #[serde(borrow)]
    pub(super) subjects: Option<Vec<Object<Subject<'a>>>>,
    /// CertificateSigningRequest.
    #[serde(borrow)]
    pub(super) spec: Object<User<'a>>,
    #[serde(borrow)]
    pub(super) status: Object<Status<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RequestMetadata<'a> {
    #[serde(borrow)]
    pub(super) annotations: Object<RequestAnnotations<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RequestAnnotations<'a> {
    #[serde(rename = "kubernetes.io/service-account.name", borrow)]
    pub(super) service_account: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Subject<'a> {
    #[serde(borrow)]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) namespace: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Status<'a> {
    #[serde(borrow)]
    pub(super) conditions: Option<Vec<Object<Condition<'a>>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Condition<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Text<'a>,
}
