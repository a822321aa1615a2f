//! Test material: a PS muxer, synthetic pictures and RTP packets. Used by several tests, each taking what it needs.
#![allow(dead_code)]

use gbmedia::frames::{LossPolicy, Output};
use gbmedia::rtp;
use gbmedia::stream::Stream;
use gbmedia::types::{AccessUnit, Codec, Track, Tracks};

pub const SSRC: u32 = 100_000_001;

/// Small deterministic generator (xorshift64*): tests must not depend on chance.
#[derive(Clone, Debug)]
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    /// Bytes without zeros, so that no start code can occur in them.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8 | 1).collect()
    }
}

pub fn nal(bytes: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 1], bytes].concat()
}

/// 640 × 480, high profile, level 4; then its PPS.
pub const AVC_SPS: &[u8] = &[0x67, 0x64, 0x00, 0x28, 0xAC, 0xB4, 0x05, 0x01, 0xED, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08];
pub const AVC_PPS: &[u8] = &[0x68, 0xEE, 0x3C, 0x80];
pub const HEVC_VPS: &[u8] = &[0x40, 0x01, 0x0C, 0x01, 0xFF, 0xFF, 0x01, 0x60];
pub const HEVC_SPS: &[u8] = &[0x42, 0x01, 0x01, 0x01, 0x60, 0x93];
pub const HEVC_PPS: &[u8] = &[0x44, 0x01, 0xC1, 0x72, 0xB4];

/// A picture of about `size` bytes; `number` is readable in it, so that a test can tell which one came out.
pub fn picture(codec: Codec, key: bool, number: u32, size: usize) -> Vec<u8> {
    let body = [&marked(number), &Noise(u64::from(number) + 77).bytes(size)[..]].concat();
    match (codec, key) {
        (Codec::H264, true) => [nal(AVC_SPS), nal(AVC_PPS), nal(&[&[0x65, 0x88], &body[..]].concat())].concat(),
        (Codec::H264, false) => nal(&[&[0x41, 0x9A], &body[..]].concat()),
        (Codec::H265, true) => {
            [nal(HEVC_VPS), nal(HEVC_SPS), nal(HEVC_PPS), nal(&[&[0x26, 0x01], &body[..]].concat())].concat()
        }
        (Codec::H265, false) => nal(&[&[0x02, 0x01], &body[..]].concat()),
        (Codec::Mpeg4, true) => {
            [&[0, 0, 1, 0xB0, 1, 0, 0, 1, 0x20, 0x84, 0x50, 0, 0, 1, 0xB6, 0x10], &body[..]].concat()
        }
        (Codec::Mpeg4, false) => [&[0, 0, 1, 0xB6, 0x50], &body[..]].concat(),
        _ => nal(&body),
    }
}

fn marked(number: u32) -> [u8; 9] {
    let mut out = [0x55; 9];
    for (place, slot) in out.iter_mut().skip(1).enumerate() {
        *slot = 0x80 | (number >> (4 * place) & 0x0F) as u8;
    }
    out
}

/// The number in a picture's last slice.
pub fn number_of(data: &[u8]) -> u32 {
    let at = data.windows(9).position(|window| window[0] == 0x55 && window[1..].iter().all(|byte| byte >> 4 == 8));
    let digits = &data[at.expect("marked picture") + 1..][..8];
    digits.iter().rev().fold(0, |number, digit| number << 4 | u32::from(digit & 0x0F))
}

pub fn pack_header(scr: u64) -> Vec<u8> {
    let mut out = vec![0, 0, 1, 0xBA];
    let clock = 1 << 46
        | (scr >> 30 & 7) << 43
        | 1 << 42
        | (scr >> 15 & 0x7FFF) << 27
        | 1 << 26
        | (scr & 0x7FFF) << 11
        | 1 << 10
        | 1;
    out.extend_from_slice(&clock.to_be_bytes()[2..]);
    out.extend_from_slice(&[0x00, 0x03, 0xFF, 0xF8]);
    out
}

pub fn system_header() -> Vec<u8> {
    vec![0, 0, 1, 0xBB, 0, 12, 0x80, 0x04, 0xE1, 0x04, 0xE1, 0x7F, 0xE0, 0xE0, 0x80, 0xC0, 0xC0, 0x08]
}

