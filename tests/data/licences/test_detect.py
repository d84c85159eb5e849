"""Licences: of headers, of repositories, and which are kept; held against what Debian and Python packages say."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.config.cleaning import LicencesSection
from codelm.data.licences.detect import (
    file_licence,
    governing_licence,
    header_licence,
    is_kept,
    is_licence_file,
    licences_by_folder,
    repository_licence,
)
from codelm.data.licences.metadata import licence_in_metadata
from codelm.spdx.expressions import is_met, parse_licence
from codelm.spdx.ids import PERMISSIVE, PROPRIETARY

ROOT = Path(__file__).parents[3]
COMMON = Path("/usr/share/common-licenses")
PERMISSIVE_ONLY = LicencesSection(keep="permissive", unknown="drop")
APACHE = (ROOT / "LICENSE").read_text()


def licence_file(package: str) -> str:
    """The licence that an installed package comes with."""
    files = importlib.metadata.files(package) or []
    return next(file.read_text() for file in files if re.fullmatch(r"licen[cs]e(\.\w+)?", file.name.lower()))


MIT, BSD = licence_file("pytest"), licence_file("click")
COMMENTS = {
    "python": ("#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n", "# ", "", "\nimport os\n"),
    "c": ("/*\n", " * ", " */\n", "#include <stdio.h>\n"),
    "go": ("", "// ", "", "\npackage main\n"),
    "sql": ("", "-- ", "", "SELECT 1;\n"),
    "php": ("<?php\n/**\n", " * ", " */\n", "echo 1;\n"),
    "html": ("<!DOCTYPE html>\n<!--\n", "", "-->\n", "<html></html>\n"),
    "docstring": ('"""\n', "", '"""\n', "import os\n"),
    "java": ("package org.example;\n\n/*\n", " * ", " */\n", "class A {}\n"),
    "restructuredtext": ("..\n", "   ", "\n", "Title\n=====\n"),
}


def commented(text: str, style: str) -> str:
    before, line, after, code = COMMENTS[style]
    return before + "".join(f"{line}{one}\n" for one in text.strip().split("\n")) + after + code


# Headers


@pytest.mark.parametrize("style", sorted(COMMENTS))
def test_whole_licences_are_read_in_every_kind_of_comment(style: str) -> None:
    assert header_licence(commented(MIT, style)) == "MIT"
    assert header_licence(commented(BSD, style)) == "BSD-3-Clause"
    assert header_licence(commented("SPDX-License-Identifier: ISC", style)) == "ISC"


GPL = (
    "This program is free software; you can redistribute it and/or modify it under the terms of the GNU {} "
    "as published by the Free Software Foundation; {}."
)


@pytest.mark.parametrize(
    ("notice", "licence"),
    [
        ("SPDX-License-Identifier: (MIT OR GPL-2.0+) AND BSD-3-Clause", "(MIT OR GPL-2.0-or-later) AND BSD-3-Clause"),
        ("SPDX-License-Identifier: apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */", "GPL-2.0-only WITH Linux-syscall-note"),
        ("SPDX-License-Identifier: MIT -->", "MIT"),
        ("Licensed under the Apache License, Version 2.0 (the 'License')", "Apache-2.0"),
        (GPL.format("General Public License", "either version 2 of the License, or (at your\noption) any later"),
         "GPL-2.0-or-later"),
        (GPL.format("General Public License version 2", "see COPYING"), "GPL-2.0-only"),
        (GPL.format("General Public License", "version 3"), "GPL-3.0-only"),
        (GPL.format("Lesser General Public License", "either version 2.1 of the License, or any later version"),
         "LGPL-2.1-or-later"),
        (GPL.format("Affero General Public License", "either version 3 of the License, or any later version"),
         "AGPL-3.0-or-later"),
        ("Distributed under the terms of version 2 of the GNU General Public License.", "GPL-2.0-only"),
        ("License: GPLv3+", "GPL-3.0-or-later"),
        ("Released under the GPL.", "GPL-1.0-or-later"),
        ("This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0.", "MPL-2.0"),
        ("Version: MPL 1.1/GPL 2.0/LGPL 2.1 … the GNU General Public License Version 2 or later (the 'GPL'), or "
         "the GNU Lesser General Public License Version 2.1 or later (the 'LGPL')",
         "MPL-1.1 OR GPL-2.0-or-later OR LGPL-2.1-or-later"),
        ("Licensed under the Apache License, Version 2.0 <LICENSE-A> or the MIT license <LICENSE-M>, at your option.",
         "Apache-2.0 OR MIT"),
        ("This source code is licensed under the MIT license found in the LICENSE file.", "MIT"),
        ("@license MIT", "MIT"),
        ("Use of this source code is governed by a BSD-style license that can be found in the LICENSE file.",
         "BSD-3-Clause"),
        ("Distributed under the Boost Software License, Version 1.0.", "BSL-1.0"),
        ("are made available under the terms of the Eclipse Public License v1.0", "EPL-1.0"),
        ("subject to the terms of the Common Development and Distribution License (CDDL) Version 1.0", "CDDL-1.0"),
        ("Licensed to PSF under a Contributor Agreement.", "PSF-2.0"),
        ("This is free and unencumbered software released into the public domain.", "Unlicense"),
        ("To the extent possible under law … https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("Licensed under https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        ("Creative Commons Attribution 3.0 Unported", "CC-BY-3.0"),
        ("You may use it under the same terms as Perl itself.", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
        ("This file has been placed in the public domain. License: none.", "LicenseRef-public-domain"),
        ("Copyright 2020 Acme. Proprietary and confidential. Unauthorized copying is prohibited.", PROPRIETARY),
        ("Copyright (c) 2020 Acme, Inc. All rights reserved.", "LicenseRef-all-rights-reserved"),
        ("Copyright 2009 The Authors. All rights reserved. For the license see the LICENSE file.", None),
        ("Copyright (c) Fabien. For the full license information, view the LICENSE file.", None),
        ("A module that parses licenses.", None),
        ("", None),
    ],
)  # fmt: skip
def test_notices(notice: str, licence: str | None) -> None:
    assert header_licence(commented(notice, "c")) == licence
    if not notice.startswith("SPDX"):
        assert header_licence(commented(notice.replace(" ", "\n"), "python")) == licence


def test_only_the_head_and_its_comments_count() -> None:
    assert header_licence("# My project\n\nSome text.\n\n## License\n\nMIT License\n") is None
    assert header_licence('x = 1\nTEXT = """\nLicensed under the MIT license.\n"""\n') is None
    assert header_licence("# x\n" * 3000 + "# SPDX-License-Identifier: MIT\n") is None
    assert header_licence('"""A module."""\n\nimport os\n\n__license__ = "Apache 2.0"\n') == "Apache-2.0"


def test_several_tags_all_apply() -> None:
    text = "# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: Zlib\n"
    assert header_licence(text) == "MIT AND Zlib"


@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    header_licence(text)
    header_licence(f"/* license {text}")
    repository_licence({"LICENSE": text, "package.json": text, "Cargo.toml": text, "DESCRIPTION": f"License: {text}"})


def test_comments_that_never_end_are_read_in_linear_time() -> None:
    for start in ("/*", '"""', "<!--", "# ", "-- ", "\n" * 5000, ".. x\n" * 2000, "/* */" * 2000):
        header_licence(start + " license" * 20_000)


