# Functions that install what checks and builds what is in infra/, each at one version, into `cache` of the script that
# sources this: tests/run, which has `install_packages` too, and infra/lambda/build. Programs that are built go to
# $cache/infra/NAME-VERSION/bin.

# What every run needs.
install_infrastructure() {
    are_there prometheus promtool || install_packages prometheus
    build_go helm helm.sh/helm/v3/cmd/helm v3.22.0
}

# What only `tests/run --all` needs.
install_infrastructure_for_all() {
    are_there etcd || install_packages etcd-server
    are_there dockerd docker-compose debootstrap iptables ||
        install_packages docker.io docker-compose debootstrap iptables
    # Runs what was built for arm64.
    are_there qemu-aarch64 || install_packages qemu-user libc6-arm64-cross libgcc-s1-arm64-cross
    rustup target add aarch64-unknown-linux-gnu
    build_go tflint github.com/terraform-linters/tflint v0.64.0
    build_apiserver v1.36.3
    install_python_program checkov 3.3.30
    make_debian
    download_definitions github.com/kedacore/keda/v2 v2.21.0 config/crd/bases
    download_definitions github.com/prometheus-operator/prometheus-operator v0.85.0 example/prometheus-operator-crd
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

# build_apiserver VERSION: Kubernetes can't be built as a dependency as it is, because it replaces parts of itself by
# folders; here they are replaced by the same parts as they are published. Its version is given to the linker, and charts
# ask for it.
build_apiserver() {
    local folder=$cache/infra/kube-apiserver-$1 theirs
    [[ -x $folder/bin/kube-apiserver ]] && return
    rm -rf "$folder"
    mkdir -p "$folder/module"
    theirs=$(cd / && go mod download -json "k8s.io/kubernetes@$1" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    printf 'module apiserver\n\nrequire k8s.io/kubernetes %s\n\n' "$1" >"$folder/module/go.mod"
    sed -n "s|.*\(k8s.io/[a-z-]*\) => ./staging/.*|replace \1 => \1 v0${1#v1}|p" "$theirs" >>"$folder/module/go.mod"
    (
        cd "$folder/module"
        CGO_ENABLED=0 GOFLAGS=-buildvcs=false \
            go build -mod=mod -ldflags "-X k8s.io/component-base/version.gitVersion=$1" \
            -o ../bin/kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
    )
}

# install_python_program PACKAGE VERSION [PACKAGE==VERSION...]: in an environment of its own.
install_python_program() {
    local folder=$cache/infra/$1-$2
    [[ -e $folder/complete ]] && return
    rm -rf "$folder"
    mkdir -p "$cache/infra"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$1==$2" "${@:3}"
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

# download_definitions MODULE VERSION FOLDER: of Kubernetes' resources, out of a Go module.
download_definitions() {
    local folder=$cache/infra/definitions/${1//\//-}-$2 module
    [[ -d $folder ]] && return
    module=$(cd / && go mod download -json "$1@$2" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    mkdir -p "$cache/infra/definitions"
    cp -r --no-preserve=mode "$module/$3" "$folder.new"
    mv "$folder.new" "$folder"
}
