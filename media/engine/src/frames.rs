//! From pieces of elementary streams to access units: where a picture ends, whether it is whole, what it is, when it is.
//!
//! A picture is released by the marker bit of its last packet or by the next time stamp, whichever comes first.
//! Markers that turn out to lie are no longer listened to.
//!
//! What viewers get when packets are lost (`LossPolicy::Conceal`): never a torn picture, because decoders in browsers
//! give up on those; a lost key picture stops video until the next one, because everything after it would be predicted
//! from what nobody has; any other lost picture is left out and the following ones are passed on, flagged
//! `discontinuity`, because a duty watch prefers a blemish to a frozen scene. Everything left out is counted.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

use crate::annexb::{self, Nal, NalIndex, Picture};
use crate::audio;
use crate::probe::{self, AudioProbe};
use crate::ps::{PsSink, StreamMap};
use crate::pts::{Stamps, Timeline};
use crate::types::{AccessUnit, Codec, ParameterSets, Track, Tracks, VideoTrack};
use bytes::{Bytes, BytesMut};

/// Largest picture; a larger one is left out.
pub const PICTURE_LIMIT: usize = 4 << 20;
/// Largest audio PES payload.
pub const AUDIO_LIMIT: usize = 64 << 10;
/// Reserved memory a unit may keep beyond twice its size.
const SPARE: usize = 4 << 10;
/// Packs without any change of time stamp or PTS after which both are taken for dead.
const DEAD_PACKS: u32 = 12;
/// Waiting for a second track before the tracks count as settled: sound after picture, picture after sound.
const SETTLE_US: u64 = 1_000_000;
const SETTLE_VIDEO_US: u64 = 5_000_000;

/// What happens to video after a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossPolicy {
    /// Leave out torn pictures; freeze only after a lost key picture.
    #[default]
    Conceal,
    /// Leave out everything until the next key picture.
    UntilKey,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Tracks(Tracks),
    Unit(AccessUnit),
}

/// Counters since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameStats {
    pub video: u64,
    pub keys: u64,
    pub audio: u64,
    /// Units with missing packets, left out.
    pub damaged: u64,
    /// Whole pictures left out because a key picture is waited for.
    pub waited: u64,
    /// Whole units in which nothing could be recognised, left out.
    pub malformed: u64,
    pub oversize: u64,
    /// The PSM named another video codec than the pictures prove.
    pub wrong_maps: u64,
    /// 1 when markers turned out to lie.
    pub false_markers: u64,
}

#[derive(Debug, Default)]
struct Building {
    open: bool,
    data: BytesMut,
    pts: Option<u64>,
    dts: Option<u64>,
    rtp: u32,
    damaged: bool,
    oversize: bool,
    /// A system header or PSM came with it.
    announced: bool,
}

impl Building {
    fn append(&mut self, bytes: &[u8], limit: usize) {
        if self.oversize || self.data.len() + bytes.len() > limit {
            self.oversize = true;
            self.data.clear();
        } else {
            self.data.extend_from_slice(bytes);
        }
    }
}

/// The packet whose bytes come now.
#[derive(Clone, Copy, Debug, Default)]
struct Current {
    rtp: u32,
    arrived_us: u64,
}

/// Builds the access units of one source.
#[derive(Debug)]
pub struct Frames {
    policy: LossPolicy,
    declared: StreamMap,
    video_codec: Option<Codec>,
    /// The pictures themselves have proved `video_codec`.
    proven: bool,
    audio_codec: Option<Codec>,
    audio_probe: AudioProbe,
    /// The PSM names an audio type that is not ours.
    foreign_audio: bool,
    video: Building,
    audio: Building,
    packet: Option<Current>,
    /// A system header or PSM waits for its picture.
    announced: bool,
    /// The beginning of the present picture was lost.
    tainted: bool,
    /// Size of the last picture without and with announcement.
    sizes: (usize, usize),
    awaiting_key: bool,
    video_gap: bool,
    audio_gap: bool,
    markers_trusted: bool,
    /// RTP time stamps were seen to change.
    time_alive: bool,
    /// (RTP time stamp, PTS) of the picture the last marker released.
    released: Option<(u32, Option<u64>)>,
    idle_packs: u32,
    last_pts: Option<u64>,
    timeline: Timeline,
    sets: ParameterSets,
    index: NalIndex,
    tracks: Tracks,
    first_video_us: Option<u64>,
    first_audio_us: Option<u64>,
    stats: FrameStats,
    out: Vec<Output>,
}

