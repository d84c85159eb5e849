"""Keys and tokens that their makers gave a recognisable form: a prefix, an alphabet, a length.

Sources of the forms: the makers' documentation and the plugins of detect-secrets 1.5. A long word (16 characters and
more of `A-Za-z0-9_-+/=`) is searched as it stands (`WORDS`); a few forms reach over dots (`DOTTED`, `AFTER_DOT`) or
are shorter than a long word (`LITERALS`). All patterns are over bytes, one a character.
"""

import re

_TOKENS: dict[str, tuple[str, ...]] = {
    "aws": (r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[A-Z0-9]{16}",),
    "google": (r"AIza[\w-]{35}", r"GOCSPX-[\w-]{28}"),
    "azure": (r"(?<=AccountKey=)[A-Za-z0-9+/]{86}==", r"(?<=SharedAccessKey=)[A-Za-z0-9+/]{43}="),
    "github": (r"gh[pousr]_[A-Za-z0-9_]{36,255}", r"github_pat_\w{22,255}"),
    "gitlab": (
        r"gl(?:pat|dt|ft|soat|rt)-[\w-]{20,50}(?![\w-])",
        r"GR1348941[\w-]{20,50}(?![\w-])",
        r"glcbt-(?:[0-9a-fA-F]{2}_)?[\w-]{20,50}(?![\w-])",
        r"glimt-[\w-]{25}(?![\w-])",
        r"glptt-[\w-]{40}(?![\w-])",
        r"glagent-[\w-]{50,1024}+(?![\w-])",
        r"gloas-[\w-]{64}(?![\w-])",
    ),
    "slack": (
        r"[xX][oO][xX][a-zA-Z]-(?:\d{1,20}-){1,6}[A-Za-z0-9]+",
        r"xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+",
        r"(?<=hooks\.slack\.)com/services/T\w+/B\w+/\w+",
    ),
    "stripe": (r"[rs]k_(?:live|test)_[0-9a-zA-Z]{24,247}", r"whsec_[A-Za-z0-9+/]{32,}=*"),
    "twilio": (r"(?:AC|SK)[a-z0-9]{32}(?![A-Za-z0-9])",),
    "mailgun": (r"key-[0-9a-f]{32}(?![A-Za-z0-9])", r"[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![\w-])"),
    "mailchimp": (r"[0-9a-z]{32}-us[0-9]{1,2}(?![A-Za-z0-9])",),
    "npm": (r"npm_[A-Za-z0-9]{36}",),
    "pypi": (r"pypi-Ag(?:EIcHlwaS5vcmc|ENdGVzdC5weXBpLm9yZw)[\w-]{70,}",),
    "huggingface": (r"hf_[A-Za-z0-9]{34,}", r"api_org_[A-Za-z0-9]{34}"),
    "openai": (r"sk-[\w-]{0,80}T3BlbkFJ[\w-]{20,}", r"sk-(?:proj|svcacct|admin)-[\w-]{74,}"),
    "anthropic": (r"sk-ant-[a-z]+\d\d-[\w-]{80,}",),
    "telegram": (r"(?<=[0-9]{8}:)AA[\w-]{33}(?![\w-])",),
    "square": (r"sq0(?:csp|atp|idp)-[\w-]{22,43}", r"EAAA[\w-]{60}(?![\w-])"),
    "shopify": (r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",),
    "heroku": (r"HRKU-[\w-]{36,60}",),
    "digitalocean": (r"do[opr]_v1_[0-9a-f]{64}",),
    "softlayer": (r"(?<=soap/v3/)[a-z0-9]{64}", r"(?<=/v3\.1/)[a-z0-9]{64}"),
    "artifactory": (r"AKCp[A-Za-z0-9]{69}",),
    "databricks": (r"dapi[0-9a-f]{32}(?:-\d)?",),
    "grafana": (r"glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}", r"glc_[A-Za-z0-9+/]{32,}=*"),
    "atlassian": (r"ATATT3[\w-]{60,}=?[0-9A-F]*", r"ATCTT3[\w-]{60,}=?[0-9A-F]*"),
    "docker": (r"dckr_[po]at_[\w-]{27,}",),
    "rubygems": (r"rubygems_[0-9a-f]{48}",),
    "newrelic": (r"NRAK-[A-Z0-9]{27}", r"NRII-[\w-]{32}"),
    "linear": (r"lin_api_[A-Za-z0-9]{40}",),
    "postman": (r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}",),
    "facebook": (r"EAACEdEose0cBA[0-9A-Za-z]+",),
    "age": (r"AGE-SECRET-KEY-1[0-9A-Z]{58}",),
}
_AFTER_DOT = {
    "sendgrid": (r"(?<=SG\.)[\w-]{22}\.[\w-]{43}",),
    "google": (r"(?<=ya29\.)[\w-]{20,}",),
    "vault": (r"(?<=hv[sbr]\.)[\w-]{24,}", r"(?<=atlasv1\.)[\w-]{60,}"),
    "doppler": (r"(?<=dp\.pt\.)[A-Za-z0-9]{40,}",),
}
_DOTTED = {
    "jwt": (r"eyJ[\w-]+=*\.[\w-]+=*(?:\.[\w+/=-]*){0,3}",),
    "discord": (r"[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}",),
    "gitlab": (r"gl[a-z]{2,6}-[\w-]{27,300}\.[0-9a-z]{2}\.[0-9a-z]{9}",),
}
LITERALS = (
    ("azure", re.compile(rb"sig=[A-Za-z0-9%]{43,63}%3[dD]")),
    ("azure", re.compile(rb"8Q~[\w~.-]{31,34}")),
    ("artifactory", re.compile(rb"AKC(?<![^\s=:\"']AKC)[A-Za-z0-9]{10,}(?=[\s\"']|\Z)")),
    (
        "artifactory",
        re.compile(rb"AP[0-9A-F](?<![^\s=:\"']AP.)(?:(?<=[0-9])|(?=[A-Za-z]*[0-9]))[A-Za-z0-9]{8,}(?=[\s\"']|\Z)"),
    ),
)
"""Shorter than a long word; each begins with letters that a search finds fast."""


def _either(patterns: dict[str, tuple[str, ...]], before: str = "") -> re.Pattern[bytes]:
    kinds = (f"(?P<{kind}>{'|'.join(forms)})" for kind, forms in patterns.items())
    return re.compile((before + f"(?:{'|'.join(kinds)})").encode())


WORDS = _either(_TOKENS, before="(?<![A-Za-z0-9])")
AFTER_DOT = _either(_AFTER_DOT)
DOTTED = _either(_DOTTED)
DOTTED_HEAD = re.compile(rb"(?<![\w-])eyJ[\w-]+=*\Z|[MNO][\w-]{23,25}\Z|(?<![\w-])gl[a-z]{2,6}-[\w-]{27,300}\Z")
