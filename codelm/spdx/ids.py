"""SPDX identifiers of licences: which are permissive, and how people write them otherwise."""

import re

PROPRIETARY = "LicenseRef-proprietary"
"""The text reserves all use: no licence."""
ALL_RIGHTS_RESERVED = "LicenseRef-all-rights-reserved"
"""The old formula and nothing else. A licence of the repository goes before it."""
PUBLIC_DOMAIN = "LicenseRef-public-domain"

PERMISSIVE = frozenset(
    """
    0BSD AAL Adobe-2006 ADSL AFL-1.1 AFL-1.2 AFL-2.0 AFL-2.1 AFL-3.0 Afmparse AMDPLPA AML AMPAS ANTLR-PD
    ANTLR-PD-fallback Apache-1.0 Apache-1.1 Apache-2.0 APAFML Artistic-1.0 Artistic-1.0-cl8 Artistic-1.0-Perl
    Artistic-2.0 Bahyph Barr bcrypt-Solar-Designer Beerware blessing BlueOak-1.0.0 Borceux BSD-1-Clause BSD-2-Clause
    BSD-2-Clause-Darwin BSD-2-Clause-FreeBSD BSD-2-Clause-NetBSD BSD-2-Clause-Patent BSD-2-Clause-Views BSD-3-Clause
    BSD-3-Clause-Attribution BSD-3-Clause-Clear BSD-3-Clause-HP BSD-3-Clause-LBNL BSD-3-Clause-Modification
    BSD-3-Clause-No-Nuclear-License-2014 BSD-3-Clause-No-Nuclear-Warranty BSD-3-Clause-Open-MPI BSD-3-Clause-Sun
    BSD-4-Clause BSD-4-Clause-Shortened BSD-4-Clause-UC BSD-Source-Code BSL-1.0 bzip2-1.0.5 bzip2-1.0.6 CC0-1.0
    CECILL-B CFITSIO check-cvs ClArtistic Clips CNRI-Jython CNRI-Python CNRI-Python-GPL-Compatible Condor-1.1
    Crossword CrystalStacker Cube curl diffmark DOC DSDP ECL-1.0 ECL-2.0 EFL-1.0 EFL-2.0 eGenix Entessa Fair FSFAP
    FSFUL FSFULLR FTL fwlw Giftware GLWTPL hdparm HPND HPND-export-US HPND-Fenneberg-Livingston HPND-sell-regexpr
    HTMLTIDY IBM-pibs ICU IJG IJG-short ImageMagick Info-ZIP Intel Intel-ACPI ISC Jam JasPer-2.0 Kazlib Leptonica
    Libpng libpng-2.0 libtiff Linux-OpenIB LPL-1.0 LPL-1.02 LPPL-1.3c LZMA-SDK-9.22 McPhee-slideshow MirOS MIT MIT-0
    MIT-advertising MIT-CMU MIT-enna MIT-feh MIT-Khronos-old MIT-Modern-Variant MIT-open-group MIT-testregex MIT-Wu
    MITNFA mpich2 MS-PL MTLL MulanPSL-1.0 MulanPSL-2.0 Multics Mup NAIST-2003 NASA-1.3 Naumen NBPL-1.0 NCSA Net-SNMP
    NetCDF Newsletr NICTA-1.0 NIST-Software NLPL NRL NTP NTP-0 OFFIS OGL-Canada-2.0 OGTSL OLDAP-1.1 OLDAP-1.2
    OLDAP-1.3 OLDAP-1.4 OLDAP-2.0 OLDAP-2.0.1 OLDAP-2.1 OLDAP-2.2 OLDAP-2.2.1 OLDAP-2.2.2 OLDAP-2.3 OLDAP-2.4
    OLDAP-2.5 OLDAP-2.6 OLDAP-2.7 OLDAP-2.8 OML OpenSSL PHP-3.0 PHP-3.01 Plexus PostgreSQL PSF-2.0 psutils Python-2.0
    python-ldap Qhull Rdisc RSA-MD Ruby Saxpath SGI-B-2.0 SHL-0.5 SMLNJ snprintf Spencer-86 Spencer-94 Spencer-99
    SSH-short SunPro SWL Symlinks TCL TCP-wrappers TU-Berlin-1.0 TU-Berlin-2.0 UCAR Unicode-3.0 Unicode-DFS-2015
    Unicode-DFS-2016 UnixCrypt Unlicense UPL-1.0 Vim VSL-1.0 W3C W3C-19980720 W3C-20150513 Wsuipa WTFPL X11 Xerox Xfig
    XFree86-1.1 xinetd xlock Xnet xpp XSkat Zed Zend-2.0 Zlib zlib-acknowledgement ZPL-1.1 ZPL-2.0 ZPL-2.1
    """.split()  # noqa: SIM905
) | {PUBLIC_DOMAIN}
"""What Blue Oak Council's list (version 15) rates as permissive, from Model to Lead; The Stack was chosen by that list.
With it: Unicode-3.0, MIT-Khronos-old and dedications to the public domain.
"""

