"""Secrets and personal data: what is found, what is kept, what redaction leaves.

The secrets here are drawn at random from the forms their makers document; none was ever valid. Recall and false
alarms on real code are measured by benchmarks/scan_secrets.py.
"""

import ast
import ipaddress
import random
import string
import time
from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.config.cleaning import SecretKind, SecretsSection
from codelm.data.secrets.patterns import AFTER_DOT, DOTTED, LITERALS, WORDS
from codelm.data.secrets.scanner import Finding, Scanner, redact
from codelm.data.secrets.values import is_password, is_random, pair_cost

SCANNER = Scanner(SecretsSection())
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
URL_SAFE = ALNUM + "-_"


def draw(alphabet: str, count: int, seed: int = 0) -> str:
    return "".join(random.Random(f"{seed} {alphabet} {count}").choices(alphabet, k=count))


def found(text: str) -> list[tuple[str, str]]:
    """Kind and text of each finding."""
    return [(finding.kind, text[finding.start : finding.end]) for finding in SCANNER.scan(text)]


def scrubbed(text: str) -> str:
    text_or_none = SCANNER.apply(text).text
    assert text_or_none is not None
    return text_or_none


TOKENS = {
    "aws": "AKIA" + draw(string.ascii_uppercase, 16),
    "google": "AIza" + draw(URL_SAFE, 35),
    "github": "ghp_" + draw(ALNUM, 36),
    "gitlab": "glpat-" + draw(ALNUM, 20),
    "slack": f"xoxb-{draw('123456789', 12)}-{draw(ALNUM, 24)}",
    "stripe": "sk_live_" + draw(ALNUM, 24),
    "twilio": "SK" + draw(HEX, 32),
    "mailgun": "key-" + draw(HEX, 32),
    "mailchimp": draw(HEX, 32) + "-us12",
    "npm": "npm_" + draw(ALNUM, 36),
    "pypi": "pypi-AgEIcHlwaS5vcmc" + draw(URL_SAFE, 150),
    "huggingface": "hf_" + draw(string.ascii_letters, 34),
    "openai": f"sk-proj-{draw(ALNUM, 20)}T3BlbkFJ{draw(ALNUM, 20)}",
    "anthropic": f"sk-ant-api03-{draw(URL_SAFE, 93)}AA",
    "discord": f"M{draw(ALNUM, 23)}.{draw(ALNUM, 6)}.{draw(ALNUM, 27)}",
    "square": "sq0csp-" + draw(ALNUM, 43),
    "shopify": "shpat_" + draw(HEX, 32),
    "digitalocean": "dop_v1_" + draw(HEX, 64),
    "artifactory": "AKCp" + draw(ALNUM, 69),
}


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("line", ['x = "{}"', "export X={}", "curl -H 'Authorization: {}' \\", "{}"])
def test_a_token_of_a_known_form_is_found_wherever_it_stands(kind: str, line: str) -> None:
    assert found(line.format(TOKENS[kind])) == [(kind, TOKENS[kind])]


def test_every_kind_has_a_name_in_the_configuration() -> None:
    kinds = {kind for kind, _ in LITERALS}.union(*(pattern.groupindex for pattern in (WORDS, DOTTED, AFTER_DOT)))
    assert kinds < set(get_args(SecretKind))


def test_tokens_with_a_public_part_lose_the_secret_part() -> None:
    signature, account = draw(ALNUM, 43), draw(ALNUM + "+/", 86) + "=="
    assert scrubbed(f"SG.{draw(ALNUM, 22)}.{draw(URL_SAFE, 43)}") == "SG.<KEY>"
    assert scrubbed(f"AccountName=a;AccountKey={account};Suffix=x") == "AccountName=a;AccountKey=<KEY>;Suffix=x"
    assert scrubbed(f"https://api.telegram.org/bot110201543:AA{draw(ALNUM, 33)}/getMe").endswith(
        "/bot110201543:<KEY>/getMe"
    )
    assert found(f"https://x.blob.core.windows.net/c?sp=r&sig={signature}%3D") == [("azure", f"sig={signature}%3D")]


def test_a_web_token_needs_a_json_header() -> None:
    body, signature = draw(ALNUM, 40), draw(URL_SAFE, 43)
    assert found(f'"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{body}.{signature}"')[0][0] == "jwt"
    assert found(f"eyJ{draw(ALNUM, 30)}.{body}.{signature}") == []


PASSWORD = "t7#Vq" + draw(ALNUM, 9)


