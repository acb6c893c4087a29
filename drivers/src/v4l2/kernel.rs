//! A device of the kernel.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode as FileMode, OFlags},
    io::Errno,
    time::Timespec,
};

use super::{
    device::{Colours, Device, Filled, FourCc, Identity, Layout, Mode, Range},
    sys::{self, Mapping, Plain},
};

/// An open device file.
#[derive(Debug)]
pub struct Kernel {
    // Unmapped before the file is closed.
    buffers: Vec<Mapping>,
    fd: OwnedFd,
}

/// A size that a device can capture in some format, and its rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Format and size.
    pub mode: Mode,
    /// Frames per second, as the device lists them.
    pub fps: Vec<f64>,
}

impl Kernel {
    /// Opens a device file, without starting anything.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, FileMode::empty())?;
        Ok(Self {
            buffers: Vec::new(),
            fd,
        })
    }

    /// All that the device says it can capture. Where it has ranges of sizes or rates, their ends.
    pub fn offers(&self) -> Result<Vec<Offer>, Errno> {
        let mut offers = Vec::new();
        for index in 0.. {
            let mut format = sys::FmtDesc::zeroed();
            format.index = index;
            format.kind = sys::BUF_TYPE_VIDEO_CAPTURE;
            match sys::ENUM_FMT.on(&self.fd, &mut format) {
                Err(Errno::INVAL) => break,
                done => done?,
            }
            for (width, height) in self.sizes(format.pixelformat)? {
                let mode = Mode {
                    format: FourCc(format.pixelformat),
                    width,
                    height,
                };
                let fps = self.rates(mode)?;
                offers.push(Offer { mode, fps });
            }
        }
        Ok(offers)
    }

    fn sizes(&self, pixel_format: u32) -> Result<Vec<(u32, u32)>, Errno> {
        let mut sizes = Vec::new();
        for index in 0.. {
            let mut size = sys::FrameSize::zeroed();
            size.index = index;
            size.pixel_format = pixel_format;
            match sys::ENUM_FRAMESIZES.on(&self.fd, &mut size) {
                Err(Errno::INVAL | Errno::NOTTY) => break,
                done => done?,
            }
            let [a, b, _, c, d, _] = size.size;
            if size.kind == sys::FRAME_TYPE_DISCRETE {
                sizes.push((a, b));
            } else {
                sizes.extend([(a, c), (b, d)]);
                break;
            }
        }
        Ok(sizes)
    }

    fn rates(&self, mode: Mode) -> Result<Vec<f64>, Errno> {
        let mut rates = Vec::new();
        for index in 0.. {
            let mut entry = sys::FrameInterval::zeroed();
            entry.index = index;
            entry.pixel_format = mode.format.0;
            (entry.width, entry.height) = (mode.width, mode.height);
            match sys::ENUM_FRAMEINTERVALS.on(&self.fd, &mut entry) {
                Err(Errno::INVAL | Errno::NOTTY) => break,
                done => done?,
            }
            let fps = |i: sys::Fraction| f64::from(i.denominator) / f64::from(i.numerator);
            let [a, b, _] = entry.interval;
            if entry.kind == sys::FRAME_TYPE_DISCRETE {
                rates.push(fps(a));
            } else {
                rates.extend([fps(a), fps(b)]);
                break;
            }
        }
        Ok(rates)
    }

    fn buffer(index: u32) -> sys::Buffer {
        let mut buffer = sys::Buffer::zeroed();
        buffer.index = index;
        buffer.kind = sys::BUF_TYPE_VIDEO_CAPTURE;
        buffer.memory = sys::MEMORY_MMAP;
        buffer
    }
}

