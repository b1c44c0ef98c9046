//! Google Cloud audit logs, as Cloud Logging exports them.
//! <https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog>

use telltale_schema::time::{Micros, SECOND};

use crate::cast::{Project, Target, Trade};
use crate::clock;
use crate::json::{self, Json, object, part};
use crate::logs::{Op, read, write};
use crate::scribe::{Hand, Outcome, Scribe};

pub(crate) const LOG: &str = "gcp_audit";

static TOKEN: Op = read(
    "iamcredentials.googleapis.com",
    "GenerateAccessToken",
    "iam.serviceAccounts.getAccessToken",
);
static CREATE_KEY: Op = write(
    "iam.googleapis.com",
    "google.iam.admin.v1.CreateServiceAccountKey",
    "iam.serviceAccountKeys.create",
);
pub(crate) static SET_POLICY: Op = write(
    "cloudresourcemanager.googleapis.com",
    "SetIamPolicy",
    "resourcemanager.projects.setIamPolicy",
);
pub(crate) static WHO_AM_I: Op = read(
    "cloudresourcemanager.googleapis.com",
    "google.cloud.resourcemanager.v3.Projects.ListProjects",
    "resourcemanager.projects.list",
);

pub(crate) static WORK: &[Op] = &[
    read("storage.googleapis.com", "storage.objects.get", "storage.objects.get"),
    read("storage.googleapis.com", "storage.objects.list", "storage.objects.list"),
    write("storage.googleapis.com", "storage.objects.create", "storage.objects.create"),
    read(
        "bigquery.googleapis.com",
        "google.cloud.bigquery.v2.JobService.InsertJob",
        "bigquery.jobs.create",
    ),
    read(
        "bigquery.googleapis.com",
        "google.cloud.bigquery.v2.TableDataService.List",
        "bigquery.tables.getData",
    ),
    write("pubsub.googleapis.com", "google.pubsub.v1.Publisher.Publish", "pubsub.topics.publish"),
    read("cloudkms.googleapis.com", "Decrypt", "cloudkms.cryptoKeyVersions.useToDecrypt"),
    read(
        "secretmanager.googleapis.com",
        "google.cloud.secretmanager.v1.SecretManagerService.AccessSecretVersion",
        "secretmanager.versions.access",
    ),
    read(
        "firestore.googleapis.com",
        "google.firestore.v1.Firestore.RunQuery",
        "datastore.entities.list",
    ),
    write(
        "monitoring.googleapis.com",
        "google.monitoring.v3.MetricService.CreateTimeSeries",
        "monitoring.timeSeries.create",
    ),
];

pub(crate) static LOOKS: &[Op] = &[
    read("compute.googleapis.com", "v1.compute.instances.list", "compute.instances.list"),
    read("compute.googleapis.com", "v1.compute.firewalls.list", "compute.firewalls.list"),
    read("storage.googleapis.com", "storage.buckets.list", "storage.buckets.list"),
    read("storage.googleapis.com", "storage.objects.list", "storage.objects.list"),
    read(
        "container.googleapis.com",
        "google.container.v1.ClusterManager.ListClusters",
        "container.clusters.list",
    ),
    read("run.googleapis.com", "google.cloud.run.v1.Services.ListServices", "run.services.list"),
    write(
        "run.googleapis.com",
        "google.cloud.run.v1.Services.ReplaceService",
        "run.services.update",
    ),
    read(
        "logging.googleapis.com",
        "google.logging.v2.LoggingServiceV2.ListLogEntries",
        "logging.logEntries.list",
    ),
    read(
        "bigquery.googleapis.com",
        "google.cloud.bigquery.v2.JobService.InsertJob",
        "bigquery.jobs.create",
    ),
    read(
        "iam.googleapis.com",
        "google.iam.admin.v1.ListServiceAccounts",
        "iam.serviceAccounts.list",
    ),
    read(
        "cloudresourcemanager.googleapis.com",
        "GetIamPolicy",
        "resourcemanager.projects.getIamPolicy",
    ),
    write(
        "compute.googleapis.com",
        "v1.compute.instances.setMetadata",
        "compute.instances.setMetadata",
    ),
];

