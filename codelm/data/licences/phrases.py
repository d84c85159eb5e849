"""Licences by phrases of their own: a few words that a text has when it is that licence. No licence is copied here.

Texts and phrases are words in lower case without punctuation (`licence_texts.normalise`). Licences that differ by a
clause are told apart by that clause.
"""

_MIT_GRANT = (
    "permission is hereby granted free of charge to any person obtaining a copy of"
    "|permission is hereby granted free of charge to any person or organization obtaining a copy of"
)
_MIT_DEAL = "deal in the software without restriction|deal in the software without limitation"
_KHRONOS_DEAL = "deal in the materials without restriction"
_NCSA_DEAL = "deal with the software without restriction"
_MIT_NOTICE = "shall be included in all|must be included in all|shall be included in substantial"
_EXCEPT = "except as contained in this notice"
_SGI = "including the dates of first publication"
_GOOD = "shall be used for good not evil"

_REDISTRIBUTION = (
    "redistribution and use in source and binary forms|redistribution and use of this software"
    "|redistribution and use in source or binary forms|redistribution and use with or without modification"
    "|redistribution and use of source code|redistribution of source code and binary forms"
)
_SOURCE = "source code must retain|source must retain|works must retain|source code or documentation must retain"
_BINARY = "binary form must reproduce|binary form must include"
_ENDORSE = "endorse or promote|be used to endorse|used to endorse"
_ADVERTISING = "advertising materials mentioning features or use"
_BERKELEY = "university of california berkeley and its contributors"
_APACHE_NAME = "from this software may not be called"
_OPENSSL = "software developed by the openssl project"
_PATENT = "copyright holder and contributor hereby grants"
_CLEAR = "no express or implied licenses to any party s patent"
_SLEEPYCAT = "must be accompanied by information on how to obtain complete source code"

_USE_COPY = (
    "permission to use copy modify and or distribute|permission to use copy modify and distribute"
    "|permission to use copy modify distribute"
)
_ANY_PURPOSE = (
    "for any purpose with or without fee is hereby granted|for any purpose and without fee is hereby granted"
    "|for any purpose is hereby granted without fee|for any purpose without fee is hereby granted"
)
_IN_ALL_COPIES = "appear in all copies|appears in all copies|retained in all copies"
_SUPPORTING = "supporting documentation|advertising or publicity"
_CMU = "by obtaining using and or copying this software"

_ORIGIN = "origin of this software must not be misrepresented"
_ALTERED = "source versions must be plainly marked|altered versions must be plainly marked"
_PNG = "png reference library|libpng versions"


class Mark:
    """A licence's phrases: one of each of `all_of`, none of `none_of`; alternatives stand between `|`."""

    def __init__(self, licence: str, all_of: tuple[str, ...], none_of: tuple[str, ...] = ()) -> None:
        self.licence = licence
        self._all_of = tuple(phrases.split("|") for phrases in all_of)
        self._none_of = "|".join(none_of).split("|") if none_of else []

    def fits(self, words: str) -> bool:
        for phrases in self._all_of:
            for phrase in phrases:
                if phrase in words:
                    break
            else:
                return False
        return not any(phrase in words for phrase in self._none_of)


