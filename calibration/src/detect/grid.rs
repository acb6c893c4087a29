//! Saddles that are joined by edges, with their places in a grid.

use std::collections::{BTreeMap, VecDeque};

use super::{plane::Plane, saddles::Saddle};

/// Saddles in rows and columns, as far as edges lead from one to the next.
pub struct Grid {
    /// By column and row, counted from any of them.
    pub nodes: BTreeMap<(i32, i32), Node>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Where, pixels.
    pub at: [f64; 2],
    /// Whether the square below it, to the right is dark.
    pub dark_below_right: bool,
}

/// Least distance of two corners, pixels: nearer ones' edges cannot be told apart.
const LEAST_PX: f64 = 8.0;

/// How much longer one side of a square may look than that of the square beside it.
const LONGER: f64 = 1.8;

/// So far an edge's direction may be from the way to the next corner, radians: it is seen near the corner
/// only, and lenses and perspective bend it.
const ALONG: f64 = 0.3;

/// Corners beside each other have about the same contrast.
const CONTRAST: f32 = 0.4;

/// Candidates that are looked at in one direction.
const TRIES: usize = 8;

/// All grids of at least two by two, the largest first.
pub fn grids(plane: &Plane, saddles: &[Saddle]) -> Vec<Grid> {
    // Corners meet after each edge's contrast has been seen, not the noise.
    let smooth = plane.smoothed(0.8);
    let next: Vec<Steps> = (0..saddles.len())
        .map(|from| [0, 1, 2, 3].map(|edge| next(&smooth, saddles, from, edge)))
        .collect();
    let next = regular(&mutual(&next));
    let mut seen = vec![false; saddles.len()];
    let mut grids = vec![];
    for start in 0..saddles.len() {
        if !seen[start] {
            grids.push(grown(saddles, &next, start, &mut seen));
        }
    }
    grids.retain(|grid| grid.nodes.len() >= 4);
    grids.sort_by_key(|grid| std::cmp::Reverse(grid.nodes.len()));
    grids
}

/// From one saddle to the next.
#[derive(Clone, Copy)]
struct Step {
    to: usize,
    /// Of the edges there, the one that leads back.
    back: usize,
    /// How far it is, pixels.
    length: f64,
}

/// One saddle's, by its edges.
type Steps = [Option<Step>; 4];

/// Those that are meant by both ends.
fn mutual(next: &[Steps]) -> Vec<Steps> {
    let of = |from: usize| {
        let returns = |step: &Step| next[step.to][step.back].is_some_and(|back| back.to == from);
        next[from].map(|step| step.filter(returns))
    };
    (0..next.len()).map(of).collect()
}

/// Those that are not much shorter than the one before or after them: a corner of a marker may lie where
/// one of the board could.
fn regular(next: &[Steps]) -> Vec<Steps> {
    let ahead = |from: usize, edge: usize| next[from][edge].map_or(0.0, |step| step.length);
    let of = |from: usize| {
        [0, 1, 2, 3].map(|edge| {
            next[from][edge].filter(|step| {
                let before = ahead(from, (edge + 2) % 4);
                let after = ahead(step.to, (step.back + 2) % 4);
                LONGER * step.length > before.max(after)
            })
        })
    };
    (0..next.len()).map(of).collect()
}

/// The nearest saddle along an edge that the edge really leads to.
fn next(smooth: &Plane, saddles: &[Saddle], from: usize, edge: usize) -> Option<Step> {
    let (here, direction) = (&saddles[from], saddles[from].edges[edge]);
    let mut ahead: Vec<Step> = vec![];
    for (to, there) in saddles.iter().enumerate() {
        let way = [there.at[0] - here.at[0], there.at[1] - here.at[1]];
        let distance = way[0].hypot(way[1]);
        let like = there.contrast.min(here.contrast) > CONTRAST * there.contrast.max(here.contrast);
        if !like || distance < LEAST_PX || dot(way, direction) < distance * ALONG.cos() {
            continue;
        }
        // What is to the right of an edge is to its left on the way back, and at the next corner the
        // colours have changed sides: it comes in by an edge of the other kind.
        let back = (0..4).find(|&back| {
            back % 2 != edge % 2 && -dot(way, there.edges[back]) > distance * ALONG.cos()
        });
        if let Some(back) = back {
            let length = distance;
            ahead.push(Step { to, back, length });
        }
    }
    ahead.sort_by(|a, b| a.length.total_cmp(&b.length));
    let is_edge = |step: &Step| {
        let contrast = here.contrast.min(saddles[step.to].contrast);
        // To the right of the first edge it is bright.
        let bright_right = edge.is_multiple_of(2);
        is_edge(smooth, here.at, saddles[step.to].at, bright_right, contrast)
    };
    ahead.into_iter().take(TRIES).find(is_edge)
}

/// Whether one side is brighter than the other all the way.
fn is_edge(smooth: &Plane, a: [f64; 2], b: [f64; 2], bright_right: bool, contrast: f32) -> bool {
    let way = [b[0] - a[0], b[1] - a[1]];
    let length = way[0].hypot(way[1]);
    // Near enough that no marker's frame is met.
    let aside = (0.06 * length).max(1.2) / length;
    let right = [-way[1] * aside, way[0] * aside];
    let sign = if bright_right { 1.0 } else { -1.0 };
    (2..=8).all(|i| {
        let t = f64::from(i) / 10.0;
        let at = [a[0] + t * way[0], a[1] + t * way[1]];
        let side = |sign: f64| smooth.between([at[0] + sign * right[0], at[1] + sign * right[1]]);
        sign * (side(1.0) - side(-1.0)) > 0.15 * contrast
    })
}

fn dot(a: [f64; 2], b: [f64; 2]) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

/// All that can be reached from one saddle.
fn grown(saddles: &[Saddle], next: &[Steps], start: usize, seen: &mut [bool]) -> Grid {
    let node = |index: usize, right: usize| Node {
        at: saddles[index].at,
        // Between its first edge and its second it is bright.
        dark_below_right: right % 2 == 1,
    };
    let mut nodes = BTreeMap::from([((0, 0), node(start, 0))]);
    seen[start] = true;
    // Saddle, its column and row, and which of its edges leads to the right.
    let mut queue = VecDeque::from([(start, (0, 0), 0)]);
    while let Some((index, (column, row), right)) = queue.pop_front() {
        for (quarter, (dx, dy)) in [(1, 0), (0, 1), (-1, 0), (0, -1)].into_iter().enumerate() {
            let edge = (right + quarter) % 4;
            let Some(Step { to, back, .. }) = next[index][edge] else {
                continue;
            };
            let place = (column + dx, row + dy);
            if seen[to] || nodes.contains_key(&place) {
                continue;
            }
            seen[to] = true;
            // The edge back points the other way: two quarters on from this one.
            let right = (back + 6 - quarter) % 4;
            nodes.insert(place, node(to, right));
            queue.push_back((to, place, right));
        }
    }
    Grid { nodes }
}
