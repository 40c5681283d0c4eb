//! What of upstream's API is served: the page `docs/api.md` is made here, of the table below and of discovery. A row that
//! says something else than discovery fails; `UPDATE_EXPECT=1 cargo test -p skiff-apiserver coverage` writes the page anew.

use std::collections::BTreeMap;
use std::fmt::Write;

use expect_test::expect_file;
use serde_json::Value;

use super::Server;

/// A resource of upstream's: its name and its subresources; why it or one of them is not served.
type Row = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const NOT_YET: &str = "not yet";

/// The groups and versions that upstream 1.34 serves as it comes, in discovery's order.
#[rustfmt::skip] // one row a line reads as a table
const UPSTREAM: &[(&str, &[Row])] = &[
    ("v1", &[
        ("bindings", &[], &[("", "`pods/binding` is what schedulers use")]),
        ("componentstatuses", &[], &[("", "deprecated upstream; `/readyz?verbose` says it")]),
        ("configmaps", &[], &[]),
        ("endpoints", &[], &[]),
        ("events", &[], &[]),
        ("limitranges", &[], &[]),
        ("namespaces", &["finalize", "status"], &[]),
        ("nodes", &["proxy", "status"], &[]),
        ("persistentvolumeclaims", &["status"], &[]),
        ("persistentvolumes", &["status"], &[]),
        ("pods", &["attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "resize", "status"],
            &[("resize", "the node does not resize running containers yet")]),
        ("podtemplates", &[], &[]),
        ("replicationcontrollers", &["scale", "status"], &[]),
        ("resourcequotas", &["status"], &[]),
        ("secrets", &[], &[]),
        ("serviceaccounts", &["token"], &[]),
        ("services", &["proxy", "status"], &[]),
    ]),
    ("apiregistration.k8s.io/v1", &[("apiservices", &["status"], &[])]),
    ("apps/v1", &[
        ("controllerrevisions", &[], &[]),
        ("daemonsets", &["status"], &[]),
        ("deployments", &["scale", "status"], &[]),
        ("replicasets", &["scale", "status"], &[]),
        ("statefulsets", &["scale", "status"], &[]),
    ]),
    ("events.k8s.io/v1", &[("events", &[], &[])]),
    ("authentication.k8s.io/v1", &[("selfsubjectreviews", &[], &[]), ("tokenreviews", &[], &[])]),
    ("authorization.k8s.io/v1", &[
        ("localsubjectaccessreviews", &[], &[]),
        ("selfsubjectaccessreviews", &[], &[]),
        ("selfsubjectrulesreviews", &[], &[]),
        ("subjectaccessreviews", &[], &[]),
    ]),
    ("autoscaling/v2", &[("horizontalpodautoscalers", &["status"], &[])]),
    ("autoscaling/v1", &[("horizontalpodautoscalers", &["status"], &[])]),
    ("batch/v1", &[("cronjobs", &["status"], &[]), ("jobs", &["status"], &[])]),
    ("certificates.k8s.io/v1", &[("certificatesigningrequests", &["approval", "status"], &[])]),
    ("networking.k8s.io/v1", &[
        ("ingressclasses", &[], &[]),
        ("ingresses", &["status"], &[]),
        ("ipaddresses", &[], &[]),
        ("networkpolicies", &[], &[]),
        ("servicecidrs", &["status"], &[]),
    ]),
    ("policy/v1", &[("poddisruptionbudgets", &["status"], &[])]),
    ("rbac.authorization.k8s.io/v1", &[
        ("clusterrolebindings", &[], &[]),
        ("clusterroles", &[], &[]),
        ("rolebindings", &[], &[]),
        ("roles", &[], &[]),
    ]),
    ("storage.k8s.io/v1", &[
        ("csidrivers", &[], &[]),
        ("csinodes", &[], &[]),
        ("csistoragecapacities", &[], &[]),
        ("storageclasses", &[], &[]),
        ("volumeattachments", &["status"], &[]),
        ("volumeattributesclasses", &[], &[]),
    ]),
    ("admissionregistration.k8s.io/v1", &[
        ("mutatingadmissionpolicies", &[], &[]),
        ("mutatingadmissionpolicybindings", &[], &[]),
        ("mutatingwebhookconfigurations", &[], &[]),
        ("validatingadmissionpolicies", &["status"], &[]),
        ("validatingadmissionpolicybindings", &[], &[]),
        ("validatingwebhookconfigurations", &[], &[]),
    ]),
    ("apiextensions.k8s.io/v1", &[("customresourcedefinitions", &["status"], &[])]),
    ("scheduling.k8s.io/v1", &[("priorityclasses", &[], &[])]),
    ("coordination.k8s.io/v1", &[("leases", &[], &[])]),
    ("node.k8s.io/v1", &[("runtimeclasses", &[], &[])]),
    ("discovery.k8s.io/v1", &[("endpointslices", &[], &[])]),
    ("flowcontrol.apiserver.k8s.io/v1", &[
        ("flowschemas", &["status"], &[]),
        ("prioritylevelconfigurations", &["status"], &[]),
    ]),
    ("resource.k8s.io/v1", &[
        ("deviceclasses", &[], &[("", NOT_YET)]),
        ("resourceclaims", &["status"], &[("", NOT_YET)]),
        ("resourceclaimtemplates", &[], &[("", NOT_YET)]),
        ("resourceslices", &[], &[("", NOT_YET)]),
    ]),
    ("metrics.k8s.io/v1beta1", &[("nodes", &[], &[]), ("pods", &[], &[])]),
];

const HEAD: &str = "# What of the Kubernetes API is served

Made by the test `coverage` of the API server; it fails where this is not what discovery says.

Verbs are get, list, watch, create, update, patch, delete and deletecollection but where a row names them. Subresources have
the verbs that upstream's have. Beside these, whatever a `CustomResourceDefinition` makes is served.

";

/// What discovery says, by the name of a resource or of a subresource.
async fn served(server: &Server, group_version: &str) -> BTreeMap<String, Vec<String>> {
    let root = if group_version.contains('/') { "/apis" } else { "/api" };
    let (_, list) = server.get(&format!("{root}/{group_version}")).await;
    let resources = list["resources"].as_array().cloned().unwrap_or_default();
    let texts =
        |value: &Value| value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    resources.iter().map(|one| (one["name"].as_str().unwrap_or_default().to_owned(), texts(&one["verbs"]))).collect()
}

fn cells(row: &Row, served: &BTreeMap<String, Vec<String>>) -> Result<[String; 3], String> {
    let (name, subresources, reasons) = row;
    let reason = |of: &str| reasons.iter().find(|(what, _)| *what == of).map(|(_, why)| *why);
    let what = match (served.get(*name), reason("")) {
        (Some(verbs), None) if verbs.len() == 8 => "yes".to_owned(),
        (Some(verbs), None) => verbs.join(", "),
        (None, Some(why)) => return Ok([(*name).to_owned(), format!("no: {why}"), String::new()]),
        (Some(_), Some(_)) => return Err(format!("{name} is served, and a reason why not is given")),
        (None, None) => return Err(format!("{name} is not served, and no reason is given")),
    };
    let mut parts = Vec::new();
    for part in *subresources {
        match (served.contains_key(&format!("{name}/{part}")), reason(part)) {
            (true, None) => parts.push((*part).to_owned()),
            (false, Some(why)) => parts.push(format!("{part} (no: {why})")),
            (is_served, _) => return Err(format!("{name}/{part}: served {is_served}, the table says otherwise")),
        }
    }
    Ok([(*name).to_owned(), what, parts.join(", ")])
}

#[tokio::test]
async fn the_page_says_what_discovery_says() {
    let server = Server::start().await;
    let (mut page, mut wrong) = (HEAD.to_owned(), Vec::new());
    for (group_version, rows) in UPSTREAM {
        let served = served(&server, group_version).await;
        let _ = writeln!(page, "## {group_version}\n\n| resource | served | subresources |\n|---|---|---|");
        for row in *rows {
            match cells(row, &served) {
                Ok(cells) => drop(writeln!(page, "| {} |", cells.join(" | "))),
                Err(why) => wrong.push(format!("{group_version}: {why}")),
            }
        }
        page.push('\n');
        let known = |name: &str| {
            let (resource, part) = name.split_once('/').unwrap_or((name, ""));
            rows.iter().any(|(own, parts, _)| *own == resource && (part.is_empty() || parts.contains(&part)))
        };
        wrong.extend(
            served.keys().filter(|name| !known(name)).map(|name| format!("{group_version}: {name} is in no row")),
        );
    }
    let (_, groups) = server.get("/apis").await;
    let versions =
        groups["groups"].as_array().into_iter().flatten().flat_map(|g| g["versions"].as_array().into_iter().flatten());
    let missing =
        versions.filter_map(|v| v["groupVersion"].as_str()).filter(|v| !UPSTREAM.iter().any(|(own, _)| own == v));
    wrong.extend(missing.map(|version| format!("{version} is in no row")));
    assert!(wrong.is_empty(), "{wrong:#?}");
    expect_file!["../../docs/api.md"].assert_eq(&format!("{}\n", page.trim_end()));
}
