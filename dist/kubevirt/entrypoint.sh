#!/bin/sh
# The container's process: KubeVirt starts it with "-k SOCKET". It becomes the helper, so that signals reach that.
set -eu

# KubeVirt puts the socket of the node's multipathd into the helper's folder; clients of multipathd look elsewhere.
# What is there already, from an earlier start or mounted by somebody, is left alone.
multipathd=${MULTIPATH_SOCKET_NAME:-/run/multipathd.socket}
case $multipathd in
    @*) ;; # an abstract name, which is no file
    *)
        if [ ! -S "$multipathd" ]; then
            mkdir -p "$(dirname "$multipathd")"
            ln -sfn /var/run/kubevirt/daemons/pr/multipathd.socket "$multipathd"
        fi
        ;;
esac

exec /usr/bin/qemu-pr-helper "$@"
