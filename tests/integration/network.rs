//! Service addresses and names beyond the plain case.

use anyhow::ensure;
use skiff_tests::wait;

use crate::{Place, SOON, image};

pub fn addresses_and_names(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: echo}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: echo}}}}
  template:
    metadata: {{labels: {{app: echo}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: a
        image: {}
        command: [sh, -c, 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec: {{type: LoadBalancer, selector: {{app: echo}}, ports: [{{name: http, port: 8088, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: sticky}}
spec: {{sessionAffinity: ClientIP, selector: {{app: echo}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: headless}}
spec: {{clusterIP: None, selector: {{app: echo}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: nobody}}
spec: {{selector: {{app: nobody}}, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: outside}}
spec: {{type: ExternalName, externalName: sticky.{}.svc.cluster.local}}
",
        image("busybox:1"),
        place.namespace
    ))?;
    place.kubectl(&["rollout", "status", "deployment/echo", &wait::kubectl_timeout(SOON)])?;
    let address = |service: &str| place.kubectl(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"]);
    let get = |url: &str| skiff_tests::command::run("curl", ["-s", "-m", "5", url]);

    let sticky = address("sticky")?;
    let first = wait::until("the sticky Service answers", SOON, || get(&format!("http://{sticky}/")))?;
    for _ in 0..10 {
        ensure!(get(&format!("http://{sticky}/"))? == first, "the client stays with its endpoint");
    }
    let balanced = address("echo")?;
    let mut seen = std::collections::BTreeSet::new();
    wait::until("both pods are reached", SOON, || {
        seen.insert(get(&format!("http://{balanced}:8088/"))?);
        ensure!(seen.len() == 2, "{seen:?}");
        Ok(())
    })?;
    let ip = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    let outside = wait::until("the balancer has an address", SOON, || {
        let ip = place.kubectl(&["get", "service", "echo", "-o", ip])?;
        ensure!(!ip.is_empty());
        Ok(ip)
    })?;
    ensure!(get(&format!("http://{outside}:8088/"))?.contains("echo-"));
    let refused = get(&format!("http://{}/", address("nobody")?));
    ensure!(refused.is_err_and(|e| format!("{e:?}").contains("failed")), "a Service without pods refuses at once");

    let pod = place.kubectl(&["get", "pods", "-l", "app=echo", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let inside = |script: &str| place.kubectl(&["exec", &pod, "--", "sh", "-c", script]);
    // Also when the Service leads back to the pod that asks. A resolver asks again 5 s after a lost packet.
    for _ in 0..6 {
        ensure!(inside("curl -sf -m 20 http://echo:8088/")?.contains("echo-"));
    }
    let names = inside(&format!("nslookup headless.{}.svc.cluster.local", place.namespace))?;
    ensure!(names.matches(&place.shared.running.pod_prefix()).count() >= 2, "{names}");
    ensure!(inside("curl -sf -m 5 http://outside/")?.contains("echo-"), "an alias inside the cluster is followed");
    let dns = place.shared.running.kubectl(&[
        "get",
        "service",
        "-n",
        "kube-system",
        "kube-dns",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ])?;
    ensure!(dns == place.shared.running.dns_address() && inside("cat /etc/resolv.conf")?.contains(&dns), "{dns}");
    let absent = inside("nslookup absent.default.svc.cluster.local 2>&1 || true")?;
    ensure!(absent.contains("NXDOMAIN") || absent.contains("can't find"), "{absent}");
    Ok(())
}
