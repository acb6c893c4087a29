//! The map between two pictures of one plane.

use nalgebra::{Matrix3, SMatrix, Vector3};

/// A map of a plane to a plane that keeps lines straight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Homography(pub Matrix3<f64>);

impl Homography {
    /// The map that takes the first point of each pair nearest to the second: the direct linear
    /// transform on coordinates brought to one scale (Hartley, "In Defense of the Eight-Point
    /// Algorithm", 1997). `None`: fewer than four pairs, or they lie on a line.
    pub fn fit(pairs: &[([f64; 2], [f64; 2])]) -> Option<Self> {
        if pairs.len() < 4 {
            return None;
        }
        let from = to_one_scale(pairs.iter().map(|pair| pair.0))?;
        let to = to_one_scale(pairs.iter().map(|pair| pair.1))?;
        let mut normal = SMatrix::<f64, 9, 9>::zeros();
        for (a, b) in pairs {
            let (a, b) = (Homography(from).map(*a)?, Homography(to).map(*b)?);
            let ([x, y], [u, v]) = (a, b);
            for row in [
                [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, -u],
                [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, -v],
            ] {
                let row = SMatrix::<f64, 9, 1>::from(row);
                normal += row * row.transpose();
            }
        }
        let eigen = normal.symmetric_eigen();
        let mut order: Vec<usize> = (0..9).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[a].total_cmp(&eigen.eigenvalues[b]));
        // A second way to fit as well: the points do not say which.
        let [next, last] = [eigen.eigenvalues[order[1]], eigen.eigenvalues[order[8]]];
        if next.is_nan() || next <= 1e-10 * last {
            return None;
        }
        let h = eigen.eigenvectors.column(order[0]);
        let h = Matrix3::from_row_iterator(h.iter().copied());
        let h = to.try_inverse()? * h * from;
        // The points are on this side of the horizon.
        let [x, y] = pairs[0].0;
        let side = (h[(2, 0)] * x + h[(2, 1)] * y + h[(2, 2)]).signum();
        let scale = side * h[(2, 2)].abs();
        (scale.abs() > 1e-12 * h.norm()).then(|| Self(h / scale))
    }

    /// Where a point goes; `None` at or beyond the horizon.
    pub fn map(&self, point: [f64; 2]) -> Option<[f64; 2]> {
        let p = self.0 * Vector3::new(point[0], point[1], 1.0);
        let (x, y) = (p.x / p.z, p.y / p.z);
        (p.z > 0.0 && x.is_finite() && y.is_finite()).then_some([x, y])
    }
}

/// What brings points to a mean of zero and a mean distance of √2 from it.
fn to_one_scale(points: impl Iterator<Item = [f64; 2]> + Clone) -> Option<Matrix3<f64>> {
    let count = points.clone().count() as f64;
    let mean = points.clone().fold([0.0; 2], |sum, p| {
        [sum[0] + p[0] / count, sum[1] + p[1] / count]
    });
    let distance = points
        .map(|p| (p[0] - mean[0]).hypot(p[1] - mean[1]))
        .sum::<f64>()
        / count;
    let scale = std::f64::consts::SQRT_2 / distance;
    scale.is_finite().then(|| {
        let (x, y) = (-scale * mean[0], -scale * mean[1]);
        Matrix3::new(scale, 0.0, x, 0.0, scale, y, 0.0, 0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_found_again() {
        let wanted = Homography(Matrix3::new(
            310.0, 40.0, 120.0, -25.0, 290.0, 80.0, 0.3, -0.2, 1.0,
        ));
        let points = (0..12).map(|i| [f64::from(i % 4) * 0.2, f64::from(i / 4) * 0.3]);
        let pairs: Vec<_> = points.map(|p| (p, wanted.map(p).unwrap())).collect();
        let found = Homography::fit(&pairs).unwrap();
        assert!(
            (found.0 - wanted.0).norm() < 1e-7 * wanted.0.norm(),
            "{found:?}"
        );
        let found = Homography::fit(&[pairs[0], pairs[3], pairs[8], pairs[11]]).unwrap();
        assert!(
            (found.0 - wanted.0).norm() < 1e-7 * wanted.0.norm(),
            "{found:?}"
        );
    }

    #[test]
    fn the_origin_may_be_beyond_the_horizon() {
        let wanted = Homography(Matrix3::new(1.0, 0.2, 0.3, -0.1, 1.0, 0.5, 1.0, 0.0, -1.0));
        let points = (0..12).map(|i| [2.0 + f64::from(i % 4), f64::from(i / 4)]);
        let pairs: Vec<_> = points.map(|p| (p, wanted.map(p).unwrap())).collect();
        let found = Homography::fit(&pairs).unwrap();
        assert!((found.0 - wanted.0).norm() < 1e-7, "{found:?}");
        assert_eq!(found.map([0.0, 0.0]), None);
    }

    #[test]
    fn points_that_do_not_say_it() {
        let line: Vec<_> = (0..6)
            .map(|i| ([f64::from(i), 1.0], [f64::from(i), 2.0]))
            .collect();
        assert_eq!(Homography::fit(&line), None);
        assert_eq!(Homography::fit(&[([1.0, 1.0], [2.0, 2.0]); 8]), None);
        assert_eq!(Homography::fit(&line[..3]), None);
        let horizon = Homography(Matrix3::new(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0));
        assert_eq!(horizon.map([1.0, 0.0]), None);
        assert_eq!(horizon.map([2.0, 0.0]), None);
    }
}
