#!/usr/bin/env bash
# Fetches the programs that tests send with: rsyslog, syslog-ng's loggen, HAProxy, stunnel and gnutls-cli with what they are linked to,
# sslscan and nmap, which look at what a port speaks, promtool, which looks at metrics and rules, and shippers from PyPI and
# npm. Nothing is installed, and root is not needed: packages of Debian or Ubuntu are downloaded and unpacked into a folder,
# those of Python and npm go into folders there.
#
# Usage: scripts/senders.sh [folder]
#
# The folder is $WEIR_SENDERS, by default `senders` where cargo builds; tests look there, and in the PATH. Exit status:
# 0 they are there, 2 something is missing.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

readonly PACKAGES=(
    rsyslog rsyslog-relp librelp0 libestr0 libfastjson4 liblognorm5
    syslog-ng-core libivykis0 libnet1 libpcre3 libwrap0 libglib2.0-0 libjson-c5
    haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
    rsyslog-gnutls rsyslog-openssl stunnel4 gnutls-bin libgnutls-dane0 libunbound8 libevent-2.1-7
    prometheus
    sslscan nmap nmap-common lua-lpeg libblas3 liblinear4 libpcap0.8 libssh2-1 libdbus-1-3
)
readonly PYTHON=(pylogbeat==2.1.0 python-logstash-async==4.1.0 relppy==0.4 timbersnake==0.1.0)
readonly NPM=(lumberjack-client@1.0.3 @fluent-org/logger@1.0.10)
folder=${1:-${WEIR_SENDERS:-${CARGO_TARGET_DIR:-target}/senders}}
mkdir -p "$folder/packages"
folder=$(cd "$folder" && pwd)

is_there() { [ -x "$folder/usr/sbin/rsyslogd" ] && [ -x "$folder/usr/sbin/haproxy" ] && [ -x "$folder/usr/bin/loggen" ] &&
    [ -x "$folder/usr/bin/stunnel4" ] && [ -x "$folder/usr/bin/sslscan" ] && [ -x "$folder/usr/bin/nmap" ] &&
    [ -x "$folder/usr/bin/promtool" ]; }

missing=0
"$folder/python/bin/python" -c 'import logstash_async, pylogbeat, relppy, timbersnake' 2>/dev/null ||
    { python3 -m venv "$folder/python" && "$folder/python/bin/pip" install --quiet "${PYTHON[@]}"; } ||
    { echo "senders.sh: no ${PYTHON[*]}: this needs python3 with venv" >&2; missing=2; }
{ [ -d "$folder/npm/node_modules/lumberjack-client" ] && [ -d "$folder/npm/node_modules/@fluent-org/logger" ]; } ||
    npm install --silent --prefix "$folder/npm" "${NPM[@]}" ||
    { echo "senders.sh: no ${NPM[*]}: this needs npm" >&2; missing=2; }
is_there && exit $missing

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "senders.sh: apt-get and dpkg-deb are missing: this needs packages of Debian or Ubuntu" >&2
    exit 2
fi
for package in "${PACKAGES[@]}"; do
    # Libraries are called otherwise elsewhere, and what is installed already need not be unpacked.
    (cd "$folder/packages" && apt-get download -qq "$package" 2>/dev/null) || echo "senders.sh: no package $package" >&2
done
for package in "$folder"/packages/*.deb; do
    dpkg-deb -x "$package" "$folder"
done
rm -r "$folder/packages"
is_there || {
    echo "senders.sh: not all programs are in $folder now" >&2
    exit 2
}
exit $missing
