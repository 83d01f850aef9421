#!/bin/bash
# Succeeds where a server in this container answers a request with 200: `nexa-healthy PORT PATH`.
# The image has no client for HTTP, and needs none for one line.
set -euo pipefail
port="${1:?which port}" path="${2:?which path}"
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$path" "$port" >&3
IFS= read -r -t 4 status <&3
[[ $status == HTTP/1.?' 200 '* ]]