_OTHERS = """
    AGPL-1.0-only AGPL-1.0-or-later AGPL-3.0-only AGPL-3.0-or-later Aladdin APSL-2.0 BitTorrent-1.1 BUSL-1.1 CC-BY-1.0
    CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-NC-2.0 CC-BY-NC-2.5 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-ND-3.0
    CC-BY-NC-ND-4.0 CC-BY-NC-SA-2.0 CC-BY-NC-SA-2.5 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-3.0 CC-BY-ND-4.0
    CC-BY-SA-1.0 CC-BY-SA-2.0 CC-BY-SA-2.5 CC-BY-SA-3.0 CC-BY-SA-4.0 CDDL-1.0 CDDL-1.1 CECILL-1.0 CECILL-2.0
    CECILL-2.1 CECILL-C CPAL-1.0 CPL-1.0 Elastic-2.0 EPL-1.0 EPL-2.0 EUPL-1.0 EUPL-1.1 EUPL-1.2 GFDL-1.1-only
    GFDL-1.1-or-later GFDL-1.2-only GFDL-1.2-or-later GFDL-1.3-only GFDL-1.3-or-later GPL-1.0-only GPL-1.0-or-later
    GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later IPL-1.0 JSON LGPL-2.0-only LGPL-2.0-or-later
    LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later LGPLLR MPL-1.0 MPL-1.1 MPL-2.0
    MPL-2.0-no-copyleft-exception MS-RL NGPL NPL-1.0 NPL-1.1 OFL-1.0 OFL-1.1 OSL-1.0 OSL-2.0 OSL-2.1 OSL-3.0 QPL-1.0
    RPL-1.5 Sleepycat SSPL-1.0 YPL-1.1
""".split()  # noqa: SIM905

EXCEPTIONS = """
    389-exception Autoconf-exception-generic Autoconf-exception-2.0 Autoconf-exception-3.0 Bison-exception-2.2
    Bootloader-exception Classpath-exception-2.0 eCos-exception-2.0 FLTK-exception Font-exception-2.0
    GCC-exception-2.0 GCC-exception-3.1 Libtool-exception Linux-syscall-note LLVM-exception OCaml-LGPL-linking-exception
    OpenJDK-assembly-exception-1.0 openvpn-openssl-exception PS-or-PDF-font-exception-20170817 Qt-LGPL-exception-1.1
    Swift-exception u-boot-exception-2.0 Universal-FOSS-exception-1.0 WxWindows-exception-3.1
""".split()  # noqa: SIM905