impl Frames {
    #[must_use]
    pub fn new(policy: LossPolicy) -> Self {
        Self {
            policy,
            declared: StreamMap::default(),
            video_codec: None,
            proven: false,
            audio_codec: None,
            audio_probe: AudioProbe::default(),
            foreign_audio: false,
            video: Building::default(),
            audio: Building::default(),
            packet: None,
            announced: false,
            tainted: false,
            sizes: (0, 0),
            awaiting_key: true,
            video_gap: false,
            audio_gap: false,
            markers_trusted: true,
            time_alive: false,
            released: None,
            idle_packs: 0,
            last_pts: None,
            timeline: Timeline::new(),
            sets: ParameterSets::default(),
            index: NalIndex::default(),
            tracks: Tracks::default(),
            first_video_us: None,
            first_audio_us: None,
            stats: FrameStats::default(),
            out: Vec::new(),
        }
    }

    #[must_use]
    pub fn stats(&self) -> FrameStats {
        self.stats
    }

    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Bytes held for units under construction.
    #[must_use]
    pub fn held(&self) -> usize {
        self.video.data.capacity() + self.audio.data.capacity()
    }

    #[must_use]
    pub fn markers_trusted(&self) -> bool {
        self.markers_trusted
    }

    /// Takes what is finished.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Output> {
        self.out.drain(..)
    }

    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether a packet with this time stamp begins something new.
    #[must_use]
    pub fn is_new_time(&self, rtp: u32) -> bool {
        self.packet.is_some_and(|packet| packet.rtp != rtp)
    }

    /// Tells the packet the next bytes come from.
    pub fn begin_packet(&mut self, rtp: u32, arrived_us: u64) {
        if self.is_new_time(rtp) {
            self.idle_packs = 0;
            self.tainted = false;
            self.time_alive = true;
        }
        self.packet = Some(Current { rtp, arrived_us });
    }

    /// Packets are missing before the next one: what is under construction is torn.
    pub fn lost(&mut self) {
        self.video.damaged |= self.video.open;
        self.audio.damaged |= self.audio.open;
        (self.video_gap, self.audio_gap) = (true, true);
        self.awaiting_key |= self.policy == LossPolicy::UntilKey;
    }

    /// The packet behind the loss does not begin a picture: what comes until the next pack or time stamp is torn.
    pub fn taint(&mut self) {
        self.tainted = true;
    }

    /// Declares codecs known from signalling or the payload type.
    pub fn declare(&mut self, map: StreamMap) {
        self.map(&map);
    }

    /// A packet that carries one unit of sound alone; the picture under construction is not touched.
    pub fn audio_packet(&mut self, codec: Codec, payload: &[u8], rtp: u32, arrived_us: u64) {
        self.audio_codec = Some(codec);
        let picture = self.packet.replace(Current { rtp, arrived_us });
        self.pes(Track::Audio, None, None);
        self.data(Track::Audio, payload);
        self.finish_audio();
        self.packet = picture;
    }

    /// The marker bit of the last packet of a picture.
    pub fn marker(&mut self) {
        if self.video.open {
            self.released = Some((self.video.rtp, self.video.pts));
        }
        self.finish();
    }

    /// Ends the picture and the unit of sound under construction.
    pub fn finish(&mut self) {
        self.finish_video();
        self.finish_audio();
    }

    fn open_video(&mut self, pts: Option<u64>, dts: Option<u64>) {
        let rtp = self.packet.unwrap_or_default().rtp;
        let again = self.released.take().is_some_and(|(time, stamp)| time == rtp && (pts.is_none() || pts == stamp));
        if again {
            // The rest of a picture that a marker had ended: that marker lied.
            self.markers_trusted = false;
            self.stats.false_markers = 1;
        }
        let announced = std::mem::take(&mut self.announced);
        // As large as the last of its kind and a little more: growing would copy the picture again and again.
        let expected = *self.last_size(announced);
        let video = &mut self.video;
        video.data = BytesMut::with_capacity(expected + expected / 8);
        video.open = true;
        (video.pts, video.dts, video.rtp) = (pts, dts, rtp);
        video.damaged = self.tainted || again;
        video.oversize = false;
        video.announced = announced;
    }

    fn last_size(&mut self, announced: bool) -> &mut usize {
        if announced { &mut self.sizes.1 } else { &mut self.sizes.0 }
    }

    fn finish_video(&mut self) {
        if !std::mem::take(&mut self.video.open) {
            return;
        }
        let mut data = std::mem::take(&mut self.video.data);
        *self.last_size(self.video.announced) = data.len();
        // The hub counts what is used, so what is reserved must not be much more.
        if data.capacity() > 2 * data.len() + SPARE {
            data = BytesMut::from(&data[..]);
        }
        if self.video.damaged || self.video.oversize {
            self.stats.damaged += u64::from(self.video.damaged);
            self.stats.oversize += u64::from(self.video.oversize);
            self.video_gap = true;
            self.awaiting_key |= self.video.announced || self.video.oversize || self.was_key(&data);
            return;
        }
        if data.is_empty() {
            return;
        }
        match self.read_picture(data) {
            Some((codec, picture)) if picture.coded => self.release(codec, picture),
            Some(_) => {}
            None => {
                self.stats.malformed += 1;
                self.video_gap = true;
            }
        }
    }

    /// Whether a torn picture was a key picture, as far as can be seen.
    fn was_key(&mut self, data: &[u8]) -> bool {
        let Some(codec @ (Codec::H264 | Codec::H265)) = self.video_codec else { return false };
        self.index.scan(data)
            && self.index.nals(data).any(|nal| matches!(annexb::classify(codec, nal), Nal::Key | Nal::Sps))
    }

    /// Settles the codec, and reads the picture as that.
    fn read_picture(&mut self, data: BytesMut) -> Option<(Codec, Picture)> {
        if !self.proven
            && let Some(codec) = probe::video(&data)
        {
            let contradicted = self.declared.video.is_some_and(|declared| declared != codec);
            self.stats.wrong_maps += u64::from(contradicted);
            self.video_codec = Some(codec);
            self.proven = true;
        }
        let codec = self.video_codec?;
        let picture = match codec {
            Codec::H264 | Codec::H265 => annexb::read(codec, data, &mut self.index, &mut self.sets)?,
            Codec::Mpeg4 => annexb::read_mpeg4(data, &mut self.index, &mut self.sets)?,
            // Passed through unread: a key picture is one that the camera announced (annex C.1).
            _ => Picture { data: data.freeze(), key: self.video.announced, coded: true },
        };
        Some((codec, picture))
    }

    fn release(&mut self, codec: Codec, picture: Picture) {
        if self.awaiting_key && !picture.key {
            self.stats.waited += 1;
            self.video_gap |= self.stats.video > 0;
            return;
        }
        self.awaiting_key = false;
        let arrived_us = self.packet.unwrap_or_default().arrived_us;
        let stamps = Stamps { pts: self.video.pts, dts: self.video.dts, rtp: self.video.rtp, arrived_us };
        let (pts, dts) = self.timeline.video(&stamps);
        self.first_video_us.get_or_insert(arrived_us);
        if picture.key {
            let track = VideoTrack { codec, parameter_sets: self.sets.clone() };
            if self.tracks.video.as_ref() != Some(&track) {
                self.tracks.video = Some(track);
                self.tell_tracks();
            }
        }
        self.settle(arrived_us);
        self.stats.video += 1;
        self.stats.keys += u64::from(picture.key);
        self.out.push(Output::Unit(AccessUnit {
            track: Track::Video,
            codec,
            pts,
            dts,
            key: picture.key,
            discontinuity: std::mem::take(&mut self.video_gap),
            data: picture.data,
            arrived_us,
        }));
    }

    fn finish_audio(&mut self) {
        if !std::mem::take(&mut self.audio.open) {
            return;
        }
        let data = std::mem::take(&mut self.audio.data).freeze();
        if self.audio.damaged || self.audio.oversize {
            self.stats.damaged += u64::from(self.audio.damaged);
            self.stats.oversize += u64::from(self.audio.oversize);
            self.audio_gap = true;
            return;
        }
        if self.audio_codec.is_none() && !data.is_empty() {
            // A type the PSM names and nobody knows is not guessed at: a wrong guess is noise in somebody's ears.
            let known = |codec: &Codec| *codec == Codec::Aac || !self.foreign_audio;
            self.audio_codec = self.audio_probe.unit(&data).filter(known);
        }
        match self.audio_codec {
            Some(Codec::Aac) => self.release_adts(&data),
            Some(codec) if !data.is_empty() => self.release_audio(codec, data, self.audio.pts),
            _ => {}
        }
    }

    /// A PES packet may hold several ADTS frames: one unit each.
    fn release_adts(&mut self, data: &Bytes) {
        let (mut at, mut pts) = (0, self.audio.pts);
        while let Some(header) = data.get(at..).and_then(audio::adts) {
            let frame = data.slice(at..at + header.length);
            let ticks = audio::duration(Codec::Aac, &frame).unwrap_or(0).unsigned_abs();
            self.release_audio(Codec::Aac, frame, pts);
            at += header.length;
            pts = pts.map(|pts| pts.wrapping_add(ticks) & 0x1_FFFF_FFFF);
        }
        if at < data.len() {
            self.stats.malformed += 1;
            self.audio_gap = true;
        }
    }

    fn release_audio(&mut self, codec: Codec, data: Bytes, pts: Option<u64>) {
        let arrived_us = self.packet.unwrap_or_default().arrived_us;
        let stamps = Stamps { pts, dts: None, rtp: self.audio.rtp, arrived_us };
        let pts = self.timeline.audio(&stamps, audio::duration(codec, &data));
        self.first_audio_us.get_or_insert(arrived_us);
        let known = self.tracks.audio.as_ref().is_some_and(|track| track.codec == codec);
        if !known || codec == Codec::Aac {
            let track = audio::track(codec, &data);
            if self.tracks.audio.as_ref() != Some(&track) {
                self.tracks.audio = Some(track);
                self.tell_tracks();
            }
        }
        self.settle(arrived_us);
        self.stats.audio += 1;
        self.out.push(Output::Unit(AccessUnit {
            track: Track::Audio,
            codec,
            pts,
            dts: pts,
            key: true,
            discontinuity: std::mem::take(&mut self.audio_gap),
            data,
            arrived_us,
        }));
    }

    fn tell_tracks(&mut self) {
        self.tracks.version += 1;
        self.tracks.settled = self.is_settled(self.packet.unwrap_or_default().arrived_us);
        self.out.push(Output::Tracks(self.tracks.clone()));
    }

    /// Tells the tracks again once the wait for a further one is over.
    fn settle(&mut self, now_us: u64) {
        if !self.tracks.settled && self.is_settled(now_us) {
            self.tell_tracks();
        }
    }

    fn is_settled(&self, now_us: u64) -> bool {
        let waited = |since: Option<u64>, wait| since.is_some_and(|since| now_us >= since + wait);
        match (&self.tracks.video, &self.tracks.audio) {
            (Some(_), Some(_)) => true,
            (Some(_), None) => {
                let no_sound = self.declared.video.is_some() && self.declared.audio.is_none();
                no_sound || waited(self.first_video_us, SETTLE_US)
            }
            (None, Some(_)) => waited(self.first_audio_us, SETTLE_VIDEO_US),
            (None, None) => false,
        }
    }
}

