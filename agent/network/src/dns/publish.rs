//! The Service that people and programs look for: `kube-dns` in `kube-system`, at the address where DNS is answered.

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::PORT;
use crate::Config;

const NAME: &str = "kube-dns";
const NAMESPACE: &str = "kube-system";

/// Makes the Service and its endpoints, or brings them up to date after the settings changed.
pub(crate) async fn ensure(config: &Config, client: &kube::Client) -> Result<(), kube::Error> {
    let address = config.dns_address.to_string();
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true"});
    let port = |name: &str, protocol: &str| json!({"name": name, "port": PORT, "protocol": protocol});
    let ports = json!([port("dns", "UDP"), port("dns-tcp", "TCP")]);
    let metadata = json!({"name": NAME, "namespace": NAMESPACE, "labels": labels});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"clusterIP": address, "ports": ports}});
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    if services.get_opt(NAME).await?.is_none() {
        let service = serde_json::from_value(service).map_err(kube::Error::SerdeError)?;
        services.create(&PostParams::default(), &service).await?;
    }
    let subsets = json!([{"addresses": [{"ip": address}], "ports": ports}]);
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), NAMESPACE);
    if endpoints.get_opt(NAME).await?.is_some() {
        let patch = Patch::Merge(json!({"subsets": subsets}));
        return endpoints.patch(NAME, &PatchParams::default(), &patch).await.map(drop);
    }
    let object = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
    let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    endpoints.create(&PostParams::default(), &object).await.map(drop)
}
