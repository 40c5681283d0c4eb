# Runs the playbook, which says what it wants and checks what it gets.
set -eu
export PATH="/opt/ansible/bin:$PATH" ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false
ansible-playbook /clients/ansible/playbook.yml
collection=$(ansible-galaxy collection list kubernetes.core | grep '^kubernetes.core')
echo "$(echo $collection): present, patched, apply, scale, info, exec, copy, log, absent"
