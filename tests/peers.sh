#!/bin/sh
# The peers that the tests speak to: installed with apt where that is allowed, otherwise named in one line.
set -eu
packages=""
command -v Orthanc >/dev/null 2>&1 || packages="$packages orthanc"
ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so* >/dev/null 2>&1 || packages="$packages orthanc-dicomweb"
command -v dcmqrscp >/dev/null 2>&1 || packages="$packages dcmtk"
command -v nginx >/dev/null 2>&1 || packages="$packages nginx-light"
command -v pgbouncer >/dev/null 2>&1 || packages="$packages pgbouncer"
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || packages="$packages libfaketime"
command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
[ -z "$packages" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  apt-get update -qq >/dev/null 2>&1 || true
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 && exit 0
fi
echo "tests need these peers: apt-get install --no-install-recommends$packages" >&2
[ "${CI:-}" = true ] && exit 1
exit 0
