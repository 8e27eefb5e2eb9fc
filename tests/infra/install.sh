# Functions that install what checks the templates in infra/. Sourced by tests/run, whose `install_packages` they use.

# What every run needs.
install_infrastructure() {
    command -v prometheus promtool >/dev/null || install_packages prometheus
}
