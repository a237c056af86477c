#!/bin/sh
# The database tests want a real server binary, and the program that copies its databases. They are
# installed where that is allowed; where it is not, one line says how, and the tests on MariaDB are
# skipped (with CI=true they fail instead).
set -u
there() {
    for name in "$@"; do
        if command -v "$name" >/dev/null 2>&1 || [ -x "/usr/sbin/$name" ]; then return 0; fi
    done
    return 1
}
missing=""
there mariadbd mysqld || missing="mariadb-server-core"
there mariadb-dump mysqldump || missing="$missing mariadb-client"
missing="${missing# }"
if [ -z "$missing" ]; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "MariaDB is not complete, its tests are skipped: install your system's MariaDB server and client to mend that"
    exit 0
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo -n"; else
        echo "MariaDB is not complete, its tests are skipped: 'sudo apt-get install $missing' mends that"
        exit 0
    fi
fi
echo "installing $missing for the database tests"
$as_root apt-get update -qq >/dev/null
# shellcheck disable=SC2086 # two names, if two are missing
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    echo "it could not be installed: run 'apt-get install $missing' yourself"
exit 0
