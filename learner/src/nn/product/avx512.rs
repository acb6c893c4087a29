//! The walk over panels and tiles, with AVX-512.

use std::{arch::x86_64::*, cell::RefCell};

use super::{After, Factor, TILE};

/// Columns of a panel, and of a tile.
pub(super) const PANEL: usize = 32;
/// Numbers that one walk down a panel adds up: 64 KiB of panel. More of them than the first cache holds, for wide
/// layers: the product is read and written once for so many, and the way down a panel is one that a processor
/// foresees.
pub(super) const DEPTH: usize = 512;
/// Numbers in a line of the cache, and in a register.
pub(super) const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [f32; LINE]);

/// Where a thread copies to.
pub(super) struct Copies {
    /// \[k, 32\], two lines each.
    pub(super) panel: Vec<Line>,
    /// \[tile, k, 14 rows and room for 2\].
    pub(super) tiles: Vec<Line>,
}

impl Copies {
    /// For a panel and so many tiles.
    pub(super) fn make_room(&mut self, tiles: usize) {
        for (lines, count) in [
            (&mut self.panel, DEPTH * PANEL / LINE),
            (&mut self.tiles, tiles * DEPTH),
        ] {
            if lines.len() < count {
                lines.resize(count, Line([0.0; LINE]));
            }
        }
    }
}

thread_local! {
    pub(super) static COPIES: RefCell<Copies> = const { RefCell::new(Copies { panel: Vec::new(), tiles: Vec::new() }) };
}

/// # Safety
/// The processor has AVX-512; `a` and `b` hold what c's rows, `depth` and `columns` ask for, and so does
/// what is in `after`; either rows or columns of `a` and of `b` lie number behind number.
pub unsafe fn multiply(
    a: Factor,
    b: Factor,
    depth: usize,
    columns: usize,
    c: &mut [f32],
    after: After,
) {
    COPIES.with_borrow_mut(|copies| {
        // SAFETY: the caller's.
        unsafe { multiply_by(copies, a, b, depth, columns, c, after) }
    });
}

