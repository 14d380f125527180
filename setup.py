"""Builds the extension sglang_collect._core; everything else stands in pyproject.toml.

Environment:
    CURL_CONFIG               the curl-config to ask, instead of the one in PATH
    SGLANG_COLLECT_BUILD      release (default), debug, asan (with UBSan) or coverage
    SGLANG_COLLECT_WERROR=1   a warning is an error
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError, PlatformError

OLDEST_LIBCURL = (7, 88)

NEEDS = (
    "sglang-collect needs a C compiler, Python's headers, and the development files of zlib and of "
    "libcurl 7.88 or newer (Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev "
    "libcurl4-openssl-dev zlib1g-dev)"
)

COMPILE = ["-std=c11", "-pthread", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
FLAVOURS = {
    "release": ["-O3", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"],
    "debug": ["-O0", "-g3", "-UNDEBUG", "-U_FORTIFY_SOURCE"],
    "asan": [
        "-O1",
        "-g",
        "-UNDEBUG",
        "-U_FORTIFY_SOURCE",
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
    ],
    "coverage": ["-O0", "-g", "-UNDEBUG", "-U_FORTIFY_SOURCE", "--coverage"],
}
# Of libraries that are linked in whole, nothing is seen outside.
HIDE = ["-Wl,--exclude-libs,ALL"] if sys.platform == "linux" else []
LINK = {"asan": ["-fsanitize=address,undefined"], "coverage": ["--coverage"]}


def curl_flags() -> tuple[list[str], list[str]]:
    """The flags to compile and to link with libcurl, or an error that says what to install."""
    command = os.environ.get("CURL_CONFIG") or shutil.which("curl-config")
    if not command:
        raise PlatformError(f"curl-config was not found: {NEEDS}")

    def ask(option: str) -> str:
        try:
            return subprocess.run(
                [command, option], check=True, capture_output=True, text=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            raise PlatformError(f"{command} {option} failed: {error}") from error

    version = ask("--version")
    found = re.search(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < OLDEST_LIBCURL:
        raise PlatformError(
            f"{version or command} is too old: sglang-collect needs libcurl 7.88 or newer "
            "(Debian 12 and newer have it; CURL_CONFIG names another curl-config)"
        )
    return shlex.split(ask("--cflags")), shlex.split(ask("--libs"))


class BuildCore(build_ext):
    """Asks for libcurl only when something is compiled, so that an sdist needs no libcurl."""

    def build_extensions(self) -> None:
        flavour = os.environ.get("SGLANG_COLLECT_BUILD") or "release"
        if flavour not in FLAVOURS:
            raise PlatformError(f"SGLANG_COLLECT_BUILD={flavour}: expected one of {', '.join(FLAVOURS)}")
        cflags, libs = curl_flags()
        werror = ["-Werror"] if os.environ.get("SGLANG_COLLECT_WERROR") == "1" else []
        for extension in self.extensions:
            extension.extra_compile_args = [*COMPILE, *FLAVOURS[flavour], *werror, *cflags]
            extension.extra_link_args = ["-pthread", *HIDE, *LINK.get(flavour, []), *libs, "-lz"]
        try:
            super().build_extensions()
        except (CompileError, LinkError) as error:
            raise PlatformError(f"{error}\n{NEEDS}") from error


setup(
    ext_modules=[
        Extension(
            "sglang_collect._core",
            sources=sorted(glob("csrc/core/*.c") + glob("csrc/binding/*.c")),
            depends=["setup.py", *sorted(glob("csrc/*/*.h") + glob("csrc/*/*.inc"))],
            include_dirs=["csrc/core"],
        )
    ],
    cmdclass={"build_ext": BuildCore},
)
