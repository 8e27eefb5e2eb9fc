# Functions that install what checks the templates in infra/, each at one version. Sourced by tests/run, whose `cache`
# and `install_packages` they use. Programs that are built go to $cache/infra/NAME-VERSION/bin.

# What every run needs.
install_infrastructure() {
    command -v prometheus promtool >/dev/null || install_packages prometheus
    build_go helm helm.sh/helm/v3/cmd/helm v3.22.0
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