# Repositories


def test_which_files_are_wanted() -> None:
    wanted = """LICENSE LICENCE.md COPYING COPYING.LESSER UNLICENSE sub/LICENSE-MIT MIT-LICENSE.txt LICENSES/MIT.txt
        licenses/foo package.json Cargo.toml pyproject.toml setup.cfg PKG-INFO x.gemspec composer.json DESCRIPTION
        debian/copyright a.dist-info/METADATA pom.xml"""
    others = """README.md license.py src/licenses.go LICENSE.java copyright.js METADATA tests/data.json NOTICE
        LICENSE-THIRD-PARTY.txt"""
    assert [path for path in wanted.split() if not is_licence_file(path)] == []
    assert [path for path in others.split() if is_licence_file(path)] == []


def test_files_of_a_root() -> None:
    assert repository_licence({"LICENSE": APACHE}) == "Apache-2.0"
    assert repository_licence({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}) == "Apache-2.0 OR MIT"
    assert repository_licence({"LICENSES/MIT.txt": MIT, "LICENSES/Apache-2.0.txt": APACHE}) == "Apache-2.0 AND MIT"
    assert repository_licence({"LICENSE": MIT, "COPYING": MIT}) == "MIT"
    assert repository_licence({"LICENSE": "Apache-2.0\n"}) == "Apache-2.0"
    assert repository_licence({"README.md": MIT}) is None
    assert repository_licence({}) is None


def test_licences_of_what_is_bundled_are_not_the_projects() -> None:
    bundled = f"{MIT}\n\nThis project bundles libfoo, which is available under a BSD license:\n\n{BSD}"
    assert repository_licence({"LICENSE": bundled}) == "MIT"


def test_the_deepest_folder_governs() -> None:
    folders = licences_by_folder({"LICENSE": MIT, "third/zlib/COPYING": BSD, "sub/package.json": '{"license": "ISC"}'})
    assert folders == {"": "MIT", "third/zlib": "BSD-3-Clause", "sub": "ISC"}
    assert governing_licence("a/b.c", folders) == "MIT"
    assert governing_licence("third/zlib/src/x.c", folders) == "BSD-3-Clause"
    assert governing_licence("third/zlibrary/x.c", folders) == "MIT"
    assert governing_licence("sub/x.js", folders) == "ISC"
    assert governing_licence("x.c", {}) is None