@pytest.mark.parametrize(
    "line",
    [
        'password = "{}"',
        "self.db_password: str = '{}'",
        "{{'password': '{}'}}",
        'String dbPassword = "{}";',
        'props.put("db.password", "{}");',
        'builder.setPassword("{}")',
        "const password: string = `{}`;",
        '<Login password="{}" />',
        "<login :password=\"'{}'\"/>",
        "$config['password'] = '{}';",
        "define('DB_PASSWORD', '{}');",
        ":password => '{}',",
        'ENV["DB_PASSWORD"] ||= "{}"',
        'password := "{}"',
        'var password string = "{}"',
        'let password = String::from("{}");',
        'const PASSWORD: &str = "{}";',
        'char password[25] = "{}";',
        '#define PASSWORD "{}"',
        'std::string password("{}");',
        'auto password{{"{}"}};',
        "export DB_PASSWORD={}",
        "PASSWORD='{}'",
        "CREATE USER app IDENTIFIED BY '{}';",
        "ALTER ROLE app WITH PASSWORD '{}';",
        'password <- "{}"',
        'Sys.setenv(PGPASSWORD = "{}")',
        '<input name="password" value="{}">',
        "password: {}",
        'if ("{}" == password) {{',
        'if (password !== "{}") {{',
        '    "password = \\"{}\\"\\n",',
        "Server=db;Database=app;User Id=sa;Password={};Encrypt=true",
    ],
)
def test_a_password_is_found_in_the_assignments_of_every_language(line: str) -> None:
    text = line.format(PASSWORD)
    assert found(text) == [("password", PASSWORD)]
    assert scrubbed(text) == line.format("<PASSWORD>")


@pytest.mark.parametrize(
    "line",
    [
        "password = get_password()",
        'password = os.environ["DB_PASSWORD"]',
        'password = ""',
        'password = "password"',
        'password = "your-password-1"',
        'password = "${DB_PASSWORD}"',
        'password = "{{ vault.password }}"',
        'password = "%s"',
        'password: "Please enter your password!"',
        "password: string;",
        "password = None",
        'type="password" name="confirm_2"',
        'token = "identifier"',
        'if token == "NUMBER2":',
        'key = "application/x-www-form-urlencoded; charset=utf-8"',
        "bypass('newdomain.com:1234')",
        "You can pass 'rd.break=hook1' to it",
        '"qunit-pass"),a&&a.parentNode.removeChild(a),s2&&(S("x")',
        "for token in tokenize(text1): yield token",
    ],
)
def test_names_templates_and_prose_are_no_passwords(line: str) -> None:
    assert found(line) == []


def test_keys_are_known_by_their_name_and_their_looks() -> None:
    key = draw(ALNUM, 32)
    assert found(f'api_key = "{key}"') == [("secret", key)]
    assert found(f"MAPS_API_KEY={key}") == [("secret", key)]
    assert found(f'--api-key "{key}"') == [("secret", key)]
    assert found(f'heroku_api_key: "{draw(HEX, 8)}-1d2b-4c3d-8e4f-{draw(HEX, 12)}"')[0][0] == "heroku"
    assert found('sort_key = "created_at_descending_order"') == []


def test_random_strings_in_quotes_are_found_but_not_hashes_ids_and_data() -> None:
    key, digest = draw(ALNUM, 40), draw(HEX, 64)
    assert found(f"connect('{key}')") == [("random_string", key)]
    for kept in (
        f'sha256 = "{digest}"',
        f'"integrity": "sha512-{draw(ALNUM, 86)}=="',
        f'commit = "{draw(HEX, 40)}"',
        f'"id": "{key}"',
        'uuid = "6fa459ea-ee8a-3ca4-894e-db77e160355e"',
        'x = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"',
        'x = "0123456789abcdef0123456789abcdef"',
        'x = "getElementsByTagNameAndClassName2"',
        'x = "src/main/java/com/acme/Utf8Decoder2"',
        f'src="data:image/png;base64,{draw(ALNUM, 300)}"',
        f'blob = "{draw(ALNUM, 300)}"',
        f'"subnet-{draw(HEX, 17)}"',
    ):
        assert found(kept) == []


PEM = f"MII{draw(ALNUM, 61)}\n{draw(ALNUM, 64, 1)}\n{draw(ALNUM, 20, 2)}=="


def test_the_encoded_part_of_a_private_key_goes_and_its_frame_stays() -> None:
    for kind in ("RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"):
        text = f"a\n-----BEGIN {kind}-----\n{PEM}\n-----END {kind}-----\nb"
        assert scrubbed(text) == f"a\n-----BEGIN {kind}-----\n<KEY>\n-----END {kind}-----\nb"


def test_a_private_key_in_source_leaves_source_that_parses() -> None:
    rows = "\n".join(f'    "{line}\\n"' for line in PEM.split("\n"))
    text = f'KEY = (\n    "-----BEGIN RSA PRIVATE KEY-----\\n"\n{rows}\n    "-----END RSA PRIVATE KEY-----"\n)\n'
    new = scrubbed(text)
    ast.parse(new)
    assert ast.literal_eval(new.split("=", 1)[1].strip()).split("\n")[1] == "<KEY>"