pub(crate) static LOOT: &[Op] = &[
    read(
        "cloudresourcemanager.googleapis.com",
        "GetIamPolicy",
        "resourcemanager.projects.getIamPolicy",
    ),
    read(
        "iam.googleapis.com",
        "google.iam.admin.v1.ListServiceAccounts",
        "iam.serviceAccounts.list",
    ),
    read("iam.googleapis.com", "google.iam.admin.v1.ListRoles", "iam.roles.list"),
    read("storage.googleapis.com", "storage.buckets.list", "storage.buckets.list"),
    read("compute.googleapis.com", "v1.compute.instances.aggregatedList", "compute.instances.list"),
    read(
        "container.googleapis.com",
        "google.container.v1.ClusterManager.ListClusters",
        "container.clusters.list",
    ),
    read(
        "secretmanager.googleapis.com",
        "google.cloud.secretmanager.v1.SecretManagerService.ListSecrets",
        "secretmanager.secrets.list",
    ),
    read(
        "bigquery.googleapis.com",
        "google.cloud.bigquery.v2.DatasetService.ListDatasets",
        "bigquery.datasets.get",
    ),
    read(
        "cloudfunctions.googleapis.com",
        "google.cloud.functions.v1.CloudFunctionsService.ListFunctions",
        "cloudfunctions.functions.list",
    ),
    read("sqladmin.googleapis.com", "cloudsql.instances.list", "cloudsql.instances.list"),
];

/// The full name of a service account's key.
pub(crate) fn key_name(project: &str, email: &str, id: &str) -> String {
    format!("//iam.googleapis.com/projects/{project}/serviceAccounts/{email}/keys/{id}")
}

/// Writes an ordinary call.
pub(crate) fn call(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    op: &Op,
    outcome: Outcome,
) {
    call_through(scribe, at, hand, &[], op, outcome);
}

/// A call as the last of `chain`, the first of which is the caller's own account.
/// An empty chain means that the caller acts for itself.
pub(crate) fn call_through(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    chain: &[&str],
    op: &Op,
    outcome: Outcome,
) {
    let cast = scribe.cast;
    let project = cast.project(hand.actor);
    let name = scribe.dice.pick(&hand.actor.resources).clone();
    let (kind, labels, resource) = match op.service {
        "storage.googleapis.com" => {
            ("gcs_bucket", ("bucket_name", name.as_str()), format!("projects/_/buckets/{name}"))
        }
        "bigquery.googleapis.com" => (
            "bigquery_dataset",
            ("dataset_id", name.as_str()),
            format!("projects/{}/datasets/{name}", project.id),
        ),
        "cloudresourcemanager.googleapis.com" => {
            ("project", ("project_id", project.id.as_str()), format!("projects/{}", project.id))
        }
        _ => (
            "audited_resource",
            ("service", op.service),
            format!("projects/{}/resources/{name}", project.id),
        ),
    };
    let (who, delegates) = match chain {
        [] => (hand.actor.principal.as_str(), chain),
        [delegates @ .., last] => (*last, delegates),
    };
    let entry = Entry {
        at,
        hand,
        project,
        op,
        outcome,
        who,
        delegates,
        resource: &resource,
        kind,
        labels,
        request: "",
        response: "",
        metadata: "",
    };
    publish(scribe, &entry);
}

/// `GenerateAccessToken` for `target`, through the accounts in `delegates`.
pub(crate) fn generate_access_token(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    target: &Target,
    delegates: &[&Target],
    outcome: Outcome,
) {
    let cast = scribe.cast;
    let project = &cast.projects[target.account];
    let path = |account: &&Target| format!("projects/-/serviceAccounts/{}", account.principal);
    let through: Vec<String> = delegates.iter().map(path).collect();
    let request = part(|json| {
        json.text(
            "@type",
            "type.googleapis.com/google.iam.credentials.v1.GenerateAccessTokenRequest",
        );
        json.text("name", &path(&target));
        if !through.is_empty() {
            json.raw("delegates", json::texts(&through));
        }
        json.raw("scope", json::texts(&["https://www.googleapis.com/auth/cloud-platform"]));
    });
    let metadata = part(|json| {
        json.raw("identityDelegationChain", json::texts(&through));
    });
    let entry = Entry {
        at,
        hand,
        project,
        op: &TOKEN,
        outcome,
        who: &hand.actor.principal,
        delegates: &[],
        resource: &format!("projects/-/serviceAccounts/{}", target.unique),
        kind: "service_account",
        labels: ("email_id", &target.principal),
        request: &request,
        response: "",
        metadata: if through.is_empty() { "" } else { &metadata },
    };
    publish(scribe, &entry);
}

