//! Pod Security as clients meet it: who is refused, who is warned, and what an editor of a namespace might try.

use super::*;

const PODS: &str = "/api/v1/namespaces/n/pods";

impl Server {
    /// A server with a namespace `n` that has these Pod Security labels, and its default account.
    async fn with_namespace(labels: &[(&str, &str)]) -> Self {
        let server = Self::start().await;
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(mode, value)| (format!("pod-security.kubernetes.io/{mode}"), json!(value))).collect();
        let made = server.post("/api/v1/namespaces", json!({"metadata": {"name": "n", "labels": labels}})).await;
        assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
        let account = json!({"metadata": {"name": "default"}});
        assert_eq!(server.post("/api/v1/namespaces/n/serviceaccounts", account).await.0, StatusCode::CREATED);
        server
    }

    /// The answer's code and what it warns of.
    async fn warned(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        object: &Value,
    ) -> (StatusCode, Vec<String>) {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(body::full(object.to_string())).expect("a request");
        let response = self.api.handle(self.user.clone(), request).await;
        let warnings = response.headers().get_all("warning").iter().map(|v| v.to_str().expect("text").to_owned());
        let warnings = warnings.map(|text| {
            let quoted = text.strip_prefix("299 - \"").and_then(|text| text.strip_suffix('"')).expect("a warning");
            quoted.replace("\\\"", "\"")
        });
        (response.status(), warnings.collect())
    }

    async fn post_warned(&self, path: &str, object: &Value) -> (StatusCode, Vec<String>) {
        self.warned(Method::POST, path, "application/json", object).await
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "x", "image": "localhost/a:1"}]}})
}

fn confined(name: &str) -> Value {
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"}});
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["securityContext"] = context;
    pod
}

fn privileged(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    pod
}

const PLAIN: &str = r#"allowPrivilegeEscalation != false (container "x" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "x" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "x" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "x" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#;

#[tokio::test]
async fn what_violates_the_enforced_level_is_refused() {
    let server = Server::with_namespace(&[("enforce", "restricted")]).await;
    check_error(
        &server.post(PODS, pod("p")).await,
        expect![[
            r#"403 "Forbidden": "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"x\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"x\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"x\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"x\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")""#
        ]],
    );
    assert_eq!(server.get(&format!("{PODS}/p")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.post_warned(PODS, &confined("p")).await, (StatusCode::CREATED, vec![]));
    // The default namespace asks for nothing.
    server.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let made = server.post("/api/v1/namespaces/default/pods", privileged("p")).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
}

#[tokio::test]
async fn nothing_an_editor_does_gets_around_it() {
    let server = Server::with_namespace(&[("enforce", "baseline"), ("enforce-version", "v1.34")]).await;
    let apply = "application/apply-patch+yaml";
    let mut whole = privileged("p");
    (whole["apiVersion"], whole["kind"]) = (json!("v1"), json!("Pod"));
    let refused = "pods \"p\" is forbidden: violates PodSecurity \"baseline:v1.34\": privileged (container \"x\" must not set securityContext.privileged=true)";
    let forms = [
        (Method::POST, PODS.to_owned(), "application/json"),
        (Method::POST, format!("{PODS}?dryRun=All"), "application/json"),
        (Method::PATCH, format!("{PODS}/p?fieldManager=m"), apply),
    ];
    for (method, path, content_type) in forms {
        let (code, status) = server.call(method, &path, content_type, whole.to_string()).await;
        assert_eq!((code, &status["message"]), (StatusCode::FORBIDDEN, &json!(refused)), "{path}");
    }
    assert_eq!(server.post(PODS, pod("p")).await.0, StatusCode::CREATED);
    // A container that is added later.
    let added = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "localhost/a:1",
        "securityContext": {"privileged": true}}]}});
    let one = format!("{PODS}/p");
    let path = format!("{one}/ephemeralcontainers");
    let strategic = "application/strategic-merge-patch+json";
    check_error(
        &server.call(Method::PATCH, &path, strategic, added.to_string()).await,
        expect![[
            r#"403 "Forbidden": "pods \"p\" is forbidden: violates PodSecurity \"baseline:v1.34\": privileged (container \"e\" must not set securityContext.privileged=true)""#
        ]],
    );
    let annotated =
        json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/x": "unconfined"}}});
    assert_eq!(server.merge(&one, annotated).await.0, StatusCode::UNPROCESSABLE_ENTITY, "it cannot change at all");
    let status = json!({"spec": {"hostNetwork": true}, "status": {"phase": "Running"}});
    let (code, written) = server.merge(&format!("{one}/status"), status).await;
    assert_eq!((code, &written["spec"]["hostNetwork"]), (StatusCode::OK, &Value::Null));
}

