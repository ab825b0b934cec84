# shellcheck shell=bash
# What the scripts share: how they speak, and how they get a PostgreSQL server. A script that sources this has a
# function `cannot_install`, which says what is needed and ends it.

say() {
    printf '== %s\n' "$*"
}

fail() {
    printf 'scripts/%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Announces a command in a form that can be copied, and runs it.
step() {
    local shown
    printf -v shown '%q ' "$@"
    say "${shown% }"
    "$@"
}

check_cargo() {
    cargo --version >/dev/null 2>&1 || fail "cargo is missing, or has no toolchain. Install Rust, best with rustup"
}

# Looks where the tests look: `programs` in tests/integration/harness/cluster.rs. Prints the folder.
find_postgres() {
    local folder on_path
    IFS=: read -r -a on_path <<<"$PATH"
    for folder in "${on_path[@]}" /usr/lib/postgresql/*/bin \
        /usr/local/opt/*{pg,postgres}*/bin /opt/homebrew/opt/*{pg,postgres}*/bin \
        /usr/*{pg,postgres}*/bin /usr/local/pgsql/bin; do
        if [[ -f $folder/initdb && -f $folder/postgres ]]; then
            printf '%s\n' "$folder"
            return
        fi
    done
    return 1
}

# The first of the package managers that we know, or none.
package_manager() {
    local manager
    for manager in apt-get dnf apk brew none; do
        if command -v "$manager" >/dev/null; then
            break
        fi
    done
    printf '%s\n' "$manager"
}

install_postgres() {
    case $(package_manager) in
        apt-get) install_postgres_with_apt ;;
        dnf) install_as_root postgresql-server dnf install --assumeyes postgresql-server ;;
        apk) install_as_root postgresql apk add --update-cache postgresql ;;
        brew)
            say "postgresql is missing: installing it with brew"
            brew install postgresql || cannot_install
            ;;
        none) cannot_install ;;
    esac
    find_postgres >/dev/null || cannot_install
}

install_postgres_with_apt() {
    # Debian's package makes a cluster of its own and starts it on port 5432, unless it is told not to.
    local folder=/etc/postgresql-common/createcluster.d
    local file=$folder/onex-registry-test.conf
    # shellcheck disable=SC2016 # the inner shell expands them
    install_as_root postgresql env DEBIAN_FRONTEND=noninteractive sh -c '
        set -e
        trap "rm -f $2" EXIT
        mkdir -p "$1"
        echo "create_main_cluster = false" >"$2"
        apt-get update -q || echo "the lists of packages are not all up to date; trying anyway"
        apt-get install -q --yes --no-install-recommends postgresql
    ' install "$folder" "$file"
}

# What is installed, then the command that does it.
install_as_root() {
    say "$1 is missing: installing it with $(package_manager)"
    shift
    if [[ $EUID -eq 0 ]]; then
        "$@" || cannot_install
    elif command -v sudo >/dev/null; then
        sudo "$@" || cannot_install
    else
        cannot_install
    fi
}