/// A name that the kernel ends with a zero byte.
fn text(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// How a format's colours are read, by the kernel's rules for what a driver leaves open
/// (`V4L2_MAP_YCBCR_ENC_DEFAULT`, `V4L2_MAP_QUANTIZATION_DEFAULT`).
fn colours(pix: &sys::PixFormat) -> Colours {
    let rec709 = match pix.ycbcr_enc {
        sys::YCBCR_ENC_DEFAULT => pix.colorspace == sys::COLORSPACE_REC709,
        encoding => encoding == sys::YCBCR_ENC_709,
    };
    let full_range = match pix.quantization {
        sys::QUANTIZATION_DEFAULT => pix.colorspace == sys::COLORSPACE_JPEG,
        quantization => quantization == sys::QUANTIZATION_FULL_RANGE,
    };
    Colours { rec709, full_range }
}

/// A time since the machine's start; no driver means its first nanosecond, or one before it.
fn nanos(seconds: i64, micros: i64) -> Option<u64> {
    let seconds_ns = u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?;
    let micros_ns = u64::try_from(micros).ok()?.checked_mul(1000)?;
    seconds_ns.checked_add(micros_ns).filter(|time| *time > 0)
}

impl Device for Kernel {
    fn identity(&self) -> Result<Identity, Errno> {
        let mut answer = sys::Capability::zeroed();
        sys::QUERYCAP.on(&self.fd, &mut answer)?;
        let caps = if answer.capabilities & sys::CAP_DEVICE_CAPS == 0 {
            answer.capabilities
        } else {
            answer.device_caps
        };
        let needed = sys::CAP_VIDEO_CAPTURE | sys::CAP_STREAMING;
        Ok(Identity {
            driver: text(&answer.driver),
            card: text(&answer.card),
            bus: text(&answer.bus_info),
            captures: caps & needed == needed,
        })
    }

    fn set_mode(&mut self, mode: Mode) -> Result<Layout, Errno> {
        let mut format = sys::Format::zeroed();
        format.kind = sys::BUF_TYPE_VIDEO_CAPTURE;
        format.pix.width = mode.width;
        format.pix.height = mode.height;
        format.pix.pixelformat = mode.format.0;
        format.pix.field = sys::FIELD_NONE;
        sys::S_FMT.on(&self.fd, &mut format)?;
        Ok(Layout {
            mode: Mode {
                format: FourCc(format.pix.pixelformat),
                width: format.pix.width,
                height: format.pix.height,
            },
            progressive: format.pix.field == sys::FIELD_NONE,
            stride_bytes: format.pix.bytesperline,
            colours: colours(&format.pix),
        })
    }

    fn set_rate(&mut self, fps: u32) -> Result<Option<u64>, Errno> {
        let mut parm = sys::StreamParm::zeroed();
        parm.kind = sys::BUF_TYPE_VIDEO_CAPTURE;
        parm.timeperframe = sys::Fraction {
            numerator: 1,
            denominator: fps,
        };
        match sys::S_PARM.on(&self.fd, &mut parm) {
            Err(Errno::NOTTY) => return Ok(None),
            done => done?,
        }
        let got = parm.timeperframe;
        let says = parm.capability & sys::CAP_TIMEPERFRAME != 0 && got.denominator != 0;
        let nanos = u64::from(got.numerator) * 1_000_000_000;
        Ok(says.then(|| nanos / u64::from(got.denominator)))
    }

    fn control_range(&self, id: u32) -> Result<Option<Range>, Errno> {
        let mut query = sys::QueryCtrl::zeroed();
        query.id = id;
        match sys::QUERYCTRL.on(&self.fd, &mut query) {
            Err(Errno::INVAL | Errno::NOTTY) => return Ok(None),
            done => done?,
        }
        let fixed = query.flags & (sys::CTRL_FLAG_DISABLED | sys::CTRL_FLAG_READ_ONLY) != 0;
        Ok((!fixed).then_some(Range {
            min: query.minimum,
            max: query.maximum,
            step: query.step,
        }))
    }

    fn set_control(&mut self, id: u32, value: i32) -> Result<i32, Errno> {
        let mut control = sys::Control { id, value };
        sys::S_CTRL.on(&self.fd, &mut control)?;
        sys::G_CTRL.on(&self.fd, &mut control)?;
        Ok(control.value)
    }

    fn start(&mut self, buffers: u32) -> Result<usize, Errno> {
        let mut request = sys::RequestBuffers::zeroed();
        request.count = buffers;
        request.kind = sys::BUF_TYPE_VIDEO_CAPTURE;
        request.memory = sys::MEMORY_MMAP;
        sys::REQBUFS.on(&self.fd, &mut request)?;
        for index in 0..request.count {
            let mut buffer = Self::buffer(index);
            sys::QUERYBUF.on(&self.fd, &mut buffer)?;
            let mapping = Mapping::new(&self.fd, buffer.length as usize, buffer.offset)?;
            self.buffers.push(mapping);
            sys::QBUF.on(&self.fd, &mut buffer)?;
        }
        sys::STREAMON.on(&self.fd, &mut { sys::BUF_TYPE_VIDEO_CAPTURE })?;
        Ok(self.buffers.len())
    }

    fn wait(&mut self, timeout_ns: u64) -> Result<bool, Errno> {
        let timeout = Timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as i64,
            tv_nsec: (timeout_ns % 1_000_000_000) as _,
        };
        let mut polled = [PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            // A signal: the caller looks at its clock and waits on.
            Err(Errno::INTR) => return Ok(false),
            done => done?,
        };
        let events = polled[0].revents();
        // Also what is streaming with buffers at hand says so once it is unplugged.
        if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return Err(Errno::NODEV);
        }
        Ok(events.contains(PollFlags::IN))
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Errno> {
        let mut buffer = Self::buffer(0);
        match sys::DQBUF.on(&self.fd, &mut buffer) {
            Err(Errno::AGAIN) => return Ok(None),
            done => done?,
        }
        let clock = buffer.flags & sys::BUF_FLAG_TIMESTAMP_MASK;
        let monotonic = clock == sys::BUF_FLAG_TIMESTAMP_MONOTONIC;
        Ok(Some(Filled {
            index: buffer.index,
            bytes: buffer.bytesused,
            flawed: buffer.flags & sys::BUF_FLAG_ERROR != 0,
            stamp_ns: nanos(buffer.timestamp_s, buffer.timestamp_us).filter(|_| monotonic),
            sequence: buffer.sequence,
        }))
    }

    fn bytes(&self, filled: &Filled) -> &[u8] {
        let Some(mapping) = self.buffers.get(filled.index as usize) else {
            return &[];
        };
        // SAFETY: `filled` says that the kernel gave the buffer to us, and it cannot be given back
        // while it is borrowed here.
        let bytes = unsafe { mapping.bytes() };
        &bytes[..bytes.len().min(filled.bytes as usize)]
    }

    fn queue(&mut self, filled: Filled) -> Result<(), Errno> {
        sys::QBUF.on(&self.fd, &mut Self::buffer(filled.index))
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if !self.buffers.is_empty() {
            // A device that is gone cannot be told; it does not stream either.
            let _ = sys::STREAMOFF.on(&self.fd, &mut { sys::BUF_TYPE_VIDEO_CAPTURE });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_leaves_open_follows_the_kernels_rules() {
        let mut pix = sys::Format::zeroed().pix;
        assert_eq!(colours(&pix), Colours::default());
        pix.colorspace = sys::COLORSPACE_REC709;
        assert!(colours(&pix).rec709 && !colours(&pix).full_range);
        pix.colorspace = sys::COLORSPACE_JPEG;
        assert!(!colours(&pix).rec709 && colours(&pix).full_range);
        (pix.ycbcr_enc, pix.quantization) = (sys::YCBCR_ENC_709, 2);
        assert!(colours(&pix).rec709 && !colours(&pix).full_range);
    }

    #[test]
    fn a_stamp_is_a_time_or_none() {
        assert_eq!(nanos(2, 500_000), Some(2_500_000_000));
        for (seconds, micros) in [(0, 0), (-1, 0), (1, -1), (i64::MAX, 0)] {
            assert_eq!(nanos(seconds, micros), None);
        }
    }

    #[test]
    fn a_file_that_is_no_video_device_says_so() {
        let null = Kernel::open(Path::new("/dev/null")).unwrap();
        assert_eq!(null.identity(), Err(Errno::NOTTY));
        let none = Kernel::open(Path::new("/dev/no-such-camera"));
        assert_eq!(none.unwrap_err(), Errno::NOENT);
    }
}
