//! What an autoscaler's metrics say now: asked of `metrics.k8s.io`, which the box serves, and of `custom.metrics.k8s.io` and
//! `external.metrics.k8s.io` where somebody provides them. Takes no decision.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use serde_json::Value;
use skiff_object::meta;
use skiff_object::quantity::Quantity;
use skiff_reconcile::Chain;

use crate::scales::{Scales, Target};
use crate::{anything, objects};

/// Of what does not say over which time it was measured: upstream's number.
const WINDOW: Duration = Duration::from_secs(60);

/// What one pod uses, in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub value: i64,
    pub at: Timestamp,
    pub window: Duration,
}

pub type Samples = BTreeMap<String, Sample>;

/// What one metric says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Of each pod, by its name.
    Pods(Samples),
    /// Of an object, or of all that is outside together; in thousandths.
    Whole(i64),
}

/// Where metrics are asked for.
pub struct Source<'a> {
    pub client: &'a Client,
    pub scales: &'a mut Scales,
    pub namespace: &'a str,
    /// Of the pods, as text.
    pub selector: &'a str,
}

impl Source<'_> {
    /// Why there is none is said in upstream's words.
    pub async fn read(&mut self, metric: &MetricSpec) -> Result<Reading, String> {
        if let Some(resource) = &metric.resource {
            return self.resource(&resource.name, None).await;
        }
        if let Some(resource) = &metric.container_resource {
            return self.resource(&resource.name, Some(&resource.container)).await;
        }
        if let Some(pods) = &metric.pods {
            return self.pods(&pods.metric).await;
        }
        if let Some(object) = &metric.object {
            return self.object(&object.metric, &object.described_object).await;
        }
        match &metric.external {
            Some(external) => self.external(&external.metric).await,
            None => Err(format!("unknown metric source type {:?}", metric.type_)),
        }
    }

    async fn resource(&self, resource: &str, container: Option<&str>) -> Result<Reading, String> {
        let of_resource = |why: String| format!("unable to get metrics for resource {resource}: {why}");
        let (namespace, selector) = (self.namespace, anything::escape(self.selector));
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
        let items = self.items(&path, "resource").await.map_err(of_resource)?;
        let samples: Result<Vec<_>, String> = items
            .iter()
            .map(|item| Ok((meta::name(item).to_owned(), pod_sample(item, resource, container)?)))
            .collect();
        let samples = samples.map_err(|why| of_resource(format!("failed to get container metrics: {why}")))?;
        Ok(Reading::Pods(samples.into_iter().filter_map(|(name, sample)| Some((name, sample?))).collect()))
    }

    async fn pods(&self, metric: &MetricIdentifier) -> Result<Reading, String> {
        let of_metric = |why: String| format!("unable to get metric {}: {why}", metric.name);
        let path = format!("pods/*/{}", anything::escape(&metric.name));
        let items = self.custom(&path, metric, Some(self.selector)).await.map_err(of_metric)?;
        let sample = |item: &Value| {
            let name = meta::text_at(item, &["describedObject", "name"]).to_owned();
            Some((name, Sample { value: milli(item.get("value"))?, at: time(item), window: window(item) }))
        };
        Ok(Reading::Pods(items.iter().filter_map(sample).collect()))
    }

    /// What an autoscaler says of a namespace is said of its own.
    async fn object(
        &mut self,
        metric: &MetricIdentifier,
        object: &CrossVersionObjectReference,
    ) -> Result<Reading, String> {
        let (kind, namespace, name) = (object.kind.clone(), self.namespace, &object.name);
        let of_metric =
            |why: String| format!("unable to get metric {}: {why} on {kind} {namespace}/{name}", metric.name);
        let api_version = object.api_version.as_deref().unwrap_or_default();
        let named = anything::escape(&metric.name);
        let path = if kind == "Namespace" && !api_version.contains('/') {
            format!("metrics/{named}")
        } else {
            let target = Target { namespace, api_version, kind: &object.kind, name };
            let kind = self.scales.kind(target).await.map_err(|error| of_metric(error.to_string()))?;
            format!("{}/{}/{named}", kind.group_resource(), anything::escape(name))
        };
        let items = self.custom(&path, metric, None).await.map_err(&of_metric)?;
        match items.as_slice() {
            [item] => {
                milli(item.get("value")).map(Reading::Whole).ok_or_else(|| of_metric("it has no value".to_owned()))
            }
            several => Err(of_metric(format!(
                "unable to fetch metrics from custom metrics API: the custom metrics API server returned {} results when \
                 we asked for exactly one",
                several.len()
            ))),
        }
    }

    async fn external(&self, metric: &MetricIdentifier) -> Result<Reading, String> {
        let (namespace, selector) = (self.namespace, text(metric.selector.as_ref()));
        let of_metric =
            |why: String| format!("unable to get external metric {namespace}/{}/{selector}: {why}", metric.name);
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}?labelSelector={}",
            anything::escape(&metric.name),
            anything::escape(&selector)
        );
        let items = self.items(&path, "external").await.map_err(of_metric)?;
        let values = items.iter().filter_map(|item| milli(item.get("value")));
        Ok(Reading::Whole(values.fold(0, i64::saturating_add)))
    }

    async fn custom(&self, path: &str, metric: &MetricIdentifier, pods: Option<&str>) -> Result<Vec<Value>, String> {
        let group = anything::whole(self.client, "/apis/custom.metrics.k8s.io").await;
        let group = group.map_err(|error| unable("custom", &Chain(&error).to_string()))?;
        let Some(group) = group else {
            return Err(unable("custom", "no custom metrics API (custom.metrics.k8s.io) registered"));
        };
        let version = meta::text_at(&group, &["preferredVersion", "version"]);
        let mut query = vec![("metricLabelSelector", text(metric.selector.as_ref()))];
        query.extend(pods.map(|selector| ("labelSelector", selector.to_owned())));
        let query: Vec<String> = query
            .into_iter()
            .filter(|(_, selector)| !selector.is_empty())
            .map(|(name, selector)| format!("{name}={}", anything::escape(&selector)))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let namespace = self.namespace;
        let path = format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/{path}{query}");
        self.items(&path, "custom").await
    }

    async fn items(&self, path: &str, api: &str) -> Result<Vec<Value>, String> {
        let list = match anything::whole(self.client, path).await {
            Ok(Some(list)) => list,
            Ok(None) => return Err(unable(api, "the server could not find the requested resource")),
            Err(error) => return Err(unable(api, &Chain(&error).to_string())),
        };
        match meta::items(list.get("items")) {
            [] => Err(format!("no metrics returned from {api} metrics API")),
            items => Ok(items.to_vec()),
        }
    }
}

