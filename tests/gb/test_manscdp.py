"""MANSCDP bodies: charsets, dirt, hardening, every message class out and back in (annex A)."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipserver.protocol import gbtime, manscdp
from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp import (
    Alarm,
    AlarmInfo,
    AlarmQuery,
    AlarmTypeParameter,
    BasicParam,
    CatalogInfo,
    CatalogItem,
    CatalogQuery,
    CatalogResponse,
    Charset,
    DeviceConfig,
    DeviceControl,
    DeviceInfoResponse,
    DeviceStatusResponse,
    HomePosition,
    Keepalive,
    Message,
    MobilePosition,
    PresetQuery,
    PresetResponse,
    PtzPrecise,
    RecordInfoQuery,
    RecordInfoResponse,
    RecordItem,
    Unknown,
)
from sipserver.protocol.manscdp_fields import MAX_TEXT
from sipserver.protocol.manscdp_xml import MAX_BYTES, decode_text

CAMERA = GbId("34020000001320000001")
CHANNEL = GbId("34020000001310000011")
NOON = 1_700_000_000.0


def parsed(text: str, charset: str = "gb18030") -> Message | Unknown:
    return manscdp.parse(text.encode(charset))


def info(inner: str) -> DeviceInfoResponse:
    message = parsed(f"<Response><CmdType>DeviceInfo</CmdType><SN>3</SN>{inner}</Response>")
    assert isinstance(message, DeviceInfoResponse)
    return message


def catalogue(inner: str) -> CatalogItem:
    message = parsed(
        f"<?xml version='1.0'?><Response><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>{CAMERA.value}</DeviceID>"
        f"<SumNum>1</SumNum><DeviceList Num='1'><Item>{inner}</Item></DeviceList></Response>"
    )
    assert isinstance(message, CatalogResponse)
    assert len(message.items) == 1
    return message.items[0]


# charset


@pytest.mark.parametrize(
    ("label", "charset", "mark"),
    [
        ("GB2312", "gb18030", b""),
        ("UTF-8", "utf-8", b""),
        ("utf8", "utf-8", b""),
        ("GB2312", "utf-8", b"\xef\xbb\xbf"),
        ("UTF-8", "gb18030", b""),
        (None, "gb18030", b""),
        ("ISO-8859-1", "gb18030", b""),
    ],
)
@pytest.mark.parametrize("name", ["东门摄像机", "㙍䶮路口"])
def test_charset_is_found_whatever_the_label_says(label: str | None, charset: str, mark: bytes, name: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{label}"?>' if label else ""
    text = f"{declaration}<Response><CmdType>DeviceInfo</CmdType><SN>1</SN><DeviceName>{name}</DeviceName></Response>"
    message = manscdp.parse(mark + text.encode(charset))
    assert isinstance(message, DeviceInfoResponse)
    assert message.name == name


def test_undecodable_bytes_never_raise() -> None:
    assert "\ufffd" in decode_text(b"<a>\xff\xff\xff</a>")
    assert decode_text("中".encode() + b"<a/>") != ""


@pytest.mark.parametrize("charset", ["GB18030", "GB2312", "UTF-8"])
def test_written_charset_is_labelled_and_reads_back(charset: Charset) -> None:
    message = DeviceInfoResponse(sn=1, device_id=CAMERA, name="㙍䶮 <&> 路口")
    body = manscdp.build(message, charset=charset)
    assert body.startswith(f'<?xml version="1.0" encoding="{charset}"?>'.encode())
    assert manscdp.parse(body) == message


# dirt


def test_XML_04_any_order() -> None:
    message = info(
        f"<Model>M</Model><Result>OK</Result><DeviceID>{CAMERA.value}</DeviceID><Manufacturer>H</Manufacturer>"
    )
    assert (message.model, message.manufacturer, message.device_id) == ("M", "H", CAMERA)


def test_XML_05_unescaped_ampersand_stray_angle_nul_and_control() -> None:
    item = catalogue(
        f"<DeviceID>{CHANNEL.value}</DeviceID><Name>A&B < C\0\x07</Name><Address>x<1 && y &nbsp; &amp; &lt;</Address>"
    )
    assert item.device_id == CHANNEL
    assert item.name == "A&B < C"
    assert item.address == "x<1 && y &nbsp; & <"


@pytest.mark.parametrize("reference", ["&#0;", "&#x1F;", "&#xFFFF;", "&#1114112;", "&#xD800;"])
def test_XML_05_forbidden_references_are_dropped(reference: str) -> None:
    assert info(f"<Model>a{reference}b</Model>").model == "ab"


def test_XML_05_escaped_markup_stays_text() -> None:
    assert info("<Model>&#60;b&#62; &#38;amp; \0</Model>").model == "<b> &amp;"


@pytest.mark.parametrize(
    "wrapping",
    [
        "\r\n\r\n{}",
        "\ufeff{}",
        "<?xml version='1.0'?><?xml version='1.0'?>{}",
        "{}\0\0\0garbage",
        "{}</Response>",
        "junk{}",
        "<!-- note -->{}",
    ],
)
def test_XML_05_what_stands_round_the_root_is_cut(wrapping: str) -> None:
    body = "<Response><CmdType>DeviceInfo</CmdType><SN>5</SN><Model>M</Model></Response>"
    message = parsed(wrapping.format(body))
    assert isinstance(message, DeviceInfoResponse)
    assert (message.sn, message.model) == (5, "M")


def test_XML_06_tag_case() -> None:
    message = parsed(
        f"<response><cmdType>catalog</cmdType><sn>4</sn><DeviceId>{CAMERA.value}</DeviceId><sumNum>1</sumNum>"
        f"<devicelist num='1'><item><deviceid>{CHANNEL.value}</deviceid></item></devicelist></response>"
    )
    assert message == CatalogResponse(sn=4, device_id=CAMERA, sum_num=1, items=(CatalogItem(device_id=CHANNEL),))


def test_XML_06_opening_and_closing_tags_in_different_case_and_prefix() -> None:
    message = parsed("<tg:Response><CmdType>DeviceInfo</cmdtype><SN>4</sn><tg:Model>M</tg:Model></tg:Response>")
    assert isinstance(message, DeviceInfoResponse)
    assert (message.sn, message.model) == (4, "M")


def test_attribute_form() -> None:
    message = parsed(f"<Query CmdType='Catalog' SN='7' DeviceID='{CAMERA.value}'/>")
    assert message == CatalogQuery(sn=7, device_id=CAMERA)


def test_device_id_with_blanks() -> None:
    assert parsed(f"<Query><CmdType> Catalog </CmdType><SN> 7 </SN><DeviceID> {CAMERA.value}\n</DeviceID></Query>") == (
        CatalogQuery(sn=7, device_id=CAMERA)
    )


@pytest.mark.parametrize(
    ("text", "online"),
    [("ON", True), ("ONLINE", True), ("OK", True), ("1", True), ("OFF", False), ("OFFILE", False), ("offline", False),
     ("ERROR", False), ("?", None), ("", None)],
)  # fmt: skip
def test_XML_12_two_valued_elements_are_interchangeable(text: str, online: bool | None) -> None:
    assert catalogue(f"<DeviceID>{CHANNEL.value}</DeviceID><Status>{text}</Status>").online is online


def test_CAT_12_parents_and_odd_values_of_items() -> None:
    item = catalogue(
        f"<DeviceID>{CHANNEL.value}</DeviceID><Parental>65535</Parental><ParentID>{CAMERA.value}/{CHANNEL.value}/"
        f"</ParentID><Port>none</Port><Longitude>nan</Longitude><Latitude>1e400</Latitude><CivilCode>3402000000</CivilCode>"
    )
    assert item.parental is True
    assert item.parents == (CAMERA, CHANNEL)
    assert (item.port, item.longitude, item.latitude, item.division) == (None, None, None, None)
    assert catalogue("<DeviceID>a b!</DeviceID><Name>n</Name>").device_id is None
    assert catalogue(f"<DeviceID>{CHANNEL.value}</DeviceID><CivilCode>34020000</CivilCode>").division == "3402"


@pytest.mark.parametrize(
    "text",
    [
        "2023-11-15T06:13:20",
        "2023-11-15 06:13:20",
        "2023-11-15T06:13:20.000",
        "2023-11-14T22:13:20Z",
        "2023-11-15T06:13:20+08:00",
        "2023-11-15T06:13:20+0800",
        "2023/11/15 6:13:20",
    ],
)
def test_XML_11_time_variants(text: str) -> None:
    message = parsed(f"<Response><CmdType>DeviceStatus</CmdType><SN>1</SN><DeviceTime>{text}</DeviceTime></Response>")
    assert isinstance(message, DeviceStatusResponse)
    assert message.device_time == NOON


@pytest.mark.parametrize(
    ("text", "moment"),
    [("2024-1-2 3:4:5", 1_704_135_845.0), ("2023-11-15T06:13:20.250", NOON + 0.25), ("2023-13-01T00:00:00", None),
     ("2023-11-15T06:13:20+99:99", None), ("yesterday", None), ("", None), ("0000-01-01", None)],
)  # fmt: skip
def test_XML_11_time_parser(text: str, moment: float | None) -> None:
    assert gbtime.parse(text) == moment
    if moment is not None:
        assert gbtime.parse(gbtime.format_date_header(moment)) == moment


# hardening


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<!DOCTYPE Notify SYSTEM 'http://192.0.2.1/x.dtd'><Notify/>", "xml_dtd_forbidden"),
        (b"<?xml version='1.0'?>\n<!doctype a><Notify/>", "xml_dtd_forbidden"),
        (b"<!\0DOCTYPE a [<!ENTITY x 'y'>]><Notify>&x;</Notify>", "xml_dtd_forbidden"),
        ("<!DOCTYPE a><Notify/>".encode("utf-16"), "xml_dtd_forbidden"),
        (b"<!ENTITY lol 'lol'><Notify/>", "xml_dtd_forbidden"),
        (b"<a>" * 1000 + b"</a>" * 1000, "xml_too_deep"),
        (b"<a>" * 100_000, "xml_malformed"),
        (b"<Notify>" + b"<a/>" * 1_300_000 + b"</Notify>", "xml_too_many_tags"),
        (b"<Notify " + b"".join(b"a%d='' " % n for n in range(5000)) + b"/>", "xml_too_many_attributes"),
        (b" " * (MAX_BYTES + 1), "xml_too_large"),
        (b"<" * 1_000_000, "xml_malformed"),
        (b"<a b='" * 1_000, "xml_malformed"),
        (b"&#" * 1_000_000, "xml_malformed"),
        (b"<?" * 1_000_000, "xml_malformed"),
        (b"<a" + b" " * 5_000_000, "xml_malformed"),
        (b"", "xml_malformed"),
        (b"<Notify/>", "manscdp_without_cmd_type"),
        (b"<Notify><CmdType/></Notify>", "manscdp_without_cmd_type"),
        (b"<Envelope><CmdType>Keepalive</CmdType></Envelope>", "manscdp_root_unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_XML_07_hostile_bodies_are_refused_quickly(body: bytes, reason: str) -> None:
    began = time.perf_counter()
    with pytest.raises(RemoteProtocolError) as refused:
        manscdp.parse(body)
    assert (refused.value.reason, refused.value.status) == (reason, 400)
    assert time.perf_counter() - began < 5


def test_XML_07_external_entity_is_never_read(tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("top")
    body = f"<Notify><!ENTITY x SYSTEM 'file://{secret}'><CmdType>&x;</CmdType></Notify>"
    with pytest.raises(RemoteProtocolError, match="xml_dtd_forbidden"):
        parsed(body)


def test_long_text_is_cut() -> None:
    model = info(f"<Model>{'x' * 100_000}</Model>").model
    assert model is not None
    assert len(model) == MAX_TEXT


def full_item(number: int) -> CatalogItem:
    details = CatalogInfo(
        ptz_type="1", resolution="6/5", grassroots_code="000000", point_type="1", mac="00-11-22-33-44-55"
    )
    return CatalogItem(
        device_id=GbId(f"3402000000131{number:07d}"),
        name=f"东门停车场 {number} <&>",
        manufacturer="Manufacturer" * 8,
        model="DS-2CD3T46WD" * 8,
        civil_code="340200",
        address="安徽省芜湖市镜湖区某某路一百二十三号" * 4,
        parental=False,
        parents=(CAMERA, CHANNEL),
        register_way=1,
        secrecy=False,
        ip_address="192.0.2.10",
        port=5060,
        online=True,
        longitude=118.123456,
        latitude=31.123456,
        info=details,
    )


@pytest.mark.parametrize("dirty", [False, True])
def test_XML_13_ten_thousand_items(dirty: bool) -> None:
    message = CatalogResponse(
        sn=1, device_id=CAMERA, sum_num=10_000, items=tuple(full_item(number) for number in range(10_000))
    )
    body = manscdp.build(message)
    if dirty:
        body = body.replace(b"&lt;", b"< ").replace(b"&amp;", b"&").replace(b"< &", b"<&")
    assert 8_000_000 < len(body) <= MAX_BYTES
    began = time.perf_counter()
    answer = manscdp.parse(body)
    assert time.perf_counter() - began < 5
    assert answer == message


def test_XML_13_memory_of_ten_thousand_items_is_bounded() -> None:
    body = manscdp.build(
        CatalogResponse(sn=1, device_id=CAMERA, items=tuple(full_item(number) for number in range(1_000)))
    )
    tracemalloc.start()
    try:
        message = manscdp.parse(body)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(message, CatalogResponse)
    assert held < 8 * len(body)


# every message out and back in


def sample(kind: type[Any], number: int) -> dict[str, Any]:
    """A value for every field of a record, from its type."""
    return {field.name: _value(field.metadata["kind"], number, kind, field.name) for field in dataclasses.fields(kind)}


def _value(wanted: Any, number: int, kind: type[Any], name: str) -> Any:
    from sipserver.protocol import manscdp_fields as f

    if isinstance(wanted, f.Block):
        return wanted.record(**sample(wanted.record, number))
    if isinstance(wanted, f.ItemList):
        return tuple(wanted.record(**sample(wanted.record, number + step)) for step in range(2))
    if isinstance(wanted, f.Texts):
        return ("one", "two") if wanted.scalar is f.TEXT else (CAMERA, CHANNEL)
    if isinstance(wanted, f.Repeated):
        record = wanted.record
        return ("one", "two") if record is None else tuple(record(**sample(record, number + n)) for n in range(2))
    simple = {
        f.INTEGER: number + 1,
        f.NUMBER: number + 0.5,
        f.ID: CHANNEL,
        f.IDS: (CAMERA, CHANNEL),
        f.TIME: NOON + number,
        f.FLAG: True,
        f.SWITCH: False,
        f.RESULT: False,
        f.ONLINE: False,
        f.TEXT: f"文本 {number}",
    }
    if wanted in simple:
        return simple[wanted]
    return {"sn": 17430, "event": "UPDATE", "duty": "ONDUTY"}[name]


@pytest.mark.parametrize("kind", manscdp._MESSAGES, ids=lambda kind: f"{kind.root}-{kind.cmd_type}")
def test_XML_01_XML_03_every_message_survives_the_wire_in_schema_order(kind: type[Message]) -> None:
    message = kind(**sample(kind, 3))
    body = manscdp.build(message)
    assert manscdp.parse(body) == message
    assert body.endswith(f"</{kind.root}>\r\n".encode())
    tags = [entry.metadata["tag"].encode() for entry in dataclasses.fields(kind) if getattr(message, entry.name)]
    positions = [body.find(b"<" + tag + (b">" if b"<" + tag + b">" in body else b" ")) for tag in [b"CmdType", *tags]]
    assert positions == sorted(positions)
    assert -1 not in positions
    lone = kind(sn=1)
    assert manscdp.parse(manscdp.build(lone)) == lone


ITEM_ORDER = [
    "DeviceID",
    "Event",
    "Name",
    "Manufacturer",
    "Model",
    "Owner",
    "CivilCode",
    "Block",
    "Address",
    "Parental",
    "ParentID",
    "SafetyWay",
    "RegisterWay",
    "CertNum",
    "Certifiable",
    "ErrCode",
    "EndTime",
    "SecurityLevelCode",
    "Secrecy",
    "IPAddress",
    "Port",
    "Password",
    "Status",
    "Longitude",
    "Latitude",
    "BusinessGroupID",
    "Info",
    "ExtraInfo",
]
INFO_ORDER = [
    "PTZType",
    "PositionType",
    "PhotoelectricImagingType",
    "CapturePositionType",
    "RoomType",
    "UseType",
    "SupplyLightType",
    "DirectionType",
    "Resolution",
    "BusinessGroupID",
    "StreamNumberList",
    "DownloadSpeed",
    "SVCSpaceSupportMode",
    "SVCTimeSupportMode",
    "SSVCRatioSupportList",
    "MobileDeviceType",
    "HorizontalFieldAngle",
    "VerticalFieldAngle",
    "MaxViewDistance",
    "GrassrootsCode",
    "PointType",
    "PointCommonName",
    "MAC",
    "FunctionType",
    "EncodeType",
    "InstallTime",
    "ManagementUnit",
    "ContactInfo",
    "RecordSaveDays",
    "IndustrialClassification",
]


def test_CAT_08_CAT_09_item_fields_are_those_of_the_standard_in_its_order() -> None:
    assert [entry.metadata["tag"] for entry in dataclasses.fields(CatalogItem)] == ITEM_ORDER
    assert [entry.metadata["tag"] for entry in dataclasses.fields(CatalogInfo)] == INFO_ORDER


def test_XML_12_emitted_words() -> None:
    catalog = manscdp.build(
        CatalogResponse(sn=1, device_id=CAMERA, sum_num=1, items=(CatalogItem(device_id=CHANNEL, online=True),))
    )
    assert b"<Status>ON</Status>" in catalog
    status = manscdp.build(DeviceStatusResponse(sn=1, device_id=CAMERA, online=True, ok=False, encode=True))
    for words in (b"<Result>OK<", b"<Online>ONLINE<", b"<Status>ERROR<", b"<Encode>ON<"):
        assert words in status
    assert b"<Item Num" not in catalog
    assert b'<DeviceList Num="1">' in catalog


def test_CAT_24_empty_lists_leave_no_element() -> None:
    assert b"DeviceList" not in manscdp.build(CatalogResponse(sn=1, device_id=CAMERA, sum_num=0))
    assert b"RecordList" not in manscdp.build(RecordInfoResponse(sn=1, device_id=CAMERA, sum_num=0))
    assert b'<PresetList Num="0"></PresetList>' in manscdp.build(PresetResponse(sn=1, device_id=CAMERA, sum_num=0))


def test_XML_08_extra_info() -> None:
    message = CatalogResponse(sn=1, device_id=CAMERA, extra=("x" * 1024, "y" * 1024))
    assert manscdp.parse(manscdp.build(message)) == message
    with pytest.raises(LocalProtocolError, match="extra_info_too_long"):
        manscdp.build(CatalogResponse(sn=1, device_id=CAMERA, extra=("x" * 1025,)))


def test_sn_of_ours_must_be_valid() -> None:
    with pytest.raises(LocalProtocolError, match="manscdp_sn_invalid"):
        manscdp.build(CatalogQuery(device_id=CAMERA))


def test_unknown_command_keeps_its_envelope() -> None:
    message = parsed(f"<Query><CmdType>{'Foo' * 50}</CmdType><SN>8</SN><DeviceID>{CAMERA.value}</DeviceID></Query>")
    assert message == Unknown(root="query", cmd_type=("Foo" * 50)[:64], sn=8, device_id=CAMERA)


def test_spellings_of_old_editions() -> None:
    assert parsed("<Query><CmdType>PersetQuery</CmdType><SN>1</SN></Query>") == PresetQuery(sn=1)
    alarm = parsed("<Query><CmdType>Alarm</CmdType><SN>1</SN><StartTime>2023-11-15T06:13:20</StartTime></Query>")
    assert alarm == AlarmQuery(sn=1, start_time=NOON)
    key_frame = parsed("<Control><CmdType>DeviceControl</CmdType><SN>1</SN><IFameCmd>Send</IFameCmd></Control>")
    assert isinstance(key_frame, DeviceControl)
    assert key_frame.key_frame


def test_ID_06_ten_digit_alarm_centre() -> None:
    message = parsed(
        "<Notify><CmdType>Alarm</CmdType><SN>1</SN><DeviceID>3402000000</DeviceID><AlarmPriority>1</AlarmPriority>"
        "<AlarmMethod>5</AlarmMethod><AlarmTime>2023-11-15T06:13:20</AlarmTime><Info><AlarmType>6</AlarmType>"
        "<AlarmTypeParam><EventType>1</EventType></AlarmTypeParam></Info></Notify>"
    )
    detail = AlarmInfo(alarm_type=6, parameter=AlarmTypeParameter(event_type=1))
    assert message == Alarm(sn=1, device_id=GbId("3402000000"), priority=1, method=5, time=NOON, info=detail)


def test_both_position_forms() -> None:
    single = parsed(
        "<Notify><CmdType>MobilePosition</CmdType><SN>1</SN><TargetID>34020000001320000001</TargetID>"
        "<Time>2023-11-15T06:13:20</Time><Longitude>118.5</Longitude><Latitude>31.5</Latitude></Notify>"
    )
    assert single == MobilePosition(sn=1, target=CAMERA, time=NOON, longitude=118.5, latitude=31.5)
    listed = parsed(
        f"<Notify><CmdType>MobilePosition</CmdType><SN>1</SN><SumNum>1</SumNum><DeviceList Num='1'><Item><DeviceID>"
        f"{CHANNEL.value}</DeviceID><Longitude>118.5</Longitude></Item></DeviceList></Notify>"
    )
    assert isinstance(listed, MobilePosition)
    assert listed.positions[0].device_id == CHANNEL


def test_other_controls() -> None:
    message = DeviceControl(
        sn=1,
        device_id=CHANNEL,
        home_position=HomePosition(enabled=True, reset_time=20, preset=1),
        ptz_precise=PtzPrecise(pan=359.99, tilt=-30.0, zoom=2.5),
    )
    body = manscdp.build(message)
    assert b"<HomePosition><Enabled>1</Enabled><ResetTime>20</ResetTime><PresetIndex>1</PresetIndex>" in body
    assert b"<Pan>359.99</Pan><Tilt>-30</Tilt><Zoom>2.5</Zoom>" in body
    assert manscdp.parse(body) == message
    config = DeviceConfig(sn=2, device_id=CAMERA, basic=BasicParam(heartbeat_interval=30, heartbeat_count=5))
    assert manscdp.parse(manscdp.build(config)) == config


def test_QRY_04_elements_of_a_record_query_in_order() -> None:
    body = manscdp.build(
        RecordInfoQuery(
            sn=1, device_id=CHANNEL, start_time=NOON, end_time=NOON + 60, secrecy=False, indistinct=0, stream_number=0
        )
    )
    order = ("SN", "DeviceID", "StartTime", "EndTime", "Secrecy", "Type", "IndistinctQuery", "StreamNumber")
    positions = [body.find(f"<{tag}>".encode()) for tag in order]
    assert positions == sorted(positions)
    assert -1 not in positions
    assert b"<StartTime>2023-11-15T06:13:20</StartTime>" in body


def test_QRY_08_location_of_records_is_kept() -> None:
    message = RecordInfoResponse(
        sn=1, device_id=CHANNEL, sum_num=1, items=(RecordItem(device_id=CHANNEL, location="1", start_time=NOON),)
    )
    assert manscdp.parse(manscdp.build(message)) == message


# garbage

pieces = st.sampled_from(
    """<Notify> </Notify> <CmdType> Keepalive </CmdType> <SN>1</SN> < > & &#x; &amp; ]]> <![CDATA[ <!-- --> <?xml ?>
    \0 中 <Info a='1' " /> \ufeff <! Response""".split()  # noqa: SIM905 - easier to read
)


def outcome(body: bytes) -> Message | Unknown | int | None:
    """The message, or the status owed for it; any other exception is a fault."""
    try:
        return manscdp.parse(body)
    except RemoteProtocolError as error:
        return error.status


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(pieces, max_size=40).map(lambda parts: "".join(parts).encode())))
def test_garbage_gives_a_message_or_a_protocol_error(body: bytes) -> None:
    found = outcome(body)
    assert found == 400 or isinstance(found, Message | Unknown)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_survives_as_far_as_xml_can_carry_it(text: str) -> None:
    message = DeviceInfoResponse(sn=1, device_id=CAMERA, name=text)
    again = manscdp.parse(manscdp.build(message, charset="UTF-8"))
    assert isinstance(again, DeviceInfoResponse)
    kept = "".join(
        c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
    )
    assert again.name == (kept.replace("\r\n", "\n").replace("\r", "\n").strip() or None)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 120))
def test_a_broken_heartbeat_never_raises_anything_else(noise: bytes, at: int) -> None:
    body = manscdp.build(Keepalive(sn=1, device_id=CAMERA))
    found = outcome(body[:at] + noise + body[at:])
    assert found == 400 or isinstance(found, Message | Unknown)