/// Whether tiles of `a` are copied too. Rows far apart push each other out of the first cache; columns far apart
/// are fetched one by one, which pays if they are needed often.
fn tiles_are_copied(a: Factor, columns: usize) -> bool {
    match a.column {
        1 => a.row >= 512 && columns > 2 * PANEL,
        _ => columns >= 1024,
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn multiply_by(
    copies: &mut Copies,
    a: Factor,
    b: Factor,
    depth: usize,
    columns: usize,
    c: &mut [f32],
    after: After,
) {
    let rows = c.len() / columns;
    let tiles = rows.div_ceil(TILE);
    let copy = tiles_are_copied(a, columns);
    copies.make_room(if copy { tiles } else { 0 });
    let Copies {
        panel,
        tiles: copied,
    } = copies;
    for k in (0..depth).step_by(DEPTH) {
        let deep = DEPTH.min(depth - k);
        if copy {
            // SAFETY: a has these rows and columns.
            unsafe { copy_tiles(a, rows, k, deep, copied) };
        }
        for j in (0..columns).step_by(PANEL) {
            let wide = PANEL.min(columns - j);
            // SAFETY: rows k.. and columns j.. of b are there.
            unsafe { copy_panel(b, k, j, deep, wide, panel.as_mut_ptr().cast()) };
            let last = k + deep == depth;
            let (next_k, next_j) = match j + PANEL < columns {
                true => (k, j + PANEL),
                false => (k + deep, 0),
            };
            let next_size = [DEPTH.min(depth - next_k), PANEL.min(columns - next_j)];
            let mut ahead = Ahead::of_panel(b, [next_k, next_j], next_size, tiles);
            let mut i = 0;
            while i < rows {
                // SAFETY: a has row i and column k, and copies of them lie where the first of both say; c and what
                // is like it have row i and column j.
                unsafe {
                    let at = i * columns + j;
                    let ending = Ending {
                        add: k > 0 || matches!(after, After::Added),
                        bias: match after {
                            After::Bias(bias, _) if last => Some(bias.as_ptr().add(j)),
                            _ => None,
                        },
                        relu: last && matches!(after, After::Bias(_, true)),
                        kept: match after {
                            After::Where(out) if last => Some(out.as_ptr().add(at)),
                            _ => None,
                        },
                    };
                    let (a, row, column) = match copy {
                        true => {
                            let tile = copied.as_ptr().add(i / TILE * deep).cast::<f32>();
                            (tile.add(i % TILE), 1, LINE)
                        }
                        false => (
                            a.numbers.as_ptr().add(i * a.row + k * a.column),
                            a.row,
                            a.column,
                        ),
                    };
                    let walk = Walk {
                        a,
                        row,
                        column,
                        panel: panel.as_ptr().cast(),
                        deep,
                        c: c.as_mut_ptr().add(at),
                        columns,
                        wide,
                    };
                    i += match rows - i {
                        TILE.. if copy => tile::<TILE, true>(walk, ending, &mut ahead),
                        TILE.. => tile::<TILE, false>(walk, ending, &mut ahead),
                        8.. => tile::<8, false>(walk, ending, &mut ahead),
                        4.. => tile::<4, false>(walk, ending, &mut ahead),
                        2.. => tile::<2, false>(walk, ending, &mut ahead),
                        _ => tile::<1, false>(walk, ending, &mut ahead),
                    };
                }
            }
        }
    }
}

/// The lines that the next panel is copied from, to be asked for while this one is walked down.
pub(super) struct Ahead {
    from: *const f32,
    /// From one row of lines to the next, in numbers.
    stride: usize,
    lines_of_row: usize,
    lines: usize,
    next: usize,
    pub(super) of_tile: usize,
}

impl Ahead {
    pub(super) fn of_panel(
        b: Factor,
        [k, j]: [usize; 2],
        [deep, wide]: [usize; 2],
        tiles: usize,
    ) -> Self {
        let (rows, stride, long) = match b.column {
            1 => (deep, b.row, wide),
            _ => (wide, b.column, deep),
        };
        let lines_of_row = long.div_ceil(LINE);
        let lines = rows * lines_of_row;
        Self {
            from: b.numbers.as_ptr().wrapping_add(k * b.row + j * b.column),
            stride,
            lines_of_row,
            lines,
            next: 0,
            of_tile: lines.div_ceil(tiles),
        }
    }

    pub(super) fn fetch(&mut self) {
        if self.next < self.lines {
            let (row, line) = (self.next / self.lines_of_row, self.next % self.lines_of_row);
            let at = row * self.stride + line * LINE;
            // SAFETY: nothing is read; it is a hint to the processor.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.from.wrapping_add(at).cast()) };
            self.next += 1;
        }
    }
}

/// tiles\[tile, k, row\] of a's first `rows`, and `deep` columns from `k` on.
#[target_feature(enable = "avx512f")]
unsafe fn copy_tiles(a: Factor, rows: usize, k: usize, deep: usize, tiles: &mut [Line]) {
    for (first, tile) in (0..rows).step_by(TILE).zip(tiles.chunks_mut(deep)) {
        let high = TILE.min(rows - first);
        // SAFETY: a has row `first` and column k.
        let from = unsafe { a.numbers.as_ptr().add(first * a.row + k * a.column) };
        if a.row == 1 {
            let [mask, _] = masks(high);
            for (k, line) in tile.iter_mut().enumerate() {
                // SAFETY: `high` numbers of a column; ahead of them, a hint.
                unsafe {
                    let ahead = from.wrapping_add((k + 16) * a.column);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    let column = _mm512_maskz_loadu_ps(mask, from.add(k * a.column));
                    _mm512_store_ps(line.0.as_mut_ptr(), column);
                }
            }
            continue;
        }
        for (i, lines) in tile.chunks_mut(LINE).enumerate() {
            // SAFETY: `high` rows of as many numbers as there are lines.
            unsafe {
                let from = from.add(i * LINE);
                let to = lines.as_mut_ptr().cast();
                transpose(from, a.row, [high, lines.len()], to, LINE);
            }
        }
    }
}

/// to\[column, row\], `apart` from one column to the next, for up to 16 `rows` of up to 16 `columns`, `stride` from one
/// row to the next; zeros for rows beyond.
#[target_feature(enable = "avx512f")]
unsafe fn transpose(
    from: *const f32,
    stride: usize,
    [rows, columns]: [usize; 2],
    to: *mut f32,
    apart: usize,
) {
    let [mask, _] = masks(columns);
    let row = |i: usize| match i < rows {
        // SAFETY: `columns` numbers of a row; masked lanes are not touched.
        true => unsafe { _mm512_maskz_loadu_ps(mask, from.add(i * stride)) },
        false => _mm512_setzero_ps(),
    };
    let full = rows == LINE && columns == LINE;
    let of_columns = transposed(match full {
        // SAFETY: 16 numbers of a row.
        true => std::array::from_fn(|i| unsafe { _mm512_loadu_ps(from.add(i * stride)) }),
        false => std::array::from_fn(row),
    });
    for (k, column) in of_columns.into_iter().enumerate() {
        if full || k < columns {
            // SAFETY: a line for each column.
            unsafe { _mm512_store_ps(to.add(k * apart), column) };
        }
    }
}

/// Rows to columns.
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(rows: [__m512; LINE]) -> [__m512; LINE] {
    // Quarters of a register, 4 numbers each, transpose together: of rows in pairs, of rows in fours.
    let pairs: [__m512; LINE] = std::array::from_fn(|at| match at % 2 {
        0 => _mm512_unpacklo_ps(rows[at], rows[at + 1]),
        _ => _mm512_unpackhi_ps(rows[at - 1], rows[at]),
    });
    let fours: [__m512; LINE] = std::array::from_fn(|at| {
        let of = |pair: usize| _mm512_castps_pd(pairs[at / 4 * 4 + pair]);
        _mm512_castpd_ps(match at % 4 {
            0 => _mm512_unpacklo_pd(of(0), of(2)),
            1 => _mm512_unpackhi_pd(of(0), of(2)),
            2 => _mm512_unpacklo_pd(of(1), of(3)),
            _ => _mm512_unpackhi_pd(of(1), of(3)),
        })
    });
    // Then the quarters themselves: even and odd ones of two registers, twice.
    let eights: [__m512; LINE] = std::array::from_fn(|at| {
        let (half, column) = (at / 8 * 8, at % 4);
        let (low, high) = (fours[half + column], fours[half + 4 + column]);
        match at / 4 % 2 {
            0 => _mm512_shuffle_f32x4::<0x88>(low, high),
            _ => _mm512_shuffle_f32x4::<0xdd>(low, high),
        }
    });
    std::array::from_fn(|at| {
        let (low, high) = (eights[at % 8], eights[8 + at % 8]);
        match at / 8 {
            0 => _mm512_shuffle_f32x4::<0x88>(low, high),
            _ => _mm512_shuffle_f32x4::<0xdd>(low, high),
        }
    })
}

#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub(super) a: *const f32,
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) panel: *const f32,
    pub(super) deep: usize,
    pub(super) c: *mut f32,
    pub(super) columns: usize,
    pub(super) wide: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) add: bool,
    pub(super) bias: Option<*const f32>,
    pub(super) relu: bool,
    pub(super) kept: Option<*const f32>,
}