/// A PSM with (stream type, stream id) entries.
pub fn psm(entries: &[(u8, u8)]) -> Vec<u8> {
    let map: Vec<u8> = entries.iter().flat_map(|(stream_type, id)| [*stream_type, *id, 0, 0]).collect();
    let mut out = vec![0, 0, 1, 0xBC];
    out.extend_from_slice(&((map.len() + 10) as u16).to_be_bytes());
    out.extend_from_slice(&[0xE1, 0xFF, 0, 0]);
    out.extend_from_slice(&(map.len() as u16).to_be_bytes());
    out.extend(map);
    out.extend_from_slice(&[0x45, 0xBD, 0xDC, 0xF4]);
    out
}

pub fn stamp(prefix: u8, time: u64) -> [u8; 5] {
    [
        prefix << 4 | (time >> 29 & 0x0E) as u8 | 1,
        (time >> 22) as u8,
        (time >> 14) as u8 | 1,
        (time >> 7) as u8,
        (time << 1) as u8 | 1,
    ]
}

/// One PES packet; `length` overrides the declared length.
pub fn pes(id: u8, pts: Option<u64>, payload: &[u8], length: Option<u16>) -> Vec<u8> {
    let stamps: Vec<u8> = pts.map(|pts| stamp(2, pts).to_vec()).unwrap_or_default();
    let declared = length.unwrap_or((3 + stamps.len() + payload.len()) as u16);
    let mut out = vec![0, 0, 1, id];
    out.extend_from_slice(&declared.to_be_bytes());
    out.extend_from_slice(&[0x80, if pts.is_some() { 0x80 } else { 0 }, stamps.len() as u8]);
    out.extend(stamps);
    out.extend_from_slice(payload);
    out
}

/// How a test camera deviates; the default is a good one.
#[derive(Clone, Debug)]
pub struct Camera {
    pub codec: Codec,
    /// Stream types of the PSM; empty: no PSM.
    pub map: Vec<(u8, u8)>,
    /// First picture with a PSM.
    pub map_from: u32,
    pub gop: u32,
    pub key_size: usize,
    pub size: usize,
    pub mtu: usize,
    /// Largest PES payload; larger pictures are split.
    pub pes_payload: usize,
    /// Declared PES length of video, if not the true one.
    pub pes_length: Option<u16>,
    pub markers: bool,
    /// Bytes of A-law sound after each picture; 0: none.
    pub sound: usize,
    /// Inserted before the video PES.
    pub private: Vec<u8>,
    pub pts_offset: u64,
    pub no_pts: bool,
    /// Slices of a picture (H.264).
    pub slices: usize,
    pub constant_rtp: bool,
}

impl Camera {
    pub fn new(codec: Codec) -> Self {
        let stream_type = match codec {
            Codec::H264 => 0x1B,
            Codec::H265 => 0x24,
            Codec::Mpeg4 => 0x10,
            _ => 0x80,
        };
        Self {
            codec,
            map: vec![(stream_type, 0xE0), (0x90, 0xC0)],
            map_from: 0,
            gop: 10,
            key_size: 5_000,
            size: 900,
            mtu: 1_400,
            pes_payload: 65_000,
            pes_length: None,
            markers: true,
            sound: 320,
            private: Vec::new(),
            pts_offset: 0,
            no_pts: false,
            slices: 1,
            constant_rtp: false,
        }
    }

    pub fn is_key(&self, number: u32) -> bool {
        number.is_multiple_of(self.gop)
    }

    /// The elementary stream of one picture.
    pub fn es(&self, number: u32) -> Vec<u8> {
        let key = self.is_key(number);
        let mut es = picture(self.codec, key, number, if key { self.key_size } else { self.size });
        let slice = picture(Codec::H264, false, number, self.size);
        (1..self.slices).for_each(|_| es.extend_from_slice(&slice));
        es
    }

