//! What a robot sees, as rows of numbers and back: a frozen projection of the encoder's maps.
//!
//! Maps of all cameras are one vector of some thousand numbers, too long for a diffusion model on a robot's few rows. Its
//! principal components, 128 at most, are what rows hold beside proprioception. What is generated goes the same way
//! back, so that critic and actor receive maps and proprioception, as of real rows: real ones as they are, generated
//! ones made of their components. No network and no graph that a robot runs knows that there is a projection.
//!
//! A projection does not change once it was fitted. A new one, of another version, is fitted when a training begins
//! without one, or where maps show what it has no components for; rows of an older one mean other things and are never
//! mixed with it.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{
    agents::sight::Sight,
    course::{State, named},
};

/// How maps are projected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectionConfig {
    /// Numbers that all maps of an observation become: 128 at most, or fewer where there are fewer rows to fit on.
    pub dimensions: i64,
    /// Rows that it is fitted on, spread evenly over those there are.
    pub fit_rows: i64,
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        Self {
            dimensions: 128,
            fit_rows: 2048,
        }
    }
}

/// Why there is no projection.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unprojectable {
    /// Too few rows.
    #[error("{0} observations are too few to project maps by, there must be 2 at least")]
    Few(i64),
    /// They are all the same.
    #[error("the maps of all {0} observations are the same: are the cameras covered?")]
    Constant(i64),
}

/// A frozen projection of the maps of all cameras, M numbers together, to K.
#[derive(Debug)]
pub struct Projection {
    /// Which one: a hash of its numbers.
    version: u64,
    /// Maps' shapes \[h, w, C\], camera by camera.
    shapes: Vec<Vec<i64>>,
    /// \[M\].
    mean: Tensor,
    /// Orthonormal columns \[M, K\].
    components: Tensor,
    /// Least and largest number of any map that it was fitted on: what is made of components stays between them.
    bounds: [f64; 2],
    /// Share of the maps' variance that the components have.
    explained: f64,
}

/// Maps side by side \[B, M\].
fn flat(maps: &[Tensor]) -> Tensor {
    let rows: Vec<Tensor> = maps.iter().map(|map| map.flatten(1, -1)).collect();
    Tensor::cat(&rows, 1)
}

impl Projection {
    /// Fits one to what was seen.
    ///
    /// # Errors
    /// [`Unprojectable`] if that is nothing to fit to.
    pub fn fit(config: &ProjectionConfig, seen: &Sight) -> Result<Self, Unprojectable> {
        no_grad(|| {
            let shapes = (seen.maps.iter().map(|map| map.size()[1..].to_vec())).collect();
            let rows = flat(&seen.maps).to_kind(Kind::Double);
            let (count, width) = (rows.size()[0], rows.size()[1]);
            if count < 2 {
                return Err(Unprojectable::Few(count));
            }
            // A mean of many equal numbers may be a rounding away from them, and that is no variance.
            if rows.amin(0, false) == rows.amax(0, false) {
                return Err(Unprojectable::Constant(count));
            }
            let mean = rows.mean_dim(0, false, None::<Kind>);
            let centred = &rows - &mean;
            let variance = centred.square().sum(None::<Kind>).double_value(&[]);
            // The smaller of the two products has the same values: of rows, or of columns.
            let (values, components) = match count < width {
                true => {
                    let (values, vectors) = centred.matmul(&centred.tr()).linalg_eigh("L");
                    let components = centred.tr().matmul(&vectors);
                    (values, components)
                }
                false => (centred.tr().matmul(&centred)).linalg_eigh("L"),
            };
            // Ascending; what is left of rounding is none.
            let most = config.dimensions.min(values.size()[0]);
            let found = values.gt(variance * 1e-9).sum(Kind::Int64).int64_value(&[]);
            let kept = most.min(found).max(1);
            let last = |tensor: &Tensor| {
                let size = tensor.size();
                let dim = size.len() as i64 - 1;
                tensor.narrow(dim, size[dim as usize] - kept, kept)
            };
            let components = last(&components);
            let norms = components
                .square()
                .sum_dim_intlist([0i64].as_slice(), true, None::<Kind>);
            let components = components / norms.sqrt();
            let explained = last(&values).sum(None::<Kind>).double_value(&[]) / variance;
            let bounds = [rows.min(), rows.max()].map(|bound| bound.double_value(&[]));
            Ok(Self::over(
                shapes,
                mean.to_kind(Kind::Float),
                components.to_kind(Kind::Float).contiguous(),
                bounds,
                explained,
            ))
        })
    }