/// Binds `member` to a role in its project.
pub(crate) fn set_iam_policy(
    scribe: &mut Scribe<'_>,
    at: Micros,
    hand: &Hand<'_>,
    (member, role): (&str, &str),
    outcome: Outcome,
) {
    let project = scribe.cast.project(hand.actor);
    let metadata = part(|json| {
        json.text("@type", "type.googleapis.com/google.iam.v1.logging.AuditData");
        let delta = part(|json| {
            json.text("action", "ADD").text("role", role);
            json.text("member", &format!("serviceAccount:{member}"));
        });
        json.nest("policyDelta", |json| {
            json.raw("bindingDeltas", format_args!("[{delta}]"));
        });
    });
    let entry = Entry {
        at,
        hand,
        project,
        op: &SET_POLICY,
        outcome,
        who: &hand.actor.principal,
        delegates: &[],
        resource: &format!("projects/{}", project.id),
        kind: "project",
        labels: ("project_id", &project.id),
        request: "",
        response: "",
        metadata: &metadata,
    };
    publish(scribe, &entry);
}

/// `CreateServiceAccountKey` for the hand's own account; returns the new key's name.
pub(crate) fn create_key(scribe: &mut Scribe<'_>, at: Micros, hand: &Hand<'_>) -> String {
    let project = scribe.cast.project(hand.actor);
    let email = &hand.actor.principal;
    let key = scribe.dice.hex(40);
    let name = format!("projects/{}/serviceAccounts/{email}", project.id);
    let request = part(|json| {
        json.text(
            "@type",
            "type.googleapis.com/google.iam.admin.v1.CreateServiceAccountKeyRequest",
        );
        json.text("name", &name);
    });
    let response = part(|json| {
        json.text("@type", "type.googleapis.com/google.iam.admin.v1.ServiceAccountKey");
        json.text("name", &format!("{name}/keys/{key}"));
        json.nest("valid_after_time", |json| {
            json.raw("seconds", at / SECOND);
        });
    });
    let entry = Entry {
        at,
        hand,
        project,
        op: &CREATE_KEY,
        outcome: Outcome::Allowed,
        who: email,
        delegates: &[],
        resource: &name,
        kind: "service_account",
        labels: ("email_id", email),
        request: &request,
        response: &response,
        metadata: "",
    };
    publish(scribe, &entry);
    key_name(&project.id, email, &key)
}

struct Entry<'a> {
    at: Micros,
    hand: &'a Hand<'a>,
    project: &'a Project,
    op: &'a Op,
    outcome: Outcome,
    /// `principalEmail`.
    who: &'a str,
    delegates: &'a [&'a str],
    resource: &'a str,
    kind: &'a str,
    labels: (&'a str, &'a str),
    /// These three: JSON, or empty where the record has none.
    request: &'a str,
    response: &'a str,
    metadata: &'a str,
}

fn publish(scribe: &mut Scribe<'_>, entry: &Entry<'_>) {
    let received = entry.at + scribe.dice.range(SECOND / 5, 3 * SECOND);
    let insert_id = scribe.dice.small(13);
    let v6 = scribe.dice.chance(0.02);
    // Some refused impersonations do not say who asked.
    let unnamed = entry.outcome.denied() && std::ptr::eq(entry.op, &TOKEN);
    let unnamed = unnamed && scribe.dice.chance(0.1);
    let text = text(entry, received, &insert_id, (v6, unnamed));
    scribe.write(entry.at, LOG, text);
}

