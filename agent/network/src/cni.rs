//! The configuration that the container runtime's CNI plugins follow. The agent makes the bridge, the plugins connect
//! pods to it; addresses outside and service addresses are the nftables table's business.

use serde_json::json;

use crate::{Config, NetworkError};

const FILE: &str = "10-skiff.conflist";

pub(crate) fn write(config: &Config) -> Result<(), NetworkError> {
    let path = config.cni_conf_dir.join(FILE);
    let failed = |source| NetworkError::Cni { path: path.clone(), source };
    std::fs::create_dir_all(&config.cni_conf_dir).map_err(failed)?;
    std::fs::create_dir_all(&config.cni_state_dir).map_err(failed)?;
    let text = render(config);
    if std::fs::read_to_string(&path).is_ok_and(|current| current == text) {
        return Ok(());
    }
    std::fs::write(&path, text).map_err(failed)
}

fn render(config: &Config) -> String {
    let list = json!({
        "cniVersion": "0.4.0",
        "name": config.bridge,
        "plugins": [{
            "type": "bridge",
            "bridge": config.bridge,
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "mtu": config.mtu,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": config.pod_cidr(), "gateway": config.gateway().to_string()}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": config.cni_state_dir,
            },
        }],
    });
    format!("{list:#}\n")
}