    fn over(
        shapes: Vec<Vec<i64>>,
        mean: Tensor,
        components: Tensor,
        bounds: [f64; 2],
        explained: f64,
    ) -> Self {
        let version = [&mean, &components].into_iter().fold(0, version);
        Self {
            version,
            shapes,
            mean,
            components,
            bounds,
            explained,
        }
    }

    /// Which one it is.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// K.
    pub fn dimensions(&self) -> i64 {
        self.components.size()[1]
    }

    /// Share of the maps' variance that it keeps, of those that it was fitted on.
    pub fn explained(&self) -> f64 {
        self.explained
    }

    /// The share of the variance of maps that it keeps of these.
    pub fn keeps(&self, seen: &Sight) -> f64 {
        no_grad(|| {
            let rows = flat(&seen.maps).to_kind(Kind::Double);
            let centred = &rows - rows.mean_dim(0, true, None::<Kind>);
            let components = self.components.to_kind(Kind::Double);
            let [all, kept] = [&centred, &centred.matmul(&components)]
                .map(|part| part.square().sum(None::<Kind>).double_value(&[]));
            if all > 0.0 { kept / all } else { 1.0 }
        })
    }

    /// What was seen, as observations \[B, K + P\]: components, then proprioception.
    pub fn project(&self, seen: &Sight) -> Tensor {
        no_grad(|| {
            let maps = (flat(&seen.maps) - &self.mean).matmul(&self.components);
            Tensor::cat(&[maps, seen.proprio.shallow_clone()], 1)
        })
    }

    /// What observations \[B, K + P\] stand for.
    pub fn seen(&self, observations: &Tensor) -> Sight {
        no_grad(|| {
            let (rows, k) = (observations.size()[0], self.dimensions());
            let proprio = observations.narrow(1, k, observations.size()[1] - k);
            let [least, most] = self.bounds;
            let maps = (observations.narrow(1, 0, k)).matmul(&self.components.tr()) + &self.mean;
            let maps = maps.clamp(least, most);
            let mut first = 0;
            let each = self.shapes.iter().map(|shape| {
                let width: i64 = shape.iter().product();
                let map = maps.narrow(1, first, width);
                first += width;
                let size: Vec<i64> = [rows].iter().chain(shape).copied().collect();
                map.reshape(&size)
            });
            Sight {
                maps: each.collect(),
                proprio: proprio.contiguous(),
            }
        })
    }

    /// What a checkpoint keeps of it.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let [least, most] = self.bounds;
        let numbers = Tensor::from_slice(&[least, most, self.explained]);
        let shapes: Vec<i64> = self.shapes.iter().flatten().copied().collect();
        let state = [
            ("mean", self.mean.shallow_clone()),
            ("components", self.components.shallow_clone()),
            ("numbers", numbers),
            ("shapes", Tensor::from_slice(&shapes).view([-1, 3])),
        ];
        (state.into_iter())
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect()
    }

    /// What [`Projection::state`] gave.
    ///
    /// # Errors
    /// If a part of it is missing or has another shape.
    pub fn restored(state: &State, device: Device) -> anyhow::Result<Self> {
        let part = |name: &str| Ok::<_, anyhow::Error>(named(state, name)?.to_device(device));
        let (mean, components) = (part("mean")?, part("components")?);
        let shapes = Vec::<Vec<i64>>::try_from(part("shapes")?.to_device(Device::Cpu))?;
        let numbers = Vec::<f64>::try_from(part("numbers")?.to_device(Device::Cpu))?;
        let width: i64 = (shapes.iter())
            .map(|shape| shape.iter().product::<i64>())
            .sum();
        let size = components.size();
        let fits = mean.size() == [width] && size.len() == 2 && size[0] == width && size[1] > 0;
        anyhow::ensure!(
            fits,
            "its mean has shape {:?}, its components {size:?}, its maps have {width} numbers",
            mean.size()
        );
        let [least, most, explained] = numbers[..] else {
            anyhow::bail!("`numbers` has {} of 3", numbers.len());
        };
        Ok(Self::over(
            shapes,
            mean,
            components,
            [least, most],
            explained,
        ))
    }
}