impl PsSink for Frames {
    fn pack(&mut self) {
        self.tainted = false;
        if !self.time_alive {
            self.released = None;
        }
        self.idle_packs = self.idle_packs.saturating_add(1);
        // Neither time stamp nor PTS ever moves: the pack header is the only sign of a new picture.
        if self.idle_packs > DEAD_PACKS {
            self.finish();
        }
    }

    fn system_header(&mut self) {
        self.announced = true;
    }

    fn map(&mut self, map: &StreamMap) {
        self.announced = true;
        self.foreign_audio = matches!(map.audio, Some(Codec::Unknown(_)));
        let named = |codec: Option<Codec>| codec.filter(|codec| codec.track().is_some());
        let new = StreamMap { video: named(map.video), audio: named(map.audio) };
        if new == self.declared {
            return;
        }
        self.finish();
        if new.video.is_some() && new.video != self.declared.video {
            self.video_codec = new.video;
            self.proven = matches!(new.video, Some(Codec::Svac));
            self.sets = ParameterSets::default();
        }
        if new.audio.is_some() && new.audio != self.declared.audio {
            self.audio_codec = new.audio;
        }
        self.declared = new;
    }

    fn pes(&mut self, track: Track, pts: Option<u64>, dts: Option<u64>) {
        if track == Track::Audio {
            self.finish_audio();
            let audio = &mut self.audio;
            audio.open = true;
            (audio.pts, audio.dts, audio.rtp) = (pts, dts, self.packet.unwrap_or_default().rtp);
            (audio.damaged, audio.oversize) = (false, false);
            return;
        }
        if pts.is_some() && pts != self.last_pts {
            self.idle_packs = 0;
            self.last_pts = pts;
        }
        if self.video.open && pts.is_some() && self.video.pts.is_some() && pts != self.video.pts {
            self.finish_video();
        }
        if self.video.open {
            self.video.pts = self.video.pts.or(pts);
            self.video.dts = self.video.dts.or(dts);
            self.video.announced |= std::mem::take(&mut self.announced);
        } else {
            self.open_video(pts, dts);
        }
    }

    fn data(&mut self, track: Track, bytes: &[u8]) {
        if track == Track::Audio {
            if self.audio.open {
                self.audio.append(bytes, AUDIO_LIMIT);
            }
            return;
        }
        if !self.video.open {
            // Padding behind a picture is not a picture.
            if bytes.iter().all(|byte| *byte == 0) {
                return;
            }
            self.open_video(None, None);
        }
        self.video.append(bytes, PICTURE_LIMIT);
    }

    fn pes_end(&mut self, track: Track) {
        if track == Track::Audio {
            self.finish_audio();
        }
    }
}