def test_headers_go_before_the_repository_but_the_old_formula_does_not() -> None:
    assert file_licence("// SPDX-License-Identifier: GPL-2.0\n", "MIT") == "GPL-2.0-only"
    assert file_licence("// (c) Acme. All rights reserved.\n", "MIT") == "MIT"
    assert file_licence("// (c) Acme. All rights reserved.\n", None) == "LicenseRef-all-rights-reserved"
    assert file_licence("int x;", "MIT") == "MIT"
    assert file_licence("int x;", None) is None


@pytest.mark.parametrize(
    ("path", "text", "licence"),
    [
        ("package.json", '{"license": "(MIT OR CC0-1.0)"}', "MIT OR CC0-1.0"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}', "MIT OR Apache-2.0"),
        ("package.json", '{"license": "UNLICENSED"}', PROPRIETARY),
        ("package.json", '{"license": "SEE LICENSE IN x"}', None),
        ("package.json", "{", None),
        ("package.json", "[]", None),
        ("composer.json", '{"license": ["LGPL-2.1-only", "GPL-3.0-or-later"]}', "LGPL-2.1-only OR GPL-3.0-or-later"),
        ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("Cargo.toml", '[workspace.package]\nlicense = "MIT"\n', "MIT"),
        ("Cargo.toml", "[workspace]\n", None),
        ("pyproject.toml", '[project]\nlicense = {text = "BSD 3-Clause"}\n', "BSD-3-Clause"),
        ("pyproject.toml", '[tool.poetry]\nlicense = "MIT"\n', "MIT"),
        ("pyproject.toml", '[project]\nclassifiers = ["License :: OSI Approved :: ISC License (ISCL)"]', "ISC"),
        ("setup.cfg", "[metadata]\nlicense = Apache License, Version 2.0\n", "Apache-2.0"),
        ("PKG-INFO", "Name: x\nLicense-Expression: MIT AND ISC\n\nLicense: GPL\n", "MIT AND ISC"),
        ("x.gemspec", "Gem::Specification.new do |s|\n  s.licenses = ['MIT', \"Ruby\"]\nend", "MIT OR Ruby"),
        ("DESCRIPTION", "Package: x\nLicense: GPL (>= 2) | file LICENSE\n", "GPL-2.0-or-later"),
        ("DESCRIPTION", "License: MIT + file LICENSE\n", "MIT"),
        ("pom.xml", "<licenses><license><name>The Apache Software License, Version 2.0</name></license></licenses>",
         "Apache-2.0"),
        ("debian/copyright", "Format: x\n\nFiles: *\nLicense: LGPL-3+ or GPL-2+\n\nFiles: z\nLicense: MIT\n",
         "LGPL-3.0-or-later OR GPL-2.0-or-later"),
    ],
)  # fmt: skip
def test_metadata(path: str, text: str, licence: str | None) -> None:
    assert licence_in_metadata(path, text) == licence
    governed = licences_by_folder({f"deep/{path}": text})
    assert governed == ({"deep": licence} if licence else {})


def test_metadata_says_what_texts_cannot() -> None:
    gpl = "GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007 …"
    assert repository_licence({"COPYING": gpl}) == "GPL-3.0-only"
    assert repository_licence({"COPYING": gpl, "DESCRIPTION": "License: GPL (>= 3)"}) == "GPL-3.0-or-later"
    assert repository_licence({"LICENSE": MIT, "Cargo.toml": '[package]\nlicense = "ISC"'}) == "MIT"


# What is kept


@pytest.mark.parametrize(
    ("licence", "kept"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND BSD-3-Clause OR GPL-3.0-only", True),
        ("MIT AND (BSD-3-Clause OR GPL-3.0-only)", True),
        ("(MIT OR GPL-3.0-only) AND MPL-2.0", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("Apache-2.0+", True),
        ("CC-BY-SA-4.0", False),
        ("LicenseRef-public-domain", True),
        (PROPRIETARY, False),
        ("LicenseRef-all-rights-reserved", False),
        ("LicenseRef-Acme", False),
        (None, False),
        ("no expression at all", False),
        ("(MIT", False),
    ],
)
def test_the_permissive_preset(licence: str | None, kept: bool) -> None:
    assert is_kept(licence, PERMISSIVE_ONLY) is kept
    assert is_kept(licence, LicencesSection()) is True


def test_unknown_licences_are_a_choice_of_the_user() -> None:
    for unknown in (None, "no expression at all"):
        assert is_kept(unknown, LicencesSection(keep="permissive", unknown="keep"))
        assert not is_kept(unknown, LicencesSection(keep="permissive", unknown="drop"))
    assert not is_kept(PROPRIETARY, LicencesSection(keep="permissive", unknown="keep"))


def test_a_list_of_identifiers_in_any_spelling() -> None:
    section = LicencesSection(keep=["gpl-2.0", "Apache 2.0"], unknown="drop")
    for licence in ("GPL-2.0-only", "GPL-2.0-or-later", "GPL-2.0-only WITH Classpath-exception-2.0", "Apache-2.0"):
        assert is_kept(licence, section), licence
    for licence in ("MIT", "GPL-3.0-or-later", "LGPL-2.0-only"):
        assert not is_kept(licence, section), licence


IDS = st.sampled_from(["MIT", "GPL-3.0-only", "Apache-2.0", "LGPL-2.1-or-later"])
EXPRESSIONS = st.recursive(
    IDS, lambda inner: st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda parts: f"({' '.join(parts)})")
)


