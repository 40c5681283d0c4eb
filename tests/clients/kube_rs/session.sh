# Runs what was built of this folder.
exec /opt/kube_rs/session
