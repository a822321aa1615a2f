"""The catalogue item of §A.2.1.9 (2022) with the elements of 2011-2016 that it replaced, and its ``Info`` block."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sipserver.protocol.ids import GbId
from sipserver.protocol.manscdp_fields import (
    FLAG,
    ID,
    IDS,
    INTEGER,
    NUMBER,
    SWITCH,
    TEXT,
    TIME,
    Block,
    Scalar,
    tag,
)

EVENTS: Final = frozenset({"ON", "OFF", "VLOST", "DEFECT", "DEL", "ADD", "UPDATE"})


def _read_event(text: str) -> str | None:
    word = text.strip().upper()
    return word if word in EVENTS else None


EVENT: Final = Scalar(_read_event, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogInfo:
    """``Info`` of an item. Codes and code lists (joined by ``/``) stay text as written (tables: §A.2.1.9)."""

    ptz_type: str | None = field(default=None, metadata=tag("PTZType"))
    position_type: str | None = field(default=None, metadata=tag("PositionType"))  # removed in 2022
    photoelectric_imaging_type: str | None = field(default=None, metadata=tag("PhotoelectricImagingType"))
    capture_position_type: str | None = field(default=None, metadata=tag("CapturePositionType"))
    room_type: str | None = field(default=None, metadata=tag("RoomType"))
    use_type: str | None = field(default=None, metadata=tag("UseType"))  # removed in 2022
    supply_light_type: str | None = field(default=None, metadata=tag("SupplyLightType"))
    direction_type: str | None = field(default=None, metadata=tag("DirectionType"))
    resolution: str | None = field(default=None, metadata=tag("Resolution"))
    business_group_id: GbId | None = field(default=None, metadata=tag("BusinessGroupID", ID))  # ≤ 2016: inside Info
    stream_number_list: str | None = field(default=None, metadata=tag("StreamNumberList"))
    download_speed: str | None = field(default=None, metadata=tag("DownloadSpeed"))
    svc_space_support_mode: int | None = field(default=None, metadata=tag("SVCSpaceSupportMode", INTEGER))
    svc_time_support_mode: int | None = field(default=None, metadata=tag("SVCTimeSupportMode", INTEGER))
    ssvc_ratio_support_list: str | None = field(default=None, metadata=tag("SSVCRatioSupportList"))
    mobile_device_type: str | None = field(default=None, metadata=tag("MobileDeviceType"))
    horizontal_field_angle: float | None = field(default=None, metadata=tag("HorizontalFieldAngle", NUMBER))
    vertical_field_angle: float | None = field(default=None, metadata=tag("VerticalFieldAngle", NUMBER))
    max_view_distance: float | None = field(default=None, metadata=tag("MaxViewDistance", NUMBER))
    grassroots_code: str | None = field(default=None, metadata=tag("GrassrootsCode"))
    point_type: str | None = field(default=None, metadata=tag("PointType"))
    point_common_name: str | None = field(default=None, metadata=tag("PointCommonName"))
    mac: str | None = field(default=None, metadata=tag("MAC"))
    function_type: str | None = field(default=None, metadata=tag("FunctionType"))
    encode_type: str | None = field(default=None, metadata=tag("EncodeType"))
    install_time: float | None = field(default=None, metadata=tag("InstallTime", TIME))
    management_unit: str | None = field(default=None, metadata=tag("ManagementUnit"))
    contact_info: str | None = field(default=None, metadata=tag("ContactInfo"))
    record_save_days: int | None = field(default=None, metadata=tag("RecordSaveDays", INTEGER))
    industrial_classification: str | None = field(default=None, metadata=tag("IndustrialClassification"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogItem:
    """One object of a catalogue: division, system, group, organisation, device or channel.

    ``device_id`` is None when the item had no readable address code: such an item names nothing and is not stored.
    ``event`` only in notifications (None there means upsert). ``online`` is Status (ON, OK and ONLINE all mean True).
    ``parental`` is True for any non-zero value (65535 is seen). ``parents`` are the codes of ``ParentID`` split at
    ``/``. ``longitude``/``latitude`` are WGS-84 degrees, ``end_time``/``install_time`` unix seconds.
    """

    device_id: GbId | None = field(default=None, metadata=tag("DeviceID", ID))
    event: str | None = field(default=None, metadata=tag("Event", EVENT))
    name: str | None = field(default=None, metadata=tag("Name"))
    manufacturer: str | None = field(default=None, metadata=tag("Manufacturer"))
    model: str | None = field(default=None, metadata=tag("Model"))
    owner: str | None = field(default=None, metadata=tag("Owner"))  # removed in 2022
    civil_code: str | None = field(default=None, metadata=tag("CivilCode"))
    block: str | None = field(default=None, metadata=tag("Block"))
    address: str | None = field(default=None, metadata=tag("Address"))
    parental: bool | None = field(default=None, metadata=tag("Parental", FLAG))
    parents: tuple[GbId, ...] = field(default=(), metadata=tag("ParentID", IDS))
    safety_way: int | None = field(default=None, metadata=tag("SafetyWay", INTEGER))  # removed in 2022
    register_way: int | None = field(default=None, metadata=tag("RegisterWay", INTEGER))
    cert_num: str | None = field(default=None, metadata=tag("CertNum"))  # this and the next three removed in 2022
    certifiable: bool | None = field(default=None, metadata=tag("Certifiable", FLAG))
    err_code: int | None = field(default=None, metadata=tag("ErrCode", INTEGER))
    end_time: float | None = field(default=None, metadata=tag("EndTime", TIME))
    security_level_code: str | None = field(default=None, metadata=tag("SecurityLevelCode"))
    secrecy: bool | None = field(default=None, metadata=tag("Secrecy", FLAG))
    ip_address: str | None = field(default=None, metadata=tag("IPAddress"))
    port: int | None = field(default=None, metadata=tag("Port", INTEGER))
    password: str | None = field(default=None, repr=False, metadata=tag("Password"))
    online: bool | None = field(default=None, metadata=tag("Status", SWITCH))
    longitude: float | None = field(default=None, metadata=tag("Longitude", NUMBER))
    latitude: float | None = field(default=None, metadata=tag("Latitude", NUMBER))
    business_group_id: GbId | None = field(default=None, metadata=tag("BusinessGroupID", ID))
    info: CatalogInfo | None = field(default=None, metadata=tag("Info", Block(CatalogInfo)))
    extra: str | None = field(default=None, metadata=tag("ExtraInfo", TEXT))

    @property
    def group(self) -> GbId | None:
        """The business group, wherever the edition of the sender puts it."""
        return self.business_group_id or (self.info.business_group_id if self.info else None)

    @property
    def division(self) -> str | None:
        """``CivilCode`` fit for building a tree: 2-8 digits with trailing ``00`` pairs cut; None for anything else."""
        code = (self.civil_code or "").strip()
        if not (code.isascii() and code.isdigit() and len(code) in (2, 4, 6, 8)):
            return None
        while len(code) > 2 and code.endswith("00"):
            code = code[:-2]
        return code