@given(EXPRESSIONS)
def test_expressions_mean_what_python_says(expression: str) -> None:
    """Precedence and parentheses, against Python's own `and` and `or`; the canonical spelling means the same."""
    python = re.sub(
        r"[\w.]+(?:-[\w.]+)*", lambda m: m[0].lower() if m[0] in ("AND", "OR") else str(m[0] in PERMISSIVE), expression
    )
    canonical = parse_licence(expression)
    assert canonical is not None
    assert parse_licence(canonical) == canonical
    for spelling in (expression, canonical):
        assert is_met(spelling, PERMISSIVE.__contains__) is eval(python)


# Against what nobody here wrote


@pytest.mark.skipif(not COMMON.is_dir(), reason="Debian's licence texts are not here")
@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("Artistic", "Artistic-1.0-Perl"),
        ("BSD", "BSD-3-Clause"),
        ("CC0-1.0", "CC0-1.0"),
        ("GFDL-1.3", "GFDL-1.3-only"),
        ("GPL-1", "GPL-1.0-only"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-3", "GPL-3.0-only"),
        ("LGPL-2", "LGPL-2.0-only"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("LGPL-3", "LGPL-3.0-only"),
        ("MPL-1.1", "MPL-1.1"),
        ("MPL-2.0", "MPL-2.0"),
    ],
)
def test_debians_licence_texts(name: str, licence: str) -> None:
    if not (COMMON / name).is_file():
        pytest.skip(f"{name} is not here")
    assert repository_licence({"LICENSE": (COMMON / name).read_text()}) == licence


def debian_paragraphs() -> Iterator[tuple[str, str]]:
    """Licences of Debian's machine-readable copyright files: what Debian calls it, and the text."""
    seen = set()
    for path in sorted(Path("/usr/share/doc").glob("*/copyright")):
        text = path.read_text(errors="replace")
        if text.startswith("Format:"):
            for match in re.finditer(r"^License:[ \t]*(.+)\n((?:[ \t]+.*\n?)+)", text, re.MULTILINE):
                licence = parse_licence(match[1].replace("_", " "))
                if licence and len(match[2]) > 150 and match[0] not in seen:
                    seen.add(match[0])
                    yield licence, match[2]


def test_debians_copyright_files() -> None:
    """The identifiers agree in most cases (Debian's labels are loose), the permissive verdict in nearly all."""
    pairs = list(debian_paragraphs())
    if len(pairs) < 50:
        pytest.skip("Debian's copyright files are not here")
    found = [repository_licence({"LICENSE": text}) for _, text in pairs]
    same = sum(one == licence for one, (licence, _) in zip(found, pairs, strict=True))
    verdicts = [
        (is_kept(one, PERMISSIVE_ONLY), is_kept(licence, PERMISSIVE_ONLY))
        for one, (licence, _) in zip(found, pairs, strict=True)
    ]
    assert same / len(pairs) > 0.8
    assert sum(ours == debians for ours, debians in verdicts) / len(pairs) > 0.97
    assert sum(ours and not debians for ours, debians in verdicts) / len(pairs) < 0.01


def test_installed_packages_agree_with_their_metadata() -> None:
    same = different = 0
    for distribution in importlib.metadata.distributions():
        files = {
            path.name: path.read_text()
            for path in distribution.files or []
            if ".dist-info" in str(path.parts[0]) and path.name != "METADATA" and is_licence_file(path.name)
        }
        metadata = distribution.metadata
        expression = str(metadata["License-Expression"] or "") if "License-Expression" in list(metadata) else ""
        if files and expression and "LicenseRef" not in expression and " AND " not in expression:
            if repository_licence(files) == parse_licence(expression):
                same += 1
            else:
                different += 1
    assert same > 20
    assert different <= 0.1 * same
