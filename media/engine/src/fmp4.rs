//! Fragmented MP4 for players (ISO/IEC 14496-12, 14496-15): one init segment, then one fragment a sample.
//!
//! `tfdt` always comes from the timeline, so nothing accumulates; the duration told is never shorter than the usual
//! distance, because Media Source Extensions §3.5.8 drops pictures after a step of more than twice the last duration.

use bytes::Bytes;

use crate::boxes::{boxed, esds, full_box, put16, put32, put64, zeros};
use crate::mux::{AudioConfig, Config, Sample, VideoConfig};
use crate::types::{Codec, TIMEBASE, Track};

const VIDEO_ID: u32 = 1;
const AUDIO_ID: u32 = 2;
/// Unity transformation matrix (ISO/IEC 14496-12 §6.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
const FLAGS_KEY: u32 = 0x0200_0000;
const FLAGS_DELTA: u32 = 0x0101_0000;

/// `moof` and the header of `mdat`, made once per sample; only the decode time differs from viewer to viewer.
#[derive(Debug)]
pub struct Head {
    bytes: Vec<u8>,
    /// Where the 64-bit decode time stands.
    decode_time_at: usize,
    decode_time: i64,
    timescale: u32,
}

/// Audio for a viewer who `hears`, if this container can carry it to a browser: AAC only (no Media Source plays G.711).
pub fn audio(config: &Config, hears: bool) -> Option<&AudioConfig> {
    config.audio.as_ref().filter(|audio| hears && audio.codec == Codec::Aac && audio.aac.is_some())
}

/// Whether viewers of this container get anything at all.
pub fn playable(config: &Config, hears: bool) -> bool {
    config.video.is_some() || audio(config, hears).is_some()
}

/// RFC 6381 codecs parameter of the init segment.
pub fn codecs(config: &Config, hears: bool) -> String {
    let video = config.video.as_ref().map(|video| video.codec_string.clone());
    let audio = audio(config, hears).and_then(|audio| audio.aac).map(|aac| aac.codec_string());
    video.into_iter().chain(audio).collect::<Vec<_>>().join(",")
}

/// `ftyp` and `moov`; made once per configuration, with sound and without.
pub fn init(config: &Config, hears: bool) -> Bytes {
    let [silent, sounding] = &config.fmp4_init;
    let made = if hears { sounding } else { silent };
    made.get_or_init(|| Bytes::from(write_init(config, hears))).clone()
}

/// Bytes that [`head`] appends.
pub fn head_len(sample: &Sample) -> usize {
    sample.fmp4_head.get_or_init(|| write_head(sample)).bytes.len()
}

/// Appends `moof` and the header of `mdat` for one sample, shifted so that `base` (90 kHz) becomes 0.
pub fn head(sample: &Sample, base: i64, out: &mut Vec<u8>) {
    let head = sample.fmp4_head.get_or_init(|| write_head(sample));
    let shift = base * i64::from(head.timescale) / TIMEBASE;
    let time = u64::try_from(head.decode_time - shift).unwrap_or(0);
    let start = out.len() + head.decode_time_at;
    out.extend_from_slice(&head.bytes);
    if let Some(slot) = out.get_mut(start..start + 8) {
        slot.copy_from_slice(&time.to_be_bytes());
    }
}

fn write_head(sample: &Sample) -> Head {
    let rate = sample.config.audio.as_ref().and_then(|audio| audio.aac).map_or(8_000, |aac| aac.rate());
    let (track, time, timescale) = match sample.track {
        Track::Video => (VIDEO_ID, sample.dts, TIMEBASE as u32),
        Track::Audio => (AUDIO_ID, sample.audio_position, rate),
    };
    let mut bytes = Vec::with_capacity(112);
    let (mut decode_time_at, mut offset_at) = (0, 0);
    boxed(&mut bytes, b"moof", |out| {
        full_box(out, b"mfhd", 0, 0, |out| put32(out, (sample.sequence as u32).wrapping_add(1)));
        boxed(out, b"traf", |out| {
            full_box(out, b"tfhd", 0, 0x02_0000, |out| put32(out, track));
            full_box(out, b"tfdt", 1, 0, |out| {
                decode_time_at = out.len();
                put64(out, u64::try_from(time).unwrap_or(0));
            });
            full_box(out, b"trun", 1, 0xf01, |out| {
                put32(out, 1);
                offset_at = out.len();
                put32(out, 0);
                put32(out, sample.duration);
                put32(out, sample.body.len() as u32);
                put32(out, if sample.key { FLAGS_KEY } else { FLAGS_DELTA });
                put32(out, sample.composition as u32);
            });
        });
    });
    let data_offset = bytes.len() as u32 + 8;
    if let Some(slot) = bytes.get_mut(offset_at..offset_at + 4) {
        slot.copy_from_slice(&data_offset.to_be_bytes());
    }
    put32(&mut bytes, sample.body.len() as u32 + 8);
    bytes.extend_from_slice(b"mdat");
    Head { bytes, decode_time_at, decode_time: time, timescale }
}