fn unable(api: &str, why: &str) -> String {
    format!("unable to fetch metrics from {api} metrics API: {why}")
}

/// Without a selector, all.
fn text(selector: Option<&LabelSelector>) -> String {
    selector.map(|selector| objects::selector(selector).to_string()).unwrap_or_default()
}

fn milli(value: Option<&Value>) -> Option<i64> {
    Quantity::parse(value?.as_str()?).ok().map(|quantity| quantity.milli_value())
}

fn time(item: &Value) -> Timestamp {
    meta::text_at(item, &["timestamp"]).parse().unwrap_or_default()
}

/// As the two versions and the resource metrics name it.
fn window(item: &Value) -> Duration {
    let seconds = ["windowSeconds", "window"].iter().find_map(|name| item.get(name)?.as_u64()).map(Duration::from_secs);
    let text = || meta::text_at(item, &["window"]).parse::<SignedDuration>().ok()?.try_into().ok();
    seconds.or_else(text).unwrap_or(WINDOW)
}

/// What the containers of a pod use together, or one of them. `None`: one does not say.
fn pod_sample(item: &Value, resource: &str, container: Option<&str>) -> Result<Option<Sample>, String> {
    let is_meant = |found: &&Value| container.is_none_or(|name| found["name"] == name);
    let found: Vec<&Value> = meta::items(item.get("containers")).iter().filter(is_meant).collect();
    if let (Some(container), true) = (container, found.is_empty()) {
        let (namespace, name) = (meta::namespace(item).unwrap_or_default(), meta::name(item));
        return Err(format!("container {container} not present in metrics for pod {namespace}/{name}"));
    }
    let mut uses = found.iter().map(|container| milli(meta::at(container, &["usage", resource])));
    let sum = uses.try_fold(0_i64, |sum, used| Some(sum.saturating_add(used?)));
    let value = sum.filter(|_| !found.is_empty());
    Ok(value.map(|value| Sample { value, at: time(item), window: window(item) }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_pods_use_is_read() {
        let item = json!({"metadata": {"name": "p", "namespace": "n"}, "timestamp": "2026-01-01T00:00:00Z",
            "window": "10.5s", "containers": [{"name": "a", "usage": {"cpu": "1500001n", "memory": "2Ki"}},
            {"name": "b", "usage": {"cpu": "1"}}]});
        let value = |resource: &str, container: Option<&str>| {
            pod_sample(&item, resource, container).map(|sample| sample.map(|sample| sample.value))
        };
        assert_eq!(value("cpu", None), Ok(Some(1002)));
        assert_eq!(value("memory", None), Ok(None), "one does not say");
        assert_eq!(value("memory", Some("a")), Ok(Some(2_048_000)));
        let missing = "container x not present in metrics for pod n/p";
        assert_eq!(value("cpu", Some("x")), Err(missing.to_owned()));
        assert_eq!(pod_sample(&json!({}), "cpu", None), Ok(None));
        let windows = [json!({"windowSeconds": 5}), json!({"window": 7}), json!({"window": "1m30s"}), item, json!({})];
        let windows: Vec<_> = windows.iter().map(|item| window(item).as_secs_f64()).collect();
        assert_eq!(windows, [5.0, 7.0, 90.0, 10.5, 60.0]);
    }

    /// What a source asks for, and what it makes of the answers.
    async fn check(metric: Value, answers: &'static [(&'static str, &'static str)], expected: expect_test::Expect) {
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = std::sync::Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let asked = request.uri().to_string();
            let found = answers.iter().find(|(path, _)| asked.starts_with(path)).map(|(_, answer)| *answer);
            let none = r#"{"kind":"Status","status":"Failure","code":404,"reason":"NotFound","message":"none"}"#;
            let (code, body) = found.map_or((404, none), |answer| (200, answer));
            noted.lock().expect("no panic").push(asked);
            let body = kube::client::Body::from(body.as_bytes().to_vec());
            let response = http::Response::builder().status(code).body(body).expect("a response");
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let client = Client::new(service, "default");
        let mut scales = Scales::new(client.clone());
        let mut source = Source { client: &client, scales: &mut scales, namespace: "n", selector: "app=web" };
        let metric: MetricSpec = serde_json::from_value(metric).expect("a metric");
        let read = match source.read(&metric).await {
            Ok(Reading::Whole(value)) => value.to_string(),
            Ok(Reading::Pods(samples)) => {
                let samples = samples.into_iter().map(|(name, sample)| format!("{name}={}", sample.value));
                samples.collect::<Vec<_>>().join(" ")
            }
            Err(why) => why,
        };
        let asked = asked.lock().expect("no panic").join("\n");
        expected.assert_eq(&format!("{asked}\n{read}"));
    }

    const CUSTOM: (&str, &str) = (
        "/apis/custom.metrics.k8s.io/v1beta2/",
        r#"{"items": [{"describedObject": {"name": "p"}, "value": "1500m"}]}"#,
    );
    const GROUP: (&str, &str) =
        ("/apis/custom.metrics.k8s.io", r#"{"kind": "APIGroup", "preferredVersion": {"version": "v1beta2"}}"#);

    const EXTERNAL: (&str, &str) =
        ("/apis/external.metrics.k8s.io/", r#"{"items": [{"value": "2"}, {"value": "500m"}, {"value": "?"}]}"#);

    #[tokio::test]
    async fn each_kind_of_metric_is_asked_where_it_is() {
        let metric = json!({"name": "q", "selector": {"matchLabels": {"a": "b"}}});
        let target = json!({"type": "AverageValue", "averageValue": "1"});
        let pods = json!({"type": "Pods", "pods": {"metric": metric, "target": target}});
        let expected = expect_test::expect![[r#"
            /apis/custom.metrics.k8s.io
            /apis/custom.metrics.k8s.io/v1beta2/namespaces/n/pods/*/q?metricLabelSelector=a%3Db&labelSelector=app%3Dweb
            p=1500"#]];
        check(pods.clone(), &[CUSTOM, GROUP], expected).await;
        let expected = expect_test::expect![[r#"
            /apis/custom.metrics.k8s.io
            unable to get metric q: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"#]];
        check(pods, &[], expected).await;
        let object = json!({"kind": "Namespace", "name": "other"});
        let object = json!({"metric": {"name": "q"}, "target": target, "describedObject": object});
        let expected = expect_test::expect![[r#"
            /apis/custom.metrics.k8s.io
            /apis/custom.metrics.k8s.io/v1beta2/namespaces/n/metrics/q
            1500"#]];
        check(json!({"type": "Object", "object": object}), &[CUSTOM, GROUP], expected).await;
        let external = json!({"type": "External", "external": {"metric": metric, "target": target}});
        let expected = expect_test::expect![[r#"
            /apis/external.metrics.k8s.io/v1beta1/namespaces/n/q?labelSelector=a%3Db
            2500"#]];
        check(external.clone(), &[EXTERNAL], expected).await;
        let expected = expect_test::expect![[r#"
            /apis/external.metrics.k8s.io/v1beta1/namespaces/n/q?labelSelector=a%3Db
            unable to get external metric n/q/a=b: no metrics returned from external metrics API"#]];
        check(external, &[("/apis/external.metrics.k8s.io/", r#"{"items": []}"#)], expected).await;
        let resource = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        let expected = expect_test::expect![[r#"
            /apis/metrics.k8s.io/v1beta1/namespaces/n/pods?labelSelector=app%3Dweb
            unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource"#]];
        check(resource, &[], expected).await;
    }
}
