"""Our own torture cases for GB/T 28181 (S3): bodies of MESSAGE and headers of REGISTER, one row a case.

`status` is the SIP answer. `stored` is what the store must have learned, `()` for nothing at all: names of the
catalogue items, channels set on or off, device info.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.gb.harness import RECORDER

ME = RECORDER.value
XML = '<?xml version="1.0" encoding="GB2312"?>\r\n'
CHANNEL = "34020000001310000001"
OTHER = "34020000001310000002"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    body: bytes
    status: int = 200
    stored: tuple[str, ...] = ()
    offline: bool = False  # the device is shown offline afterwards


def xml(text: str, *, charset: str = "gb18030", head: str = XML) -> bytes:
    return (head + text).encode(charset)


def keepalive(inner: str = "", *, sn: str = "<SN>5</SN>", device: str = ME, status: str = "OK") -> str:
    named = f"<CmdType>Keepalive</CmdType>{sn}<DeviceID>{device}</DeviceID>"
    return f"<Notify>{named}<Status>{status}</Status>{inner}</Notify>"


def item(gb_id: str = CHANNEL, name: str = "n", more: str = "") -> str:
    return f"<Item><DeviceID>{gb_id}</DeviceID><Name>{name}</Name><Status>ON</Status>{more}</Item>"


def news(items: str, *, sum_num: str = "<SumNum>1</SumNum>", event: str = "") -> str:
    """A catalogue notification: stored without having been asked for."""
    return (
        f"<Notify><CmdType>Catalog</CmdType><SN>9</SN><DeviceID>{ME}</DeviceID>{sum_num}"
        f'<DeviceList Num="1">{items}</DeviceList>{event}</Notify>'
    )


def _bomb() -> str:
    lines = ['<!ENTITY a0 "lol">', *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))]
    return f"<!DOCTYPE x [{''.join(lines)}]>" + keepalive("<Info>&a9;</Info>")


def _hostile_xml() -> Iterable[Case]:
    external = '<!DOCTYPE x [<!ENTITY e SYSTEM "{}">]>' + keepalive("<Info>&e;</Info>")
    for name, target in (
        ("file", "file:///etc/passwd"),
        ("http", "http://192.0.2.1/x"),
        ("netdoc", "netdoc:///etc/passwd"),
        ("expect", "expect://id"),
        ("php", "php://filter/read=convert.base64-encode/resource=/etc/passwd"),
    ):
        yield Case(name=f"xxe by {name}", body=xml(external.format(target)), status=400)
    for name, text in (
        ("parameter entity", '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://192.0.2.1/d">%p;]>' + keepalive()),
        ("external subset", '<!DOCTYPE Notify SYSTEM "http://192.0.2.1/d.dtd">' + keepalive()),
        ("public subset", '<!DOCTYPE Notify PUBLIC "-//X//Y" "http://192.0.2.1/d.dtd">' + keepalive()),
        ("entity bomb", _bomb()),
        ("quadratic bomb", f'<!DOCTYPE x [<!ENTITY a "{"a" * 5_000}">]>' + keepalive(f"<Info>{'&a;' * 5_000}</Info>")),
        ("lower-case doctype", "<!doctype x>" + keepalive()),
        ("doctype after a comment", "<!-- -->\n<!DOCTYPE x>" + keepalive()),
        ("doctype with blanks", "<! DOCTYPE x>" + keepalive()),
        ("entity without doctype", '<!ENTITY e "x">' + keepalive()),
        ("notation", '<!DOCTYPE x [<!NOTATION n SYSTEM "n">]>' + keepalive()),
        ("attlist default", '<!DOCTYPE x [<!ATTLIST Notify a CDATA "x">]>' + keepalive()),
        ("doctype hidden by an illegal character", "<!DOC\x01TYPE x>" + keepalive()),
        ("depth 17", "<Notify>" + "<a>" * 17 + "</a>" * 17 + "</Notify>"),
        ("depth 10,000", "<Notify>" + "<a>" * 10_000 + "</a>" * 10_000 + "</Notify>"),
        ("never closed", "<Notify>" + "<a>" * 50),
        ("2,001 attributes", "<Notify " + " ".join(f'a{n}="1"' for n in range(2_001)) + "/>"),
        ("wrong root", "<Hello><CmdType>Keepalive</CmdType><SN>1</SN></Hello>"),
        ("no command", f"<Notify><SN>1</SN><DeviceID>{ME}</DeviceID></Notify>"),
        ("empty command", "<Notify><CmdType></CmdType><SN>1</SN></Notify>"),
        ("only a declaration", ""),
        ("text without markup", "hello"),
        ("lone bracket", "<"),
        ("root only", "<Notify/>"),
        ("html", "<html><body>404</body></html>"),
        ("json", '{"CmdType":"Keepalive"}'),
        ("soap", '<s:Envelope xmlns:s="x"><s:Body/></s:Envelope>'),
    ):
        yield Case(name=name, body=xml(text), status=400)
    yield Case(name="empty body", body=b"", status=400)
    yield Case(name="nothing but NUL", body=b"\0" * 64, status=400)
    yield Case(name="binary", body=bytes(range(256)) * 4, status=400)
    yield Case(name="doctype in utf-16", body=xml("<!DOCTYPE x>" + keepalive(), charset="utf-16"), status=400)


def _tolerated_xml() -> Iterable[Case]:
    """Dirt of real devices: taken for what it says."""
    for name, text in (
        ("text of utf-16", "".join(f"{char}\0" for char in keepalive())),
        ("comment inside", keepalive("<!-- x -->")),
        ("instruction inside", keepalive("<?php echo 1 ?>")),
        ("cdata", keepalive().replace("OK", "<![CDATA[OK]]>")),
        (
            "name space prefix",
            keepalive().replace("<Notify>", '<g:Notify xmlns:g="x">').replace("</Notify>", "</g:Notify>"),
        ),
        ("undeclared prefix", keepalive().replace("<Notify>", "<g:Notify>").replace("</Notify>", "</g:Notify>")),
        ("lower-case tags", keepalive().lower().replace("keepalive", "Keepalive").replace("ok", "OK")),
        ("closing tag in another case", keepalive().replace("</Status>", "</STATUS>")),
        ("lone ampersand", keepalive("<Info>A & B</Info>")),
        ("stray bracket", keepalive("<Info>a < b</Info>")),
        ("control characters", keepalive("<Info>a\x01\x02b</Info>")),
        ("text before the root", "xx" + keepalive()),
        ("rubbish after the root", keepalive() + "\0\0\0xx"),
        ("two roots", keepalive() + keepalive(status="ERROR")),
        (
            "xinclude is only text",
            keepalive('<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'),
        ),
        ("stylesheet is only text", '<?xml-stylesheet href="http://192.0.2.1/x"?>' + keepalive()),
        ("depth 15", keepalive("<a>" * 14 + "</a>" * 14)),
        ("two commands, the first counts", keepalive("<CmdType>Catalog</CmdType>")),
        ("two statuses", keepalive("<Status>ERROR</Status>")),
        ("no sequence number", keepalive(sn="")),
        ("negative sequence number", keepalive(sn="<SN>-5</SN>")),
        ("sequence number of 40 digits", keepalive(sn=f"<SN>{'9' * 40}</SN>")),
        ("sequence number in words", keepalive(sn="<SN>five</SN>")),
        ("no device", keepalive(device="")),
        ("device of somebody else", keepalive(device="34020000001180000099")),
        ("device of 10,000 characters", keepalive(device="9" * 10_000)),
        ("device with SQL", keepalive(device="1' OR '1'='1")),
        ("unknown element of 100,000 characters", keepalive(f"<Info>{'x' * 100_000}</Info>")),
        ("unknown notification", f"<Notify><CmdType>Weather</CmdType><SN>1</SN><DeviceID>{ME}</DeviceID></Notify>"),
        ("unknown with a hostile name", "<Notify><CmdType>a\r\nb' --</CmdType><SN>1</SN></Notify>"),
        ("query the wrong way", f"<Query><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>{ME}</DeviceID></Query>"),
        (
            "control the wrong way",
            f"<Control><CmdType>DeviceControl</CmdType><SN>1</SN><DeviceID>{ME}</DeviceID><TeleBoot>Boot</TeleBoot></Control>",
        ),
        (
            "answer nobody asked for",
            f"<Response><CmdType>Catalog</CmdType><SN>77</SN><DeviceID>{ME}</DeviceID><SumNum>1</SumNum><DeviceList>{item()}</DeviceList></Response>",
        ),
        (
            "info nobody asked for",
            f"<Response><CmdType>DeviceInfo</CmdType><SN>77</SN><DeviceID>{ME}</DeviceID><Manufacturer>x</Manufacturer></Response>",
        ),
    ):
        yield Case(name=name, body=xml(text))
    yield Case(
        name="answer without sequence number",
        body=xml(
            f"<Response><CmdType>Catalog</CmdType><DeviceID>{ME}</DeviceID><DeviceList>{item()}</DeviceList></Response>"
        ),
        status=400,
    )


def _charsets() -> Iterable[Case]:
    """What the store gets is what the device meant."""

    def named(name: str, raw: bytes, label: str, meant: str) -> Case:
        head = f'<?xml version="1.0" encoding="{label}"?>'.encode() if label else b""
        body = head + news(item(name="@@")).encode("ascii").replace(b"@@", raw)
        return Case(name=name, body=body, stored=(f"{CHANNEL}={meant}",))

    yield named("GB2312 as labelled", "东门".encode("gb2312"), "GB2312", "东门")
    yield named("four-byte character under GB2312", "𠮷野".encode("gb18030"), "GB2312", "𠮷野")
    yield named("GBK-only character under GB2312", "镕".encode("gbk"), "gb2312", "镕")
    yield named("GB18030 without a label", "北门".encode("gb18030"), "", "北门")
    yield named("UTF-8 as labelled", "南门".encode(), "UTF-8", "南门")
    yield named("GB18030 under a UTF-8 label", "西门".encode("gb18030"), "UTF-8", "西门")
    yield named("unknown label", "西门".encode("gb18030"), "x-user-defined", "西门")
    yield named("hostile label", "西门".encode("gb18030"), "../../etc", "西门")
    yield named("emoji", "门😀".encode("gb18030"), "GB18030", "门😀")
    yield named("euro sign of GB18030", b"\x80", "GB18030", "\ufffd")
    yield named("half a character at the end", "门".encode("gb18030") + b"\xb6", "GB18030", "门\ufffd")
    yield named("lone surrogate in UTF-8", b"a\xed\xa0\x80b", "UTF-8", "a頎\ufffdb")  # no UTF-8, so GB18030
    body = b"\xef\xbb\xbf" + xml(news(item(name="东")), charset="utf-8", head="")
    yield Case(name="UTF-8 with a mark", body=body, stored=(f"{CHANNEL}=东",))


INJECTIONS = {
    "sql": "'; DROP TABLE devices; --",
    "sql or": "' OR '1'='1",
    "sql escape": "\\'; SELECT pg_sleep(10); --",
    "ldap": "*)(uid=*))(|(uid=*",
    "html": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "template": "{{7*7}}${7*7}#{7*7}%n%s",
    "shell": "$(reboot)`id`;|&amp;",
    "path": "../../../../etc/passwd",
    "jndi": "${jndi:ldap://192.0.2.1/a}",
    "log line": "x\r\nlevel=error event=forged",
    "ansi": "\x1b[2J\x1b[31m",
    "direction": "\u202eevil\u2066",
    "zero width": "a\u200bb\u200dc",
    "nul": "a\x00b",
    "format": "%s%s%s%n{0}{name}",
    "quote": 'O\'Brien "x"',
}
#: What is left of them in a name: markup means its character, characters XML forbids are gone.
MEANT = {
    "html": "<script>alert(1)</script>",
    "shell": "$(reboot)`id`;|&",
    "log line": "x\nlevel=error event=forged",
    "ansi": "[2J[31m",
    "nul": "ab",
}


def _injections() -> Iterable[Case]:
    for name, text in INJECTIONS.items():
        meant = MEANT.get(name, text)
        yield Case(name=f"{name} in a name", body=xml(news(item(name=text))), stored=(f"{CHANNEL}={meant}",))
    for field in (
        "Manufacturer",
        "Model",
        "Owner",
        "CivilCode",
        "Address",
        "IPAddress",
        "Block",
        "CertNum",
        "Password",
    ):
        more = f"<{field}>{INJECTIONS['sql']}</{field}>"
        yield Case(name=f"sql in {field}", body=xml(news(item(more=more))), stored=(f"{CHANNEL}=n",))
    for field in ("Longitude", "Latitude", "Parental", "Secrecy", "Port", "RegisterWay", "SafetyWay"):
        more = f"<{field}>{INJECTIONS['sql']}</{field}>"
        yield Case(name=f"sql in the number {field}", body=xml(news(item(more=more))), stored=(f"{CHANNEL}=n",))
    for name, number in (("NaN", "NaN"), ("infinite", "1e999"), ("hexadecimal", "0x10"), ("huge", "9" * 400)):
        more = f"<Longitude>{number}</Longitude><Latitude>{number}</Latitude><Port>{number}</Port>"
        yield Case(name=f"{name} coordinates", body=xml(news(item(more=more))), stored=(f"{CHANNEL}=n",))


def _codes() -> Iterable[Case]:
    """Codes of items: 20 digits in the norm; other plain identifiers are kept, what is none names nothing."""
    for name, code in (
        ("18 digits", "340200000013100000"),
        ("22 digits", "3402000000131000000123"),
        ("letters", "camera-7_a.b~c+d"),
        ("a division", "3402"),
        ("64 characters", "a" * 64),
        ("blanks around", f"  {CHANNEL}  "),
        ("one character", "1"),
        ("a blank inside", "34020000001310000 001"),
        ("a line break inside", "34020000001310\n000001"),
    ):
        yield Case(name=f"code with {name}", body=xml(news(item(code))), stored=(f"{''.join(code.split())}=n",))
    for name, code in (
        ("nothing", ""),
        ("65 characters", "a" * 65),
        ("a quote", "3402000000131000000'"),
        ("full-width digits", "３４０２００００００１３１０００００１"),
        ("a path", "../../x"),
        ("a URI", "sip:34020000001310000001@x"),
        ("percent", "%33%34"),
        ("an at sign", "3402000000131000000@"),
        ("markup", "&lt;b&gt;"),
        ("a null sign", "34020000001310000001&#0;&#x110000;x'"),
    ):
        yield Case(name=f"code with {name}", body=xml(news(item(code))), stored=())


def _notifications() -> Iterable[Case]:
    on = (f"{CHANNEL}=n", f"{OTHER}=m")
    yield Case(
        name="same item twice, the last counts",
        body=xml(news(item() + item(name="again"))),
        stored=(f"{CHANNEL}=again",),
    )
    yield Case(name="more items than announced", body=xml(news(item() + item(OTHER, "m"))), stored=on)
    yield Case(
        name="sum of 2^63", body=xml(news(item() + item(OTHER, "m"), sum_num=f"<SumNum>{2**63}</SumNum>")), stored=on
    )
    yield Case(name="negative sum", body=xml(news(item() + item(OTHER, "m"), sum_num="<SumNum>-1</SumNum>")), stored=on)
    yield Case(name="two sums", body=xml(news(item(), sum_num="<SumNum>1</SumNum><SumNum>99</SumNum>")), stored=on[:1])
    yield Case(
        name="no list", body=xml(f"<Notify><CmdType>Catalog</CmdType><SN>9</SN><DeviceID>{ME}</DeviceID></Notify>")
    )
    yield Case(name="empty list", body=xml(news("")))
    yield Case(name="items outside the list", body=xml(news("").replace("</Notify>", f"{item()}</Notify>")))
    yield Case(name="item in an item", body=xml(news(item(more=item(OTHER, "m")))), stored=on[:1])
    yield Case(name="its own parent", body=xml(news(item(more=f"<ParentID>{CHANNEL}</ParentID>"))), stored=on[:1])
    yield Case(
        name="parents of a thousand",
        body=xml(news(item(more=f"<ParentID>{'/'.join([OTHER] * 1_000)}</ParentID>"))),
        stored=on[:1],
    )
    yield Case(name="unknown event", body=xml(news(item(more="<Event>EXPLODE</Event>"))), stored=on[:1])
    yield Case(name="item off", body=xml(news(item(more="<Event>OFF</Event>"))), stored=(f"{CHANNEL} off",))
    yield Case(
        name="item of 300 fields",
        body=xml(news(item(more="".join(f"<F{n}>x</F{n}>" for n in range(300))))),
        stored=on[:1],
    )


CASES: tuple[Case, ...] = (
    *_hostile_xml(),
    *_tolerated_xml(),
    *_charsets(),
    *_injections(),
    *_codes(),
    *_notifications(),
)