#[tokio::test]
async fn a_pod_that_was_there_goes_on_but_runs_nothing_else() {
    let server = Server::with_namespace(&[]).await;
    server.post(PODS, privileged("p")).await;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    assert_eq!(server.merge("/api/v1/namespaces/n", label).await.0, StatusCode::OK);
    let one = format!("{PODS}/p");
    assert_eq!(server.merge(&one, json!({"metadata": {"labels": {"a": "b"}}})).await.0, StatusCode::OK);
    assert_eq!(server.merge(&format!("{one}/status"), json!({"status": {"phase": "Running"}})).await.0, StatusCode::OK);
    let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "localhost/b:1"}]);
    let (code, status) = server.call(Method::PATCH, &one, "application/json-patch+json", image.to_string()).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{status}");
}

#[tokio::test]
async fn pods_and_templates_are_warned_of() {
    let server =
        Server::with_namespace(&[("warn", "restricted"), ("audit", "restricted"), ("enforce", "baseline")]).await;
    let warning = format!("would violate PodSecurity \"restricted:latest\": {PLAIN}");
    assert_eq!(server.post_warned(PODS, &pod("p")).await, (StatusCode::CREATED, vec![warning.clone()]));
    assert_eq!(server.post_warned(PODS, &confined("q")).await, (StatusCode::CREATED, vec![]));
    let template = |spec: &Value, policy: &str| {
        let mut spec = spec["spec"].clone();
        spec["restartPolicy"] = json!(policy);
        json!({"metadata": {"labels": {"a": "b"}}, "spec": spec})
    };
    let selector = json!({"matchLabels": {"a": "b"}});
    let apps = |spec: &Value| json!({"selector": selector, "template": template(spec, "Always"), "serviceName": "s"});
    let job = |spec: &Value| json!({"template": template(spec, "Never")});
    type Make<'a> = &'a dyn Fn(&Value) -> Value;
    let kinds: [(&str, Make<'_>); 8] = [
        ("/apis/apps/v1/namespaces/n/deployments", &|pod| json!({"spec": apps(pod)})),
        ("/apis/apps/v1/namespaces/n/replicasets", &|pod| json!({"spec": apps(pod)})),
        ("/apis/apps/v1/namespaces/n/statefulsets", &|pod| json!({"spec": apps(pod)})),
        ("/apis/apps/v1/namespaces/n/daemonsets", &|pod| json!({"spec": apps(pod)})),
        ("/apis/batch/v1/namespaces/n/jobs", &|pod| json!({"spec": job(pod)})),
        (
            "/apis/batch/v1/namespaces/n/cronjobs",
            &|pod| json!({"spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": job(pod)}}}),
        ),
        (
            "/api/v1/namespaces/n/replicationcontrollers",
            &|pod| json!({"spec": {"selector": {"a": "b"}, "template": template(pod, "Always")}}),
        ),
        ("/api/v1/namespaces/n/podtemplates", &|pod| json!({"template": template(pod, "Always")})),
    ];
    for (path, make) in kinds {
        // What is enforced on pods is only told of their templates.
        for (name, pod, expected) in [("plain", pod("p"), 1), ("confined", confined("p"), 0)] {
            let mut object = make(&pod);
            object["metadata"] = json!({"name": name});
            let (code, mut warnings) = server.post_warned(path, &object).await;
            warnings.retain(|text| text.contains("PodSecurity"));
            assert_eq!((code, warnings.len()), (StatusCode::CREATED, expected), "{path} {name} {warnings:?}");
            assert!(warnings.iter().all(|text| *text == warning), "{path} {warnings:?}");
        }
    }
    let scale = json!({"spec": {"replicas": 2}});
    let path = "/apis/apps/v1/namespaces/n/deployments/plain/scale";
    let merge = "application/merge-patch+json";
    assert_eq!(server.warned(Method::PATCH, path, merge, &scale).await, (StatusCode::OK, vec![]));
}

