"""Session descriptions: the offer byte for byte, answers of the field, garbage (annex G)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipserver.protocol import sdp
from sipserver.protocol.errors import RemoteProtocolError
from sipserver.protocol.ids import GbId, Ssrc
from sipserver.protocol.sdp import H264, PS, MediaParameters, RtpMap, SessionDescription

PLATFORM = GbId("34020000002000000001")
CAMERA = GbId("34020000001310000001")
SSRC = Ssrc(200000001)


def test_INV_live_offer_over_tcp_byte_for_byte() -> None:
    offer = sdp.live_offer(
        owner=PLATFORM, address="192.0.2.20", port=30000, ssrc=SSRC, transport="tcp-passive", stream_number=0
    )
    assert offer.to_bytes() == (
        b"v=0\r\n"
        b"o=34020000002000000001 0 0 IN IP4 192.0.2.20\r\n"
        b"s=Play\r\n"
        b"c=IN IP4 192.0.2.20\r\n"
        b"t=0 0\r\n"
        b"m=video 30000 TCP/RTP/AVP 96 97 98 100\r\n"
        b"a=recvonly\r\n"
        b"a=rtpmap:96 PS/90000\r\n"
        b"a=rtpmap:97 MPEG4/90000\r\n"
        b"a=rtpmap:98 H264/90000\r\n"
        b"a=rtpmap:100 H265/90000\r\n"
        b"a=setup:passive\r\n"
        b"a=connection:new\r\n"
        b"a=streamnumber:0\r\n"
        b"y=0200000001\r\n"
        b"f=v/////a///\r\n"
    )


def test_live_offer_over_udp_has_no_tcp_attributes() -> None:
    text = sdp.live_offer(owner=PLATFORM, address="2001:db8::1", port=9000, ssrc=SSRC).to_bytes().decode()
    assert "m=video 9000 RTP/AVP 96 97 98 100\r\n" in text
    assert "setup" not in text
    assert "streamnumber" not in text
    assert "c=IN IP6 2001:db8::1\r\n" in text
    active = sdp.live_offer(owner=PLATFORM, address="192.0.2.1", port=9, ssrc=SSRC, transport="tcp-active")
    assert b"a=setup:active\r\n" in active.to_bytes()


def test_playback_and_download_offers() -> None:
    play = sdp.history_offer(
        owner=PLATFORM, channel=CAMERA, address="192.0.2.1", port=9000, ssrc=SSRC, start=1711929600, stop=1711933200
    )
    text = play.to_bytes().decode()
    assert "s=Playback\r\nu=34020000001310000001:3\r\nc=IN IP4 192.0.2.1\r\nt=1711929600 1711933200\r\n" in text
    load = sdp.history_offer(
        owner=PLATFORM, channel=CAMERA, address="192.0.2.1", port=9, ssrc=SSRC, start=1, stop=2, download_speed=4
    )
    text = load.to_bytes().decode()
    assert "s=Download\r\n" in text
    assert text.index("a=downloadspeed:4") < text.index("y=") < text.index("f=")


ANSWER = (
    b"v=0\r\no=34020000001310000001 1 2 IN IP4 192.0.2.30\r\ns=Embedded Net DVR\r\ni=VCam Talk Session\r\n"
    b"c=IN IP4 192.0.2.30\r\nt=0 0\r\nm=video 15060 TCP/RTP/AVP 96\r\na=sendonly\r\na=rtpmap:96 PS/90000\r\n"
    b"a=setup:active\r\na=connection:new\r\na=filesize:-1\r\ny=0200000001\r\nf=v/2/4///a/1//\r\n"
)


def test_device_answer() -> None:
    answer = sdp.parse(ANSWER)
    media = answer.primary
    assert media is not None
    assert (answer.owner, answer.session_name, answer.connection_ip) == (CAMERA.value, "Embedded Net DVR", "192.0.2.30")
    assert (media.kind, media.port, media.protocol, media.formats) == ("video", 15060, "TCP/RTP/AVP", (96,))
    assert (media.direction, media.setup, media.connection, media.is_tcp) == ("sendonly", "active", "new", True)
    assert media.rtpmaps == (PS,)
    assert media.file_size is None
    assert answer.ssrc == SSRC
    assert answer.parameters == MediaParameters(video_codec="2", resolution="4", audio_codec="1")
    assert CAMERA.value not in repr(answer)


def test_our_answer_mirrors_the_offer() -> None:
    for transport, setup in (("tcp-passive", "active"), ("tcp-active", "passive"), ("udp", None)):
        offer = sdp.parse(
            sdp.live_offer(owner=PLATFORM, address="192.0.2.1", port=9000, ssrc=SSRC, transport=transport).to_bytes()  # type: ignore[arg-type]
        )
        answer = sdp.parse(sdp.answer(offer, owner=CAMERA, address="192.0.2.9", port=15060, payload=H264).to_bytes())
        assert answer.primary is not None
        assert (answer.primary.setup, answer.primary.direction) == (setup, "sendonly")
        assert (answer.ssrc, answer.primary.formats, answer.f) == (SSRC, (98,), "")


def minimal(*lines: str) -> SessionDescription:
    return sdp.parse("\n".join(("v=0", *lines)).encode())


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("c=IN IP4 192.0.2.1:5060", "192.0.2.1"),
        ("c=IN IP4 192.0.2.1/127", "192.0.2.1"),
        ("c=IN IP6 2001:DB8::1", "2001:db8::1"),
        ("c=IN IP4 0.0.0.0", None),
        ("c=IN IP4 ", None),
        ("c=", None),
        ("c=IN IP4 camera.local", None),
    ],
)
def test_connection_addresses(line: str, address: str | None) -> None:
    assert minimal(line, "m=video 1 RTP/AVP 96").connection_ip == address
    assert minimal("m=video 1 RTP/AVP 96", line).media_ip == address


@pytest.mark.parametrize(
    ("line", "value"),
    [("y=0200003312", 200003312), ("y=1", 1), ("y= 0200000001 ", 200000001), ("y=", None), ("y=abc", None),
     ("y=99999999999", None), ("y=9999999999", None), ("y=-5", None), ("x=1", None)],
)  # fmt: skip
def test_ssrc_line(line: str, value: int | None) -> None:
    found = minimal("m=video 1 RTP/AVP 96", line).ssrc
    assert (found.value if found else None) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v/////a///", MediaParameters()),
        ("v/a/1/8/1", MediaParameters(audio_codec="1", audio_bitrate="8", sampling="1")),
        ("v/0/0/0/0/0a/0/0/0", MediaParameters(*(), video_codec="0", resolution="0", frame_rate="0", rate_type="0",
                                               video_bitrate="0", audio_codec="0", audio_bitrate="0", sampling="0")),
        ("v/5/2560x1440/25/1/4096a/6/8/3", MediaParameters(
            video_codec="5", resolution="2560x1440", frame_rate="25", rate_type="1", video_bitrate="4096",
            audio_codec="6", audio_bitrate="8", sampling="3")),
        ("", MediaParameters()),
        ("nonsense", MediaParameters(video_codec="nonsense")),
    ],
)  # fmt: skip
def test_media_parameters(text: str, expected: MediaParameters) -> None:
    found = MediaParameters.parse(text)
    assert found == expected
    assert MediaParameters.parse(str(found)) == found


def test_lines_out_of_order_without_cr_and_with_noise() -> None:
    found = minimal(
        " s = Play",
        "y=0200000001",
        "no line",
        "b=AS:4096",
        "m=video 9000 tcp/rtp/avp 96 x 300 98",
        "A=RTPMAP:96 ps/90000",
        "a=rtpmap:98 H264",
        "a=rtpmap:bad",
        "a=setup:weird",
        "a=fmtp:98 profile-level-id=1",
        "f=v/",
        "m=audio 0 RTP/AVP 8",
    )
    media = found.primary
    assert media is not None
    assert (media.protocol, media.formats, media.setup) == ("TCP/RTP/AVP", (96, 98), None)
    assert media.rtpmaps == (RtpMap(payload=96, encoding="ps"), RtpMap(payload=98, encoding="H264"))
    assert media.encoding_of(96) == "PS"
    assert media.attribute("fmtp") == "98 profile-level-id=1"
    assert (found.session_name, found.f, len(found.media)) == ("Play", "v/", 2)


def test_session_level_attributes_count_for_all_sections() -> None:
    found = minimal("a=sendonly", "m=video 0 RTP/AVP 96", "m=video 9 RTP/AVP 96", "a=streamnumber:1", "a=fileszie:12")
    assert found.primary is found.media[1]
    assert (found.primary.direction, found.primary.stream_number, found.primary.file_size) == ("sendonly", 1, 12)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "sdp_without_media"),
        (b"v=0\r\n", "sdp_without_media"),
        (b"m=video x RTP/AVP 96", "sdp_media_line_malformed"),
        (b"m=video 70000 RTP/AVP 96", "sdp_media_line_malformed"),
        (b"m=video", "sdp_media_line_malformed"),
        (b"a" * 70_000, "sdp_too_large"),
        (b"a=x\n" * 600, "sdp_too_many_lines"),
    ],
)
def test_what_cannot_carry_a_call_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        sdp.parse(body)
    assert (refused.value.reason, refused.value.status) == (reason, 488)


def test_nothing_can_smuggle_a_line_into_what_we_write() -> None:
    with pytest.raises(ValueError, match="line break"):
        SessionDescription(owner="x", session_name="Play\r\na=evil").to_bytes()


lines = st.lists(
    st.sampled_from(
        [
            "v=0",
            "m=video 9 RTP/AVP 96",
            "c=IN IP4",
            "a=rtpmap:96",
            "a=rtpmap:300 X/1",
            "y=",
            "f=",
            "o=",
            "t=x y",
            "=",
            "a",
        ]
    )
    | st.text(max_size=20),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | lines.map(lambda parts: "\r\n".join(parts).encode("utf-8", "replace")))
def test_garbage_gives_a_description_or_a_protocol_error(body: bytes) -> None:
    try:
        found = sdp.parse(body)
    except RemoteProtocolError as error:
        status = error.status
    else:
        status = None
        assert found.media
        assert sdp.parse(found.to_bytes()).media == found.media
    assert status in (None, 488)