fn write_init(config: &Config, hears: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    boxed(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso6");
        put32(out, 1);
        out.extend_from_slice(b"iso6isommp41dash");
    });
    boxed(&mut out, b"moov", |out| {
        full_box(out, b"mvhd", 0, 0, |out| {
            zeros(out, 8);
            put32(out, 1000);
            put32(out, 0);
            put32(out, 0x1_0000);
            put16(out, 0x100);
            zeros(out, 10);
            MATRIX.iter().for_each(|value| put32(out, *value));
            zeros(out, 24);
            put32(out, AUDIO_ID + 1);
        });
        if let Some(video) = &config.video {
            video_track(out, video);
        }
        if let Some(audio) = audio(config, hears) {
            audio_track(out, audio);
        }
        boxed(out, b"mvex", |out| {
            let audio = audio(config, hears).map(|_| AUDIO_ID);
            for track in config.video.as_ref().map(|_| VIDEO_ID).into_iter().chain(audio) {
                full_box(out, b"trex", 0, 0, |out| {
                    put32(out, track);
                    put32(out, 1);
                    zeros(out, 12);
                });
            }
        });
    });
    out
}

struct TrackShape {
    id: u32,
    timescale: u32,
    width: u32,
    height: u32,
    volume: u16,
    handler: &'static [u8; 4],
}

fn video_track(out: &mut Vec<u8>, video: &VideoConfig) {
    let (width, height) = (video.width, video.height);
    let shape = TrackShape { id: VIDEO_ID, timescale: TIMEBASE as u32, width, height, volume: 0, handler: b"vide" };
    let (entry, record) = if video.codec == Codec::H265 { (b"hvc1", b"hvcC") } else { (b"avc1", b"avcC") };
    track(out, &shape, |out| {
        boxed(out, entry, |out| {
            zeros(out, 6);
            put16(out, 1);
            zeros(out, 16);
            put16(out, width as u16);
            put16(out, height as u16);
            put32(out, 0x48_0000);
            put32(out, 0x48_0000);
            zeros(out, 4);
            put16(out, 1);
            zeros(out, 32);
            put16(out, 24);
            put16(out, 0xffff);
            boxed(out, record, |out| out.extend_from_slice(&video.record));
        });
    });
}

fn audio_track(out: &mut Vec<u8>, audio: &AudioConfig) {
    let Some(aac) = audio.aac else {
        return;
    };
    let shape =
        TrackShape { id: AUDIO_ID, timescale: aac.rate(), width: 0, height: 0, volume: 0x100, handler: b"soun" };
    track(out, &shape, |out| {
        boxed(out, b"mp4a", |out| {
            zeros(out, 6);
            put16(out, 1);
            zeros(out, 8);
            put16(out, u16::from(aac.channels));
            put16(out, 16);
            zeros(out, 4);
            put32(out, if aac.rate() < 0x1_0000 { aac.rate() << 16 } else { 0 });
            esds(out, &aac.specific_config());
        });
    });
}

fn track(out: &mut Vec<u8>, shape: &TrackShape, sample_entry: impl FnOnce(&mut Vec<u8>)) {
    boxed(out, b"trak", |out| {
        full_box(out, b"tkhd", 0, 3, |out| {
            zeros(out, 8);
            put32(out, shape.id);
            zeros(out, 20);
            put16(out, shape.volume);
            zeros(out, 2);
            MATRIX.iter().for_each(|value| put32(out, *value));
            put32(out, shape.width << 16);
            put32(out, shape.height << 16);
        });
        boxed(out, b"mdia", |out| {
            full_box(out, b"mdhd", 0, 0, |out| {
                zeros(out, 8);
                put32(out, shape.timescale);
                put32(out, 0);
                put16(out, 0x55c4);
                zeros(out, 2);
            });
            full_box(out, b"hdlr", 0, 0, |out| {
                zeros(out, 4);
                out.extend_from_slice(shape.handler);
                zeros(out, 13);
            });
            boxed(out, b"minf", |out| {
                if shape.handler == b"vide" {
                    full_box(out, b"vmhd", 0, 1, |out| zeros(out, 8));
                } else {
                    full_box(out, b"smhd", 0, 0, |out| zeros(out, 4));
                }
                boxed(out, b"dinf", |out| {
                    full_box(out, b"dref", 0, 0, |out| {
                        put32(out, 1);
                        full_box(out, b"url ", 0, 1, |_| ());
                    });
                });
                sample_table(out, sample_entry);
            });
        });
    });
}

/// A table without samples: they come in the fragments.
fn sample_table(out: &mut Vec<u8>, sample_entry: impl FnOnce(&mut Vec<u8>)) {
    boxed(out, b"stbl", |out| {
        full_box(out, b"stsd", 0, 0, |out| {
            put32(out, 1);
            sample_entry(out);
        });
        full_box(out, b"stts", 0, 0, |out| put32(out, 0));
        full_box(out, b"stsc", 0, 0, |out| put32(out, 0));
        full_box(out, b"stsz", 0, 0, |out| zeros(out, 8));
        full_box(out, b"stco", 0, 0, |out| put32(out, 0));
    });
}
