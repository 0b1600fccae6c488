#!/usr/bin/env bash
# An empty package in place of what Debian's packages depend on and the images never load, a gigabyte:
# a compiler (of python3-scipy), plots and graphs (of python3-skimage), OpenGL's drivers (of OpenCV).
#   stand-in.sh FILE.deb
set -euo pipefail
folder=$(mktemp -d)
mkdir "$folder/DEBIAN"
cat >"$folder/DEBIAN/control" <<'END'
Package: recaffe-stand-in
Version: 1
Architecture: all
Maintainer: recaffe <recaffe@localhost>
Provides: python3-pythran (= 99), python3-matplotlib (= 99), python3-networkx (= 99), libglx-mesa0 (= 99)
Description: stands in for packages that Caffe doesn't load
END
dpkg-deb --root-owner-group --build "$folder" "$1"
rm -rf "$folder"
