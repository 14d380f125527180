#!/usr/bin/env bash
# Builds the libcurl that goes into a wheel: static, HTTP alone, with an OpenSSL of
# its own, so that a wheel needs nothing but libc and zlib of the machine it runs on.
#
#   tools/build_libcurl.sh PREFIX      then CURL_CONFIG=PREFIX/bin/curl-config builds with it
#
# The sources are taken from build/sources, or from the folder that SOURCES names,
# and downloaded where they are not there. Needs a compiler, make and perl, and
# fetches those in the containers that wheels are built in.
set -euo pipefail
cd "$(dirname "$0")/.."

OPENSSL=openssl-3.5.7
OPENSSL_URL=https://github.com/openssl/openssl/releases/download/$OPENSSL/$OPENSSL.tar.gz
OPENSSL_SHA256=a8c0d28a529ca480f9f36cf5792e2cd21984552a3c8e4aa11a24aa31aeac98e8
CURL=curl-8.14.1
CURL_URL=https://curl.se/download/$CURL.tar.gz
CURL_SHA256=6766ada7101d292b42b8b15681120acd68effa4a9660935853cf6d61f0d984d4

# The usual place; where a system has its authorities elsewhere, the core looks for them.
CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

prefix=${1:?usage: tools/build_libcurl.sh PREFIX}
mkdir -p "$prefix" build
prefix=$(cd "$prefix" && pwd)
sources=${SOURCES:-$PWD/build/sources}
jobs=-j$(getconf _NPROCESSORS_ONLN)

tools_of_the_container() {
    if command -v dnf >/dev/null; then
        dnf -qy install perl-core zlib-devel
    elif command -v apk >/dev/null; then
        apk add --quiet perl linux-headers zlib-dev
    fi
}

# Unpacks NAME.tar.gz into build/, after a look at what it is.
unpack() {
    local name=$1 url=$2 sha256=$3 file=$sources/$1.tar.gz
    mkdir -p "$sources"
    [ -e "$file" ] || curl -fsSL --retry 3 -o "$file" "$url"
    if ! echo "$sha256  $file" | { sha256sum -c - 2>/dev/null || shasum -a 256 -c -; } >/dev/null; then
        echo "$file is not what it should be: sha256 $sha256" >&2
        exit 1
    fi
    rm -rf "build/$name"
    mkdir "build/$name"
    tar -xzf "$file" -C "build/$name" --strip-components=1
}

# No configuration file of the machine, no module and no engine is ever loaded.
openssl() {
    unpack "$OPENSSL" "$OPENSSL_URL" "$OPENSSL_SHA256"
    (
        cd "build/$OPENSSL"
        ./Configure --prefix="$prefix" --libdir=lib --openssldir="$prefix/ssl" \
            no-shared no-tests no-docs no-apps no-module no-dso no-engine no-legacy no-autoload-config \
            no-quic no-dtls no-ssl3 no-comp -fPIC
        make "$jobs" build_libs
        make install_dev
    )
    cmp "build/$OPENSSL/LICENSE.txt" licenses/openssl.txt
}

libcurl() {
    unpack "$CURL" "$CURL_URL" "$CURL_SHA256"
    (
        cd "build/$CURL"
        PKG_CONFIG_PATH=$prefix/lib/pkgconfig ./configure --prefix="$prefix" \
            --disable-shared --enable-static --with-pic --disable-debug --disable-manual --disable-docs \
            --with-openssl="$prefix" --disable-openssl-auto-load-config \
            --with-ca-bundle="$CA_BUNDLE" --without-ca-path \
            --enable-threaded-resolver --enable-ipv6 --enable-http-auth --disable-kerberos-auth \
            --disable-negotiate-auth --disable-ntlm --disable-aws --disable-tls-srp \
            --disable-ftp --disable-file --disable-ldap --disable-ldaps --disable-rtsp --disable-dict \
            --disable-telnet --disable-tftp --disable-pop3 --disable-imap --disable-smb --disable-smtp \
            --disable-gopher --disable-mqtt --disable-ipfs --disable-websockets --disable-unix-sockets \
            --disable-alt-svc --disable-hsts --disable-cookies --disable-doh --disable-mime \
            --without-zlib --without-brotli --without-zstd --without-nghttp2 --without-libpsl \
            --without-libidn2 --without-librtmp --without-libssh2
        make "$jobs" -C lib
        make -C lib install
        make -C include install
        make install-binSCRIPTS
    )
    cmp "build/$CURL/COPYING" licenses/curl.txt
}

tools_of_the_container
if [ ! -e "$prefix/complete" ]; then
    openssl >build/openssl.log 2>&1 || { tail -40 build/openssl.log >&2; exit 1; }
    libcurl >build/libcurl.log 2>&1 || { tail -40 build/libcurl.log >&2; exit 1; }
    touch "$prefix/complete"
fi
"$prefix/bin/curl-config" --version
