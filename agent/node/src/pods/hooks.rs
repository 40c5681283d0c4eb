//! Runs lifecycle hooks. https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, LifecycleHandler};

use crate::context::Context;
use crate::probes::check;

/// Hooks have no time limit of their own; one that hangs must not hold its pod for ever.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);

pub async fn run(
    context: &Context,
    id: &str,
    spec: &Spec,
    hook: &LifecycleHandler,
    ip: Option<IpAddr>,
) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    let answer = if let Some(action) = &hook.exec {
        check::exec(context, id, action, HOOK_TIMEOUT).await
    } else if let (Some(action), Some(ip)) = (&hook.http_get, ip) {
        let asked = tokio::time::timeout(HOOK_TIMEOUT, check::http_get(action, spec, ip)).await;
        asked.map_err(|_| "the hook took too long".to_owned())?
    } else {
        return Ok(());
    };
    if answer.success { Ok(()) } else { Err(answer.message) }
}
