//! Joins the runtime's supervisor with systemd: finds out whether there is a unit that runs containerd for this box.

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use skiff_cri::{Unit, UnitError, UnitState};
use skiff_host::systemd::{self, Active, Service, Systemd};

use crate::supervision::Plan;

const UNIT: &str = "skiff-containerd.service";
/// What the unit starts.
const BINARY: &str = "/usr/bin/containerd";

/// The unit for this box's containerd. `None`: the agent has to run it. The unit knows the paths of the box with the
/// default data directory only.
pub async fn find(plan: &Plan) -> Option<Arc<dyn Unit>> {
    if !plan.paths.is_default() || plan.settings.runtime.containerd != Path::new(BINARY) || !systemd::is_booted() {
        return None;
    }
    let found = async {
        let systemd = Systemd::connect().await?;
        let service = systemd.service(UNIT).await?;
        Ok::<_, systemd::SystemdError>(service.is_loaded.then_some(systemd))
    };
    match found.await {
        Ok(systemd) => Some(Arc::new(ContainerdUnit(systemd?))),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the agent runs containerd itself");
            None
        }
    }
}

#[derive(Debug)]
struct ContainerdUnit(Systemd);

impl Unit for ContainerdUnit {
    fn state(&self) -> BoxFuture<'_, Result<UnitState, UnitError>> {
        Box::pin(async { Ok(state(&self.0.service(UNIT).await?)) })
    }

    fn start(&self) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(async { Ok(self.0.start(UNIT).await?) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(async { Ok(self.0.stop(UNIT).await?) })
    }
}

fn state(service: &Service) -> UnitState {
    match service.active {
        Active::Active if service.main_process == 0 => UnitState::Changing,
        Active::Active => UnitState::Active { process: service.main_process },
        Active::Changing => UnitState::Changing,
        Active::Inactive => UnitState::Inactive,
        Active::Failed => UnitState::Failed,
    }
}
