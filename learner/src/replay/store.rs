//! The store: segments, the index over them, sampling.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

use hilt_protocol::{RunId, noise::Uniforms};

use super::{
    batch::HostBatch,
    returns::Returns,
    rows::{Place, Rows, Side},
    segment::{Identity, Layout, Row, RowView, Segment, SegmentError, sync_folder_of},
};

/// Segments are about this large; the last one is mostly empty on average.
const SEGMENT_BYTES: usize = 16 << 20;

/// Which transitions to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Everything that the robot did in training.
    Online,
    /// Recorded demonstrations, and interventions.
    Demonstrations,
}

/// What [`Replay::push`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The row is new.
    New,
    /// It was there already; nothing changed.
    Duplicate,
}

/// Counts since opening, and sizes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rows in the store.
    pub rows: usize,
    /// Transitions of [`Which::Online`].
    pub online: usize,
    /// Transitions of [`Which::Demonstrations`].
    pub demonstrations: usize,
    /// Rows that the robot sent, ever: those that were dropped for their age as well.
    pub entries: u64,
    /// Rows that were pushed again.
    pub duplicates: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// A transition: where its observation lies, and its step with the next observation.
#[derive(Clone, Copy, Debug)]
struct Transition {
    from: Place,
    to: Place,
}

/// The store in one folder.
#[derive(Debug)]
pub struct Replay {
    dir: PathBuf,
    layout: Layout,
    identity: Identity,
    capacity_rows: usize,
    rows: Rows,
    returns: Option<Returns>,
    online: Vec<Transition>,
    demonstrations: Vec<Transition>,
    duplicates: u64,
    /// Per run, the sequence number after the last that was dropped: what is below it was here.
    dropped: BTreeMap<u64, u64>,
    /// Held, not read: one learner per folder.
    _lock: File,
}

/// Even segments hold what the robot did, odd ones recorded demonstrations, so that the oldest
/// experience can be dropped a segment at a time and demonstrations never are.
fn is_demonstrations(segment: u32) -> bool {
    segment % 2 == 1
}

fn number_of(path: &Path) -> Option<u32> {
    path.file_name()?
        .to_str()?
        .strip_prefix("segment-")?
        .strip_suffix(".replay")?
        .parse()
        .ok()
}

