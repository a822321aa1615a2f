"""MANSCDP bodies in and out: ``parse`` gives one of the message classes, ``build`` the bytes (annex A)."""

from __future__ import annotations

from typing import Final, Literal

from sipserver.protocol import manscdp_xml
from sipserver.protocol.errors import LocalProtocolError, RemoteProtocolError
from sipserver.protocol.manscdp_base import Message, ResultResponse, Unknown
from sipserver.protocol.manscdp_config import (
    AlarmReport,
    BasicParam,
    ConfigDownloadQuery,
    ConfigDownloadResponse,
    DeviceConfig,
    DeviceConfigResponse,
    MaskRegion,
    OsdConfig,
    OsdText,
    PictureMask,
    RecordSchedule,
    SnapShotConfig,
    SvacDecodeConfig,
    SvacEncodeConfig,
    TimeSegment,
    VideoAlarmRecord,
    VideoParam,
    VideoParamOpt,
    VideoRecordPlan,
)
from sipserver.protocol.manscdp_control import (
    DeviceControl,
    DeviceControlResponse,
    DeviceUpgrade,
    DragZoom,
    HomePosition,
    PtzParameters,
    PtzPrecise,
)
from sipserver.protocol.manscdp_fields import escape, read_id, read_int, read_record, write_record
from sipserver.protocol.manscdp_item import CatalogInfo, CatalogItem
from sipserver.protocol.manscdp_state import (
    CruisePoint,
    CruiseTrack,
    CruiseTrackListQuery,
    CruiseTrackListResponse,
    CruiseTrackQuery,
    CruiseTrackResponse,
    HomePositionQuery,
    HomePositionResponse,
    PtzPositionNotify,
    PtzPositionQuery,
    PtzPositionResponse,
    PtzView,
    SdCard,
    SdCardQuery,
    SdCardResponse,
    SnapshotFinished,
    UpgradeResult,
    VideoUploadNotify,
)
from sipserver.protocol.manscdp_types import (
    Alarm,
    AlarmDuty,
    AlarmInfo,
    AlarmQuery,
    AlarmResponse,
    AlarmTypeParameter,
    Broadcast,
    BroadcastResponse,
    CatalogNotify,
    CatalogQuery,
    CatalogResponse,
    DeviceInfoQuery,
    DeviceInfoResponse,
    DeviceStatusQuery,
    DeviceStatusResponse,
    Keepalive,
    MediaStatus,
    MobilePosition,
    MobilePositionQuery,
    PersetQuery,
    Position,
    Preset,
    PresetQuery,
    PresetResponse,
    RecordInfoQuery,
    RecordInfoResponse,
    RecordItem,
)

__all__ = [
    "CONTENT_TYPE",
    "Alarm",
    "AlarmDuty",
    "AlarmInfo",
    "AlarmQuery",
    "AlarmReport",
    "AlarmResponse",
    "AlarmTypeParameter",
    "BasicParam",
    "Broadcast",
    "BroadcastResponse",
    "CatalogInfo",
    "CatalogItem",
    "CatalogNotify",
    "CatalogQuery",
    "CatalogResponse",
    "Charset",
    "ConfigDownloadQuery",
    "ConfigDownloadResponse",
    "CruisePoint",
    "CruiseTrack",
    "CruiseTrackListQuery",
    "CruiseTrackListResponse",
    "CruiseTrackQuery",
    "CruiseTrackResponse",
    "DeviceConfig",
    "DeviceConfigResponse",
    "DeviceControl",
    "DeviceControlResponse",
    "DeviceInfoQuery",
    "DeviceInfoResponse",
    "DeviceStatusQuery",
    "DeviceStatusResponse",
    "DeviceUpgrade",
    "DragZoom",
    "HomePosition",
    "HomePositionQuery",
    "HomePositionResponse",
    "Keepalive",
    "MaskRegion",
    "MediaStatus",
    "Message",
    "MobilePosition",
    "MobilePositionQuery",
    "OsdConfig",
    "OsdText",
    "PersetQuery",
    "PictureMask",
    "Position",
    "Preset",
    "PresetQuery",
    "PresetResponse",
    "PtzParameters",
    "PtzPositionNotify",
    "PtzPositionQuery",
    "PtzPositionResponse",
    "PtzPrecise",
    "PtzView",
    "RecordInfoQuery",
    "RecordInfoResponse",
    "RecordItem",
    "RecordSchedule",
    "ResultResponse",
    "SdCard",
    "SdCardQuery",
    "SdCardResponse",
    "SnapShotConfig",
    "SnapshotFinished",
    "SvacDecodeConfig",
    "SvacEncodeConfig",
    "TimeSegment",
    "Unknown",
    "UpgradeResult",
    "VideoAlarmRecord",
    "VideoParam",
    "VideoParamOpt",
    "VideoRecordPlan",
    "VideoUploadNotify",
    "build",
    "parse",
]