#[tokio::test]
async fn what_is_left_of_a_namespace_that_is_gone_can_go() {
    let server = Server::with_namespace(&[("warn", "restricted")]).await;
    let path = "/apis/apps/v1/namespaces/n/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("p")["spec"]});
    let held = json!({"metadata": {"name": "d", "finalizers": ["example.org/hold"]},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    assert_eq!(server.post(path, held).await.0, StatusCode::CREATED);
    server.delete("/api/v1/namespaces/n", json!({})).await;
    let (_, mut namespace) = server.get("/api/v1/namespaces/n").await;
    namespace["spec"]["finalizers"] = json!([]);
    server.put("/api/v1/namespaces/n/finalize", namespace).await;
    assert_eq!(server.get("/api/v1/namespaces/n").await.0, StatusCode::NOT_FOUND);
    let one = format!("{path}/d");
    assert_eq!(server.merge(&one, json!({"metadata": {"finalizers": null}})).await.0, StatusCode::OK);
    assert_eq!(server.delete(&one, json!({})).await.0, StatusCode::OK);
}

#[tokio::test]
async fn wrong_labels_are_refused() {
    let server = Server::with_namespace(&[]).await;
    let labelled = |labels: Value| json!({"metadata": {"name": "m", "labels": labels}});
    check_error(
        &server.post("/api/v1/namespaces", labelled(json!({"pod-security.kubernetes.io/enforce": "strict"}))).await,
        expect![[
            r#"422 "Invalid": "Namespace \"m\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted""#
        ]],
    );
    for path in ["/api/v1/namespaces/n", "/api/v1/namespaces/n/status"] {
        let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce-version": "1.29"}}});
        check_error(
            &server.merge(path, labels).await,
            expect![[
                r#"422 "Invalid": "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"1.29\": must be \"latest\" or \"v1.x\"""#
            ]],
        );
    }
}

#[tokio::test]
async fn a_namespace_that_becomes_stricter_names_its_pods() {
    let server = Server::with_namespace(&[]).await;
    for name in ["c", "a", "b"] {
        assert_eq!(server.post(PODS, pod(name)).await.0, StatusCode::CREATED);
    }
    server.post(PODS, privileged("r")).await;
    server.post(PODS, confined("fine")).await;
    let label = |name: &str, value: &str| json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{name}"): value}}});
    let namespace = "/api/v1/namespaces/n";
    let merge = "application/merge-patch+json";
    let warned = async |patch: Value| server.warned(Method::PATCH, namespace, merge, &patch).await.1;
    assert_eq!(warned(label("warn", "restricted")).await, Vec::<String>::new());
    assert_eq!(
        warned(label("enforce", "baseline")).await,
        [
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "r: privileged",
        ]
    );
    assert_eq!(
        warned(label("enforce", "restricted")).await,
        [
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"restricted:latest\"",
            "a (and 2 other pods): allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
            "r: privileged, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
        ]
    );
    assert_eq!(warned(label("enforce", "baseline")).await, Vec::<String>::new(), "less strict");
    assert_eq!(warned(label("enforce-version", "v1.30")).await.len(), 2);
    assert_eq!(warned(label("enforce", "privileged")).await, Vec::<String>::new());
}
