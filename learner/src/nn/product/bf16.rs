//! The same walk with numbers of 16 bits, of which a processor takes twice as many at a time: rows and weights are
//! rounded to bf16 as they are copied, the sums are f32. Two numbers that follow each other lie in one lane, and where
//! f32 takes one step down a panel this takes one for two.

use std::arch::x86_64::*;

use super::{
    Factor, TILE,
    avx512::{
        Ahead, COPIES, Copies, DEPTH, Ending, LINE, PANEL, Walk, masks, near, store, transposed,
    },
};

/// # Safety
/// The processor has AVX-512 with bf16; rows of `a` and columns of `b` lie number behind number, as many as c's
/// rows and `columns` and `depth` ask for; a bias has `columns` numbers.
pub unsafe fn multiply(
    a: Factor,
    b: Factor,
    depth: usize,
    columns: usize,
    c: &mut [f32],
    bias: &[f32],
) {
    COPIES.with_borrow_mut(|copies| {
        // SAFETY: the caller's.
        unsafe { multiply_by(copies, a, b, depth, columns, c, bias) }
    });
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_by(
    copies: &mut Copies,
    a: Factor,
    b: Factor,
    depth: usize,
    columns: usize,
    c: &mut [f32],
    bias: &[f32],
) {
    let rows = c.len() / columns;
    let tiles = rows.div_ceil(TILE);
    copies.make_room(tiles);
    let Copies {
        panel,
        tiles: copied,
    } = copies;
    for k in (0..depth).step_by(2 * DEPTH) {
        let numbers = (depth - k).min(2 * DEPTH);
        let deep = numbers.div_ceil(2);
        for (first, tile) in (0..rows).step_by(TILE).zip(copied.chunks_mut(deep)) {
            // SAFETY: a has these rows, and columns k..
            unsafe {
                let from = a.numbers.as_ptr().add(first * a.row + k);
                let size = [TILE.min(rows - first), numbers];
                copy(from, a.row, size, tile.as_mut_ptr().cast(), LINE);
            }
        }
        for j in (0..columns).step_by(PANEL) {
            let wide = PANEL.min(columns - j);
            for half in (0..wide).step_by(LINE) {
                // SAFETY: b has these columns, and rows k..; a panel has two lines for each step.
                unsafe {
                    let from = b.numbers.as_ptr().add((j + half) * b.column + k);
                    let size = [LINE.min(wide - half), numbers];
                    let to = panel.as_mut_ptr().cast::<f32>().add(half);
                    copy(from, b.column, size, to, PANEL);
                }
            }
            let (next_k, next_j) = match j + PANEL < columns {
                true => (k, j + PANEL),
                false => (k + numbers, 0),
            };
            let next_size = [(depth - next_k).min(2 * DEPTH), PANEL.min(columns - next_j)];
            let mut ahead = Ahead::of_panel(b, [next_k, next_j], next_size, tiles);
            let mut i = 0;
            while i < rows {
                // SAFETY: copies of rows i.. lie there; c has row i and column j.
                unsafe {
                    let walk = Walk {
                        a: copied
                            .as_ptr()
                            .add(i / TILE * deep)
                            .cast::<f32>()
                            .add(i % TILE),
                        row: 1,
                        column: LINE,
                        panel: panel.as_ptr().cast(),
                        deep,
                        c: c.as_mut_ptr().add(i * columns + j),
                        columns,
                        wide,
                    };
                    let last = k + numbers == depth;
                    let ending = Ending {
                        add: k > 0,
                        bias: last.then(|| bias.as_ptr().add(j)),
                        relu: false,
                        kept: None,
                    };
                    i += match rows - i {
                        TILE.. => tile::<TILE>(walk, ending, &mut ahead),
                        8.. => tile::<8>(walk, ending, &mut ahead),
                        4.. => tile::<4>(walk, ending, &mut ahead),
                        2.. => tile::<2>(walk, ending, &mut ahead),
                        _ => tile::<1>(walk, ending, &mut ahead),
                    };
                }
            }
        }
    }
}

/// to\[k, row\], pairs of rounded numbers, `apart` lanes from one pair to the next, for up to 16 `rows` of so many
/// `numbers`, `stride` from one row to the next.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn copy(
    from: *const f32,
    stride: usize,
    [rows, numbers]: [usize; 2],
    to: *mut f32,
    apart: usize,
) {
    for k in (0..numbers).step_by(2 * LINE) {
        let [low, high] = masks(numbers - k);
        let row = |i: usize| {
            if i >= rows {
                return _mm512_setzero_ps();
            }
            // SAFETY: what of 32 numbers of a row is there; masked lanes are not touched.
            unsafe {
                let from = from.add(i * stride + k);
                let first = _mm512_maskz_loadu_ps(low, from);
                let second = _mm512_maskz_loadu_ps(high, from.wrapping_add(LINE));
                // 32 numbers in the order in which they lie.
                std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first))
            }
        };
        let pairs = transposed(std::array::from_fn(row));
        for (i, pair) in pairs.into_iter().enumerate() {
            if k + 2 * i < numbers {
                // SAFETY: a line for each pair.
                unsafe { _mm512_store_ps(to.add((k / 2 + i) * apart), pair) };
            }
        }
    }
}

/// M rows of c against a panel; says M.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile<const M: usize>(walk: Walk, ending: Ending, ahead: &mut Ahead) -> usize {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    let (mut a, mut b) = (walk.a, walk.panel);
    near::<M>(walk, ending);
    for k in (0..walk.deep).step_by(8) {
        if k / 8 * 2 < ahead.of_tile {
            ahead.fetch();
            ahead.fetch();
        }
        for _ in k..walk.deep.min(k + 8) {
            // SAFETY: M rows' pairs, 32 pairs of the panel's row.
            unsafe {
                let pairs =
                    |at: *const f32| std::mem::transmute::<__m512, __m512bh>(_mm512_load_ps(at));
                let (low, high) = (pairs(b), pairs(b.add(LINE)));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let pair = std::mem::transmute::<__m512, __m512bh>(_mm512_set1_ps(*a.add(i)));
                    sum[0] = _mm512_dpbf16_ps(sum[0], pair, low);
                    sum[1] = _mm512_dpbf16_ps(sum[1], pair, high);
                }
            }
            a = a.wrapping_add(LINE);
            b = b.wrapping_add(PANEL);
        }
    }
    // SAFETY: the caller's.
    unsafe { store(sums, walk, ending) };
    M
}