CONTENT_TYPE: Final = "Application/MANSCDP+xml"
Charset = Literal["GB18030", "GB2312", "UTF-8"]

_ROOTS: Final = frozenset({"control", "query", "notify", "response"})
_MESSAGES: Final[tuple[type[Message], ...]] = (
    Alarm,
    AlarmQuery,
    AlarmResponse,
    Broadcast,
    BroadcastResponse,
    CatalogNotify,
    CatalogQuery,
    CatalogResponse,
    ConfigDownloadQuery,
    ConfigDownloadResponse,
    CruiseTrackListQuery,
    CruiseTrackListResponse,
    CruiseTrackQuery,
    CruiseTrackResponse,
    DeviceConfig,
    DeviceConfigResponse,
    DeviceControl,
    DeviceControlResponse,
    DeviceInfoQuery,
    DeviceInfoResponse,
    DeviceStatusQuery,
    DeviceStatusResponse,
    HomePositionQuery,
    HomePositionResponse,
    Keepalive,
    MediaStatus,
    MobilePosition,
    MobilePositionQuery,
    PresetQuery,
    PresetResponse,
    PtzPositionNotify,
    PtzPositionQuery,
    PtzPositionResponse,
    RecordInfoQuery,
    RecordInfoResponse,
    SdCardQuery,
    SdCardResponse,
    SnapshotFinished,
    UpgradeResult,
    VideoUploadNotify,
)
_BY_NAME: Final[dict[tuple[str, str], type[Message]]] = {
    (kind.root.lower(), name.lower()): kind for kind in _MESSAGES for name in (kind.cmd_type, *kind.aliases)
}


def parse(body: bytes) -> Message | Unknown:
    """Read a body from a peer (§5.2, §5.3 of the field rules: any charset label, tag case, element order).

    Raises RemoteProtocolError with status 400 for what is not MANSCDP: broken XML, DTD, unknown root, no CmdType.
    """
    node = manscdp_xml.decode(body)
    root = node.tag
    if root not in _ROOTS:
        raise RemoteProtocolError("manscdp_root_unknown", status=400)
    cmd_type = (node.text("cmdtype") or "").strip()
    if not cmd_type:
        raise RemoteProtocolError("manscdp_without_cmd_type", status=400)
    kind = _BY_NAME.get((root, cmd_type.lower()))
    if kind is not None:
        return read_record(kind, node)
    return Unknown(
        root=root,
        cmd_type=cmd_type[:64],
        sn=max(read_int(node.text("sn") or "") or 0, 0),
        device_id=read_id(node.text("deviceid") or ""),
    )


def build(message: Message, *, charset: Charset = "GB18030") -> bytes:
    """Write a body with its declaration; ``charset`` is the label.

    GB2312 (peers up to 2016) is labelled so but encoded as GB18030, its superset: rare characters survive.
    Raises LocalProtocolError for an invalid SN or an ExtraInfo above 1 024 characters (§A.2).
    """
    if message.sn < 1:
        raise LocalProtocolError("manscdp_sn_invalid")
    out = [
        f'<?xml version="1.0" encoding="{charset}"?>\r\n<{message.root}>',
        f"<CmdType>{escape(message.cmd_type)}</CmdType>",
    ]
    write_record(message, out)
    out.append(f"</{message.root}>\r\n")
    return "".join(out).encode("utf-8" if charset == "UTF-8" else "gb18030")
