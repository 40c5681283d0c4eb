//! The audit log: what a policy asks for is recorded, line by line, and nothing else.

use std::path::{Path, PathBuf};

use expect_test::expect;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::extensions::{WEBHOOKS, followed};
use super::{Server, map};
use crate::audit::{ActingFor, Level, Log, LogConfig, Peer, Policy};
use crate::users::User;
use crate::{AuditConfig, body};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
metadata: {name: what-homes-want-to-know}
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: [quiet]}
- {level: None, nonResourceURLs: ["/healthz*", /version]}
- {level: Metadata, resources: [{group: "", resources: [secrets]}]}
- {level: RequestResponse, verbs: [create, patch], resources: [{group: "", resources: [configmaps]}], omitStages: [ResponseStarted]}
- {level: Request, resources: [{resources: [configmaps], resourceNames: [special]}]}
- {level: Metadata, namespaces: [default], verbs: [watch, list], omitStages: []}
- {level: Metadata, userGroups: [auditors]}
"#;

fn config(dir: &Path) -> AuditConfig {
    let log = LogConfig { path: dir.join("log/audit.log"), file_bytes_max: 1 << 20, files_max: 3 };
    AuditConfig { policy: Policy::parse(POLICY).expect("a policy"), log }
}

fn events(server: &Server) -> Vec<Value> {
    let text = std::fs::read_to_string(server._dir.path().join("log/audit.log")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn line(event: &Value) -> String {
    let text = |path: &str| match event.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    let fields =
        ["/level", "/stage", "/user/username", "/verb", "/requestURI", "/objectRef/name", "/responseStatus/code"];
    let fields: Vec<String> = fields.iter().map(|path| text(path)).collect();
    let objects = ["requestObject", "responseObject"].map(|part| if event.get(part).is_some() { part } else { "-" });
    format!("{} {}", fields.join(" "), objects.join(" "))
}

#[tokio::test]
async fn what_the_policy_asks_for_is_recorded() {
    let server = Server::recording(config).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    server.post(SECRETS, secret).await;
    server.get(&format!("{SECRETS}/s")).await;
    server.as_user("quiet").post(MAPS, map("q")).await;
    server.as_user("eve").post(MAPS, map("e")).await;
    server.post(MAPS, map("special")).await;
    server.merge(&format!("{MAPS}/special"), json!({"data": {"a": "b"}})).await;
    server.get(&format!("{MAPS}/special")).await;
    server.put(&format!("{MAPS}/special"), map("special")).await;
    server.get(&format!("{MAPS}/other")).await;
    server.get("/healthz").await;
    server.get("/metrics").await;
    server.get(MAPS).await;
    server.delete(&format!("{MAPS}/special"), json!({})).await;
    server.watch(&format!("{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=3"), 1).await;
    server.get("/api/v1/namespaces/kube-system/configmaps").await;
    let events = events(&server);
    let own: Vec<&Value> = events.iter().filter(|event| event["user"]["username"] != "system:apiserver").collect();
    expect![[r#"
        Metadata ResponseComplete system:admin create /api/v1/namespaces/default/secrets s 201 - -
        Metadata ResponseComplete system:admin get /api/v1/namespaces/default/secrets/s s 200 - -
        RequestResponse ResponseComplete eve create /api/v1/namespaces/default/configmaps e 403 requestObject responseObject
        RequestResponse ResponseComplete system:admin create /api/v1/namespaces/default/configmaps special 201 requestObject responseObject
        RequestResponse ResponseComplete system:admin patch /api/v1/namespaces/default/configmaps/special special 200 requestObject responseObject
        Request ResponseComplete system:admin get /api/v1/namespaces/default/configmaps/special special 200 - -
        Request ResponseComplete system:admin update /api/v1/namespaces/default/configmaps/special special 200 requestObject -
        Metadata ResponseComplete system:admin list /api/v1/namespaces/default/configmaps - 200 - -
        Request ResponseComplete system:admin delete /api/v1/namespaces/default/configmaps/special special 200 requestObject -
        Metadata ResponseStarted system:admin watch /api/v1/namespaces/default/configmaps?watch=1&resourceVersion=1&timeoutSeconds=3 - 200 - -
        Metadata ResponseComplete system:admin watch /api/v1/namespaces/default/configmaps?watch=1&resourceVersion=1&timeoutSeconds=3 - 200 - -"#]].assert_eq(&own.iter().map(|event| line(event)).collect::<Vec<_>>().join("\n"));
    let text = serde_json::to_string(&events).expect("text");
    assert!(!text.contains("hunter2"), "a Secret at Metadata is not told");
    assert!(!text.contains("managedFields"));
    let forbidden = own.iter().find(|event| event["user"]["username"] == "eve").expect("eve's");
    assert_eq!(forbidden["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(forbidden["responseStatus"]["reason"], "Forbidden", "{forbidden}");
    assert_eq!(forbidden["objectRef"]["namespace"], "default");
    let first = own[0];
    assert_eq!(first["annotations"]["authorization.k8s.io/decision"], "allow");
    for field in ["requestReceivedTimestamp", "stageTimestamp"] {
        let time = first[field].as_str().expect("a time");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
    }
}

#[tokio::test]
async fn who_acts_for_whom_is_recorded() {
    let server = Server::recording(config).await;
    // As HTTP/2 has it.
    let mut request = Request::get(format!("https://box:6443{SECRETS}/x?pretty=1"))
        .header("audit-id", "mine")
        .header("user-agent", "curl/8")
        .body(body::full(""))
        .expect("a request");
    request.extensions_mut().insert(Peer([192, 0, 2, 7].into()));
    request.extensions_mut().insert(ActingFor(server.user.clone()));
    let bob = User { name: "bob".to_owned(), ..User::anonymous() };
    let response = server.api.handle(bob, request).await;
    assert_eq!(
        (response.status(), &response.headers()["audit-id"]),
        (StatusCode::FORBIDDEN, &"mine".parse().expect("a value"))
    );
    let refused = Request::get(SECRETS).body(()).expect("a request");
    server.api.record_refusal(None, &refused, &crate::ApiError::unauthorized());
    let events = events(&server);
    let last: Vec<&Value> = events.iter().rev().take(2).collect();
    assert_eq!(
        (&last[1]["user"]["username"], &last[1]["impersonatedUser"]["username"]),
        (&json!("system:admin"), &json!("bob"))
    );
    assert_eq!(last[1]["requestURI"], format!("{SECRETS}/x?pretty=1"));
    let told = ["auditID", "sourceIPs", "userAgent"].map(|field| last[1][field].clone());
    assert_eq!(told, [json!("mine"), json!(["192.0.2.7"]), json!("curl/8")]);
    assert_eq!((&last[0]["user"], &last[0]["responseStatus"]["code"]), (&json!({}), &json!(401)));
}

#[tokio::test]
async fn refusals_of_people_unknown_do_not_push_out_the_rest() {
    let server = Server::recording(config).await;
    let refused = Request::get(format!("{SECRETS}?{}", "x".repeat(5000))).body(()).expect("a request");
    for _ in 0..200 {
        server.api.record_refusal(None, &refused, &crate::ApiError::unauthorized());
    }
    let refused = events(&server).into_iter().filter(|event| event["user"] == json!({})).collect::<Vec<_>>();
    assert_eq!(refused.len(), 60);
    assert!(refused[0]["requestURI"].as_str().is_some_and(|uri| uri.len() == 256));
}

#[tokio::test]
async fn what_policies_note_is_recorded() {
    let server = Server::recording(config).await;
    let note = |key: &str, value: &str| json!({"key": key, "valueExpression": value});
    let policy = json!({"metadata": {"name": "notes"}, "spec": {
        "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
        "validations": [{"expression": "object.metadata.name != 'refused'"}],
        "auditAnnotations": [
            note("name", "'  ' + object.metadata.name"), note("nothing", "null"), note("blank", "' '"),
            note("long", "object.metadata.name == 'odd' ? object.data.missing : 'x'")]}});
    let (code, made) = server.post(&format!("{WEBHOOKS}/validatingadmissionpolicies"), policy).await;
    assert_eq!((code, made["status"].get("warnings")), (StatusCode::CREATED, None), "{made}");
    for name in ["one", "two"] {
        let binding =
            json!({"metadata": {"name": name}, "spec": {"policyName": "notes", "validationActions": ["Deny"]}});
        server.post(&format!("{WEBHOOKS}/validatingadmissionpolicybindings"), binding).await;
    }
    followed(&server, |compiled| !compiled.policies.is_empty()).await;
    for name in ["taken", "refused", "odd"] {
        server.post(MAPS, map(name)).await;
    }
    let events = events(&server).into_iter().filter(|event| event["objectRef"]["resource"] == "configmaps");
    let said: Vec<String> = events
        .filter(|event| event["user"]["username"] != "system:apiserver")
        .map(|event| {
            let notes: Vec<String> = event["annotations"]
                .as_object()
                .expect("annotations")
                .iter()
                .filter(|(key, _)| key.starts_with("notes/"))
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!(
                "{} {} {}",
                event["requestObject"]["metadata"]["name"],
                event["responseStatus"]["code"],
                notes.join(" ")
            )
        })
        .collect();
    expect![[r#"
        "taken" 201 notes/long="x" notes/name="taken"
        "refused" 422 notes/long="x" notes/name="refused"
        "odd" 422 notes/name="odd""#]]
    .assert_eq(&said.join("\n"));
}

#[tokio::test]
async fn a_request_whose_client_goes_away_is_recorded() {
    let server = Server::recording(config).await;
    let endless = body::stream(futures::stream::pending());
    let request = Request::post(MAPS).header("audit-id", "gone").body(endless).expect("a request");
    let mut request = Box::pin(server.api.handle(server.user.clone(), request));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(50), &mut request).await;
    assert!(waits.is_err());
    drop(request);
    let gone: Vec<Value> = events(&server).into_iter().filter(|event| event["auditID"] == "gone").collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(gone[0]["annotations"]["audit.skiff.dev/aborted"], "the client went away before the answer");
}

#[test]
fn wrong_policies_are_refused() {
    let policy = |rule: &str| format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{rule}]");
    let all = [
        "{".to_owned(),
        "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]".to_owned(),
        "apiVersion: audit.k8s.io/v1\nkind: Policies\nrules: [{level: None}]".to_owned(),
        policy(""),
        policy("{level: Everything}"),
        policy("{level: None, user: [a]}"),
        policy("{level: None, namespaces: [a], nonResourceURLs: [/a]}"),
        policy("{level: None, nonResourceURLs: [a]}"),
        policy("{level: None}, {level: None, nonResourceURLs: ['/a*b']}"),
        policy("{level: None, resources: [{group: apps/v1}]}"),
        policy("{level: None, resources: [{resourceNames: [a]}]}"),
        policy("{level: None, omitStages: [Never]}"),
    ];
    let said: Vec<String> = all.iter().map(|text| Policy::parse(text).expect_err("it is wrong").to_string()).collect();
    expect![[r#"
        did not find expected node content at line 2 column 1, while parsing a flow node
        apiVersion: it must be "audit.k8s.io/v1"
        kind: it must be "Policy"
        rules: there must be at least one
        rules[0].level: unknown variant `Everything`, expected one of `None`, `Metadata`, `Request`, `RequestResponse` at line 3 column 17
        rules[0]: unknown field `user`, expected one of `level`, `users`, `userGroups`, `verbs`, `resources`, `namespaces`, `nonResourceURLs`, `omitStages`, `omitManagedFields` at line 3 column 23
        rules[0].nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs
        rules[0].nonResourceURLs[0]: non-resource URL rules must begin with a '/' character
        rules[1].nonResourceURLs[0]: non-resource URL wildcards '*' must be the final character of the rule
        rules[0].resources[0].group: a group is named without its version
        rules[0].resources[0].resourceNames: using resourceNames requires at least one resource
        rules[0].omitStages[0]: unknown variant `Never`, expected one of `RequestReceived`, `ResponseStarted`, `ResponseComplete`, `Panic` at line 3 column 36"#]].assert_eq(&said.join("\n"));
    assert!(Level::Request > Level::Metadata);
}

#[test]
fn the_log_keeps_so_many_parts() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("deep/audit.log");
    let config = LogConfig { path: path.clone(), file_bytes_max: 25, files_max: 3 };
    let log = Log::open(config.clone()).expect("a log");
    for number in 0..7 {
        log.write(format!("event {number}"));
    }
    // Goes on where it was.
    drop(log);
    Log::open(config).expect("a log").write("a line that is longer than a file may be".to_owned());
    let part =
        |name: &str| std::fs::read_to_string(PathBuf::from(format!("{}{name}", path.display()))).unwrap_or_default();
    let parts = ["", ".1", ".2", ".3"].map(part);
    assert_eq!(parts, ["a line that is longer than a file may be\n", "event 6\n", "event 3\nevent 4\nevent 5\n", ""]);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).expect("a file"));
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_log_that_is_taken_away_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    for files_max in [1, 3] {
        let path = dir.path().join(format!("{files_max}.log"));
        let log = Log::open(LogConfig { path: path.clone(), file_bytes_max: 10, files_max }).expect("a log");
        ["one", "two", "three"].iter().for_each(|line| log.write((*line).to_owned()));
        std::fs::remove_file(&path).expect("taken away");
        ["four and more", "five and more"].iter().for_each(|line| log.write((*line).to_owned()));
        assert_eq!(std::fs::read_to_string(&path).expect("a log"), "five and more\n");
        let older = std::fs::read_to_string(dir.path().join("3.log.2")).unwrap_or_default();
        assert_eq!(older, if files_max == 3 { "one\ntwo\n" } else { "" });
    }
}
