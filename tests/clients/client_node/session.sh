# Modules are looked for beside the program.
set -eu
ln -s /opt/client_node/node_modules .
cp /clients/client_node/informer.mjs .
exec node informer.mjs