/// A panel \[k, j\] of `deep` rows from `k` on and `wide` columns from `j` on; nobody stores what comes of what is
/// beyond them.
#[target_feature(enable = "avx512f")]
unsafe fn copy_panel(b: Factor, k: usize, j: usize, deep: usize, wide: usize, to: *mut f32) {
    // SAFETY: the caller's.
    let from = unsafe { b.numbers.as_ptr().add(k * b.row + j * b.column) };
    if b.column == 1 {
        let [low, high] = masks(wide);
        for k in 0..deep {
            // SAFETY: `wide` numbers of row k; masked lanes are not touched.
            unsafe {
                let from = from.add(k * b.row);
                _mm512_store_ps(to.add(k * PANEL), _mm512_maskz_loadu_ps(low, from));
                let second = _mm512_maskz_loadu_ps(high, from.wrapping_add(16));
                _mm512_store_ps(to.add(k * PANEL + 16), second);
            }
        }
        return;
    }
    // Columns that lie in memory as rows.
    for k in (0..deep).step_by(LINE) {
        for j in (0..wide).step_by(LINE) {
            let size = [wide - j, deep - k].map(|left| left.min(LINE));
            // SAFETY: within `deep` and `wide`.
            unsafe {
                let from = from.add(j * b.column + k);
                transpose(from, b.column, size, to.add(k * PANEL + j), PANEL);
            }
        }
    }
}