impl Replay {
    /// Opens (or makes) the store in `dir`. Beyond `capacity_rows` the oldest online segments are
    /// deleted whole.
    pub fn open(
        dir: &Path,
        layout: Layout,
        identity: Identity,
        capacity_rows: usize,
    ) -> Result<Self, SegmentError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SegmentError::Io {
                path,
                bytes: 0,
                source,
            }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io(&lock_path)(std::io::Error::other(
                    "another learner has this store open",
                )));
            }
            Err(TryLockError::Error(e)) => return Err(io(&lock_path)(e)),
        }
        let mut store = Self {
            dir: dir.to_owned(),
            layout,
            identity,
            capacity_rows,
            rows: Rows::default(),
            returns: None,
            online: Vec::new(),
            demonstrations: Vec::new(),
            duplicates: 0,
            dropped: BTreeMap::new(),
            _lock: lock,
        };
        let path = store.dropped_path();
        if path.exists() {
            let bytes = fs::read(&path).map_err(io(&path))?;
            store.dropped =
                serde_json::from_slice(&bytes).map_err(|e| io(&path)(std::io::Error::from(e)))?;
        }
        for file in fs::read_dir(dir).map_err(io(dir))? {
            let path = file.map_err(io(dir))?.path();
            if let Some(number) = number_of(&path)
                && let Some(segment) = Segment::open(&path, layout, &identity)?
            {
                store.rows.segments.insert(number, segment);
            }
        }
        let segments = &store.rows.segments;
        let places: Vec<Place> = (segments.iter())
            .flat_map(|(&segment, s)| {
                let whole = (0..s.rows()).filter(|&row| s.is_whole(row));
                whole.map(move |row| Place {
                    segment,
                    row: row as u32,
                })
            })
            .collect();
        for place in places {
            store.index(place);
        }
        Ok(store)
    }

    fn dropped_path(&self) -> PathBuf {
        self.dir.join("dropped.json")
    }

    /// Where each run's kept rows begin.
    fn floor(&self, run: u64) -> u64 {
        self.dropped.get(&run).copied().unwrap_or(0)
    }

    /// What a row of this store holds.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The stored row of (`run`, `sequence`), to look at.
    pub fn row(&self, run: RunId, sequence: u64) -> Option<RowView<'_>> {
        self.rows.view(self.rows.find((run.0, sequence))?)
    }

    /// Beside each transition its return from now on: the sum of rewards and grasp penalties from it to its
    /// episode's end, discounted by `discount` per step. Where time ran out it is what came until then, which
    /// bounds the return from below as long as what comes is not negative; grasp penalties are, and little. While the
    /// end is not known, for it has not come yet or a row before it is missing, it is [`UNKNOWN_RETURN`].
    ///
    /// [`UNKNOWN_RETURN`]: crate::agents::sight::UNKNOWN_RETURN
    pub fn reckon_returns(&mut self, discount: f64) {
        self.returns = Some(Returns::new(discount, &self.rows));
    }

    /// Enters a stored row into the index, with the transitions it completes.
    fn index(&mut self, place: Place) {
        self.rows.enter(place);
        let before = self.rows.neighbour(place, Side::Before);
        let after = self.rows.neighbour(place, Side::After);
        if let Some((from, true)) = before {
            self.index_transition(Transition { from, to: place });
        }
        if let Some((to, true)) = after {
            self.index_transition(Transition { from: place, to });
        }
        if let Some(returns) = &mut self.returns {
            returns.reckon(&self.rows, place);
        }
    }

    fn index_transition(&mut self, transition: Transition) {
        let Some(to) = self.rows.view(transition.to) else {
            return;
        };
        let flags = to.flags();
        if flags.demonstration {
            self.demonstrations.push(transition);
        } else {
            self.online.push(transition);
            if flags.intervention {
                self.demonstrations.push(transition);
            }
        }
    }

    fn check(&self, row: &Row<'_>) -> Result<(), SegmentError> {
        let size = |what| SegmentError::Size {
            run: row.run,
            sequence: row.sequence,
            what,
        };
        if !row.flags.reset && row.action.len() != self.layout.action {
            return Err(size("action"));
        }
        if row.proprio.len() != self.layout.proprio {
            return Err(size("proprioception"));
        }
        let frames = row.frames.len() == self.layout.cameras
            && row
                .frames
                .iter()
                .all(|frame| frame.len() == self.layout.copies * self.layout.frame_bytes);
        if frames { Ok(()) } else { Err(size("frames")) }
    }

    /// Adds a row. Pushing it again changes nothing, also after it was dropped for its age.
    pub fn push(&mut self, row: &Row<'_>) -> Result<Pushed, SegmentError> {
        self.check(row)?;
        if row.sequence < self.floor(row.run.0)
            || self.rows.find((row.run.0, row.sequence)).is_some()
        {
            self.duplicates += 1;
            return Ok(Pushed::Duplicate);
        }
        let segment = self.segment_for(row.flags.demonstration)?;
        let Some(open) = self.rows.segments.get_mut(&segment) else {
            return Ok(Pushed::Duplicate);
        };
        let row = open.append(row)? as u32;
        self.index(Place { segment, row });
        self.drop_oldest()?;
        Ok(Pushed::New)
    }

    /// The last segment of its kind, or a new one when that is full.
    fn segment_for(&mut self, demonstrations: bool) -> Result<u32, SegmentError> {
        let mut of_kind = self
            .rows
            .segments
            .iter()
            .rev()
            .filter(|(n, _)| is_demonstrations(**n) == demonstrations);
        let last = of_kind
            .next()
            .map(|(&number, segment)| (number, segment.rows() < segment.capacity()));
        let number = match last {
            Some((number, true)) => return Ok(number),
            Some((number, false)) => number + 2,
            None => u32::from(demonstrations),
        };
        let path = self.dir.join(format!("segment-{number:08}.replay"));
        let capacity = (SEGMENT_BYTES / self.layout.row_bytes()).max(64);
        let segment = Segment::create(&path, self.layout, &self.identity, capacity)?;
        self.rows.segments.insert(number, segment);
        Ok(number)
    }

    fn drop_oldest(&mut self) -> Result<(), SegmentError> {
        let online = |s: &BTreeMap<u32, Segment>| -> Vec<(u32, usize)> {
            s.iter()
                .filter(|(n, _)| !is_demonstrations(**n))
                .map(|(&n, s)| (n, s.rows()))
                .collect()
        };
        let segments = online(&self.rows.segments);
        let total: usize = segments.iter().map(|(_, rows)| rows).sum();
        let [(oldest, rows), _, ..] = segments[..] else {
            return Ok(());
        };
        if total - rows < self.capacity_rows {
            return Ok(());
        }
        for (&(run, sequence), place) in &self.rows.places {
            if place.segment == oldest {
                let floor = self.dropped.entry(run).or_insert(0);
                *floor = (*floor).max(sequence.saturating_add(1));
            }
        }
        // First, so that no crash lets the stream deliver again what is about to go.
        self.write_dropped()?;
        let Some(segment) = self.rows.segments.remove(&oldest) else {
            return Ok(());
        };
        fs::remove_file(segment.path()).map_err(|source| SegmentError::Io {
            path: segment.path().to_owned(),
            bytes: segment.bytes(),
            source,
        })?;
        self.rows.places.retain(|_, place| place.segment != oldest);
        if let Some(returns) = &mut self.returns {
            returns.forget(oldest);
        }
        let kept = |t: &Transition| t.from.segment != oldest && t.to.segment != oldest;
        self.online.retain(kept);
        self.demonstrations.retain(kept);
        Ok(())
    }

    fn write_dropped(&self) -> Result<(), SegmentError> {
        let path = self.dropped_path();
        let beside = path.with_extension("new");
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(&serde_json::to_vec(&self.dropped)?)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_folder_of(&path)
        };
        write().map_err(|source| SegmentError::Io {
            path: path.clone(),
            bytes: 0,
            source,
        })
    }

    /// Waits until the disk has every row pushed so far. Sampling can go on meanwhile.
    pub fn sync(&self) -> Result<(), SegmentError> {
        self.rows.segments.values().try_for_each(Segment::sync)
    }

    /// Transitions to draw from.
    pub fn len(&self, which: Which) -> usize {
        self.transitions(which).len()
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self, which: Which) -> bool {
        self.len(which) == 0
    }

    fn transitions(&self, which: Which) -> &[Transition] {
        match which {
            Which::Online => &self.online,
            Which::Demonstrations => &self.demonstrations,
        }
    }

    /// Fills rows `range` of the batch with transitions drawn uniformly, with replacement. Each of
    /// the two observations comes as one of its copies, the same for all cameras. `false`: there
    /// are none, and nothing was filled.
    pub fn sample(
        &self,
        which: Which,
        range: std::ops::Range<usize>,
        random: &mut Uniforms,
        batch: &mut HostBatch,
    ) -> bool {
        let all = self.transitions(which);
        if all.is_empty() {
            return false;
        }
        for slot in range {
            let draw = random.bits();
            let t = all[(draw % all.len() as u64) as usize];
            // From a stream of their own: the same seed draws the same rows however many there are.
            let mut copies = Uniforms::new(draw);
            let copies = [(); 2].map(|()| copies.below(self.layout.copies as u64) as usize);
            self.fill(batch, slot, t, copies);
        }
        true
    }

    fn fill(&self, batch: &mut HostBatch, slot: usize, t: Transition, copies: [usize; 2]) {
        if let (Some(from), Some(to)) = (self.rows.view(t.from), self.rows.view(t.to)) {
            let returned = self.returns.as_ref().map(|returns| returns.of(t.to));
            batch.fill(slot, [from, to], copies, returned);
        }
    }

    /// Fills the batch with the transitions from number `first` on, in the order in which they came, of each
    /// frame the first copy. Says how many there were; the rows beyond are what they were.
    pub fn in_order(&self, which: Which, first: usize, batch: &mut HostBatch) -> usize {
        self.fill_all(self.transitions(which).iter().skip(first), batch)
    }

    /// As [`Replay::in_order`], of all transitions that there are: recorded demonstrations, then what robots did. Each
    /// comes once, where interventions are of either [`Which`].
    pub fn all_in_order(&self, first: usize, batch: &mut HostBatch) -> usize {
        self.fill_all(self.all().skip(first), batch)
    }

    /// How many there are of [`Replay::all_in_order`].
    pub fn all_len(&self) -> usize {
        self.all().count()
    }

    fn all(&self) -> impl Iterator<Item = &Transition> {
        let recorded = |t: &&Transition| is_demonstrations(t.to.segment);
        (self.demonstrations.iter().filter(recorded)).chain(&self.online)
    }

    fn fill_all<'a>(
        &self,
        transitions: impl Iterator<Item = &'a Transition>,
        batch: &mut HostBatch,
    ) -> usize {
        let mut filled = 0;
        for t in transitions.take(batch.len()) {
            self.fill(batch, filled, *t, [0, 0]);
            filled += 1;
        }
        filled
    }

    /// RLPD's symmetric sampling (Ball et al. 2023): `share` of each of `parts` equal parts of the batch from
    /// demonstrations, the rest online; all from the other where one is empty. `false`: both are.
    pub fn sample_mixed(
        &self,
        share: f64,
        parts: usize,
        random: &mut Uniforms,
        batch: &mut HostBatch,
    ) -> bool {
        let n = batch.len() / parts;
        let demonstrations = match (
            self.is_empty(Which::Online),
            self.is_empty(Which::Demonstrations),
        ) {
            (true, true) => return false,
            (true, false) => n,
            (false, true) => 0,
            (false, false) => (n as f64 * share).round() as usize,
        };
        for part in 0..parts {
            let (begin, end) = (part * n, (part + 1) * n);
            let between = begin + demonstrations;
            self.sample(Which::Demonstrations, begin..between, random, batch);
            self.sample(Which::Online, between..end, random, batch);
        }
        true
    }

    /// Per run, the first sequence number that is missing; what was dropped for its age is not.
    pub fn next_missing(&self) -> BTreeMap<RunId, u64> {
        let runs = self.rows.places.keys().map(|&(run, _)| run);
        let mut next: BTreeMap<RunId, u64> = runs
            .chain(self.dropped.keys().copied())
            .map(|run| (RunId(run), self.floor(run)))
            .collect();
        for (run, sequence) in &mut next {
            while self.rows.places.contains_key(&(run.0, *sequence)) {
                *sequence += 1;
            }
        }
        next
    }

    /// Counts and sizes.
    pub fn statistics(&self) -> Statistics {
        let online = (self.rows.places.values()).filter(|place| !is_demonstrations(place.segment));
        Statistics {
            rows: self.rows.places.len(),
            online: self.online.len(),
            demonstrations: self.demonstrations.len(),
            entries: self.dropped.values().sum::<u64>() + online.count() as u64,
            duplicates: self.duplicates,
            bytes: self.rows.segments.values().map(Segment::bytes).sum(),
        }
    }
}
