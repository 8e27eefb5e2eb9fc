"""Java's libraries, from Maven."""

import subprocess

EVERYTHING = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"


def pom(dependencies, alone=False):
    """A project that wants nothing but these: pins by `group:artifact`; `alone` without what they need in turn."""
    excluded = EVERYTHING if alone else ""
    rows = "".join(
        f"<dependency><groupId>{name.split(':')[0]}</groupId><artifactId>{name.split(':')[1]}</artifactId>"
        f"<version>{pin}</version>{excluded}</dependency>"
        for name, pin in dependencies.items()
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>chronik</groupId>'
        f"<artifactId>client</artifactId><version>1</version><dependencies>{rows}</dependencies></project>"
    )


def download(project, folder):
    """Puts all that the project needs when it runs into `libs`."""
    (folder / "pom.xml").write_text(project)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}/libs"]
    subprocess.run(["mvn", "--quiet", "--batch-mode", *goal], cwd=folder, check=True)
