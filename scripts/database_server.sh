#!/bin/sh
# The database tests want a real server binary. It is installed where that is allowed; where it is
# not, one line says how, and the tests on MariaDB are skipped (with CI=true they fail instead).
set -u
for name in mariadbd mysqld; do
    if command -v "$name" >/dev/null 2>&1 || [ -x "/usr/sbin/$name" ]; then exit 0; fi
done
if ! command -v apt-get >/dev/null 2>&1; then
    echo "no MariaDB server found, its tests are skipped: install your system's MariaDB server to mend that"
    exit 0
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo -n"; else
        echo "no MariaDB server found, its tests are skipped: 'sudo apt-get install mariadb-server-core' mends that"
        exit 0
    fi
fi
echo "installing mariadb-server-core for the database tests"
$as_root apt-get update -qq >/dev/null
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends mariadb-server-core >/dev/null ||
    echo "it could not be installed: run 'apt-get install mariadb-server-core' yourself"
exit 0