# How people write licences, in the form that `_key` gives, beside the identifiers themselves.
_NAMES = {
    "MIT": "expat|mit x11|x11 mit|mit expat|expat mit|mit style|mit like|massachusetts institute of technology",
    "MIT-0": "mit no attribution",
    "MIT-CMU": "cmu|hpnd mit cmu",
    "Apache-2.0": "apache|apache2|asl|asl 2|al2|alv2|apl2|apache foundation|apache asl|apache public 2|asf 2",
    "BSD-2-Clause": "2 clause bsd|bsd2|bsd 2|simplified bsd|bsd simplified|freebsd|bsd 2 clause simplified",
    "BSD-3-Clause": (
        "bsd|3 clause bsd|bsd3|bsd 3|new bsd|bsd new|modified bsd|bsd modified|revised bsd|bsd revised|bsd style"
        "|bsd like|bsd 3 clause new or revised|new bsd 3 clause|berkeley distribution"
    ),
    "BSD-4-Clause": "4 clause bsd|bsd 4|original bsd|bsd original",
    "0BSD": "zero clause bsd|bsd zero clause|free public 1",
    "ISC": "iscl|isc iscl|internet systems consortium",
    "Zlib": "zlib libpng|libpng zlib|zlib png",
    "BSL-1.0": "boost|boost 1|bsl|bsl 1",
    "PSF-2.0": "psf|psfl|python|python foundation|python 2|psf 2|cpython|python psf",
    "Unlicense": "the unlicense|unlicense org|unlicense unlicense",
    "CC0-1.0": "cc0|cc0 1 universal|creative commons zero|cc zero|cc0 1 universal cc0 1 public domain dedication",
    PUBLIC_DOMAIN: "public domain|pd|publicdomain|none public domain|in the public domain",
    "MPL-2.0": "mpl|mpl2|mozilla public|mozilla public 2|mozilla public 2 mpl 2|mozilla 2",
    "MPL-1.1": "mpl1.1|mozilla public 1.1|mozilla public 1.1 mpl 1.1",
    "EPL-1.0": "epl|eclipse public 1|eclipse public|eclipse public 1 epl 1",
    "EPL-2.0": "eclipse public 2|eclipse public 2 epl 2",
    "CPL-1.0": "cpl|common public|common public 1",
    "CDDL-1.0": "cddl|common development and distribution|common development and distribution 1",
    "Artistic-2.0": "artistic 2",
    "Artistic-1.0-Perl": "artistic|artistic 1 perl|perl artistic",
    "PostgreSQL": "postgres",
    "NCSA": "university of illinois ncsa|uiuc",
    "UPL-1.0": "upl|universal permissive|universal permissive upl",
    "MS-PL": "microsoft public",
    "OFL-1.1": "ofl|sil open font 1.1|sil ofl 1.1|open font",
    "WTFPL": "wtfpl 2|do what the fuck you want to public",
    "PHP-3.01": "php",
    "HPND": "historical permission notice and disclaimer|historical permission notice and disclaimer hpnd",
    "X11": "x consortium|x11 consortium",
    "W3C": "w3c document",
    "Vim": "vim charityware",
    "AFL-3.0": "afl|academic free",
    "OSL-3.0": "osl",
    "SSPL-1.0": "sspl|server side public",
    "BUSL-1.1": "business source 1.1|busl",
    "Elastic-2.0": "elastic",
    "EUPL-1.2": "eupl|european union public 1.2",
    "ZPL-2.1": "zpl|zope public|zope public 2.1",
    "GFDL-1.3-only": "gfdl|free documentation",
    PROPRIETARY: "proprietary|unlicensed|commercial|other proprietary|closed source|nvidia proprietary|nonfree",
    "Artistic-1.0-Perl OR GPL-1.0-or-later": "perl|perl 5|perl5|same as perl|same terms as perl itself",
}

_WITHOUT_VERSION = {"gpl": "1", "lgpl": "2", "agpl": "3"}
_GNU_VERSIONS = {"gpl": ("1", "2", "3"), "lgpl": ("2", "2.1", "3"), "agpl": ("1", "3")}
_GNU_NAME = re.compile(
    r"([al]?gpl) ?(\d(?:\.\d)?)? ?(\+|or later|or newer|or greater|or any later.*|only|later)?(?: \1 \2\+?)?"
)
_FILLERS = re.compile(r"\b(the|licen[cs]ed?|version|ver|software|gnu|osi approved|v(?=[ .]?\d)|ltd)\b")


