#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Entry point of the container, which KubeVirt starts with "-k SOCKET". Replaces itself with the
# helper, so that the helper gets the signals.
set -eu

# KubeVirt mounts the socket of the node's multipathd in the helper's directory, but clients expect
# it at another path. A socket that exists there, from an earlier start or a mount, stays.
multipathd=${MULTIPATH_SOCKET_NAME:-/run/multipathd.socket}
case $multipathd in
    @*) ;; # an abstract name, not a file
    *)
        if [ ! -S "$multipathd" ]; then
            mkdir -p "$(dirname "$multipathd")"
            ln -sfn /var/run/kubevirt/daemons/pr/multipathd.socket "$multipathd"
        fi
        ;;
esac

exec /usr/bin/qemu-pr-helper "$@"