fn text(
    entry: &Entry<'_>,
    received: Micros,
    insert_id: &str,
    (v6, unnamed): (bool, bool),
) -> String {
    let Entry { hand, project, op, outcome, .. } = entry;
    let denied = outcome.denied();
    // Service accounts on Google's own network appear behind one of its proxies now and then.
    let internal = v6 && hand.actor.trade == Trade::GcpRun;
    let caller_ip = if internal { "2600:1900:2000:1e:400::1" } else { &hand.from };
    object(|json| {
        json.nest("protoPayload", |json| {
            json.text("@type", "type.googleapis.com/google.cloud.audit.AuditLog");
            json.nest("status", |json| {
                if denied {
                    json.raw("code", 7).text("message", &refusal(entry));
                }
            });
            json.nest("authenticationInfo", |json| {
                if !unnamed {
                    authentication(json, entry);
                }
            });
            json.nest("requestMetadata", |json| {
                json.text("callerIp", caller_ip).text("callerSuppliedUserAgent", &hand.agent);
                json.nest("requestAttributes", |json| {
                    json.text("time", &clock::iso(entry.at, 9)).raw("auth", "{}");
                });
                json.raw("destinationAttributes", "{}");
            });
            json.text("serviceName", op.service).text("methodName", op.name);
            let authorization = part(|json| {
                json.text("resource", entry.resource).text("permission", op.detail);
                // Cloud Logging leaves false out.
                if !denied {
                    json.raw("granted", true);
                }
                json.raw("resourceAttributes", "{}");
            });
            json.raw("authorizationInfo", format_args!("[{authorization}]"));
            json.text("resourceName", entry.resource);
            if !entry.request.is_empty() {
                json.raw("request", entry.request);
            }
            if !entry.response.is_empty() {
                json.raw("response", entry.response);
            }
            if !entry.metadata.is_empty() {
                json.raw("metadata", entry.metadata);
            }
        });
        json.text("insertId", insert_id);
        json.nest("resource", |json| {
            json.text("type", entry.kind);
            json.nest("labels", |json| {
                if entry.labels.0 != "project_id" {
                    json.text(entry.labels.0, entry.labels.1);
                }
                json.text("project_id", &project.id);
            });
        });
        json.text("timestamp", &clock::iso(entry.at, 9));
        json.text("severity", if denied { "ERROR" } else { "INFO" });
        let stream = if op.read_only { "data_access" } else { "activity" };
        let log = format!("projects/{}/logs/cloudaudit.googleapis.com%2F{stream}", project.id);
        json.text("logName", &log).text("receiveTimestamp", &clock::iso(received, 9));
    })
}

fn authentication(json: &mut Json, entry: &Entry<'_>) {
    if !is_federated(entry.who) {
        json.text("principalEmail", entry.who);
    }
    json.text("principalSubject", &subject(entry.who));
    if !entry.delegates.is_empty() {
        let chain: Vec<String> = entry
            .delegates
            .iter()
            .map(|email| {
                part(|json| {
                    if !is_federated(email) {
                        json.nest("firstPartyPrincipal", |json| {
                            json.text("principalEmail", email);
                        });
                    }
                    json.text("principalSubject", &subject(email));
                })
            })
            .collect();
        json.raw("serviceAccountDelegationInfo", format_args!("[{}]", chain.join(",")));
    } else if !entry.hand.credential.is_empty() {
        json.text("serviceAccountKeyName", &entry.hand.credential);
    }
}

/// Callers from another identity provider have no e-mail address.
fn is_federated(who: &str) -> bool {
    who.starts_with("principal://")
}

fn subject(who: &str) -> String {
    match who {
        _ if is_federated(who) => who.to_owned(),
        _ if who.ends_with("gserviceaccount.com") => format!("serviceAccount:{who}"),
        _ => format!("user:{who}"),
    }
}

fn refusal(entry: &Entry<'_>) -> String {
    format!(
        "Permission '{}' denied on resource '{}' (or it may not exist).",
        entry.op.detail, entry.resource
    )
}