def gnu_id(family: str, version: str | None, later: bool) -> str | None:
    """The identifier of a GNU licence (`gpl`, `lgpl`, `agpl`); without a version, any that was ever published."""
    if version is None:
        version, later = _WITHOUT_VERSION[family], True
    version = version.removesuffix(".0")
    if version not in _GNU_VERSIONS[family]:
        return None
    return f"{family.upper()}-{version if '.' in version else f'{version}.0'}-{'or-later' if later else 'only'}"


def _key(name: str) -> str:
    """A licence's name in the form in which names are compared."""
    name = name.lower().split(" :: ")[-1]
    for long, short in (
        ("affero general public", "agpl"),
        ("lesser general public", "lgpl"),
        ("general public", "gpl"),
    ):
        name = name.replace(long, short)
    name = re.sub(r"library gpl|lesser gpl", "lgpl", name)
    name = re.sub(r"\(?>=? ?v?(\d[\d.]*)\)?", r"\1+", name)
    name = re.sub(r"[^a-z0-9.+]+", " ", name)
    name = re.sub(r"(gpl|mpl)v(?=\d)", r"\1 ", name)
    name = re.sub(r"\bv\.?(?=\d)", "", name)
    name = re.sub(r"(?<![\d.])(\d+)\.0\b(?!\.)", r"\1", name)
    return " ".join(_FILLERS.sub(" ", name).replace(" +", "+").split()).strip(" .")


LISTED = (*sorted(PERMISSIVE), *_OTHERS)
"""All identifiers that are known here; SPDX lists rarer ones besides."""

_BY_KEY = {_key(id): id for id in LISTED} | {key: id for id, keys in _NAMES.items() for key in keys.split("|")}
_BY_LOWER = {id.lower(): id for id in (*LISTED, *EXCEPTIONS, PROPRIETARY, ALL_RIGHTS_RESERVED)}


def id_of_name(name: str) -> str | None:
    """The identifier (or expression) of one licence as people write it: `Apache 2.0`, `GPL (>= 2)`, `Expat` …"""
    key = re.sub(r"^(.+) \1$", r"\1", _key(name))
    if match := _GNU_NAME.fullmatch(key):
        return gnu_id(match[1], match[2], match[3] not in (None, "only"))
    return _BY_KEY.get(key)


def is_known(id: str) -> bool:
    """Whether an identifier, in SPDX's spelling, is listed here."""
    return _BY_LOWER.get(id.lower()) == id


def canonical_id(id: str, strict: bool) -> str:
    """An identifier in SPDX's spelling, deprecated ones (`GPL-2.0+`) in today's.

    Raises:
        ValueError: it cannot be one, or, if `strict`, is not known.
    """
    if known := _BY_LOWER.get(id.lower()):
        return known
    match = re.fullmatch(r"([al]?gpl)-(\d(?:\.\d)?)(\+?)", id, re.IGNORECASE)
    if match and (gnu := gnu_id(match[1].lower(), match[2], bool(match[3]))):
        return gnu
    if match := re.fullmatch(r"(gfdl-1\.[123])(\+?)", id, re.IGNORECASE):
        return f"{match[1].upper()}-{'or-later' if match[2] else 'only'}"
    if id.endswith("+") and (known := _BY_LOWER.get(id[:-1].lower())):
        return f"{known}+"
    if re.fullmatch(r"(DocumentRef-[\w.-]+:)?LicenseRef-[\w.-]+", id) or (
        not strict and re.fullmatch(r"[A-Za-z0-9][\w.+-]*", id)
    ):
        return id
    raise ValueError(f"{id} is no identifier")