/// Which of a panel's 32 columns are there.
pub(super) fn masks(wide: usize) -> [__mmask16; 2] {
    let of = |count: usize| ((1u32 << count.min(16)) - 1) as __mmask16;
    [of(wide), of(wide.saturating_sub(16))]
}

/// M rows of c against a panel; says M. Where a's rows are COPIED, the compiler knows how far apart they are.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize, const COPIED: bool>(
    walk: Walk,
    ending: Ending,
    ahead: &mut Ahead,
) -> usize {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    let (mut a, mut b) = (walk.a, walk.panel);
    near::<M>(walk, ending);
    let (row, column) = match COPIED {
        true => (1, LINE),
        false => (walk.row, walk.column),
    };
    for k in (0..walk.deep).step_by(8) {
        if k / 8 < ahead.of_tile {
            ahead.fetch();
        }
        for _ in k..walk.deep.min(k + 8) {
            // SAFETY: M rows of a's column, 32 numbers of the panel's row.
            unsafe {
                let (low, high) = (_mm512_load_ps(b), _mm512_load_ps(b.add(LINE)));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let number = _mm512_set1_ps(*a.add(i * row));
                    sum[0] = _mm512_fmadd_ps(number, low, sum[0]);
                    sum[1] = _mm512_fmadd_ps(number, high, sum[1]);
                }
                a = a.wrapping_add(column);
                b = b.add(PANEL);
            }
        }
    }
    // SAFETY: the caller's.
    unsafe { store(sums, walk, ending) };
    M
}

/// What the sums end in comes near while they are made.
#[inline]
pub(super) fn near<const M: usize>(walk: Walk, ending: Ending) {
    for i in 0..M {
        for half in 0..2 {
            let at = i * walk.columns + 16 * half;
            // SAFETY: nothing is read; these are hints to the processor.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(walk.c.wrapping_add(at).cast());
                if let Some(kept) = ending.kept {
                    _mm_prefetch::<_MM_HINT_T0>(kept.wrapping_add(at).cast());
                }
            }
        }
    }
}

/// Into c.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn store<const M: usize>(sums: [[__m512; 2]; M], walk: Walk, ending: Ending) {
    let masks = masks(walk.wide);
    for (i, sum) in sums.into_iter().enumerate() {
        for (half, (mut sum, mask)) in sum.into_iter().zip(masks).enumerate() {
            let at = i * walk.columns + 16 * half;
            // SAFETY: masked lanes are not touched; the others are c's row i, or as many numbers of what is
            // like it.
            unsafe {
                let c = walk.c.wrapping_add(at);
                if ending.add {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c));
                }
                if let Some(bias) = ending.bias {
                    let bias = bias.wrapping_add(16 * half);
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias));
                }
                if ending.relu {
                    // In this order a NaN stays one.
                    sum = _mm512_max_ps(_mm512_setzero_ps(), sum);
                }
                if let Some(kept) = ending.kept {
                    let kept = _mm512_maskz_loadu_ps(mask, kept.wrapping_add(at));
                    let zero = _mm512_setzero_ps();
                    let kept = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(kept, zero);
                    sum = _mm512_maskz_mov_ps(kept, sum);
                }
                _mm512_mask_storeu_ps(c, mask, sum);
            }
        }
    }
}
