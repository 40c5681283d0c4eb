//! `skiff kubeconfig`: the administrator's access.

use anyhow::Context;

use crate::paths::Paths;

pub fn run(paths: &Paths) -> anyhow::Result<()> {
    let path = paths.kubeconfig();
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}: is the box set up (`skiff up`), and are you root?", path.display())
    })?;
    print!("{text}");
    Ok(())
}