    /// The program stream of one picture (and its sound).
    pub fn ps(&self, number: u32) -> Vec<u8> {
        let time = u64::from(number) * 3_600 + self.pts_offset;
        let pts = (!self.no_pts).then_some(time & 0x1_FFFF_FFFF);
        let mut out = pack_header(time);
        if self.is_key(number) {
            out.extend(system_header());
            if !self.map.is_empty() && number >= self.map_from {
                out.extend(psm(&self.map));
            }
        }
        out.extend_from_slice(&self.private);
        for (index, piece) in self.es(number).chunks(self.pes_payload).enumerate() {
            out.extend(pes(0xE0, pts.filter(|_| index == 0), piece, self.pes_length));
        }
        if self.sound > 0 {
            out.extend(pes(0xC0, pts, &vec![0xD5; self.sound], None));
        }
        out
    }

    /// RTP packets of pictures `range`; sequence numbers begin with `seq`.
    pub fn rtp(&self, range: std::ops::Range<u32>, mut seq: u16) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for number in range {
            let ps = self.ps(number);
            let time = if self.constant_rtp { 0 } else { number.wrapping_mul(3_600) };
            let count = ps.len().div_ceil(self.mtu);
            for (index, piece) in ps.chunks(self.mtu).enumerate() {
                packets.push(rtp_packet(96, seq, time, SSRC, self.markers && index + 1 == count, piece));
                seq = seq.wrapping_add(1);
            }
        }
        packets
    }
}

pub fn rtp_packet(payload_type: u8, seq: u16, time: u32, ssrc: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, payload_type | if marker { 0x80 } else { 0 }];
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// What came out of a stream.
#[derive(Debug)]
pub struct Received {
    pub stream: Stream,
    pub units: Vec<AccessUnit>,
    pub tracks: Vec<Tracks>,
    pub now_us: u64,
}

impl Received {
    pub fn new(reliable: bool) -> Self {
        Self {
            stream: Stream::new(reliable, LossPolicy::Conceal),
            units: Vec::new(),
            tracks: Vec::new(),
            now_us: 1_000_000,
        }
    }

    /// Feeds packets, their arrival following the RTP clock; checks the memory bound.
    pub fn feed(&mut self, packets: &[Vec<u8>]) {
        let mut last: Option<u32> = None;
        for packet in packets {
            let rtp = rtp::parse(packet).unwrap();
            let step = last.map_or(0, |time| rtp.timestamp.wrapping_sub(time).cast_signed());
            if step > 0 {
                self.now_us += u64::from(step.unsigned_abs()).min(900_000) * 100 / 9;
            }
            last = Some(last.map_or(rtp.timestamp, |time| if step > 0 { rtp.timestamp } else { time }));
            self.stream.push(&rtp, self.now_us);
            assert!(self.stream.held_bytes() <= 8 << 20);
            self.collect();
        }
    }

    /// Lets time pass, so that gaps are given up.
    pub fn pass_ms(&mut self, millis: u64) {
        self.now_us += millis * 1_000;
        self.stream.flush(self.now_us);
        self.collect();
    }

    fn collect(&mut self) {
        for output in self.stream.drain() {
            match output {
                Output::Tracks(tracks) => self.tracks.push(tracks),
                Output::Unit(unit) => self.units.push(unit),
            }
        }
    }

    pub fn of(&self, track: Track) -> Vec<&AccessUnit> {
        self.units.iter().filter(|unit| unit.track == track).collect()
    }

    /// Numbers of the pictures that came out.
    pub fn numbers(&self) -> Vec<u32> {
        self.of(Track::Video).iter().map(|unit| number_of(&unit.data)).collect()
    }
}

/// Feeds the camera's packets to a fresh stream.
pub fn receive(camera: &Camera, pictures: u32) -> Received {
    let mut received = Received::new(false);
    received.feed(&camera.rtp(0..pictures, 65_500));
    received
}

/// Asserts that exactly the camera's pictures `range` came out, byte for byte, in order, monotone.
pub fn assert_pictures(received: &Received, camera: &Camera, range: std::ops::Range<u32>) {
    let expected: Vec<u32> = range.collect();
    assert_eq!(received.numbers(), expected);
    let video = received.of(Track::Video);
    for (unit, number) in video.iter().zip(expected) {
        assert_eq!(unit.codec, camera.codec);
        assert_eq!(unit.key, camera.is_key(number), "picture {number}");
        assert!(unit.data[..] == camera.es(number)[..], "picture {number} is not as sent");
    }
    assert!(video.windows(2).all(|pair| pair[0].dts < pair[1].dts));
}
