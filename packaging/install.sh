#!/bin/sh
# Installs the command alvys-auth for Linux and macOS:
#
#   curl --proto '=https' --tlsv1.2 -fsSL https://github.com/alvys-auth/alvys-auth/releases/latest/download/install.sh | sh
#
# It downloads the program for this machine and the list of checksums, compares them, and puts the program into
# /usr/local/bin if it may, and into ~/.local/bin otherwise. Settings, in the environment:
#
#   ALVYS_AUTH_VERSION    the version, such as 0.1.0; the newest by default
#   ALVYS_AUTH_BIN        the folder for the program
#   ALVYS_AUTH_DOWNLOADS  where the files of the release are, for a mirror of your own
set -eu

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit 1
}

main() {
  case $(uname -s) in
    Linux) system=unknown-linux-musl ;;
    Darwin) system=apple-darwin ;;
    *) fail "there is no program for $(uname -s) here; on Windows unpack the archive of the release" ;;
  esac
  case $(uname -m) in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "there is no program for $(uname -m); build it with: cargo install alvys-auth-cli" ;;
  esac
  releases=https://github.com/alvys-auth/alvys-auth/releases
  if [ -n "${ALVYS_AUTH_VERSION:-}" ]; then
    releases=$releases/download/v$ALVYS_AUTH_VERSION
  else
    releases=$releases/latest/download
  fi
  from=${ALVYS_AUTH_DOWNLOADS:-$releases}

  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  download SHA256SUMS
  line=$(grep "^[0-9a-f]\{64\}  alvys-auth-[0-9][^/]*-$machine-$system\.tar\.gz\$" "$folder/SHA256SUMS") ||
    fail "the release has no program for $machine-$system"
  archive=${line#*  }
  download "$archive"
  (cd "$folder" && printf '%s\n' "$line" | checksum) >/dev/null 2>&1 ||
    fail "$archive has another checksum than the release says: nothing was installed"
  tar -xzf "$folder/$archive" -C "$folder"

  bin=${ALVYS_AUTH_BIN:-/usr/local/bin}
  if [ -z "${ALVYS_AUTH_BIN:-}" ] && [ ! -w "$bin" ]; then bin=$HOME/.local/bin; fi
  mkdir -p "$bin"
  # Beside its place first, so that a running program is replaced and not overwritten.
  cp "$folder/${archive%.tar.gz}/alvys-auth" "$bin/.alvys-auth.new"
  chmod 755 "$bin/.alvys-auth.new"
  mv -f "$bin/.alvys-auth.new" "$bin/alvys-auth"
  printf '%s: %s\n' "$bin/alvys-auth" "$("$bin/alvys-auth" --version)"
  case :$PATH: in
    *":$bin:"*) ;;
    *) printf 'Add %s to PATH to run it by its name.\n' "$bin" ;;
  esac
}

download() {
  if command -v curl >/dev/null; then
    curl -fsSL --retry 3 -o "$folder/$1" "$from/$1" || fail "$from/$1 cannot be downloaded"
  elif command -v wget >/dev/null; then
    wget -q -O "$folder/$1" "$from/$1" || fail "$from/$1 cannot be downloaded"
  else
    fail "this needs curl or wget"
  fi
}

checksum() {
  if command -v sha256sum >/dev/null; then sha256sum -c -; else shasum -a 256 -c -; fi
}

# Called at the end, so that half a download of this script does nothing.
main
