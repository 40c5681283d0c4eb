# Enters a system whose files are in a directory: ROOT SCRIPTS WORK PROGRAM…, in mount and process namespaces of its own.
root=$0 scripts=$1 work=$2
shift 2
mount --make-rprivate /
mkdir -p "$root/clients" "$root/work" "$root/etc/ssl/certs"
mount --bind -o ro "$scripts" "$root/clients"
mount --bind "$work" "$root/work"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind /etc/ssl/certs "$root/etc/ssl/certs"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
cd "$root/work"
exec chroot "$root" /usr/bin/env --chdir=/work "$@"
