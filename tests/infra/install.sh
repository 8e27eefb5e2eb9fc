# Functions that install what checks the templates in infra/, each at one version. Sourced by tests/run, whose `cache`
# and `install_packages` they use. Programs that are built go to $cache/infra/NAME-VERSION/bin.

# What every run needs.
install_infrastructure() {
    are_there prometheus promtool || install_packages prometheus
    build_go helm helm.sh/helm/v3/cmd/helm v3.22.0
}

# What only `tests/run --all` needs.
install_infrastructure_for_all() {
    are_there dockerd docker-compose debootstrap iptables ||
        install_packages docker.io docker-compose debootstrap iptables
    build_go tflint github.com/terraform-linters/tflint v0.64.0
    install_python_program infra/checkov checkov 3.3.30
    install_python_program moto 'moto[server]' 5.2.5
    make_debian
}

# are_there PROGRAM...
are_there() {
    local name
    for name in "$@"; do
        command -v "$name" >/dev/null || return 1
    done
}

# build_go PROGRAM PACKAGE VERSION
build_go() {
    local folder=$cache/infra/$1-$3/bin
    [[ -x $folder/$1 ]] && return
    mkdir -p "$cache/infra/.new"
    GOBIN=$cache/infra/.new CGO_ENABLED=0 GOFLAGS=-buildvcs=false go install "$2@$3"
    mkdir -p "$folder"
    mv "$cache/infra/.new/$1" "$folder/$1"
}

# install_python_program FOLDER PACKAGE VERSION: in an environment of its own.
install_python_program() {
    local folder=$cache/$1-$3
    [[ -e $folder/complete ]] && return
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$2==$3"
    touch "$folder/complete"
}

# make_debian: a small system, for images to begin with.
make_debian() {
    local file=$cache/infra/debian-bookworm.tar folder
    [[ -e $file ]] && return
    folder=$(mktemp -d)
    debootstrap --variant=minbase --include=ca-certificates bookworm "$folder/system" >"$folder/log"
    tar --create --file "$file.new" --directory "$folder/system" --exclude=./dev .
    mv "$file.new" "$file"
    rm -rf "$folder"
}
