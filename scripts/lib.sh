# shellcheck shell=bash
# What the scripts share: how they speak, and how they get a PostgreSQL server and tools of Cargo's. A script that installs
# from the packages of the system has a function `cannot_install`, which says what is needed and ends it.

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

# Where a tool of Cargo's is, once it is installed. Its name, then its version.
cargo_tool() {
    printf 'target/tools/%s-%s/bin/%s\n' "$1" "$2" "$1"
}

# Its name, its version, and the SHA-256 of the same as a program that is built already (PyPI), for most machines: to build one
# takes many minutes.
install_cargo_tool() {
    local folder=target/tools/$1-$2
    say "$1 $2 is missing: installing it into $folder"
    if ! unpack_cargo_tool "$@" "$folder"; then
        rm -rf "$folder"
        step cargo install --locked --root "$folder" --version "$2" "$1"
    fi
}

# Fails on machines that there is no such program for.
unpack_cargo_tool() {
    [[ $(uname -s)-$(uname -m) == Linux-x86_64 ]] || return 1
    local name=$1 version=$2 digest=$3 folder=$4
    local unpacked=$folder/unpacked
    mkdir -p "$unpacked" "$folder/bin" || return 1
    printf 'astral-dev-toolchain-%s==%s --hash=sha256:%s\n' "$name" "$version" "$digest" >"$unpacked/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --dest "$unpacked" --requirement "$unpacked/requirements.txt" || return 1
    python3 -m zipfile -e "$unpacked"/*.whl "$unpacked" || return 1
    install -m 755 "$unpacked"/*.data/scripts/"$name" "$folder/bin/" || return 1
    rm -rf "$unpacked"
    "$folder/bin/$name" --version >/dev/null 2>&1
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