/// FNV-1a of the numbers, on from `hash`.
fn version(hash: u64, numbers: &Tensor) -> u64 {
    let numbers = numbers.to_device(Device::Cpu).contiguous().reshape([-1]);
    let mut bytes = vec![0f32; numbers.numel()];
    numbers.copy_data(&mut bytes, numbers.numel());
    (bytes.iter().flat_map(|number| number.to_le_bytes()))
        .fold(hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies in a plane of 3 dimensions, and a little beside it.
    fn seen(rows: i64, noise: f64) -> Sight {
        tch::manual_seed(3);
        let options = (Kind::Float, Device::Cpu);
        let plane = Tensor::randn([rows, 3], options).matmul(&Tensor::randn([3, 40], options));
        let all = plane + Tensor::randn([rows, 40], options) * noise + 1.0;
        Sight {
            maps: vec![
                all.narrow(1, 0, 24).reshape([rows, 2, 3, 4]),
                all.narrow(1, 24, 16).reshape([rows, 2, 2, 4]),
            ],
            proprio: Tensor::randn([rows, 5], options),
        }
    }

    fn config(dimensions: i64) -> ProjectionConfig {
        ProjectionConfig {
            dimensions,
            ..ProjectionConfig::default()
        }
    }

    fn far(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn what_lies_in_few_dimensions_comes_back_whether_rows_or_columns_are_fewer() {
        for rows in [20, 200] {
            let seen = seen(rows, 0.0);
            let projection = Projection::fit(&config(128), &seen).unwrap();
            assert_eq!(projection.dimensions(), 3, "no more than there are");
            assert!((projection.explained() - 1.0).abs() < 1e-6);
            let rows = projection.project(&seen);
            assert_eq!(rows.size()[1], 3 + 5);
            let back = projection.seen(&rows);
            for (map, wanted) in back.maps.iter().zip(&seen.maps) {
                assert_eq!(map.size(), wanted.size());
                assert!(far(map, wanted) < 1e-4);
            }
            assert_eq!(back.proprio, seen.proprio);
        }
    }

    #[test]
    fn it_keeps_what_varies_most_and_stays_within_what_was_seen() {
        let seen = seen(100, 0.05);
        let projection = Projection::fit(&config(3), &seen).unwrap();
        assert!((0.99..1.0).contains(&projection.explained()));
        let far_out = projection.project(&seen) * 100.0;
        let map = &projection.seen(&far_out).maps[0];
        let all = flat(&seen.maps);
        assert!(map.max().double_value(&[]) <= all.max().double_value(&[]) + 1e-6);
        assert!(map.min().double_value(&[]) >= all.min().double_value(&[]) - 1e-6);
    }

    #[test]
    fn a_kept_one_is_the_same_and_another_one_has_another_version() {
        let first = Projection::fit(&config(3), &seen(50, 0.1)).unwrap();
        let state = first.state();
        let again = Projection::restored(&state, Device::Cpu).unwrap();
        let some = seen(4, 0.1);
        assert_eq!(again.project(&some), first.project(&some));
        assert_eq!(again.version(), first.version());
        let other = Projection::fit(&config(3), &seen(60, 0.1)).unwrap();
        assert_ne!(other.version(), first.version());
        let cut: Vec<_> = state
            .into_iter()
            .filter(|(name, _)| name != "mean")
            .collect();
        assert!(Projection::restored(&cut, Device::Cpu).is_err());
    }

    #[test]
    fn nothing_to_fit_to_is_named() {
        let error = |seen: &Sight| Projection::fit(&config(3), seen).unwrap_err();
        assert_eq!(error(&seen(1, 0.0)), Unprojectable::Few(1));
        let same = Sight {
            maps: vec![Tensor::full([9, 1, 1, 4], 0.1, (Kind::Double, Device::Cpu))],
            proprio: Tensor::zeros([9, 1], (Kind::Float, Device::Cpu)),
        };
        assert_eq!(error(&same), Unprojectable::Constant(9));
    }
}