MARKS = {
    "obtaining a copy": (
        Mark("NCSA", (_MIT_GRANT, _NCSA_DEAL)),
        Mark("JSON", (_MIT_GRANT, _GOOD)),
        Mark("SGI-B-2.0", (_MIT_GRANT, _SGI)),
        Mark("MIT-Khronos-old", (_MIT_GRANT, _KHRONOS_DEAL)),
        Mark("BSL-1.0", ("obtaining a copy of the software and accompanying documentation covered by this",)),
        Mark("X11", (_MIT_GRANT, _MIT_DEAL, _MIT_NOTICE, _EXCEPT), (_SGI,)),
        Mark("MIT", (_MIT_GRANT, _MIT_DEAL, _MIT_NOTICE), (_EXCEPT, _GOOD, _SGI)),
        Mark("MIT-0", (_MIT_GRANT, _MIT_DEAL), (_MIT_NOTICE, _GOOD, _SGI, "appear in all copies")),
        Mark("ICU", (_MIT_GRANT, _MIT_DEAL, "appear in all copies", "supporting documentation"), (_MIT_NOTICE,)),
        Mark("Unicode-DFS-2016", ("unicode data files",), ("unicode license v3",)),
        Mark("Unicode-3.0", ("unicode license v3",)),
    ),
    "redistribution": (
        Mark("Apache-1.1", (_REDISTRIBUTION, _SOURCE, _ENDORSE, _APACHE_NAME), (_OPENSSL,)),
        Mark("Apache-1.0", (_REDISTRIBUTION, "developed by the apache group")),
        Mark("OpenSSL", (_REDISTRIBUTION, _OPENSSL)),
        Mark("Sleepycat", (_REDISTRIBUTION, _SLEEPYCAT)),
        Mark("bzip2-1.0.6", (_REDISTRIBUTION, _ORIGIN, _ALTERED, _ENDORSE)),
        Mark("BSD-2-Clause-Patent", (_REDISTRIBUTION, _SOURCE, _BINARY, _PATENT)),
        Mark("BSD-3-Clause-Clear", (_REDISTRIBUTION, _CLEAR)),
        Mark("BSD-4-Clause-UC", (_REDISTRIBUTION, _SOURCE, _BINARY, _ADVERTISING, _BERKELEY)),
        Mark("BSD-4-Clause", (_REDISTRIBUTION, _SOURCE, _BINARY, _ADVERTISING), (_OPENSSL, _APACHE_NAME, _BERKELEY)),
        Mark(
            "BSD-3-Clause", (_REDISTRIBUTION, _SOURCE, _BINARY, _ENDORSE), (_ADVERTISING, _CLEAR, _APACHE_NAME, _ORIGIN)
        ),
        Mark("BSD-2-Clause", (_REDISTRIBUTION, _SOURCE, _BINARY), (_ADVERTISING, _ENDORSE, _PATENT, _SLEEPYCAT)),
        Mark("BSD-1-Clause", (_REDISTRIBUTION, _SOURCE), (_BINARY, _ENDORSE, _ORIGIN, _SLEEPYCAT)),
    ),
    "permission": (
        Mark("curl", (_USE_COPY, _ANY_PURPOSE, "appear in all copies", _EXCEPT)),
        Mark("PostgreSQL", ("without fee and without a written agreement is hereby granted",)),
        Mark("MIT-Modern-Variant", ("hereby granted without written agreement and without license or royalty fees",)),
        Mark("0BSD", (_USE_COPY, _ANY_PURPOSE), ("provided that", _IN_ALL_COPIES)),
        Mark("MIT-CMU", (_USE_COPY, _CMU)),
        Mark("HPND", (_USE_COPY, _SUPPORTING), (_CMU, "without a written agreement", "python software foundation")),
        Mark("ISC", (_USE_COPY, _ANY_PURPOSE, _IN_ALL_COPIES), (_SUPPORTING, _EXCEPT)),
        Mark("FSFULLR", ("gives unlimited permission to copy and or distribute it with or without modifications",)),
        Mark("FSFUL", ("gives unlimited permission to copy distribute and modify it",)),
        Mark("TCL", ("hereby grant permission to use copy modify distribute and license this software",)),
    ),
    "licen": (
        Mark("RSA-MD", ("license to copy and use this software is granted provided that it is identified as",)),
        Mark("Jam", ("license is hereby granted to use this software and distribute it freely",)),
        Mark("WTFPL", ("do what the fuck you want to public license",)),
        Mark(
            "PSF-2.0",
            ("python software foundation license|psf license agreement|licensed to psf under",),
        ),
        Mark("CNRI-Python", ("cnri open source license agreement",), ("python software foundation license",)),
        Mark("UPL-1.0", ("universal permissive license",)),
        Mark("MS-PL", ("microsoft public license|license governs use of the accompanying software",), ("reciprocal",)),
        Mark("MS-RL", ("microsoft reciprocal license",)),
        Mark("FTL", ("freetype project license|freetype license",)),
        Mark("W3C", ("w3c software notice and license|w3c software and document",)),
        Mark("Vim", ("vim license",)),
        Mark("SSPL-1.0", ("server side public license",)),
        Mark("BlueOak-1.0.0", ("blue oak model license",)),
        Mark("Beerware", ("beer ware license|beerware license",)),
    ),
    "": (
        Mark("Libpng", (_PNG,)),
        Mark("Zlib", (_ORIGIN, _ALTERED), (_PNG, _REDISTRIBUTION)),
        Mark("PSF-2.0", ("same terms as python itself",)),
        Mark("Beerware", ("buy me a beer in return",)),
        Mark("IJG", ("independent jpeg group s software",)),
        Mark("Unlicense", ("free and unencumbered software released into the public domain|unlicense org",)),
        Mark(
            "CC0-1.0",
            (
                "cc0 1 0 universal|creative commons zero|publicdomain zero 1 0|cc0 1 0 public domain"
                "|affirmer hereby overtly fully permanently irrevocably",
            ),
        ),
        Mark("CC0-1.0", ("cc0 public domain",), ("licensed material",)),
        Mark("FSFAP", ("with or without modification are permitted in any medium without royalty",)),
        Mark("blessing", ("may you do good and not evil",)),
    ),
}
"""By a word that all licences of a group have: most texts lack most of them."""
