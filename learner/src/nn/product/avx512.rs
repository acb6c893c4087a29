//! The walk over panels and tiles, with AVX-512.

use std::arch::x86_64::*;

use super::{After, Factor, TILE};

/// Columns of a panel, and of a tile.
const PANEL: usize = 32;
/// Numbers that one walk down a panel adds up: 32 KiB of panel, of 48 KiB of cache.
const DEPTH: usize = 256;

/// # Safety
/// The processor has AVX-512; `a` and `b` hold what c's rows, `depth` and `columns` ask for, and so does
/// what is in `after`.
#[target_feature(enable = "avx512f")]
pub unsafe fn multiply(
    a: Factor,
    b: Factor,
    depth: usize,
    columns: usize,
    c: &mut [f32],
    after: After,
) {
    let mut panel = Panel([0.0; DEPTH * PANEL]);
    let rows = c.len() / columns;
    for k in (0..depth).step_by(DEPTH) {
        let deep = DEPTH.min(depth - k);
        for j in (0..columns).step_by(PANEL) {
            let wide = PANEL.min(columns - j);
            // SAFETY: rows k.. and columns j.. of b are there.
            unsafe { copy_panel(b, k, j, deep, wide, &mut panel.0) };
            let last = k + deep == depth;
            let mut i = 0;
            while i < rows {
                // SAFETY: a has row i and column k; c and what is like it have row i and column j.
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
                    let walk = Walk {
                        a: a.numbers.as_ptr().add(i * a.row + k * a.column),
                        row: a.row,
                        column: a.column,
                        panel: panel.0.as_ptr(),
                        deep,
                        c: c.as_mut_ptr().add(at),
                        columns,
                        wide,
                    };
                    i += match rows - i {
                        TILE.. => tile::<TILE>(walk, ending),
                        8.. => tile::<8>(walk, ending),
                        4.. => tile::<4>(walk, ending),
                        2.. => tile::<2>(walk, ending),
                        _ => tile::<1>(walk, ending),
                    };
                }
            }
        }
    }
}

#[repr(align(64))]
struct Panel([f32; DEPTH * PANEL]);

#[derive(Clone, Copy)]
struct Walk {
    a: *const f32,
    row: usize,
    column: usize,
    panel: *const f32,
    deep: usize,
    c: *mut f32,
    columns: usize,
    wide: usize,
}

#[derive(Clone, Copy)]
struct Ending {
    add: bool,
    bias: Option<*const f32>,
    relu: bool,
    kept: Option<*const f32>,
}

/// panel\[k, j\] for `deep` rows from `k` on and `wide` columns from `j` on; what is beyond them stays
/// as it is, and nobody stores what comes of it.
#[target_feature(enable = "avx512f")]
unsafe fn copy_panel(
    b: Factor,
    k: usize,
    j: usize,
    deep: usize,
    wide: usize,
    panel: &mut [f32; DEPTH * PANEL],
) {
    // SAFETY: the caller's.
    let from = unsafe { b.numbers.as_ptr().add(k * b.row + j * b.column) };
    let to = panel.as_mut_ptr();
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
    // Columns that lie in memory as rows: four by four where there are so many.
    let (fours, deep_fours) = (wide / 4 * 4, if b.row == 1 { deep / 4 * 4 } else { 0 });
    for j in (0..fours).step_by(4) {
        for k in (0..deep_fours).step_by(4) {
            // SAFETY: 4 × 4 numbers within `deep` and `wide`.
            unsafe {
                let from = from.add(j * b.column + k);
                let row = |i: usize| _mm_loadu_ps(from.add(i * b.column));
                let (mut r0, mut r1, mut r2, mut r3) = (row(0), row(1), row(2), row(3));
                _MM_TRANSPOSE4_PS(&mut r0, &mut r1, &mut r2, &mut r3);
                for (i, r) in [r0, r1, r2, r3].into_iter().enumerate() {
                    _mm_storeu_ps(to.add((k + i) * PANEL + j), r);
                }
            }
        }
    }
    for j in 0..wide {
        let first = if j < fours { deep_fours } else { 0 };
        for k in first..deep {
            // SAFETY: within `deep` and `wide`.
            unsafe { *to.add(k * PANEL + j) = *from.add(k * b.row + j * b.column) };
        }
    }
}

/// Which of a panel's 32 columns are there.
fn masks(wide: usize) -> [__mmask16; 2] {
    let of = |count: usize| ((1u32 << count.min(16)) - 1) as __mmask16;
    [of(wide), of(wide.saturating_sub(16))]
}

/// M rows of c against a panel; says M.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize>(walk: Walk, ending: Ending) -> usize {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    let (mut a, mut b) = (walk.a, walk.panel);
    // What the sums end in comes near while they are made.
    for i in 0..M {
        for half in 0..2 {
            let at = i * walk.columns + 16 * half;
            _mm_prefetch::<_MM_HINT_ET0>(walk.c.wrapping_add(at).cast());
            if let Some(kept) = ending.kept {
                _mm_prefetch::<_MM_HINT_T0>(kept.wrapping_add(at).cast());
            }
        }
    }
    for _ in 0..walk.deep {
        // SAFETY: M rows of a's column, 32 numbers of the panel's row.
        unsafe {
            let (low, high) = (_mm512_load_ps(b), _mm512_load_ps(b.add(16)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let number = _mm512_set1_ps(*a.add(i * walk.row));
                sum[0] = _mm512_fmadd_ps(number, low, sum[0]);
                sum[1] = _mm512_fmadd_ps(number, high, sum[1]);
            }
            a = a.wrapping_add(walk.column);
            b = b.add(PANEL);
        }
    }
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
    M
}