def test_a_private_key_cut_off_loses_what_is_there() -> None:
    assert draw(ALNUM, 64, 1) not in scrubbed(f"-----BEGIN RSA PRIVATE KEY-----\n{PEM}")


def test_code_about_private_keys_stays() -> None:
    text = 'if "-----BEGIN PRIVATE KEY-----" in text and text.endswith("-----END PRIVATE KEY-----"):'
    public = f"-----BEGIN CERTIFICATE-----\n{PEM}\n-----END CERTIFICATE-----"
    assert found(text) == found(public) == []


def test_urls_lose_their_password() -> None:
    assert (
        scrubbed("git clone https://joe:hunter2@host.acme.com/x.git")
        == "git clone https://joe:<PASSWORD>@host.acme.com/x.git"
    )
    assert scrubbed('"redis://:s3cret@cache:6379/0"') == '"redis://:<PASSWORD>@cache:6379/0"'
    for kept in ("http://localhost:5000/<%= @x %>", "https://user:${PW}@acme.com", "ssh://git@acme.com/x"):
        assert found(kept) == []


@pytest.mark.parametrize("address", ["joe@acme.com", "Joe.Doe+x@mail.uni-bonn.de", "j_d@a.b.co.uk"])
def test_addresses_of_people_are_redacted(address: str) -> None:
    assert scrubbed(f"# Copyright 2020 Jané Doe <{address}>.") == "# Copyright 2020 Jané Doe <<EMAIL>>."


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com",
        "x@foo.example.org",
        "root@localhost",
        "git@github.com:a/b.git",
        "icon@2x.png",
        "noreply@github.com",
        "@property",
        "lodash@4.17.21",
        "a@b.transpose()",
        "W@x",
        "@angular/core@^12.0.0",
    ],
)
def test_addresses_of_nobody_stay(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "address", ["133.133.133.133", "52.95.110.1", "2a00:1450:4001:81b::200e", "2600:1f18:1:2:3:4:5:6"]
)
def test_global_ip_addresses_are_redacted_without_their_ports(address: str) -> None:
    assert ipaddress.ip_address(address).is_global
    assert scrubbed(f'host = "{address}"') == 'host = "<IP_ADDRESS>"'
    assert scrubbed("ping 52.95.110.1:8080.") == "ping <IP_ADDRESS>:8080."


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "169.254.169.254",
        "192.0.2.7",
        "0.0.0.0",
        "255.255.255.0",
        "224.0.0.1",
        "8.8.8.8",
        "::1",
        "fe80::1ff:fe23:4567:890a",
        "2001:db8::1:2:3",
        "1.2.3.04",
        "1.2.3.4.5.6",
        "256.1.1.1",
        "v10.20.30.40",
        "1.2.3.4",
        "Version 92.11.43.77",
        "jquery/11.7.12.33/jquery.js",
        "00:1b:44:11:3a:b7",
        "12:30:45",
        "std::vector::size",
        'd="M61 8.61a8.93 8.93 0 00-9 8.53 0 001.15 4.11.84.84 0 01"',
    ],
)
def test_private_reserved_and_documentation_addresses_and_versions_stay(text: str) -> None:
    assert found(text) == []


def test_offsets_are_characters_and_other_characters_survive() -> None:
    text = f'ключ🔑 = "{TOKENS["github"]}"  # 密码 é\r\n名前 = "joe@acme.com"\u2028'
    assert found(text) == [("github", TOKENS["github"]), ("email", "joe@acme.com")]
    assert scrubbed(text) == 'ключ🔑 = "<KEY>"  # 密码 é\r\n名前 = "<EMAIL>"\u2028'
    assert scrubbed("\ud800 joe@acme.com") == "\ud800 <EMAIL>"


def test_findings_that_overlap_become_one_that_covers_all() -> None:
    text = f'password = "x{PASSWORD}joe@acme.com"'
    assert scrubbed(text) == 'password = "<PASSWORD>"'
    key = TOKENS["stripe"]
    assert found(f'secret_key = "{key}"') == [("stripe", key)]


def section(**settings: object) -> SecretsSection:
    return SecretsSection.model_validate(settings)


BOTH = f'password = "{PASSWORD}"  # joe@acme.com'


