//! What acted, by its name.

use crate::parsers::kubernetes_audit::kind_of_name;
use telltale_schema::PrincipalKind;

/// What a caller is, by `principalEmail` and `principalSubject`.
pub(super) fn principal_kind(email: Option<&str>, subject: Option<&str>) -> PrincipalKind {
    // GKE's workload identity: `project.svc.id.goog[namespace/account]`.
    let of_cluster = |name: &str| name.contains(".svc.id.goog[");
    if email.is_some_and(of_cluster) || (email.is_none() && subject.is_some_and(of_cluster)) {
        return PrincipalKind::Workload;
    }
    match (email, subject) {
        (Some(email), _) if is_agent(email) => PrincipalKind::System,
        (Some(email), _) => kind_of_name(email).unwrap_or(PrincipalKind::Unknown),
        (None, Some(subject)) => match subject.split_once(':') {
            Some(("serviceAccount", email)) if is_agent(email) => PrincipalKind::System,
            Some(("serviceAccount", _)) => PrincipalKind::ServiceAccount,
            Some(("user", _)) => PrincipalKind::Human,
            // Workforce pools hold people, workload pools the jobs of other platforms.
            Some(("principal" | "principalSet", path)) => match path.contains("/workforcePools/") {
                true => PrincipalKind::Human,
                false => PrincipalKind::Workload,
            },
            _ => PrincipalKind::Unknown,
        },
        (None, None) => PrincipalKind::Unknown,
    }
}

/// Whether an account is Google's own, acting on its behalf in a customer's project. The part
/// before the `@` is not enough: anybody may call an account `service-1`.
/// Source: <https://cloud.google.com/iam/docs/service-agents>.
fn is_agent(email: &str) -> bool {
    const AGENT_PROJECTS: [&str; 26] = [
        "bigquery-encryption",
        "cloud-cdn-fill",
        "cloud-filer",
        "cloud-memcache-sa",
        "cloud-ml.google.com",
        "cloud-redis",
        "cloud-tpu",
        "cloudcomposer-accounts",
        "compute-system",
        "container-analysis",
        "container-engine-robot",
        "containerregistry",
        "dataflow-service-producer-prod",
        "dataproc-accounts",
        "dlp-api",
        "endpoints-portal",
        "firebase-rules",
        "gae-api-prod.google.com",
        "gcf-admin-robot",
        "genomics-api.google.com",
        "gs-project-accounts",
        "monitoring-notification",
        "remotebuildexecution",
        "serverless-robot-prod",
        "service-consumer-management",
        "service-networking",
    ];
    let Some((account, domain)) = email.split_once('@') else { return false };
    match domain.strip_suffix(".iam.gserviceaccount.com") {
        Some(project) => {
            project.starts_with("gcp-sa-")
                || (account.starts_with("service-") && AGENT_PROJECTS.contains(&project))
        }
        None => {
            email == "system@google.com"
                || matches!(
                    domain,
                    "cloudservices.gserviceaccount.com" | "system.gserviceaccount.com"
                )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_what_its_name_says() {
        for (email, subject, kind) in [
            ("jane@example.com", "", PrincipalKind::Human),
            ("ci@prod-1.iam.gserviceaccount.com", "", PrincipalKind::ServiceAccount),
            ("1-compute@developer.gserviceaccount.com", "", PrincipalKind::ServiceAccount),
            ("1@cloudbuild.gserviceaccount.com", "", PrincipalKind::ServiceAccount),
            ("service-1@compute-system.iam.gserviceaccount.com", "", PrincipalKind::System),
            ("service-1@gcp-sa-pubsub.iam.gserviceaccount.com", "", PrincipalKind::System),
            ("service-1@mine.iam.gserviceaccount.com", "", PrincipalKind::ServiceAccount),
            ("1@cloudservices.gserviceaccount.com", "", PrincipalKind::System),
            ("system@google.com", "", PrincipalKind::System),
            ("system:serviceaccount:ns:sa", "", PrincipalKind::ServiceAccount),
            ("system:kube-scheduler", "", PrincipalKind::System),
            ("", "serviceAccount:p.svc.id.goog[ns/sa]", PrincipalKind::Workload),
            (
                "",
                "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/gh/subject/r",
                PrincipalKind::Workload,
            ),
            (
                "",
                "principal://iam.googleapis.com/locations/global/workforcePools/staff/subject/jane",
                PrincipalKind::Human,
            ),
            ("", "", PrincipalKind::Unknown),
        ] {
            let there = |text: &'static str| Some(text).filter(|text| !text.is_empty());
            assert_eq!(principal_kind(there(email), there(subject)), kind, "{email}{subject}");
        }
    }
}
