#!/bin/sh
# The peers that the tests speak to. PEERS=install has apt install what is missing, PEERS=skip runs without (their tests
# say that they were skipped); without either a person at a terminal is asked, and everybody else told.
set -eu
packages=""
command -v Orthanc >/dev/null 2>&1 || packages="$packages orthanc"
ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so* >/dev/null 2>&1 || packages="$packages orthanc-dicomweb"
command -v dcmqrscp >/dev/null 2>&1 || packages="$packages dcmtk"
command -v nginx >/dev/null 2>&1 || packages="$packages nginx-light"
command -v pgbouncer >/dev/null 2>&1 || packages="$packages pgbouncer"
command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
[ -z "$packages" ] && exit 0
install="apt-get install --no-install-recommends$packages"
echo "tests need these peers: $install" >&2
wanted=${PEERS:-}
if [ -z "$wanted" ] && [ "$(id -u)" = 0 ] && [ -t 0 ]; then
  printf "install them now? [y/N] " >&2
  read -r answer
  case $answer in y* | Y*) wanted=install ;; esac
fi
if [ "$wanted" = install ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "PEERS=install needs root and apt" >&2
    exit 1
  fi
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
elif [ "$wanted" != skip ]; then
  echo "make test PEERS=install installs them, PEERS=skip runs without" >&2
  [ "${CI:-}" = true ] && exit 1
fi
exit 0