def test_each_policy() -> None:
    redacted = Scanner(section()).apply(BOTH)
    assert (redacted.text, dict(redacted.counts)) == ('password = "<PASSWORD>"  # <EMAIL>', {"password": 1, "email": 1})
    report = Scanner(section(policy="report", personal="report")).apply(BOTH)
    assert (report.text, dict(report.counts)) == (BOTH, {"password": 1, "email": 1})
    dropped = Scanner(section(policy="drop-file")).apply(BOTH)
    assert (dropped.text, dict(dropped.counts)) == (None, {"password": 1, "email": 1})
    off = Scanner(section(policy="off", personal="off")).apply(BOTH)
    assert (off.text, dict(off.counts)) == (BOTH, {})


def test_personal_data_alone_does_not_drop_a_file_of_secrets_policy() -> None:
    assert Scanner(section(policy="drop-file")).apply("# joe@acme.com").text == "# <EMAIL>"
    assert Scanner(section(personal="drop-file")).apply("# joe@acme.com").text is None


def test_ignored_kinds_are_left() -> None:
    outcome = Scanner(section(ignore=["email"])).apply(BOTH)
    assert (outcome.text, dict(outcome.counts)) == ('password = "<PASSWORD>"  # joe@acme.com', {"password": 1})


def test_redact_replaces_by_kind() -> None:
    assert redact("abc def", [Finding("ip", 0, 3), Finding("aws", 4, 7)]) == "<IP_ADDRESS> <KEY>"


PIECES = st.sampled_from(
    [
        *TOKENS.values(),
        PASSWORD,
        PEM,
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "joe@acme.com",
        "52.1.2.3",
        "password",
        "secret",
        "token",
        "api_key",
        "sha256",
        "://a:",
        "@",
        "=",
        ": ",
        '"',
        "'",
        "\\",
        "\n",
        " ",
        "(",
        ",",
        "==",
        "<KEY>",
        "é",
        "🔑",
        draw(ALNUM, 40),
        draw(HEX, 40),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = SCANNER.apply(text)
    assert once.text is not None
    twice = SCANNER.apply(once.text)
    assert (twice.text, dict(twice.counts)) == (once.text, {})
    for token in TOKENS.values():
        assert f" {token} " not in f" {once.text} "


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_scanned(text: str) -> None:
    findings = SCANNER.scan(text)
    assert all(0 <= f.start < f.end <= len(text) for f in findings)
    assert all(a.end <= b.start for a, b in pairwise(findings))


ATTACKS: dict[str, Callable[[int], str]] = {
    "one word": lambda size: "a" * size,
    "digits": lambda size: "1" * size,
    "rulers": lambda size: "=" * size,
    "spaces after a name": lambda size: "password" + " " * size,
    "names": lambda size: "password" * (size // 8),
    "assignments": lambda size: "pass=" * (size // 5),
    "open quotes": lambda size: 'secret="' * (size // 8),
    "quotes": lambda size: '"' * size,
    "at signs": lambda size: "a@" * (size // 2),
    "dotted numbers": lambda size: "1.1.1.1 " * (size // 8),
    "dots": lambda size: "1." * (size // 2),
    "coordinates": lambda size: ("1" * 39 + "=52.1.2.3 ") * (size // 49),
    "colons": lambda size: "2a00:" * (size // 5),
    "web tokens": lambda size: "eyJ" * (size // 3) + "+x.",
    "dotted web tokens": lambda size: ("eyJ" + "a" * 16 + ".") * (size // 20),
    "prefixes": lambda size: "sk-" * (size // 3),
    "long prefixes": lambda size: "glagent-" * (size // 8) + "/",
    "slack": lambda size: "xoxb-1-" * (size // 7),
    "frames": lambda size: "-----BEGIN PRIVATE KEY-----" * (size // 27),
    "urls": lambda size: "://a:" * (size // 5) + "@",
    "random strings": lambda size: f'"{draw(ALNUM, 24)}", ' * (size // 28),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_time_is_linear_whatever_the_text(name: str) -> None:
    started = time.process_time()
    SCANNER.scan(ATTACKS[name](100_000))
    # Quadratic behaviour would take minutes; the slowest takes 0.2 s.
    assert time.process_time() - started < 2


def test_random_strings_cost_more_than_words() -> None:
    words = ["getElementsByTagName", "application_settings", "internationalization", "MaximumLikelihoodEstimator"]
    assert max(pair_cost(word.encode()) for word in words) < 4.8
    drawn = [draw(ALNUM, 20, seed).encode() for seed in range(500)]
    assert sum(map(is_random, drawn)) > 0.97 * len(drawn)
    assert not any(is_random(word.encode()) for word in words)


def test_what_counts_as_a_password() -> None:
    assert all(map(is_password, [b"hunter2345", b"Tr0ub4dor&3", b"s3cr3t!x9", b"P@55w0rd!"]))
    assert not any(
        map(is_password, [b"hello", b"swordfish", b"utf-8", b"changeme123", b"two words1!", b"1.3.6.1.4", b"/etc/x1y2"])
    )
