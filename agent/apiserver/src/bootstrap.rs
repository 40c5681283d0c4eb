//! The objects that exist on every cluster: namespaces, default roles and bindings, priority classes and the
//! `kubernetes` Service. Made when missing, at each start; what an administrator added stays, and so does every change of a
//! role that is marked as not to be brought up to date.

use std::net::IpAddr;

use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_store::Store;

use crate::status::ApiError;
use crate::strategy::Part;
use crate::write::{Author, Operation, Write};
use crate::{Api, fairness};

mod endpoints;
mod roles;

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

impl<S: Store> Api<S> {
    /// Makes what is missing. `address` and `port` are where this API is served.
    pub(crate) async fn bootstrap(&self, address: IpAddr, port: u16) -> Result<(), ApiError> {
        self.repair_reservations().await?;
        for name in NAMESPACES {
            self.ensure("v1", "Namespace", None, json!({"metadata": {"name": name}})).await?;
        }
        for (name, value, description) in [
            ("system-node-critical", 2_000_001_000, "system critical pods that must not be moved from their node"),
            ("system-cluster-critical", 2_000_000_000, "system critical pods that may be moved to another node"),
        ] {
            let class = json!({"metadata": {"name": name}, "value": value,
                "description": format!("Used for {description}.")});
            self.ensure("scheduling.k8s.io/v1", "PriorityClass", None, class).await?;
        }
        for (kind, object) in fairness::defaults() {
            self.ensure("flowcontrol.apiserver.k8s.io/v1", kind, None, object).await?;
        }
        self.bootstrap_roles().await?;
        self.bootstrap_service(address, port).await
    }

    /// All at once: the store makes one write of them.
    async fn bootstrap_roles(&self) -> Result<(), ApiError> {
        let made = roles::defaults().into_iter().map(|default| self.ensure_role(default));
        futures::future::try_join_all(made).await.map(drop)
    }

    /// Makes it, or adds what it lacks of what this version needs.
    async fn ensure_role(&self, default: roles::Default) -> Result<(), ApiError> {
        let roles::Default { kind, namespace, object } = default;
        let kind = kinds::by_kind("rbac.authorization.k8s.io/v1", kind).expect("a built-in kind");
        let name = skiff_object::meta::name(&object).to_owned();
        match self.read(kind, namespace, &name).await? {
            None => return self.make(kind, namespace, object).await,
            Some(old) if roles::brought_up(&old, &object).is_none() => return Ok(()),
            Some(_) => {}
        }
        let change = |old: &Value| Ok(roles::brought_up(old, &object).unwrap_or_else(|| old.clone()));
        let operation = Operation::Update { name: &name, part: Part::Main, change: &change };
        self.write(Write { author: &Author::own(), kind, namespace, operation }).await.map(drop)
    }

    async fn bootstrap_service(&self, address: IpAddr, port: u16) -> Result<(), ApiError> {
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"type": "ClusterIP", "clusterIP": self.service_network().api_address().to_string(),
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]},
        });
        self.ensure("v1", "Service", Some("default"), service).await?;
        self.publish_address(address, port).await
    }

    async fn ensure(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        object: Value,
    ) -> Result<(), ApiError> {
        let kind = kinds::by_kind(api_version, kind).expect("a built-in kind");
        let name = skiff_object::meta::name(&object).to_owned();
        if self.read(kind, namespace, &name).await?.is_some() {
            return Ok(());
        }
        self.make(kind, namespace, object).await
    }

    /// A ConfigMap with at least this data.
    pub(crate) async fn ensure_data(&self, namespace: &str, map: Value) -> Result<(), ApiError> {
        let maps = kinds::by_kind("v1", "ConfigMap").expect("a built-in kind");
        let name = skiff_object::meta::name(&map).to_owned();
        let change = |old: &Value| {
            let mut new = old.clone();
            for (key, value) in map["data"].as_object().into_iter().flatten() {
                new["data"][key] = value.clone();
            }
            Ok(new)
        };
        match self.read(maps, Some(namespace), &name).await? {
            None => return self.make(maps, Some(namespace), map).await,
            Some(old) if change(&old)? == old => return Ok(()),
            Some(_) => {}
        }
        let operation = Operation::Update { name: &name, part: Part::Main, change: &change };
        let write = Write { author: &Author::own(), kind: maps, namespace: Some(namespace), operation };
        self.write(write).await.map(drop)
    }

    async fn make(&self, kind: &Kind, namespace: Option<&str>, object: Value) -> Result<(), ApiError> {
        let operation = Operation::Create(object);
        match self.write(Write { author: &Author::own(), kind, namespace, operation }).await {
            // Another API server on the same store was faster.
            Err(error) if error.reason == "AlreadyExists" => Ok(()),
            result => result.map(drop),
        }
    }

    /// Like `ensure` in the default namespace, and brings one field up to date: addresses come and go.
    async fn ensure_current(&self, api_version: &str, kind: &str, object: Value, field: &str) -> Result<(), ApiError> {
        let namespace = Some("default");
        let current_kind = kinds::by_kind(api_version, kind).expect("a built-in kind");
        let name = skiff_object::meta::name(&object).to_owned();
        if self.read(current_kind, namespace, &name).await?.is_none() {
            return self.make(current_kind, namespace, object).await;
        }
        let change = |old: &Value| {
            let mut current = old.clone();
            for field in [field, "ports"] {
                if let Some(value) = object.get(field) {
                    current[field] = value.clone();
                }
            }
            Ok(current)
        };
        let operation = Operation::Update { name: &name, part: Part::Main, change: &change };
        self.write(Write { author: &Author::own(), kind: current_kind, namespace, operation }).await.map(drop)
    }
}
